"""Which joint each column of a file is, where the file does not name them: told from its bodies or from its angles.

A robot may be sold and modelled with several sets of joints, and each of them is written depth first (Unitree's own
order, MJCF, GMR) as well as breadth first (Isaac Lab).
"""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np
import torch

from cmg_ref.clips.motion_clip import ClipError
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot

MAX_BODY_MISMATCH = 0.02
"""Largest mean distance [m] at which a file's body positions count as those of its joint angles."""
CLEARLY_BETTER = 0.7
"""An order is told by the angles if its cost is below this share of the next best one's."""
MIN_COST_MARGIN = 0.15
"""And lower by at least this [rad]."""
BEYOND_LIMITS = 5.0
"""An angle beyond a limit counts this many times as much as one that is merely unusual."""
MAX_ROWS = 2000
"""Frames, spread over the clip, that the angles are judged by; a few dozen do where bodies are compared."""


def spread_rows(num_rows: int, most: int) -> np.ndarray:
    """Up to `most` rows spread evenly over a table."""
    return np.linspace(0, num_rows - 1, num=min(num_rows, most)).astype(int)


def breadth_first_bodies(robot: Robot) -> list[int]:
    """Bodies of the robot in Isaac Lab's order: by depth, siblings in the order of the file."""
    depths: list[int] = []
    for parent in robot.body_parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    return sorted(range(robot.num_bodies), key=depths.__getitem__)


def known_orders(robot: Robot, num_joints: int) -> dict[str, tuple[str, ...]]:
    """All orders in use for a number of joints of this robot, by what they are called; its clips' comes first."""
    joint_of_body = {body: joint for joint, body in enumerate(robot.joint_bodies)}
    by_breadth = [
        robot.joint_names[joint_of_body[body]] for body in breadth_first_bodies(robot) if body in joint_of_body
    ]
    orders: dict[str, tuple[str, ...]] = {}
    own = robot.spec.clip_joint_names
    first = ("of the robot's clips", own) if own else ("depth first", robot.joint_names)
    for walk, names in (first, ("breadth first", by_breadth)):
        for label, missing in (("", ()), *robot.spec.joint_sets.items()):
            kept = tuple(name for name in names if not any(part in name for part in missing))
            if len(kept) == num_joints and kept not in orders.values():
                orders[f"{walk}, {label}" if label else walk] = kept
    return orders


def known_numbers(robot: Robot) -> list[int]:
    """Numbers of joints for which an order is known."""
    return [number for number in range(robot.num_joints, 0, -1) if known_orders(robot, number)]


