"""Rotations on torch tensors: quaternions, matrices, headings and tilts.

Quaternions are unit length and in **xyzw** order everywhere. Every function is batched over its leading dimensions,
broadcasts them, keeps the dtype and device of its input and is differentiable; gradients are finite at the identity.
A quaternion turns vectors from the body's frame into the parent's (or the world's) frame.
"""

from __future__ import annotations

import torch
from torch import Tensor


def quat_multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of quaternions xyzw (..., 4): the rotation ``b`` followed by the rotation ``a``."""
    ax, ay, az, aw = a.unbind(-1)
    bx, by, bz, bw = b.unbind(-1)
    return torch.stack(
        (
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ),
        dim=-1,
    )


def quat_conjugate(q: Tensor) -> Tensor:
    """Inverse of unit quaternions xyzw, (..., 4) -> (..., 4)."""
    return torch.cat((-q[..., :3], q[..., 3:]), dim=-1)


def quat_rotate(q: Tensor, v: Tensor) -> Tensor:
    """Vectors (..., 3) turned by unit quaternions xyzw (..., 4): from the body's frame to the world's."""
    axis, w = q[..., :3], q[..., 3:]
    twice_cross = 2.0 * _cross(axis, v)
    return v + w * twice_cross + _cross(axis, twice_cross)


def quat_rotate_inverse(q: Tensor, v: Tensor) -> Tensor:
    """Vectors (..., 3) turned by the inverse of unit quaternions (..., 4): from the world's frame to the body's."""
    return quat_rotate(quat_conjugate(q), v)


def quat_from_axis_angle(axis: Tensor, angle: Tensor) -> Tensor:
    """Quaternions xyzw (..., 4) of turns about unit vectors (..., 3) by angles (...) [rad]."""
    half = 0.5 * angle.unsqueeze(-1)
    xyz = axis * torch.sin(half)
    return torch.cat((xyz, torch.cos(half).expand((*xyz.shape[:-1], 1))), dim=-1)


def quat_from_matrix(m: Tensor) -> Tensor:
    """Quaternion of rotation matrices, the one with w >= 0.

    The four rows built below are the quaternion times 4x, 4y, 4z and 4w. The largest is taken and normalised, so
    there is neither a cancellation nor a square root near zero (S. W. Shepperd, "Quaternion from rotation matrix",
    Journal of Guidance and Control, 1978).

    Args:
        m: Rotation matrices, (..., 3, 3).

    Returns:
        Quaternions xyzw, (..., 4).
    """
    m00, m01, m02 = m[..., 0, :].unbind(-1)
    m10, m11, m12 = m[..., 1, :].unbind(-1)
    m20, m21, m22 = m[..., 2, :].unbind(-1)
    xx = 1.0 + m00 - m11 - m22
    yy = 1.0 - m00 + m11 - m22
    zz = 1.0 - m00 - m11 + m22
    ww = 1.0 + m00 + m11 + m22
    xy, xz, yz = m01 + m10, m02 + m20, m12 + m21
    xw, yw, zw = m21 - m12, m02 - m20, m10 - m01
    candidates = torch.stack(
        (
            torch.stack((xx, xy, xz, xw), dim=-1),
            torch.stack((xy, yy, yz, yw), dim=-1),
            torch.stack((xz, yz, zz, zw), dim=-1),
            torch.stack((xw, yw, zw, ww), dim=-1),
        ),
        dim=-2,
    )  # (..., 4 candidates, 4)
    best = torch.stack((xx, yy, zz, ww), dim=-1).argmax(dim=-1)
    index = best[..., None, None].expand((*best.shape, 1, 4))
    q = _normalized(candidates.gather(-2, index).squeeze(-2))
    return torch.where(q[..., 3:] < 0.0, -q, q)


def matrix_from_quat(q: Tensor) -> Tensor:
    """Rotation matrices of unit quaternions xyzw, (..., 4) -> (..., 3, 3)."""
    x, y, z, w = q.unbind(-1)
    return torch.stack(
        (
            1.0 - 2.0 * (y * y + z * z),
            2.0 * (x * y - w * z),
            2.0 * (x * z + w * y),
            2.0 * (x * y + w * z),
            1.0 - 2.0 * (x * x + z * z),
            2.0 * (y * z - w * x),
            2.0 * (x * z - w * y),
            2.0 * (y * z + w * x),
            1.0 - 2.0 * (x * x + y * y),
        ),
        dim=-1,
    ).reshape((*q.shape[:-1], 3, 3))


def yaw_from_quat(q: Tensor) -> Tensor:
    """Headings (...) [rad], within [-pi, pi], of unit quaternions xyzw (..., 4): where the base's x axis points."""
    x, y, z, w = q.unbind(-1)
    return torch.atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))


def in_heading(q: Tensor, v: Tensor) -> Tensor:
    """Vectors (..., 3) of the world in the heading frame, which has the heading of a base and stands upright.

    Args:
        q: Unit quaternions xyzw of the base, (..., 4).
        v: Vectors such as velocities, (..., 3).
    """
    x, y, z, w = q.unbind(-1)
    horizontal = horizontal_in_heading(0.5 - (y * y + z * z), x * y + w * z, v[..., 0], v[..., 1])
    return torch.cat((horizontal, v[..., 2:]), dim=-1)


