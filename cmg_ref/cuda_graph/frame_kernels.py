"""Triton kernels of a frame: what stands before, between and after its products. Each is one pass over its rows.

What they compute is said by the torch code that they are tested against: the command in force
(:class:`cmg_ref.frames.command_plan.PlannedCommands`), drift from it
(:class:`cmg_ref.rollout.drift_feedback.DriftFeedback`), the network (:class:`cmg_ref.network.model.CMG`), guard and
rest (:class:`cmg_ref.rollout.rollout.Rollout`), root and store (:mod:`cmg_ref.frames.root_motion`,
:mod:`cmg_ref.frames.store`). Imported only where Triton is there.
"""

from __future__ import annotations

import triton
import triton.language as tl

from cmg_ref.cuda_graph.kernel_functions import clamped, column, elu, lerp, store_root, turned


@triton.jit
def _in_force(starts, targets, command_range, segment, share, axis, COMMANDS: tl.constexpr, RAMP: tl.constexpr):
    """One axis of the command in force in segments, inside the trained range."""
    wanted = tl.load(targets + segment * COMMANDS + axis)
    if RAMP > 0:
        wanted = lerp(tl.load(starts + segment * COMMANDS + axis), wanted, share)
    return clamped(wanted, tl.load(command_range + axis), tl.load(command_range + COMMANDS + axis))


