"""Reading between two frames as one loop that Numba compiles. Importing this needs Numba."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_CACHE_LINE = 15  # floats, less one: a row may begin anywhere in a line
_TOGETHER = 16  # reads whose rows are fetched together


@njit(nogil=True, cache=True)
def read_between(
    table: np.ndarray,
    bodies: np.ndarray,
    first_rows: np.ndarray,
    capacities: np.ndarray,
    motions: np.ndarray,
    frames: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    columns: np.ndarray,
    held: np.ndarray,
    root_pos: np.ndarray,
    root_quat: np.ndarray,
    root_lin_vel: np.ndarray,
    root_ang_vel: np.ndarray,
    dof_pos: np.ndarray,
    dof_vel: np.ndarray,
    body_pos: np.ndarray,
) -> np.float32:
    """Blend pairs of rows; the same as :meth:`cmg_ref.twist.motion_view.MotionView.read` does without Numba.

    Rows lie far apart: those of several reads are fetched together, see :func:`cmg_ref.frames.numba_frames.read`.

    Args:
        table: Of a :class:`cmg_ref.frames.store.TrajectoryStore`, (num_rows, table_columns).
        bodies: Positions of the bodies in the root's frame, (num_rows, 3 * num_bodies).
        first_rows: Of each motion in them, (num_motions,).
        capacities: Rows of each motion, (num_motions,).
        motions: Motion of each read, (n,).
        frames: Frame with fraction of each, (n,).
        first: First frame that is known of each motion, (num_motions,).
        last: Last frame that is known, (num_motions,).
        columns: Stored number of each joint asked for; from the number of stored joints on, of ``held``, (num_joints,).
        held: Angles of joints that are not stored, (num_held,).
        root_pos: Written, (n, 3), and so are all that follow.
        root_quat: xyzw, (n, 4).
        root_lin_vel: (n, 3).
        root_ang_vel: (n, 3).
        dof_pos: (n, num_joints).
        dof_vel: (n, num_joints).
        body_pos: (n, 3 * num_bodies).

    Returns:
        A checksum of no use: returning it keeps the loads alive that fetch rows ahead.
    """
    num_columns, num_bodies = table.shape[1], bodies.shape[1]
    joints = (num_columns - 19) // 2
    lin, ang, quat, spot = 2 * joints, 2 * joints + 4, 2 * joints + 8, 2 * joints + 12
    rows, shares = np.empty((_TOGETHER, 2), np.int64), np.empty(_TOGETHER, np.float32)
    seen = np.empty(num_columns, np.float32)
    looked_at = _ZERO
    for i in range(len(motions)):
        place = i % _TOGETHER
        if place == 0:
            for coming in range(min(_TOGETHER, len(motions) - i)):
                motion, frame = motions[i + coming], frames[i + coming]
                before = max(min(max(np.int64(math.floor(frame)), first[motion]), last[motion] - 1), 0)
                shares[coming] = min(max(frame - np.float32(before), _ZERO), _ONE)
                rows[coming, 0] = first_rows[motion] + before % capacities[motion]
                rows[coming, 1] = first_rows[motion] + (before + 1) % capacities[motion]
                for side in range(2):
                    row = rows[coming, side]
                    for column in range(0, num_columns, _CACHE_LINE):
                        looked_at += table[row, column]
                    for column in range(0, num_bodies, _CACHE_LINE):
                        looked_at += bodies[row, column]
        share = shares[place]
        rest = _ONE - share
        earlier, later = table[rows[place, 0]], table[rows[place, 1]]
        for column in range(num_columns):
            seen[column] = rest * earlier[column] + share * later[column]
        for joint in range(len(columns)):
            column = columns[joint]
            if column < joints:
                dof_pos[i, joint], dof_vel[i, joint] = seen[column], seen[joints + column]
            else:
                dof_pos[i, joint], dof_vel[i, joint] = held[column - joints], _ZERO
        square = _ZERO
        for axis in range(4):
            square += seen[quat + axis] * seen[quat + axis]
        scale = _ONE / math.sqrt(square)
        for axis in range(4):
            root_quat[i, axis] = seen[quat + axis] * scale
        for axis in range(3):
            root_pos[i, axis] = seen[spot + axis]
            root_lin_vel[i, axis], root_ang_vel[i, axis] = seen[lin + axis], seen[ang + axis]
        earlier, later = bodies[rows[place, 0]], bodies[rows[place, 1]]
        for column in range(num_bodies):
            body_pos[i, column] = rest * earlier[column] + share * later[column]
    return looked_at
