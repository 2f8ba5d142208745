"""Robot assets: a URDF or MJCF file as Isaac Gym numbers it, and as MuJoCo compiles it.

Isaac Gym orders bodies and degrees of freedom depth first with siblings sorted by the name of their joint, whatever
the order in the file. The MuJoCo model made here has exactly that order, so no index has to be translated.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np

from cmg_ref.core.shorten import reason
from envs.mujoco_gym.assets.link_tree import AssetError, Joint, Link, Shape
from envs.mujoco_gym.assets.mjcf_reader import read_mjcf_links
from envs.mujoco_gym.assets.urdf_reader import read_urdf_links
from envs.mujoco_gym.types.parameters import AssetOptions, RigidShapeProperties, Transform

__all__ = ["DOF_PROPERTIES", "Asset", "AssetError", "load_asset"]

DOF_PROPERTIES = np.dtype(
    [
        ("hasLimits", np.bool_),
        ("lower", np.float32),
        ("upper", np.float32),
        ("driveMode", np.int32),
        ("velocity", np.float32),
        ("effort", np.float32),
        ("stiffness", np.float32),
        ("damping", np.float32),
        ("friction", np.float32),
        ("armature", np.float32),
    ]
)
"""Fields of the properties of a degree of freedom."""

_GEOM_TYPES = {
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    "mesh": mujoco.mjtGeom.mjGEOM_MESH,
}
_JOINT_TYPES = {"hinge": mujoco.mjtJoint.mjJNT_HINGE, "slide": mujoco.mjtJoint.mjJNT_SLIDE}
# What a link weighs that moves by itself but has neither an inertia nor a shape: little, but enough to invert.
_LEAST_MASS, _LEAST_INERTIA = 1.0e-3, 1.0e-6
_LARGEST = float(np.finfo(np.float32).max)


def load_asset(root: str, file: str, options: AssetOptions | None = None) -> Asset:
    """Read a robot.

    Args:
        root: Folder of the assets.
        file: URDF (`.urdf`) or MJCF (`.xml`, `.mjcf`) file in it.
        options: How to read it; the defaults of Isaac Gym if None.

    Returns:
        The asset.

    Raises:
        AssetError: If the file cannot be used; the message names the file, the element and what is wrong.
    """
    options = AssetOptions() if options is None else options
    path = Path(root) / file
    if not path.is_file():
        raise AssetError(f"{path}: no such file")
    floating, excluded = True, list[tuple[str, str]]()
    if path.suffix == ".urdf":
        base = read_urdf_links(path, Path(root), options.skip_missing_meshes)
    elif path.suffix in (".xml", ".mjcf"):
        base, floating, excluded = read_mjcf_links(path)
    else:
        raise AssetError(f"{path}: is neither a URDF (.urdf) nor an MJCF (.xml, .mjcf) file")
    try:
        asset = Asset(path, base, options.fix_base_link or not floating, excluded, options)
        asset.spec().compile()  # what MuJoCo refuses is refused here, where the file is known
    except AssetError:
        raise
    except ValueError as error:
        raise AssetError(f"{path}: MuJoCo cannot simulate it: {reason(error)}") from error
    return asset


class Asset:
    """One robot, in Isaac Gym's order.

    Attributes:
        name: Name of the file without its suffix.
        body_names: Bodies; the first is the root.
        dof_names: Degrees of freedom.
        dof_properties: Their limits, drives and friction, one row of `DOF_PROPERTIES` each. Callers may edit it; that
            changes what later callers see, as in Isaac Gym, but not `spec()`.
        shape_body: Index of the body of each collision shape, (num_shapes,) int64; shapes lie together by body.
        rigid_shape_properties: Surface of each shape. Callers may edit or replace it.
        force_sensors: Body and pose in its frame of each force sensor. Callers may add to it.
        fixed_base: Whether the root is fixed to the world.
    """

    def __init__(
        self, path: Path, base: Link, fixed_base: bool, excluded: list[tuple[str, str]], options: AssetOptions
    ) -> None:
        self.name = path.stem
        self.fixed_base = fixed_base
        self._options = options
        for link in base.depth_first():
            if options.replace_cylinder_with_capsule:
                # The capsule's round ends stick out of the flat ones.
                link.shapes = [
                    replace(shape, kind="capsule") if shape.kind == "cylinder" else shape for shape in link.shapes
                ]
            if link.mass is None and link.shapes:
                _weigh_shapes(link, options.density)
        merged_into = base.collapse_fixed_joints() if options.collapse_fixed_joints else {}
        base.sort_children()
        self._base = base
        links = list(base.depth_first())
        joints = [joint for link in links for joint in link.joints]
        self.body_names = [link.name for link in links]
        self.dof_names = [joint.name for joint in joints]
        if "world" in self.body_names:
            raise AssetError(f"{path}: link 'world' has a name that MuJoCo keeps for itself; call it otherwise")
        for kind, names in (("link", self.body_names), ("joint", self.dof_names)):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise AssetError(f"{path}: the {kind} name '{repeated[0]}' occurs twice")
        pairs = {(merged_into.get(first, first), merged_into.get(second, second)) for first, second in excluded}
        self._excluded = sorted((first, second) for first, second in pairs if first != second)
        shapes = [(index, shape) for index, link in enumerate(links) for shape in link.shapes]
        self.shape_body = np.array([index for index, _ in shapes], dtype=np.int64)
        self.rigid_shape_properties = [RigidShapeProperties(shape.friction) for _, shape in shapes]
        self.force_sensors: list[tuple[int, Transform]] = []
        self._complete_inertias(path)
        for joint in joints:
            if options.use_physx_armature:
                joint.armature = joint.armature or options.armature
        self.dof_properties = np.zeros(len(joints), dtype=DOF_PROPERTIES)
        for row, joint in zip(self.dof_properties, joints, strict=True):
            row["hasLimits"] = np.isfinite(joint.lower) and np.isfinite(joint.upper)
            row["driveMode"] = int(options.default_dof_drive_mode)
            for name in ("lower", "upper", "velocity", "effort", "stiffness", "damping", "friction", "armature"):
                row[name] = np.clip(getattr(joint, name), -_LARGEST, _LARGEST)

    def spec(self) -> mujoco.MjSpec:
        """A fresh MuJoCo description of the robot alone.

        Returns:
            A description whose one top-level body is the root, with a free joint "root" unless the base is fixed.
            Bodies and joints have the names and order of `body_names` and `dof_names`; collision shape `i` is the geom
            "shape_<i>". Joints have their range, armature and friction; stiffness and damping belong to the drive and,
            like actuators, sensors and the ground, are left to the caller.
        """
        spec = mujoco.MjSpec()
        spec.modelname = self.name
        spec.compiler.degree = False
        # Some URDF files have moments of inertia that no body can have; PhysX takes them, MuJoCo would refuse.
        spec.compiler.balanceinertia = True
        self._add_link(spec, spec.worldbody, self._base, 0)
        for first, second in self._excluded:
            spec.add_exclude(bodyname1=first, bodyname2=second)
        return spec

    def _add_link(self, spec: mujoco.MjSpec, parent: mujoco.MjsBody, link: Link, num_shapes: int) -> int:
        """Add a link and everything below it; takes and returns the number of shapes added so far."""
        body = parent.add_body(name=link.name, pos=link.pos, quat=_quat_wxyz(link.rot))
        body.explicitinertial = True
        body.gravcomp = float(self._options.disable_gravity)
        if link.mass:
            moments, axes = np.linalg.eigh(link.inertia)
            axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])
            body.mass, body.ipos = link.mass, link.com
            body.inertia, body.iquat = moments, _quat_wxyz(axes)
        if link is self._base and not self.fixed_base:
            body.add_freejoint(name="root")
        for joint in link.joints:
            _add_joint(body, joint)
        for shape in link.shapes:
            _add_shape(spec, body, shape, f"shape_{num_shapes}")
            num_shapes += 1
        for child in link.children:
            num_shapes = self._add_link(spec, body, child, num_shapes)
        return num_shapes

    def _complete_inertias(self, path: Path) -> None:
        """Give links a mass where they need one, and add the armature to the inertias if it is asked for there."""
        for link in self._base.depth_first():
            moves = bool(link.joints) or (link is self._base and not self.fixed_base)
            if moves and not any(part.mass for part in _welded_parts(link)):
                warnings.warn(
                    f"{path}: link '{link.name}' moves but has no mass; it gets {_LEAST_MASS} kg", stacklevel=4
                )
                link.mass, link.inertia = _LEAST_MASS, _LEAST_INERTIA * np.eye(3)
            if link.mass and not self._options.use_physx_armature:
                link.inertia = link.inertia + self._options.armature * np.eye(3)
            if link.mass is not None and (link.mass < 0.0 or np.linalg.eigvalsh(link.inertia)[0] < 0.0):
                raise AssetError(f"{path}: link '{link.name}' has a negative mass or moment of inertia")


def _welded_parts(link: Link) -> list[Link]:
    """The link and what is welded to it."""
    parts = [link]
    for child in link.children:
        if not child.joints:
            parts += _welded_parts(child)
    return parts


def _add_joint(body: mujoco.MjsBody, joint: Joint) -> None:
    added = body.add_joint(name=joint.name, type=_JOINT_TYPES[joint.kind], axis=joint.axis, pos=joint.pos)
    limited = np.isfinite(joint.lower) and np.isfinite(joint.upper)
    added.limited = mujoco.mjtLimited.mjLIMITED_TRUE if limited else mujoco.mjtLimited.mjLIMITED_FALSE
    if limited:
        added.range = [joint.lower, joint.upper]
    added.armature = joint.armature
    added.frictionloss = joint.friction


def _add_shape(spec: mujoco.MjSpec, body: mujoco.MjsBody, shape: Shape, name: str) -> None:
    geom = body.add_geom(name=name, type=_GEOM_TYPES[shape.kind], pos=shape.pos, quat=_quat_wxyz(shape.rot))
    geom.size = np.resize(np.append(shape.size, np.zeros(3)), 3)
    geom.condim = shape.condim
    geom.friction[0] = shape.friction
    if shape.vertices is not None:
        spec.add_mesh(name=name, uservert=shape.vertices.ravel())
        geom.meshname = name


def _weigh_shapes(link: Link, density: float) -> None:
    """Give a link the mass and inertia of its collision shapes, filled with a density in kg/m^3."""
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body(name=link.name)
    for index, shape in enumerate(link.shapes):
        _add_shape(spec, body, shape, f"shape_{index}")
        body.geoms[index].density = density
    model = spec.compile()
    axes = np.zeros(9)
    mujoco.mju_quat2Mat(axes, model.body_iquat[1])
    rot = axes.reshape(3, 3)
    link.mass, link.com = float(model.body_mass[1]), model.body_ipos[1].copy()
    link.inertia = rot @ np.diag(model.body_inertia[1]) @ rot.T


def _quat_wxyz(matrix: np.ndarray) -> np.ndarray:
    """MuJoCo's quaternion of a rotation matrix, (4,)."""
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(matrix).ravel())
    return quat
