"""`ReferenceMotionTerm`: all that a reinforcement-learning environment needs to know of its reference motion."""

from __future__ import annotations

from typing import Any, NoReturn, Sequence

import torch

from cmg_ref.commands.sampler import CommandSampler
from cmg_ref.core.devices import checked_device
from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.core.rotations import quat_rotate
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.reference_motion_term_cfg import ReferenceMotionTermCfg as ReferenceMotionTermCfg
from cmg_ref.robots.joint_matching import match_joints
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot
from cmg_ref.trajectories.argument_checks import (
    EnvIds,
    Values,
    checked_commands,
    checked_env_ids,
    checked_tensor,
    whole_steps,
)
from cmg_ref.trajectories.memory import check_memory


class ReferenceMotionTerm:
    """The reference motion of every environment, with its command and its place in the world.

    An environment calls :meth:`reset` for the environments that begin an episode and :meth:`step` once per control
    step, and reads the rest. Whatever is read is computed once per step, for all environments together::

        term = ReferenceMotionTerm(cfg, num_envs, control_dt, joint_names, device)
        term.reset(env_ids, root_pose)
        dof_pos, dof_vel, root_states = term.initial_state(env_ids)
        ...
        term.step()
        error = dof_pos - term.dof_pos

    Results are read-only: they may be views of what the term keeps. Environments are named as the generator takes
    them: by indices (n,), by a mask (num_envs,) or by None for all; these and all numbers may be tensors, arrays or
    lists, and are checked as there. A term cannot be copied or pickled: :meth:`state_dict` is what resuming needs.

    Args:
        cfg: What to show.
        num_envs: Number of environments.
        control_dt: Time of a control step [s].
        joint_names: Joints of the environment's robot, in its order.
        device: Device of everything.
        robot: Robot description; by default the one that the checkpoint names.
        seed: Seed of commands and starts.

    Attributes:
        generator: Makes the motion.
        command_layout: Channels of a command: the velocity, and those that ``command_sampler.further`` has a range for.
        sampler: Draws the commands; it is told which of them fail.
        joint_names: Joints in the order of everything returned.
        robot: Description of the robot.
        key_bodies: Bodies in the order of ``key_body_pos_b``.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        MemoryError: There is not as much memory as it takes; nothing has been allocated.
        ValueError: a setting is impossible, or a joint or a body is unknown; the message names it.
    """

    @with_torch_defaults
    def __init__(
        self,
        cfg: ReferenceMotionTermCfg,
        num_envs: int,
        control_dt: float,
        joint_names: Sequence[str],
        device: str | torch.device = "cpu",
        robot: Robot | None = None,
        seed: int = 0,
    ) -> None:
        cfg.validate()
        self.cfg, self.num_envs, self.control_dt = cfg, num_envs, control_dt
        self.device = checked_device(device, "device")
        checkpoint = load_checkpoint(cfg.checkpoint)
        self.joint_names, _ = match_joints(checkpoint.joint_names, joint_names, cfg.drop_joints, self.device)
        self.robot = robot = checkpoint.robot(robot, cfg.drop_joints)
        self.key_bodies = tuple(robot.key_bodies if cfg.key_bodies is None else cfg.key_bodies)
        self._kinematics = ForwardKinematics(robot, self.key_bodies, self.device)
        self._robot_columns = self._columns_for(robot)
        self._steps = (0, *(int(step) for step in cfg.future_steps))
        self._joint_steps = tuple(int(step) for step in cfg.future_joint_steps)
        furthest = max((*self._steps, *self._joint_steps))
        settings = cfg.generator_cfg(num_envs, control_dt, self.joint_names, checkpoint.fps, seed)
        settings.validate()
        layout = checkpoint.command_layout
        sampler = CommandSampler(1, cfg.command_sampler, layout=layout)
        check_memory(settings, checkpoint, sampler, self.device)
        self.command_layout = layout.up_to(list(cfg.command_sampler.further))
        self._told = slice(self.command_layout.size)
        self.sampler = CommandSampler(num_envs, cfg.command_sampler, control_dt, self.device, seed, layout)
        self.generator = CMGMotionGenerator(
            checkpoint, device=self.device, cfg=settings, robot=robot, command_sampler=self.sampler
        )
        if furthest > self.generator.max_future_steps:
            name = "future_steps" if furthest == self._steps[-1] else "future_joint_steps"
            raise ValueError(
                f"ReferenceMotionTermCfg.{name} reach {furthest} steps ahead, the generator "
                f"{self.generator.max_future_steps}; raise buffer_size or preload_duration"
            )
        self._latest_start = min(round(cfg.latest_start * checkpoint.fps), self.generator.last_start_frame)
        self._random = torch.Generator(device=self.device).manual_seed(seed)
        self._targets = layout.rest(num_envs, device=self.device)
        # The trajectories of a pool have schedules of their own.
        self._resamples = cfg.resample_commands and cfg.mode != "pool"
        self._step_count = 0
        self._steps_per_second = round(1.0 / control_dt)
        self._window: tuple[MotionFrames, torch.Tensor] | None = None
        self._key_body_pos_b: torch.Tensor | None = None
        self._commands: torch.Tensor | None = None

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: make another with the same arguments")

    # Reading ----------------------------------------------------------------------------------------------------------

    @property
    def dof_pos(self) -> torch.Tensor:
        """Joint angles [rad], (num_envs, num_joints)."""
        return self._frames().dof_pos[:, 0]

    @property
    def dof_vel(self) -> torch.Tensor:
        """Joint velocities [rad/s], (num_envs, num_joints)."""
        return self._frames().dof_vel[:, 0]

    @property
    def root_pos_w(self) -> torch.Tensor:
        """Position of the root in the world [m], (num_envs, 3); z counts from the floor."""
        return self._frames().root_pos_w[:, 0]

    @property
    def root_quat_w(self) -> torch.Tensor:
        """Orientation of the root in the world, xyzw, (num_envs, 4)."""
        return self._frames().root_quat_w[:, 0]

    @property
    def root_lin_vel_w(self) -> torch.Tensor:
        """Velocity of the root's origin in the world [m/s], (num_envs, 3)."""
        return self._frames().root_lin_vel_w[:, 0]

    @property
    def root_ang_vel_w(self) -> torch.Tensor:
        """Angular velocity of the root in the world [rad/s], (num_envs, 3)."""
        return self._frames().root_ang_vel_w[:, 0]

    @property
    def root_states(self) -> torch.Tensor:
        """Position, orientation xyzw, linear and angular velocity of the root in the world, (num_envs, 13)."""
        return torch.cat((self.root_pos_w, self.root_quat_w, self.root_lin_vel_w, self.root_ang_vel_w), dim=1)

    @property
    def key_body_pos_b(self) -> torch.Tensor:
        """Positions of the key bodies in the root's frame [m], (num_envs, num_key_bodies, 3)."""
        if self._key_body_pos_b is None:
            self._key_body_pos_b = self.key_body_positions(self.dof_pos)
        return self._key_body_pos_b

    @property
    def key_body_pos_w(self) -> torch.Tensor:
        """Positions of the key bodies in the world [m], (num_envs, num_key_bodies, 3)."""
        return self.root_pos_w.unsqueeze(1) + quat_rotate(self.root_quat_w.unsqueeze(1), self.key_body_pos_b)

    @property
    def future_dof_pos(self) -> torch.Tensor:
        """Joint angles at the configured ``future_joint_steps`` [rad], (num_envs, number of steps, num_joints)."""
        return self._read()[1]

    @property
    def commands(self) -> torch.Tensor:
        """Commands in force, smoothed, (num_envs, command_dim): vx, vy [m/s], yaw rate [rad/s], what else there is."""
        if self._commands is None:
            self._commands = self.generator.commands[:, self._told]
        return self._commands

    @property
    def target_commands(self) -> torch.Tensor:
        """Commands being approached, (num_envs, command_dim)."""
        return self.generator.target_commands[:, self._told]

    def future(self, steps: Sequence[int] | None = None) -> MotionFrames:
        """What will be shown some control steps from now if no command changes, but as a pool's schedule has it.

        Args:
            steps: Steps asked for, 0 being now; those of the configuration by default. Steps of the configuration cost
                nothing, others are read anew.

        Returns:
            Fields of (num_envs, len(steps), ...).

        Raises:
            ValueError: a step is negative or beyond what the generator holds.
        """
        if steps is None:
            return self._frames().select((slice(None), slice(1, None)))
        wanted = tuple(whole_steps(steps))
        if wanted and set(wanted) <= set(self._steps):
            columns = [self._steps.index(step) for step in wanted]
            together = columns == list(range(columns[0], columns[-1] + 1))
            return self._frames().select((slice(None), slice(columns[0], columns[-1] + 1) if together else columns))
        return self.generator.future(wanted)

    @with_torch_defaults
    def key_body_positions(self, dof_pos: torch.Tensor) -> torch.Tensor:
        """Positions of the key bodies in the root's frame [m], (..., num_key_bodies, 3).

        Args:
            dof_pos: Joint angles in the order of ``joint_names`` [rad], (..., num_joints).
        """
        return self._kinematics.positions(self.in_description_order(dof_pos))

    def in_description_order(self, values: torch.Tensor) -> torch.Tensor:
        """Joint angles or velocities (..., num_joints) in the order of ``robot``, (..., robot.num_joints).

        Joints of the description that the environment's robot lacks are welded at zero.
        """
        if self._robot_columns is None:
            return values
        return torch.cat((values, torch.zeros_like(values[..., :1])), dim=-1)[..., self._robot_columns]

    def initial_state(self, env_ids: EnvIds | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """State to put the robots of some environments in, so that they begin on their reference.

        Args:
            env_ids: Environments concerned.

        Returns:
            Joint angles [rad] and velocities [rad/s], each (n, num_joints), and root states (n, 13): position,
            orientation xyzw, linear and angular velocity in the world.
        """
        rows = self._rows(env_ids)
        return self.dof_pos[rows], self.dof_vel[rows], self.root_states[rows]

    # Time -------------------------------------------------------------------------------------------------------------

    @with_torch_defaults
    def reset(
        self,
        env_ids: EnvIds | None = None,
        root_pose: Values | None = None,
        commands: Values | None = None,
        standing: bool = False,
    ) -> None:
        """Begin new motions; all other environments are left as they are.

        Motions begin amid what the command asks for: in a pool at a random time of a trajectory, otherwise at a frame
        of the data that the checkpoint was trained on.

        Args:
            env_ids: Environments to reset.
            root_pose: x, y [m] and heading [rad] to begin at, (n, 3); zero by default.
            commands: (n, command_dim), velocities alone, (n, 3), or all channels of the checkpoint, in force until the
                next reset; drawn by default, and then changing in time.
            standing: Begin from standing, whence the command ramps up.

        Raises:
            ValueError: a shape does not fit, or a value is not finite.
        """
        rows = self._rows(env_ids)
        num = len(rows)
        layout = self.generator.command_layout
        given = None if commands is None else checked_commands(commands, num, layout, self.device)
        if root_pose is not None:
            root_pose = checked_tensor(root_pose, (num, 3), "root_pose", self.device)
        if num == 0:
            return
        drawn = self.sampler.reset(rows)
        targets = drawn if given is None else given
        if standing:
            self._begin_standing(rows, targets, root_pose)
        elif self.cfg.mode == "pool":
            self._begin_in_pool(rows, targets, root_pose, exact=given is not None)
        else:
            chosen = self._share_of_starts(len(rows))
            others = ~chosen
            self._begin_standing(rows[chosen], targets[chosen], None if root_pose is None else root_pose[chosen])
            place = None if root_pose is None else root_pose[others]
            self.generator.reset(rows[others], commands=targets[others], root_pose=place)
        if given is not None:
            self.sampler.hold(rows)
        self._remember_targets(rows)
        self._forget()

    @with_torch_defaults
    def step(self) -> None:
        """Let a control step pass for every environment."""
        self.generator.advance()
        self._step_count += 1
        if self._step_count % self._steps_per_second == 0 and self.sampler.strata is not None:
            # Every environment that is still up has got through another second of its command.
            survived = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
            self.sampler.report(self.generator.target_commands, survived)
        if self._resamples:
            self._targets.copy_(self.sampler.step(self._targets)[0])
            if self._step_count % self.cfg.resampling_interval == 0:
                self.generator.update_commands(self._targets)
        self._forget()

    @with_torch_defaults
    def report_failures(self, env_ids: EnvIds) -> None:
        """Tell that some environments fell, before they are reset; what they were told to do is then drawn more often.

        It counts as one failure each, against one success for each second that an environment gets through.
        """
        rows = self._rows(env_ids)
        failed = torch.ones(len(rows), dtype=torch.bool, device=self.device)
        self.sampler.report(self.generator.target_commands[rows], failed)

    @with_torch_defaults
    def set_commands(self, commands: Values, env_ids: EnvIds | None = None) -> None:
        """Give commands that stay in force until the next reset; the motion goes on from the frame it is in.

        Args:
            commands: (n, command_dim), or all channels of the checkpoint; held inside its range.
            env_ids: Environments concerned.

        Raises:
            ValueError: The shape does not fit, or a value is not finite.
        """
        rows = self._rows(env_ids)
        self.generator.update_commands(commands, rows)
        self._remember_targets(rows)
        self.sampler.hold(rows)
        self._forget()

    def override(
        self,
        joint_names: Sequence[str],
        positions: Values,
        velocities: Values | None = None,
        env_ids: EnvIds | None = None,
    ) -> None:
        """Show joints as somebody else drives them, see :meth:`CMGMotionGenerator.override`; key bodies follow."""
        self.generator.override(joint_names, positions, velocities, env_ids)
        self._forget()

    def release(self, env_ids: EnvIds | None = None) -> None:
        """Show all joints of environments (n,) as they are generated again; of all environments by default."""
        self.generator.release(env_ids)
        self._forget()

    def set_root_pose(self, env_ids: EnvIds | None, root_pose: Values) -> None:
        """Put the root that is shown now at x, y [m] and heading [rad], (n, 3); the motion goes on from there."""
        self.generator.set_root_pose(root_pose, env_ids)
        self._forget()

    def state_dict(self) -> dict[str, Any]:
        """What resuming a training needs: the state of the commands' draws and of the starts'. Motions begin anew."""
        return {"sampler": self.sampler.state_dict(), "random": self._random.get_state()}

    @with_torch_defaults
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.sampler.load_state_dict(state["sampler"])
        self._random.set_state(state["random"].cpu())

    # Inside -----------------------------------------------------------------------------------------------------------

    def _begin_standing(self, rows: torch.Tensor, targets: torch.Tensor, root_pose: torch.Tensor | None) -> None:
        """Begin at standing poses, from where commands ramp to ``targets`` (n, command_dim)."""
        standing = self.generator.standing_states
        picks = torch.randint(len(standing), (len(rows),), generator=self._random, device=self.device)
        nothing = self.generator.command_layout.rest(len(rows), device=self.device)
        self.generator.reset(rows, standing[picks], nothing, root_pose)
        self.generator.update_commands(targets, rows)

    def _begin_in_pool(
        self, rows: torch.Tensor, targets: torch.Tensor, root_pose: torch.Tensor | None, exact: bool
    ) -> None:
        """Begin amid trajectories that are told nearly ``targets`` then; leave them if it must be exact."""
        frames = torch.randint(self._latest_start + 1, (len(rows),), generator=self._random, device=self.device)
        frames.masked_fill_(self._share_of_starts(len(rows)), 0)
        self.generator.reset(rows, commands=targets, root_pose=root_pose, start_frames=frames)
        if exact:
            self.generator.update_commands(targets, rows)

    def _remember_targets(self, rows: torch.Tensor) -> None:
        """Let the sampler go on from what environments (n,) are told now."""
        if self._resamples:
            self._targets[rows] = self.generator.target_commands[rows]

    def _share_of_starts(self, count: int) -> torch.Tensor:
        """Which of ``count`` starts are from standing, (count,) bool."""
        return torch.rand(count, generator=self._random, device=self.device) < self.cfg.standing_starts

    def _frames(self) -> MotionFrames:
        """The present frame and the configured ones ahead, fields of (num_envs, 1 + num_future_steps, ...)."""
        return self._read()[0]

    def _read(self) -> tuple[MotionFrames, torch.Tensor]:
        """All that is read at every step: frames, and the joint angles of further ones."""
        if self._window is None:
            self._window = self.generator.window(self._steps, self._joint_steps)
        return self._window

    def _forget(self) -> None:
        self._window = self._key_body_pos_b = self._commands = None

    def _rows(self, env_ids: EnvIds | None) -> torch.Tensor:
        """Indices (n,) of environments."""
        return checked_env_ids(env_ids, self.num_envs, self.device)

    def _columns_for(self, robot: Robot) -> torch.Tensor | None:
        """Column of each joint of the description among ours and, after them, zero; None where both are the same."""
        if tuple(robot.joint_names) == self.joint_names:
            return None
        unknown = [name for name in self.joint_names if name not in robot.joint_names]
        if unknown:
            raise ValueError(f"the description of {robot.name} has no joint '{unknown[0]}'")
        own = list(self.joint_names)
        columns = [own.index(name) if name in own else len(own) for name in robot.joint_names]
        return torch.tensor(columns, device=self.device)