@triton.jit(do_not_specialize=["num"])
def take_in_motions(
    ids,
    tail_state,
    tail_pose,
    tail_memory,
    written,
    guarded,
    first_frames,
    starts,
    targets,
    largest,
    command_range,
    gain,
    scale,
    shift,
    before,
    poses,
    memory,
    frames,
    guarded_before,
    command,
    inputs,
    num,
    SIZE: tl.constexpr,
    COMMANDS: tl.constexpr,
    VELOCITIES: tl.constexpr,
    INPUTS: tl.constexpr,
    SEGMENTS: tl.constexpr,
    RAMP: tl.constexpr,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
    SEGMENT_ROOM: tl.constexpr,
):
    """Network inputs of motions ``ids`` (num,), -1 for none: their last state and the command in force."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    within = rows < num
    motion = tl.load(ids + rows, within, -1)
    valid = motion >= 0
    motion = tl.where(valid, motion, 0)
    columns = tl.arange(0, COLUMNS)[None, :]
    frame = tl.load(written + motion)
    tl.store(frames + rows, frame, within)
    tl.store(guarded_before + rows, tl.load(guarded + motion), within)
    for axis in tl.static_range(3):  # x, y, heading
        tl.store(poses + rows * 3 + axis, tl.load(tail_pose + motion * 3 + axis), within)
    segments = tl.arange(0, SEGMENT_ROOM)[None, :]
    begins = tl.load(first_frames + motion[:, None] * SEGMENTS + segments, segments < SEGMENTS, 0x7FFFFFFFFFFFFFFF)
    begun = tl.sum((begins <= frame[:, None]).to(tl.int32), axis=1)
    segment = motion * SEGMENTS + tl.maximum(begun - 1, 0)
    since = (frame - tl.load(first_frames + segment)).to(tl.float32)
    ramp = tl.full((BLOCK,), RAMP if RAMP > 0 else 1, tl.float32)
    if RAMP > 0:
        for axis in tl.static_range(COMMANDS):
            place = segment * COMMANDS + axis
            change = tl.abs(tl.load(targets + place) - tl.load(starts + place))
            ramp = tl.maximum(ramp, change / tl.load(largest + axis))
    share = tl.minimum(tl.maximum(since / ramp, 0.0), 1.0)
    state = tl.load(tail_state + motion[:, None] * SIZE + columns, columns < SIZE, 0.0)
    tl.store(before + rows[:, None] * SIZE + columns, state, within[:, None] & (columns < SIZE))
    # What is remembered: the command of the last frame, and what has been missed of it since it came into force.
    last, kept = tail_memory + motion * (COMMANDS + VELOCITIES), memory + rows * (COMMANDS + VELOCITIES)
    holds, stands = within, within
    for axis in tl.static_range(COMMANDS):
        wanted = _in_force(starts, targets, command_range, segment, share, axis, COMMANDS, RAMP)
        holds = holds & (wanted == tl.load(last + axis))
        stands = stands & ((axis >= VELOCITIES) | (wanted == 0.0))
        tl.store(kept + axis, wanted, within)
    given = state
    for axis in tl.static_range(COMMANDS):
        told = _in_force(starts, targets, command_range, segment, share, axis, COMMANDS, RAMP)
        if axis < VELOCITIES:
            goes = (stands == 0) & (holds | (axis == 2))
            drift = tl.where(goes, tl.load(last + COMMANDS + axis), 0.0)
            tl.store(kept + COMMANDS + axis, drift, within)
            told = told - tl.load(gain + axis) * drift
            told = clamped(told, tl.load(command_range + axis), tl.load(command_range + COMMANDS + axis))
        tl.store(command + rows * COMMANDS + axis, told, within)
        given = tl.where(columns == SIZE + axis, told[:, None], given)
    real = columns < SIZE + COMMANDS
    normalised = tl.load(shift + columns, real, 0.0) + given * tl.load(scale + columns, real, 0.0)
    tl.store(inputs + rows[:, None] * INPUTS + columns, normalised, within[:, None] & (columns < INPUTS))


@triton.jit(do_not_specialize=["num"])
def take_in_given(
    state,
    given_command,
    command_range,
    scale,
    shift,
    command,
    inputs,
    num,
    SIZE: tl.constexpr,
    COMMANDS: tl.constexpr,
    INPUTS: tl.constexpr,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Network inputs of given states (num, SIZE) and commands (num, COMMANDS)."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    within = rows < num
    columns = tl.arange(0, COLUMNS)[None, :]
    given = tl.load(state + rows[:, None] * SIZE + columns, within[:, None] & (columns < SIZE), 0.0)
    for axis in tl.static_range(COMMANDS):
        wanted = tl.load(given_command + rows * COMMANDS + axis, within, 0.0)
        wanted = clamped(wanted, tl.load(command_range + axis), tl.load(command_range + COMMANDS + axis))
        tl.store(command + rows * COMMANDS + axis, wanted, within)
        given = tl.where(columns == SIZE + axis, wanted[:, None], given)
    real = columns < SIZE + COMMANDS
    normalised = tl.load(shift + columns, real, 0.0) + given * tl.load(scale + columns, real, 0.0)
    tl.store(inputs + rows[:, None] * INPUTS + columns, normalised, within[:, None] & (columns < INPUTS))


@triton.jit(do_not_specialize=["num"])
def blend_first(
    products,
    gate_bias,
    blend_weight,
    blend_bias,
    biases,
    blend,
    hidden,
    num,
    GATE: tl.constexpr,
    HIDDEN: tl.constexpr,
    EXPERTS: tl.constexpr,
    BLOCK: tl.constexpr,
    GATE_ROOM: tl.constexpr,
    HIDDEN_ROOM: tl.constexpr,
    EXPERT_ROOM: tl.constexpr,
):
    """The blend from the gate's part of the first products, and the first hidden values by it."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    within = (rows < num)[:, None]
    start = rows[:, None] * (GATE + EXPERTS * HIDDEN)
    gates = tl.arange(0, GATE_ROOM)[None, :]
    gate = tl.load(products + start + gates, within & (gates < GATE), 0.0).to(tl.float32)
    gate = elu(gate + tl.load(gate_bias + gates, gates < GATE, 0.0))
    experts = tl.arange(0, EXPERT_ROOM)[None, :]
    logits = tl.full((BLOCK, EXPERT_ROOM), float("-inf"), tl.float32)
    for expert in tl.static_range(EXPERTS):
        weight = tl.load(blend_weight + expert * GATE + gates, gates < GATE, 0.0)
        logit = tl.sum(gate * weight, axis=1) + tl.load(blend_bias + expert)
        logits = tl.where(experts == expert, logit[:, None], logits)
    shares = tl.exp(logits - tl.max(logits, axis=1)[:, None])
    shares = shares / tl.sum(shares, axis=1)[:, None]
    tl.store(blend + rows[:, None] * EXPERTS + experts, shares, within & (experts < EXPERTS))
    columns = tl.arange(0, HIDDEN_ROOM)[None, :]
    real = columns < HIDDEN
    total = tl.zeros((BLOCK, HIDDEN_ROOM), tl.float32)
    for expert in tl.static_range(EXPERTS):
        own = tl.load(products + start + GATE + expert * HIDDEN + columns, within & real, 0.0).to(tl.float32)
        share = column(shares, experts, expert)[:, None]
        total += share * (own + tl.load(biases + expert * HIDDEN + columns, real, 0.0))
    tl.store(hidden + rows[:, None] * HIDDEN + columns, elu(total), within & real)


