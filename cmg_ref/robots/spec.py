"""What is to be known of a robot beside its MJCF file, as plain data, in Python or in a JSON file."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Sequence, Tuple

from cmg_ref.core.shorten import reason, shortened
from cmg_ref.files.input_file import MEBIBYTE, check_input_file
from cmg_ref.files.json_text import parse_json

Point = Tuple[float, float, float]
COLORS = ("shell", "metal", "dark", "side")
"""What parts of a drawing may look like; "side" is a colour of its own for the left and for the right."""


class RobotError(ValueError):
    """A robot, or a file of one, that cannot be used; the message names the file, the element and what is wrong."""


class Capsule(NamedTuple):
    """A part of a robot: link, ends of the axis in the link's frame [m], radius [m], for drawings one of `COLORS`."""

    link: str
    start: Point
    end: Point
    radius: float
    color: str = "metal"


@dataclass(frozen=True, eq=False)
class RobotSpec:
    """Description of a legged robot with two feet.

    Attributes:
        name: What it is called on command lines, in checkpoints and in configurations.
        asset: MJCF file with masses, limits and, under each foot, spheres, capsules or a box as its sole.
        foot_bodies: Left and right foot.
        walking_height: Least and greatest height of the root above the floor in walking and running [m]; recorded
            motion outside is no gait.
        key_bodies: Bodies whose places make two postures look alike; the feet by default.
        mirror_names: Parts of names that change places in a mirror; what has none of them is its own image.
        standing_pose: Joint angles [rad] by name; the others are those of the MJCF's keyframe.
        stiffness: Of the drives [N m / rad], by parts of joint names; the longest part that fits counts.
        damping: Of the drives [N m s / rad], the same way.
        action_scale: What an action of 1 adds to a joint's target [rad], the same way.
        lean_joint: Joint that pitches the torso against the root; None without.
        spread_joints: Joints that hold limbs out to the side, and the sign of that direction.
        arm_joints: Parts of the names of the arms' joints.
        joint_sets: Sets of joints that files are in use for, beside all of them: what a set is called, and parts of the
            names of the joints that it lacks.
        clip_joint_names: Order of the joints in clips that do not name them (CSV); the MJCF's by default.
        clip_fps: Frame rate of clips that do not tell it (CSV).
        capsules: What to draw. Parts on a link of one side are drawn on the other side too, mirrored.
        contact_capsules: Space that limbs fill, to tell whether they reach into one another; mirrored the same way.
        contact_pairs: Which of them must keep apart: pairs of parts of link names.
        joint_panels: Panels of a plot, and parts of the names of the joints in each; by default one for each joint or
            pair of joints.
        checkpoint: The CMG that ships for it; None without.
    """

    name: str
    asset: Path
    foot_bodies: tuple[str, str]
    walking_height: tuple[float, float]
    key_bodies: tuple[str, ...] = ()
    mirror_names: tuple[tuple[str, str], ...] = (("left", "right"),)
    standing_pose: Mapping[str, float] = field(default_factory=dict)
    stiffness: Mapping[str, float] = field(default_factory=dict)
    damping: Mapping[str, float] = field(default_factory=dict)
    action_scale: Mapping[str, float] = field(default_factory=dict)
    lean_joint: str | None = None
    spread_joints: Mapping[str, float] = field(default_factory=dict)
    arm_joints: tuple[str, ...] = ()
    joint_sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    clip_joint_names: tuple[str, ...] = ()
    clip_fps: float = 30.0
    capsules: tuple[Capsule, ...] = ()
    contact_capsules: tuple[Capsule, ...] = ()
    contact_pairs: tuple[tuple[str, str], ...] = ()
    joint_panels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    checkpoint: Path | None = None

    def mirrored_name(self, name: str) -> str:
        """Name of a joint or body on the other side of the robot."""
        for left, right in self.mirror_names:
            for one, other in ((left, right), (right, left)):
                if one in name:
                    return name.replace(one, other)
        return name

    def mirror_images(self, capsules: Sequence[Capsule]) -> list[Capsule]:
        """The capsules that these become on the other side of the robot; none of those in the middle."""
        return [
            part._replace(link=self.mirrored_name(part.link), start=_mirrored(part.start), end=_mirrored(part.end))
            for part in capsules
            if self.mirrored_name(part.link) != part.link
        ]

    @classmethod
    def from_json(cls, path: str | Path) -> RobotSpec:
        """Read a description: an object with fields of this class, whose files are named relative to its own folder.

        Raises:
            RobotError: The file is missing or no JSON, or a field is unknown, missing or of another kind; the message
                names file and field.
        """
        path = Path(path)
        check_input_file(path, RobotError, MEBIBYTE)
        try:
            content = parse_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RobotError(f"{path}: is no JSON ({reason(error)})") from error
        if not isinstance(content, dict):
            raise RobotError(f"{path}: is no object with the fields of a robot's description")
        values: dict[str, Any] = {}
        for name, value in content.items():
            if name not in _READERS:
                raise RobotError(f"{path}: unknown field {shortened(name)}; there are {', '.join(_READERS)}")
            try:
                values[name] = _READERS[name](value)
            except (TypeError, ValueError, KeyError, OverflowError) as error:
                raise RobotError(f"{path}: field '{name}': cannot be {shortened(value)}") from error
        for required in dataclasses.fields(cls)[:4]:
            if required.name not in values:
                raise RobotError(f"{path}: field '{required.name}' is missing")
        for name in ("asset", "checkpoint"):
            if name in values:
                values[name] = path.parent / values[name]
        return cls(**values)


def _mirrored(point: Point) -> Point:
    return point[0], -point[1], point[2]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _list(read: Callable[[Any], Any], length: int | None = None) -> Callable[[Any], Any]:
    def read_list(value: Any) -> Any:
        if not isinstance(value, list) or length not in (None, len(value)):
            raise TypeError
        return tuple(read(item) for item in value)

    return read_list


def _mapping(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: {name: read(item) for name, item in dict(value).items()}


def _capsule(value: Any) -> Capsule:
    link, start, end, radius, *color = value
    point = _list(_number, 3)
    if len(color) > 1 or any(name not in COLORS for name in color):
        raise ValueError
    return Capsule(_text(link), point(start), point(end), _number(radius), *color)


_READERS: dict[str, Callable[[Any], Any]] = {
    "name": _text,
    "asset": _text,
    "foot_bodies": _list(_text, 2),
    "walking_height": _list(_number, 2),
    "key_bodies": _list(_text),
    "mirror_names": _list(_list(_text, 2)),
    "standing_pose": _mapping(_number),
    "stiffness": _mapping(_number),
    "damping": _mapping(_number),
    "action_scale": _mapping(_number),
    "lean_joint": _text,
    "spread_joints": _mapping(_number),
    "arm_joints": _list(_text),
    "joint_sets": _mapping(_list(_text)),
    "clip_joint_names": _list(_text),
    "clip_fps": _number,
    "capsules": _list(_capsule),
    "contact_capsules": _list(_capsule),
    "contact_pairs": _list(_list(_text, 2)),
    "joint_panels": _mapping(_list(_text)),
    "checkpoint": _text,
}
"""How each field is read from JSON."""
