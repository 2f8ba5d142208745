"""What a clip's file leaves unsaid, and the checked clip that comes of its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Sequence

import numpy as np
import torch

from cmg_ref.clips.formats.frame_rate import frame_rate_bounds
from cmg_ref.clips.formats.joint_order import all_joints, check_number, is_known_set, known_orders, order_of_angles
from cmg_ref.clips.formats.quaternion_order import ORDERS, as_xyzw, quat_order_evidence
from cmg_ref.clips.motion_clip import MAX_QUAT_NORM_ERROR, ClipError, MotionClip
from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.robots.robot import Robot

QUAT_NORM_RANGE = (0.9, 1.1)
"""Blended and averaged quaternions are this short or long, and are normalised; others are no rotations."""
RATE_MARGIN = 1.2
"""An assumed frame rate is refused if it lies beyond what gravity allows by more than this factor."""


class OpenClipError(ClipError):
    """A clip whose meaning is left open by its file and its motion; a caller can say it, see `Unsaid`."""


@dataclass
class Unsaid:
    """What files may not tell of themselves: given by the caller, else told from the motion by the reader.

    Attributes:
        fps: Frames per second of a file that carries none.
        quat_order: "xyzw" or "wxyz", where the format does not fix it.
        joint_names: Names of the columns of joint angles where the file has none.
        notices: What was assumed or changed, a sentence each, for the user to see.
    """

    fps: float | None = None
    quat_order: str | None = None
    joint_names: tuple[str, ...] | None = None
    notices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuses an unknown order of quaternions."""
        if self.quat_order not in (None, *ORDERS):
            raise ValueError(f"quat_order '{self.quat_order}': needs {' or '.join(ORDERS)}")


@dataclass
class ClipNumbers:
    """The numbers of a file as they stand there.

    Attributes:
        path: The file.
        dof_pos: Joint angles [rad], (T, num_joints).
        root_pos: Position of the root [m], (T, 3).
        root_quat: Orientation of the root, (T, 4).
        fps: Frames per second; None if the file does not tell.
        joint_names: Names of the columns of `dof_pos`; None if the file does not tell.
        quat_order: Order of `root_quat`.
        quat_order_by: What says so: "format", "bodies" that fit only so, or "custom", from which some files differ.
        dof_vel: Joint velocities [rad/s], (T, num_joints).
        command: Commands, (T, command_layout.size).
        command_layout: Channels of the commands.
        quat_field: Name of the field of `root_quat`, for messages.
        dof_field: Name of the field of `dof_pos`, for messages.
    """

    path: Path
    dof_pos: np.ndarray
    root_pos: np.ndarray
    root_quat: np.ndarray
    fps: float | None
    joint_names: Sequence[str] | None
    quat_order: str = "xyzw"
    quat_order_by: str = "format"
    dof_vel: np.ndarray | None = None
    command: np.ndarray | None = None
    command_layout: CommandLayout = field(default_factory=CommandLayout)
    quat_field: str = "root_quat"
    dof_field: str = "dof_pos"


def checked_clip(numbers: ClipNumbers, robot: Robot, unsaid: Unsaid) -> MotionClip:
    """The clip that a file's numbers mean, in the robot's joint order.

    Args:
        numbers: What the file holds.
        robot: Robot whose joints the clip must have; those that smaller models of it lack are straight.
        unsaid: What is known from elsewhere; what the motion told, and what was assumed, is put down there.

    Raises:
        OpenClipError: Neither file nor motion tells what the numbers mean.
        ClipError: Names file, field and row of what is wrong.
    """
    path = numbers.path
    names = numbers.joint_names
    if names is None:
        names = names_of_columns(f"{path}: field '{numbers.dof_field}'", numbers.dof_pos, robot, unsaid)
    unsaid.joint_names = tuple(names)
    dof_pos, dof_vel = numbers.dof_pos, numbers.dof_vel
    if len(names) == dof_pos.shape[1] and is_known_set(robot, names):
        missing = [name for name in robot.joint_names if name not in names]
        if missing:
            unsaid.notices.append(f"{len(names)} joints; zero are {', '.join(missing)}")
        dof_pos = all_joints(robot, names, dof_pos)
        dof_vel = None if dof_vel is None else all_joints(robot, names, dof_vel)
        names = robot.joint_names
    clip = MotionClip(
        name=path.stem,
        fps=_frame_rate(numbers, robot, unsaid),
        joint_names=tuple(names),
        dof_pos=torch.from_numpy(dof_pos),
        root_pos=torch.from_numpy(numbers.root_pos),
        root_quat=torch.from_numpy(_unit_quats(numbers, unsaid)),
        dof_vel=None if dof_vel is None else torch.from_numpy(dof_vel),
        command=None if numbers.command is None else torch.from_numpy(numbers.command),
        source=str(path),
        command_layout=numbers.command_layout,
    )
    clip.validate(robot)
    clip = clip.reordered(robot)
    clip.root_quat = as_xyzw(clip.root_quat, _quat_order(numbers, clip, robot, unsaid))
    if numbers.fps is None:
        _check_frame_rate(clip, robot, unsaid)
    return clip


