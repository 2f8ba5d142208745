"""Domain randomisation: what differs between environments, drawn once; a curriculum may begin with a share of it."""

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
        level: Share of the randomisation in use, 0 to 1.
        friction: Friction coefficient of the robot's surface, (num_envs,); None to leave it as the asset has it.
        restitution: Restitution of the robot's surface, (num_envs,); None to leave it.
        added_mass: Mass added to the base in kg, (num_envs,).
        link_mass_scale: Factor on the mass of each body, (num_envs, num_bodies).
        com_displacement: Displacement of the base's centre of mass in metres, (num_envs, 3).
        stiffness_scale: Factor on the stiffness of each joint, (num_envs, num_dof).
        damping_scale: Factor on the damping of each joint, (num_envs, num_dof).
        delay: Time from an action to the motors in seconds, (num_envs, 1).
        changes_bodies: Whether any body's mass or centre of mass ever differs from the asset's.

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

        def draw(wanted: bool, limits: tuple[float, float], neutral: float, *shape: int) -> tuple[Tensor, float]:
            # Numbers are drawn also where they are not wanted, so that switching one off leaves the others as they are.
            values = limits[0] + (limits[1] - limits[0]) * torch.rand(num_envs, *shape, generator=generator)
            return values if wanted else torch.full_like(values, neutral), neutral

        # Each with the value that it has without randomisation; surfaces are in the middle then.
        self._drawn = {
            "friction": draw(True, cfg.friction_range, sum(cfg.friction_range) / 2.0),
            "restitution": draw(True, cfg.restitution_range, sum(cfg.restitution_range) / 2.0),
            "added_mass": draw(cfg.randomize_base_mass, cfg.added_mass_range, 0.0),
            "link_mass_scale": draw(cfg.randomize_link_mass, cfg.link_mass_scale_range, 1.0, num_bodies),
            "com_displacement": draw(cfg.randomize_com, cfg.com_displacement_range, 0.0, 3),
            "stiffness_scale": draw(cfg.randomize_gains, cfg.stiffness_scale_range, 1.0, num_dof),
            "damping_scale": draw(cfg.randomize_gains, cfg.damping_scale_range, 1.0, num_dof),
            "delay": draw(cfg.randomize_delay, cfg.delay_range, 0.0, 1),
        }
        self._cfg = cfg
        self.set_level(1.0)
        self.changes_bodies = bool(
            (self.added_mass != 0.0).any()
            or (self.link_mass_scale != 1.0).any()
            or (self.com_displacement != 0.0).any()
        )

    def set_level(self, level: float) -> None:
        """Go a share of the way, 0 to 1, from what a robot is without randomisation to what was drawn for it."""
        values = {name: neutral + level * (drawn - neutral) for name, (drawn, neutral) in self._drawn.items()}
        self.level = level
        self.friction = values["friction"] if self._cfg.randomize_friction else None
        self.restitution = values["restitution"] if self._cfg.randomize_restitution else None
        self.added_mass, self.link_mass_scale = values["added_mass"], values["link_mass_scale"]
        self.com_displacement, self.delay = values["com_displacement"], values["delay"]
        self.stiffness_scale, self.damping_scale = values["stiffness_scale"], values["damping_scale"]

    def shape_properties(self, properties: list[Any], env_id: int) -> list[Any]:
        """Surfaces of an environment's robot, from the asset's `RigidShapeProperties`, changed in place."""
        for shape in properties:
            if self.friction is not None:
                shape.friction = float(self.friction[env_id])
            if self.restitution is not None:
                shape.restitution = float(self.restitution[env_id])
        return properties

    def body_properties(self, nominal: list[Any], properties: list[Any], env_id: int, base: int) -> list[Any]:
        """Bodies of an environment's robot.

        Args:
            nominal: The asset's `RigidBodyProperties`.
            properties: The robot's own, changed in place.
            env_id: The environment.
            base: Index of the base.
        """
        scales = self.link_mass_scale[env_id].tolist()
        for body, original, scale in zip(properties, nominal, scales):
            body.mass = original.mass * scale
        properties[base].mass = properties[base].mass + float(self.added_mass[env_id])
        for axis, displacement in zip("xyz", self.com_displacement[env_id].tolist()):
            setattr(properties[base].com, axis, getattr(nominal[base].com, axis) + displacement)
        return properties