def all_joints(robot: Robot, joint_names: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Columns of some joints as columns of all the robot's joints in its order; joints that are not there stay zero."""
    table = np.zeros((len(values), robot.num_joints))
    table[:, [robot.joint_names.index(name) for name in joint_names]] = values
    return table


def is_known_set(robot: Robot, joint_names: Sequence[str]) -> bool:
    """Whether the joints are those of a model of the robot in use, whose missing joints are then straight."""
    return any(set(joint_names) == set(order) for order in known_orders(robot, len(joint_names)).values())


def body_mismatch(
    robot: Robot, joint_names: Sequence[str], dof_pos: np.ndarray, bodies_b: Mapping[str, np.ndarray]
) -> float:
    """Mean distance [m] between a file's bodies and those of its joint angles.

    Args:
        robot: The robot.
        joint_names: What the columns of `dof_pos` are taken for.
        dof_pos: Joint angles [rad], (num_rows, num_joints).
        bodies_b: Positions in the root's frame [m], (num_rows, 3), by name of the body; others than the robot's are
            left out.
    """
    names = [name for name in bodies_b if name in robot.body_names]
    if not names:
        return float("inf")
    kinematics = ForwardKinematics(robot, names, dtype=torch.float64)
    expected = kinematics.positions(torch.from_numpy(all_joints(robot, joint_names, dof_pos))).numpy()
    distances = np.linalg.norm(expected - np.stack([bodies_b[name] for name in names], axis=1), axis=-1)
    return float(distances.mean()) if np.isfinite(distances).all() else float("inf")


def order_of_bodies(robot: Robot, dof_pos: np.ndarray, bodies_b: Mapping[str, np.ndarray]) -> tuple[str, ...] | None:
    """The known order whose joint angles put the bodies where the file has them; arguments as of `body_mismatch`.

    Returns:
        Names of the columns; None if no order fits.
    """
    rows = spread_rows(len(dof_pos), 32)
    some = {name: position[rows] for name, position in bodies_b.items()}
    fits = {
        names: body_mismatch(robot, names, dof_pos[rows], some)
        for names in known_orders(robot, dof_pos.shape[1]).values()
    }
    if not fits:
        return None
    best, *others = sorted(fits, key=fits.__getitem__)
    table = all_joints(robot, best, dof_pos[rows])
    for names in others:  # Bodies that no differing joint moves cannot tell.
        if fits[names] <= 2.0 * fits[best] and not np.array_equal(table, all_joints(robot, names, dof_pos[rows])):
            return None
    return best if fits[best] <= MAX_BODY_MISMATCH else None


def order_of_angles(robot: Robot, dof_pos: np.ndarray) -> tuple[str, ...] | None:
    """The known order in which the joint angles look like those of a robot.

    What speaks against an order are angles beyond the limits, sides that do not do the same, and an average far from
    standing: a shoulder's angle taken for an elbow's is all of these.

    Args:
        robot: The robot.
        dof_pos: Joint angles [rad], (num_frames, num_joints).

    Returns:
        Names of the columns; None if two orders are about as likely, or none is known for this number of joints.
    """
    orders = list(known_orders(robot, dof_pos.shape[1]).values())
    if len(orders) < 2:
        return orders[0] if orders else None
    some = dof_pos[spread_rows(len(dof_pos), MAX_ROWS)]
    tables = [all_joints(robot, names, some) for names in orders]
    # Angles of zero mean the same in every order; what is no number is left to the checks of a clip.
    if not np.isfinite(dof_pos).all() or all(np.array_equal(table, tables[0]) for table in tables):
        return orders[0]
    costs = [_implausibility(robot, torch.from_numpy(table)) for table in tables]
    best, second = sorted(range(len(orders)), key=costs.__getitem__)[:2]
    if costs[best] <= CLEARLY_BETTER * costs[second] and costs[second] - costs[best] >= MIN_COST_MARGIN:
        return orders[best]
    # Unitree's order is the usual one for a whole robot; only clear evidence speaks for the other.
    return orders[0] if best == 0 and len(orders) == 2 else None


def check_number(robot: Robot, origin: str, num_joints: int) -> None:
    """Refuses a number of joints for which no order is known.

    Args:
        robot: The robot.
        origin: File and field, for the message.
        num_joints: Number of columns.

    Raises:
        ClipError: No set of the robot's joints is of this number.
    """
    numbers = known_numbers(robot)
    if num_joints in numbers:
        return
    root = ": are 7 of them the root's?" if num_joints - 7 in numbers else ""
    needed = f"{numbers[0]} or, of smaller robots, {', '.join(map(str, numbers[1:]))}" if numbers[1:] else numbers[0]
    raise ClipError(f"{origin}: {num_joints} joints, needs {needed}{root}")


def _implausibility(robot: Robot, dof_pos: torch.Tensor) -> float:
    """How little joint angles (num_frames, num_joints) look like those of a robot that walks, summed over joints [rad].

    Over a clip, left and right do much the same and the average is not far from the standing pose.
    """
    beyond = (robot.joint_lower - dof_pos).clamp(min=0.0) + (dof_pos - robot.joint_upper).clamp(min=0.0)
    mean, spread = dof_pos.mean(dim=0), dof_pos.std(dim=0, unbiased=False)
    sides = 0.5 * (mean - robot.mirrored(mean)).abs() + 0.5 * (spread - spread[robot.mirror_index]).abs()
    pose = 0.5 * (mean - robot.default_dof_pos).abs()
    return float(BEYOND_LIMITS * beyond.mean(dim=0).sum() + (sides + pose).sum())