def names_of_columns(origin: str, dof_pos: np.ndarray, robot: Robot, unsaid: Unsaid) -> tuple[str, ...]:
    """Names of joint columns that a file does not name.

    Args:
        origin: File and field, for messages.
        dof_pos: Joint angles [rad], (num_frames, num_joints).
        robot: Robot whose joints they are.
        unsaid: May hold the names; takes a notice if they are in no usual order.

    Raises:
        OpenClipError: The angles do not tell which of the orders in use they have.
        ClipError: There is no order for this number of joints.
    """
    num_joints = dof_pos.shape[1]
    if unsaid.joint_names is not None:
        if len(unsaid.joint_names) != num_joints:
            raise ClipError(f"{origin}: {num_joints} columns for the {len(unsaid.joint_names)} joint_names given")
        return unsaid.joint_names
    check_number(robot, origin, num_joints)
    names = order_of_angles(robot, dof_pos)
    if names is None:
        raise OpenClipError(
            f"{origin}: {num_joints} joints without names, and the motion does not tell which of the orders in use "
            "they have; put their names into a field 'joint_names', or give joint_names to read_clip"
        )
    if names not in (robot.joint_names, robot.spec.clip_joint_names):
        order = next(order for order, joints in known_orders(robot, num_joints).items() if joints == names)
        unsaid.notices.append(f"joints have no names; their angles are those of the order {order}")
    return names


def _frame_rate(numbers: ClipNumbers, robot: Robot, unsaid: Unsaid) -> float:
    if numbers.fps is not None:
        return numbers.fps
    return robot.spec.clip_fps if unsaid.fps is None else unsaid.fps


def _unit_quats(numbers: ClipNumbers, unsaid: Unsaid) -> np.ndarray:
    """The root's quaternions, of unit length and in the file's order."""
    norms = np.linalg.norm(numbers.root_quat, axis=-1)
    low, high = QUAT_NORM_RANGE
    bad = ~((norms > low - 1e-6) & (norms < high + 1e-6))
    if bad.any():
        row = int(bad.argmax())
        raise ClipError(
            f"{numbers.path}: field '{numbers.quat_field}', row {row}: {numbers.root_quat[row].tolist()} is not a unit "
            f"quaternion, nor one of length {low:g} to {high:g} that could be made one"
        )
    if (np.abs(norms - 1.0) > MAX_QUAT_NORM_ERROR).any():
        unsaid.notices.append(f"quaternions of length {norms.min():.2f} to {norms.max():.2f} are normalised")
    return numbers.root_quat / norms[:, None]


def _quat_order(numbers: ClipNumbers, clip: MotionClip, robot: Robot, unsaid: Unsaid) -> str:
    """The order of the quaternions that `clip` still has as its file has them."""
    usual = numbers.quat_order
    if numbers.quat_order_by == "bodies":
        return usual
    if numbers.quat_order_by == "custom" and unsaid.quat_order is not None:
        return unsaid.quat_order
    evidence = quat_order_evidence(robot, clip.dof_pos, clip.root_pos, clip.root_quat, clip.fps)
    origin = f"{numbers.path}: field '{numbers.quat_field}'"
    if numbers.quat_order_by == "format":
        if evidence.by_posture not in (None, usual):
            raise ClipError(f"{origin}, row 0: not upright; are the quaternions {evidence.by_posture}, not {usual}?")
        return usual
    if evidence.order is not None:
        unsaid.quat_order = evidence.order
        if evidence.order != usual:
            unsaid.notices.append(f"quaternions are {evidence.order}, not {usual}: only so feet and floor fit")
        return evidence.order
    if evidence.matters:
        raise OpenClipError(
            f"{origin}: the motion does not tell whether the quaternions are xyzw or wxyz; say it with quat_order "
            "(a field of a pickle, an argument of read_clip, --quat-order of prepare_data.py)"
        )
    return usual


def _check_frame_rate(clip: MotionClip, robot: Robot, unsaid: Unsaid) -> None:
    """Says which rate was assumed and refuses one at which the clip cannot have been recorded."""
    options = "fps of read_clip, --csv-fps of prepare_data.py, --fps of evaluate_cmg.py"
    bounds = frame_rate_bounds(clip, robot)
    possible = bounds is None or bounds[0] / RATE_MARGIN <= clip.fps <= bounds[1] * RATE_MARGIN
    if unsaid.fps is None and possible:
        checked = "" if bounds is None else ", which fits how the steps fall"
        unsaid.notices.append(f"no frame rate inside, {clip.fps:g} per second assumed{checked}; another: {options}")
    elif not possible and bounds is not None:
        found = (
            f"at {clip.fps:g} frames per second the body does not fall from foot to foot as gravity has it; about "
            f"{bounds[0]:.0f} to {bounds[1]:.0f} do"
        )
        if unsaid.fps is None:
            raise ClipError(f"{clip.source}: no frame rate inside, and {found}: give it ({options})")
        unsaid.notices.append(found)
