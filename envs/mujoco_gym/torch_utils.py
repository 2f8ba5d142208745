"""The module `isaacgym.torch_utils`: rotations and random numbers on torch tensors, quaternions xyzw.

Callers write `from isaacgym.torch_utils import *` and count on getting `torch`, `np`, `Tensor` and `Tuple` with it, so
there is no `__all__` here. Isaac Gym scripts these functions; here they are plain, and scripted with the function that
calls them, because torch warns at each scripting.
"""

from typing import Any, Tuple  # noqa: UP035

import numpy as np
import torch
from torch import Tensor

from cmg_ref.core.rotations import quat_conjugate as quat_conjugate
from cmg_ref.core.rotations import quat_from_euler_xyz as quat_from_euler_xyz
from cmg_ref.core.rotations import quat_multiply
from cmg_ref.core.rotations import quat_rotate as quat_rotate
from cmg_ref.core.rotations import quat_rotate_inverse as quat_rotate_inverse

quat_mul = quat_multiply


def to_torch(x: Any, dtype: torch.dtype = torch.float, device: str = "cuda:0", requires_grad: bool = False) -> Tensor:
    """Tensor of a number, a sequence or an array."""
    return torch.tensor(x, dtype=dtype, device=device, requires_grad=requires_grad)


def get_axis_params(
    value: float, axis_idx: int, x_value: float = 0.0, dtype: type = float, n_dims: int = 3
) -> list[Any]:
    """List of `n_dims` zeros with one entry set to `value`; the first one is `x_value` unless it is that entry."""
    params = np.zeros(n_dims)
    params[0] = x_value
    params[axis_idx] = value
    return list(params.astype(dtype))


def torch_rand_float(lower: float, upper: float, shape: Tuple[int, int], device: str) -> Tensor:  # noqa: UP006
    """Uniform random numbers in [lower, upper)."""
    return (upper - lower) * torch.rand(shape, device=device) + lower


def normalize(x: Tensor, eps: float = 1e-9) -> Tensor:
    """Vectors of length one, (..., n); those shorter than `eps` stay short."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=eps)


def normalize_angle(x: Tensor) -> Tensor:
    """Angles in radians, brought to [-pi, pi]."""
    return torch.atan2(torch.sin(x), torch.cos(x))


def quat_unit(a: Tensor) -> Tensor:
    """Quaternions of length one, (..., 4)."""
    return normalize(a)


def quat_apply(a: Tensor, b: Tensor) -> Tensor:
    """Vectors turned by unit quaternions.

    Args:
        a: Quaternions, as many as there are vectors, in any shape.
        b: Vectors, (..., 3).

    Returns:
        Vectors in the shape of `b`.
    """
    return quat_rotate(a.reshape(-1, 4), b.reshape(-1, 3)).reshape(b.shape)


def quat_from_angle_axis(angle: Tensor, axis: Tensor) -> Tensor:
    """Quaternions of turns by angles (...) in radians about axes (..., 3) of any length."""
    half = (0.5 * angle).unsqueeze(-1)
    return quat_unit(torch.cat([normalize(axis) * torch.sin(half), torch.cos(half)], dim=-1))


def get_euler_xyz(q: Tensor) -> Tuple[Tensor, Tensor, Tensor]:  # noqa: UP006
    """Roll, pitch and yaw of unit quaternions (..., 4), R = Rz(yaw) Ry(pitch) Rx(roll), each in [0, 2 pi)."""
    x, y, z, w = q.unbind(-1)
    roll = torch.atan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))
    pitch = torch.asin((2.0 * (w * y - z * x)).clamp(-1.0, 1.0))
    yaw = torch.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
    turn = 2.0 * torch.pi
    return roll % turn, pitch % turn, yaw % turn


def copysign(a: float, b: Tensor) -> Tensor:
    """The size of `a` with the signs of `b`."""
    return torch.copysign(torch.full_like(b, abs(a)), b)


def tensor_clamp(t: Tensor, min_t: Tensor, max_t: Tensor) -> Tensor:
    """Values held between tensors of bounds."""
    return torch.max(torch.min(t, max_t), min_t)