@triton.jit(do_not_specialize=["num"])
def blend_next(
    products,
    biases,
    blend,
    hidden,
    num,
    HIDDEN: tl.constexpr,
    EXPERTS: tl.constexpr,
    BLOCK: tl.constexpr,
    HIDDEN_ROOM: tl.constexpr,
):
    """The next hidden values from what each expert gives."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    within = rows < num
    columns = tl.arange(0, HIDDEN_ROOM)[None, :]
    real = columns < HIDDEN
    total = tl.zeros((BLOCK, HIDDEN_ROOM), tl.float32)
    for expert in tl.static_range(EXPERTS):
        place = rows[:, None] * (EXPERTS * HIDDEN) + expert * HIDDEN + columns
        own = tl.load(products + place, within[:, None] & real, 0.0).to(tl.float32)
        share = tl.load(blend + rows * EXPERTS + expert, within, 0.0)[:, None]
        total += share * (own + tl.load(biases + expert * HIDDEN + columns, real, 0.0))
    tl.store(hidden + rows[:, None] * HIDDEN + columns, elu(total), within[:, None] & real)


@triton.jit
def _held(
    products,
    biases,
    blend,
    before,
    command,
    command_range,
    limits,
    heights,
    rows,
    within,
    columns,
    half_dt,
    SIZE: tl.constexpr,
    COMMANDS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    EXPERTS: tl.constexpr,
    GIVEN: tl.constexpr,
    ANGLES: tl.constexpr,
    PHASE: tl.constexpr,
    STANCES: tl.constexpr,
    HEIGHT_AXIS: tl.constexpr,
    ROOT_HEIGHT: tl.constexpr,
    ALL_BUT: tl.constexpr,
):
    """The state before, the next one held inside its range, at rest where nothing is asked, and where the guard acted.

    ``command_range``: lowest and highest value of each axis of a command, and what asks for nothing, (3, COMMANDS).
    ``limits``: least and largest value of each channel, and the table of ``Standing``, whose heights ``heights`` are,
    (7 + STANCES, SIZE).
    """
    mask = within[:, None] & (columns < SIZE)
    state = tl.load(before + rows[:, None] * SIZE + columns, mask, 0.0)
    source = tl.where(columns < GIVEN, columns, columns - GIVEN)
    change = tl.zeros_like(state)
    for expert in tl.static_range(EXPERTS):
        place = rows[:, None] * (EXPERTS * OUTPUTS) + expert * OUTPUTS + source
        own = tl.load(products + place, mask, 0.0).to(tl.float32)
        share = tl.load(blend + rows * EXPERTS + expert, within, 0.0)[:, None]
        change += share * (own + tl.load(biases + expert * OUTPUTS + source, columns < SIZE, 0.0))
    if GIVEN > 0:  # Joint angles integrate their velocities.
        joint = mask & (columns < GIVEN)
        velocity = tl.load(before + rows[:, None] * SIZE + GIVEN + columns, joint, 0.0)
        predicted = tl.where(columns < GIVEN, state + half_dt * (velocity + (velocity + change)), state + change)
    else:
        predicted = change
    if PHASE < SIZE:  # A direction.
        turning = mask & (columns >= PHASE) & (columns < PHASE + 2)
        length = tl.sqrt(tl.sum(tl.where(turning, predicted * predicted, 0.0), axis=1))
        predicted = tl.where(turning, predicted / tl.maximum(length, 1e-6)[:, None], predicted)
    low = tl.load(limits + columns, columns < SIZE, 0.0)
    high = tl.load(limits + SIZE + columns, columns < SIZE, 0.0)
    held = clamped(predicted, low, high)
    acted = tl.max(((held != predicted) & mask).to(tl.int32), axis=1)  # What is no number differs from itself.
    slow = tl.abs(held) < tl.load(limits + 2 * SIZE + columns, columns < SIZE, 0.0)
    resting = tl.max((mask & (slow == 0)).to(tl.int32), axis=1) == 0
    told = within
    for axis in tl.static_range(COMMANDS):
        if axis != HEIGHT_AXIS:
            rest = tl.load(command_range + 2 * COMMANDS + axis)
            told = told & (tl.load(command + rows * COMMANDS + axis, within, float("nan")) == rest)
    if HEIGHT_AXIS >= 0:
        lowest, spacing = tl.load(heights), tl.load(heights + 1)
        nearly_natural, further, reach = tl.load(heights + 2), tl.load(heights + 3), tl.load(heights + 4)
        asked = tl.load(command + rows * COMMANDS + HEIGHT_AXIS, within, 0.0)
        height = tl.load(before + rows * SIZE + ROOT_HEIGHT, within, 0.0)
        share = clamped((asked - nearly_natural) / further, 0.0, 1.0)
        wanted = asked + share * (lowest + spacing * (STANCES - 1) - asked)
        drawn = tl.where(share < 1.0, height + clamped(wanted - height, -reach, reach), wanted)
        place = clamped((drawn - lowest) / spacing, 0.0, STANCES - 1.0)
        place = tl.where(place > STANCES - 1.0 - ALL_BUT, STANCES - 1.0, place)
        below = tl.maximum(tl.minimum(place.to(tl.int32), STANCES - 2), 0)  # also of a height that is no number
        stance = limits + (7 + below)[:, None] * SIZE + columns
        aim = tl.load(stance, mask, 0.0)
        above, between = tl.load(stance + SIZE, mask, 0.0), (place - below.to(tl.float32))[:, None]
        aim = tl.where(between < 0.5, aim + between * (above - aim), above - (1.0 - between) * (above - aim))
        close = tl.abs(aim - state) < tl.load(limits + 6 * SIZE + columns, columns < SIZE, 0.0)
        near = tl.max((mask & (close == 0)).to(tl.int32), axis=1) == 0
        resting = resting | (near & (place < STANCES - 1.0))
    else:
        aim = tl.load(limits + 7 * SIZE + columns, columns < SIZE, 0.0)
    kept = state * tl.load(limits + 3 * SIZE + columns, columns < SIZE, 0.0)
    following = tl.where((resting & told)[:, None], kept, held)
    share = tl.load(limits + 4 * SIZE + columns, columns < SIZE, 0.0)
    turns = within[:, None] & (columns < 2 * ANGLES)
    angle = before + rows[:, None] * SIZE + tl.where(columns < ANGLES, columns, columns - ANGLES)
    ahead = tl.load(angle, turns, 0.0) + 2.0 * half_dt * tl.load(angle + ANGLES, turns, 0.0)
    here = tl.where(columns < 2 * ANGLES, ahead, state)
    furthest = tl.load(limits + 5 * SIZE + columns, columns < SIZE, 0.0)
    nearer = clamped(share * (aim - here), -furthest, furthest)
    return state, tl.where(told[:, None], following + nearer, following), acted


@triton.jit
def _count(guard_count, acted, valid):
    num_acted = tl.sum(tl.where(valid, acted, 0), axis=0)
    if num_acted > 0:
        tl.atomic_add(guard_count, num_acted.to(tl.int64))


@triton.jit(do_not_specialize=["num"])
def put_out(
    products,
    biases,
    blend,
    before,
    command,
    command_range,
    limits,
    heights,
    following,
    guarded,
    guard_count,
    num,
    half_dt,
    SIZE: tl.constexpr,
    COMMANDS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    EXPERTS: tl.constexpr,
    GIVEN: tl.constexpr,
    ANGLES: tl.constexpr,
    PHASE: tl.constexpr,
    STANCES: tl.constexpr,
    HEIGHT_AXIS: tl.constexpr,
    ROOT_HEIGHT: tl.constexpr,
    ALL_BUT: tl.constexpr,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The next states (num, SIZE), and in which the guard acted (num,), which is counted."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    within = rows < num
    columns = tl.arange(0, COLUMNS)[None, :]
    _, now, acted = _held(
        products,
        biases,
        blend,
        before,
        command,
        command_range,
        limits,
        heights,
        rows,
        within,
        columns,
        half_dt,
        SIZE,
        COMMANDS,
        OUTPUTS,
        EXPERTS,
        GIVEN,
        ANGLES,
        PHASE,
        STANCES,
        HEIGHT_AXIS,
        ROOT_HEIGHT,
        ALL_BUT,
    )
    tl.store(following + rows[:, None] * SIZE + columns, now, within[:, None] & (columns < SIZE))
    tl.store(guarded + rows, acted != 0, within)
    _count(guard_count, acted, within)


@triton.jit(do_not_specialize=["num"])
def put_out_motions(
    ids,
    products,
    biases,
    blend,
    before,
    command,
    command_range,
    limits,
    heights,
    poses,
    memory,
    frames,
    guarded_before,
    largest_drift,
    tail_state,
    tail_pose,
    tail_memory,
    written,
    guarded,
    guard_count,
    table,
    table_bits,
    beside,
    first_row,
    capacities,
    num,
    half_dt,
    fps,
    SIZE: tl.constexpr,
    COMMANDS: tl.constexpr,
    VELOCITIES: tl.constexpr,
    OUTPUTS: tl.constexpr,
    EXPERTS: tl.constexpr,
    GIVEN: tl.constexpr,
    ANGLES: tl.constexpr,
    PHASE: tl.constexpr,
    STANCES: tl.constexpr,
    HEIGHT_AXIS: tl.constexpr,
    ROOT_HEIGHT: tl.constexpr,
    ALL_BUT: tl.constexpr,
    HEIGHT: tl.constexpr,
    GRAVITY: tl.constexpr,
    VELOCITY: tl.constexpr,
    YAW_RATE: tl.constexpr,
    JOINTS: tl.constexpr,
    WIDTH: tl.constexpr,
    HALF: tl.constexpr,
    BESIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The next frame of motions: its state, its place one frame on, and its row of the table."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    motion = tl.load(ids + rows, rows < num, -1)
    valid = motion >= 0
    motion = tl.where(valid, motion, 0)
    columns = tl.arange(0, COLUMNS)[None, :]
    state, now, acted = _held(
        products,
        biases,
        blend,
        before,
        command,
        command_range,
        limits,
        heights,
        rows,
        valid,
        columns,
        half_dt,
        SIZE,
        COMMANDS,
        OUTPUTS,
        EXPERTS,
        GIVEN,
        ANGLES,
        PHASE,
        STANCES,
        HEIGHT_AXIS,
        ROOT_HEIGHT,
        ALL_BUT,
    )
    tl.store(tail_state + motion[:, None] * SIZE + columns, now, valid[:, None] & (columns < SIZE))
    frame = tl.load(frames + rows, valid, 0)
    tl.store(written + motion, frame + 1, valid)
    tl.store(guarded + motion, tl.load(guarded_before + rows, valid, 0) + acted, valid)
    _count(guard_count, acted, valid)
    row = tl.load(first_row + motion) + frame % tl.load(capacities + motion)
    place = table + row[:, None] * WIDTH + columns
    tl.store(place, now, valid[:, None] & (columns < JOINTS))
    # Place: the trapezoidal rule.
    x, y = tl.load(poses + rows * 3, valid, 0.0), tl.load(poses + rows * 3 + 1, valid, 0.0)
    heading = tl.load(poses + rows * 3 + 2, valid, 0.0)
    yaw_rate = column(now, columns, YAW_RATE)
    following = heading + half_dt * (column(state, columns, YAW_RATE) + yaw_rate)
    vx, vy, vz = (
        column(now, columns, VELOCITY),
        column(now, columns, VELOCITY + 1),
        column(now, columns, VELOCITY + 2),
    )
    first_x, first_y = turned(column(state, columns, VELOCITY), column(state, columns, VELOCITY + 1), heading)
    second_x, second_y = turned(vx, vy, following)
    x += half_dt * (first_x + second_x)
    y += half_dt * (first_y + second_y)
    tl.store(tail_pose + motion * 3, x, valid)
    tl.store(tail_pose + motion * 3 + 1, y, valid)
    tl.store(tail_pose + motion * 3 + 2, following, valid)
    # What is remembered of the command, and what has been missed of it by now.
    own, kept = tail_memory + motion * (COMMANDS + VELOCITIES), memory + rows * (COMMANDS + VELOCITIES)
    for axis in tl.static_range(COMMANDS):
        tl.store(own + axis, tl.load(kept + axis, valid, 0.0), valid)
    gone = tl.load(kept + COMMANDS + 2, valid, 0.0)  # heading that has drifted
    for axis in tl.static_range(VELOCITIES):
        velocity = vx if axis == 0 else (vy + gone * vx if axis == 1 else yaw_rate)
        missed = velocity - tl.load(kept + axis, valid, 0.0)
        drift = tl.load(kept + COMMANDS + axis, valid, 0.0) + 2.0 * half_dt * missed
        bound = tl.load(largest_drift + axis)
        drift = clamped(drift, -bound, bound)
        tl.store(own + COMMANDS + axis, drift, valid)
        tl.store(beside + row * BESIDE + axis, drift, valid)
    further = columns - (SIZE + VELOCITIES - BESIDE)
    is_further = valid[:, None] & (further >= 0) & (columns < SIZE)
    tl.store(beside + row[:, None] * BESIDE + VELOCITIES + further, now, is_further)
    store_root(
        table,
        table_bits,
        row,
        valid,
        x,
        y,
        column(now, columns, HEIGHT),
        following,
        column(now, columns, GRAVITY),
        column(now, columns, GRAVITY + 1),
        column(now, columns, GRAVITY + 2),
        vx,
        vy,
        vz,
        yaw_rate,
        column(state, columns, HEIGHT),
        column(state, columns, GRAVITY),
        column(state, columns, GRAVITY + 1),
        column(state, columns, GRAVITY + 2),
        -fps,
        JOINTS,
        WIDTH,
        HALF,
    )
