"""Copies of MuJoCo's state into Isaac Gym's layout, as loops that Numba compiles; importing this needs Numba."""

from __future__ import annotations

import numpy as np
from numba import njit

_ZERO, _TWO = 0.0, 2.0
_CACHE_LINE = 7  # numbers, less one: a row may begin anywhere in a line
_TOGETHER = 16


@njit(nogil=True, cache=True)
def copy_root(qpos: np.ndarray, qvel: np.ndarray, root: np.ndarray) -> None:
    """The states of free roots.

    Args:
        qpos: Position and quaternion wxyz, then what else, (n, nq) float64.
        qvel: Velocity in the world and angular velocity in the root's own frame, then what else, (n, nv) float64.
        root: Position, quaternion xyzw, velocity and angular velocity in the world, written, (n, 13) float32.
    """
    for i in range(len(root)):
        w, x, y, z = qpos[i, 3], qpos[i, 4], qpos[i, 5], qpos[i, 6]
        a, b, c = qvel[i, 3], qvel[i, 4], qvel[i, 5]
        for axis in range(3):
            root[i, axis], root[i, 7 + axis] = qpos[i, axis], qvel[i, axis]
        root[i, 3], root[i, 4], root[i, 5], root[i, 6] = x, y, z, w
        # v + 2 q x (q x v + w v) with q the quaternion's vector part.
        u1, u2, u3 = y * c - z * b + w * a, z * a - x * c + w * b, x * b - y * a + w * c
        root[i, 10] = a + _TWO * (y * u3 - z * u2)
        root[i, 11] = b + _TWO * (z * u1 - x * u3)
        root[i, 12] = c + _TWO * (x * u2 - y * u1)


@njit(nogil=True, cache=True)
def copy_dof(qpos: np.ndarray, qvel: np.ndarray, first_position: int, first_velocity: int, dof: np.ndarray) -> float:
    """Positions and velocities of the joints.

    Another core has just written them. Those of several robots are fetched together by looking into each cache line.

    Args:
        qpos: (n, nq) float64.
        qvel: (n, nv) float64.
        first_position: Column of the first joint in ``qpos``.
        first_velocity: And in ``qvel``.
        dof: Written, (n, num_dof, 2) float32.

    Returns:
        A checksum of no use: returning it keeps the loads alive that fetch rows ahead.
    """
    num, num_dof = dof.shape[:2]
    looked_at = 0.0
    for i in range(num):
        if i % _TOGETHER == 0:
            for coming in range(i, min(i + _TOGETHER, num)):
                for joint in range(0, num_dof, _CACHE_LINE):
                    looked_at += qpos[coming, first_position + joint] + qvel[coming, first_velocity + joint]
        for joint in range(dof.shape[1]):
            dof[i, joint, 0] = qpos[i, first_position + joint]
            dof[i, joint, 1] = qvel[i, first_velocity + joint]
    return looked_at


@njit(nogil=True, cache=True)
def copy_contact_forces(sensors: np.ndarray, bodies: np.ndarray, forces: np.ndarray) -> None:
    """Forces on bodies; MuJoCo's sensors have the forces that the bodies exert.

    Args:
        sensors: Three numbers for each body that can touch something, (n, 3 * len(bodies)) float64.
        bodies: Numbers of these bodies.
        forces: Written, zero where a body can touch nothing, (n, num_bodies, 3) float32.
    """
    for i in range(len(forces)):
        for body in range(forces.shape[1]):
            for axis in range(3):
                forces[i, body, axis] = _ZERO
        for number in range(len(bodies)):
            for axis in range(3):
                forces[i, bodies[number], axis] = -sensors[i, 3 * number + axis]
