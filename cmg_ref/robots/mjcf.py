"""Reads the kinematic tree of one robot from an MJCF file, without MuJoCo.

The subset covered is that of legged robots: one tree of bodies with at most one hinge each, default classes,
`childclass`, degrees or radians, every way MJCF has to write an orientation, inertials and keyframes. Whatever would
change the kinematics and is not covered is refused by name rather than passed over.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from cmg_ref.core import rotations
from cmg_ref.core.shorten import listed, shortened
from cmg_ref.files.xml_file import read_xml
from cmg_ref.robots.kinematic_tree import RobotError

_ORIENTATIONS = {"quat": 4, "axisangle": 4, "euler": 3, "xyaxes": 6, "zaxis": 3}
_TAGS_WITH_DEFAULTS = ("joint", "geom")
_REFUSED_ELEMENTS = ("include", "frame", "replicate", "attach", "composite", "flexcomp")


@dataclass
class MjcfBody:
    """One body: its fixed offset in the parent's frame (metres, quaternion xyzw) and its inertia (kg, kg m^2)."""

    name: str
    parent: int
    pos: Tensor
    quat_xyzw: Tensor
    mass: float = 0.0
    com: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    inertia: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    inertia_quat_xyzw: Tensor = field(default_factory=lambda: torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64))
    collision_spheres: list[tuple[Tensor, float]] = field(default_factory=list)
    """Centre and radius of colliding spheres, capsule ends and box corners, in the body's frame."""


@dataclass
class MjcfJoint:
    """One hinge: the body it moves, its axis in that body's frame, its limits (rad, N m, rad/s; infinite if none)."""

    name: str
    body: int
    axis: Tensor
    lower: float
    upper: float
    effort_limit: float
    velocity_limit: float
    armature: float


@dataclass
class MjcfModel:
    """The robot of an MJCF file: bodies and joints depth first, and the keyframes as written (qpos by name)."""

    name: str
    bodies: list[MjcfBody]
    joints: list[MjcfJoint]
    keyframes: dict[str, Tensor]


def read_mjcf(path: str | Path) -> MjcfModel:
    """Read the robot of an MJCF file.

    Args:
        path: MJCF file that holds one floating (or fixed) robot; other contents of the world are ignored.

    Returns:
        Bodies and joints, depth first, in the order MuJoCo would give them.

    Raises:
        RobotError: If the file is missing, is no MJCF, or holds something this reader does not cover.
    """
    return _MjcfReader(Path(path)).read()


