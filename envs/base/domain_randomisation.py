"""Domain randomisation: what differs between environments, drawn once; a curriculum may begin with a share of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from configs.base_config import ConfigError, suggestion


class DomainRandomisation:
    """Properties of every environment's robot.

    Args:
        cfg: The section `domain_rand` of the configuration.
        num_envs: Number of environments.
        body_names: Bodies of the robot.
        num_dof: Joints of the robot.
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
        payload: Mass added to each body in kg, (num_envs, num_bodies).
        strength: Factor on the torques of all joints, (num_envs, 1).
        ang_vel_bias: What the measured angular velocity is off by in rad/s, (num_envs, 3).
        gravity_bias: What the measured direction of gravity is off by, (num_envs, 3).
        undisturbed: Environments without pushes and punches, (num_envs,) bool.

    Raises:
        ConfigError: If there is no body that is to carry something.
        ValueError: If a range is upside down, or a delay is negative.
    """

    def __init__(
        self, cfg: Any, num_envs: int, body_names: list[str], num_dof: int, generator: torch.Generator
    ) -> None:
        for name in (name for name in dir(cfg) if name.endswith("_range")):
            low, high = getattr(cfg, name)
            if low > high:
                raise ValueError(f"domain_rand.{name}: {low} is above {high}")
        if cfg.delay_range[0] < 0.0:
            raise ValueError(f"domain_rand.delay_range: a delay cannot be negative, got {cfg.delay_range[0]} s")
        num_bodies = len(body_names)

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
            "strength": draw(cfg.randomize_strength, cfg.strength_range, 1.0, 1),
            "ang_vel_bias": draw(cfg.randomize_imu, (-cfg.max_ang_vel_bias, cfg.max_ang_vel_bias), 0.0, 3),
            "gravity_bias": draw(cfg.randomize_imu, (-cfg.max_gravity_bias, cfg.max_gravity_bias), 0.0, 3),
            "payload": (torch.zeros(num_envs, num_bodies), 0.0),
        }
        for name, limits in cfg.payloads.items():
            if name not in body_names:
                raise ConfigError(f"domain_rand.payloads: no body '{name}'{suggestion(name, body_names)}")
            self._drawn["payload"][0][:, body_names.index(name)] = draw(True, limits, 0.0)[0]
        self.undisturbed = torch.rand(num_envs, generator=generator) < cfg.undisturbed_share
        mild = torch.rand(num_envs, generator=generator) < cfg.mild_share
        for drawn, neutral in self._drawn.values():
            drawn[mild] = neutral + cfg.mild_level * (drawn[mild] - neutral)
        self._cfg = cfg
        self.set_level(1.0)

    @property
    def changes_bodies(self) -> bool:
        """Whether any body's mass or centre of mass ever differs from the asset's."""
        bodies = ("added_mass", "link_mass_scale", "com_displacement", "payload")
        return any(bool((drawn != neutral).any()) for drawn, neutral in (self._drawn[name] for name in bodies))

    def drawn(self, name: str) -> Tensor:
        """A copy of what was drawn for all environments under a name of the attributes above, at level 1."""
        return self._drawn[name][0].clone()

    def replace(self, env_ids: Tensor, values: dict[str, Tensor]) -> None:
        """Put others, by the names of the attributes above, in the place of what was drawn for environments (n,)."""
        for name, value in values.items():
            self._drawn[name][0][env_ids] = value
        self.set_level(self.level)

    def set_level(self, level: float) -> None:
        """Go a share of the way, 0 to 1, from what a robot is without randomisation to what was drawn for it."""
        values = {name: neutral + level * (drawn - neutral) for name, (drawn, neutral) in self._drawn.items()}
        self.level = level
        self.friction = values["friction"] if self._cfg.randomize_friction else None
        self.restitution = values["restitution"] if self._cfg.randomize_restitution else None
        self.added_mass, self.link_mass_scale = values["added_mass"], values["link_mass_scale"]
        self.com_displacement, self.delay = values["com_displacement"], values["delay"]
        self.stiffness_scale, self.damping_scale = values["stiffness_scale"], values["damping_scale"]
        self.payload, self.strength = values["payload"], values["strength"]
        self.ang_vel_bias, self.gravity_bias = values["ang_vel_bias"], values["gravity_bias"]

    def differences(self, device: str | torch.device) -> dict[str, Tensor]:
        """What a critic may know of the robots, (num_envs, size) each on a device, at the present level.

        `friction` is zero where it is left as the asset has it, `payload` is what base and links carry together in kg,
        and `undisturbed` is 0 or 1.
        """
        friction = torch.zeros_like(self.added_mass) if self.friction is None else self.friction
        known = {
            "friction": friction.unsqueeze(1),
            "payload": (self.added_mass + self.payload.sum(dim=1)).unsqueeze(1),
            "strength": self.strength,
            "ang_vel_bias": self.ang_vel_bias,
            "gravity_bias": self.gravity_bias,
            "undisturbed": self.undisturbed.float().unsqueeze(1),
        }
        return {name: values.to(device) for name, values in known.items()}

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
        scales, payloads = self.link_mass_scale[env_id].tolist(), self.payload[env_id].tolist()
        for body, original, scale, payload in zip(properties, nominal, scales, payloads):
            body.mass = original.mass * scale + payload
        properties[base].mass = properties[base].mass + float(self.added_mass[env_id])
        for axis, displacement in zip("xyz", self.com_displacement[env_id].tolist()):
            setattr(properties[base].com, axis, getattr(nominal[base].com, axis) + displacement)
        return properties
