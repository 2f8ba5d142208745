"""What lies between the matrix products of a CMG, as loops that Numba compiles.

Each is one pass over rows that stay in the cache, where torch takes a pass for every operation. Every row is a motion.
What products take and give may also be bfloat16, which NumPy does not know: its bits then come as uint16, and sums are
float32 nevertheless. Importing this needs Numba.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from numba import njit, types
from numba.extending import overload

from cmg_ref.core.command_layout import NUM_VELOCITIES
from cmg_ref.network.model import SMALLEST_PHASE
from cmg_ref.network.standing import ALL_BUT

# Sums may be taken in any order, but what is not a number stays so: the guard tells it from a motion.
_FAST = {"contract", "reassoc", "nsz", "arcp"}

_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_SMALLEST_PHASE, _ALL_BUT = np.float32(SMALLEST_PHASE), np.float32(ALL_BUT)
_LOG2_E = np.float32(1.4426950408889634)
_LOWEST = np.float32(-126.0)  # exponent of the smallest number with all its digits
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
def normalise_inputs(
    state: np.ndarray,
    command: np.ndarray,
    command_range: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    held: np.ndarray,
    inputs: np.ndarray,
) -> None:
    """Hold commands inside their range (``held``), and normalise them and the states (``inputs``).

    Args:
        state: (n, state_dim).
        command: (n, command_dim).
        command_range: Lowest and highest commands, (2, command_dim).
        scale: Of the inputs, (state_dim + command_dim,).
        shift: Of the scaled inputs, (state_dim + command_dim,).
        held: Written, (n, command_dim).
        inputs: Written, (n, state_dim + command_dim).
    """
    num, width = state.shape
    for row in range(num):
        for column in range(width):
            inputs[row, column] = _rounded(state[row, column] * scale[column] + shift[column], inputs)
        for axis in range(command.shape[1]):
            value = min(max(command[row, axis], command_range[0, axis]), command_range[1, axis])
            held[row, axis] = value
            inputs[row, width + axis] = _rounded(value * scale[width + axis] + shift[width + axis], inputs)


@njit(nogil=True, cache=True, fastmath=_FAST)
def gate_coefficients(
    gate: np.ndarray, bias: np.ndarray, weight: np.ndarray, weight_bias: np.ndarray, coefficients: np.ndarray
) -> None:
    """The gate after its first product: ELU, second layer, softmax.

    Args:
        gate: Product of its first layer, without the bias, (n, width).
        bias: (width,).
        weight: Of the second layer, (experts, width).
        weight_bias: (experts,).
        coefficients: Written, (n, experts).
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
def mixture_input(x: np.ndarray, coefficients: np.ndarray, activate: bool, out: np.ndarray) -> None:
    """The input of a mixture layer: x times each coefficient, and the coefficients themselves.

    Args:
        x: (n, width).
        coefficients: (n, experts).
        activate: Whether to take the ELU of x first.
        out: Written, (n, experts * (width + 1)).
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
def combine_experts(outputs: np.ndarray, coefficients: np.ndarray, biases: np.ndarray, changes: np.ndarray) -> None:
    """What the experts of the last layer say, weighted by the gate.

    Args:
        outputs: Of each expert, one after the other, (n, experts * width).
        coefficients: (n, experts).
        biases: (experts, width).
        changes: Written, (n, width).
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
def _stance_of(asked: np.float32, height: np.float32, heights: np.ndarray, num_stances: int) -> tuple[int, np.float32]:
    """Which stance a motion is drawn to: the number of the one below it, and the share of the way to the next."""
    lowest, spacing, nearly_natural, further, reach = heights[0], heights[1], heights[2], heights[3], heights[4]
    share = min(max((asked - nearly_natural) / further, _ZERO), _ONE)
    wanted = asked + share * (lowest + spacing * np.float32(num_stances - 1) - asked)
    aim = height + min(max(wanted - height, -reach), reach) if share < _ONE else wanted
    top = np.float32(num_stances - 1)
    place = min(max((aim - lowest) / spacing, _ZERO), top)
    place = top if place > top - _ALL_BUT else place
    below = max(min(int(place), num_stances - 2), 0)  # also of a height that is no number
    return below, place - np.float32(below)


@njit(inline="always")
def _aim(standing: np.ndarray, below: int, between: np.float32, column: int) -> np.float32:
    """What a channel of a standing motion is drawn to."""
    aim = standing[5 + below, column]
    if between == _ZERO:
        return aim
    above = standing[6 + below, column]
    return aim + between * (above - aim) if between < _HALF else above - (_ONE - between) * (above - aim)


