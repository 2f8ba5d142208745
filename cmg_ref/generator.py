"""`CMGMotionGenerator`: a reference motion for every environment, at every control step, from velocity commands."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Sequence

import torch

from cmg_ref.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.commands import CommandSmoother
from cmg_ref.joint_matching import match_joints
from cmg_ref.layout import StateLayout
from cmg_ref.motion_buffer import MotionBuffer
from cmg_ref.robot import Robot
from cmg_ref.rollout import Rollout
from cmg_ref.trajectory_store import NUM_POSE, MotionFrames

MODES = ("pregenerated", "realtime")
AT_END = ("regenerate", "hold")
SHOWN_FRAMES = 2  # frames beyond the shown one that showing it takes: between frames, and for its rates
NUM_NEAREST = 8  # a reset draws among this many initial states that did what the command asks for


class CMGMotionGenerator:
    """Reference motions for many environments at once.

    In *pregenerated* mode a reset generates ``preload_duration`` frames for the environments concerned and a step only
    reads; it suits episodes whose commands seldom change, for a change generates the rest anew. In *realtime* mode a
    ring buffer of ``buffer_size`` frames is topped up as time passes, and a reset or a change generates that many. Both
    give the same motion for the same commands (of a checkpoint without root channels: the same joints), and in both a
    command may change at any step for any environments: the motion goes on from the frame being shown.

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
        preload_duration: frames generated at a reset in pregenerated mode.
        buffer_size: frames held per environment in realtime mode.
        control_dt: time of a control step [s].
        refill_frames: in realtime mode, frames generated at a time for all environments: 1 makes every step do the same
            work; None waits until half of the buffer is used up.
        interpolation_steps: frames over which a command ramps to a new one.
        at_end: in pregenerated mode, what environments do past their last frame: ``"regenerate"`` goes on from there,
            ``"hold"`` stands in the last pose with zero velocity.
        joint_names: joints and their order in everything returned; the checkpoint's by default.
        drop_joints: joints of the checkpoint that ``joint_names`` leaves out on purpose.
        storage_dtype: type of the stored frames; float16 halves the memory, at an error of 1e-3 rad in the joints and
            0.02 m/s in the root's vertical velocity.
        seed: seed for the choice of initial states.
        robot: robot description; the shipped G1 by default. Only used by checkpoints without root channels.

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
        seed: int = 0,
        robot: Robot | None = None,
    ) -> None:
        self.checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        _check_arguments(mode, at_end, num_envs, preload_duration, buffer_size, control_dt, refill_frames)
        if storage_dtype not in (torch.float32, torch.float16):
            raise ValueError(f"storage_dtype must be torch.float32 or torch.float16, got {storage_dtype}")
        self.num_envs, self.device = num_envs, torch.device(device)
        self.preload_duration, self.buffer_size = preload_duration, buffer_size
        self.refill_frames, self.at_end = refill_frames, at_end
        self.control_dt = control_dt
        self.rollout = Rollout(self.checkpoint.model, self.device)
        self.layout = StateLayout.with_root(self.checkpoint.layout.num_joints)
        self._frames_per_step = self.checkpoint.fps * control_dt
        self._same_rate = abs(self._frames_per_step - 1.0) < 1e-6
        self.joint_names, self._joint_columns = match_joints(
            self.checkpoint.joint_names, joint_names, drop_joints, self.device
        )
        self.smoother = CommandSmoother(num_envs, interpolation_steps, self.device)
        self.command_excess = torch.zeros(num_envs, 3, device=self.device)
        self._generator = torch.Generator(device=self.device).manual_seed(seed)
        self._initial_states = self.checkpoint.initial_states.to(self.device)
        self._initial_commands = self.checkpoint.initial_commands.to(self.device)
        self._generation_seconds, self._advance_seconds, self._advance_calls = 0.0, 0.0, 0
        self._storage_dtype, self._robot = storage_dtype, robot
        self._current: tuple[torch.Tensor, torch.Tensor] | None = None
        self._offsets: dict[tuple[int, ...], torch.Tensor] = {}
        self._longest_future = SHOWN_FRAMES
        self._shown = torch.zeros(num_envs, dtype=torch.long, device=self.device)
        self._share = torch.zeros(num_envs, dtype=torch.float64, device=self.device)
        self._allocate(mode)
        self.reset()

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
        states, poses = self._now()
        following = self._read(self._shown + 1, self._share)[0]
        frames = self._ordered(self._buffer.store.motion(states, poses, following))
        return frames if env_ids is None else frames.select(self._rows(env_ids))

    @property
    def root_states(self) -> torch.Tensor:
        """Root shown now, (num_envs, 13): position, orientation xyzw, linear and angular velocity, all in the world."""
        frames = self.get_frames()
        return torch.cat((frames.root_pos_w, frames.root_quat_w, frames.root_lin_vel_w, frames.root_ang_vel_w), dim=1)

    @property
    def commands(self) -> torch.Tensor:
        """Smoothed commands in force, (num_envs, 3)."""
        return self.smoother.value()

    def future(self, steps: int | Sequence[int]) -> MotionFrames:
        """What will be shown if no command changes.

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
                f"future: steps must lie in 0 to {furthest} with mode='{self.mode}' and a buffer of "
                f"{self._buffer.store.capacity} frames, got {steps}; a larger "
                f"{'buffer_size' if self.mode == 'realtime' else 'preload_duration'} reaches further"
            )
        self._longest_future = max(self._longest_future, math.ceil(max(offsets) * self._frames_per_step) + SHOWN_FRAMES)
        self._serve_ends()
        ahead = self._offset_tensor(tuple(offsets))
        if self._same_rate:
            frames = self._shown.unsqueeze(1) + ahead
            share = torch.zeros((), device=self.device)
        else:
            times = self._share.unsqueeze(1) + self._frames_per_step * ahead
            frames, share = self._shown.unsqueeze(1) + times.floor().long(), times - times.floor()
        states, poses = self._read(frames, share)
        following = self._read(frames + 1, share)[0]
        return self._ordered(self._buffer.store.motion(states, poses, following))

    @property
    def max_future_steps(self) -> int:
        """Furthest control step that :meth:`future` can be asked for."""
        frames = self._full - 5 if self.mode == "pregenerated" else self._full - self._refill - 2
        return max(0, int(frames / self._frames_per_step))

    # Time -------------------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Let a control step pass for every environment."""
        started = time.perf_counter()
        self._current = None
        if self._same_rate:
            passed: int | torch.Tensor = 1
        else:
            clock = self._share + self._frames_per_step
            # A clock that should stand at a whole frame may fall short of it by rounding.
            whole = (clock + 1e-9).floor()
            self._share = (clock - whole).clamp(min=0.0)
            passed = whole.long()
        self._shown += passed
        self.smoother.step(passed)
        if self.mode == "realtime":
            self._owed += self._frames_per_step
            while self._owed >= self._refill:
                self._extend(None, self._refill)
                self._owed -= self._refill
        else:
            self._steps_to_end -= math.ceil(self._frames_per_step - 1e-6)
            self._serve_ends()
        self._advance_seconds += time.perf_counter() - started
        self._advance_calls += 1

    def reset(
        self,
        env_ids: torch.Tensor | None = None,
        init_motion: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None = None,
        commands: torch.Tensor | None = None,
        root_pose: torch.Tensor | None = None,
    ) -> None:
        """Begin new motions; all other environments are left exactly as they are.

        Args:
            env_ids: environments to reset, (n,); all by default.
            init_motion: states to start from, (n, state_dim) of the checkpoint, or joint angles and velocities in the
                order of ``joint_names``, each (n, num_joints), whose root is the nearest initial state's. By default
                one of the checkpoint's initial states that did what the command asks for.
            commands: commands (n, 3) of vx, vy [m/s], yaw rate [rad/s]; the ones in force are kept by default. They are
                ramped from what the initial state was doing; with ``init_motion`` they are in force at once.
            root_pose: x, y [m] and heading [rad] to start at, (n, 3); zero by default.

        Raises:
            ValueError: a shape does not fit, or a value is not finite.
        """
        rows = self._rows(env_ids)
        if len(rows) == 0:
            return
        if commands is None:
            targets = self.smoother.target[rows]
        else:
            targets = self._clamped(self._checked(commands, (len(rows), 3), "commands"), rows)
        states, own_commands = self._initial(targets, init_motion)
        poses = torch.zeros(len(rows), NUM_POSE, device=self.device)
        if root_pose is not None:
            poses = self._checked(root_pose, (len(rows), NUM_POSE), "root_pose").float()
        self._current = None
        # The ramp begins at what the initial state was doing, so that a start from standing is a start from zero.
        self.smoother.reset(own_commands, rows)
        self.smoother.set_target(targets, rows)
        self._shown[rows] = 0
        self._share[rows] = 0.0
        self._buffer.restart(rows, states, poses)
        self._extend_fully(rows if env_ids is not None else None)

    def update_commands(self, commands: torch.Tensor, env_ids: torch.Tensor | None = None) -> None:
        """Give new commands; the motion goes on from the frame being shown, and frames planned beyond it are replaced.

        Environments whose command does not change are left alone.

        Args:
            commands: vx, vy [m/s], yaw rate [rad/s], (num_envs or len(env_ids), 3); held inside the trained range, and
                ``command_excess`` says by how much.
            env_ids: environments concerned, (n,); all by default.
        """
        rows = self._rows(env_ids)
        targets = self._clamped(self._checked(commands, (len(rows), 3), "commands"), rows)
        changed = (targets != self.smoother.target[rows]).any(dim=1)
        self._stop_at_ends()
        rows, targets = rows[changed], targets[changed]
        if len(rows) == 0:
            return
        ahead = (self._share[rows] > 0).long()  # Between two frames the later one is already on show.
        base = self._shown[rows] + ahead
        self.smoother.set_target(targets, rows, ahead)
        self._buffer.truncate(rows, base)
        self._extend_fully(rows)

    def switch_mode(self, mode: str) -> None:
        """Go on in the other mode; what is shown now and the ramps of the commands carry over."""
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got '{mode}'")
        if mode == self.mode:
            return
        self._stop_at_ends()
        states, poses = self._buffer.store.read(torch.stack((self._shown, self._shown + 1), dim=1))
        self._allocate(mode)
        rows = torch.arange(self.num_envs, device=self.device)
        self._buffer.restart(rows, states[:, 0, : self.checkpoint.layout.size], poses[:, 0])
        self._shown.zero_()
        for frame in (0, 1):
            self._buffer.store.write(torch.full_like(rows, frame), states[:, frame], poses[:, frame])
        # Between two frames the later one is on show too, so generation goes on from it.
        self._buffer.truncate(rows, (self._share > 0).long())
        self._extend_fully(None)

    def get_performance_stats(self) -> dict[str, Any]:
        """Counters since construction: frames, seconds, memory, and how often the guard and the command range acted.

        On a GPU the seconds are those of the host, which does not wait for the device.
        """
        frames = self.rollout.frame_count
        return {
            "mode": self.mode,
            "num_envs": self.num_envs,
            "frames_generated": frames,
            "generation_seconds": self._generation_seconds,
            "frames_per_second": frames / self._generation_seconds if self._generation_seconds > 0 else 0.0,
            "advance_calls": self._advance_calls,
            "mean_advance_ms": 1e3 * self._advance_seconds / max(1, self._advance_calls),
            "memory_bytes": self._buffer.store.num_bytes,
            "guard_share": float(self.rollout.guard_count) / max(1, frames),
            "commands_clamped_share": float((self.command_excess > 0).any(dim=1).float().mean()),
            "largest_command_excess": self.command_excess.amax(dim=0).tolist(),
        }

    # Inside -----------------------------------------------------------------------------------------------------------

    def _allocate(self, mode: str) -> None:
        """Make the store of a mode."""
        self.mode = mode
        capacity = self.preload_duration if mode == "pregenerated" else self.buffer_size
        self._buffer = MotionBuffer(
            self.checkpoint, self.rollout, self.num_envs, capacity, self._storage_dtype, self._robot
        )
        # The shown frame, its successor and one more for clocks between frames must not be overwritten.
        self._full = capacity - 3
        self._refill = self.refill_frames if self.refill_frames is not None else capacity // 2
        self._owed = 0.0
        self._steps_to_end = self._full
        self._longest_future = SHOWN_FRAMES

    def _extend_fully(self, env_ids: torch.Tensor | None) -> None:
        """Generate up to the common horizon for environments that hold nothing beyond the shown frame."""
        self._current = None
        if self.mode == "realtime":
            self._extend(env_ids, self._full - int(self._owed))
        else:
            self._extend(env_ids, self._full)
            self._steps_to_end = min(self._steps_to_end, self._full) if env_ids is not None else self._full

    def _extend(self, env_ids: torch.Tensor | None, count: int) -> None:
        """Generate ``count`` more frames for some environments, (n,), or for all."""
        started = time.perf_counter()
        self._buffer.extend(env_ids, count, self.smoother, self._shown)
        self._generation_seconds += time.perf_counter() - started

    def _serve_ends(self) -> None:
        """Extend environments that come to the end of their frames. Rarely acts; only then it waits for the device."""
        if self.mode != "pregenerated" or self.at_end == "hold" or self._steps_to_end > self._longest_future:
            return
        remaining = self._buffer.written - 1 - self._shown
        due = (remaining <= self._longest_future + 1).nonzero().squeeze(1)
        if len(due) > 0:
            self._extend(due, self._full - self._longest_future - 2)
            remaining = self._buffer.written - 1 - self._shown
        self._steps_to_end = int(remaining.min())

    def _stop_at_ends(self) -> None:
        """Put clocks that have run past the last frame, which is held, back to it."""
        if self.mode == "pregenerated":
            last = self._buffer.written - 1
            self._share = torch.where(self._shown >= last, torch.zeros_like(self._share), self._share)
            self._shown = torch.minimum(self._shown, last)

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

    def _now(self) -> tuple[torch.Tensor, torch.Tensor]:
        """States (num_envs, size) and poses (num_envs, 3) shown now."""
        if self._current is None:
            self._current = self._read(self._shown, self._share)
        return self._current

    def _read(self, frames: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States and poses at frame indices (num_envs, ...) plus a share of the way to the next."""
        if self.mode == "pregenerated":
            last = self._buffer.written.view(-1, *[1] * (frames.ndim - 1)) - 1
            past = frames >= last
            frames = torch.minimum(frames, last)
        states, poses = self._buffer.store.read(frames)
        if not self._same_rate:
            following = frames + 1 if self.mode == "realtime" else torch.minimum(frames + 1, last)
            states, poses = self._buffer.store.interpolate((states, poses), self._buffer.store.read(following), share)
        if self.mode == "pregenerated" and self.at_end == "hold":
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
        scale = 2.0 / (self.rollout.model.command_max - self.rollout.model.command_min)
        distance = torch.cdist(commands * scale, self._initial_commands * scale)  # (n, num_initial_states)
        nearest = distance.topk(min(NUM_NEAREST, distance.shape[1]), largest=False).indices
        draw = torch.randint(nearest.shape[1], (len(nearest), 1), generator=self._generator, device=self.device)
        picks = nearest.gather(1, draw).squeeze(1)
        states, own_commands = self._initial_states[picks], self._initial_commands[picks]
        own_commands = self.rollout.model.clamp_command(own_commands)
        if init_motion is None:
            return states, own_commands
        size, num_joints = self.checkpoint.layout.size, len(self.joint_names)
        if isinstance(init_motion, torch.Tensor):
            states = self._checked(init_motion, (len(commands), size), "init_motion").float()
        else:
            states = states.clone()
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
