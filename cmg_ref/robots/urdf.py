"""Reads the kinematic tree of a robot from a URDF file.

Bodies come depth first, and siblings by the name of their joint, which is the order Isaac Gym gives them in. Links that
hang on fixed joints are bodies of their own. Masses, shapes and meshes are left unread: kinematics need none of them.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import torch
from torch import Tensor

from cmg_ref.core import rotations
from cmg_ref.core.shorten import listed, shortened
from cmg_ref.files.xml_file import read_xml
from cmg_ref.robots.kinematic_tree import KinematicTree, RobotError

_HINGES = ("revolute", "continuous")


def read_urdf(path: str | Path) -> KinematicTree:
    """Read a robot's tree.

    Args:
        path: URDF file with one root link and revolute, continuous or fixed joints.

    Returns:
        Bodies and joints, depth first, siblings sorted by the name of their joint.

    Raises:
        RobotError: If the file is missing, is no URDF, or its joints do not form one tree of hinges; the message names
            the file and the joint or link.
    """
    path = Path(path)
    robot = read_xml(path, RobotError)
    if robot.tag != "robot":
        raise RobotError(f"{path}: the outermost element is <{shortened(robot.tag)[1:-1]}>, expected <robot>")
    links = [link.get("name", "") for link in robot.findall("link")]
    children: dict[str, list[ElementTree.Element]] = {name: [] for name in links}
    loose = dict.fromkeys(links)
    for joint in sorted(robot.findall("joint"), key=lambda joint: joint.get("name", "")):
        ends = [_link(joint, tag, path) for tag in ("parent", "child")]
        for name in ends:
            if name not in children:
                raise RobotError(
                    f"{path}: <joint name={shortened(joint.get('name'))}> names the unknown link {shortened(name)}"
                )
        if ends[1] not in loose:
            raise RobotError(f"{path}: <link name={shortened(ends[1])}> hangs on two joints")
        del loose[ends[1]]
        children[ends[0]].append(joint)
    if len(loose) != 1:
        raise RobotError(f"{path}: must have one root link, found {listed(loose) or 'none'}")

    body_names: list[str] = []
    body_parents: list[int] = []
    offsets: list[tuple[Tensor, Tensor]] = []
    hinges: list[tuple[str, int, Tensor, float, float]] = []
    pending: list[tuple[str, int, ElementTree.Element | None]] = [(next(iter(loose)), -1, None)]
    while pending:
        name, parent, hung_on = pending.pop()
        body = len(body_names)
        body_names.append(name)
        body_parents.append(parent)
        offsets.append(_origin(hung_on, path))
        if hung_on is not None and hung_on.get("type") != "fixed":
            hinges.append((hung_on.get("name", ""), body, *_hinge(hung_on, path)))
        pending += [(_link(child, "child", path), body, child) for child in reversed(children[name])]
    if len(body_names) != len(links):
        raise RobotError(f"{path}: {len(links) - len(body_names)} links form a loop apart from the root")
    return KinematicTree(
        name=robot.get("name", path.stem),
        body_names=tuple(body_names),
        body_parents=tuple(body_parents),
        body_pos=torch.stack([pos for pos, _ in offsets]),
        body_quat=torch.stack([quat for _, quat in offsets]),
        joint_names=tuple(hinge[0] for hinge in hinges),
        joint_bodies=tuple(hinge[1] for hinge in hinges),
        joint_axes=torch.stack([hinge[2] for hinge in hinges]) if hinges else torch.zeros(0, 3, dtype=torch.float64),
        joint_lower=torch.tensor([hinge[3] for hinge in hinges], dtype=torch.float64),
        joint_upper=torch.tensor([hinge[4] for hinge in hinges], dtype=torch.float64),
    )


def _link(joint: ElementTree.Element, tag: str, path: Path) -> str:
    element = joint.find(tag)
    if element is None or not element.get("link"):
        raise RobotError(f"{path}: <joint name={shortened(joint.get('name'))}> has no <{tag} link='...'>")
    return element.get("link", "")


def _origin(joint: ElementTree.Element | None, path: Path) -> tuple[Tensor, Tensor]:
    """Place (3,) and orientation xyzw (4,) of a joint in its parent's frame; the identity for the root."""
    origin = None if joint is None else joint.find("origin")
    if joint is None or origin is None:
        zero = torch.zeros(3, dtype=torch.float64)
        return zero, rotations.quat_from_euler_xyz(*zero)
    roll, pitch, yaw = _numbers(joint, origin, "rpy", path)
    return _numbers(joint, origin, "xyz", path), rotations.quat_from_euler_xyz(roll, pitch, yaw)


def _hinge(joint: ElementTree.Element, path: Path) -> tuple[Tensor, float, float]:
    """Unit axis (3,) and limits of a hinge."""
    label = f"{path}: <joint name={shortened(joint.get('name'))}>"
    if joint.get("type") not in _HINGES:
        raise RobotError(
            f"{label} is of type {shortened(joint.get('type'))}; only {', '.join(_HINGES)} and fixed are supported"
        )
    if joint.find("mimic") is not None:
        raise RobotError(f"{label} follows another joint (<mimic>), which is not supported")
    element = joint.find("axis")
    axis = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)  # URDF's own default
    if element is not None:
        axis = _numbers(joint, element, "xyz", path)
    if not bool(axis.any()):
        raise RobotError(f"{label} has the axis 0 0 0")
    lower, upper = -math.inf, math.inf
    limit = joint.find("limit")
    if limit is not None and joint.get("type") == "revolute" and "lower" in limit.attrib and "upper" in limit.attrib:
        lower, upper = (float(_numbers(joint, limit, name, path, 1)) for name in ("lower", "upper"))
    return axis / torch.linalg.vector_norm(axis), lower, upper


def _numbers(joint: ElementTree.Element, element: ElementTree.Element, name: str, path: Path, count: int = 3) -> Tensor:
    text = element.get(name, "0 0 0")
    try:
        values = torch.tensor([float(word) for word in text.split()], dtype=torch.float64)
    except ValueError:
        values = torch.zeros(0, dtype=torch.float64)
    if len(values) != count or not bool(torch.isfinite(values).all()):
        owner = f"{path}: <{element.tag}> of <joint name={shortened(joint.get('name'))}>"
        raise RobotError(f"{owner} has {name}={shortened(text)}, expected {count} finite numbers")
    return values
