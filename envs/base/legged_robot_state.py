"""State of a legged robot beyond what the simulator tells: motion of base and feet, averages, resets, pushes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cmg_ref.core.rotations import quat_from_yaw, quat_multiply
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.trajectories.argument_checks import EnvIds, Values, as_tensor, checked_env_ids, checked_tensor
from envs.base.base_motion import BaseMotion
from envs.base.feet import Feet
from envs.base.simulated_robot import SimulatedRobot
from envs.terms.rewards import AIR_TIME, FEET_MOTION, RewardTerms

LONG_AGO = 2**40  # steps since a robot was pushed that never was


class LeggedRobotState(SimulatedRobot):
    """What rewards and observations are made of.

    Attributes:
        actions: Actions of this step, held within their limits, (num_envs, num_actions).
        last_actions: Those of the step before, (num_envs, num_actions).
        last_dof_vel: Joint velocities of the step before in rad/s, (num_envs, num_dof), where a reward needs them.
        base_lin_vel_h: Velocity of the base in its heading frame in m/s, (num_envs, 3).
        base_ang_vel: Angular velocity of the base in its own frame in rad/s, (num_envs, 3).
        projected_gravity: Direction of gravity in the base's frame, (num_envs, 3).
        base_height: Height of the base above the ground in metres, (num_envs,).
        average_velocity: Averaged velocity in the heading frame and averaged yaw rate, (num_envs, 4).
        diverged: Whether the simulation of a robot means nothing any more, (num_envs,) bool.
        fallen: Whether the step ended an episode early, (num_envs,) bool.
        feet: What the feet do.
        steps_since_hit: Control steps since the last push or punch, (num_envs,) int64.
        reward_terms: The rewards in use.
    """

    reward_terms: RewardTerms
    fallen: Tensor

    def _init_state(self) -> None:
        """Make views of the simulator's state and the buffers of what is made of it."""
        self._acquire_state()
        num_envs, device = self.num_envs, self.device
        self.actions = torch.zeros(num_envs, self.num_actions, device=device)
        self.last_actions = torch.zeros_like(self.actions)
        self.last_dof_vel = torch.zeros_like(self.actions)
        self._base_motion = BaseMotion(device)
        self.base_lin_vel_h = torch.zeros(num_envs, 3, device=device)
        self.base_ang_vel = torch.zeros(num_envs, 3, device=device)
        self.projected_gravity = torch.zeros(num_envs, 3, device=device)
        self.base_height = torch.zeros(num_envs, device=device)
        self.average_velocity = torch.zeros(num_envs, 4, device=device)
        self._velocity_and_yaw_rate = torch.zeros(num_envs, 4, device=device)
        self.diverged = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self.steps_since_hit = torch.full((num_envs,), LONG_AGO, device=device)
        self._root_changed = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self._dof_changed = torch.zeros(num_envs, dtype=torch.bool, device=device)
        needed = self.reward_terms.needed
        self.feet = Feet(
            self.robot, self.feet_indices, num_envs, self.dt, device, FEET_MOTION in needed, AIR_TIME in needed
        )

    def _update_base_state(self, env_ids: Tensor | None) -> None:
        """Velocities, gravity and height of the base in environments (n,), or in all, from `root_states`."""
        root = self.root_states if env_ids is None else self.root_states[env_ids]
        velocities, angular, gravity, rotation = self._base_motion(root)
        height = root[:, 2] - self.ground_height(root[:, :2])
        if env_ids is None:
            self._velocity_and_yaw_rate, self.base_ang_vel = velocities, angular
            self.projected_gravity, self.base_height, self._rotation = gravity, height, rotation
        else:
            self._velocity_and_yaw_rate[env_ids], self.base_ang_vel[env_ids] = velocities, angular
            self.projected_gravity[env_ids], self.base_height[env_ids] = gravity, height
        self.base_lin_vel_h = self._velocity_and_yaw_rate[:, :3]

    def _update_feet(self) -> None:
        """Let a control step pass for the feet."""
        self.feet.update(
            self.contact_forces, self.in_description_order(self.dof_pos), self.root_states[:, :3], self._rotation
        )

    def _feet_heights(self) -> Tensor:
        """Heights of the soles above the ground in metres, (num_envs, 2)."""
        heights = self.feet.height_w
        return heights if self.terrain is None else heights - self.ground_height(self.feet.pos_w[..., :2])

    def _reset_states(self, env_ids: Tensor) -> None:
        """Put robots (n,) into their initial state: `root_states`, `dof_pos` and `dof_vel`."""
        count, init = len(env_ids), self.cfg.init_state
        yaw = math.pi * self._uniform(count) if init.random_yaw else torch.zeros(count, device=self.device)
        pos = torch.tensor(init.pos, device=self.device)
        quat = quat_multiply(quat_from_yaw(yaw), torch.tensor(init.rot, device=self.device).expand(count, 4))
        velocity = torch.cat(
            (init.lin_vel_noise * self._uniform(count, 3), init.ang_vel_noise * self._uniform(count, 3)), dim=1
        )
        self.root_states[env_ids] = torch.cat((self.env_origins[env_ids] + pos, quat, velocity), dim=1)
        self.dof_pos[env_ids] = self.default_dof_pos + init.dof_pos_noise * self._uniform(count, self.num_dof)
        self.dof_vel[env_ids] = init.dof_vel_noise * self._uniform(count, self.num_dof)

    def _uniform(self, *shape: int) -> Tensor:
        """Random numbers between -1 and 1."""
        return 2.0 * torch.rand(*shape, generator=self.generator, device=self.device) - 1.0

    def _simulate(self, dof_pos_target: Tensor) -> None:
        """Write states that were changed since the last step, then simulate a control step."""
        for changed, write in (
            (self._root_changed, self._write_root_states),
            (self._dof_changed, self._write_dof_states),
        ):
            rows = changed.nonzero().squeeze(1)
            if len(rows) > 0:
                write(rows)
                changed.zero_()
        super()._simulate(dof_pos_target)

    @with_torch_defaults
    def push(self, env_ids: EnvIds, velocity: Values) -> None:
        """Change the velocities of bases at once.

        Args:
            env_ids: Environments, (n,).
            velocity: Added horizontal velocity in the world in m/s, (n, 2), and with it, if there are more columns,
                vertical and angular velocity in rad/s, (n, 3 to 6).
        """
        env_ids = checked_env_ids(env_ids, self.num_envs, self.device)
        velocity = as_tensor(velocity, "velocity")
        columns = velocity.shape[1] if velocity.ndim == 2 and 2 <= velocity.shape[1] <= 6 else 2
        velocity = checked_tensor(velocity, (len(env_ids), columns), "velocity", self.device)
        self.root_states[env_ids, 7 : 7 + columns] += velocity
        self._root_changed[env_ids] = True
        self.steps_since_hit[env_ids] = 0
