"""`CMGMotionGenerator`: a reference motion for every environment, at every control step, from velocity commands."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Sequence

import torch

from cmg_ref.commands.sampler import CommandSampler
from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.devices import checked_device
from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.core.shorten import shortened
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.evaluation.command_following import motions_follow_commands
from cmg_ref.frames.store import NUM_POSE
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.robots.joint_matching import match_joints
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories.argument_checks import (
    EnvIds,
    Values,
    checked_commands,
    checked_env_ids,
    checked_motion,
    checked_start_frames,
    checked_tensor,
    whole_steps,
)
from cmg_ref.trajectories.buffer import MotionBuffer
from cmg_ref.trajectories.joint_override import JointOverride
from cmg_ref.trajectories.memory import MemoryPlan, check_memory, plan_memory
from cmg_ref.trajectories.pool import SamplesCommands
from cmg_ref.trajectories.settings import MODES, CMGMotionGeneratorCfg
from cmg_ref.trajectories.supply.shown_motions import ShownMotions


class CMGMotionGenerator:
    """Reference motions for many environments at once.

    In *realtime* mode every environment has a ring buffer of ``buffer_size`` frames, which each step extends by one. In
    *pregenerated* mode a reset generates ``preload_duration`` frames for the environments concerned and a step only
    reads; it suits episodes whose commands seldom change, for a change generates the rest anew. Both give the same
    motion for the same commands (of a checkpoint without root channels: the same joints), and in both a command may
    change at any step for any environments: the motion goes on from the frame being shown.

    Pregenerated mode with a *pool* generates nothing at a reset: each trajectory of the pool has a schedule of commands
    of its own, a reset points the environment at one, and used ones are generated anew in large batches, a few frames
    per step. An environment that comes to the end of its trajectory or is given a command goes on by itself from the
    frame being shown, as in realtime mode, until its next reset.

    The model advances at the checkpoint's own rate; where the control rate differs, readers see the motion between two
    of its frames (joint angles and velocities on one cubic polynomial).

    Environments are named by indices (n,), each once, by a mask (num_envs,), bool or uint8, or by None for all. They,
    and commands and all other numbers, may be tensors on any device, NumPy arrays or lists; what does not fit is
    refused with the argument's name. Numbers that are not finite are refused where they lie on the CPU; on another
    device, where looking would take waiting, they become 0. Everything returned is in float32, whatever torch's
    default. A generator cannot be copied or pickled.

    A typical loop::

        generator = CMGMotionGenerator(num_envs=4096, mode="realtime")
        generator.reset(commands=commands)
        while True:
            dof_pos, dof_vel = generator.get_motion()
            ...
            generator.advance()

    Args:
        checkpoint: File, loaded checkpoint, or None for the one shipped with the package.
        num_envs: Number of environments; as ``cfg`` says by default.
        device: Device of everything.
        cfg: What to make; :class:`CMGMotionGeneratorCfg` with its defaults by default.
        robot: Robot description; by default the one that the checkpoint names. It tells how poses load the feet, and
            the root of checkpoints without root channels.
        command_sampler: Draws the commands of the pool's trajectories; by default one with default settings.
        settings: Fields of ``cfg`` by name, in place of what it says.

    Attributes:
        rollout: Advances the checkpoint's states.
        joint_names: Joints in the order of everything returned.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        MemoryError: There is not as much memory as it takes; nothing has been allocated.
        ValueError: An argument is impossible, or the joints do not match; the message names the argument or the joint.
    """

    @with_torch_defaults
    def __init__(
        self,
        checkpoint: str | Path | Checkpoint | None = None,
        num_envs: int | None = None,
        device: str | torch.device = "cpu",
        *,
        cfg: CMGMotionGeneratorCfg | None = None,
        robot: Robot | None = None,
        command_sampler: SamplesCommands | None = None,
        **settings: Any,
    ) -> None:
        cfg = _settings(cfg, settings if num_envs is None else {**settings, "num_envs": num_envs})
        self.num_envs, self.control_dt = cfg.num_envs, cfg.control_dt
        self.device = checked_device(device, "device")
        self.checkpoint = load_checkpoint(checkpoint)
        self._robot = robot = self.checkpoint.robot(robot, cfg.drop_joints)
        check_memory(cfg, self.checkpoint, command_sampler or CommandSampler(1), self.device)
        sampler: SamplesCommands = command_sampler or CommandSampler(
            self.num_envs,
            control_dt=self.control_dt,
            device=self.device,
            seed=cfg.seed + cfg.first_env,
            layout=self.command_layout,
        )
        stance = self.checkpoint.stances(robot) if cfg.stand == "neutral" else None
        self.rollout = Rollout(
            self.checkpoint.model, self.device, dtype=cfg.compute_dtype, backend=cfg.backend, stance=stance
        )
        self.layout = StateLayout.with_root(self.checkpoint.layout.num_joints)
        self.joint_names, columns = match_joints(
            self.checkpoint.joint_names, cfg.joint_names, cfg.drop_joints, self.device
        )
        self._shown = ShownMotions(cfg, self.checkpoint, self.rollout, robot, sampler, columns, motions_follow_commands)
        self._override: JointOverride | None = None
        self._advance_seconds, self._advance_calls = 0.0, 0
        self.reset()
        self._shown.supply.forget_use()  # That reset lets callers read before their own; it hands nothing out.

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: make another with the same arguments")

    @property
    def settings(self) -> CMGMotionGeneratorCfg:
        """What was asked for, with the mode it is in now."""
        return self._shown.settings

    @property
    def command_excess(self) -> torch.Tensor:
        """By how much the commands last given were outside the trained range, (num_envs, command_dim)."""
        return self._shown.command_excess

    @property
    def mode(self) -> str:
        """``"pregenerated"`` or ``"realtime"``."""
        return self.settings.mode

    @property
    def buffer(self) -> MotionBuffer:
        """The stored motions, in the frames of their own; in realtime mode motion i is that of environment i."""
        return self._shown.buffer

    @property
    def backend(self) -> str:
        """What makes and reads the frames: ``"torch"``, ``"numba"`` or ``"cuda_graph"``."""
        return self.rollout.backend

    @staticmethod
    def memory_required(
        checkpoint: str | Path | Checkpoint | None = None,
        device: str | torch.device = "cpu",
        command_sampler: SamplesCommands | None = None,
        *,
        cfg: CMGMotionGeneratorCfg | None = None,
        **settings: Any,
    ) -> MemoryPlan:
        """Memory that a generator would take; allocates nothing.

        Args:
            checkpoint: As for the generator.
            device: As for the generator.
            command_sampler: As for the generator; only matters with a pool.
            cfg: As for the generator.
            settings: As for the generator.

        Returns:
            Bytes by purpose, and their ``total``.

        Raises:
            ValueError: a setting is impossible.
        """
        wanted, loaded = _settings(cfg, settings), load_checkpoint(checkpoint)
        return plan_memory(wanted, loaded, command_sampler or CommandSampler(1), checked_device(device, "device"))

    # Reading ----------------------------------------------------------------------------------------------------------

    @with_torch_defaults
    def get_motion(self, env_ids: EnvIds | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Joint angles [rad] and velocities [rad/s] shown now, each (num_envs or len(env_ids), num_joints).

        They are views of what the generator keeps: copy them before writing into them.
        """
        dof_pos, dof_vel = self._shown.reader.joints()
        if self._override is not None:
            dof_pos, dof_vel = self._override.joints(dof_pos, dof_vel)
        if env_ids is None:
            return dof_pos, dof_vel
        rows = self._rows(env_ids)
        return dof_pos[rows], dof_vel[rows]

    @with_torch_defaults
    def get_frames(self, env_ids: EnvIds | None = None) -> MotionFrames:
        """Joints and root shown now, fields of (num_envs or len(env_ids), ...)."""
        frames = self._shown.reader.frames()
        if self._override is not None:
            frames = self._override.frames(frames)
        return frames if env_ids is None else frames.select(self._rows(env_ids))

    @property
    def root_states(self) -> torch.Tensor:
        """Root shown now, (num_envs, 13): position, orientation xyzw, linear and angular velocity, all in the world."""
        frames = self.get_frames()
        return torch.cat((frames.root_pos_w, frames.root_quat_w, frames.root_lin_vel_w, frames.root_ang_vel_w), dim=1)

    @property
    def command_layout(self) -> CommandLayout:
        """Channels of a command."""
        return self.checkpoint.command_layout

    @property
    @with_torch_defaults
    def commands(self) -> torch.Tensor:
        """Smoothed commands in force, (num_envs, command_dim)."""
        return self._shown.commands

    @property
    @with_torch_defaults
    def target_commands(self) -> torch.Tensor:
        """Commands that the ones in force ramp to, (num_envs, command_dim)."""
        return self._shown.target_commands

    @with_torch_defaults
    def future(self, steps: int | Sequence[int]) -> MotionFrames:
        """What will be shown if no command changes (but by the schedule of a pool's trajectory).

        Args:
            steps: Number of coming control steps, or the steps asked for (0 is now).

        Returns:
            Fields of (num_envs, number of steps, ...).

        Raises:
            ValueError: a step is negative or beyond what the buffer holds.
        """
        return self.window(self._checked_steps(steps), ())[0]

    @with_torch_defaults
    def window(self, steps: Sequence[int], joint_steps: Sequence[int]) -> tuple[MotionFrames, torch.Tensor]:
        """Two kinds of :meth:`future` in one: of further steps the joint angles alone, a third of the bytes.

        Args:
            steps: Steps of which everything is asked for, at least one.
            joint_steps: Steps of which the joint angles are asked for.

        Returns:
            Fields of (num_envs, len(steps), ...), and joint angles [rad], (num_envs, len(joint_steps), num_joints).

        Raises:
            ValueError: As of :meth:`future`.
        """
        ahead = self._checked_steps(steps), self._checked_steps((0, *joint_steps))[1:]
        frames, dof_pos = self._shown.reader.future(*ahead)
        if self._override is None:
            return frames, dof_pos
        return self._override.frames(frames), self._override.positions(dof_pos)

    @property
    def standing_states(self) -> torch.Tensor:
        """States at rest on both feet that motions may begin from, (num_standing, state_dim) of the checkpoint."""
        return self._shown.initial_states.standing

    @property
    def max_future_steps(self) -> int:
        """Furthest control step that :meth:`future` can be asked for."""
        return max(0, int((self._shown.supply.max_demand - 2) / self._shown.clock.frames_per_step))

    @property
    def last_start_frame(self) -> int:
        """Latest frame of its trajectory that a reset can begin at; 0 without a pool."""
        return self._shown.supply.last_start

    # Time -------------------------------------------------------------------------------------------------------------

    @with_torch_defaults
    def advance(self) -> None:
        """Let a control step pass for every environment."""
        started = time.perf_counter()
        self._shown.advance()
        self._advance_seconds += time.perf_counter() - started
        self._advance_calls += 1

    @with_torch_defaults
    def reset(
        self,
        env_ids: EnvIds | None = None,
        init_motion: Values | tuple[Values, Values] | None = None,
        commands: Values | None = None,
        root_pose: Values | None = None,
        start_frames: Values | str | None = None,
    ) -> None:
        """Begin new motions; all other environments are left exactly as they are.

        Args:
            env_ids: Environments to reset, (n,); all by default.
            init_motion: States to start from, (n, state_dim) of the checkpoint, with or without the phase of the
                stride, or joint angles and velocities in the order of ``joint_names``, each (n, num_joints), whose root
                is the nearest initial state's. By default
                one of the checkpoint's initial states that did what the command asks for, or a trajectory of the pool.
            commands: Commands (n, command_dim), see ``command_layout``, or velocities alone, (n, 3). They are ramped
                from what the initial state was doing; with ``init_motion`` they are in force at once. From a pool, the
                trajectories are taken that are told nearly the same where they are entered, and ``target_commands``
                says what. By default the commands in force are kept; a pool gives any trajectory.
            root_pose: Where the motion begins in the world: x, y [m], heading [rad], (n, 3); the origin by default.
            start_frames: With a pool, frames of the trajectories to begin at, (n,), at most ``last_start_frame``, or
                ``"random"``; the first by default.

        Raises:
            ValueError: An argument has another shape than it should, or ``start_frames`` is given without a pool;
                nothing has been changed.
        """
        rows = self._rows(env_ids)
        num = len(rows)
        clean = self._shown.changes is None or init_motion is not None  # Kernels clean what they are given themselves.
        given = None
        if commands is not None:
            given = checked_commands(commands, num, self.command_layout, self.device, clean)
        if root_pose is not None:
            root_pose = checked_tensor(root_pose, (num, NUM_POSE), "root_pose", self.device, clean)
        begun = None
        if init_motion is not None:
            begun = checked_motion(init_motion, num, len(self.joint_names), self.checkpoint.layout, self.device)
        start_frames = checked_start_frames(start_frames, num, self.last_start_frame, self.device)
        if start_frames is not None and (not self.settings.pooled or begun is not None):
            raise ValueError("start_frames needs a pool to begin in, and no init_motion")
        if num > 0:
            self._shown.begin(rows, given, root_pose, start_frames, begun)

    @with_torch_defaults
    def update_commands(self, commands: Values, env_ids: EnvIds | None = None) -> None:
        """Give new commands; the motion goes on from the frame being shown, and frames planned beyond it are replaced.

        Environments whose command does not change are left alone. Those that are shown a trajectory of a pool leave it.

        Args:
            commands: (num_envs or len(env_ids), command_dim), or their velocities alone, (..., 3); held inside the
                trained range, and ``command_excess`` says by how much.
            env_ids: Environments concerned, (n,); all by default.
        """
        rows = self._rows(env_ids)
        clean = not self._shown.told_by_kernels(len(rows))
        self._shown.tell(rows, checked_commands(commands, len(rows), self.command_layout, self.device, clean))

    @with_torch_defaults
    def set_root_pose(self, root_pose: Values, env_ids: EnvIds | None = None) -> None:
        """Put the root that is shown now at x, y [m], heading [rad], (num_envs or len(env_ids), 3), in the world."""
        rows = self._rows(env_ids)
        pose = checked_tensor(root_pose, (len(rows), NUM_POSE), "root_pose", self.device)
        self._shown.reader.anchor(rows, pose)

    @with_torch_defaults
    def override(
        self,
        joint_names: Sequence[str],
        positions: Values,
        velocities: Values | None = None,
        env_ids: EnvIds | None = None,
    ) -> None:
        """Show joints as somebody else drives them, until they are given anew or released, resets included.

        What is read shows them, now and at all steps ahead alike; the motion that is generated is not touched. The legs
        stay the generator's.

        Args:
            joint_names: Joints that are driven, none of a leg; others that were driven before still are.
            positions: Their angles [rad], (num_envs or len(env_ids), len(joint_names)), held inside their limits.
            velocities: Their velocities [rad/s], the same shape; 0 by default.
            env_ids: Environments concerned, (n,); all by default.

        Raises:
            ValueError: A joint is unknown, named twice or one of a leg, or a shape does not fit; nothing has been
                changed.
        """
        rows, names = self._rows(env_ids), tuple(joint_names)
        override = self._override or JointOverride(self.num_envs, self.joint_names, self._robot, self.device)
        columns, shape = override.columns(names), (len(rows), len(names))
        positions = checked_tensor(positions, shape, "positions", self.device)
        given = torch.zeros(shape, device=self.device) if velocities is None else velocities
        override.drive(rows, columns, positions, checked_tensor(given, shape, "velocities", self.device))
        self._override = override

    def release(self, env_ids: EnvIds | None = None) -> None:
        """Show all joints of environments (n,) as they are generated again; of all environments by default."""
        rows = self._rows(env_ids)
        if env_ids is None:
            self._override = None
        elif self._override is not None:
            self._override.release(rows)

    @with_torch_defaults
    def switch_mode(self, mode: str) -> None:
        """Go on in the other mode; what is shown now and the ramps of the commands carry over."""
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got '{mode}'")
        if mode != self.mode:
            self._shown.switch_mode(mode)

    def get_performance_stats(self) -> dict[str, Any]:
        """Counters since construction: frames, seconds, memory, and how often the guard and the command range acted.

        On a GPU the seconds are those of the host, which does not wait for the device.
        """
        frames, seconds = self.rollout.frame_count, self._shown.seconds
        stats = {
            "mode": self.mode,
            "num_envs": self.num_envs,
            "frames_generated": frames,
            "generation_seconds": seconds,
            "frames_per_second": frames / seconds if seconds > 0 else 0.0,
            "advance_calls": self._advance_calls,
            "mean_advance_ms": 1e3 * self._advance_seconds / max(1, self._advance_calls),
            "memory_bytes": self.buffer.num_bytes,
            "guard_share": float(self.rollout.guard_count) / max(1, frames),
            "commands_clamped_share": float((self.command_excess > 0).any(dim=1).float().mean()),
            "largest_command_excess": self.command_excess.amax(dim=0).tolist(),
        }
        return {**stats, **self._shown.supply.stats()}

    # Inside -----------------------------------------------------------------------------------------------------------

    def _rows(self, env_ids: EnvIds | None) -> torch.Tensor:
        return checked_env_ids(env_ids, self.num_envs, self.device)

    def _checked_steps(self, steps: int | Sequence[int]) -> list[int]:
        """Control steps ahead that are asked for, none beyond what is held."""
        offsets = whole_steps(steps)
        furthest = self.max_future_steps
        if not offsets or min(offsets) < 0 or max(offsets) > furthest:
            ready = self.mode == "pregenerated" and not self.settings.pooled
            longer = "preload_duration" if ready else "buffer_size"
            raise ValueError(
                f"future: steps must lie in 0 to {furthest} with mode='{self.mode}' and {longer}="
                f"{getattr(self.settings, longer)}, got {shortened(steps)}; a larger {longer} reaches further"
            )
        return offsets


def _settings(cfg: CMGMotionGeneratorCfg | None, changes: dict[str, Any]) -> CMGMotionGeneratorCfg:
    """Settings with some changed, checked."""
    cfg = replace(cfg or CMGMotionGeneratorCfg(), **changes)
    cfg.validate()
    return cfg
