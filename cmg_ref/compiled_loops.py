"""What lies between the matrix products of a CMG, and reading what it made, as loops that Numba compiles.

Each is one pass over rows that stay in the cache, where torch takes a pass for every operation. Every row is a motion.
What products take and give may also be bfloat16, which NumPy does not know: its bits then come as uint16, and sums are
float32 nevertheless. Importing this needs Numba.
"""

from __future__ import annotations

import math
from typing import Any, Callable

import numpy as np
from numba import njit, types
from numba.extending import overload

# Sums may be taken in any order, but what is not a number stays so: the guard tells it from a motion.
_FAST = {"contract", "reassoc", "nsz", "arcp"}

_ZERO, _HALF, _ONE, _TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)
_LOG2_E = np.float32(1.4426950408889634)
_LOWEST = np.float32(-126.0)  # exponent of the smallest number with all its digits
_SMALLEST_SQUARE = np.float32(1e-6)
_CACHE_LINE = 15  # floats, less one: a row may begin anywhere in a line
_TOGETHER = 16  # motions whose rows are fetched together
_BIAS, _DIGITS = np.int32(127), np.int32(23)  # of a float32
# Taylor series of 2^f at 0, good to the last digit for |f| <= 1/2.
_C1, _C2, _C3 = np.float32(0.6931471805599453), np.float32(0.2402265069591007), np.float32(0.05550410866482158)
_C4, _C5, _C6 = np.float32(0.009618129107628477), np.float32(0.0013333558146428443), np.float32(0.00015403530393381608)


def _load(x: np.generic) -> np.float32:
    """The number that an element stands for."""
    raise NotImplementedError("only in compiled code")


def _rounded(x: np.float32, out: np.ndarray) -> np.generic:
    """A number as an element of an array, rounded to the nearest."""
    raise NotImplementedError("only in compiled code")


@overload(_load, inline="always")
def _load_as(x: Any) -> Callable[..., Any]:
    if x == types.uint16:

        def load(x: Any) -> Any:
            return np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)

    else:

        def load(x: Any) -> Any:
            return x

    return load


@overload(_rounded, inline="always")
def _rounded_to(x: Any, out: Any) -> Callable[..., Any]:
    if out.dtype == types.uint16:

        def rounded(x: Any, out: Any) -> Any:
            bits = np.float32(x).view(np.uint32)
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

    else:

        def rounded(x: Any, out: Any) -> Any:
            return x

    return rounded


@njit(inline="always")
def _exp(x: np.float32) -> np.float32:
    """The exponential of x <= 0, without a branch, so that a loop over it works on many numbers at once."""
    y = max(x * _LOG2_E, _LOWEST)
    whole = np.floor(y + _HALF)
    f = y - whole
    power = _ONE + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * _C6)))))
    return power * np.int32((np.int32(whole) + _BIAS) << _DIGITS).view(np.float32)


@njit(inline="always")
def _elu(x: np.float32) -> np.float32:
    return max(x, _exp(min(x, _ZERO)) - _ONE)


@njit(nogil=True, cache=True, fastmath=_FAST)
def prepare(
    state: np.ndarray,
    command: np.ndarray,
    command_range: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    held: np.ndarray,
    inputs: np.ndarray,
) -> None:
    """Hold commands (n, 3) inside their range (``held``), and normalise them and the states (``inputs``).

    Args:
        state: (n, state_dim).
        command: (n, 3).
        command_range: lowest and highest commands, (2, 3).
        scale: of the inputs, (state_dim + 3,).
        shift: of the scaled inputs, (state_dim + 3,).
        held: written, (n, 3).
        inputs: written, (n, state_dim + 3).
    """
    num, width = state.shape
    for row in range(num):
        for column in range(width):
            inputs[row, column] = _rounded(state[row, column] * scale[column] + shift[column], inputs)
        for axis in range(3):
            value = min(max(command[row, axis], command_range[0, axis]), command_range[1, axis])
            held[row, axis] = value
            inputs[row, width + axis] = _rounded(value * scale[width + axis] + shift[width + axis], inputs)