@njit(nogil=True, cache=True)
def integrate(
    state: np.ndarray,
    output: np.ndarray,
    command: np.ndarray,
    command_range: np.ndarray,
    limits: np.ndarray,
    standing: np.ndarray,
    heights: np.ndarray,
    height_axis: int,
    height_column: int,
    half_dt: np.float32,
    num_angles: int,
    phase: int,
    following: np.ndarray,
    guarded: np.ndarray,
) -> None:
    """From what the network gives to the next state: integrate, hold inside the guard's range, stand.

    Args:
        state: (n, state_dim).
        output: Changes of all channels but the joint angles, which integrate their velocities, (n, >= changes).
        command: (n, command_dim).
        command_range: The trained range of commands and what asks for nothing, (3, command_dim).
        limits: The guard's range, lowest and highest, (2, state_dim).
        standing: The table of :class:`cmg_ref.network.standing.Standing`, (5 + num_stances, state_dim).
        heights: Its heights, (5,), and so are the two that follow its own.
        height_axis: Column of a command that asks for the height of the stance; -1 for none.
        height_column: Column of a state that holds the height of the root.
        half_dt: Half the time of a frame [s].
        num_angles: Number of joint angles.
        phase: First column of the phase of the stride, a direction; the number of columns if there is none.
        following: Written, (n, state_dim).
        guarded: Written, whether the guard acted, (n,) bool.
    """
    num, width = state.shape
    for row in range(num):
        for column in range(num_angles, width):
            following[row, column] = state[row, column] + output[row, column - num_angles]
        for column in range(num_angles):
            velocities = state[row, num_angles + column] + following[row, num_angles + column]
            following[row, column] = state[row, column] + half_dt * velocities
        if phase < width:
            length = np.sqrt(following[row, phase] ** 2 + following[row, phase + 1] ** 2)
            length = max(length, _SMALLEST_PHASE)
            following[row, phase] /= length
            following[row, phase + 1] /= length
        changed = 0
        moving = 0
        for column in range(width):
            value = following[row, column]
            held = min(max(value, limits[0, column]), limits[1, column])
            changed += held != value  # What is not a number differs from itself.
            moving += not abs(held) < standing[0, column]
            following[row, column] = held
        guarded[row] = changed != 0
        told = 0
        for axis in range(command.shape[1]):
            told += axis != height_axis and command[row, axis] != command_range[2, axis]
        if told != 0:
            continue
        below, between = 0, _ZERO
        if height_axis >= 0:
            asked, height = command[row, height_axis], state[row, height_column]
            below, between = _stance_of(asked, height, heights, len(standing) - 5)
        lowered = height_axis >= 0 and np.float32(below) + between < np.float32(len(standing) - 6)
        away = 0 if lowered else 1
        for column in range(width if lowered else 0):
            away += not abs(_aim(standing, below, between, column) - state[row, column]) < standing[4, column]
        if moving == 0 or away == 0:
            for column in range(width):
                following[row, column] = state[row, column] * standing[1, column]
        for column in range(width):
            here = state[row, column]
            if column < 2 * num_angles:
                angle = column % num_angles
                here = state[row, angle] + half_dt * (state[row, num_angles + angle] + state[row, num_angles + angle])
            nearer = standing[2, column] * (_aim(standing, below, between, column) - here)
            following[row, column] += min(max(nearer, -standing[3, column]), standing[3, column])


@njit(nogil=True, cache=True)
def correct_commands(
    command: np.ndarray, command_range: np.ndarray, gain: np.ndarray, memory: np.ndarray, told: np.ndarray
) -> None:
    """Tell along with commands what has been missed of them, as `DriftFeedback.correct` does.

    Args:
        command: (n, command_dim).
        command_range: Lowest and highest commands, (2, command_dim).
        gain: (3,).
        memory: What is remembered, (n, command_dim + 3); changed.
        told: Written, (n, command_dim).
    """
    num, width = command.shape
    for row in range(num):
        holds, stands = True, True
        for axis in range(width):
            value = min(max(command[row, axis], command_range[0, axis]), command_range[1, axis])
            holds = holds and value == memory[row, axis]
            stands = stands and (value == _ZERO or axis >= NUM_VELOCITIES)
            memory[row, axis] = told[row, axis] = value
        for axis in range(NUM_VELOCITIES):
            if stands or not (holds or axis == 2):
                memory[row, width + axis] = _ZERO
            value = told[row, axis] - gain[axis] * memory[row, width + axis]
            told[row, axis] = min(max(value, command_range[0, axis]), command_range[1, axis])


