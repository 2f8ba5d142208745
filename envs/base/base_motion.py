"""The motion of the base in its own frames, from its state in the world."""

from __future__ import annotations

import torch
from torch import Tensor

from cmg_ref.core.backends import call_loop, numba_available
from cmg_ref.core.rotations import horizontal_in_heading


class BaseMotion:
    """Turns root states into what observations and rewards are made of, in few operations on the device.

    On a CPU with Numba it is one loop over the robots.

    Args:
        device: Device of the root states.
    """

    def __init__(self, device: str | torch.device) -> None:
        self._matrix_of_products = _matrix_of_products().to(device)
        self._numba = self._matrix_of_products.device.type == "cpu" and numba_available()
        if self._numba:
            from envs.base import numba_loops

            self._loops = numba_loops

    def __call__(self, root_states: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Motion of bases.

        Args:
            root_states: Position, unit quaternion xyzw, linear and angular velocity in the world, (n, 13).

        Returns:
            Velocity in the heading frame in m/s and yaw rate in rad/s, (n, 4); angular velocity in the base frame in
            rad/s, (n, 3); direction of gravity in the base frame, (n, 3); rotation matrices, base to world, (n, 3, 3).
        """
        if self._numba:
            num = len(root_states)
            results = torch.empty(num, 4), torch.empty(num, 3), torch.empty(num, 3), torch.empty(num, 3, 3)
            call_loop(self._loops.base_motion, root_states, *results)
            return results
        rows = root_states.T.contiguous()  # (13, n): operations on single numbers of all bases run over long rows
        rotation = self._rotation(rows[3:7])
        horizontal = horizontal_in_heading(rotation[0, 0], rotation[1, 0], rows[7], rows[8])
        velocity_h = torch.cat((horizontal, root_states[:, 9:10], root_states[:, 12:]), dim=1)
        # R^T w, and minus the third row of R.
        ang_vel_b = (rotation * rows[10:13].unsqueeze(1)).sum(dim=0)
        return velocity_h, ang_vel_b.T, -rotation[2].T, rotation.permute(2, 0, 1)

    def velocity_and_gravity(self, quat_w: Tensor, lin_vel_w: Tensor) -> tuple[Tensor, Tensor]:
        """Part of the above.

        Args:
            quat_w: Unit quaternions xyzw, (n, 4).
            lin_vel_w: Linear velocities in the world in m/s, (n, 3).

        Returns:
            Velocity in the heading frame in m/s, (n, 3), and direction of gravity in the base frame, (n, 3).
        """
        if self._numba:
            results = torch.empty(len(quat_w), 3), torch.empty(len(quat_w), 3)
            call_loop(self._loops.velocity_and_gravity, quat_w, lin_vel_w, *results)
            return results
        rotation = self._rotation(quat_w.T.contiguous())
        horizontal = horizontal_in_heading(rotation[0, 0], rotation[1, 0], lin_vel_w[:, 0], lin_vel_w[:, 1])
        return torch.cat((horizontal, lin_vel_w[:, 2:]), dim=1), -rotation[2].T

    def _rotation(self, quat: Tensor) -> Tensor:
        """Rotation matrices, base to world, (3, 3, n), of unit quaternions xyzw, (4, n)."""
        products = (quat.unsqueeze(1) * quat).flatten(0, 1)  # (16, n)
        return (self._matrix_of_products @ products).view(3, 3, -1)


def _matrix_of_products() -> Tensor:
    """Rotation matrices by one matrix product: R, row by row (9, n), is this times the products q_i q_j (16, n).

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
    matrix = torch.zeros(9, 4, 4)
    for row, terms in enumerate(entries):
        for factor, i, j in terms:
            matrix[row, i, j] += factor
    return matrix.view(9, 16)
