"""What every environment is shown: its place in the world, and the frames read at its clock."""

from __future__ import annotations

import warnings
from typing import Optional, Sequence, Tuple

import torch

from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.cuda_graph.triton_reader import TritonReader
from cmg_ref.frames.root_motion import frames_in_world, rotate_xy
from cmg_ref.frames.store import NUM_POSE, POSE_COLUMNS, TrajectoryStore
from cmg_ref.trajectories.clock import FrameClock
from cmg_ref.trajectories.frame_supply import FrameSupply

SMALL_READ = 3072  # frames that one thread has read by the time torch has several at work

# Rows, rows of the next frames where the clock is between frames, and what is past its end where that is held.
Rows = Tuple[torch.Tensor, Optional[torch.Tensor], Optional[torch.Tensor]]


class MotionReader:
    """Reads frames at each environment's clock.

    Args:
        clock: Which frame every environment is shown.
        joint_columns: Column of each joint in the order that is returned, (num_joints,); None for the stored order.
        hold: Whether environments past their last frame stand still.

    Attributes:
        clock: Which frame every environment is shown.
        origin: x, y and heading of each motion's own frame in the world, (num_envs, 3).
    """

    def __init__(self, clock: FrameClock, joint_columns: torch.Tensor | None, hold: bool) -> None:
        self.clock = clock
        self._device, self._hold = clock.shown.device, hold
        self.origin = torch.zeros(len(clock.shown), NUM_POSE, device=self._device)
        self._in_world = True  # No motion lives in a frame of its own: readers need not turn and shift anything.
        self._columns = joint_columns
        self._offsets: dict[tuple[int, ...], torch.Tensor] = {}
        self._current: tuple[torch.Tensor, torch.Tensor] | None = None
        self._current_rows: Rows | None = None
        self._joints_are_read = False
        self._triton: TritonReader | None = None
        self._located: torch.Tensor | None = None
        self._shown_joints: torch.Tensor | None = None

    @property
    def columns(self) -> torch.Tensor | None:
        """Columns of the angles and velocities that Triton's kernels read, (2 * num_joints,); None without those."""
        return None if self._triton is None else self._triton.columns

    def attach(self, store: TrajectoryStore, supply: FrameSupply, kernels: bool = False) -> None:
        """Read from this store from now on, by Triton's kernels where those are wanted and can be built."""
        self._store, self._supply = store, supply
        self._triton = self._kernels() if kernels and self.clock.on_frames else None
        self._located = self._shown_joints = None
        self.forget()

    def follow(self, located: torch.Tensor, joints: torch.Tensor) -> None:
        """Leave the clock and what is on show to the caller.

        Args:
            located: The rows, (num_envs,).
            joints: Joint angles and velocities in them, (num_envs, 2 * num_joints).
        """
        self._located, self._shown_joints = located, joints

    def forget(self) -> None:
        """What is shown has changed."""
        self._current = self._current_rows = None

    def locate(self) -> None:
        """Find the rows that are shown now, so that reading joints later is one gather, if the last step read any."""
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
            self._supply.need(self.clock.reach())
            self._current = self._read_joints(self._rows_now(), self.clock.share)
        return self._current

    def frames(self) -> MotionFrames:
        """Joints and root shown now, fields of (num_envs, ...)."""
        self._supply.need(self.clock.reach())
        if self._triton is not None:
            ahead, last = self._kept((0,)), self._supply.last_frames()
            seen, _ = self._triton.frames(self.clock.shown, ahead, 1, self._supply.motions, self.origin, last)
            return seen.select((slice(None), 0))
        return self._read(self._rows_now(), self.clock.share, self.origin)

    def future(self, offsets: Sequence[int], joint_offsets: Sequence[int] = ()) -> tuple[MotionFrames, torch.Tensor]:
        """What is shown so many control steps from now.

        Args:
            offsets: Steps of which everything is asked for, at least one.
            joint_offsets: Steps of which the joint angles alone are asked for, a third of the bytes.

        Returns:
            Fields of (num_envs, number of offsets, ...), and joint angles (num_envs, number of joint_offsets,
            num_joints).
        """
        furthest = max((*offsets, *joint_offsets))
        self._supply.need(self.clock.reach(furthest))
        if self._triton is not None:
            ahead, last = self._kept((*offsets, *joint_offsets)), self._supply.last_frames()
            return self._triton.frames(self.clock.shown, ahead, len(offsets), self._supply.motions, self.origin, last)
        ahead, joints_ahead = self._kept(offsets), self._kept(joint_offsets)
        if self._in_one_pass(len(self.clock.shown) * (len(ahead) + len(joints_ahead))):
            motions = self._supply.motions
            return self._store.read_in_world(self.clock.shown, ahead, joints_ahead, motions, self.origin, self._columns)
        frames = self._read(*self._rows_ahead(ahead), self.origin.unsqueeze(1))
        if not joint_offsets:
            return frames, frames.dof_pos[:, :0]
        return frames, self._read_joints(*self._rows_ahead(joints_ahead))[0]

    def poses(self, env_ids: torch.Tensor) -> torch.Tensor:
        """x, y and heading shown now in each motion's own frame, (n, 3)."""
        self._supply.need(self.clock.reach())
        rows, following, _ = self._rows_now()
        poses = self._store.read(rows[env_ids])[2][:, POSE_COLUMNS]
        if following is None:
            return poses
        next_poses = self._store.read(following[env_ids])[2][:, POSE_COLUMNS]
        return torch.lerp(poses, next_poses, self.clock.share[env_ids].float().unsqueeze(1))

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
        last = self._supply.last_frames()
        if last is not None:
            self.clock.stop_at(last)
            self.forget()

    # Inside -----------------------------------------------------------------------------------------------------------

    def _kernels(self) -> TritonReader | None:
        """Triton's kernels, tried out; torch's operations remain where that fails, which is warned of."""
        try:
            triton = TritonReader(self._store, self._columns, self._hold)
            everyone = torch.arange(len(self.clock.shown), device=self._device)
            triton.frames(self.clock.shown, self._kept((0, 0)), 1, everyone, self.origin, None)
        except Exception as error:  # Compilers fail in ways of their own.
            warnings.warn(f"reading: Triton cannot build its kernel here ({error})", stacklevel=4)
            return None
        return triton

    def _kept(self, offsets: Sequence[int]) -> torch.Tensor:
        """Offsets as a tensor, which is kept, so that a window asked for at every step costs no copy."""
        key = tuple(offsets)
        if key not in self._offsets:
            self._offsets[key] = torch.tensor(key, dtype=torch.long, device=self._device)
        return self._offsets[key]

    def _rows_ahead(self, ahead: torch.Tensor) -> tuple[Rows, torch.Tensor]:
        """Rows of frames so many control steps (num_steps,) ahead, and shares of the way to the next."""
        frames, share = self.clock.ahead(ahead)
        return self._rows(frames), share

    def _in_one_pass(self, num_frames: int) -> bool:
        """Whether frames are read by a Numba loop, which takes a single thread."""
        plain = self.clock.on_frames and self._store.by_numba and self._supply.last_frames() is None
        return plain and (torch.get_num_threads() == 1 or num_frames <= SMALL_READ)

    def _rows_now(self) -> Rows:
        if self._located is not None:
            return self._located, None, None
        if self._current_rows is None:
            self._current_rows = self._rows(self.clock.shown)
        return self._current_rows

    def _rows(self, frames: torch.Tensor) -> Rows:
        """Rows of frames (num_envs, ...), rows of the next ones where they are needed, and which are past the end."""
        motions, last, past = self._supply.motions, self._supply.last_frames(), None
        if last is not None:
            last = last.view(-1, *[1] * (frames.ndim - 1))
            past = frames >= last if self._hold else None
            frames = torch.minimum(frames, last)
        rows = self._store.rows(frames, motions)
        if self.clock.on_frames:
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