@njit(nogil=True, cache=True)
def follow_commands(
    following: np.ndarray,
    columns: np.ndarray,
    dt: np.float32,
    largest: np.ndarray,
    memory: np.ndarray,
    rows: np.ndarray,
    beside: np.ndarray,
) -> None:
    """Sum up what has been missed of commands, as `DriftFeedback.follow` does.

    Args:
        following: The states that were made, (n, state_dim).
        columns: Those of the velocities that commands are about, (3,).
        dt: Time of a frame [s].
        largest: (3,).
        memory: What :func:`correct_commands` left, (n, command_dim + 3); changed.
        rows: Where the drift is kept, (n,).
        beside: Written there, and the last channels of the states after it, (num_rows, 3 or more).
    """
    width = memory.shape[1] - NUM_VELOCITIES
    further = beside.shape[1] - NUM_VELOCITIES
    for row in range(len(memory)):
        for column in range(further):
            beside[rows[row], NUM_VELOCITIES + column] = following[row, following.shape[1] - further + column]
        vx, vy, yaw_rate = following[row, columns[0]], following[row, columns[1]], following[row, columns[2]]
        turned = memory[row, width + 2]
        missed = (vx - memory[row, 0], vy + turned * vx - memory[row, 1], yaw_rate - memory[row, 2])
        for axis in range(NUM_VELOCITIES):
            value = memory[row, width + axis] + dt * missed[axis]
            memory[row, width + axis] = beside[rows[row], axis] = min(max(value, -largest[axis]), largest[axis])


@njit(nogil=True, cache=True, fastmath=_FAST)
def _multiply(x: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    """The product of x (n, inputs) with a weight (outputs, inputs), (n, outputs)."""
    for row in range(len(x)):
        for column in range(len(weight)):
            total = _ZERO
            for i in range(x.shape[1]):
                total += x[row, i] * weight[column, i]
            out[row, column] = total


@njit(nogil=True, cache=True)
def step_few(
    state: np.ndarray,
    command: np.ndarray,
    command_range: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    gate_weight: np.ndarray,
    gate_bias: np.ndarray,
    blend_weight: np.ndarray,
    blend_bias: np.ndarray,
    weights: tuple[np.ndarray, ...],
    last_weight: np.ndarray,
    last_bias: np.ndarray,
    limits: np.ndarray,
    standing: np.ndarray,
    heights: np.ndarray,
    height_axis: int,
    height_column: int,
    half_dt: np.float32,
    num_angles: int,
    phase: int,
    following: np.ndarray,
    guarded: np.ndarray,
) -> None:
    """A whole step of a motion or two, for which calling loops and products one by one takes as long as they do.

    Args:
        state: (n, state_dim).
        command: (n, command_dim).
        command_range: As of :func:`normalise_inputs`, and so are the two that follow.
        scale: (state_dim + command_dim,).
        shift: (state_dim + command_dim,).
        gate_weight: Of the gate's first layer, (width, state_dim + command_dim).
        gate_bias: As of :func:`gate_coefficients`, and so are the two that follow.
        blend_weight: (experts, width).
        blend_bias: (experts,).
        weights: Of all mixture layers but the last, (hidden, experts * (inputs + 1)).
        last_weight: Of the last layer's experts, one after the other, (experts * outputs, hidden).
        last_bias: (experts, outputs).
        limits: As of :func:`integrate`, and so are all that follow.
        standing: (5 + num_stances, state_dim).
        heights: (5,).
        height_axis: -1 for none.
        height_column: Column of a state.
        half_dt: Half the time of a frame [s].
        num_angles: Number of joint angles.
        phase: First column of the phase of the stride, a direction; the number of columns if there is none.
        following: Written, (n, state_dim).
        guarded: Written, (n,) bool.
    """
    num, experts = len(state), len(blend_bias)
    held, inputs = np.empty_like(command), np.empty((num, len(scale)), np.float32)
    gate, coefficients = np.empty((num, len(gate_bias)), np.float32), np.empty((num, experts), np.float32)
    normalise_inputs(state, command, command_range, scale, shift, held, inputs)
    _multiply(inputs, gate_weight, gate)
    gate_coefficients(gate, gate_bias, blend_weight, blend_bias, coefficients)
    hidden = inputs
    for layer in range(len(weights)):
        weight = weights[layer]
        mixed, product = np.empty((num, weight.shape[1]), np.float32), np.empty((num, len(weight)), np.float32)
        mixture_input(hidden, coefficients, layer > 0, mixed)
        _multiply(mixed, weight, product)
        hidden = product
    activate(hidden)
    outputs, changes = np.empty((num, len(last_weight)), np.float32), np.empty((num, last_bias.shape[1]), np.float32)
    _multiply(hidden, last_weight, outputs)
    combine_experts(outputs, coefficients, last_bias, changes)
    stand = standing, heights, height_axis, height_column
    integrate(state, changes, held, command_range, limits, *stand, half_dt, num_angles, phase, following, guarded)
