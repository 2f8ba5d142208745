"""The robot of one environment before and while it is simulated, and how its properties become fields of a model."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from envs.mujoco_gym.assets.asset import Asset
from envs.mujoco_gym.engine.scene import friction_of_contact, num_root_coordinates
from envs.mujoco_gym.types.parameters import (
    DofDriveMode,
    Mat33,
    RigidBodyProperties,
    RigidShapeProperties,
    Transform,
    Vec3,
)

__all__ = ["Actor", "model_fields"]

_LARGEST_FORCE = 1.0e9  # [N, N m] stands for no limit


class Actor:
    """A robot in its environment.

    Attributes:
        asset: What it is made from.
        robot: The robot's own compiled model.
        start_pose: Where it starts in the world.
        self_collision: Whether its bodies may touch each other.
        dof_properties: Limits, drive mode, gains, armature and friction, (num_dof,) structured.
        shape_properties: Surface of each collision shape.
        body_mass: Masses [kg], (num_bodies,).
        body_com: Centres of mass in the bodies' frames [m], (num_bodies, 3).
        body_inertia: Principal moments of inertia [kg m^2], (num_bodies, 3).
    """

    def __init__(self, asset: Asset, robot: mujoco.MjModel, start_pose: Transform, self_collision: bool) -> None:
        self.asset = asset
        self.robot = robot
        self.start_pose = start_pose
        self.self_collision = self_collision
        self.dof_properties = asset.dof_properties.copy()
        self.shape_properties = _copies(asset.rigid_shape_properties)
        self.body_mass = robot.body_mass[1:].copy()
        self.body_com = robot.body_ipos[1:].copy()
        self.body_inertia = robot.body_inertia[1:].copy()

    @property
    def has_position_drives(self) -> bool:
        """Whether a degree of freedom is driven to a target position."""
        return bool((self.dof_properties["driveMode"] == DofDriveMode.DOF_MODE_POS).any())

    def set_dof_properties(self, properties: np.ndarray) -> None:
        """Replace the properties of all degrees of freedom.

        Raises:
            ValueError: If there are too many or too few, or one is to be driven to a target velocity.
        """
        if properties.shape != self.dof_properties.shape:
            raise ValueError(f"got {properties.shape[0]} DoF properties for {self.dof_properties.shape[0]} DoFs")
        for name, mode in zip(self.asset.dof_names, properties["driveMode"], strict=True):
            if mode == DofDriveMode.DOF_MODE_VEL:
                raise ValueError(f"DoF '{name}': DOF_MODE_VEL is not supported; use DOF_MODE_POS or DOF_MODE_EFFORT")
        self.dof_properties = properties.copy()

    def set_shape_properties(self, properties: Sequence[RigidShapeProperties]) -> None:
        """Replace the surfaces of all collision shapes.

        Raises:
            ValueError: If there are too many or too few.
        """
        if len(properties) != len(self.shape_properties):
            raise ValueError(f"got {len(properties)} shape properties for {len(self.shape_properties)} shapes")
        self.shape_properties = _copies(properties)

    def get_shape_properties(self) -> list[RigidShapeProperties]:
        """Surface of every collision shape; editing them changes nothing until they are set."""
        return _copies(self.shape_properties)

    def get_body_properties(self) -> list[RigidBodyProperties]:
        """Mass, centre of mass and inertia of every body; editing them changes nothing until they are set."""
        properties = []
        for index in range(len(self.body_mass)):
            axes = np.zeros(9)
            mujoco.mju_quat2Mat(axes, self.robot.body_iquat[index + 1])
            rotation = axes.reshape(3, 3)
            inertia = rotation @ np.diag(self.body_inertia[index]) @ rotation.T
            matrix = Mat33(*(Vec3(*row) for row in inertia))
            properties.append(RigidBodyProperties(self.body_mass[index], Vec3(*self.body_com[index]), matrix))
        return properties

    def set_body_properties(self, properties: Sequence[RigidBodyProperties], recompute_inertia: bool) -> None:
        """Replace masses and centres of mass.

        Args:
            properties: One for each body. Their inertia is not read.
            recompute_inertia: Whether the moments of inertia grow in proportion with the mass.

        Raises:
            ValueError: If there are too many or too few, or a mass is negative.
        """
        if len(properties) != len(self.body_mass):
            raise ValueError(f"got {len(properties)} rigid body properties for {len(self.body_mass)} bodies")
        mass = np.array([body.mass for body in properties])
        for name, value in zip(self.asset.body_names, mass, strict=True):
            if not value >= 0.0:
                raise ValueError(f"body '{name}' cannot have a mass of {value} kg")
        if recompute_inertia:
            ratio = np.divide(mass, self.body_mass, out=np.ones_like(mass), where=self.body_mass > 0.0)
            self.body_inertia = self.body_inertia * ratio[:, None]
        self.body_mass = mass
        self.body_com = np.array([list(body.com) for body in properties])


def model_fields(model: mujoco.MjModel, actors: Sequence[Actor], ground_friction: float) -> dict[str, np.ndarray]:
    """Fields of MuJoCo's model that follow from the properties of actors, each (num_actors, ...).

    Args:
        model: The compiled scene, whose values the entries keep that belong to no actor.
        actors: Actors of one asset.
        ground_friction: Coefficient of friction of the ground.
    """
    asset = actors[0].asset
    _, num_velocities = num_root_coordinates(asset)
    dof = np.stack([actor.dof_properties for actor in actors])  # (n, num_dof)
    joints = slice(model.njnt - len(asset.dof_names), model.njnt)

    def values_of(name: str) -> np.ndarray:
        field = getattr(model, name)
        return np.repeat(field[None], len(actors), axis=0)

    names = ["geom_friction", "body_mass", "body_ipos", "body_inertia", "dof_armature", "dof_damping"]
    names += ["dof_frictionloss", "jnt_limited", "jnt_range"]
    fields = {name: values_of(name) for name in names}
    geoms = [model.geom(f"shape_{index}").id for index in range(len(asset.shape_body))]
    friction = np.array([[shape.friction for shape in actor.shape_properties] for actor in actors])
    fields["geom_friction"][:, geoms, 0] = friction_of_contact(friction.reshape(len(actors), -1), ground_friction)
    fields["body_mass"][:, 1:] = [actor.body_mass for actor in actors]
    fields["body_ipos"][:, 1:] = [actor.body_com for actor in actors]
    fields["body_inertia"][:, 1:] = [actor.body_inertia for actor in actors]
    fields["dof_armature"][:, num_velocities:] = dof["armature"]
    fields["dof_damping"][:, num_velocities:] = dof["damping"]
    fields["dof_frictionloss"][:, num_velocities:] = dof["friction"]
    fields["jnt_limited"][:, joints] = dof["hasLimits"] & (dof["lower"] < dof["upper"])
    fields["jnt_range"][:, joints] = np.stack((dof["lower"], dof["upper"]), axis=-1)
    if model.nu:
        stiffness = np.where(dof["driveMode"] == DofDriveMode.DOF_MODE_POS, dof["stiffness"], 0.0)
        effort = np.minimum(dof["effort"], _LARGEST_FORCE)
        fields["actuator_gainprm"] = values_of("actuator_gainprm")
        fields["actuator_gainprm"][:, :, 0] = stiffness
        fields["actuator_biasprm"] = values_of("actuator_biasprm")
        fields["actuator_biasprm"][:, :, 1] = -stiffness
        fields["actuator_forcerange"] = np.stack((-effort, effort), axis=-1).astype(np.float64)
    if asset.fixed_base:
        fields["body_pos"] = values_of("body_pos")
        fields["body_quat"] = values_of("body_quat")
        for index, actor in enumerate(actors):
            rotation = actor.start_pose.r
            fields["body_pos"][index, 1] = list(actor.start_pose.p)
            fields["body_quat"][index, 1] = [rotation.w, rotation.x, rotation.y, rotation.z]
    return fields


def _copies(properties: Sequence[RigidShapeProperties]) -> list[RigidShapeProperties]:
    """Copies whose friction later edits of the originals do not change."""
    return [RigidShapeProperties(shape.friction) for shape in properties]
