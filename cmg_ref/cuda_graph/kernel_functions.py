"""What Triton's kernels are built of: bending, blending, turning, and the columns of the root.

What they compute is said by the torch code that they are tested against: :mod:`cmg_ref.frames.root_motion`,
:mod:`cmg_ref.core.rotations` and :mod:`cmg_ref.frames.store`. Imported only where Triton is there.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def elu(x):
    return tl.where(x > 0.0, x, tl.exp(tl.minimum(x, 0.0)) - 1.0)


@triton.jit
def lerp(start, end, share):
    # As torch does it, so that both ends are met exactly.
    return tl.where(share < 0.5, start + share * (end - start), end - (end - start) * (1.0 - share))


@triton.jit
def clamped(x, low, high):
    # What is not a number stays so.
    return tl.where(x < low, low, tl.where(x > high, high, x))


@triton.jit
def column(values, columns, number):
    """Column ``number`` of values (..., columns)."""
    return tl.sum(tl.where(columns == number, values, 0.0), axis=-1)


@triton.jit
def half_angle(cos, sin):
    """Cosine and sine of half of an angle in -pi to pi, exact where either is small."""
    wide = cos < 0.0
    larger = tl.sqrt(0.5 * (1.0 + tl.abs(cos)))
    smaller = 0.5 * tl.abs(sin) / larger
    half_cos = tl.where(wide, smaller, larger)
    half_sin = tl.where(wide, larger, smaller)
    return half_cos, tl.where(sin < 0.0, -half_sin, half_sin)


@triton.jit
def turned(x, y, angle):
    cos, sin = tl.cos(angle), tl.sin(angle)
    return cos * x - sin * y, sin * x + cos * y


@triton.jit
def quat(gx, gy, gz, heading):
    """Orientation xyzw of a base that sees gravity (gx, gy, gz), from its heading."""
    flat = tl.sqrt(tl.maximum(gy * gy + gz * gz, 1.1754943508222875e-38))
    length = tl.sqrt(gx * gx + flat * flat)
    upside = (gy == 0.0) & (gz == 0.0)
    roll_cos, roll_sin = half_angle(tl.where(upside, 1.0, -gz / flat), tl.where(upside, 0.0, -gy / flat))
    pitch_cos, pitch_sin = half_angle(flat / length, gx / length)
    yaw_cos, yaw_sin = tl.cos(0.5 * heading), tl.sin(0.5 * heading)
    x = yaw_cos * roll_sin * pitch_cos - yaw_sin * roll_cos * pitch_sin
    y = yaw_cos * roll_cos * pitch_sin + yaw_sin * roll_sin * pitch_cos
    z = yaw_sin * roll_cos * pitch_cos - yaw_cos * roll_sin * pitch_sin
    w = yaw_cos * roll_cos * pitch_cos + yaw_sin * roll_sin * pitch_sin
    return x, y, z, w


@triton.jit
def store_root(
    table,
    table_bits,
    row,
    mask,
    x,
    y,
    height,
    heading,
    gx,
    gy,
    gz,
    vx,
    vy,
    vz,
    yaw_rate,
    other_height,
    other_gx,
    other_gy,
    other_gz,
    rate,
    SEEN: tl.constexpr,
    WIDTH: tl.constexpr,
    HALF: tl.constexpr,
):
    """Store seen columns, place and gravity in rows; ``rate`` makes differences to the other state rates."""
    qx, qy, qz, qw = quat(gx, gy, gz, heading)
    wx, wy = turned(vx, vy, heading)
    rx, ry, rz = (other_gx - gx) * rate, (other_gy - gy) * rate, (other_gz - gz) * rate
    # -(g x dg/dt), turned into the world.
    cx, cy, cz = gz * ry - gy * rz, gx * rz - gz * rx, gy * rx - gx * ry
    tx, ty, tz = 2.0 * (qy * cz - qz * cy), 2.0 * (qz * cx - qx * cz), 2.0 * (qx * cy - qy * cx)
    ax, ay = cx + qw * tx + (qy * tz - qz * ty), cy + qw * ty + (qz * tx - qx * tz)
    roll_rate = (gz * ry - gy * rz) / tl.maximum(gy * gy + gz * gz, 1e-6)
    here = table + row * WIDTH + SEEN
    tl.store(here, wx, mask)
    tl.store(here + 1, wy, mask)
    tl.store(here + 2, (other_height - height) * rate, mask)
    tl.store(here + 3, vz, mask)
    tl.store(here + 4, ax, mask)
    tl.store(here + 5, ay, mask)
    tl.store(here + 6, yaw_rate - gx * roll_rate, mask)
    tl.store(here + 7, yaw_rate, mask)
    tl.store(here + 8, qx, mask)
    tl.store(here + 9, qy, mask)
    tl.store(here + 10, qz, mask)
    tl.store(here + 11, qw, mask)
    if HALF:
        bits = table_bits + row * WIDTH + SEEN + 12
        store_bits(bits, x, mask)
        store_bits(bits + 2, y, mask)
        store_bits(bits + 4, height, mask)
        store_bits(bits + 6, heading, mask)
        here += 20
    else:
        tl.store(here + 12, x, mask)
        tl.store(here + 13, y, mask)
        tl.store(here + 14, height, mask)
        tl.store(here + 15, heading, mask)
        here += 16
    tl.store(here, gx, mask)
    tl.store(here + 1, gy, mask)
    tl.store(here + 2, gz, mask)


@triton.jit
def store_bits(pointer, value, mask):
    """Store float32 in the room of two columns of 16 bits."""
    bits = value.to(tl.int32, bitcast=True)
    tl.store(pointer, (bits & 0xFFFF).to(tl.int16), mask)
    tl.store(pointer + 1, ((bits >> 16) & 0xFFFF).to(tl.int16), mask)


@triton.jit
def load_bits(pointer):
    low, high = tl.load(pointer).to(tl.int32), tl.load(pointer + 1).to(tl.int32)
    return ((high << 16) | (low & 0xFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def load_place(table, table_bits, row, JOINTS: tl.constexpr, WIDTH: tl.constexpr, HALF: tl.constexpr):
    """x, y, height and heading in rows."""
    here = row * WIDTH + JOINTS + 12
    if HALF:
        x, y = load_bits(table_bits + here), load_bits(table_bits + here + 2)
        height, heading = load_bits(table_bits + here + 4), load_bits(table_bits + here + 6)
    else:
        x, y = tl.load(table + here), tl.load(table + here + 1)
        height, heading = tl.load(table + here + 2), tl.load(table + here + 3)
    return x, y, height, heading
