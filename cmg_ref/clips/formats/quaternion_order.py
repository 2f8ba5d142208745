"""Whether a file's quaternions are xyzw or wxyz, told from the motion.

Read in the wrong order, most orientations lay the robot down or turn it upside down. Around two headings they do not: a
robot that faces along x in the one order stands upright and faces backward in the other, and walks backward where it
walked forward. There the feet tell: what touches the floor does not move over it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cmg_ref.clips.formats.joint_order import spread_rows
from cmg_ref.core.rotations import projected_gravity, quat_rotate, quat_rotate_inverse
from cmg_ref.robots.kinematics import FootKinematics, ForwardKinematics
from cmg_ref.robots.robot import Robot

ORDERS = ("xyzw", "wxyz")
MAX_ROWS = 1000
"""Frames, spread over the clip, that are looked at."""
TELLING_SPEED = 0.2
"""A frame tells by its contacts if what is lowest moves this much faster [m/s] in one order than in the other."""
MIN_TELLING_SHARE = 0.03
"""Fewer telling frames than this do not decide."""
CLEAR_MAJORITY = 0.75
"""Share of the telling frames that decides."""
FLOOR_HEIGHT = (-0.15, 0.15)
"""Where the lowest point of a robot on the floor may be [m]; wider than any error of a retargeting."""
MIN_FLOOR_DIFFERENCE = 0.3
"""Shares of frames on the floor that differ by this much decide."""
MIN_FLAT_DIFFERENCE = 0.007
"""Heights along the flatter sole that differ by this much more [m] are those of a robot that is not tilted so."""
MIN_UPRIGHT_DIFFERENCE = 0.015
"""Mean cosines of the tilt that differ by this much decide where nothing else does; 10 degrees against none."""
LYING_DIFFERENCE = 0.3
"""Mean cosines that differ by this much are a robot that stands and one that has fallen."""
SAME_VELOCITY, SAME_TILT = 0.1, 0.18
"""Orders that differ by less, on average [m/s] and as vectors of gravity, make no difference to what is learnt."""


@dataclass(frozen=True)
class OrderEvidence:
    """What a motion tells of the order of its quaternions.

    Attributes:
        order: "xyzw" or "wxyz", or None if the motion does not tell.
        by_posture: The same, by what cannot be mistaken: in one order the robot is on its feet, in the other it is not.
        matters: Whether velocities in the heading frame or tilts differ between the two orders.
    """

    order: str | None
    by_posture: str | None
    matters: bool


def as_xyzw(quats: Tensor, order: str) -> Tensor:
    """Quaternions (..., 4) of an order as xyzw."""
    return quats if order == "xyzw" else quats.roll(-1, dims=-1)


def quat_order_evidence(robot: Robot, dof_pos: Tensor, root_pos: Tensor, quats: Tensor, fps: float) -> OrderEvidence:
    """Tells the order of a root's quaternions.

    In turn decide: which order keeps what touches the floor where it is and puts the lowest point of the robot on the
    floor, if the two agree or only one of them tells; which has a sole lie flat; which has the robot upright.

    Args:
        robot: Robot of the joints.
        dof_pos: Joint angles in the robot's order [rad], (T, num_joints) float64 with T >= 2.
        root_pos: Position of the root [m], (T, 3).
        quats: Unit quaternions in either order, (T, 4).
        fps: Frames per second.
    """
    rows = torch.from_numpy(spread_rows(len(dof_pos) - 1, MAX_ROWS))
    pairs = torch.stack((rows, rows + 1), dim=1)  # (N, 2)
    joints, place = dof_pos[pairs], root_pos[pairs]
    bodies = ForwardKinematics(robot, dtype=torch.float64).positions(joints)
    feet = FootKinematics(robot, dtype=torch.float64)
    soles = feet(joints).flatten(-3, -2)  # (N, 2, 8, 3)
    points_b = torch.cat((bodies, soles), dim=-2)
    readings = [as_xyzw(quats[pairs], order) for order in ORDERS]

    speeds, floors, flats, uprights = [], [], [], []
    for quat in readings:
        points = place.unsqueeze(-2) + quat_rotate(quat.unsqueeze(-2), points_b)  # (N, 2, num_points, 3)
        height, lowest = points[..., 2].amax(dim=1).min(dim=-1)  # Lowest of the points that stay low.
        step = (points[:, 1] - points[:, 0])[torch.arange(len(points)), lowest]
        speeds.append(step.norm(dim=-1) * fps)
        floors.append(float(((height > FLOOR_HEIGHT[0]) & (height < FLOOR_HEIGHT[1])).double().mean()))
        sole_heights = points[:, 0, -8:, 2].unflatten(-1, (2, 4))
        flats.append(-float((sole_heights.amax(dim=-1) - sole_heights.amin(dim=-1)).amin(dim=-1).mean()))
        uprights.append(float(-projected_gravity(quat[:, 0])[:, 2].mean()))

    by_floor = _larger(floors, MIN_FLOOR_DIFFERENCE)
    votes = {_by_contacts(speeds[0], speeds[1]), by_floor} - {None}
    if not votes:
        votes = {_larger(flats, MIN_FLAT_DIFFERENCE) or _larger(uprights, MIN_UPRIGHT_DIFFERENCE)} - {None}
    velocity = (place[:, 1] - place[:, 0]) * fps
    by_order = [quat_rotate_inverse(quat[:, 0], velocity) for quat in readings]
    tilts = [projected_gravity(quat[:, 0]) for quat in readings]
    matters = bool(
        (by_order[0] - by_order[1]).norm(dim=-1).mean() > SAME_VELOCITY
        or (tilts[0] - tilts[1]).norm(dim=-1).mean() > SAME_TILT
    )
    order = votes.pop() if len(votes) == 1 else None
    return OrderEvidence(order, by_floor or _larger(uprights, LYING_DIFFERENCE), matters)


def _by_contacts(first: Tensor, second: Tensor) -> str | None:
    """The order in which the lowest points, of the given speeds (N,), are the slower ones."""
    telling = (first - second).abs() > TELLING_SPEED
    if telling.double().mean() < MIN_TELLING_SHARE:
        return None
    share = float((first < second)[telling].double().mean())
    return ORDERS[0] if share > CLEAR_MAJORITY else ORDERS[1] if share < 1.0 - CLEAR_MAJORITY else None


def _larger(of_orders: list[float], margin: float) -> str | None:
    """The order with the clearly larger number."""
    first, second = of_orders
    if abs(first - second) < margin:
        return None
    return ORDERS[0] if first > second else ORDERS[1]
