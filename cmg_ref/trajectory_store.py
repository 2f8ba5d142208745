"""Generated frames of all motions in one tensor, and what a reader sees of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Sequence

import torch

from cmg_ref.layout import StateLayout

NUM_POSE = 3  # x, y, heading


@dataclass
class MotionFrames:
    """Reference motion at one or more times; (...) is (num_envs,) or (num_envs, num_steps).

    Attributes:
        dof_pos: joint angles (..., num_joints) [rad].
        dof_vel: joint velocities (..., num_joints) [rad/s].
        root_pos_w: position of the root's origin in the world (..., 3) [m].
        root_quat_w: orientation of the root in the world, xyzw, (..., 4).
        root_lin_vel_w: velocity of the root's origin in the world (..., 3) [m/s].
        root_ang_vel_w: angular velocity of the root in the world (..., 3) [rad/s].
    """

    dof_pos: torch.Tensor
    dof_vel: torch.Tensor
    root_pos_w: torch.Tensor
    root_quat_w: torch.Tensor
    root_lin_vel_w: torch.Tensor
    root_ang_vel_w: torch.Tensor

    def select(self, env_ids: torch.Tensor) -> MotionFrames:
        """The rows of some environments."""
        return MotionFrames(**{field.name: getattr(self, field.name)[env_ids] for field in fields(self)})


class TrajectoryStore:
    """Motion frames of many motions: frame k of a motion sits in place ``k % capacity`` of its own ring.

    Joints and root lie in tensors of their own, so that whoever reads only joints moves only joints.

    Args:
        sizes: (number of motions, frames kept of each) of one or more groups of motions.
        layout: channels of a stored state, root channels included.
        num_tilt: columns stored beside the root channels.
        fps: frames a second.
        device: device of the frames.
        dtype: type the states are stored in; position and heading stay in float32, for they grow without bound.

    Attributes:
        capacities: frames kept of each motion, (num_motions,).
        joints: joint angles and velocities, (num_rows, 2 * num_joints).
        root: root channels and the columns beside them, (num_rows, number of root channels + num_tilt).
        poses: x, y and heading, (num_rows, 3).
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        layout: StateLayout,
        num_tilt: int,
        fps: float,
        device: str | torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.layout = layout
        self.fps = fps
        self.capacities = torch.cat([torch.full((number,), capacity, device=device) for number, capacity in sizes])
        ends = self.capacities.cumsum(0)
        self._first_row = ends - self.capacities
        num_rows = sum(number * capacity for number, capacity in sizes)
        num_joints = 2 * layout.num_joints
        self.joints = torch.zeros(num_rows, num_joints, dtype=dtype, device=device)
        self.root = torch.zeros(num_rows, layout.size - num_joints + num_tilt, dtype=dtype, device=device)
        self.poses = torch.zeros(num_rows, NUM_POSE, device=device)

    @property
    def num_bytes(self) -> int:
        """Memory held by the frames [bytes]."""
        return sum(held.numel() * held.element_size() for held in (self.joints, self.root, self.poses))

    def rows(self, frames: torch.Tensor, motions: slice | torch.Tensor) -> torch.Tensor:
        """Row of each frame index (n, ...) of motions (n,), of the shape of ``frames``."""
        shape = (-1, *[1] * (frames.ndim - 1))
        return self._first_row[motions].view(shape) + frames % self.capacities[motions].view(shape)

    def write(
        self,
        frames: torch.Tensor,
        states: torch.Tensor,
        tilt: torch.Tensor,
        poses: torch.Tensor,
        motions: slice | torch.Tensor,
    ) -> None:
        """Store one frame for each of motions (n,).

        Args:
            frames: frame indices, (n,).
            states: (n, state_dim).
            tilt: the columns beside the root channels, (n, num_tilt).
            poses: x, y and heading, (n, 3).
            motions: motions concerned, (n,).
        """
        rows = self.rows(frames, motions)
        num_joints, dtype = self.joints.shape[1], self.joints.dtype
        self.joints.index_copy_(0, rows, states[:, :num_joints].to(dtype))
        self.root.index_copy_(0, rows, torch.cat((states[:, num_joints:], tilt), dim=1).to(dtype))
        self.poses.index_copy_(0, rows, poses)

    def read_joints(self, rows: torch.Tensor) -> torch.Tensor:
        """Joint angles and velocities of rows (...), (..., 2 * num_joints) in float32."""
        return self.joints.index_select(0, rows.flatten()).float().view(*rows.shape, self.joints.shape[1])

    def read_root(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Root channels with the columns beside them (..., columns) in float32, and poses (..., 3), of rows (...)."""
        flat = rows.flatten()
        root, poses = self.root.index_select(0, flat).float(), self.poses.index_select(0, flat)
        return root.view(*rows.shape, self.root.shape[1]), poses.view(*rows.shape, NUM_POSE)

    def read_states(
        self, frames: torch.Tensor, motions: slice | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What :meth:`write` was given: states, tilt and poses at frames (n, ...) of motions (n,)."""
        rows = self.rows(frames, motions)
        root, poses = self.read_root(rows)
        num_channels = self.layout.size - self.joints.shape[1]
        states = torch.cat((self.read_joints(rows), root[..., :num_channels]), dim=-1)
        return states, root[..., num_channels:], poses

    def copy(self, frames: torch.Tensor, sources: torch.Tensor, motions: torch.Tensor) -> None:
        """Copy frames (n, num_frames) of motions ``sources`` (n,) into the same frames of motions (n,)."""
        source_rows, rows = self.rows(frames, sources).flatten(), self.rows(frames, motions).flatten()
        for held in (self.joints, self.root, self.poses):
            held[rows] = held[source_rows]

    def integrate(self, poses: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """World pose (n, 3) one frame on, by the trapezoidal rule, from states before and after (n, state_dim)."""
        rate, velocity = self.layout["root_yaw_rate"], self.layout["root_lin_vel_h"]
        heading = poses[:, 2] + (0.5 / self.fps) * (before[:, rate] + after[:, rate]).squeeze(1)
        moved = rotate_xy(before[:, velocity], poses[:, 2]) + rotate_xy(after[:, velocity], heading)
        return torch.cat((poses[:, :2] + (0.5 / self.fps) * moved, heading.unsqueeze(1)), dim=1)

    def interpolate_joints(self, first: torch.Tensor, second: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """Joints between two successive frames: angles and velocities on one cubic Hermite polynomial.

        Args:
            first: joint angles and velocities, (..., 2 * num_joints).
            second: those of the next frame.
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


def place(poses: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
    """Poses (..., 3) of x, y and heading, given in the frame of ``origin`` (..., 3), in the world."""
    x_y = origin[..., :2] + rotate_xy(poses, origin[..., 2])
    return torch.cat((x_y, (origin + poses)[..., 2:]), dim=-1)


def rotate_xy(vectors: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """The horizontal part of vectors (..., >= 2) turned about the vertical by an angle (...), (..., 2)."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = vectors[..., 0], vectors[..., 1]
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1)