class _MjcfReader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.angle_unit = math.pi / 180.0
        self.euler_sequence = "xyz"
        self.defaults: dict[str, dict[str, dict[str, str]]] = {}
        self.bodies: list[MjcfBody] = []
        self.body_names: set[str] = set()
        self.joints: list[MjcfJoint] = []
        self.joint_names: set[str] = set()

    def read(self) -> MjcfModel:
        root = read_xml(self.path, RobotError)
        if root.tag != "mujoco":
            raise RobotError(f"{self.path}: the outermost element is <{shortened(root.tag)[1:-1]}>, expected <mujoco>")
        for element in root.iter():
            if element.tag in _REFUSED_ELEMENTS:
                raise self._error(element, "is not supported; save the compiled model as one plain file first")
        for compiler in root.findall("compiler"):
            if "angle" in compiler.attrib:
                self.angle_unit = 1.0 if compiler.get("angle") == "radian" else math.pi / 180.0
            self.euler_sequence = compiler.get("eulerseq", self.euler_sequence)
        for default in root.findall("default"):
            self._read_defaults(default, {})
        self._read_body(self._find_robot(root), -1, "main")
        keyframes = {
            key.get("name", ""): self._numbers(key, key.attrib, "qpos")
            for key in root.findall("keyframe/key")
            if "qpos" in key.attrib
        }
        return MjcfModel(root.get("model", self.path.stem), self.bodies, self.joints, keyframes)

    def _read_defaults(self, default: ElementTree.Element, inherited: dict[str, dict[str, str]]) -> None:
        name = default.get("class", "main")
        settings = dict(self.defaults.get(name, inherited))
        for element in default:
            if element.tag in _TAGS_WITH_DEFAULTS:
                settings[element.tag] = {**settings.get(element.tag, {}), **element.attrib}
        self.defaults[name] = settings
        for element in default.findall("default"):
            if "class" not in element.attrib:
                raise self._error(element, f"inside class {shortened(name)} has no class name")
            self._read_defaults(element, settings)

    def _attributes(self, element: ElementTree.Element, childclass: str) -> dict[str, str]:
        """Attributes of an element on top of those of its default class."""
        name = element.get("class", childclass)
        if name not in self.defaults and name != "main":
            raise self._error(element, f"uses the default class {shortened(name)}, which the file does not define")
        return {**self.defaults.get(name, {}).get(element.tag, {}), **element.attrib}

    def _find_robot(self, root: ElementTree.Element) -> ElementTree.Element:
        bodies = [body for body in root.findall("worldbody/body") if body.get("mocap") != "true"]
        floating = [body for body in bodies if self._free_joints(body)]
        candidates = floating or bodies
        if len(candidates) != 1:
            names = listed(body.get("name", "") for body in candidates) or "none"
            raise RobotError(f"{self.path}: <worldbody> must hold one robot, found {names}")
        return candidates[0]

    @staticmethod
    def _free_joints(body: ElementTree.Element) -> list[ElementTree.Element]:
        return body.findall("freejoint") + [joint for joint in body.findall("joint") if joint.get("type") == "free"]

    def _read_body(self, element: ElementTree.Element, parent: int, childclass: str) -> None:
        name = element.get("name")
        if not name:
            raise self._error(element, "has no name", self.bodies[parent].name if parent >= 0 else "")
        if name in self.body_names:
            raise self._error(element, "occurs twice")
        self.body_names.add(name)
        childclass = element.get("childclass", childclass)
        index = len(self.bodies)
        body = MjcfBody(
            name,
            parent,
            self._numbers(element, element.attrib, "pos", 3, "0 0 0"),
            self._orientation(element, element.attrib),
        )
        self.bodies.append(body)
        self._read_inertial(element, body)
        free_joints = self._free_joints(element)
        if free_joints and parent >= 0:
            raise self._error(free_joints[0], f"is a free joint inside the robot (body {shortened(name)})")
        hinges = [joint for joint in element.findall("joint") if joint.get("type") != "free"]
        if len(hinges) + len(free_joints) > 1:
            raise self._error(element, f"has {len(hinges) + len(free_joints)} joints; at most one is supported")
        for joint in hinges:
            self._read_hinge(joint, index, childclass)
        for geom in element.findall("geom"):
            self._read_geom(geom, body, childclass)
        for child in element.findall("body"):
            self._read_body(child, index, childclass)

    def _read_inertial(self, element: ElementTree.Element, body: MjcfBody) -> None:
        inertial = element.find("inertial")
        if inertial is None:
            return
        attributes = inertial.attrib
        body.mass = float(self._numbers(inertial, attributes, "mass", 1, owner=body.name))
        body.com = self._numbers(inertial, attributes, "pos", 3, "0 0 0", body.name)
        body.inertia_quat_xyzw = self._orientation(inertial, attributes, body.name)
        if "fullinertia" in attributes:
            xx, yy, zz, xy, xz, yz = self._numbers(inertial, attributes, "fullinertia", 6, owner=body.name).tolist()
            matrix = torch.tensor([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]], dtype=torch.float64)
            moments, axes = torch.linalg.eigh(matrix)
            body.inertia = moments.flip(0)
            axes = axes.flip(1)
            body.inertia_quat_xyzw = rotations.quat_from_matrix(axes * torch.det(axes).sign())
        elif "diaginertia" in attributes:
            body.inertia = self._numbers(inertial, attributes, "diaginertia", 3, owner=body.name)
        if body.mass < 0.0 or bool((body.inertia < 0.0).any()):
            raise self._error(inertial, f"of body {shortened(body.name)} has a negative mass or moment of inertia")

    def _read_hinge(self, element: ElementTree.Element, body: int, childclass: str) -> None:
        attributes = self._attributes(element, childclass)
        name = attributes.get("name")
        if not name:
            raise self._error(element, f"of body {shortened(self.bodies[body].name)} has no name")
        if attributes.get("type", "hinge") != "hinge":
            raise self._error(element, f"is of type {shortened(attributes['type'])}; only hinges are supported")
        if name in self.joint_names:
            raise self._error(element, "occurs twice")
        self.joint_names.add(name)
        if bool(self._numbers(element, attributes, "pos", 3, "0 0 0").any()) or float(
            self._numbers(element, attributes, "ref", 1, "0")
        ):
            raise self._error(element, "has a pos or ref other than zero, which is not supported")
        axis = self._numbers(element, attributes, "axis", 3, "0 0 1")
        if not bool(axis.any()):
            raise self._error(element, "has the axis 0 0 0")
        lower, upper = -math.inf, math.inf
        if "range" in attributes and attributes.get("limited", "auto") != "false":
            lower, upper = (self._numbers(element, attributes, "range", 2) * self.angle_unit).tolist()
            if lower >= upper:
                raise self._error(
                    element, f"has the range {shortened(attributes['range'])}: the first must be the smaller"
                )
        effort_limit = math.inf
        if "actuatorfrcrange" in attributes and attributes.get("actuatorfrclimited", "auto") != "false":
            effort_limit = float(self._numbers(element, attributes, "actuatorfrcrange", 2).abs().max())
        velocity_limit = math.inf
        if "user" in attributes:
            velocity_limit = float(self._numbers(element, attributes, "user")[0])
        armature = float(self._numbers(element, attributes, "armature", 1, "0"))
        axis = axis / torch.linalg.vector_norm(axis)
        self.joints.append(MjcfJoint(name, body, axis, lower, upper, effort_limit, velocity_limit, armature))

    def _read_geom(self, element: ElementTree.Element, body: MjcfBody, childclass: str) -> None:
        attributes = self._attributes(element, childclass)
        if attributes.get("contype") == "0" and attributes.get("conaffinity") == "0":
            return
        kind = attributes.get("type", "mesh" if "mesh" in attributes else "sphere")
        if kind not in ("sphere", "capsule", "box"):
            return
        size = self._numbers(element, attributes, "size", owner=body.name)
        if kind == "capsule" and "fromto" in attributes:
            ends = self._numbers(element, attributes, "fromto", 6, owner=body.name)
            body.collision_spheres += [(ends[:3], float(size[0])), (ends[3:], float(size[0]))]
            return
        if len(size) < {"sphere": 1, "capsule": 2, "box": 3}[kind]:
            raise self._error(
                element, f"of body {shortened(body.name)} is a {kind} with the size {shortened(attributes['size'])}"
            )
        signs = {
            "sphere": torch.zeros(1, 3, dtype=torch.float64),
            "capsule": torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]], dtype=torch.float64),
            "box": torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3),
        }[kind]
        half = size.new_tensor([0.0, 0.0, size[1]]) if kind == "capsule" else size[:3]
        centre = self._numbers(element, attributes, "pos", 3, "0 0 0", body.name)
        corners = centre + rotations.quat_rotate(self._orientation(element, attributes, body.name), signs * half)
        body.collision_spheres += [(corner, 0.0 if kind == "box" else float(size[0])) for corner in corners]

    def _orientation(self, element: ElementTree.Element, attributes: dict[str, str], owner: str = "") -> Tensor:
        """Orientation of an element as a quaternion xyzw, (4,)."""
        given = [name for name in _ORIENTATIONS if name in attributes]
        if len(given) > 1:
            raise self._error(element, f"gives its orientation twice: {' and '.join(given)}", owner)
        if not given:
            return torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
        values = self._numbers(element, attributes, given[0], _ORIENTATIONS[given[0]], owner=owner)
        if given[0] == "euler":
            return self._quat_from_euler(values * self.angle_unit)
        if not bool(values[:3].any() if given[0] != "quat" else values.any()):
            raise self._error(
                element, f"has {given[0]}={shortened(attributes[given[0]])}, which is no direction", owner
            )
        if given[0] == "quat":  # MJCF writes w first.
            return values[[1, 2, 3, 0]] / torch.linalg.vector_norm(values)
        if given[0] == "axisangle":
            axis = values[:3] / torch.linalg.vector_norm(values[:3])
            return rotations.quat_from_axis_angle(axis, values[3] * self.angle_unit)
        if given[0] == "xyaxes":
            x_axis = values[:3] / torch.linalg.vector_norm(values[:3])
            y_axis = values[3:] - (values[3:] @ x_axis) * x_axis
            y_axis = y_axis / torch.linalg.vector_norm(y_axis)
            return rotations.quat_from_matrix(
                torch.stack((x_axis, y_axis, torch.linalg.cross(x_axis, y_axis, dim=-1)), dim=-1)
            )
        # zaxis: the smallest turn that takes (0, 0, 1) there.
        x, y, z = (values / torch.linalg.vector_norm(values)).tolist()
        sine = math.hypot(x, y)
        axis = values.new_tensor([-y / sine, x / sine, 0.0] if sine > 0.0 else [1.0, 0.0, 0.0])
        return rotations.quat_from_axis_angle(axis, values.new_tensor(math.atan2(sine, z)))

    def _quat_from_euler(self, angles: Tensor) -> Tensor:
        quat = angles.new_tensor([0.0, 0.0, 0.0, 1.0])
        for letter, angle in zip(self.euler_sequence, angles):
            axis = angles.new_tensor([float(letter.lower() == name) for name in "xyz"])
            turn = rotations.quat_from_axis_angle(axis, angle)
            # Lower case turns about the frame that has already turned, upper case about the fixed one.
            quat = rotations.quat_multiply(quat, turn) if letter.islower() else rotations.quat_multiply(turn, quat)
        return quat

    def _numbers(
        self,
        element: ElementTree.Element,
        attributes: dict[str, str],
        name: str,
        count: int | None = None,
        default: str | None = None,
        owner: str = "",
    ) -> Tensor:
        """Numbers of an attribute, (count,), or a scalar for a count of 1."""
        text = attributes.get(name, default)
        if text is None:
            raise self._error(element, f"has no {name}", owner)
        try:
            values = torch.tensor([float(word) for word in text.split()], dtype=torch.float64)
        except ValueError:
            values = torch.tensor([math.nan], dtype=torch.float64)
        if len(values) != (count or max(len(values), 1)) or not bool(torch.isfinite(values).all()):
            expected = f"{count} finite numbers" if count else "finite numbers"
            raise self._error(element, f"has {name}={shortened(text)}, expected {expected}", owner)
        return values[0] if count == 1 else values

    def _error(self, element: ElementTree.Element, problem: str, owner: str = "") -> RobotError:
        name = f" name={shortened(element.get('name'))}" if element.get("name") else ""
        owner = f"of body {shortened(owner)} " if owner else ""
        return RobotError(f"{self.path}: <{shortened(element.tag)[1:-1]}{name}> {owner}{problem}")
