"""Generated frames of all motions in one tensor, and what a reader sees of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Sequence

import torch

from cmg_ref.layout import StateLayout
from cmg_ref.rotations import quat_from_gravity_and_yaw, quat_rotate

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

    Args:
        sizes: (number of motions, frames kept of each) of one or more groups of motions.
        layout: channels of a stored state, root channels included.
        fps: frames a second.
        device: device of the frames.
        dtype: type the states are stored in; position and heading stay in float32, for they grow without bound.

    Attributes:
        capacities: frames kept of each motion, (num_motions,).
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        layout: StateLayout,
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
        self.states = torch.zeros(num_rows, layout.size, dtype=dtype, device=device)
        self.poses = torch.zeros(num_rows, NUM_POSE, device=device)

    @property
    def num_bytes(self) -> int:
        """Memory held by the frames [bytes]."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.states, self.poses))

    def rows(self, frames: torch.Tensor, motions: slice | torch.Tensor) -> torch.Tensor:
        """Row of each frame index (n, ...) of motions (n,), of the shape of ``frames``."""
        shape = (-1, *[1] * (frames.ndim - 1))
        return self._first_row[motions].view(shape) + frames % self.capacities[motions].view(shape)

    def write(
        self, frames: torch.Tensor, states: torch.Tensor, poses: torch.Tensor, motions: slice | torch.Tensor
    ) -> None:
        """Store one frame for each of motions (n,): indices (n,), states (n, state_dim), poses (n, 3)."""
        rows = self.rows(frames, motions)
        self.states.index_copy_(0, rows, states.to(self.states.dtype))
        self.poses.index_copy_(0, rows, poses)

    def read(self, frames: torch.Tensor, motions: slice | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States (n, ..., state_dim) in float32 and poses (n, ..., 3) at frame indices (n, ...) of motions (n,)."""
        rows = self.rows(frames, motions).flatten()
        shape = frames.shape
        states, poses = self.states.index_select(0, rows), self.poses.index_select(0, rows)
        return states.float().view(*shape, self.layout.size), poses.view(*shape, NUM_POSE)

    def copy(self, frames: torch.Tensor, sources: torch.Tensor, motions: torch.Tensor) -> None:
        """Copy frames (n, num_frames) of motions ``sources`` (n,) into the same frames of motions (n,)."""
        source_rows, rows = self.rows(frames, sources).flatten(), self.rows(frames, motions).flatten()
        self.states[rows] = self.states[source_rows]
        self.poses[rows] = self.poses[source_rows]

    def integrate(self, poses: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """World pose (n, 3) one frame on, by the trapezoidal rule, from states before and after (n, state_dim)."""
        rate, velocity = self.layout["root_yaw_rate"], self.layout["root_lin_vel_h"]
        heading = poses[:, 2] + (0.5 / self.fps) * (before[:, rate] + after[:, rate]).squeeze(1)
        moved = rotate_xy(before[:, velocity], poses[:, 2]) + rotate_xy(after[:, velocity], heading)
        return torch.cat((poses[:, :2] + (0.5 / self.fps) * moved, heading.unsqueeze(1)), dim=1)

    def interpolate(
        self, first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor], share: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States and poses between two successive frames.

        Joint angles and their velocities follow one cubic Hermite polynomial, so that they stay consistent; everything
        else is linear.

        Args:
            first: states (..., state_dim) and poses (..., 3).
            second: those of the next frame.
            share: 0 at the first, 1 at the second, (...).
        """
        share = share.to(first[0].dtype).unsqueeze(-1)
        states = torch.lerp(first[0], second[0], share)
        poses = torch.lerp(first[1], second[1], share)
        position, velocity = self.layout["dof_pos"], self.layout["dof_vel"]
        dt = 1.0 / self.fps
        q0, q1 = first[0][..., position], second[0][..., position]
        v0, v1 = first[0][..., velocity] * dt, second[0][..., velocity] * dt
        square, cube = 3.0 * (q1 - q0) - 2.0 * v0 - v1, 2.0 * (q0 - q1) + v0 + v1
        states[..., position] = q0 + share * (v0 + share * (square + share * cube))
        states[..., velocity] = (v0 + share * (2.0 * square + 3.0 * share * cube)) / dt
        return states, poses

    def motion(self, states: torch.Tensor, poses: torch.Tensor, next_states: torch.Tensor) -> MotionFrames:
        """What a reader sees of states (..., state_dim) and poses (..., 3); the next frame gives their rates."""
        parts = self.layout.split(states)
        gravity, heading = parts["projected_gravity"], poses[..., 2]
        quat = quat_from_gravity_and_yaw(gravity, heading)
        velocity = parts["root_lin_vel_h"]
        following = self.layout.split(next_states)
        gravity_rate = (following["projected_gravity"] - gravity) * self.fps
        climb = (following["root_height"] - parts["root_height"]) * self.fps
        return MotionFrames(
            dof_pos=parts["dof_pos"],
            dof_vel=parts["dof_vel"],
            root_pos_w=torch.cat((poses[..., :2], parts["root_height"]), dim=-1),
            root_quat_w=quat,
            root_lin_vel_w=torch.cat((rotate_xy(velocity, heading), climb), dim=-1),
            root_ang_vel_w=_angular_velocity(quat, gravity, gravity_rate, parts["root_yaw_rate"]),
        )


def _angular_velocity(
    quat: torch.Tensor, gravity: torch.Tensor, gravity_rate: torch.Tensor, yaw_rate: torch.Tensor
) -> torch.Tensor:
    """Angular velocity in the world (..., 3) from the rates of gravity in the base frame (..., 3) and of yaw (..., 1).

    A vector fixed in the world changes by dg/dt = g x w in the base frame, so with |g| = 1 the part of w across g is
    -(g x dg/dt). Along the vertical w is the yaw rate less the roll rate times the sine of the pitch, which is g_x.
    """
    across_w = quat_rotate(quat, -torch.cross(gravity, gravity_rate, dim=-1))
    y, z = gravity[..., 1], gravity[..., 2]
    roll_rate = (z * gravity_rate[..., 1] - y * gravity_rate[..., 2]) / (y**2 + z**2).clamp(min=1e-6)
    vertical = yaw_rate.squeeze(-1) - gravity[..., 0] * roll_rate
    return torch.cat((across_w[..., :2], vertical.unsqueeze(-1)), dim=-1)


def rotate_xy(vectors: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """The horizontal part of vectors (..., >= 2) turned about the vertical by an angle (...), (..., 2)."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = vectors[..., 0], vectors[..., 1]
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1)


def place(poses: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
    """Poses (..., 3) of x, y and heading, given in the frame of ``origin`` (..., 3), in the world."""
    x_y = origin[..., :2] + rotate_xy(poses, origin[..., 2])
    return torch.cat((x_y, (origin + poses)[..., 2:]), dim=-1)
