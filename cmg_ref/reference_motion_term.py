"""`ReferenceMotionTerm`: all that a reinforcement-learning environment needs to know of its reference motion."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Sequence

import torch

from cmg_ref.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.commands import CommandSampler, CommandSamplerCfg
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.joint_matching import match_joints
from cmg_ref.kinematics import ForwardKinematics
from cmg_ref.robot import Robot, load_g1
from cmg_ref.rotations import quat_from_yaw, quat_multiply, quat_rotate, yaw_from_quat
from cmg_ref.trajectory_store import MotionFrames, rotate_xy

MODES = ("pregenerated", "realtime")


@dataclass(frozen=True)
class ReferenceMotionTermCfg:
    """What a :class:`ReferenceMotionTerm` shows.

    Attributes:
        checkpoint: file of the CMG; None for the one shipped with the package.
        mode: ``"realtime"`` generates as time passes, ``"pregenerated"`` a whole trajectory at each reset.
        future_steps: control steps ahead that the environment reads at every step; they are read together with the
            present frame, and :meth:`ReferenceMotionTerm.future` is then free of cost for them.
        key_bodies: bodies whose positions are given; the robot's own choice by default.
        drop_joints: joints of the checkpoint that the environment's robot does not have (the wrists of a G1 with 23).
        command_sampler: which commands environments are given, and when they change.
        resample_commands: whether commands change within an episode.
        resampling_interval: control steps between the times at which changes take effect. Environments that change
            together share their forward passes.
        ramp_time: time in which a command passes linearly to a new one [s].
        preload_duration: frames of a trajectory in pregenerated mode.
        buffer_size: frames held per environment in realtime mode; as many as ``future_steps`` need by default.
    """

    checkpoint: str | None = None
    mode: str = "realtime"
    future_steps: tuple[int, ...] = (1,)
    key_bodies: tuple[str, ...] | None = None
    drop_joints: tuple[str, ...] = ()
    command_sampler: CommandSamplerCfg = field(default_factory=CommandSamplerCfg)
    resample_commands: bool = True
    resampling_interval: int = 10
    ramp_time: float = 0.5
    preload_duration: int = 500
    buffer_size: int | None = None

    def validate(self) -> None:
        """Raise a ValueError that names the first impossible field."""
        if self.mode not in MODES:
            raise ValueError(f"ReferenceMotionTermCfg.mode must be one of {MODES}, got '{self.mode}'")
        steps = list(self.future_steps)
        if any(int(step) != step or step < 1 for step in steps) or steps != sorted(set(steps)):
            raise ValueError(f"ReferenceMotionTermCfg.future_steps must be rising whole numbers from 1 on, got {steps}")
        if self.resampling_interval < 1:
            raise ValueError(
                f"ReferenceMotionTermCfg.resampling_interval must be at least 1, got {self.resampling_interval}"
            )
        if self.ramp_time < 0.0:
            raise ValueError(f"ReferenceMotionTermCfg.ramp_time must not be negative, got {self.ramp_time}")
        self.command_sampler.validate()


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

    Results are read-only: they may be views of what the term keeps.

    Args:
        cfg: what to show.
        num_envs: number of environments.
        control_dt: time of a control step [s].
        joint_names: joints of the environment's robot, in its order.
        device: device of everything.
        robot: robot description for the key bodies; the shipped G1 by default.
        seed: seed of commands and starts.

    Attributes:
        generator: makes the motion.
        sampler: draws the commands.
        joint_names: joints in the order of everything returned.
        key_bodies: bodies in the order of ``key_body_pos_b``.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ValueError: a setting is impossible, or a joint or a body is unknown; the message names it.
    """

    def __init__(
        self,
        cfg: ReferenceMotionTermCfg,
        num_envs: int,
        control_dt: float,
        joint_names: Sequence[str],
        device: str | torch.device = "cpu",
        robot: Robot | None = None,
        seed: int = 0,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        cfg.validate()
        self.cfg, self.num_envs, self.control_dt = cfg, num_envs, control_dt
        self.device = torch.device(device)
        checkpoint = checkpoint or load_checkpoint(cfg.checkpoint)
        self.joint_names, _ = match_joints(checkpoint.joint_names, joint_names, cfg.drop_joints, self.device)
        robot = robot or load_g1()
        self.key_bodies = tuple(robot.key_bodies if cfg.key_bodies is None else cfg.key_bodies)
        self._kinematics = ForwardKinematics(robot, self.key_bodies, self.device)
        self._robot_columns = self._columns_for(robot)
        self._steps = (0, *cfg.future_steps)
        self.sampler = CommandSampler(num_envs, cfg.command_sampler, control_dt, self.device, seed)
        self.generator = CMGMotionGenerator(
            checkpoint,
            num_envs,
            self.device,
            cfg.mode,
            preload_duration=cfg.preload_duration,
            buffer_size=cfg.buffer_size or self._needed_frames(checkpoint.fps),
            control_dt=control_dt,
            interpolation_steps=round(cfg.ramp_time * checkpoint.fps),
            joint_names=self.joint_names,
            drop_joints=cfg.drop_joints,
            seed=seed,
            robot=robot,
        )
        if self._steps[-1] > self.generator.max_future_steps:
            raise ValueError(
                f"ReferenceMotionTermCfg.future_steps reach to {self._steps[-1]}, the generator to "
                f"{self.generator.max_future_steps} steps; raise buffer_size or preload_duration"
            )
        self._targets = torch.zeros(num_envs, 3, device=self.device)
        # Where the generator's world lies in the environment's: x, y and heading.
        self._anchor = torch.zeros(num_envs, 3, device=self.device)
        self._anchored = False
        self._step_count = 0
        self._window: MotionFrames | None = None
        self._key_body_pos_b: torch.Tensor | None = None

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
    def commands(self) -> torch.Tensor:
        """Commands in force, smoothed: vx, vy [m/s], yaw rate [rad/s], (num_envs, 3)."""
        return self.generator.commands

    @property
    def target_commands(self) -> torch.Tensor:
        """Commands being approached, (num_envs, 3)."""
        return self.generator.smoother.target

    def future(self, steps: Sequence[int] | None = None) -> MotionFrames:
        """What will be shown some control steps from now if no command changes.

        Args:
            steps: steps asked for, 0 being now; those of the configuration by default. Steps of the configuration cost
                nothing, others are read anew.

        Returns:
            Fields of (num_envs, len(steps), ...).

        Raises:
            ValueError: a step is negative or beyond what the generator holds.
        """
        wanted = tuple(self.cfg.future_steps) if steps is None else tuple(int(step) for step in steps)
        if set(wanted) <= set(self._steps):
            columns = [self._steps.index(step) for step in wanted]
            return _columns(self._frames(), columns)
        return self._placed(self.generator.future(wanted))

    def key_body_positions(self, dof_pos: torch.Tensor) -> torch.Tensor:
        """Positions of the key bodies in the root's frame [m], (..., num_key_bodies, 3).

        Args:
            dof_pos: joint angles in the order of ``joint_names`` [rad], (..., num_joints).
        """
        if self._robot_columns is not None:
            # Joints of the description that the environment's robot lacks are welded at zero.
            dof_pos = torch.cat((dof_pos, torch.zeros_like(dof_pos[..., :1])), dim=-1)[..., self._robot_columns]
        return self._kinematics.positions(dof_pos)

    def initial_state(self, env_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """State to put the robots of some environments in, so that they begin on their reference.

        Args:
            env_ids: environments, (n,).

        Returns:
            Joint angles [rad] and velocities [rad/s], each (n, num_joints), and root states (n, 13): position,
            orientation xyzw, linear and angular velocity in the world.
        """
        return self.dof_pos[env_ids], self.dof_vel[env_ids], self.root_states[env_ids]

    # Time -------------------------------------------------------------------------------------------------------------

    def reset(
        self,
        env_ids: torch.Tensor | None = None,
        root_pose: torch.Tensor | None = None,
        commands: torch.Tensor | None = None,
    ) -> None:
        """Begin new motions; all other environments are left as they are.

        Args:
            env_ids: environments to reset, (n,); all by default.
            root_pose: x, y [m] and heading [rad] to begin at, (n, 3); zero by default.
            commands: vx, vy [m/s], yaw rate [rad/s], (n, 3), in force until the next reset; drawn by default, and then
                changing in time.

        Raises:
            ValueError: a shape does not fit, or a value is not finite.
        """
        rows = torch.arange(self.num_envs, device=self.device) if env_ids is None else env_ids.to(self.device).long()
        if len(rows) == 0:
            return
        drawn = self.sampler.reset(rows)
        if commands is not None:
            self.sampler.hold(rows)
        self.generator.reset(rows, commands=drawn if commands is None else commands, root_pose=root_pose)
        self._targets[rows] = self.target_commands[rows]
        self._anchor[rows] = 0.0
        self._forget()

    def step(self) -> None:
        """Let a control step pass for every environment."""
        self.generator.advance()
        self._step_count += 1
        if self.cfg.resample_commands:
            self._targets, _ = self.sampler.step(self._targets)
            if self._step_count % self.cfg.resampling_interval == 0:
                self.generator.update_commands(self._targets)
        self._forget()

    def set_commands(self, commands: torch.Tensor, env_ids: torch.Tensor | None = None) -> None:
        """Give commands that stay in force until the next reset; the motion goes on from the frame it is in.

        Args:
            commands: vx, vy [m/s], yaw rate [rad/s], (n, 3); held inside the range of the checkpoint.
            env_ids: environments concerned, (n,); all by default.

        Raises:
            ValueError: the shape does not fit, or a value is not finite.
        """
        rows = torch.arange(self.num_envs, device=self.device) if env_ids is None else env_ids.to(self.device).long()
        self.generator.update_commands(commands, rows)
        self._targets[rows] = self.target_commands[rows]
        self.sampler.hold(rows)
        self._forget()

    def set_root_pose(self, env_ids: torch.Tensor, root_pose: torch.Tensor) -> None:
        """Move the reference so that its root stands at a place now; the motion relative to it stays the same.

        Args:
            env_ids: environments, (n,).
            root_pose: x, y [m] and heading [rad], (n, 3).
        """
        if tuple(root_pose.shape) != (len(env_ids), 3):
            raise ValueError(f"root_pose must have shape {(len(env_ids), 3)}, got {tuple(root_pose.shape)}")
        # The move that takes the place shown now to the one asked for, after the move in force.
        turn = root_pose[:, 2] - yaw_from_quat(self.root_quat_w[env_ids])
        anchor, shown = self._anchor[env_ids], self.root_pos_w[env_ids]
        place = root_pose[:, :2] + rotate_xy(anchor[:, :2] - shown[:, :2], turn)
        self._anchor[env_ids] = torch.cat((place, (anchor[:, 2] + turn).unsqueeze(1)), dim=1)
        self._anchored = True
        self._forget()

    def state_dict(self) -> dict[str, Any]:
        """What resuming a training needs: the state of the command sampler. Motions begin anew."""
        return {"sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.sampler.load_state_dict(state["sampler"])

    # Inside -----------------------------------------------------------------------------------------------------------

    def _frames(self) -> MotionFrames:
        """The present frame and the configured ones ahead, fields of (num_envs, 1 + num_future_steps, ...)."""
        if self._window is None:
            self._window = self._placed(self.generator.future(self._steps))
        return self._window

    def _forget(self) -> None:
        self._window = None
        self._key_body_pos_b = None

    def _placed(self, frames: MotionFrames) -> MotionFrames:
        """Frames (num_envs, num_steps, ...) of the generator's world, moved to where the environments have them."""
        if not self._anchored:
            return frames
        turn = self._anchor[:, 2:].expand(frames.root_pos_w.shape[:2])  # (num_envs, num_steps)
        place = rotate_xy(frames.root_pos_w, turn) + self._anchor[:, None, :2]
        return MotionFrames(
            dof_pos=frames.dof_pos,
            dof_vel=frames.dof_vel,
            root_pos_w=torch.cat((place, frames.root_pos_w[..., 2:]), dim=-1),
            root_quat_w=quat_multiply(quat_from_yaw(turn), frames.root_quat_w),
            root_lin_vel_w=torch.cat((rotate_xy(frames.root_lin_vel_w, turn), frames.root_lin_vel_w[..., 2:]), dim=-1),
            root_ang_vel_w=torch.cat((rotate_xy(frames.root_ang_vel_w, turn), frames.root_ang_vel_w[..., 2:]), dim=-1),
        )

    def _needed_frames(self, fps: float) -> int:
        """Frames that realtime mode has to hold for the future steps."""
        return max(16, math.ceil(self._steps[-1] * fps * self.control_dt) + 8)

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


def _columns(frames: MotionFrames, columns: list[int]) -> MotionFrames:
    """Some steps of frames (num_envs, num_steps, ...): a view where they lie side by side."""
    first, count = columns[0], len(columns)
    index: slice | list[int] = columns
    if columns == list(range(first, first + count)):
        index = slice(first, first + count)
    return MotionFrames(**{item.name: getattr(frames, item.name)[:, index] for item in fields(frames)})
