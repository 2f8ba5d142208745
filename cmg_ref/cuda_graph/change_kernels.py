"""Triton kernels of what happens between frames: resets and new commands, the clock, and reading.

What they compute is said by the torch code that they are tested against: the choice of initial states
(:mod:`cmg_ref.trajectories.start_states`), how motions begin and go on (`MotionBuffer`), and what is seen of them
(`MotionReader`). Imported only where Triton is there.
"""

from __future__ import annotations

import triton
import triton.language as tl

from cmg_ref.cuda_graph.kernel_functions import clamped, column, lerp, load_place, store_root, turned

_MASK = tl.constexpr(0xFFFFFFFF)
_FIRST_FACTOR = tl.constexpr(0x85EBCA6B)
_SECOND_FACTOR = tl.constexpr(0xC2B2AE35)


@triton.jit
def _mixed(value):
    value = value & _MASK
    value = ((value ^ (value >> 16)) * _FIRST_FACTOR) & _MASK
    value = ((value ^ (value >> 13)) * _SECOND_FACTOR) & _MASK
    return value ^ (value >> 16)


@triton.jit
def _number(values):
    # What is not finite becomes 0.
    return tl.where(tl.abs(values) < float("inf"), values, 0.0)


@triton.jit(do_not_specialize=["num"])
def ask(
    env_ids,
    commands,
    poses,
    asked,
    asked_commands,
    asked_poses,
    num,
    KIND: tl.constexpr,
    COMMANDS: tl.constexpr,
    PLACES: tl.constexpr,
    POSES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write beside environments ``env_ids`` (num,) what is asked for: the kind, commands, and a place to begin at.

    ``COMMANDS`` is how many numbers a command has, 0 where none is given.
    """
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    within = number < num
    env = tl.load(env_ids + number, within, 0)
    tl.store(asked + env, KIND, within)
    for axis in tl.static_range(COMMANDS):
        given = tl.load(commands + number * COMMANDS + axis, within, 0.0)
        tl.store(asked_commands + env * COMMANDS + axis, _number(given), within)
    for axis in tl.static_range(3):  # x, y, heading
        if POSES:
            tl.store(asked_poses + env * 3 + axis, _number(tl.load(poses + number * 3 + axis, within, 0.0)), within)
        elif PLACES:
            tl.store(asked_poses + env * 3 + axis, 0.0, within)


@triton.jit
def change(
    begun,
    begun_commands,
    begun_poses,
    told,
    told_commands,
    excess,
    shown,
    rows,
    joints,
    joint_columns,
    origin,
    drawn,
    first_number,
    mixed_seed,
    known_states,
    known_commands,
    known_following,
    scaled_commands,
    at_rest,
    command_scale,
    command_range,
    state,
    pose,
    memory,
    written,
    guarded,
    first_frames,
    starts,
    targets,
    largest,
    table,
    table_bits,
    beside,
    first_rows,
    capacities,
    fps,
    KNOWN: tl.constexpr,
    RESTING: tl.constexpr,
    NEAREST: tl.constexpr,
    RAMP: tl.constexpr,
    SIZE: tl.constexpr,
    COMMANDS: tl.constexpr,
    VELOCITIES: tl.constexpr,
    BESIDE: tl.constexpr,
    MEMORY: tl.constexpr,
    MEMORY_ROOM: tl.constexpr,
    HEIGHT: tl.constexpr,
    GRAVITY: tl.constexpr,
    VELOCITY: tl.constexpr,
    YAW_RATE: tl.constexpr,
    JOINTS: tl.constexpr,
    WIDTH: tl.constexpr,
    HALF: tl.constexpr,
    READ: tl.constexpr,
    COLUMNS: tl.constexpr,
    COMMAND_ROOM: tl.constexpr,
    KNOWN_ROOM: tl.constexpr,
):
    """Begin the motion of an environment anew (``begun`` 1; 2 with the command it has), and tell it another command.

    One program an environment; those without a change do nothing. What was asked for is taken back. What is shown of
    a motion that begins is its first frame, in row ``rows``; that of others stays.
    """
    env = tl.program_id(0).to(tl.int64)
    begins, tells = tl.load(begun + env), tl.load(told + env)
    if (begins == 0) & (tells == 0):
        return
    tl.store(begun + env, 0)
    tl.store(told + env, 0)
    columns = tl.arange(0, COLUMNS)
    real = columns < SIZE
    further = columns - (SIZE + VELOCITIES - BESIDE)  # channels that a frame does not hold
    is_further = real & (further >= 0)
    first_row, capacity = tl.load(first_rows + env), tl.load(capacities + env)
    base = tl.load(shown + env)
    begin = tl.load(first_frames + env)
    axes = tl.arange(0, COMMAND_ROOM)
    is_axis = axes < COMMANDS
    low = tl.load(command_range + axes, is_axis, 0.0)
    high = tl.load(command_range + COMMANDS + axes, is_axis, 0.0)
    start = tl.load(starts + env * COMMANDS + axes, is_axis, 0.0)
    target = tl.load(targets + env * COMMANDS + axes, is_axis, 0.0)
    if begins != 0:
        if begins == 1:
            wanted = tl.load(begun_commands + env * COMMANDS + axes, is_axis, 0.0)
            target = clamped(wanted, low, high)
            tl.store(excess + env * COMMANDS + axes, tl.abs(wanted - target), is_axis)
        times = tl.load(drawn + env) + 1
        tl.store(drawn + env, times)
        draw = _mixed(_mixed(first_number + env + mixed_seed) + times)
        # The nearest of what is known, axis by axis; which of the nearest, the draw says.
        numbers = tl.arange(0, KNOWN_ROOM)
        is_known = numbers < KNOWN
        distance = tl.where(is_known, 0.0, float("inf"))
        for axis in tl.static_range(COMMANDS):
            one = column(target, axes, axis) * tl.load(command_scale + axis)
            gap = one - tl.load(scaled_commands + numbers * COMMANDS + axis, is_known, 0.0)
            distance += gap * gap
        rank = draw % NEAREST
        pick = tl.argmin(distance, axis=0)
        for nearer in tl.static_range(NEAREST - 1):
            distance = tl.where((numbers == pick) & (nearer < rank), float("inf"), distance)
            pick = tl.argmin(distance, axis=0)
        if tl.max(tl.where(axes < VELOCITIES, tl.abs(target), 0.0), axis=0) == 0.0:
            pick = tl.load(at_rest + draw % RESTING).to(tl.int32)
        now = tl.load(known_states + pick * SIZE + columns, real, 0.0)
        later = tl.load(known_following + pick * SIZE + columns, real, 0.0)
        start = tl.load(known_commands + pick * COMMANDS + axes, is_axis, 0.0)
        base, begin = base * 0, begin * 0
        x, y = tl.load(begun_poses + env * 3), tl.load(begun_poses + env * 3 + 1)
        heading = tl.load(begun_poses + env * 3 + 2)
        tl.store(pose + env * 3, x)
        tl.store(pose + env * 3 + 1, y)
        tl.store(pose + env * 3 + 2, heading)
        poses = tl.arange(0, 4)
        tl.store(origin + env * 3 + poses, 0.0, poses < 3)
        tl.store(state + env * SIZE + columns, now, real)
        tl.store(table + first_row * WIDTH + columns, now, columns < JOINTS)
        tl.store(beside + first_row * BESIDE + VELOCITIES + further, now, is_further)
        store_root(
            table,
            table_bits,
            first_row,
            True,
            x,
            y,
            column(now, columns, HEIGHT),
            heading,
            column(now, columns, GRAVITY),
            column(now, columns, GRAVITY + 1),
            column(now, columns, GRAVITY + 2),
            column(now, columns, VELOCITY),
            column(now, columns, VELOCITY + 1),
            column(now, columns, VELOCITY + 2),
            column(now, columns, YAW_RATE),
            column(later, columns, HEIGHT),
            column(later, columns, GRAVITY),
            column(later, columns, GRAVITY + 1),
            column(later, columns, GRAVITY + 2),
            fps,
            JOINTS,
            WIDTH,
            HALF,
        )
        tl.store(shown + env, base)
        tl.store(rows + env, first_row)
        tl.store(guarded + env, base)
        read = columns < READ
        own = tl.load(known_states + pick * SIZE + tl.load(joint_columns + columns, read, 0), read, 0.0)
        tl.store(joints + env * READ + columns, own.to(table.dtype.element_ty).to(tl.float32), read)
    wanted = tl.load(told_commands + env * COMMANDS + axes, is_axis, 0.0)
    other = clamped(wanted, low, high)
    tl.store(excess + env * COMMANDS + axes, tl.abs(wanted - other), is_axis & (tells != 0))
    differs = (tells != 0) & (tl.max((other != target).to(tl.int32), axis=0) > 0)
    if differs:
        if RAMP > 0:
            change = tl.abs(target - start) / tl.load(largest + axes, is_axis, 1.0)
            ramp = tl.maximum(tl.max(tl.where(is_axis, change, 0.0), axis=0), RAMP)
            share = tl.minimum(tl.maximum((base - begin).to(tl.float32) / ramp, 0.0), 1.0)
            start = lerp(start, target, share)
        else:
            start = target
        target, begin = other, base
    if differs & (begins == 0):  # Go on from the frame on show.
        row = first_row + base % capacity
        here = table + row * WIDTH + JOINTS
        x, y, height, heading = load_place(table, table_bits, row, JOINTS, WIDTH, HALF)
        vx, vy = turned(tl.load(here).to(tl.float32), tl.load(here + 1).to(tl.float32), -heading)
        now = tl.load(table + row * WIDTH + columns, columns < JOINTS, 0.0).to(tl.float32)
        now = tl.where(columns == HEIGHT, height, now)
        for axis in tl.static_range(3):
            gravity = tl.load(here + (20 if HALF else 16) + axis).to(tl.float32)
            now = tl.where(columns == GRAVITY + axis, gravity, now)
        now = tl.where(columns == VELOCITY, vx, now)
        now = tl.where(columns == VELOCITY + 1, vy, now)
        now = tl.where(columns == VELOCITY + 2, tl.load(here + 3).to(tl.float32), now)
        now = tl.where(columns == YAW_RATE, tl.load(here + 7).to(tl.float32), now)
        aside = tl.load(beside + row * BESIDE + VELOCITIES + further, is_further, 0.0)
        tl.store(state + env * SIZE + columns, tl.where(is_further, aside, now), real)
        tl.store(pose + env * 3, x)
        tl.store(pose + env * 3 + 1, y)
        tl.store(pose + env * 3 + 2, heading)
    changed = differs | (begins != 0)
    # Who begins has not drifted; who is told otherwise has, and nothing equals the command that is no number.
    remembered = tl.arange(0, MEMORY_ROOM)
    own = beside + (first_row + base % capacity) * BESIDE + remembered - COMMANDS
    is_drift = (remembered >= COMMANDS) & (remembered < MEMORY)
    tl.store(own, 0.0, is_drift & (begins != 0))
    drifted = tl.load(own, is_drift & (begins == 0), 0.0)
    last = tl.where((remembered < COMMANDS) & (begins == 0), float("nan"), drifted)
    tl.store(memory + env * MEMORY + remembered, last, (remembered < MEMORY) & changed)
    tl.store(written + env, base + 1, changed)
    tl.store(first_frames + env, begin, changed)
    tl.store(starts + env * COMMANDS + axes, start, is_axis & changed)
    tl.store(targets + env * COMMANDS + axes, target, is_axis & changed)


@triton.jit(do_not_specialize=["num", "passed"])
def show(
    shown,
    rows,
    first_rows,
    capacities,
    table,
    joint_columns,
    joints,
    passed,
    num,
    READ: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Let ``passed`` frames pass for the first ``num`` motions; find the rows then on show and read their joints."""
    env = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    within = env < num
    frame = tl.load(shown + env, within, 0) + passed
    tl.store(shown + env, frame, within)
    row = tl.load(first_rows + env, within, 0) + frame % tl.load(capacities + env, within, 1)
    tl.store(rows + env, row, within)
    columns = tl.arange(0, COLUMNS)[None, :]
    shows = within[:, None] & (columns < READ)
    source = tl.load(joint_columns + columns, columns < READ, 0)
    values = tl.load(table + row[:, None] * WIDTH + source, shows, 0.0).to(tl.float32)
    tl.store(joints + env[:, None] * READ + columns, values, shows)


@triton.jit(do_not_specialize=["num"])
def read_frames(
    table,
    table_bits,
    first_rows,
    capacities,
    motions,
    shown,
    last,
    ahead,
    origin,
    joint_columns,
    frames,
    angles,
    num,
    STEPS: tl.constexpr,
    ANGLE_STEPS: tl.constexpr,
    READ: tl.constexpr,
    MOTIONS: tl.constexpr,
    ENDS: tl.constexpr,
    HOLD: tl.constexpr,
    FIRST: tl.constexpr,
    JOINTS: tl.constexpr,
    WIDTH: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """What is seen of environments so many frames ahead.

    Of the first ``STEPS`` everything, (num, STEPS, READ + 13): ``READ`` joint columns ``joint_columns``, half of which
    are velocities, then linear and angular velocity, orientation xyzw and position in the world. Of ``ANGLE_STEPS``
    more the joint angles, (num, ANGLE_STEPS, READ / 2).
    """
    number = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    within = number < num * (STEPS + ANGLE_STEPS)
    env, step = number // (STEPS + ANGLE_STEPS), number % (STEPS + ANGLE_STEPS)
    whole = within & (step < STEPS)
    motion = tl.load(motions + env, within, 0) if MOTIONS else env + FIRST
    motion = tl.where(within, motion, 0)
    frame = tl.load(shown + env, within, 0) + tl.load(ahead + step, within, 0)
    moving = within
    if ENDS:
        end = tl.load(last + env, within, 0)
        if HOLD:
            moving = within & (frame < end)
        frame = tl.minimum(frame, end)
    row = tl.load(first_rows + motion) + frame % tl.load(capacities + motion)
    columns = tl.arange(0, COLUMNS)[None, :]
    source = tl.load(joint_columns + columns, columns < READ, 0)
    read = within[:, None] & (columns < tl.where(whole, READ, READ // 2)[:, None])
    joints = tl.load(table + row[:, None] * WIDTH + source, read, 0.0).to(tl.float32)
    if HOLD:
        joints = tl.where((columns < READ // 2) | moving[:, None], joints, 0.0)
    out = frames + (env * STEPS + step) * (READ + 13)
    tl.store(out[:, None] + columns, joints, read & whole[:, None])
    if ANGLE_STEPS > 0:
        angle = angles + (env * ANGLE_STEPS + step - STEPS) * (READ // 2)
        tl.store(angle[:, None] + columns, joints, read & (step >= STEPS)[:, None])
    here, out = table + row * WIDTH + JOINTS, out + READ
    turn = tl.load(origin + env * 3 + 2, whole, 0.0)
    vx, vy = turned(tl.load(here, whole, 0.0).to(tl.float32), tl.load(here + 1, whole, 0.0).to(tl.float32), turn)
    tl.store(out, tl.where(moving, vx, 0.0), whole)
    tl.store(out + 1, tl.where(moving, vy, 0.0), whole)
    tl.store(out + 2, tl.where(moving, tl.load(here + 2, whole, 0.0).to(tl.float32), 0.0), whole)
    wx, wy = turned(tl.load(here + 4, whole, 0.0).to(tl.float32), tl.load(here + 5, whole, 0.0).to(tl.float32), turn)
    tl.store(out + 3, tl.where(moving, wx, 0.0), whole)
    tl.store(out + 4, tl.where(moving, wy, 0.0), whole)
    tl.store(out + 5, tl.where(moving, tl.load(here + 6, whole, 0.0).to(tl.float32), 0.0), whole)
    qx, qy = turned(
        tl.load(here + 8, whole, 0.0).to(tl.float32), tl.load(here + 9, whole, 0.0).to(tl.float32), 0.5 * turn
    )
    qz, qw = turned(
        tl.load(here + 10, whole, 0.0).to(tl.float32), tl.load(here + 11, whole, 0.0).to(tl.float32), -0.5 * turn
    )
    tl.store(out + 6, qx, whole)
    tl.store(out + 7, qy, whole)
    tl.store(out + 8, qz, whole)
    tl.store(out + 9, qw, whole)
    x, y, height, _ = load_place(table, table_bits, row, JOINTS, WIDTH, HALF)
    x, y = turned(x, y, turn)
    tl.store(out + 10, x + tl.load(origin + env * 3, whole, 0.0), whole)
    tl.store(out + 11, y + tl.load(origin + env * 3 + 1, whole, 0.0), whole)
    tl.store(out + 12, height, whole)
