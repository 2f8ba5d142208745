"""Domain randomisation: what differs between environments, drawn once when they are created."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class DomainRandomisation:
    """Properties of every environment's robot.

    Args:
        cfg: The section `domain_rand` of the configuration.
        num_envs: Number of environments.
        num_bodies: Bodies of the robot.
        num_dof: Joints of the robot.
        control_dt: Time of a control step in seconds, which delays cannot exceed.
        generator: Random numbers, on the CPU.

    Attributes:
        friction: Friction coefficient of the robot's surface, (num_envs,); None to leave it as the asset has it.
        restitution: Restitution of the robot's surface, (num_envs,); None to leave it.
        added_mass: Mass added to the base in kg, (num_envs,).
        link_mass_scale: Factor on the mass of each body, (num_envs, num_bodies).
        com_displacement: Displacement of the base's centre of mass in metres, (num_envs, 3).
        stiffness_scale: Factor on the stiffness of each joint, (num_envs, num_dof).
        damping_scale: Factor on the damping of each joint, (num_envs, num_dof).
        delay: Time from an action to the motors in seconds, (num_envs, 1).

    Raises:
        ValueError: If a range is upside down, or delays exceed a control step.
    """

    def __init__(
        self, cfg: Any, num_envs: int, num_bodies: int, num_dof: int, control_dt: float, generator: torch.Generator
    ) -> None:
        for name in (name for name in dir(cfg) if name.endswith("_range")):
            low, high = getattr(cfg, name)
            if low > high:
                raise ValueError(f"domain_rand.{name}: {low} is above {high}")
        if cfg.delay_range[0] < 0.0 or cfg.delay_range[1] > control_dt:
            raise ValueError(f"domain_rand.delay_range must lie within a control step, 0 to {control_dt} s")

        def draw(wanted: bool, limits: tuple[float, float], neutral: float, *shape: int) -> Tensor:
            # Numbers are drawn also where they are not wanted, so that switching one off leaves the others as they are.
            values = limits[0] + (limits[1] - limits[0]) * torch.rand(num_envs, *shape, generator=generator)
            return values if wanted else torch.full_like(values, neutral)

        friction = draw(True, cfg.friction_range, 0.0)
        restitution = draw(True, cfg.restitution_range, 0.0)
        self.friction = friction if cfg.randomize_friction else None
        self.restitution = restitution if cfg.randomize_restitution else None
        self.added_mass = draw(cfg.randomize_base_mass, cfg.added_mass_range, 0.0)
        self.link_mass_scale = draw(cfg.randomize_link_mass, cfg.link_mass_scale_range, 1.0, num_bodies)
        self.com_displacement = draw(cfg.randomize_com, cfg.com_displacement_range, 0.0, 3)
        self.stiffness_scale = draw(cfg.randomize_gains, cfg.stiffness_scale_range, 1.0, num_dof)
        self.damping_scale = draw(cfg.randomize_gains, cfg.damping_scale_range, 1.0, num_dof)
        self.delay = draw(cfg.randomize_delay, cfg.delay_range, 0.0, 1)

    @property
    def changes_bodies(self) -> bool:
        """Whether any body's mass or centre of mass differs from the asset's."""
        return bool(
            (self.added_mass != 0.0).any()
            or (self.link_mass_scale != 1.0).any()
            or (self.com_displacement != 0.0).any()
        )

    def shape_properties(self, properties: list[Any], env_id: int) -> list[Any]:
        """Surfaces of an environment's robot, from the asset's `RigidShapeProperties`, changed in place."""
        for shape in properties:
            if self.friction is not None:
                shape.friction = float(self.friction[env_id])
            if self.restitution is not None:
                shape.restitution = float(self.restitution[env_id])
        return properties

    def body_properties(self, properties: list[Any], env_id: int, base: int) -> list[Any]:
        """Bodies of an environment's robot, from its `RigidBodyProperties`, changed in place; `base` is an index."""
        for body, scale in zip(properties, self.link_mass_scale[env_id].tolist()):
            body.mass = body.mass * scale
        properties[base].mass = properties[base].mass + float(self.added_mass[env_id])
        displacement = self.com_displacement[env_id].tolist()
        properties[base].com.x += displacement[0]
        properties[base].com.y += displacement[1]
        properties[base].com.z += displacement[2]
        return properties
