"""Generated frames of all motions in one tensor, and what a reader sees of them."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import torch

from cmg_ref.core.backends import call_loop, chosen_backend
from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.frames.root_motion import NUM_SEEN, NUM_VELOCITIES, root_channels, rotate_xy

__all__ = ["NUM_POSE", "MotionFrames", "TrajectoryStore", "rotate_xy"]

NUM_POSE = 3  # x, y, heading
NUM_PLACE = 4  # x, y, height, heading
NUM_GRAVITY = 3  # stored for generation alone; readers see it as an orientation
POSE_COLUMNS = [0, 1, 3]  # of a place, those of a pose


class TrajectoryStore:
    """Motion frames of many motions: frame k of a motion sits in place ``k % capacity`` of its own ring.

    What readers see lies side by side, joints first, so that a read is one gather and moves no more than is asked for.

    Args:
        sizes: (number of motions, frames kept of each) of one or more groups of motions.
        layout: Channels of a stored state, root channels included.
        fps: Frames a second.
        device: Device of the frames.
        dtype: Type the states are stored in; places are float32 always, for they grow without bound.
        backend: What places and reads them, see :mod:`cmg_ref.core.backends`.

    Attributes:
        capacities: Frames kept of each motion, (num_motions,).
        first_rows: Row of the first of them, (num_motions,).
        by_numba: Whether :meth:`place`, :meth:`place_first` and :meth:`read_in_world` can be used: in float32.
        table: Joint angles and velocities, the seen columns of the root, its place (x, y, height and heading) and
            gravity, (num_rows, columns).
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        layout: StateLayout,
        fps: float,
        device: str | torch.device,
        dtype: torch.dtype = torch.float32,
        backend: str = "auto",
    ) -> None:
        self.layout = layout
        self.fps = fps
        self.dtype = dtype
        self.capacities = torch.cat([torch.full((number,), capacity, device=device) for number, capacity in sizes])
        ends = self.capacities.cumsum(0)
        self.first_rows = ends - self.capacities
        self._numbers = torch.arange(len(ends), device=device)
        num_rows = sum(number * capacity for number, capacity in sizes)
        self._num_joints = 2 * layout.num_joints
        # A float32 takes the room of two columns where states are stored in 16 bits.
        self._num_read = self._num_joints + NUM_SEEN + NUM_PLACE * (1 if dtype == torch.float32 else 2)
        self.table = _zeros(num_rows, self._num_read + NUM_GRAVITY, dtype, torch.device(device))
        self._joints = self.table[:, : self._num_joints]
        self.by_numba = dtype == torch.float32 and chosen_backend(backend, self.table.device) == "numba"
        if self.by_numba:
            from cmg_ref.frames import numba_frames

            self._loops = numba_frames

    @property
    def num_bytes(self) -> int:
        """Memory held by the frames [bytes]."""
        return self.table.numel() * self.table.element_size()

    @property
    def bits(self) -> torch.Tensor:
        """The table as numbers of 16 bits, two of which hold a float32 of a place; in float32 the table itself."""
        return self.table if self.dtype == torch.float32 else self.table.view(torch.int16)

    def extra_columns(self, number: int) -> torch.Tensor:
        """Zeros (num_rows, number), for what a user of the store keeps of each row."""
        return _zeros(len(self.table), number, torch.float32, self.table.device)

    def still(self, rows: torch.Tensor) -> None:
        """Let everything be at rest in rows (n,)."""
        joints = self._num_joints
        for columns in (slice(joints // 2, joints), slice(joints, joints + NUM_VELOCITIES)):
            self.table[rows, columns] = 0.0

    def rows(self, frames: torch.Tensor, motions: slice | torch.Tensor) -> torch.Tensor:
        """Row of each frame index (n, ...) of motions (n,), of the shape of ``frames``."""
        first, capacities = self.first_rows[motions], self.capacities[motions]
        if frames.ndim > 1:
            shape = (-1, *[1] * (frames.ndim - 1))
            first, capacities = first.view(shape), capacities.view(shape)
        return (frames % capacities).add_(first)

    def write(
        self,
        frames: torch.Tensor,
        states: torch.Tensor,
        seen: torch.Tensor,
        poses: torch.Tensor,
        motions: slice | torch.Tensor,
    ) -> None:
        """Store one frame for each of motions (n,).

        Args:
            frames: Frame indices, (n,).
            states: (n, state_dim).
            seen: Columns that describe the root, (n, NUM_SEEN).
            poses: x, y and heading, (n, 3).
            motions: Motions concerned, (n,).
        """
        layout = self.layout
        place = torch.cat((poses[:, :2], states[:, layout["root_height"]], poses[:, 2:]), dim=1)
        if self.dtype != torch.float32:
            states, seen, place = states.to(self.dtype), seen.to(self.dtype), place.view(self.dtype)
        parts = (states[:, : self._num_joints], seen, place, states[:, layout["projected_gravity"]])
        self.table.index_copy_(0, self.rows(frames, motions), torch.cat(parts, dim=1))

    def place(
        self,
        frames: torch.Tensor,
        poses: torch.Tensor,
        before: torch.Tensor,
        now: torch.Tensor,
        motions: slice | torch.Tensor,
        placed: torch.Tensor,
    ) -> None:
        """Store one frame for each of motions (n,) where the frame before leads it, in one pass (:attr:`by_numba`).

        Args:
            frames: Frame indices, (n,).
            poses: x, y and heading a frame before, (n, 3).
            before: States a frame before, (n, state_dim).
            now: States to store, (n, state_dim).
            motions: Motions concerned, (n,).
            placed: Written, x, y and heading, (n, 3).
        """
        seconds = np.float32(1.0 / self.fps)
        self._place(frames, poses, before, now, seconds, seconds, motions, placed)

    def place_first(
        self, poses: torch.Tensor, states: torch.Tensor, following: torch.Tensor, motions: torch.Tensor
    ) -> None:
        """Store frame 0 of motions (n,) where it is, in one pass (:attr:`by_numba`).

        Args:
            poses: x, y and heading, (n, 3).
            states: States to store, (n, state_dim).
            following: States a frame later, (n, state_dim).
            motions: Motions concerned, (n,).
        """
        poses, states, following = poses.contiguous(), states.contiguous(), following.contiguous()
        frames, placed = torch.zeros_like(motions), torch.empty_like(poses)
        self._place(frames, poses, following, states, np.float32(0.0), np.float32(-1.0 / self.fps), motions, placed)

    def _place(
        self,
        frames: torch.Tensor,
        poses: torch.Tensor,
        before: torch.Tensor,
        now: torch.Tensor,
        passed: np.float32,
        dt: np.float32,
        motions: slice | torch.Tensor,
        placed: torch.Tensor,
    ) -> None:
        rows, num = self.rows(frames, motions), self._num_joints
        call_loop(self._loops.place, rows, poses, before, now, passed, dt, num, self.table, placed)

    def read_joints(self, rows: torch.Tensor) -> torch.Tensor:
        """Joint angles and velocities of rows (...), (..., 2 * num_joints) in float32."""
        if rows.ndim == 1:  # The common case, in which each operation counts.
            return self._joints.index_select(0, rows).float()
        return self._joints.index_select(0, rows.flatten()).view(*rows.shape, self._num_joints).float()

    def read(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Joints (..., 2 * num_joints), seen columns (..., NUM_SEEN) and places (..., 4) of rows (...).

        They are in float32 and in new memory, which they share.
        """
        columns = self.table[:, : self._num_read].index_select(0, rows.flatten())
        return self._split(columns.view(*rows.shape, self._num_read))

    def read_states(
        self, frames: torch.Tensor, motions: slice | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What :meth:`write` was given: states, seen columns and poses at frames (n, ...) of motions (n,)."""
        rows = self.rows(frames, motions)
        columns = self.table.index_select(0, rows.flatten()).view(*rows.shape, self.table.shape[1])
        joints, seen, places = self._split(columns[..., : self._num_read])
        parts = {"joints": joints, **root_channels(seen, places, columns[..., self._num_read :].float())}
        states = torch.cat([parts[name] for name in ("joints", *list(self.layout)[2:])], dim=-1)
        return states, seen, places[..., POSE_COLUMNS]

    def read_last(self, frames: torch.Tensor, motions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States (n, state_dim) and poses (n, 3) at frames (n,) of motions (n,)."""
        if not self.by_numba:
            states, _, poses = self.read_states(frames, motions)
            return states, poses
        states, poses = torch.empty(len(frames), self.layout.size), torch.empty(len(frames), NUM_POSE)
        rows = self.rows(frames, motions)
        call_loop(self._loops.recall, rows, self._num_joints, self.table, states, poses)
        return states, poses

    def _split(self, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Joints, seen columns and places (...) in float32 out of the columns that are read."""
        first, second = self._num_joints, self._num_joints + NUM_SEEN
        joints, seen, place = columns[..., :first], columns[..., first:second], columns[..., second:]
        if self.dtype == torch.float32:
            return joints, seen, place
        # A single row passes for contiguous where it is; only a copy lies as two columns to a float32 must.
        place = place.clone(memory_format=torch.contiguous_format)
        return joints.float(), seen.float(), place.view(torch.float32)

    def read_in_world(
        self,
        frames: torch.Tensor,
        offsets: torch.Tensor,
        joint_offsets: torch.Tensor,
        motions: slice | torch.Tensor,
        origins: torch.Tensor,
        columns: torch.Tensor | None,
    ) -> tuple[MotionFrames, torch.Tensor]:
        """Frames as they are seen in the world, in one pass (:attr:`by_numba`).

        Args:
            frames: Present frame of each motion, (n,).
            offsets: Frames from there to those asked for, (num_steps,).
            joint_offsets: Frames from there to those whose joint angles alone are asked for, (num_joint_steps,).
            motions: Motions concerned, (n,).
            origins: x, y and heading of each motion's own frame in the world, (n, 3).
            columns: Stored number of each joint asked for, (num_joints,); None for all as they are stored.

        Returns:
            Fields of (n, num_steps, ...), and joint angles (n, num_joint_steps, num_joints).
        """
        num_joints = self.layout.num_joints if columns is None else len(columns)
        shape = (len(frames), len(offsets))
        fields = [torch.empty(*shape, width) for width in (num_joints, num_joints, 3, 4, 3, 3)]
        dof_pos = torch.empty(len(frames), len(joint_offsets), num_joints)
        columns = self._numbers[:0] if columns is None else columns
        where = self.table, self.first_rows, self.capacities, self._numbers[motions]
        call_loop(self._loops.read, *where, frames, offsets, joint_offsets, origins, columns, *fields, dof_pos)
        return MotionFrames(*fields), dof_pos

    def copy(self, frames: torch.Tensor, sources: torch.Tensor, motions: torch.Tensor) -> None:
        """Copy frames (n, num_frames) of motions ``sources`` (n,) into the same frames of motions (n,)."""
        rows, source_rows = self.rows(frames, motions).flatten(), self.rows(frames, sources).flatten()
        self.table[rows] = self.table.index_select(0, source_rows)

    def integrate(self, poses: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """World pose (n, 3) one frame on, by the trapezoidal rule, from states before and after (n, state_dim)."""
        rate, velocity = self.layout["root_yaw_rate"], self.layout["root_lin_vel_h"]
        heading = poses[:, 2] + (0.5 / self.fps) * (before[:, rate] + after[:, rate]).squeeze(1)
        moved = rotate_xy(before[:, velocity], poses[:, 2]) + rotate_xy(after[:, velocity], heading)
        return torch.cat((poses[:, :2] + (0.5 / self.fps) * moved, heading.unsqueeze(1)), dim=1)

    def interpolate_joints(self, first: torch.Tensor, second: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """Joints between two successive frames: angles and velocities on one cubic Hermite polynomial.

        Args:
            first: Joint angles and velocities, (..., 2 * num_joints).
            second: Those of the next frame.
            share: 0 at the first, 1 at the second, (...).
        """
        share = share.to(first.dtype).unsqueeze(-1)
        dt = 1.0 / self.fps
        (q0, v0), (q1, v1) = first.chunk(2, dim=-1), second.chunk(2, dim=-1)
        v0, v1 = v0 * dt, v1 * dt
        square, cube = 3.0 * (q1 - q0) - 2.0 * v0 - v1, 2.0 * (q0 - q1) + v0 + v1
        position = q0 + share * (v0 + share * (square + share * cube))
        velocity = (v0 + share * (2.0 * square + 3.0 * share * cube)) / dt
        return torch.cat((position, velocity), dim=-1)


def _zeros(num_rows: int, num_columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros (num_rows, num_columns)."""
    if device.type != "cpu":
        return torch.zeros(num_rows, num_columns, dtype=dtype, device=device)
    # NumPy asks for huge pages, torch does not: reading rows far apart then takes a fifth less.
    return torch.from_numpy(np.zeros((num_rows, num_columns), np.float32 if dtype == torch.float32 else np.float16))
