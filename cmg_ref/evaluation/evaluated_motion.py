"""A motion to be measured: a clip of any known format, or bare joint angles whose root the stance foot tells."""

from __future__ import annotations

import dataclasses
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmg_ref.clips.dataset import clip_states
from cmg_ref.clips.formats.joint_order import all_joints, is_known_set
from cmg_ref.clips.formats.npz_file import read_npz
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.formats.unsaid import Unsaid, names_of_columns
from cmg_ref.clips.motion_clip import ClipError, ClipWarning, MotionClip, time_derivative
from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY
from cmg_ref.core.shorten import listed
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.files.plain_arrays import Unread, kind_of, names_of
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.stance_root import StanceRoot

ROOT_FIELDS = ("root_quat_xyzw", "body_quat_w", "body_rotations")
"""An npz with one of these is a clip; without, it holds joint angles alone."""
ANGLE_FIELDS = ("dof_pos", "dof_positions", "joint_pos")
VELOCITY_FIELDS = ("dof_vel", "dof_velocities", "joint_vel")
NAME_FIELDS = ("joint_names", "dof_names")


@dataclass
class EvaluatedMotion:
    """One motion as states with root.

    Attributes:
        name: Short name.
        fps: Frames a second.
        states: Motion states in the order of `StateLayout.with_root` and the robot's joints, (num_frames, state_dim).
        commands: Commanded velocity, (num_frames, NUM_VELOCITIES); None where there was none.
        root_source: Where the root comes from, "recorded" or "estimated from the stance foot".
    """

    name: str
    fps: float
    states: Tensor
    commands: Tensor | None
    root_source: str


def read_motion(path: str | Path, robot: Robot, fps: float | None = None, ignore_root: bool = False) -> EvaluatedMotion:
    """Reads a clip, or an npz of joint angles.

    An npz of joint angles holds `dof_pos` (num_frames, num_joints) and `fps`, and may hold `joint_names`, `dof_vel` and
    `command`; the names that AMASS and mjlab files use are understood as well. Joints without names, or with
    placeholders such as `joint_0`, are in the order that their angles tell.

    Args:
        path: The file.
        robot: Robot whose joints the motion must have.
        fps: Frame rate to play the file at instead of its own.
        ignore_root: Whether the stance foot tells the root although the file has one.

    Raises:
        ClipError: One line that names file, field and row of what is wrong.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        fields = read_npz(path)
        if ignore_root or not any(name in fields for name in ROOT_FIELDS):
            return _joint_angles(path, fields, robot, fps)
    clip = read_clip(path, fps, robot)
    clip = dataclasses.replace(clip, fps=clip.fps if fps is None else fps)
    if ignore_root:
        return _without_root(clip, robot)
    states = clip_states(clip).float()
    if clip.dof_vel is not None:
        states[:, StateLayout.with_root(robot.num_joints)["dof_vel"]] = clip.dof_vel.float()
    return EvaluatedMotion(clip.name, clip.fps, states, _commands(clip), "recorded")


def _commands(clip: MotionClip) -> Tensor | None:
    return None if clip.command is None else clip.command[:, VELOCITY].float()


def _joint_angles(
    path: Path, fields: dict[str, np.ndarray | Unread], robot: Robot, fps: float | None
) -> EvaluatedMotion:
    """The motion in an npz without root, or whose root is not to be used."""

    def first(names: tuple[str, ...], shape: tuple[int, int] | None = None) -> Tensor | None:
        name = next((name for name in names if name in fields), None)
        if name is None:
            return None
        values = fields[name]
        if isinstance(values, Unread) or values.dtype.kind not in "fiu":
            raise ClipError(f"{path}: field '{name}': holds {kind_of(values)}, needs an array of numbers")
        if values.ndim != 2 or (shape is not None and values.shape != shape):
            expected = "(frames, joints)" if shape is None else str(shape)
            raise ClipError(f"{path}: field '{name}': shape {values.shape}, needs {expected}")
        return torch.from_numpy(values.astype(np.float64))

    dof_pos = first(ANGLE_FIELDS)
    if dof_pos is None:
        raise ClipError(f"{path}: no joint angles ('dof_pos') among the fields {listed(fields) or '(none)'}")
    if fps is None:
        rate = fields.get("fps")
        if not isinstance(rate, np.ndarray) or rate.size != 1 or rate.dtype.kind not in "fiu":
            raise ClipError(f"{path}: field 'fps' is missing or not one number; give the frame rate with --fps")
        fps = float(rate.reshape(()))
    num_frames, num_joints = dof_pos.shape
    names = next((names_of(fields[name]) for name in NAME_FIELDS if name in fields), ())
    if names is None:
        raise ClipError(f"{path}: field 'joint_names': is no list of names")
    if not names or all(re.fullmatch(r"joint_?\d+", name) for name in names):
        unsaid = Unsaid()
        names = names_of_columns(f"{path}: joint angles", dof_pos.numpy(), robot, unsaid)
        for notice in unsaid.notices:
            warnings.warn(f"{path}: {notice}", ClipWarning, stacklevel=3)
    elif len(names) != num_joints:
        raise ClipError(f"{path}: {len(names)} joint names for {num_joints} columns of joint angles")
    upright = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64).repeat(num_frames, 1)
    dof_vel = first(VELOCITY_FIELDS, (num_frames, num_joints))
    if is_known_set(robot, names):
        dof_pos = torch.from_numpy(all_joints(robot, names, dof_pos.numpy()))
        dof_vel = None if dof_vel is None else torch.from_numpy(all_joints(robot, names, dof_vel.numpy()))
        names = robot.joint_names
    clip = MotionClip(
        name=path.stem,
        fps=fps,
        joint_names=names,
        dof_pos=dof_pos,
        root_pos=torch.zeros(num_frames, 3, dtype=torch.float64),
        root_quat=upright,
        dof_vel=dof_vel,
        command=first(("command",), (num_frames, NUM_VELOCITIES)),
        source=str(path),
    )
    clip.validate(robot)
    return _without_root(clip.reordered(robot), robot)


def _without_root(clip: MotionClip, robot: Robot) -> EvaluatedMotion:
    """The motion of a clip's joints, with the root that the stance foot tells."""
    velocities = time_derivative(clip.dof_pos, clip.fps) if clip.dof_vel is None else clip.dof_vel
    joints = torch.cat((clip.dof_pos, velocities), dim=-1).float()
    layout = StateLayout.joints_only(robot.num_joints)
    states = StanceRoot(robot).complete(joints, layout, clip.fps)
    return EvaluatedMotion(clip.name, clip.fps, states, _commands(clip), "estimated from the stance foot")
