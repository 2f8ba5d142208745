"""What every environment is shown: its clock, its place in the world, and the frames read there."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Optional, Protocol, Sequence, Tuple

import torch

from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.cuda_graph.fused_reader import FusedReader
from cmg_ref.frames.root_motion import frames_in_world, rotate_xy
from cmg_ref.frames.store import NUM_POSE, POSE_COLUMNS, TrajectoryStore

SMALL_READ = 3072  # frames that one thread has read by the time torch has several at work

# Rows, rows of the next frames where the clock is between frames, and what is past its end where that is held.
Rows = Tuple[torch.Tensor, Optional[torch.Tensor], Optional[torch.Tensor]]


class PlansFrames(Protocol):
    """What a reader needs to know of a planner."""

    @property
    def motions(self) -> slice | torch.Tensor:
        """Motion of each environment, (num_envs,)."""
        ...

    def need(self, frames: int) -> None:
        """Make sure that this many frames beyond the shown one are there, now and after every coming step."""
        ...

    def last_frames(self) -> torch.Tensor | None:
        """Frames (num_envs,) that motions end at; None where they never end."""
        ...


class MotionReader:
    """Reads frames at each environment's clock.

    Args:
        num_envs: number of environments.
        frames_per_step: frames that pass in a control step.
        joint_columns: column of each joint in the order that is returned, (num_joints,); None for the stored order.
        device: device of everything.
        hold: whether environments past their last frame stand still.

    Attributes:
        shown: frame shown now, (num_envs,).
        share: share of the way to the next frame, (num_envs,).
        origin: x, y and heading of each motion's own frame in the world, (num_envs, 3).
    """

    def __init__(
        self,
        num_envs: int,
        frames_per_step: float,
        joint_columns: torch.Tensor | None,
        device: torch.device,
        hold: bool,
    ) -> None:
        self.shown = torch.zeros(num_envs, dtype=torch.long, device=device)
        self.share = torch.zeros(num_envs, dtype=torch.float64, device=device)
        self.origin = torch.zeros(num_envs, NUM_POSE, device=device)
        self._in_world = True  # No motion lives in a frame of its own: readers need not turn and shift anything.
        self._frames_per_step, self._same_rate = frames_per_step, frames_per_step == 1.0
        self._device, self._hold = device, hold
        self._columns = joint_columns
        self._offsets: dict[tuple[int, ...], torch.Tensor] = {}
        self._current: tuple[torch.Tensor, torch.Tensor] | None = None
        self._current_rows: Rows | None = None
        self._joints_are_read = False
        self._fused: FusedReader | None = None
        self._located: torch.Tensor | None = None
        self._shown_joints: torch.Tensor | None = None

    @property
    def columns(self) -> torch.Tensor | None:
        """Columns of the angles and velocities that Triton's kernels read, (2 * num_joints,); None without those."""
        return None if self._fused is None else self._fused.columns

    def attach(self, store: TrajectoryStore, planner: PlansFrames, kernels: bool = False) -> None:
        """Read from this store from now on, by Triton's kernels where those are there."""
        self._store, self._planner = store, planner
        self._fused = FusedReader(store, self._columns, self._hold) if kernels and self._same_rate else None
        self._located = self._shown_joints = None
        self.forget()

    def follow(self, located: torch.Tensor, joints: torch.Tensor) -> None:
        """Rely on somebody else to move the clock, and to keep what is on show.

        Args:
            located: the rows, (num_envs,).
            joints: joint angles and velocities in them, (num_envs, 2 * num_joints).
        """
        self._located, self._shown_joints = located, joints

    def forget(self) -> None:
        """What is shown has changed."""
        self._current = self._current_rows = None

    def advance(self) -> None:
        """Let a control step pass."""
        self.forget()
        if self._same_rate:
            self.shown += 1
        else:
            clock = self.share + self._frames_per_step
            # A clock that should stand at a whole frame may fall short of it by rounding.
            whole = (clock + 1e-9).floor()
            torch.clamp(clock - whole, min=0.0, out=self.share)
            self.shown += whole.long()

    def locate(self) -> None:
        """Find the rows that are shown now, so that reading joints later is nothing but a gather, if somebody does."""
        if self._joints_are_read:
            self._rows_now()
            self._joints_are_read = False

    def joints(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Joint angles and velocities shown now, (num_envs, num_joints) each."""
        if self._current is None and self._shown_joints is not None:
            dof_pos, dof_vel = self._shown_joints.clone().chunk(2, dim=1)
            self._current = dof_pos, dof_vel
        elif self._current is None:
            self._joints_are_read = True
            self._planner.need(0 if self._same_rate else 1)
            self._current = self._read_joints(self._rows_now(), self.share)
        return self._current

    def frames(self) -> MotionFrames:
        """Joints and root shown now, fields of (num_envs, ...)."""
        self._planner.need(0 if self._same_rate else 1)
        if self._fused is not None:
            ahead, last = self._kept((0,)), self._planner.last_frames()
            seen, _ = self._fused.frames(self.shown, ahead, 1, self._planner.motions, self.origin, last)
            return MotionFrames(*(getattr(seen, field.name)[:, 0] for field in fields(seen)))
        return self._read(self._rows_now(), self.share, self.origin)

    def future(self, offsets: Sequence[int], joint_offsets: Sequence[int] = ()) -> tuple[MotionFrames, torch.Tensor]:
        """What is shown so many control steps from now.

        Args:
            offsets: steps of which everything is asked for, at least one.
            joint_offsets: steps of which the joint angles alone are asked for, a third of the bytes.

        Returns:
            Fields of (num_envs, number of offsets, ...), and joint angles (num_envs, number of joint_offsets,
            num_joints).
        """
        furthest = max((*offsets, *joint_offsets))
        self._planner.need(math.ceil(furthest * self._frames_per_step - 1e-6) + (0 if self._same_rate else 1))
        if self._fused is not None:
            ahead, last = self._kept((*offsets, *joint_offsets)), self._planner.last_frames()
            return self._fused.frames(self.shown, ahead, len(offsets), self._planner.motions, self.origin, last)
        ahead, joints_ahead = self._kept(offsets), self._kept(joint_offsets)
        if self._in_one_pass(len(self.shown) * (len(ahead) + len(joints_ahead))):
            motions = self._planner.motions
            return self._store.read_in_world(self.shown, ahead, joints_ahead, motions, self.origin, self._columns)
        frames = self._read(*self._rows_ahead(ahead), self.origin.unsqueeze(1))
        if not joint_offsets:
            return frames, frames.dof_pos[:, :0]
        return frames, self._read_joints(*self._rows_ahead(joints_ahead))[0]

    def poses(self, env_ids: torch.Tensor) -> torch.Tensor:
        """x, y and heading shown now in each motion's own frame, (n, 3)."""
        if not self._same_rate:
            self._planner.need(1)
        rows, following, _ = self._rows_now()
        poses = self._store.read(rows[env_ids])[2][:, POSE_COLUMNS]
        if following is None:
            return poses
        next_poses = self._store.read(following[env_ids])[2][:, POSE_COLUMNS]
        return torch.lerp(poses, next_poses, self.share[env_ids].float().unsqueeze(1))

    def anchor(self, env_ids: torch.Tensor, root_pose: torch.Tensor) -> None:
        """Put what environments (n,) are shown now at x, y and heading ``root_pose`` (n, 3) of the world."""
        poses = self.poses(env_ids)
        heading = root_pose[:, 2:] - poses[:, 2:]
        self._in_world = False
        self.origin[env_ids] = torch.cat((root_pose[:, :2] - rotate_xy(poses, heading.squeeze(1)), heading), dim=1)

    def place_in_world(self, env_ids: torch.Tensor) -> None:
        """Motions of environments (n,) now live in the world itself."""
        if not self._in_world:
            self.origin[env_ids] = 0.0

    def stop_at_ends(self) -> None:
        """Put clocks that have run past the last frame, which is held, back to it."""
        last = self._planner.last_frames()
        if last is not None:
            self.share.masked_fill_(self.shown >= last, 0.0)
            torch.minimum(self.shown, last, out=self.shown)
            self.forget()

    # Inside -----------------------------------------------------------------------------------------------------------

    def _kept(self, offsets: Sequence[int]) -> torch.Tensor:
        """Offsets as a tensor, which is kept, so that a window asked for at every step costs no copy."""
        key = tuple(offsets)
        if key not in self._offsets:
            self._offsets[key] = torch.tensor(key, dtype=torch.long, device=self._device)
        return self._offsets[key]

    def _rows_ahead(self, ahead: torch.Tensor) -> tuple[Rows, torch.Tensor]:
        """Rows of frames so many control steps (num_steps,) ahead, and shares of the way to the next."""
        if self._same_rate:
            return self._rows(self.shown.unsqueeze(1) + ahead), self.share.unsqueeze(1)
        times = self.share.unsqueeze(1) + self._frames_per_step * ahead
        return self._rows(self.shown.unsqueeze(1) + times.floor().long()), times - times.floor()

    def _in_one_pass(self, num_frames: int) -> bool:
        """Whether frames are read by a compiled loop, which takes a single thread."""
        plain = self._same_rate and self._store.fused and self._planner.last_frames() is None
        return plain and (torch.get_num_threads() == 1 or num_frames <= SMALL_READ)

    def _rows_now(self) -> Rows:
        if self._located is not None:
            return self._located, None, None
        if self._current_rows is None:
            self._current_rows = self._rows(self.shown)
        return self._current_rows

    def _rows(self, frames: torch.Tensor) -> Rows:
        """Rows of frames (num_envs, ...), rows of the next ones where they are needed, and which are past the end."""
        motions, last, past = self._planner.motions, self._planner.last_frames(), None
        if last is not None:
            last = last.view(-1, *[1] * (frames.ndim - 1))
            past = frames >= last if self._hold else None
            frames = torch.minimum(frames, last)
        rows = self._store.rows(frames, motions)
        if self._same_rate:
            return rows, None, past
        following = frames + 1 if last is None else torch.minimum(frames + 1, last)
        return rows, self._store.rows(following, motions), past

    def _read_joints(self, rows: Rows, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Joint angles and velocities (num_envs, ..., num_joints) in rows and a share of the way to the next."""
        present, following, past = rows
        joints = self._store.read_joints(present)
        if following is not None:
            joints = self._store.interpolate_joints(joints, self._store.read_joints(following), share)
        if past is not None:
            joints[..., self._store.layout["dof_vel"]] *= (~past).unsqueeze(-1)
        return self._ordered(*joints.chunk(2, dim=-1))

    def _read(self, rows: Rows, share: torch.Tensor, origin: torch.Tensor) -> MotionFrames:
        """What is seen in rows (num_envs, ...) and a share of the way to the next."""
        present, following, past = rows
        joints, seen, places = self._store.read(present)
        if following is not None:
            next_joints, next_seen, next_places = self._store.read(following)
            joints = self._store.interpolate_joints(joints, next_joints, share)
            share = share.float().unsqueeze(-1)
            seen, places = torch.lerp(seen, next_seen, share), torch.lerp(places, next_places, share)
        motion = frames_in_world(joints, seen, places, None if self._in_world else origin)
        if following is not None:
            motion.root_quat_w = torch.nn.functional.normalize(motion.root_quat_w, dim=-1)
        if past is not None:
            moving = (~past).unsqueeze(-1)
            for velocity in (motion.dof_vel, motion.root_lin_vel_w, motion.root_ang_vel_w):
                velocity *= moving
        motion.dof_pos, motion.dof_vel = self._ordered(motion.dof_pos, motion.dof_vel)
        return motion

    def _ordered(self, dof_pos: torch.Tensor, dof_vel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Joint angles and velocities (..., num_joints) in the order that is returned."""
        if self._columns is None:
            return dof_pos, dof_vel
        return dof_pos[..., self._columns], dof_vel[..., self._columns]
