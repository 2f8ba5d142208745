"""The robot: names, tree, limits, masses, mirroring, feet and key bodies, from its MJCF file and its description."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmg_ref.robots.kinematic_tree import KinematicTree
from cmg_ref.robots.mjcf import MjcfBody, MjcfJoint, MjcfModel, read_mjcf
from cmg_ref.robots.registry import robot_spec
from cmg_ref.robots.spec import RobotError, RobotSpec

__all__ = ["Robot", "RobotError", "RobotSpec", "load_g1", "load_robot", "read_robot"]

_STANDING_KEYFRAMES = ("stand", "home")
_SOLE_THICKNESS = 0.01
_MAX_FOOT = 10.0  # [m]


@dataclass(frozen=True, eq=False)
class Robot(KinematicTree):
    """A legged robot. Float tensors are float64 on the CPU; `to` gives a copy elsewhere.

    Joints stand in the order of the file, which is Unitree's own for the G1.

    Attributes:
        spec: What is known of it beside the file.
        body_mass: Masses in kg, (num_bodies,); 0 where the file gives none.
        body_com: Centre of mass in the body's frame in metres, (num_bodies, 3).
        body_inertia: Principal moments of inertia in kg m^2, (num_bodies, 3).
        body_iquat: Orientation of the principal axes, quaternion xyzw, (num_bodies, 4).
        effort_limit: Torque limits in N m, (num_joints,); infinity where the file gives none.
        velocity_limit: Velocity limits in rad/s, (num_joints,), the joints' first `user` number; infinity without.
        armature: Reflected rotor inertias in kg m^2, (num_joints,).
        mirror_index: Joint on the other side of the body, (num_joints,) int64.
        mirror_sign: Sign it takes there: `mirrored = mirror_sign * dof_pos[..., mirror_index]`, (num_joints,).
        key_bodies: Bodies whose positions are compared or observed.
        foot_bodies: Left and right foot.
        foot_points: Contact spheres of each foot, in the foot's frame in metres, (2, 4, 3), in the order
            heel left, heel right, toe left, toe right.
        foot_radius: Radius of those spheres in metres.
        default_dof_pos: Standing pose in rad, (num_joints,).
    """

    spec: RobotSpec
    body_mass: Tensor
    body_com: Tensor
    body_inertia: Tensor
    body_iquat: Tensor
    effort_limit: Tensor
    velocity_limit: Tensor
    armature: Tensor
    mirror_index: Tensor
    mirror_sign: Tensor
    key_bodies: tuple[str, ...]
    foot_bodies: tuple[str, str]
    foot_points: Tensor
    foot_radius: float
    default_dof_pos: Tensor

    def mirrored(self, joint_values: Tensor) -> Tensor:
        """Joint positions or velocities of the motion seen in a mirror, (..., num_joints)."""
        sign = self.mirror_sign.to(device=joint_values.device, dtype=joint_values.dtype)
        return sign * joint_values[..., self.mirror_index.to(joint_values.device)]

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Robot:
        """Copy with every tensor on another device and every float tensor of another type."""
        moved: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                moved[item.name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
        return replace(self, **moved)

    @classmethod
    def from_mjcf(cls, path: str | Path, spec: RobotSpec) -> Robot:
        """Read a robot from an MJCF file: its description's own, or another of the same robot, such as mjlab's G1.

        Args:
            path: MJCF file with the feet of the description, whose soles are spheres, capsules or boxes.
            spec: The description; bodies beside the feet may be missing.

        Raises:
            RobotError: If the file cannot be used; the message names the file and the element.
        """
        model = read_mjcf(path)
        bodies, joints = model.bodies, model.joints
        if not joints:
            raise RobotError(f"{path}: <worldbody> holds a robot without joints")
        body_names = tuple(body.name for body in bodies)
        for name in spec.foot_bodies:
            if name not in body_names:
                raise RobotError(f"{path}: <body name='{name}'>, a foot, is missing")
        feet = [bodies[body_names.index(name)] for name in spec.foot_bodies]
        soles = torch.stack([_sole_corners(foot, path) for foot in feet])  # (2, 4, 3)
        foot_radius = feet[0].collision_spheres[0][1]
        mirror_index, mirror_sign = _mirror_map(joints, spec, path)
        return cls(
            name=model.name,
            spec=spec,
            body_names=body_names,
            body_parents=tuple(body.parent for body in bodies),
            body_pos=torch.stack([body.pos for body in bodies]),
            body_quat=torch.stack([body.quat_xyzw for body in bodies]),
            body_mass=_vector([body.mass for body in bodies]),
            body_com=torch.stack([body.com for body in bodies]),
            body_inertia=torch.stack([body.inertia for body in bodies]),
            body_iquat=torch.stack([body.inertia_quat_xyzw for body in bodies]),
            joint_names=tuple(joint.name for joint in joints),
            joint_bodies=tuple(joint.body for joint in joints),
            joint_axes=torch.stack([joint.axis for joint in joints]),
            joint_lower=_vector([joint.lower for joint in joints]),
            joint_upper=_vector([joint.upper for joint in joints]),
            effort_limit=_vector([joint.effort_limit for joint in joints]),
            velocity_limit=_vector([joint.velocity_limit for joint in joints]),
            armature=_vector([joint.armature for joint in joints]),
            mirror_index=mirror_index,
            mirror_sign=mirror_sign,
            key_bodies=tuple(name for name in spec.key_bodies or spec.foot_bodies if name in body_names),
            foot_bodies=spec.foot_bodies,
            # One radius for all: a sphere of another one is replaced by one that ends at the same height.
            foot_points=soles + soles.new_tensor([0.0, 0.0, foot_radius]),
            foot_radius=foot_radius,
            default_dof_pos=_standing_pose(model, spec, path),
        )


def load_robot(name: str | Path) -> Robot:
    """A robot by its name, or by a path to its description (.json); treat its tensors as read-only.

    Raises:
        RobotError: There is no such robot, or a file of it cannot be used.
    """
    return read_robot(robot_spec(name))


def load_g1() -> Robot:
    """The G1 with 29 joints that ships with the package; treat its tensors as read-only."""
    return load_robot("g1")


@lru_cache(maxsize=16)
def read_robot(spec: RobotSpec) -> Robot:
    """The robot of a description, read once; raises RobotError if a file cannot be used."""
    return Robot.from_mjcf(spec.asset, spec)


def _vector(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _mirror_map(joints: list[MjcfJoint], spec: RobotSpec, path: str | Path) -> tuple[Tensor, Tensor]:
    """Twin of each joint and the sign between them, from the names and the axes."""
    names = [joint.name for joint in joints]
    index, sign = [], []
    for joint in joints:
        twin = spec.mirrored_name(joint.name)
        if twin not in names:
            raise RobotError(f"{path}: <joint name='{joint.name}'> has no twin '{twin}' on the other side")
        index.append(names.index(twin))
        # A turn seen in a mirror across the x-z plane keeps its y component and reverses the others.
        reflected = joint.axis * joint.axis.new_tensor([-1.0, 1.0, -1.0])
        cosine = float(reflected @ joints[index[-1]].axis)
        if abs(cosine) < 0.999:
            raise RobotError(f"{path}: <joint name='{joint.name}'> and '{twin}' do not have mirrored axes")
        sign.append(1.0 if cosine > 0.0 else -1.0)
    return torch.tensor(index, dtype=torch.int64), _vector(sign)


def _sole_corners(foot: MjcfBody, path: str | Path) -> Tensor:
    """Lowest points at the corners of a foot's sole, (4, 3): heel left, heel right, toe left, toe right."""
    problem = f"{path}: <body name='{foot.name}'> needs spheres, capsules or a box at the corners of its sole"
    if len(foot.collision_spheres) < 4:
        raise RobotError(f"{problem}, found {len(foot.collision_spheres)} points")
    points = torch.stack([centre - centre.new_tensor([0.0, 0.0, radius]) for centre, radius in foot.collision_spheres])
    if not bool((points.abs() < _MAX_FOOT).all()):
        raise RobotError(f"{problem}, found some more than {_MAX_FOOT:g} m away")
    sole = points[points[:, 2] < points[:, 2].min() + _SOLE_THICKNESS]
    # The corners are the points that reach furthest along the diagonals of the sole's bounding rectangle.
    centre = 0.5 * (sole.amax(dim=0) + sole.amin(dim=0))[:2]
    reach = sole[:, :2] - centre
    reach = reach / reach.abs().amax(dim=0).clamp(min=torch.finfo(reach.dtype).tiny)
    diagonals = reach.new_tensor([[-1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
    corners = (reach @ diagonals.T).argmax(dim=0)
    if len(set(corners.tolist())) < 4:
        raise RobotError(f"{problem}, found fewer than four corners")
    return sole[corners]


def _standing_pose(model: MjcfModel, spec: RobotSpec, path: str | Path) -> Tensor:
    """Joints of the keyframe "stand" or "home", else the first, else zero; the description may say otherwise."""
    pose = _pose_of_keyframe(model, path).clone()
    for name, angle in spec.standing_pose.items():
        names = [joint.name for joint in model.joints]
        if name not in names:
            raise RobotError(f"{path}: there is no joint '{name}' of the standing pose of the robot {spec.name}")
        pose[names.index(name)] = angle
    return pose


def _pose_of_keyframe(model: MjcfModel, path: str | Path) -> Tensor:
    num_joints = len(model.joints)
    if not model.keyframes:
        lower = _vector([joint.lower for joint in model.joints])
        upper = _vector([joint.upper for joint in model.joints])
        return torch.minimum(torch.maximum(torch.zeros(num_joints, dtype=torch.float64), lower), upper)
    name = next((name for name in _STANDING_KEYFRAMES if name in model.keyframes), next(iter(model.keyframes)))
    qpos = model.keyframes[name]
    if len(qpos) not in (num_joints, num_joints + 7):  # without or with the root's position and quaternion
        raise RobotError(f"{path}: <key name='{name}'> has {len(qpos)} numbers in qpos for {num_joints} joints")
    return qpos[-num_joints:]
