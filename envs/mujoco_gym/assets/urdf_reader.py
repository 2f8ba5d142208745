"""Reads the robot of a URDF file into a tree of links.

MuJoCo reads URDF too, but merges fixed links, keeps the order of the file and needs the meshes of the visuals. What
counts here is what Isaac Gym takes from a URDF: links, joints, inertias and collision shapes. Visuals, materials,
transmissions, mimicking joints and the extensions of other simulators are passed over.
"""

from __future__ import annotations

import math
import os
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mujoco
import numpy as np

from cmg_ref.core.shorten import listed, reason, shortened
from cmg_ref.files.input_file import check_input_file
from cmg_ref.files.xml_file import MAX_DEPTH, read_xml
from envs.mujoco_gym.assets.link_tree import AssetError, Joint, Link, Shape

_JOINT_KINDS = {"revolute": "hinge", "continuous": "hinge", "prismatic": "slide"}
_MESH_FORMATS = (".stl", ".obj", ".msh")


def read_urdf_links(path: Path, root: Path, skip_missing_meshes: bool = False) -> Link:
    """Read the robot of a URDF file.

    Args:
        path: URDF file.
        root: Folder of the assets, in which `package://` names are looked up.
        skip_missing_meshes: Whether a collision mesh that cannot be loaded is left out with a warning.

    Returns:
        The root link.

    Raises:
        AssetError: If the file is no URDF of one robot, or holds something that cannot be simulated.
    """
    return _UrdfReader(path, root, skip_missing_meshes).read()


