"""What an environment computes from the state of every robot, as loops that Numba compiles.

On a CPU the operations of torch that do the same are many and small, and cost more than what they compute: between two
steps MuJoCo throws code and data of each out of the caches. Importing this needs Numba.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_ZERO, _HALF, _ONE, _TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)
_TOGETHER = 64  # robots whose feet are placed together
# Half of pi in three parts, of which the first two have few digits, so that their multiples are exact.
_QUARTERS = np.float32(0.6366197723675814)  # 2 / pi
_P1, _P2, _P3 = np.float32(1.5703125), np.float32(4.837512969970703e-4), np.float32(7.549789948768648e-8)
# Polynomials of sine and cosine between -pi / 4 and pi / 4, as in the library Cephes (S. Moshier).
_S1, _S2, _S3 = np.float32(-1.6666654611e-1), np.float32(8.3321608736e-3), np.float32(-1.9515295891e-4)
_C1, _C2, _C3 = np.float32(4.166664568298827e-2), np.float32(-1.388731625493765e-3), np.float32(2.443315711809948e-5)


@njit(inline="always")
def _sin_cos(x: np.float32) -> tuple[np.float32, np.float32]:
    """Sine and cosine, without a branch, so that a loop over it works on many numbers at once."""
    quarter = np.floor(x * _QUARTERS + _HALF)
    r = ((x - quarter * _P1) - quarter * _P2) - quarter * _P3
    square = r * r
    sin = r + r * square * (_S1 + square * (_S2 + square * _S3))
    cos = _ONE - _HALF * square + square * square * (_C1 + square * (_C2 + square * _C3))
    number = np.int32(quarter)
    odd = number & np.int32(1) != 0
    first, second = (cos if odd else sin), (sin if odd else cos)
    minus_first, minus_second = number & np.int32(2) != 0, (number + np.int32(1)) & np.int32(2) != 0
    return (-first if minus_first else first), (-second if minus_second else second)


@njit(inline="always")
def _rotation_of(quat: np.ndarray, rotation: np.ndarray) -> None:
    """Rotation matrix (3, 3) of a unit quaternion xyzw (4,)."""
    x, y, z, w = quat[0], quat[1], quat[2], quat[3]
    xx, yy, zz, ww = x * x, y * y, z * z, w * w
    rotation[0, 0], rotation[1, 1], rotation[2, 2] = xx - yy - zz + ww, yy - xx - zz + ww, zz - xx - yy + ww
    rotation[0, 1], rotation[1, 0] = _TWO * (x * y - z * w), _TWO * (x * y + z * w)
    rotation[0, 2], rotation[2, 0] = _TWO * (x * z + y * w), _TWO * (x * z - y * w)
    rotation[1, 2], rotation[2, 1] = _TWO * (y * z - x * w), _TWO * (y * z + x * w)


@njit(inline="always")
def _in_heading(rotation: np.ndarray, velocity: np.ndarray, velocity_h: np.ndarray) -> None:
    """A vector of the world (3,) in the heading frame (3,) of a rotation matrix (3, 3)."""
    # The first column is the base's x axis; flat on the ground it is the heading.
    length = math.sqrt(rotation[0, 0] * rotation[0, 0] + rotation[1, 0] * rotation[1, 0])
    cos = rotation[0, 0] / length if length > _ZERO else _ZERO
    sin = rotation[1, 0] / length if length > _ZERO else _ZERO
    velocity_h[0] = cos * velocity[0] + sin * velocity[1]
    velocity_h[1] = cos * velocity[1] - sin * velocity[0]
    velocity_h[2] = velocity[2]


@njit(nogil=True, cache=True)
def base_motion(
    root_states: np.ndarray, velocity_h: np.ndarray, ang_vel_b: np.ndarray, gravity_b: np.ndarray, rotation: np.ndarray
) -> None:
    """The same as :meth:`envs.base.base_motion.BaseMotion.__call__`.

    Args:
        root_states: (n, 13).
        velocity_h: Written, with the yaw rate, (n, 4), and so are all that follow.
        ang_vel_b: (n, 3).
        gravity_b: (n, 3).
        rotation: (n, 3, 3).
    """
    for i in range(len(root_states)):
        state, matrix = root_states[i], rotation[i]
        _rotation_of(state[3:7], matrix)
        _in_heading(matrix, state[7:10], velocity_h[i])
        velocity_h[i, 3] = state[12]
        for axis in range(3):
            ang_vel_b[i, axis] = matrix[0, axis] * state[10] + matrix[1, axis] * state[11] + matrix[2, axis] * state[12]
            gravity_b[i, axis] = -matrix[2, axis]


@njit(nogil=True, cache=True)
def velocity_and_gravity(
    quat_w: np.ndarray, lin_vel_w: np.ndarray, velocity_h: np.ndarray, gravity_b: np.ndarray
) -> None:
    """The same as :meth:`envs.base.base_motion.BaseMotion.velocity_and_gravity`.

    Args:
        quat_w: (n, 4).
        lin_vel_w: (n, 3).
        velocity_h: Written, (n, 3).
        gravity_b: Written, (n, 3).
    """
    matrix = np.empty((3, 3), np.float32)
    for i in range(len(quat_w)):
        _rotation_of(quat_w[i], matrix)
        _in_heading(matrix, lin_vel_w[i], velocity_h[i])
        for axis in range(3):
            gravity_b[i, axis] = -matrix[2, axis]


@njit(nogil=True, cache=True)
def pd_torques(
    target: np.ndarray,
    dof_pos: np.ndarray,
    dof_vel: np.ndarray,
    p_gains: np.ndarray,
    d_gains: np.ndarray,
    limits: np.ndarray,
    torques: np.ndarray,
) -> None:
    """Torques of the PD control within their limits.

    Args:
        target: Joint angles, (n, num_dof).
        dof_pos: (n, num_dof).
        dof_vel: (n, num_dof).
        p_gains: (n, num_dof).
        d_gains: (n, num_dof).
        limits: Largest torques, (num_dof,).
        torques: Written, (n, num_dof).
    """
    for i in range(len(torques)):
        for joint in range(len(limits)):
            torque = p_gains[i, joint] * (target[i, joint] - dof_pos[i, joint]) - d_gains[i, joint] * dof_vel[i, joint]
            # As `torch.clamp` has it, what is not a number stays so.
            torque = limits[joint] if torque > limits[joint] else torque
            torques[i, joint] = -limits[joint] if torque < -limits[joint] else torque


@njit(nogil=True, cache=True)
def diverged(
    dof_vel: np.ndarray, root_states: np.ndarray, max_dof_vel: np.float32, max_base_vel: np.float32, found: np.ndarray
) -> None:
    """Which robots move faster than they ever should, or are not numbers any more.

    Args:
        dof_vel: (n, num_dof).
        root_states: (n, 13).
        max_dof_vel: Bound of the joint velocities.
        max_base_vel: Bound of each component of the base's velocity.
        found: Written, (n,).
    """
    for i in range(len(found)):
        sound = 0
        for joint in range(dof_vel.shape[1]):
            sound += abs(dof_vel[i, joint]) < max_dof_vel
        for axis in range(3):
            sound += abs(root_states[i, 7 + axis]) < max_base_vel
        found[i] = sound < dof_vel.shape[1] + 3


@njit(inline="always")
def _add_turned(turn: np.ndarray, sin: np.ndarray, cos: np.ndarray, vectors: np.ndarray, out: np.ndarray) -> None:
    """Add vectors (3, n), turned by the matrices R0 + sin R1 + cos R2 of a joint (3, 3, 3), to ``out`` (3, n)."""
    for row in range(3):
        for column in range(3):
            r0, r1, r2 = turn[0, row, column], turn[1, row, column], turn[2, row, column]
            for lane in range(_TOGETHER):
                out[row, lane] += (r0 + r1 * sin[lane] + r2 * cos[lane]) * vectors[column, lane]


@njit(nogil=True, cache=True)
def foot_places(
    dof_pos: np.ndarray,
    root_pos_w: np.ndarray,
    root_rotation: np.ndarray,
    joints: np.ndarray,
    turns: np.ndarray,
    moves: np.ndarray,
    points: np.ndarray,
    radius: np.float32,
    pos_w: np.ndarray,
    height_w: np.ndarray,
) -> None:
    """Where the feet are and how high their lowest points.

    From the ankle to the root the foot's position passes from frame to frame, and so does, the other way, the vertical.

    Args:
        dof_pos: (n, num_dof).
        root_pos_w: (n, 3).
        root_rotation: Base to world, (n, 3, 3).
        joints: That turns each body on the way from the root to a foot, (num_feet, length).
        turns: Matrices R0, R1, R2 of each body's rotation R0 + sin(q) R1 + cos(q) R2 in its parent's frame,
            (num_feet, length, 3, 3, 3).
        moves: Place of each body in its parent's frame, (num_feet, length, 3).
        points: Contact spheres of each foot in its frame, (num_feet, num_points, 3).
        radius: Of the spheres.
        pos_w: Written, (n, num_feet, 3).
        height_w: Written, (n, num_feet).
    """
    num_feet, length = joints.shape
    sin, cos = np.empty((length, _TOGETHER), np.float32), np.empty((length, _TOGETHER), np.float32)
    up, place, turned = (
        np.empty((3, _TOGETHER), np.float32),
        np.empty((3, _TOGETHER), np.float32),
        np.empty((3, _TOGETHER), np.float32),
    )
    num = len(dof_pos)
    for first in range(0, num, _TOGETHER):
        count = min(_TOGETHER, num - first)
        for foot in range(num_feet):
            for lane in range(_TOGETHER):
                i = first + min(lane, count - 1)
                for axis in range(3):
                    up[axis, lane], place[axis, lane] = root_rotation[i, 2, axis], _ZERO
                for step in range(length):
                    sin[step, lane] = dof_pos[i, joints[foot, step]]
            for step in range(length):
                for lane in range(_TOGETHER):
                    sin[step, lane], cos[step, lane] = _sin_cos(sin[step, lane])
                turned[:] = _ZERO
                _add_turned(turns[foot, step].transpose(0, 2, 1), sin[step], cos[step], up, turned)
                up, turned = turned, up
            for step in range(length - 1, -1, -1):
                for axis in range(3):
                    turned[axis] = moves[foot, step, axis]
                _add_turned(turns[foot, step], sin[step], cos[step], place, turned)
                place, turned = turned, place
            for lane in range(count):
                i = first + lane
                for axis in range(3):
                    pos_w[i, foot, axis] = root_pos_w[i, axis] + (
                        root_rotation[i, axis, 0] * place[0, lane]
                        + root_rotation[i, axis, 1] * place[1, lane]
                        + root_rotation[i, axis, 2] * place[2, lane]
                    )
                lowest = np.float32(np.inf)
                for point in range(points.shape[1]):
                    height = _ZERO
                    for axis in range(3):
                        height += points[foot, point, axis] * up[axis, lane]
                    lowest = min(lowest, height)
                height_w[i, foot] = pos_w[i, foot, 2] + lowest - radius


@njit(nogil=True, cache=True)
def foot_motion(
    contact_forces: np.ndarray,
    bodies: np.ndarray,
    threshold: np.float32,
    contact_before: np.ndarray,
    pos_before_w: np.ndarray,
    pos_w: np.ndarray,
    jumped: np.ndarray,
    dt: np.float32,
    contact: np.ndarray,
    sliding_contact: np.ndarray,
    speed: np.ndarray,
) -> None:
    """Which feet touch the ground, and how fast they move along it.

    Args:
        contact_forces: (n, num_bodies, 3).
        bodies: The feet, (num_feet,).
        threshold: Force from which on a foot touches the ground.
        contact_before: a control step ago, (n, num_feet).
        pos_before_w: Places of the feet a control step ago, (n, num_feet, 3).
        pos_w: Places of the feet, (n, num_feet, 3).
        jumped: Robots whose feet did not move from there to here, (n,); set to False.
        dt: a control step.
        contact: Written, (n, num_feet), and so are all that follow.
        sliding_contact: (n, num_feet).
        speed: (n, num_feet).
    """
    for i in range(len(jumped)):
        for foot in range(len(bodies)):
            force = contact_forces[i, bodies[foot]]
            square = force[0] * force[0] + force[1] * force[1] + force[2] * force[2]
            contact[i, foot] = square > threshold * threshold
            sliding_contact[i, foot] = contact[i, foot] and contact_before[i, foot]
            x = pos_w[i, foot, 0] - pos_before_w[i, foot, 0]
            y = pos_w[i, foot, 1] - pos_before_w[i, foot, 1]
            speed[i, foot] = _ZERO if jumped[i] else math.sqrt(x * x + y * y) / dt
        jumped[i] = False
