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
    checked_env_ids,
    checked_motion,
    checked_start_frames,
    checked_tensor,
    whole_steps,
)
from cmg_ref.trajectories.buffer import MotionBuffer
from cmg_ref.trajectories.clock import FrameClock
from cmg_ref.trajectories.environment_changes import EnvironmentChanges
from cmg_ref.trajectories.joint_override import JointOverride
from cmg_ref.trajectories.memory import MemoryPlan, check_memory, plan_memory
from cmg_ref.trajectories.pool import SamplesCommands
from cmg_ref.trajectories.reader import MotionReader
from cmg_ref.trajectories.settings import MODES, CMGMotionGeneratorCfg
from cmg_ref.trajectories.start_states import EnvironmentDraws, InitialStates
from cmg_ref.trajectories.supply.factory import make_supply


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
        checkpoint: file, loaded checkpoint, or None for the one shipped with the package.
        num_envs: number of environments; as ``cfg`` says by default.
        device: device of everything.
        cfg: what to make; :class:`CMGMotionGeneratorCfg` with its defaults by default.
        robot: robot description; by default the one that the checkpoint names. It tells how poses load the feet, and
            the root of checkpoints without root channels.
        command_sampler: draws the commands of the pool's trajectories; by default one with default settings.
        settings: fields of ``cfg`` by name, in place of what it says.

    Attributes:
        rollout: advances the checkpoint's states.
        joint_names: joints in the order of everything returned.
        settings: what was asked for, with the mode it is in now.
        command_excess: by how much the commands last given were outside the trained range, (num_envs, command_dim).

    Raises:
        CheckpointError: the checkpoint cannot be used.
        MemoryError: there is not as much memory as it takes; nothing has been allocated.
        ValueError: an argument is impossible, or the joints do not match; the message names the argument or the joint.
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
        self.settings = cfg
        self.num_envs, self.control_dt = cfg.num_envs, cfg.control_dt
        self.device = checked_device(device, "device")
        self.checkpoint = load_checkpoint(checkpoint)
        self._robot = self.checkpoint.robot(robot, cfg.drop_joints)
        check_memory(cfg, self.checkpoint, command_sampler or CommandSampler(1), self.device)
        own_seed = cfg.seed + cfg.first_env
        self._sampler: SamplesCommands = command_sampler or CommandSampler(
            self.num_envs,
            control_dt=self.control_dt,
            device=self.device,
            seed=own_seed,
            layout=self.command_layout,
        )
        stance = self.checkpoint.standing_state(self._robot) if cfg.stand == "neutral" else None
        self.rollout = Rollout(
            self.checkpoint.model, self.device, dtype=cfg.compute_dtype, backend=cfg.backend, stance=stance
        )
        self.layout = StateLayout.with_root(self.checkpoint.layout.num_joints)
        self.joint_names, self._joint_columns = match_joints(
            self.checkpoint.joint_names, cfg.joint_names, cfg.drop_joints, self.device
        )
        self._clock = FrameClock(self.num_envs, self.checkpoint.fps * self.control_dt, self.device)
        self._reader = MotionReader(self._clock, self._joint_columns, hold=cfg.at_end == "hold")
        self.command_excess = torch.zeros(self.num_envs, self.command_layout.size, device=self.device)
        self._initial_states = InitialStates(self.checkpoint, self.rollout, self._robot, cfg.stand)
        self._draws = EnvironmentDraws(self.num_envs, cfg.first_env, cfg.seed, self.device)
        self._override: JointOverride | None = None
        self._random = torch.Generator(device=self.device).manual_seed(own_seed)
        self._generation_seconds, self._advance_seconds, self._advance_calls = 0.0, 0.0, 0
        self._allocate(cfg.mode)
        self.reset()
        self._supply.forget_use()  # This first reset is only there for who never asks for one.

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: make another with the same arguments")

    @property
    def mode(self) -> str:
        """``"pregenerated"`` or ``"realtime"``."""
        return self.settings.mode

    @property
    def buffer(self) -> MotionBuffer:
        """The stored motions, in the frames of their own; in realtime mode motion i is that of environment i."""
        return self._buffer

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
            checkpoint: as for the generator.
            device: as for the generator.
            command_sampler: as for the generator; only matters with a pool.
            cfg: as for the generator.
            settings: as for the generator.

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
        dof_pos, dof_vel = self._reader.joints()
        if self._override is not None:
            dof_pos, dof_vel = self._override.joints(dof_pos, dof_vel)
        if env_ids is None:
            return dof_pos, dof_vel
        rows = self._rows(env_ids)
        return dof_pos[rows], dof_vel[rows]

    @with_torch_defaults
    def get_frames(self, env_ids: EnvIds | None = None) -> MotionFrames:
        """Joints and root shown now, fields of (num_envs or len(env_ids), ...)."""
        frames = self._reader.frames()
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
        return self._buffer.commands.value(self._clock.shown, self._supply.motions)

    @property
    @with_torch_defaults
    def target_commands(self) -> torch.Tensor:
        """Commands that the ones in force ramp to, (num_envs, command_dim)."""
        return self._buffer.commands.target(self._clock.shown, self._supply.motions)

    @with_torch_defaults
    def future(self, steps: int | Sequence[int]) -> MotionFrames:
        """What will be shown if no command changes (but by the schedule of a pool's trajectory).

        Args:
            steps: number of coming control steps, or the steps asked for (0 is now).

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
            steps: steps of which everything is asked for, at least one.
            joint_steps: steps of which the joint angles are asked for.

        Returns:
            Fields of (num_envs, len(steps), ...), and joint angles [rad], (num_envs, len(joint_steps), num_joints).

        Raises:
            ValueError: as of :meth:`future`.
        """
        frames, dof_pos = self._reader.future(self._checked_steps(steps), self._checked_steps((0, *joint_steps))[1:])
        if self._override is None:
            return frames, dof_pos
        return self._override.frames(frames), self._override.positions(dof_pos)

    @property
    def standing_states(self) -> torch.Tensor:
        """States at rest on both feet that motions may begin from, (num_standing, state_dim) of the checkpoint."""
        return self._initial_states.standing

    @property
    def max_future_steps(self) -> int:
        """Furthest control step that :meth:`future` can be asked for."""
        return max(0, int((self._supply.max_demand - 2) / self._clock.frames_per_step))

    @property
    def last_start_frame(self) -> int:
        """Latest frame of its trajectory that a reset can begin at; 0 without a pool."""
        return self._supply.last_start

    # Time -------------------------------------------------------------------------------------------------------------

    @with_torch_defaults
    def advance(self) -> None:
        """Let a control step pass for every environment."""
        started = time.perf_counter()
        self._reader.forget()
        if self._changes is not None:
            self._supply.catch_up()
            self._changes.advance()
            self.rollout.frame_count += self.num_envs
        else:
            self._clock.advance()
            self._supply.advance()
            self._reader.locate()
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
            env_ids: environments to reset, (n,); all by default.
            init_motion: states to start from, (n, state_dim) of the checkpoint, or joint angles and velocities in the
                order of ``joint_names``, each (n, num_joints), whose root is the nearest initial state's. By default
                one of the checkpoint's initial states that did what the command asks for, or a trajectory of the pool.
            commands: commands (n, command_dim), see ``command_layout``. They are ramped from what the initial state was
                doing; with ``init_motion`` they are in force at once. From a pool, the trajectories are taken that are
                told nearly the same where they are entered, and ``target_commands`` says what. By default the commands
                in force are kept; a pool gives any trajectory.
            root_pose: where the motion begins in the world: x, y [m], heading [rad], (n, 3); the origin by default.
            start_frames: with a pool, frames of the trajectories to begin at, (n,), at most ``last_start_frame``, or
                ``"random"``; the first by default.

        Raises:
            ValueError: an argument has another shape than it should, or ``start_frames`` is given without a pool;
                nothing has been changed.
        """
        rows = self._rows(env_ids)
        num = len(rows)
        by_kernels = self._changes is not None and init_motion is None  # They clean what they are given themselves.
        shape = (num, self.command_layout.size)
        given = None if commands is None else self._checked(commands, shape, "commands", not by_kernels)
        if root_pose is not None:
            root_pose = self._checked(root_pose, (num, NUM_POSE), "root_pose", not by_kernels)
        begun = None
        if init_motion is not None:
            state_dim, num_joints = self.checkpoint.layout.size, len(self.joint_names)
            begun = checked_motion(init_motion, num, num_joints, state_dim, self.device)
        start_frames = checked_start_frames(start_frames, num, self.last_start_frame, self.device)
        if start_frames is not None and (not self.settings.pooled or begun is not None):
            raise ValueError("start_frames needs a pool to begin in, and no init_motion")
        if num == 0:
            return
        if self._changes is not None and begun is None:
            self._reader.forget()
            self._changes.begin(rows, given, root_pose)
            self._supply.refresh(rows)
            return
        targets = None if given is None else self._clamped(given, rows)
        if root_pose is None:
            root_pose = torch.zeros(num, NUM_POSE, device=self.device)
        self._reader.forget()
        entered = self._supply.hand_out(rows, targets, start_frames) if begun is None else None
        if entered is not None:
            self._clock.set(rows, entered)
            self._reader.anchor(rows, root_pose)
            return
        if targets is None:
            targets = self.target_commands[rows]
        states, own_commands, following = self._initial(rows, targets, begun)
        self._clock.set(rows, 0)
        # The ramp begins at what the initial state was doing, so that a start from standing is a start from zero.
        self._restart(rows, states, following, root_pose, torch.zeros_like(rows), own_commands, targets)
        self._reader.place_in_world(rows)
        if self._changes is not None:
            self._changes.locate()

    @with_torch_defaults
    def update_commands(self, commands: Values, env_ids: EnvIds | None = None) -> None:
        """Give new commands; the motion goes on from the frame being shown, and frames planned beyond it are replaced.

        Environments whose command does not change are left alone. Those that are shown a trajectory of a pool leave it.

        Args:
            commands: (num_envs or len(env_ids), command_dim); held inside the trained range, and ``command_excess``
                says by how much.
            env_ids: environments concerned, (n,); all by default.
        """
        rows = self._rows(env_ids)
        by_kernels = self._changes is not None and len(rows) <= self._most_told
        commands = self._checked(commands, (len(rows), self.command_layout.size), "commands", not by_kernels)
        if self._changes is not None and by_kernels:
            if len(rows) > 0:
                self._reader.forget()
                self._changes.tell(rows, commands)
                self._supply.refresh(rows)
            return
        targets = self._clamped(commands, rows)
        changed = (targets != self.target_commands[rows]).any(dim=1).nonzero().squeeze(1)
        if len(changed) == 0:
            return
        if len(changed) < len(rows):
            rows, targets = rows[changed], targets[changed]
        self._reader.stop_at_ends()
        self._supply.need(self._clock.reach())
        base = self._clock.latest(rows)  # Between two frames the later one is already on show.
        self._reader.forget()
        motions = self._supply.take_over(rows, base)
        self._buffer.commands.set_target(motions, base, targets)
        self._buffer.truncate(motions, base)
        self._supply.refresh(rows)

    @with_torch_defaults
    def set_root_pose(self, root_pose: Values, env_ids: EnvIds | None = None) -> None:
        """Put the root that is shown now at x, y [m], heading [rad], (num_envs or len(env_ids), 3), in the world."""
        rows = self._rows(env_ids)
        self._reader.anchor(rows, self._checked(root_pose, (len(rows), NUM_POSE), "root_pose"))

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
            joint_names: joints that are driven, none of a leg; others that were driven before still are.
            positions: their angles [rad], (num_envs or len(env_ids), len(joint_names)), held inside their limits.
            velocities: their velocities [rad/s], the same shape; 0 by default.
            env_ids: environments concerned, (n,); all by default.

        Raises:
            ValueError: a joint is unknown, named twice or one of a leg, or a shape does not fit; nothing has been
                changed.
        """
        rows, names = self._rows(env_ids), tuple(joint_names)
        override = self._override or JointOverride(self.num_envs, self.joint_names, self._robot, self.device)
        columns, shape = override.columns(names), (len(rows), len(names))
        positions = self._checked(positions, shape, "positions")
        given = torch.zeros(shape, device=self.device) if velocities is None else velocities
        override.drive(rows, columns, positions, self._checked(given, shape, "velocities"))
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
        if mode == self.mode:
            return
        self._reader.stop_at_ends()
        self._supply.need(1)
        frames = torch.stack((self._clock.shown, self._clock.shown + 1), dim=1)
        states, seen, poses = self._buffer.store.read_states(frames, self._supply.motions)
        first_frames, starts, targets = self._buffer.commands.segment(self._clock.shown, self._supply.motions)
        first_frames = first_frames - self._clock.shown
        self._generation_seconds += self._buffer.seconds
        self._allocate(mode)
        rows = torch.arange(self.num_envs, device=self.device)
        first = states[:, 0, : self.checkpoint.layout.size]
        self._restart(rows, first, first, poses[:, 0], first_frames, starts, targets)
        motions = self._supply.motions_of(rows)
        for frame in (0, 1):
            at = torch.full_like(rows, frame)
            self._buffer.store.write(at, states[:, frame], seen[:, frame], poses[:, frame], motions)
        # Between two frames the later one is on show too, so generation goes on from it.
        self._buffer.truncate(motions, self._clock.latest(rows))

    def get_performance_stats(self) -> dict[str, Any]:
        """Counters since construction: frames, seconds, memory, and how often the guard and the command range acted.

        On a GPU the seconds are those of the host, which does not wait for the device.
        """
        frames, seconds = self.rollout.frame_count, self._generation_seconds + self._buffer.seconds
        stats = {
            "mode": self.mode,
            "num_envs": self.num_envs,
            "frames_generated": frames,
            "generation_seconds": seconds,
            "frames_per_second": frames / seconds if seconds > 0 else 0.0,
            "advance_calls": self._advance_calls,
            "mean_advance_ms": 1e3 * self._advance_seconds / max(1, self._advance_calls),
            "memory_bytes": self._buffer.num_bytes,
            "guard_share": float(self.rollout.guard_count) / max(1, frames),
            "commands_clamped_share": float((self.command_excess > 0).any(dim=1).float().mean()),
            "largest_command_excess": self.command_excess.amax(dim=0).tolist(),
        }
        return {**stats, **self._supply.stats()}

    # Inside -----------------------------------------------------------------------------------------------------------

    @property
    def _most_told(self) -> int:
        """Commands that may be given without looking which of them change: each given costs the frames kept ready."""
        return max(1, self.num_envs // 8) if self._supply.demand > 0 else self.num_envs

    def _allocate(self, mode: str) -> None:
        """Make the buffer and the supply of a mode; every clock counts anew."""
        self.settings = replace(self.settings, mode=mode)
        self._clock.count_anew()
        self._buffer, self._supply = make_supply(
            self.settings,
            self.checkpoint,
            self.rollout,
            self._clock,
            self._initial_states,
            self._random,
            self._sampler,
            self._robot,
            motions_follow_commands,
        )
        kernels = self.rollout.kernels
        self._reader.attach(self._buffer.store, self._supply, kernels is not None)
        self._changes: EnvironmentChanges | None = None
        if kernels is not None and self._supply.in_step:
            self._changes = self._buffer.recorded_changes(
                self._reader, self._initial_states, self._draws, self.command_excess
            )
            if self._changes is not None:
                self._reader.follow(self._changes.located, self._changes.joints)

    def _restart(
        self,
        rows: torch.Tensor,
        states: torch.Tensor,
        following: torch.Tensor,
        poses: torch.Tensor,
        first_frames: torch.Tensor,
        starts: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        """Begin motions of their own at states (n, state_dim), whose commands ramp from frames ``first_frames`` on."""
        motions = self._supply.take_over(rows)
        self._buffer.commands.begin(motions, first_frames, starts, targets)
        self._buffer.restart(motions, states, following, poses)
        self._supply.refresh(rows)

    def _rows(self, env_ids: EnvIds | None) -> torch.Tensor:
        return checked_env_ids(env_ids, self.num_envs, self.device)

    def _initial(
        self,
        rows: torch.Tensor,
        commands: torch.Tensor,
        init_motion: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States (n, state_dim) to start from, commands they were doing, states (n, state_dim) a frame later."""
        states, own_commands, following = self._initial_states.choose(commands, self._draws(rows))
        if init_motion is None:
            return states, own_commands, following
        if isinstance(init_motion, torch.Tensor):
            states = init_motion
        else:
            columns = self._joint_columns
            if columns is None:
                columns = torch.arange(len(self.joint_names), device=self.device)
            for values, channel in zip(init_motion, ("dof_pos", "dof_vel")):
                states[:, self.layout[channel].start + columns] = values
        states = self.rollout.model.guard(states)
        return states, commands, self.rollout.advance(states, commands)

    def _clamped(self, commands: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Commands held inside the trained range; remembers by how much they exceeded it."""
        clamped = self.rollout.model.clamp_command(commands)
        self.command_excess[rows] = (commands - clamped).abs()
        return clamped

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

    def _checked(self, values: Values, shape: tuple[int, ...], name: str, clean: bool = True) -> torch.Tensor:
        return checked_tensor(values, shape, name, self.device, clean)


def _settings(cfg: CMGMotionGeneratorCfg | None, changes: dict[str, Any]) -> CMGMotionGeneratorCfg:
    """Settings with some changed, checked."""
    cfg = replace(cfg or CMGMotionGeneratorCfg(), **changes)
    cfg.validate()
    return cfg