class _UrdfReader:
    def __init__(self, path: Path, root: Path, skip_missing_meshes: bool) -> None:
        self.path = path
        self.root = root
        self.skip_missing_meshes = skip_missing_meshes
        self.skipped_meshes: list[AssetError] = []

    def read(self) -> Link:
        robot = read_xml(self.path, AssetError)
        if robot.tag != "robot":
            raise AssetError(f"{self.path}: the outermost element is <{shortened(robot.tag)[1:-1]}>, expected <robot>")
        links: dict[str, Link] = {}
        for element in robot.findall("link"):
            link = self._read_link(element)
            if link.name in links:
                raise self._error(element, "occurs twice")
            links[link.name] = link
        if self.skipped_meshes:
            count, first = len(self.skipped_meshes), self.skipped_meshes[0]
            warnings.warn(f"{count} collision shape(s) are left out, the first one because of {first}", stacklevel=4)
        parents: dict[str, str] = {}
        floating: list[str] = []
        for element in robot.findall("joint"):
            parent, child = (self._linked(element, tag, links) for tag in ("parent", "child"))
            if child.name in parents:
                raise self._error(element, f"gives link {shortened(child.name)} a second parent")
            parents[child.name] = parent.name
            self._read_joint(element, child)
            if element.get("type") == "floating":
                floating.append(child.name)
            parent.children.append(child)
        return self._find_base(links, parents, floating)

    def _find_base(self, links: dict[str, Link], parents: dict[str, str], floating: list[str]) -> Link:
        tops = [name for name in links if name not in parents]
        if len(tops) != 1:
            names = listed(tops) or "none"
            raise AssetError(f"{self.path}: must hold one robot, found the root links {names}")
        base = links[tops[0]]
        if floating:
            # A free base may be written as a floating joint below an empty link: Isaac Gym's root is then that child.
            if base.mass is not None or base.shapes or [child.name for child in base.children] != floating:
                raise AssetError(
                    f"{self.path}: link {shortened(floating[0])} floats inside the robot, which is not supported"
                )
            base = base.children[0]
            base.pos, base.rot = np.zeros(3), np.eye(3)
        level = [base]
        for _ in range(MAX_DEPTH):
            level = [child for link in level for child in link.children]
        if level:
            raise AssetError(
                f"{self.path}: link {shortened(level[0].name)} is more than {MAX_DEPTH} joints from the root"
            )
        reached = {link.name for link in base.depth_first()}
        lost = [name for name in links if name not in reached and name != tops[0]]
        if lost:
            raise AssetError(f"{self.path}: link {shortened(lost[0])} is part of a closed loop of joints")
        return base

    def _linked(self, joint: ElementTree.Element, tag: str, links: dict[str, Link]) -> Link:
        element = joint.find(tag)
        name = "" if element is None else element.get("link", "")
        if name not in links:
            raise self._error(joint, f"has the {tag} {shortened(name)}, which is no link of the file")
        return links[name]

    def _read_link(self, element: ElementTree.Element) -> Link:
        name = element.get("name")
        if not name:
            raise self._error(element, "has no name")
        link = Link(name)
        inertial = element.find("inertial")
        if inertial is not None:
            link.mass = self._child_number(inertial, "mass", "value", name)
            link.com, axes = self._origin(inertial, name)
            xx, xy, xz, yy, yz, zz = (
                self._child_number(inertial, "inertia", f"i{pair}", name)
                for pair in ("xx", "xy", "xz", "yy", "yz", "zz")
            )
            link.inertia = axes @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ axes.T
        for collision in element.findall("collision"):
            shape = self._read_shape(collision, name)
            if shape is not None:
                link.shapes.append(shape)
        return link

    def _read_shape(self, element: ElementTree.Element, owner: str) -> Shape | None:
        geometry = element.find("geometry")
        if geometry is None or len(geometry) != 1:
            raise self._error(element, "needs one <geometry> with one shape", owner)
        shape = geometry[0]
        pos, rot = self._origin(element, owner)
        if shape.tag == "box":
            return Shape("box", 0.5 * self._numbers(shape, "size", 3, owner), pos, rot)
        if shape.tag == "sphere":
            return Shape("sphere", self._numbers(shape, "radius", 1, owner), pos, rot)
        if shape.tag in ("cylinder", "capsule"):
            radius, length = (self._numbers(shape, name, 1, owner)[0] for name in ("radius", "length"))
            return Shape(shape.tag, np.array([radius, 0.5 * length]), pos, rot)
        if shape.tag == "mesh":
            try:
                vertices = self._mesh_vertices(shape, owner)
            except AssetError as error:
                if not self.skip_missing_meshes:
                    raise
                self.skipped_meshes.append(error)
                return None
            return Shape("mesh", np.zeros(0), pos, rot, vertices)
        raise self._error(shape, "is no shape that can collide", owner)

    def _mesh_vertices(self, element: ElementTree.Element, owner: str) -> np.ndarray:
        """Points of a mesh file in the frame of the file, scaled, (num_vertices, 3)."""
        file = element.get("filename", "")
        name = file.split("://", 1)[-1]
        places = [self.path.parent / name, self.root / name]
        if file.startswith("package://"):
            # The package is a folder that ROS would find; here it is one of those around the URDF.
            inside = name.split("/", 1)[-1]
            places += [folder / inside for folder in (self.root, self.path.parent, *self.path.parents[1:3])]
        place = next((place for place in places if os.path.isfile(place)), None)
        if place is None:
            raise self._error(
                element, f"needs the file {shortened(file)} for a collision shape, which is missing", owner
            )
        if place.suffix.lower() not in _MESH_FORMATS:
            raise self._error(
                element, f"is {shortened(file)}; MuJoCo reads {', '.join(_MESH_FORMATS)} meshes only", owner
            )
        check_input_file(place, AssetError)
        spec = mujoco.MjSpec()
        mesh = spec.add_mesh(name="mesh", file=str(place.resolve()))
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
        if "scale" in element.attrib:
            mesh.scale = self._numbers(element, "scale", 3, owner)
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="mesh")
        try:
            model = spec.compile()
        except ValueError as error:
            raise self._error(
                element, f"is {shortened(file)}, which MuJoCo cannot load: {reason(error)}", owner
            ) from error
        # MuJoCo moves a mesh to its centre of mass and principal axes; here it is moved back.
        axes = np.zeros(9)
        mujoco.mju_quat2Mat(axes, model.mesh_quat[0])
        return np.asarray(model.mesh_vert @ axes.reshape(3, 3).T + model.mesh_pos[0])

    def _read_joint(self, element: ElementTree.Element, child: Link) -> None:
        """Attach a link by a joint: its place in the parent, and its degree of freedom unless it is fixed."""
        name, kind = element.get("name"), element.get("type")
        if not name:
            raise self._error(element, f"above link {shortened(child.name)} has no name")
        child.joint_name = name
        child.pos, child.rot = self._origin(element, name)
        child.collapsible = element.get("dont_collapse", "false").lower() != "true"
        if kind in ("fixed", "floating"):
            return
        if kind not in _JOINT_KINDS:
            raise self._error(element, f"is of type {shortened(kind)}, which is not supported")
        axis = element.find("axis")
        direction = np.array([1.0, 0.0, 0.0]) if axis is None else self._numbers(axis, "xyz", 3, name)
        if not direction.any():
            raise self._error(element, "has the axis 0 0 0")
        joint = Joint(name, _JOINT_KINDS[kind], direction / np.linalg.norm(direction))
        limit, dynamics = element.find("limit"), element.find("dynamics")
        if limit is not None:
            joint.effort, joint.velocity = (
                self._numbers(limit, key, 1, name, "inf")[0] for key in ("effort", "velocity")
            )
            lower, upper = (self._numbers(limit, key, 1, name, "0")[0] for key in ("lower", "upper"))
            # A joint whose limits leave it no room is meant to have none.
            if kind != "continuous" and lower < upper:
                joint.lower, joint.upper = lower, upper
        if dynamics is not None:
            joint.damping, joint.friction = (
                self._numbers(dynamics, key, 1, name, "0")[0] for key in ("damping", "friction")
            )
        child.joints.append(joint)

    def _origin(self, element: ElementTree.Element, owner: str) -> tuple[np.ndarray, np.ndarray]:
        """Place (3,) and orientation (3, 3) of the <origin> of an element."""
        origin = element.find("origin")
        if origin is None:
            return np.zeros(3), np.eye(3)
        roll, pitch, yaw = self._numbers(origin, "rpy", 3, owner, "0 0 0")
        (sr, cr), (sp, cp), (sy, cy) = ((math.sin(angle), math.cos(angle)) for angle in (roll, pitch, yaw))
        about_x = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
        about_y = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
        about_z = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
        return self._numbers(origin, "xyz", 3, owner, "0 0 0"), about_z @ about_y @ about_x

    def _child_number(self, element: ElementTree.Element, tag: str, attribute: str, owner: str) -> float:
        child = element.find(tag)
        if child is None:
            raise self._error(element, f"has no <{tag}>", owner)
        return float(self._numbers(child, attribute, 1, owner)[0])

    def _numbers(
        self, element: ElementTree.Element, attribute: str, count: int, owner: str, default: str | None = None
    ) -> np.ndarray:
        """Numbers of an attribute, (count,); only limits may be infinite."""
        text = element.get(attribute, default)
        if text is None:
            raise self._error(element, f"has no {attribute}", owner)
        try:
            values = np.array([float(word) for word in text.split()])
        except ValueError:
            values = np.zeros(0)
        bad = np.isnan(values) if element.tag == "limit" else ~np.isfinite(values)
        if len(values) != count or bad.any():
            raise self._error(element, f"has {attribute}={shortened(text)}, expected {count} number(s)", owner)
        return values

    def _error(self, element: ElementTree.Element, problem: str, owner: str = "") -> AssetError:
        name = f" name={shortened(element.get('name'))}" if element.get("name") else ""
        owner = f"of {shortened(owner)} " if owner else ""
        return AssetError(f"{self.path}: <{shortened(element.tag)[1:-1]}{name}> {owner}{problem}")
