"""Reads the robot of an MJCF file into a tree of links, with MuJoCo's own reader and compiler.

The reader in `cmg_ref.robots.mjcf` needs no MuJoCo and covers less; here MuJoCo is at hand, and what it
understands holds.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import mujoco
import numpy as np

from cmg_ref.core.shorten import listed, reason, shortened
from cmg_ref.files.input_file import check_input_file
from cmg_ref.files.xml_file import read_xml
from envs.mujoco_gym.assets.link_tree import AssetError, Joint, Link, Shape

_FOLDERS = ("assetdir", "meshdir", "texturedir")
_MAX_ELEMENTS = 1e7
"""Points of a height field, a texture or a grid."""
_MAX_COPIES = 1e4
_KINDS = {
    mujoco.mjtGeom.mjGEOM_SPHERE: ("sphere", 1),
    mujoco.mjtGeom.mjGEOM_CAPSULE: ("capsule", 2),
    mujoco.mjtGeom.mjGEOM_CYLINDER: ("cylinder", 2),
    mujoco.mjtGeom.mjGEOM_BOX: ("box", 3),
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: ("ellipsoid", 3),
    mujoco.mjtGeom.mjGEOM_MESH: ("mesh", 0),
}


def read_mjcf_links(path: Path) -> tuple[Link, bool, list[tuple[str, str]]]:
    """Read the robot of an MJCF file.

    Args:
        path: MJCF file with one robot; its floor, lights, sensors and actuators are ignored.

    Returns:
        The root link, whether it floats, and the pairs of bodies that the file excludes from colliding.

    Raises:
        AssetError: If the file cannot be compiled or holds something that Isaac Gym's tensors have no place for.
    """
    _check_document(path, path.parent, set())
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        # Welded bodies have to stay: whether they are merged is for the asset options to say.
        spec.compiler.fusestatic = False
        model = spec.compile()
    except (ValueError, OSError) as error:
        raise AssetError(f"{path}: MuJoCo cannot load it: {reason(error)}") from error
    root, floating = _find_root(model, path)
    links: dict[int, Link] = {}
    for index in range(root, model.nbody):
        if model.body_rootid[index] != root:
            continue
        link = _read_link(model, index, path)
        links[index] = link
        if index != root:
            links[int(model.body_parentid[index])].children.append(link)
    base = links[root]
    if base.joints:
        raise AssetError(
            f"{path}: the outermost body {shortened(base.name)} has joints; put it into one that is fixed to the world"
        )
    # Where the robot stands is for the actor to say.
    base.pos, base.rot = np.zeros(3), np.eye(3)
    # A signature of MuJoCo: the first body's index in the upper 16 bits, the second's in the lower.
    excluded = [(int(signature) >> 16, int(signature) & 0xFFFF) for signature in model.exclude_signature]
    pairs = [(links[first].name, links[second].name) for first, second in excluded if {first, second} <= links.keys()]
    return base, floating, pairs


def _check_document(path: Path, folder: Path, seen: set[str]) -> None:
    """Refuse what MuJoCo would allocate or follow without a limit, in a file and those that it includes."""
    seen.add(os.path.realpath(path))
    root = read_xml(path, AssetError)
    copies = 1.0
    for element in root.iter():
        sizes = [_count(element.get(name, "1")) for name in ("count", "nrow", "ncol", "width", "height")]
        if element.tag == "size":
            sizes = [max(map(_count, element.attrib.values()), default=1.0)]
        product = math.prod(sizes)
        if element.tag == "replicate":  # They may lie inside one another.
            copies *= product
        if product > _MAX_ELEMENTS or copies > _MAX_COPIES:
            raise AssetError(f"{path}: <{shortened(element.tag)[1:-1]}> asks for more than any robot needs")
        if "file" not in element.attrib:
            continue
        folders = {compiler.get(name, "") for compiler in root.iter("compiler") for name in _FOLDERS}
        for inner in {"", *folders}:
            place = folder / inner / element.attrib["file"]
            if os.path.realpath(place) in seen or not os.path.exists(place):
                continue
            check_input_file(place, AssetError)
            if element.tag == "include":
                _check_document(place, folder, seen)


def _count(text: str) -> float:
    """The product of the whole numbers in an attribute; 1 for anything else."""
    words = text.split()
    return math.prod(float(word) for word in words) if words and all(word.isdigit() for word in words) else 1.0


def _find_root(model: mujoco.MjModel, path: Path) -> tuple[int, bool]:
    tops = [
        index for index in range(1, model.nbody) if model.body_parentid[index] == 0 and model.body_mocapid[index] < 0
    ]
    floating = [index for index in tops if _has_free_joint(model, index)]
    candidates = floating or tops
    if len(candidates) != 1:
        names = listed(model.body(index).name for index in candidates) or "none"
        raise AssetError(f"{path}: <worldbody> must hold one robot, found {names}")
    return candidates[0], bool(floating)


def _has_free_joint(model: mujoco.MjModel, body: int) -> bool:
    address = model.body_jntadr[body]
    return bool(address >= 0 and model.jnt_type[address] == mujoco.mjtJoint.mjJNT_FREE)


def _read_link(model: mujoco.MjModel, index: int, path: Path) -> Link:
    name = model.body(index).name
    if not name:
        parent = shortened(model.body(model.body_parentid[index]).name)
        raise AssetError(f"{path}: a <body> inside {parent} has no name")
    principal_axes = _matrix(model.body_iquat[index])
    link = Link(
        name,
        pos=model.body_pos[index].copy(),
        rot=_matrix(model.body_quat[index]),
        mass=float(model.body_mass[index]),
        com=model.body_ipos[index].copy(),
        inertia=principal_axes @ np.diag(model.body_inertia[index]) @ principal_axes.T,
    )
    first_joint = model.body_jntadr[index]
    for joint in range(first_joint, first_joint + model.body_jntnum[index]):
        if model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_FREE:
            link.joints.append(_read_joint(model, joint, path))
    link.joint_name = link.joints[0].name if link.joints else name
    first_geom = model.body_geomadr[index]
    for geom in range(first_geom, first_geom + model.body_geomnum[index]):
        if model.geom_contype[geom] or model.geom_conaffinity[geom]:
            link.shapes.append(_read_shape(model, geom, name, path))
    return link


def _read_joint(model: mujoco.MjModel, index: int, path: Path) -> Joint:
    kinds = {mujoco.mjtJoint.mjJNT_HINGE: "hinge", mujoco.mjtJoint.mjJNT_SLIDE: "slide"}
    name = model.joint(index).name
    kind = kinds.get(mujoco.mjtJoint(model.jnt_type[index]))
    if not name or kind is None:
        problem = "has no name" if not name else "is neither a hinge nor a slide"
        body = shortened(model.body(model.jnt_bodyid[index]).name)
        raise AssetError(f"{path}: <joint name={shortened(name)}> of body {body} {problem}")
    dof = model.jnt_dofadr[index]
    limited = bool(model.jnt_limited[index])
    lower, upper = model.jnt_range[index].tolist() if limited else (-np.inf, np.inf)
    effort_limited = bool(model.jnt_actfrclimited[index])
    # MJCF has no velocity limit: as in `cmg_ref.robots.robot`, it is the first number the user gave the joint.
    velocity = float(model.jnt_user[index, 0]) if model.nuser_jnt and model.jnt_user[index, 0] > 0.0 else np.inf
    return Joint(
        name,
        kind,
        axis=model.jnt_axis[index].copy(),
        pos=model.jnt_pos[index].copy(),
        lower=lower,
        upper=upper,
        effort=float(np.abs(model.jnt_actfrcrange[index]).max()) if effort_limited else np.inf,
        velocity=velocity,
        stiffness=float(model.jnt_stiffness[index].flat[0]),
        damping=float(model.dof_damping[dof].flat[0]),
        friction=float(model.dof_frictionloss[dof]),
        armature=float(model.dof_armature[dof]),
    )


def _read_shape(model: mujoco.MjModel, index: int, body: str, path: Path) -> Shape:
    known = _KINDS.get(mujoco.mjtGeom(model.geom_type[index]))
    if known is None:
        raise AssetError(f"{path}: a colliding <geom> of body {shortened(body)} is of a type that no robot has")
    kind, num_sizes = known
    vertices = None
    if kind == "mesh":
        mesh = model.geom_dataid[index]
        first = model.mesh_vertadr[mesh]
        vertices = model.mesh_vert[first : first + model.mesh_vertnum[mesh]].astype(np.float64)
    return Shape(
        kind,
        size=model.geom_size[index, :num_sizes].copy(),
        pos=model.geom_pos[index].copy(),
        rot=_matrix(model.geom_quat[index]),
        vertices=vertices,
        friction=float(model.geom_friction[index, 0]),
        condim=int(model.geom_condim[index]),
    )


def _matrix(quat_wxyz: np.ndarray) -> np.ndarray:
    """Rotation matrix of a MuJoCo quaternion, (3, 3)."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quat_wxyz)
    return matrix.reshape(3, 3)