@njit(nogil=True, cache=True, fastmath=_FAST)
def blend(
    gate: np.ndarray, bias: np.ndarray, weight: np.ndarray, weight_bias: np.ndarray, coefficients: np.ndarray
) -> None:
    """The gate after its first product: ELU, second layer, softmax.

    Args:
        gate: product of its first layer, without the bias, (n, width).
        bias: (width,).
        weight: of the second layer, (experts, width).
        weight_bias: (experts,).
        coefficients: written, (n, experts).
    """
    num, width = gate.shape
    experts = len(weight)
    activation = np.empty(width, np.float32)
    for row in range(num):
        for column in range(width):
            activation[column] = _elu(_load(gate[row, column]) + bias[column])
        largest = -np.float32(np.inf)
        for expert in range(experts):
            value = weight_bias[expert]
            for column in range(width):
                value += activation[column] * weight[expert, column]
            coefficients[row, expert] = value
            largest = max(largest, value)
        total = _ZERO
        for expert in range(experts):
            coefficients[row, expert] = _exp(coefficients[row, expert] - largest)
            total += coefficients[row, expert]
        for expert in range(experts):
            coefficients[row, expert] /= total


@njit(nogil=True, cache=True, fastmath=_FAST)
def spread(x: np.ndarray, coefficients: np.ndarray, activate: bool, out: np.ndarray) -> None:
    """The input of a mixture layer: x times each coefficient, and the coefficients themselves.

    Args:
        x: (n, width).
        coefficients: (n, experts).
        activate: whether to take the ELU of x first.
        out: written, (n, experts * (width + 1)).
    """
    num, width = x.shape
    experts = coefficients.shape[1]
    activation = np.empty(width, np.float32)
    for row in range(num):
        for column in range(width):
            value = _load(x[row, column])
            activation[column] = _elu(value) if activate else value
        for expert in range(experts):
            coefficient = coefficients[row, expert]
            for column in range(width):
                out[row, expert * width + column] = _rounded(coefficient * activation[column], out)
            out[row, experts * width + expert] = _rounded(coefficient, out)


@njit(nogil=True, cache=True, fastmath=_FAST)
def activate(x: np.ndarray) -> None:
    """The ELU of x (n, width), in place."""
    num, width = x.shape
    for row in range(num):
        for column in range(width):
            x[row, column] = _rounded(_elu(_load(x[row, column])), x)


@njit(nogil=True, cache=True, fastmath=_FAST)
def merge(outputs: np.ndarray, coefficients: np.ndarray, biases: np.ndarray, changes: np.ndarray) -> None:
    """What the experts of the last layer say, weighted by the gate.

    Args:
        outputs: of each expert, one after the other, (n, experts * width).
        coefficients: (n, experts).
        biases: (experts, width).
        changes: written, (n, width).
    """
    num, width = changes.shape
    for row in range(num):
        for column in range(width):
            changes[row, column] = _ZERO
        for expert in range(len(biases)):
            coefficient = coefficients[row, expert]
            for column in range(width):
                value = _load(outputs[row, expert * width + column]) + biases[expert, column]
                changes[row, column] += coefficient * value


