"""`CMGMotionGenerator`: a reference motion for every environment, at every control step, from velocity commands."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Sequence, Union

import torch

from cmg_ref.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.commands import CommandSampler
from cmg_ref.initial_states import InitialStates
from cmg_ref.joint_matching import match_joints
from cmg_ref.layout import StateLayout
from cmg_ref.motion_buffer import MotionBuffer
from cmg_ref.planners import PreloadPlanner, RealtimePlanner
from cmg_ref.pooled_planner import PooledPlanner
from cmg_ref.robot import Robot
from cmg_ref.rollout import Rollout
from cmg_ref.trajectory_pool import SamplesCommands, TrajectoryPool, TrajectoryPoolCfg
from cmg_ref.trajectory_store import NUM_POSE, MotionFrames, place, rotate_xy

MODES = ("pregenerated", "realtime")
AT_END = ("regenerate", "hold")

Planner = Union[RealtimePlanner, PreloadPlanner, PooledPlanner]


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

    A typical loop::

        generator = CMGMotionGenerator(num_envs=4096, mode="realtime")
        generator.reset(commands=commands)
        while True:
            dof_pos, dof_vel = generator.get_motion()
            ...
            generator.advance()

    Args:
        checkpoint: file, loaded checkpoint, or None for the one shipped with the package.
        num_envs: number of environments.
        device: device of everything.
        mode: ``"pregenerated"`` or ``"realtime"``.
        preload_duration: frames generated at a reset in pregenerated mode, or of each trajectory of a pool.
        buffer_size: frames held per environment in realtime mode, and by environments that have left the pool.
        control_dt: time of a control step [s].
        refill_frames: in realtime mode, frames generated at a time; None takes half of the buffer. Where not every
            step brings a frame, environments take turns, so that every step does the same work.
        interpolation_steps: frames over which a command ramps to a new one.
        at_end: in pregenerated mode, what environments do past their last frame: ``"regenerate"`` goes on from there,
            ``"hold"`` stands in the last pose with zero velocity.
        joint_names: joints and their order in everything returned; the checkpoint's by default.
        drop_joints: joints of the checkpoint that ``joint_names`` leaves out on purpose.
        storage_dtype: type of the stored frames; float16 halves the memory, at an error of 1e-3 rad in the joints and
            0.02 m/s in the root's vertical velocity.
        compute_dtype: type the network computes in; bfloat16 takes about half the time (float16 only on a GPU), at an
            error of a few milliradians in the joints after ten seconds.
        seed: seed for the choice of initial states, trajectories and start frames.
        robot: robot description; the shipped G1 by default. Only used by checkpoints without root channels.
        pool: pregenerated mode is served from a pool of this kind; None generates at each reset.
        command_sampler: draws the commands of the pool's trajectories; by default one with default settings.

    Attributes:
        rollout: advances the checkpoint's states.
        joint_names: joints in the order of everything returned.
        command_excess: by how much the commands last given were outside the trained range, (num_envs, 3).

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ValueError: an argument is impossible, or the joints do not match; the message names the argument or the joint.
    """

    def __init__(
        self,
        checkpoint: str | Path | Checkpoint | None = None,
        num_envs: int = 4096,
        device: str | torch.device = "cpu",
        mode: str = "pregenerated",
        preload_duration: int = 500,
        buffer_size: int = 100,
        control_dt: float = 0.02,
        refill_frames: int | None = 1,
        interpolation_steps: int = 25,
        at_end: str = "regenerate",
        joint_names: Sequence[str] | None = None,
        drop_joints: Sequence[str] = (),
        storage_dtype: torch.dtype = torch.float32,
        compute_dtype: torch.dtype = torch.float32,
        seed: int = 0,
        robot: Robot | None = None,
        pool: TrajectoryPoolCfg | None = None,
        command_sampler: SamplesCommands | None = None,
    ) -> None:
        self.checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        _check_arguments(mode, at_end, num_envs, preload_duration, buffer_size, control_dt, refill_frames)
        if storage_dtype not in (torch.float32, torch.float16):
            raise ValueError(f"storage_dtype must be torch.float32 or torch.float16, got {storage_dtype}")
        if pool is not None:
            pool.validate()
            if preload_duration < buffer_size:
                raise ValueError(
                    f"with a pool preload_duration must be at least buffer_size, got {preload_duration} < {buffer_size}"
                )
        self.num_envs, self.device = num_envs, torch.device(device)
        self.preload_duration, self.buffer_size = preload_duration, buffer_size
        self.refill_frames, self.at_end, self.interpolation_steps = refill_frames, at_end, interpolation_steps
        self.control_dt = control_dt
        self.rollout = Rollout(self.checkpoint.model, self.device, dtype=compute_dtype)
        self.layout = StateLayout.with_root(self.checkpoint.layout.num_joints)
        frames_per_step = self.checkpoint.fps * control_dt
        self._same_rate = abs(frames_per_step - 1.0) < 1e-6
        self._frames_per_step = 1.0 if self._same_rate else frames_per_step
        self.joint_names, self._joint_columns = match_joints(
            self.checkpoint.joint_names, joint_names, drop_joints, self.device
        )
        self.command_excess = torch.zeros(num_envs, 3, device=self.device)
        self._initial_states = InitialStates(self.checkpoint, self.device, seed)
        self._generation_seconds, self._advance_seconds, self._advance_calls = 0.0, 0.0, 0
        self._storage_dtype, self._robot = storage_dtype, robot
        self._pool_cfg = pool
        self._sampler = command_sampler
        if pool is not None and command_sampler is None:
            self._sampler = CommandSampler(num_envs, control_dt=control_dt, device=self.device, seed=seed)
        self._current: tuple[torch.Tensor, torch.Tensor] | None = None
        self._offsets: dict[tuple[int, ...], torch.Tensor] = {}
        self._shown = torch.zeros(num_envs, dtype=torch.long, device=self.device)
        self._share = torch.zeros(num_envs, dtype=torch.float64, device=self.device)
        self._origin = torch.zeros(num_envs, NUM_POSE, device=self.device)
        self._allocate(mode)
        self.reset()
        if isinstance(self._planner, PooledPlanner):
            self._planner.pool.handed.zero_()  # This first reset is only there for who never asks for one.

    # Reading ----------------------------------------------------------------------------------------------------------

    def get_motion(self, env_ids: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Joint angles [rad] and velocities [rad/s] shown now, each (num_envs or len(env_ids), num_joints).

        They are views of what the generator keeps: copy them before writing into them.
        """
        states = self._now()[0]
        if env_ids is not None:
            states = states[self._rows(env_ids)]
        dof_pos, dof_vel = states[:, self.layout["dof_pos"]], states[:, self.layout["dof_vel"]]
        if self._joint_columns is not None:
            return dof_pos[:, self._joint_columns], dof_vel[:, self._joint_columns]
        return dof_pos, dof_vel

    def get_frames(self, env_ids: torch.Tensor | None = None) -> MotionFrames:
        """Joints and root shown now, fields of (num_envs or len(env_ids), ...)."""
        self._planner.need(1 if self._same_rate else 2)
        states, poses = self._now()
        following = self._read(self._shown + 1, self._share)[0]
        frames = self._ordered(self._buffer.store.motion(states, place(poses, self._origin), following))
        return frames if env_ids is None else frames.select(self._rows(env_ids))

    @property
    def root_states(self) -> torch.Tensor:
        """Root shown now, (num_envs, 13): position, orientation xyzw, linear and angular velocity, all in the world."""
        frames = self.get_frames()
        return torch.cat((frames.root_pos_w, frames.root_quat_w, frames.root_lin_vel_w, frames.root_ang_vel_w), dim=1)

    @property
    def commands(self) -> torch.Tensor:
        """Smoothed commands in force, (num_envs, 3)."""
        return self._buffer.commands.value(self._shown, self._planner.motions)

    @property
    def target_commands(self) -> torch.Tensor:
        """Commands that the ones in force ramp to, (num_envs, 3)."""
        return self._buffer.commands.target(self._shown, self._planner.motions)

    def future(self, steps: int | Sequence[int]) -> MotionFrames:
        """What will be shown if no command changes (but by the schedule of a pool's trajectory).

        Args:
            steps: number of coming control steps, or the steps asked for (0 is now).

        Returns:
            Fields of (num_envs, number of steps, ...).

        Raises:
            ValueError: a step is negative or beyond what the buffer holds.
        """
        offsets = list(range(1, steps + 1)) if isinstance(steps, int) else [int(step) for step in steps]
        furthest = self.max_future_steps
        if not offsets or min(offsets) < 0 or max(offsets) > furthest:
            raise ValueError(
                f"future: steps must lie in 0 to {furthest} with mode='{self.mode}', "
                f"buffer_size={self.buffer_size} and preload_duration={self.preload_duration}, got {steps}; a larger "
                f"{'preload_duration' if isinstance(self._planner, PreloadPlanner) else 'buffer_size'} reaches further"
            )
        self._planner.need(self._frames_beyond(max(offsets)))
        ahead = self._offset_tensor(tuple(offsets))
        if self._same_rate:
            frames = self._shown.unsqueeze(1) + ahead
            share = torch.zeros((), device=self.device)
        else:
            times = self._share.unsqueeze(1) + self._frames_per_step * ahead
            frames, share = self._shown.unsqueeze(1) + times.floor().long(), times - times.floor()
        states, poses = self._read(frames, share)
        following = self._read(frames + 1, share)[0]
        poses = place(poses, self._origin.unsqueeze(1))
        return self._ordered(self._buffer.store.motion(states, poses, following))

    @property
    def max_future_steps(self) -> int:
        """Furthest control step that :meth:`future` can be asked for."""
        return max(0, int((self._planner.max_demand - 2) / self._frames_per_step))

    @property
    def last_start_frame(self) -> int:
        """Latest frame of its trajectory that a reset can begin at; 0 without a pool."""
        return self._planner.last_start if isinstance(self._planner, PooledPlanner) else 0

    # Time -------------------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Let a control step pass for every environment."""
        started = time.perf_counter()
        self._current = None
        if self._same_rate:
            self._shown += 1
        else:
            clock = self._share + self._frames_per_step
            # A clock that should stand at a whole frame may fall short of it by rounding.
            whole = (clock + 1e-9).floor()
            self._share = (clock - whole).clamp(min=0.0)
            self._shown += whole.long()
        self._planner.advance()
        self._advance_seconds += time.perf_counter() - started
        self._advance_calls += 1

    def reset(
        self,
        env_ids: torch.Tensor | None = None,
        init_motion: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None = None,
        commands: torch.Tensor | None = None,
        root_pose: torch.Tensor | None = None,
        start_frames: torch.Tensor | str | None = None,
    ) -> None:
        """Begin new motions; all other environments are left exactly as they are.

        Args:
            env_ids: environments to reset, (n,); all by default.
            init_motion: states to start from, (n, state_dim) of the checkpoint, or joint angles and velocities in the
                order of ``joint_names``, each (n, num_joints), whose root is the nearest initial state's. By default
                one of the checkpoint's initial states that did what the command asks for, or a trajectory of the pool.
            commands: commands (n, 3) of vx, vy [m/s], yaw rate [rad/s]. They are ramped from what the initial state was
                doing; with ``init_motion`` they are in force at once. From a pool, the trajectories are taken that are
                told nearly the same where they are entered, and ``target_commands`` says what. By default the commands
                in force are kept; a pool gives any trajectory.
            root_pose: where the motion begins in the world: x, y [m], heading [rad], (n, 3); the origin by default.
            start_frames: with a pool, frames of the trajectories to begin at, (n,), at most ``last_start_frame``, or
                ``"random"``; the first by default.

        Raises:
            ValueError: an argument has another shape than it should, or ``start_frames`` is given without a pool.
        """
        rows = self._rows(env_ids)
        if len(rows) == 0:
            return
        targets = None
        if commands is not None:
            targets = self._clamped(self._checked(commands, (len(rows), 3), "commands"), rows)
        if root_pose is None:
            root_pose = torch.zeros(len(rows), NUM_POSE, device=self.device)
        root_pose = self._checked(root_pose, (len(rows), NUM_POSE), "root_pose").float()
        self._current = None
        self._share[rows] = 0.0
        if isinstance(self._planner, PooledPlanner) and init_motion is None:
            self._planner.hand_out(rows, targets, self._checked_start(start_frames, len(rows)))
        elif start_frames is not None:
            raise ValueError("start_frames needs a pool to begin in, and no init_motion")
        else:
            if targets is None:
                targets = self.target_commands[rows]
            states, own_commands = self._initial(targets, init_motion)
            # The ramp begins at what the initial state was doing, so that a start from standing is a start from zero.
            self._restart(rows, states, torch.zeros_like(rows), own_commands, targets)
        self._anchor(rows, root_pose, self._buffer.store.read(self._shown[rows], self._motions(rows))[1])

    def update_commands(self, commands: torch.Tensor, env_ids: torch.Tensor | None = None) -> None:
        """Give new commands; the motion goes on from the frame being shown, and frames planned beyond it are replaced.

        Environments whose command does not change are left alone. Those that are shown a trajectory of a pool leave it.

        Args:
            commands: vx, vy [m/s], yaw rate [rad/s], (num_envs or len(env_ids), 3); held inside the trained range, and
                ``command_excess`` says by how much.
            env_ids: environments concerned, (n,); all by default.
        """
        rows = self._rows(env_ids)
        targets = self._clamped(self._checked(commands, (len(rows), 3), "commands"), rows)
        changed = (targets != self.target_commands[rows]).any(dim=1)
        rows, targets = rows[changed], targets[changed]
        if len(rows) == 0:
            return
        self._stop_at_ends()
        if not self._same_rate:
            self._planner.need(1)
        base = self._shown[rows] + (self._share[rows] > 0).long()  # Between two frames the later is already on show.
        self._current = None
        motions = self._planner.take_over(rows, base)
        self._buffer.commands.set_target(motions, base, targets)
        self._buffer.truncate(motions, base)
        self._planner.refresh(rows)

    def set_root_pose(self, root_pose: torch.Tensor, env_ids: torch.Tensor | None = None) -> None:
        """Put the root that is shown now at x, y [m], heading [rad], (num_envs or len(env_ids), 3), in the world."""
        rows = self._rows(env_ids)
        root_pose = self._checked(root_pose, (len(rows), NUM_POSE), "root_pose").float()
        self._anchor(rows, root_pose, self._now()[1][rows])

    def switch_mode(self, mode: str) -> None:
        """Go on in the other mode; what is shown now and the ramps of the commands carry over."""
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got '{mode}'")
        if mode == self.mode:
            return
        self._stop_at_ends()
        self._planner.need(1)
        frames = torch.stack((self._shown, self._shown + 1), dim=1)
        states, poses = self._buffer.store.read(frames, self._planner.motions)
        first_frames, starts, targets = self._buffer.commands.segment(self._shown, self._planner.motions)
        first_frames = first_frames - self._shown
        self._generation_seconds += self._buffer.seconds
        self._allocate(mode)
        rows = torch.arange(self.num_envs, device=self.device)
        self._restart(rows, states[:, 0, : self.checkpoint.layout.size], first_frames, starts, targets)
        motions = self._motions(rows)
        for frame in (0, 1):
            self._buffer.store.write(torch.full_like(rows, frame), states[:, frame], poses[:, frame], motions)
        # Between two frames the later one is on show too, so generation goes on from it.
        self._buffer.truncate(motions, (self._share > 0).long())

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
        if isinstance(self._planner, PooledPlanner):
            stats.update(self._planner.pool.stats(), environments_off_the_pool=self._planner.num_private)
        return stats

    # Inside -----------------------------------------------------------------------------------------------------------

    def _allocate(self, mode: str) -> None:
        """Make the buffer and the planner of a mode."""
        self.mode = mode
        self._shown.zero_()
        hold, frames_per_step = self.at_end == "hold", self._frames_per_step
        if mode == "realtime":
            self._buffer = self._make_buffer([(self.num_envs, self.buffer_size)])
            refill = self.refill_frames if self.refill_frames is not None else self.buffer_size // 2
            self._planner: Planner = RealtimePlanner(
                self._buffer, self._shown, frames_per_step, self.buffer_size, refill
            )
        elif self._pool_cfg is None or self._sampler is None:
            self._buffer = self._make_buffer([(self.num_envs, self.preload_duration)])
            self._planner = PreloadPlanner(self._buffer, self._shown, frames_per_step, self.preload_duration, hold)
        else:
            cfg, size, length = self._pool_cfg, self._pool_cfg.size(self.num_envs), self.preload_duration
            self._buffer = self._make_buffer(
                [(size, length), (self.num_envs, self.buffer_size)],
                cfg.num_segments(self._sampler, length, self.checkpoint.fps),
            )
            pool = TrajectoryPool(
                cfg, self._buffer, size, length, self._initial_states, self._sampler, self._initial_states.generator
            )
            budget = cfg.regenerate_frames_per_step
            self._planner = PooledPlanner(
                pool,
                self._buffer,
                self._shown,
                frames_per_step,
                self.buffer_size,
                self.num_envs if budget is None else budget,
                hold,
            )

    def _make_buffer(self, sizes: list[tuple[int, int]], num_segments: int = 1) -> MotionBuffer:
        return MotionBuffer(
            self.checkpoint,
            self.rollout,
            sizes,
            self.interpolation_steps,
            num_segments,
            self._storage_dtype,
            self._robot,
        )

    def _restart(
        self,
        rows: torch.Tensor,
        states: torch.Tensor,
        first_frames: torch.Tensor,
        starts: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        """Begin motions of their own at states (n, state_dim), with a ramp that began at ``first_frames`` (n,)."""
        motions = self._planner.take_over(rows)
        self._shown[rows] = 0
        self._buffer.commands.begin(motions, first_frames, starts, targets)
        self._buffer.restart(motions, states)
        self._planner.refresh(rows)

    def _anchor(self, rows: torch.Tensor, root_pose: torch.Tensor, poses: torch.Tensor) -> None:
        """Lay the origins so that what is at poses (n, 3) of the motions appears at ``root_pose`` (n, 3)."""
        heading = root_pose[:, 2:] - poses[:, 2:]
        self._origin[rows] = torch.cat((root_pose[:, :2] - rotate_xy(poses, heading.squeeze(1)), heading), dim=1)

    def _frames_beyond(self, steps: int) -> int:
        """Frames beyond the shown one that showing what comes after this many steps takes."""
        # The next frame gives the rates; a clock between frames takes one more.
        return math.ceil(steps * self._frames_per_step - 1e-6) + (1 if self._same_rate else 2)

    def _stop_at_ends(self) -> None:
        """Put clocks that have run past the last frame, which is held, back to it."""
        last = self._planner.last_frames()
        if last is not None:
            self._share = torch.where(self._shown >= last, torch.zeros_like(self._share), self._share)
            torch.minimum(self._shown, last, out=self._shown)

    def _offset_tensor(self, offsets: tuple[int, ...]) -> torch.Tensor:
        """Offsets on the device; kept, so that a future window asked for at every step costs no copy."""
        if offsets not in self._offsets:
            self._offsets[offsets] = torch.tensor(offsets, device=self.device)
        return self._offsets[offsets]

    def _rows(self, env_ids: torch.Tensor | None) -> torch.Tensor:
        """Indices (n,) of environments given as indices, as a mask (num_envs,), or as None for all."""
        if env_ids is None:
            return torch.arange(self.num_envs, device=self.device)
        if env_ids.ndim != 1 or env_ids.is_floating_point():
            found = f"{env_ids.dtype} of shape {tuple(env_ids.shape)}"
            raise ValueError(f"env_ids must be indices (n,) or a mask (num_envs,), got {found}")
        env_ids = env_ids.to(self.device)
        if env_ids.dtype == torch.bool:
            if len(env_ids) != self.num_envs:
                raise ValueError(f"env_ids: a mask must have {self.num_envs} entries, got {len(env_ids)}")
            return env_ids.nonzero().squeeze(1)
        return env_ids.long()

    def _motions(self, rows: torch.Tensor) -> torch.Tensor:
        """Numbers (n,) of the motions that environments (n,) are shown."""
        return rows if isinstance(self._planner.motions, slice) else self._planner.motions[rows]

    def _now(self) -> tuple[torch.Tensor, torch.Tensor]:
        """States (num_envs, size) and poses (num_envs, 3) of the motions shown now."""
        if self._current is None:
            self._planner.need(0 if self._same_rate else 1)
            self._current = self._read(self._shown, self._share)
        return self._current

    def _read(self, frames: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States and poses at frame indices (num_envs, ...) plus a share of the way to the next."""
        store, motions, last = self._buffer.store, self._planner.motions, self._planner.last_frames()
        following = frames + 1
        if last is not None:
            last = last.view(-1, *[1] * (frames.ndim - 1))
            past = frames >= last
            frames, following = torch.minimum(frames, last), torch.minimum(following, last)
        states, poses = store.read(frames, motions)
        if not self._same_rate:
            states, poses = store.interpolate((states, poses), store.read(following, motions), share)
        if last is not None and self.at_end == "hold":
            moving = (~past).unsqueeze(-1).to(states.dtype)
            for channel in ("dof_vel", "root_lin_vel_h", "root_yaw_rate"):
                states[..., self.layout[channel]] *= moving
        return states, poses

    def _ordered(self, frames: MotionFrames) -> MotionFrames:
        if self._joint_columns is not None:
            frames.dof_pos = frames.dof_pos[..., self._joint_columns]
            frames.dof_vel = frames.dof_vel[..., self._joint_columns]
        return frames

    def _initial(
        self, commands: torch.Tensor, init_motion: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States (n, state_dim) to start from and the commands (n, 3) they were doing."""
        states, own_commands = self._initial_states.choose(commands)
        if init_motion is None:
            return states, own_commands
        size, num_joints = self.checkpoint.layout.size, len(self.joint_names)
        if isinstance(init_motion, torch.Tensor):
            states = self._checked(init_motion, (len(commands), size), "init_motion").float()
        else:
            columns = (
                self._joint_columns if self._joint_columns is not None else torch.arange(num_joints, device=self.device)
            )
            for values, channel in zip(init_motion, ("dof_pos", "dof_vel")):
                values = self._checked(values, (len(commands), num_joints), f"init_motion {channel}").float()
                states[:, self.layout[channel].start + columns] = values
        return self.rollout.model.guard(states), commands

    def _clamped(self, commands: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Commands held inside the trained range; remembers by how much they exceeded it."""
        clamped = self.rollout.model.clamp_command(commands.float())
        self.command_excess[rows] = (commands.float() - clamped).abs()
        return clamped

    def _checked(self, values: torch.Tensor, shape: tuple[int, ...], name: str) -> torch.Tensor:
        """Values of the right shape on the right device; on a CPU, where it costs no waiting, also finite."""
        if tuple(values.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(values.shape)}")
        if values.device.type == "cpu" and not bool(torch.isfinite(values).all()):
            row = int((~torch.isfinite(values)).any(dim=1).nonzero()[0])
            raise ValueError(f"{name} holds NaN or infinite values, first in row {row}")
        return values.to(self.device)

    def _checked_start(self, start_frames: torch.Tensor | str | None, num: int) -> torch.Tensor | str | None:
        """Start frames of a kind that a pool understands."""
        if isinstance(start_frames, torch.Tensor) and tuple(start_frames.shape) == (num,):
            return start_frames
        if start_frames is not None and not (isinstance(start_frames, str) and start_frames == "random"):
            raise ValueError(f"start_frames must be frames ({num},), 'random' or None, got {start_frames}")
        return start_frames


def _check_arguments(
    mode: str,
    at_end: str,
    num_envs: int,
    preload_duration: int,
    buffer_size: int,
    control_dt: float,
    refill_frames: int | None,
) -> None:
    """Raise a ValueError that names the first impossible argument of the generator."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, got '{mode}'")
    if at_end not in AT_END:
        raise ValueError(f"at_end must be one of {AT_END}, got '{at_end}'")
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    if preload_duration < 12 or buffer_size < 8:
        raise ValueError(
            f"preload_duration must be at least 12 and buffer_size 8, got {preload_duration} and {buffer_size}"
        )
    if not 0.0 < control_dt <= 0.1:
        raise ValueError(f"control_dt must lie in (0, 0.1] s, got {control_dt}")
    if refill_frames is not None and not 1 <= refill_frames <= buffer_size // 2:
        raise ValueError(f"refill_frames must lie in 1 to buffer_size / 2 = {buffer_size // 2}, got {refill_frames}")
