"""A reference motion for any humanoid on legged_gym's `LeggedRobot`, in about ten lines.

The mixin stands before `LeggedRobot` among the bases of an environment. It resets robots onto the reference, keeps
`commands` what the reference follows, adds the reference to the actions, and brings rewards to switch on::

    from envs.simulator import BACKEND, register_as_isaacgym  # before torch and legged_gym

    if BACKEND == "mujoco":
        register_as_isaacgym()

    from cmg_ref.reference_motion_term import ReferenceMotionTermCfg
    from envs.hosts.legged_gym_mixin import ReferenceMotionMixin
    from legged_gym.envs import LeggedRobot
    from legged_gym.utils import task_registry

    class G1(ReferenceMotionMixin, LeggedRobot):
        reference_cfg = ReferenceMotionTermCfg(mode="pool", future_steps=(1, 5, 10))

        def compute_observations(self):
            super().compute_observations()
            self.obs_buf = torch.cat((self.obs_buf, self.reference_observations()), dim=1)

    task_registry.register("g1", G1, G1Cfg(), G1CfgPPO())

where `G1Cfg` is a `LeggedRobotCfg` of the robot (`commands.heading_command = False`, `asset.file` its URDF or the
`g1_29dof.xml` of this package, `rewards.scales.tracking_joint_pos = 1.0`, ...).
`tests/envs/hosts/test_legged_gym_mixin.py` holds the whole example.
"""

from __future__ import annotations

# Isaac Gym has to be imported before torch.
from envs.simulator import gymtorch  # isort: skip

from typing import Any, ClassVar

import torch
from torch import Tensor

from cmg_ref.core.command_layout import VELOCITY, take_written
from cmg_ref.core.rotations import in_heading, quat_rotate_inverse
from cmg_ref.reference_motion_term import ReferenceMotionTerm, ReferenceMotionTermCfg
from cmg_ref.rl import rewards
from cmg_ref.rl.actions import reference_targets, velocity_lead


