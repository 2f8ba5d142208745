"""`ReferenceMotionTerm`: all that a reinforcement-learning environment needs to know of its reference motion."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NoReturn, Sequence

import torch

from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg
from cmg_ref.commands.strata import BALANCED_STRATA
from cmg_ref.core.devices import checked_device
from cmg_ref.core.rotations import quat_rotate
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.frames.store import MotionFrames
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.robots.joint_matching import match_joints
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot
from cmg_ref.trajectories.argument_checks import (
    EnvIds,
    Values,
    checked_env_ids,
    checked_tensor,
    checked_whole,
    whole_steps,
)
from cmg_ref.trajectories.memory import check_memory
from cmg_ref.trajectories.pool import TrajectoryPoolCfg
from cmg_ref.trajectories.settings import CMGMotionGeneratorCfg

MODES = ("pool", "pregenerated", "realtime")
# What a pool gets per environment unless its configuration says so: trajectories, and frames generated each step.
POOL_TRAJECTORIES, POOL_FRAMES = 0.5, 0.0625
SMALLEST_POOL = 64
SMALLEST_BUFFER = 32  # frames held per environment in realtime mode, if the future steps need no more
NEVER = 1e6  # [s] beyond the end of any trajectory


@dataclass(frozen=True)
class ReferenceMotionTermCfg:
    """What a :class:`ReferenceMotionTerm` shows.

    Attributes:
        checkpoint: the CMG or its file; None for the one shipped with the package.
        mode: ``"pool"`` shows ready trajectories with changing commands, so that a reset generates nothing (for
            training); ``"realtime"`` generates as time passes (for playing, or where every step counts the same);
            ``"pregenerated"`` generates a whole trajectory at each reset and each change of command.
        pool: size and renewal of the pool; by default it has a trajectory for every other environment, and renews them
            by a sixteenth of a frame per environment and step. What ``standing_starts`` and ``resample_commands`` ask
            of its trajectories it must not deny.
        future_steps: control steps ahead that the environment reads at every step, rising from 1 on. They are read
            together with the present frame, and :meth:`ReferenceMotionTerm.future` costs nothing for them.
        future_joint_steps: control steps ahead of which the joint angles alone are read at every step, rising from 1
            on, for a third of the cost: ``ReferenceMotionTerm.future_dof_pos``.
        key_bodies: bodies whose positions are given; the robot's own choice by default.
        drop_joints: joints of the checkpoint that the environment's robot does not have (the wrists of a G1 with 23).
        command_sampler: which commands environments are given, and when they change.
        resample_commands: whether commands change within an episode.
        resampling_interval: in modes other than ``"pool"``, control steps between the times at which changes take
            effect. Environments that change together share their forward passes.
        ramp_time: time in which a command passes linearly to a new one [s].
        standing_starts: share of resets that begin from standing, with which all trajectories of a pool begin unless
            this is 0.
        stand: how they stand, ``"neutral"`` or ``"as_it_comes"``, see :class:`CMGMotionGeneratorCfg`.
        latest_start: in a pool, latest time of its trajectory that a reset begins at [s]. Where an episode comes to the
            end of its trajectory it goes on by itself, which costs a forward pass per frame; trajectories longer than
            ``latest_start`` and an episode together are never left.
        preload_duration: frames of a trajectory in the modes ``"pool"`` and ``"pregenerated"``.
        buffer_size: frames held per environment in realtime mode, and by those that have left the pool; as many as
            ``future_steps`` need by default.
        storage_dtype: type of the stored frames, see :class:`CMGMotionGenerator`.
        compute_dtype: type the network computes in, see there.
        backend: what makes and reads the frames, see there.
        compiled: on a GPU, compile the frames, see there.
    """

    checkpoint: str | Path | Checkpoint | None = None
    mode: str = "pool"
    pool: TrajectoryPoolCfg = field(default_factory=TrajectoryPoolCfg)
    future_steps: tuple[int, ...] = (1,)
    future_joint_steps: tuple[int, ...] = ()
    key_bodies: tuple[str, ...] | None = None
    drop_joints: tuple[str, ...] = ()
    command_sampler: CommandSamplerCfg = field(default_factory=lambda: CommandSamplerCfg(strata=BALANCED_STRATA))
    resample_commands: bool = True
    resampling_interval: int = 10
    ramp_time: float = 0.5
    standing_starts: float = 0.1
    stand: str = "neutral"
    latest_start: float = 10.0
    preload_duration: int = 1500
    buffer_size: int | None = None
    storage_dtype: torch.dtype = torch.float32
    compute_dtype: torch.dtype = torch.float32
    backend: str = "auto"
    compiled: bool = False

    def validate(self) -> None:
        """Raise a ValueError that names the first impossible field."""
        name = type(self).__name__
        if self.mode not in MODES:
            raise ValueError(f"{name}.mode must be one of {MODES}, got '{self.mode}'")
        for field_name in ("future_steps", "future_joint_steps"):
            steps = list(getattr(self, field_name))
            if any(int(step) != step or step < 1 for step in steps) or steps != sorted(set(steps)):
                raise ValueError(f"{name}.{field_name} must be rising whole numbers from 1 on, got {tuple(steps)}")
        for field_name, least in (("resampling_interval", 1), ("preload_duration", 12), ("buffer_size", 8)):
            if getattr(self, field_name) is not None:
                checked_whole(getattr(self, field_name), f"{name}.{field_name}", least)
        for field_name in ("ramp_time", "latest_start"):
            if not 0.0 <= getattr(self, field_name) < math.inf:
                raise ValueError(f"{name}.{field_name} must not be negative, got {getattr(self, field_name)}")
        if not 0.0 <= self.standing_starts <= 1.0:
            raise ValueError(f"{name}.standing_starts must be in [0, 1], got {self.standing_starts}")
        self.command_sampler.validate()
        self.pool.validate()
        if self.standing_starts > 0.0 and self.pool.from_standing is False:
            raise ValueError(
                f"{name}.standing_starts={self.standing_starts} needs trajectories that begin from standing: leave "
                "pool.from_standing open, or set standing_starts to 0"
            )
        if not self.resample_commands and self.pool.resampling_time is not None:
            raise ValueError(
                f"{name}.pool.resampling_time says when commands change, and resample_commands=False that they do not: "
                "leave one of them at its default"
            )

    def generator_cfg(
        self, num_envs: int, control_dt: float, joint_names: Sequence[str], fps: float, seed: int = 0
    ) -> CMGMotionGeneratorCfg:
        """What the term asks of its generator. Fields that both have by one name mean the same.

        Args:
            num_envs: number of environments.
            control_dt: time of a control step [s].
            joint_names: joints and their order.
            fps: frames of the checkpoint a second.
            seed: seed of the choice of states and trajectories.
        """
        known = {item.name for item in fields(CMGMotionGeneratorCfg)}
        shared = {item.name: getattr(self, item.name) for item in fields(self) if item.name in known}
        reach = math.ceil(max(0, *self.future_steps, *self.future_joint_steps) * fps * control_dt)
        own: dict[str, Any] = {
            "num_envs": checked_whole(num_envs, "num_envs", 1),
            "mode": "realtime" if self.mode == "realtime" else "pregenerated",
            "buffer_size": self.buffer_size or max(SMALLEST_BUFFER, reach + 16),
            "control_dt": control_dt,
            "interpolation_steps": round(self.ramp_time * fps),
            "joint_names": joint_names,
            "seed": seed,
            "pool": self.pool_cfg(num_envs) if self.mode == "pool" else None,
        }
        return CMGMotionGeneratorCfg(**{**shared, **own})

    def pool_cfg(self, num_envs: int) -> TrajectoryPoolCfg:
        """The pool's configuration with what it leaves open filled in, for so many environments."""
        cfg = self.pool
        if cfg.num_trajectories is None:
            cfg = replace(cfg, num_trajectories=max(SMALLEST_POOL, math.ceil(POOL_TRAJECTORIES * num_envs)))
        if cfg.regenerate_frames_per_step is None:
            cfg = replace(cfg, regenerate_frames_per_step=math.ceil(POOL_FRAMES * num_envs))
        if cfg.from_standing is None:
            cfg = replace(cfg, from_standing=self.standing_starts > 0.0)
        return cfg if self.resample_commands else replace(cfg, resampling_time=(NEVER, NEVER))


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
        cfg: what to show.
        num_envs: number of environments.
        control_dt: time of a control step [s].
        joint_names: joints of the environment's robot, in its order.
        device: device of everything.
        robot: robot description; by default the one that the checkpoint names.
        seed: seed of commands and starts.

    Attributes:
        generator: makes the motion.
        command_layout: channels of a command.
        sampler: draws the commands; it is told which of them fail.
        joint_names: joints in the order of everything returned.
        key_bodies: bodies in the order of ``key_body_pos_b``.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        MemoryError: there is not as much memory as it takes; nothing has been allocated.
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
        robot = checkpoint.robot(robot, cfg.drop_joints)
        self.key_bodies = tuple(robot.key_bodies if cfg.key_bodies is None else cfg.key_bodies)
        self._kinematics = ForwardKinematics(robot, self.key_bodies, self.device)
        self._robot_columns = self._columns_for(robot)
        self._steps = (0, *(int(step) for step in cfg.future_steps))
        self._joint_steps = tuple(int(step) for step in cfg.future_joint_steps)
        furthest = max((*self._steps, *self._joint_steps))
        settings = cfg.generator_cfg(num_envs, control_dt, self.joint_names, checkpoint.fps, seed)
        settings.validate()
        self.command_layout = checkpoint.command_layout
        sampler = CommandSampler(1, cfg.command_sampler, layout=self.command_layout)
        check_memory(settings, checkpoint, sampler, self.device)
        self.sampler = CommandSampler(num_envs, cfg.command_sampler, control_dt, self.device, seed, self.command_layout)
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
        self._targets = self.command_layout.rest(num_envs, device=self.device)
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
            self._commands = self.generator.commands
        return self._commands

    @property
    def target_commands(self) -> torch.Tensor:
        """Commands being approached, (num_envs, command_dim)."""
        return self.generator.target_commands

    def future(self, steps: Sequence[int] | None = None) -> MotionFrames:
        """What will be shown some control steps from now if no command changes, but as a pool's schedule has it.

        Args:
            steps: steps asked for, 0 being now; those of the configuration by default. Steps of the configuration cost
                nothing, others are read anew.

        Returns:
            Fields of (num_envs, len(steps), ...).

        Raises:
            ValueError: a step is negative or beyond what the generator holds.
        """
        if steps is None:
            return _columns(self._frames(), slice(1, None))
        wanted = tuple(whole_steps(steps))
        if wanted and set(wanted) <= set(self._steps):
            columns = [self._steps.index(step) for step in wanted]
            together = columns == list(range(columns[0], columns[-1] + 1))
            return _columns(self._frames(), slice(columns[0], columns[-1] + 1) if together else columns)
        return self.generator.future(wanted)

    @with_torch_defaults
    def key_body_positions(self, dof_pos: torch.Tensor) -> torch.Tensor:
        """Positions of the key bodies in the root's frame [m], (..., num_key_bodies, 3).

        Args:
            dof_pos: joint angles in the order of ``joint_names`` [rad], (..., num_joints).
        """
        if self._robot_columns is not None:
            # Joints of the description that the environment's robot lacks are welded at zero.
            dof_pos = torch.cat((dof_pos, torch.zeros_like(dof_pos[..., :1])), dim=-1)[..., self._robot_columns]
        return self._kinematics.positions(dof_pos)

    def initial_state(self, env_ids: EnvIds | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """State to put the robots of some environments in, so that they begin on their reference.

        Args:
            env_ids: environments concerned.

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
            env_ids: environments to reset.
            root_pose: x, y [m] and heading [rad] to begin at, (n, 3); zero by default.
            commands: (n, command_dim), in force until the next reset; drawn by default, and then changing in time.
            standing: begin from standing, whence the command ramps up.

        Raises:
            ValueError: a shape does not fit, or a value is not finite.
        """
        rows = self._rows(env_ids)
        num = len(rows)
        shape = (num, self.command_layout.size)
        given = None if commands is None else checked_tensor(commands, shape, "commands", self.device)
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
            self.sampler.report(self.target_commands, survived)
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
        self.sampler.report(self.target_commands[rows], torch.ones(len(rows), dtype=torch.bool, device=self.device))

    @with_torch_defaults
    def set_commands(self, commands: Values, env_ids: EnvIds | None = None) -> None:
        """Give commands that stay in force until the next reset; the motion goes on from the frame it is in.

        Args:
            commands: (n, command_dim); held inside the range of the checkpoint.
            env_ids: environments concerned.

        Raises:
            ValueError: the shape does not fit, or a value is not finite.
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
        nothing = self.command_layout.rest(len(rows), device=self.device)
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
            self._targets[rows] = self.target_commands[rows]

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


def _columns(frames: MotionFrames, wanted: slice | list[int]) -> MotionFrames:
    """Some steps of frames (num_envs, num_steps, ...): a view where they are given as a slice."""
    return MotionFrames(
        frames.dof_pos[:, wanted],
        frames.dof_vel[:, wanted],
        frames.root_pos_w[:, wanted],
        frames.root_quat_w[:, wanted],
        frames.root_lin_vel_w[:, wanted],
        frames.root_ang_vel_w[:, wanted],
    )