def horizontal_in_heading(ahead_x: Tensor, ahead_y: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Horizontal vectors (x, y) of the world, (...), in the heading frame, (..., 2).

    Args:
        ahead_x: Component along the world's x axis of the base's x axis, of any length, (...).
        ahead_y: Component along the world's y axis, (...).
        x: Component of the vectors along the world's x axis, (...).
        y: Component along the world's y axis, (...).
    """
    # The base's x axis flat on the ground, as a complex number, tells the heading without an angle.
    heading = torch.sgn(torch.complex(ahead_x, ahead_y))
    return torch.view_as_real(torch.complex(x, y) * heading.conj())


def quat_from_yaw(yaw: Tensor) -> Tensor:
    """Quaternions xyzw of a turn about the vertical, (...) radians -> (..., 4)."""
    zero = torch.zeros_like(yaw)
    return torch.stack((zero, zero, torch.sin(0.5 * yaw), torch.cos(0.5 * yaw)), dim=-1)


def quat_from_euler_xyz(roll: Tensor, pitch: Tensor, yaw: Tensor) -> Tensor:
    """Quaternions xyzw (..., 4) of roll, pitch and yaw [rad], each (...): R = Rz(yaw) Ry(pitch) Rx(roll)."""
    sr, cr = torch.sin(0.5 * roll), torch.cos(0.5 * roll)
    sp, cp = torch.sin(0.5 * pitch), torch.cos(0.5 * pitch)
    sy, cy = torch.sin(0.5 * yaw), torch.cos(0.5 * yaw)
    return torch.stack(
        (
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
            cr * cp * cy + sr * sp * sy,
        ),
        dim=-1,
    )


def projected_gravity(q: Tensor) -> Tensor:
    """Unit vectors of gravity in the base frame (..., 3), R^T (0, 0, -1), of unit quaternions xyzw (..., 4)."""
    x, y, z, w = q.unbind(-1)
    return torch.stack((2.0 * (w * y - x * z), -2.0 * (y * z + w * x), 2.0 * (x * x + y * y) - 1.0), dim=-1)


def quat_from_gravity_and_yaw(gravity_b: Tensor, yaw: Tensor) -> Tensor:
    """Orientation xyzw (..., 4) by tilt and heading: inverse of `projected_gravity` and `yaw_from_quat`.

    Args:
        gravity_b: Direction of gravity in the base frame, of any length, (..., 3).
        yaw: Headings [rad], (...).
    """
    # The third row of R is "up" in the base frame: (-sin(pitch), sin(roll) cos(pitch), cos(roll) cos(pitch)).
    up_x, up_y, up_z = (-gravity_b).unbind(-1)
    smallest = torch.finfo(gravity_b.dtype).tiny
    roll = torch.atan2(up_y, up_z)
    pitch = torch.atan2(-up_x, torch.sqrt((up_y * up_y + up_z * up_z).clamp(min=smallest)))
    return quat_from_euler_xyz(roll, pitch, yaw)


def rotation_vector_from_quat(q: Tensor) -> Tensor:
    """Axis times angle [rad], at most pi long, (..., 3), of unit quaternions xyzw (..., 4): the shorter way round."""
    q = torch.where(q[..., 3:] < 0.0, -q, q)
    xyz, w = q[..., :3], q[..., 3:]
    squared_sine = (xyz * xyz).sum(dim=-1, keepdim=True)
    # The norm has no gradient at zero, so the exact formula is fed a harmless 1 where the series takes over.
    small = squared_sine < torch.finfo(q.dtype).eps
    sine = torch.sqrt(torch.where(small, torch.ones_like(squared_sine), squared_sine))
    scale = torch.where(small, 2.0 / torch.where(small, w, torch.ones_like(w)), 2.0 * torch.atan2(sine, w) / sine)
    return scale * xyz


def unwrap_quat_signs(q: Tensor) -> Tensor:
    """Quaternions (..., num_frames, 4) whose signs put neighbours into one half space; the first is as it was."""
    turned = (q[..., 1:, :] * q[..., :-1, :]).sum(dim=-1) < 0.0
    odd = torch.cumsum(turned.to(torch.int64), dim=-1) % 2 == 1
    flip = torch.cat((torch.zeros_like(q[..., :1, 0], dtype=torch.bool), odd), dim=-1)
    return torch.where(flip.unsqueeze(-1), -q, q)


def angular_velocity(q: Tensor, dt: float | Tensor) -> Tensor:
    """Angular velocity in the world [rad/s], (..., num_frames, 3), by central differences, one-sided at the two ends.

    Args:
        q: Unit quaternions xyzw, of any sign, (..., num_frames, 4).
        dt: Time between frames [s].

    Raises:
        ValueError: There are fewer than two frames.
    """
    if q.shape[-2] < 2:
        raise ValueError(f"angular_velocity needs at least 2 frames, got {q.shape[-2]}")
    later = torch.cat((q[..., 1:, :], q[..., -1:, :]), dim=-2)
    earlier = torch.cat((q[..., :1, :], q[..., :-1, :]), dim=-2)
    rotation = rotation_vector_from_quat(quat_multiply(later, quat_conjugate(earlier)))
    intervals = torch.full_like(q[..., :1], 2.0)
    intervals[..., 0, :] = 1.0
    intervals[..., -1, :] = 1.0
    return rotation / (intervals * dt)


def _normalized(v: Tensor) -> Tensor:
    return v / torch.linalg.vector_norm(v, dim=-1, keepdim=True)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product, (..., 3), that broadcasts leading dimensions (torch's own wants as many on both sides)."""
    ax, ay, az = a.unbind(-1)
    bx, by, bz = b.unbind(-1)
    return torch.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), dim=-1)