class ReferenceMotionMixin:
    """Gives a `LeggedRobot` the attribute ``reference``, a :class:`ReferenceMotionTerm`, and follows it.

    Attributes:
        reference_cfg: What the reference shows; its first future step must be 1.
        residual_action: Whether actions are added to the reference of the coming step instead of the default pose.
        reset_height: How far above the reference robots begin, so that no foot begins inside the ground [m].
        tracking_sigmas: Errors at which 1/e of each reward is left, in rad^2, rad^2/s^2, m^2, and of unit vectors.
    """

    reference_cfg = ReferenceMotionTermCfg()
    residual_action = True
    reset_height = 0.02
    tracking_sigmas: ClassVar[dict[str, float]] = {
        "joint_pos": 0.05,
        "joint_vel": 6.0,
        "root_height": 0.01,
        "orientation": 0.05,
    }

    # Set by LeggedRobot.
    cfg: Any
    gym: Any
    sim: Any
    num_envs: int
    dt: float
    device: str
    dof_names: list[str]
    dof_pos: Tensor
    dof_vel: Tensor
    dof_state: Tensor
    root_states: Tensor
    env_origins: Tensor
    commands: Tensor
    projected_gravity: Tensor
    gravity_vec: Tensor
    default_dof_pos: Tensor
    p_gains: Tensor
    d_gains: Tensor
    episode_length_buf: Tensor
    time_out_buf: Tensor

    def _init_buffers(self) -> None:
        super()._init_buffers()  # type: ignore[misc]
        self.reference = ReferenceMotionTerm(
            self.reference_cfg, self.num_envs, self.dt, self.dof_names, self.device, seed=getattr(self.cfg, "seed", 0)
        )
        self._joint_weights = torch.ones(len(self.dof_names), device=self.device)
        self._shown_commands = self.commands[:, VELOCITY].clone()

    def reference_observations(self) -> Tensor:
        """The reference as a policy may see it: coming joint angles less the default pose, tilt and velocity.

        Returns:
            (num_envs, num_future_steps * (num_joints + 3) + 3): joints and gravity in the base frame of every future
            step, and the velocity of the root in the heading frame now.
        """
        coming = self.reference.future()  # fields of (num_envs, num_future_steps, ...)
        gravity_w = self.gravity_vec.unsqueeze(1).expand_as(coming.root_pos_w)
        joints = coming.dof_pos - self.default_dof_pos.unsqueeze(0)
        velocity_h = in_heading(self.reference.root_quat_w, self.reference.root_lin_vel_w)
        seen = torch.cat((joints, quat_rotate_inverse(coming.root_quat_w, gravity_w)), dim=-1)
        return torch.cat((seen.flatten(1), velocity_h), dim=1)

    # Time and resets ----------------------------------------------------------------------------------------------

    def step(self, actions: Tensor) -> Any:
        """Let a control step pass under actions (num_envs, num_actions).

        The reference approaches what has been written into ``commands`` since the last step, until the next reset.
        """
        env_ids, targets = take_written(self.commands, self._shown_commands, self.reference.generator.target_commands)
        if len(env_ids) > 0:
            self.reference.set_commands(targets, env_ids)
        if self.residual_action:
            coming = self.reference.future((1,))
            lead = velocity_lead(self.p_gains, self.d_gains)
            targets = reference_targets(coming.dof_pos[:, 0], coming.dof_vel[:, 0], lead)
            self._reference_actions = (targets - self.default_dof_pos) / self.cfg.control.action_scale
        return super().step(actions)  # type: ignore[misc]

    def _compute_torques(self, actions: Tensor) -> Tensor:
        if self.residual_action:
            actions = actions + self._reference_actions
        return super()._compute_torques(actions)  # type: ignore[misc]

    def _post_physics_step_callback(self) -> None:
        self.reference.step()
        self._show_commands()
        super()._post_physics_step_callback()  # type: ignore[misc]

    def reset_idx(self, env_ids: Tensor) -> None:
        """Reset environments (n,) onto new references."""
        if len(env_ids) == 0:
            return
        fell = (self.episode_length_buf[env_ids] > 0) & ~self.time_out_buf[env_ids]
        self.reference.report_failures(env_ids[fell])
        place = torch.cat((self.env_origins[env_ids, :2], torch.zeros(len(env_ids), 1, device=self.device)), dim=1)
        self.reference.reset(env_ids, place)
        super().reset_idx(env_ids)  # type: ignore[misc]
        self._show_commands()

    def _reset_dofs(self, env_ids: Tensor) -> None:
        self.dof_pos[env_ids] = self.reference.dof_pos[env_ids]
        self.dof_vel[env_ids] = self.reference.dof_vel[env_ids]
        actors = env_ids.to(torch.int32)
        self.gym.set_dof_state_tensor_indexed(
            self.sim, gymtorch.unwrap_tensor(self.dof_state), gymtorch.unwrap_tensor(actors), len(actors)
        )

    def _reset_root_states(self, env_ids: Tensor) -> None:
        self.root_states[env_ids] = self.reference.root_states[env_ids]
        self.root_states[env_ids, 2] += self.env_origins[env_ids, 2] + self.reset_height
        actors = env_ids.to(torch.int32)
        self.gym.set_actor_root_state_tensor_indexed(
            self.sim, gymtorch.unwrap_tensor(self.root_states), gymtorch.unwrap_tensor(actors), len(actors)
        )

    def _resample_commands(self, env_ids: Tensor) -> None:
        """Nothing to draw: the reference draws commands, smooths and changes them."""

    def _show_commands(self) -> None:
        self._shown_commands.copy_(self.reference.commands[:, VELOCITY])
        self.commands[:, VELOCITY] = self._shown_commands

    # Rewards, switched on by `rewards.scales` ---------------------------------------------------------------------

    def _reward_tracking_joint_pos(self) -> Tensor:
        """Joint angles against the reference, (num_envs,)."""
        sigma = self.tracking_sigmas["joint_pos"]
        return rewards.joint_position_tracking(self.dof_pos, self.reference.dof_pos, self._joint_weights, sigma)

    def _reward_tracking_joint_vel(self) -> Tensor:
        """Joint velocities against the reference, (num_envs,)."""
        sigma = self.tracking_sigmas["joint_vel"]
        return rewards.joint_velocity_tracking(self.dof_vel, self.reference.dof_vel, self._joint_weights, sigma)

    def _reward_tracking_root_height(self) -> Tensor:
        """Height of the root against the reference, (num_envs,)."""
        height = self.root_states[:, 2] - self.env_origins[:, 2]
        sigma = self.tracking_sigmas["root_height"]
        return rewards.root_height_tracking(height, self.reference.root_pos_w[:, 2], sigma)

    def _reward_tracking_orientation(self) -> Tensor:
        """Tilt of the root against the reference, (num_envs,)."""
        wanted = quat_rotate_inverse(self.reference.root_quat_w, self.gravity_vec)
        sigma = self.tracking_sigmas["orientation"]
        return rewards.tilt_tracking(self.projected_gravity, wanted, sigma)
