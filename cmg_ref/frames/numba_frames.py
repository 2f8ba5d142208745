"""Storing what a CMG made, finding it again and showing it, as loops that Numba compiles.

Each is one pass over motions, where torch takes a pass for every operation. Importing this needs Numba.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_ZERO, _HALF, _ONE, _TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)
_SMALLEST_SQUARE = np.float32(1e-6)
_CACHE_LINE = 15  # floats, less one: a row may begin anywhere in a line
_TOGETHER = 16  # motions whose rows are fetched together


@njit(nogil=True, cache=True)
def place(
    rows: np.ndarray,
    poses: np.ndarray,
    before: np.ndarray,
    now: np.ndarray,
    passed: np.float32,
    dt: np.float32,
    joints: int,
    table: np.ndarray,
    placed: np.ndarray,
) -> None:
    """Put frames where the ones before lead them, and store them.

    The same as `TrajectoryStore.integrate` and `TrajectoryStore.write` (`cmg_ref/frames/store.py`) and
    :func:`cmg_ref.frames.root_motion.seen_columns`, where the formulas are explained.

    Args:
        rows: Of the table, (n,).
        poses: x, y and heading a frame ago, (n, 3).
        before: States a frame ago, with the root channels, (n, state_dim).
        now: States to store, (n, state_dim).
        passed: Time in which the pose moves, from the states before to these [s]; 0 stores them where they are.
        dt: Time from the states before to these, for the rates; negative where those come later [s].
        joints: Number of joint angles and velocities.
        table: Written at ``rows``.
        placed: Written, x, y and heading now, (n, 3).
    """
    height, gravity, velocity, turn = joints, joints + 1, joints + 4, joints + 7
    seen, spot = joints, joints + 12
    for i in range(len(rows)):
        row = rows[i]
        heading = poses[i, 2] + _HALF * passed * (before[i, turn] + now[i, turn])
        cos_before, sin_before = math.cos(poses[i, 2]), math.sin(poses[i, 2])
        cos_half, sin_half = math.cos(_HALF * heading), math.sin(_HALF * heading)
        cos, sin = cos_half * cos_half - sin_half * sin_half, _TWO * sin_half * cos_half
        vx, vy = (
            cos * now[i, velocity] - sin * now[i, velocity + 1],
            sin * now[i, velocity] + cos * now[i, velocity + 1],
        )
        vx_before = cos_before * before[i, velocity] - sin_before * before[i, velocity + 1]
        vy_before = sin_before * before[i, velocity] + cos_before * before[i, velocity + 1]
        placed[i, 0] = poses[i, 0] + _HALF * passed * (vx_before + vx)
        placed[i, 1] = poses[i, 1] + _HALF * passed * (vy_before + vy)
        placed[i, 2] = heading
        # Half the angles of pitch and roll, from the direction that is up in the base frame.
        gx, gy, gz = now[i, gravity], now[i, gravity + 1], now[i, gravity + 2]
        square = gy * gy + gz * gz
        across, length = math.sqrt(square), math.sqrt(gx * gx + square)
        cos_pitch = across / length if length > _ZERO else _ONE
        cp = math.sqrt(_HALF + _HALF * cos_pitch)
        sp = (gx / length if length > _ZERO else _ZERO) / (_TWO * cp)
        cos_roll, sin_roll = (-gz / across, -gy / across) if across > _ZERO else (_ONE, _ZERO)
        if cos_roll > _ZERO:  # Of the two ways to half an angle, the one that does not lose its digits.
            cr = math.sqrt(_HALF + _HALF * cos_roll)
            sr = sin_roll / (_TWO * cr)
        else:
            sr = math.copysign(math.sqrt(_HALF - _HALF * cos_roll), sin_roll)
            cr = sin_roll / (_TWO * sr)
        qx = sr * cp * cos_half - cr * sp * sin_half
        qy = cr * sp * cos_half + sr * cp * sin_half
        qz = cr * cp * sin_half - sr * sp * cos_half
        qw = cr * cp * cos_half + sr * sp * sin_half
        rx, ry, rz = (
            (gx - before[i, gravity]) / dt,
            (gy - before[i, gravity + 1]) / dt,
            (gz - before[i, gravity + 2]) / dt,
        )
        ax, ay, az = gz * ry - gy * rz, gx * rz - gz * rx, gy * rx - gx * ry  # minus gravity x its rate
        tx, ty, tz = _TWO * (qy * az - qz * ay), _TWO * (qz * ax - qx * az), _TWO * (qx * ay - qy * ax)
        roll_rate = (gz * ry - gy * rz) / max(square, _SMALLEST_SQUARE)
        for column in range(joints):
            table[row, column] = now[i, column]
        table[row, seen] = vx
        table[row, seen + 1] = vy
        table[row, seen + 2] = (now[i, height] - before[i, height]) / dt
        table[row, seen + 3] = now[i, velocity + 2]
        table[row, seen + 4] = ax + qw * tx + qy * tz - qz * ty
        table[row, seen + 5] = ay + qw * ty + qz * tx - qx * tz
        table[row, seen + 6] = now[i, turn] - gx * roll_rate
        table[row, seen + 7] = now[i, turn]
        table[row, seen + 8] = qx
        table[row, seen + 9] = qy
        table[row, seen + 10] = qz
        table[row, seen + 11] = qw
        table[row, spot] = placed[i, 0]
        table[row, spot + 1] = placed[i, 1]
        table[row, spot + 2] = now[i, height]
        table[row, spot + 3] = heading
        for axis in range(3):
            table[row, spot + 4 + axis] = now[i, gravity + axis]


@njit(nogil=True, cache=True)
def recall(rows: np.ndarray, joints: int, table: np.ndarray, states: np.ndarray, poses: np.ndarray) -> None:
    """Read what :func:`place` stored, as generation goes on from it.

    Args:
        rows: Of the table, (n,).
        joints: Number of joint angles and velocities.
        table: Of a :class:`cmg_ref.frames.store.TrajectoryStore`, (num_rows, table_columns).
        states: Written, (n, state_dim).
        poses: Written, x, y and heading, (n, 3).
    """
    seen, spot = joints, joints + 12
    for i in range(len(rows)):
        held = table[rows[i]]
        for column in range(joints):
            states[i, column] = held[column]
        cos, sin = math.cos(held[spot + 3]), math.sin(held[spot + 3])
        states[i, joints] = held[spot + 2]
        for axis in range(3):
            states[i, joints + 1 + axis] = held[spot + 4 + axis]
        states[i, joints + 4] = cos * held[seen] + sin * held[seen + 1]
        states[i, joints + 5] = cos * held[seen + 1] - sin * held[seen]
        states[i, joints + 6] = held[seen + 3]
        states[i, joints + 7] = held[seen + 7]
        poses[i, 0], poses[i, 1], poses[i, 2] = held[spot], held[spot + 1], held[spot + 3]


@njit(nogil=True, cache=True)
def nearest(wanted: np.ndarray, known: np.ndarray, count: int, draw: np.ndarray, picks: np.ndarray) -> None:
    """Choose among the nearest of known points.

    Args:
        wanted: (n, width).
        known: (num_known, width).
        count: How many of the nearest to choose among; ``num_known`` at most.
        draw: Integers that choose, (n,); not negative.
        picks: Written, numbers of known points, (n,).
    """
    distances, numbers = np.empty(count, np.float32), np.empty(count, np.int64)
    for i in range(len(wanted)):
        held = 0
        for number in range(len(known)):
            distance = _ZERO
            for axis in range(wanted.shape[1]):
                offset = wanted[i, axis] - known[number, axis]
                distance += offset * offset
            if held == count and distance >= distances[held - 1]:
                continue
            place = min(held, count - 1)  # The furthest makes room.
            while place > 0 and distances[place - 1] > distance:
                distances[place], numbers[place] = distances[place - 1], numbers[place - 1]
                place -= 1
            distances[place], numbers[place] = distance, number
            held = min(held + 1, count)
        picks[i] = numbers[draw[i] % count]


@njit(nogil=True, cache=True)
def commands_in_force(
    first_frames: np.ndarray,
    starts: np.ndarray,
    targets: np.ndarray,
    motions: np.ndarray,
    frames: np.ndarray,
    interpolation_frames: int,
    largest: np.ndarray,
    values: np.ndarray,
) -> None:
    """What motions are told at frames; the same as :meth:`cmg_ref.frames.command_plan.PlannedCommands.value`.

    Args:
        first_frames: Of each segment of each motion, rising, (num_motions, num_segments).
        starts: (num_motions, num_segments, command_dim).
        targets: (num_motions, num_segments, command_dim).
        motions: (n,).
        frames: (n,).
        interpolation_frames: Frames from the beginning of a segment until its target is reached, or more.
        largest: What a command changes by in a frame at most, (command_dim,).
        values: Written, (n, command_dim).
    """
    last = first_frames.shape[1] - 1
    for i in range(len(motions)):
        motion, frame, segment = motions[i], frames[i], 0
        while segment < last and first_frames[motion, segment + 1] <= frame:
            segment += 1
        share = _ONE
        if interpolation_frames > 0:
            ramp = np.float32(interpolation_frames)
            for axis in range(values.shape[1]):
                change = abs(targets[motion, segment, axis] - starts[motion, segment, axis])
                ramp = max(ramp, change / largest[axis])
            passed = np.float32(frame - first_frames[motion, segment]) / ramp
            share = min(max(passed, _ZERO), _ONE)
        for axis in range(values.shape[1]):
            start, target = starts[motion, segment, axis], targets[motion, segment, axis]
            if share < _HALF:
                values[i, axis] = start + share * (target - start)
            else:
                values[i, axis] = target - (target - start) * (_ONE - share)


@njit(inline="always")
def _place_after(place: int, offset: int, capacity: int) -> int:
    """Where a frame lies in a ring, so many frames after another; without a division, which takes long."""
    place += offset
    while place >= capacity:
        place -= capacity
    return place


@njit(nogil=True, cache=True)
def read(
    table: np.ndarray,
    first_rows: np.ndarray,
    capacities: np.ndarray,
    motions: np.ndarray,
    frames: np.ndarray,
    offsets: np.ndarray,
    joint_offsets: np.ndarray,
    origins: np.ndarray,
    columns: np.ndarray,
    dof_pos: np.ndarray,
    dof_vel: np.ndarray,
    root_pos: np.ndarray,
    root_quat: np.ndarray,
    root_lin_vel: np.ndarray,
    root_ang_vel: np.ndarray,
    future_dof_pos: np.ndarray,
) -> np.float32:
    """Frames of motions as they are seen in the world; the same as `root_motion.frames_in_world`.

    Rows lie far apart. Those of several motions are fetched together by looking into each of their cache lines; one
    after the other, as they are copied, would take twice as long.

    Args:
        table: Of a :class:`cmg_ref.frames.store.TrajectoryStore`, (num_rows, table_columns).
        first_rows: Of each motion in it, (num_motions,).
        capacities: Rows of each motion, (num_motions,).
        motions: (n,).
        frames: Present frame of each, (n,).
        offsets: Frames from there to those asked for, (num_steps,).
        joint_offsets: Frames from there to those whose joint angles alone are asked for, (num_joint_steps,).
        origins: x, y and heading of each motion's own frame in the world, (n, 3).
        columns: Stored number of each joint that is asked for, (num_joints,); none for all as they are stored.
        dof_pos: Written, (n, num_steps, num_joints), and so are all that follow, (n, num_steps, ...).
        dof_vel: (..., num_joints).
        root_pos: (..., 3).
        root_quat: xyzw, (..., 4).
        root_lin_vel: (..., 3).
        root_ang_vel: (..., 3).
        future_dof_pos: (n, num_joint_steps, num_joints).

    Returns:
        A checksum of no use: returning it keeps the loads alive that fetch rows ahead.
    """
    num_columns = table.shape[1]
    joints = (num_columns - 19) // 2
    lin, ang, quat, spot = 2 * joints, 2 * joints + 4, 2 * joints + 8, 2 * joints + 12
    looked_at = _ZERO
    for i in range(len(motions)):
        if i % _TOGETHER == 0:
            for coming in range(i, min(i + _TOGETHER, len(motions))):
                motion = motions[coming]
                first_row, capacity = first_rows[motion], capacities[motion]
                place = frames[coming] % capacity
                for step in range(len(offsets)):
                    row = first_row + _place_after(place, offsets[step], capacity)
                    for column in range(0, num_columns, _CACHE_LINE):
                        looked_at += table[row, column]
                for step in range(len(joint_offsets)):
                    row = first_row + _place_after(place, joint_offsets[step], capacity)
                    for column in range(0, joints, _CACHE_LINE):
                        looked_at += table[row, column]
        motion, x, y = motions[i], origins[i, 0], origins[i, 1]
        cos_half, sin_half = math.cos(_HALF * origins[i, 2]), math.sin(_HALF * origins[i, 2])
        cos, sin = cos_half * cos_half - sin_half * sin_half, _TWO * sin_half * cos_half
        first_row, capacity = first_rows[motion], capacities[motion]
        place = frames[i] % capacity
        for step in range(len(offsets)):
            held = table[first_row + _place_after(place, offsets[step], capacity)]
            if len(columns) == 0:
                for joint in range(joints):
                    dof_pos[i, step, joint] = held[joint]
                    dof_vel[i, step, joint] = held[joints + joint]
            else:
                for joint in range(len(columns)):
                    dof_pos[i, step, joint] = held[columns[joint]]
                    dof_vel[i, step, joint] = held[joints + columns[joint]]
            root_pos[i, step, 0] = cos * held[spot] - sin * held[spot + 1] + x
            root_pos[i, step, 1] = sin * held[spot] + cos * held[spot + 1] + y
            root_pos[i, step, 2] = held[spot + 2]
            root_quat[i, step, 0] = cos_half * held[quat] - sin_half * held[quat + 1]
            root_quat[i, step, 1] = sin_half * held[quat] + cos_half * held[quat + 1]
            root_quat[i, step, 2] = cos_half * held[quat + 2] + sin_half * held[quat + 3]
            root_quat[i, step, 3] = cos_half * held[quat + 3] - sin_half * held[quat + 2]
            for velocity, start in ((root_lin_vel, lin), (root_ang_vel, ang)):
                velocity[i, step, 0] = cos * held[start] - sin * held[start + 1]
                velocity[i, step, 1] = sin * held[start] + cos * held[start + 1]
                velocity[i, step, 2] = held[start + 2]
        for step in range(len(joint_offsets)):
            held = table[first_row + _place_after(place, joint_offsets[step], capacity)]
            if len(columns) == 0:
                for joint in range(joints):
                    future_dof_pos[i, step, joint] = held[joint]
            else:
                for joint in range(len(columns)):
                    future_dof_pos[i, step, joint] = held[columns[joint]]
    return looked_at