@njit(nogil=True, cache=True)
def finish(
    state: np.ndarray,
    output: np.ndarray,
    command: np.ndarray,
    limits: np.ndarray,
    resting: np.ndarray,
    half_dt: np.float32,
    given: int,
    following: np.ndarray,
    guarded: np.ndarray,
) -> None:
    """From what the network gives to the next state: integrate, hold inside the guard's range, rest.

    Args:
        state: (n, state_dim).
        output: changes of all channels but the given ones, which integrate their velocities, (n, >= changes).
        command: (n, 3).
        limits: the guard's range, lowest and highest, (2, state_dim).
        resting: velocities below which a motion without command rests (below 0 it never does), and 1 for channels
            that resting keeps and 0 for those it stops, (2, state_dim).
        half_dt: half the time of a frame [s].
        given: number of joint angles.
        following: written, (n, state_dim).
        guarded: written, whether the guard acted, (n,) bool.
    """
    num, width = state.shape
    for row in range(num):
        for column in range(given, width):
            following[row, column] = state[row, column] + output[row, column - given]
        for column in range(given):
            velocities = state[row, given + column] + following[row, given + column]
            following[row, column] = state[row, column] + half_dt * velocities
        changed = 0
        moving = 0
        for column in range(width):
            value = following[row, column]
            held = min(max(value, limits[0, column]), limits[1, column])
            changed += held != value  # What is not a number differs from itself.
            moving += not abs(held) < resting[0, column]
            following[row, column] = held
        guarded[row] = changed != 0
        if moving == 0 and command[row, 0] == _ZERO and command[row, 1] == _ZERO and command[row, 2] == _ZERO:
            for column in range(width):
                following[row, column] = state[row, column] * resting[1, column]


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

    The same as :meth:`cmg_ref.trajectory_store.TrajectoryStore.integrate`, :func:`cmg_ref.root_motion.seen_columns` and
    :meth:`cmg_ref.trajectory_store.TrajectoryStore.write`, where the formulas are explained.

    Args:
        rows: of the table, (n,).
        poses: x, y and heading a frame ago, (n, 3).
        before: states a frame ago, with the root channels, (n, state_dim).
        now: states to store, (n, state_dim).
        passed: time in which the pose moves, from the states before to these [s]; 0 stores them where they are.
        dt: time from the states before to these, for the rates; negative where those come later [s].
        joints: number of joint angles and velocities.
        table: written at ``rows``.
        placed: written, x, y and heading now, (n, 3).
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
        rows: of the table, (n,).
        joints: number of joint angles and velocities.
        table: of a :class:`cmg_ref.trajectory_store.TrajectoryStore`, (num_rows, table_columns).
        states: written, (n, state_dim).
        poses: written, x, y and heading, (n, 3).
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
        wanted: (n, 3).
        known: (num_known, 3).
        count: how many of the nearest to choose among; ``num_known`` at most.
        draw: integers that choose, (n,); not negative.
        picks: written, numbers of known points, (n,).
    """
    distances, numbers = np.empty(count, np.float32), np.empty(count, np.int64)
    for i in range(len(wanted)):
        held = 0
        for number in range(len(known)):
            distance = _ZERO
            for axis in range(3):
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
    values: np.ndarray,
) -> None:
    """What motions are told at frames; the same as :meth:`cmg_ref.planned_commands.PlannedCommands.value`.

    Args:
        first_frames: of each segment of each motion, rising, (num_motions, num_segments).
        starts: (num_motions, num_segments, 3).
        targets: (num_motions, num_segments, 3).
        motions: (n,).
        frames: (n,).
        interpolation_frames: frames from the beginning of a segment until its target is reached.
        values: written, (n, 3).
    """
    last = first_frames.shape[1] - 1
    for i in range(len(motions)):
        motion, frame, segment = motions[i], frames[i], 0
        while segment < last and first_frames[motion, segment + 1] <= frame:
            segment += 1
        share = _ONE
        if interpolation_frames > 0:
            passed = np.float32(frame - first_frames[motion, segment]) / np.float32(interpolation_frames)
            share = min(max(passed, _ZERO), _ONE)
        for axis in range(3):
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
    """Frames of motions as they are seen in the world; the same as :func:`cmg_ref.root_motion.frames_in_world`.

    Rows lie far apart. Those of several motions are fetched together by looking into each of their cache lines; one
    after the other, as they are copied, would take twice as long.

    Args:
        table: of a :class:`cmg_ref.trajectory_store.TrajectoryStore`, (num_rows, table_columns).
        first_rows: of each motion in it, (num_motions,).
        capacities: rows of each motion, (num_motions,).
        motions: (n,).
        frames: present frame of each, (n,).
        offsets: frames from there to those asked for, (num_steps,).
        joint_offsets: frames from there to those whose joint angles alone are asked for, (num_joint_steps,).
        origins: x, y and heading of each motion's own frame in the world, (n, 3).
        columns: stored number of each joint that is asked for, (num_joints,); none for all as they are stored.
        dof_pos: written, (n, num_steps, num_joints), and so are all that follow, (n, num_steps, ...).
        dof_vel: (..., num_joints).
        root_pos: (..., 3).
        root_quat: xyzw, (..., 4).
        root_lin_vel: (..., 3).
        root_ang_vel: (..., 3).
        future_dof_pos: (n, num_joint_steps, num_joints).

    Returns:
        A sum of what was looked at, of no use: without it a compiler would leave the looking out.
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
