"""The motion of the base in its own frames, from its state in the world."""

from __future__ import annotations

import torch
from torch import Tensor


class BaseMotion:
    """Turns root states into what observations and rewards are made of, in few operations on the device.

    Args:
        device: Device of the root states.
    """

    def __init__(self, device: str | torch.device) -> None:
        self._matrix_of_products = _matrix_of_products().to(device)

    def __call__(self, root_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Motion of bases.

        Args:
            root_states: Position, unit quaternion xyzw, linear and angular velocity in the world, (n, 13).

        Returns:
            Velocity in the heading frame in m/s and yaw rate in rad/s, (n, 4); angular velocity in the base frame in
            rad/s, (n, 3); direction of gravity in the base frame, (n, 3).
        """
        quat = root_states[:, 3:7]
        products = (quat.unsqueeze(2) * quat.unsqueeze(1)).flatten(1)  # (n, 16)
        rotation = (products @ self._matrix_of_products).view(-1, 3, 3)  # base to world
        # The first column of R is the base's x axis; flat on the ground it is the heading.
        x, y = rotation[:, 0, 0], rotation[:, 1, 0]
        scale = torch.rsqrt((x * x + y * y).clamp(min=1e-12))
        vel_x, vel_y, vel_z = root_states[:, 7:10].unbind(1)
        ahead, left = (vel_x * x + vel_y * y) * scale, (vel_y * x - vel_x * y) * scale
        velocity_h = torch.stack((ahead, left, vel_z, root_states[:, 12]), dim=1)
        # R^T w, and minus the third row of R.
        ang_vel_b = torch.bmm(root_states[:, 10:13].unsqueeze(1), rotation).squeeze(1)
        return velocity_h, ang_vel_b, -rotation[:, 2]


def _matrix_of_products() -> Tensor:
    """Rotation matrices by one matrix product: R, row by row (n, 9), is the products q_i q_j (n, 16) times this.

    The entries of R are quadratic in a unit quaternion xyzw: R00 = xx - yy - zz + ww, R01 = 2 (xy - zw) and so on.
    """
    x, y, z, w = range(4)
    entries = (
        ((1, x, x), (-1, y, y), (-1, z, z), (1, w, w)),
        ((2, x, y), (-2, z, w)),
        ((2, x, z), (2, y, w)),
        ((2, x, y), (2, z, w)),
        ((-1, x, x), (1, y, y), (-1, z, z), (1, w, w)),
        ((2, y, z), (-2, x, w)),
        ((2, x, z), (-2, y, w)),
        ((2, y, z), (2, x, w)),
        ((-1, x, x), (-1, y, y), (1, z, z), (1, w, w)),
    )
    matrix = torch.zeros(4, 4, 9)
    for column, terms in enumerate(entries):
        for factor, i, j in terms:
            matrix[i, j, column] += factor
    return matrix.view(16, 9)
