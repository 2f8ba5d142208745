"""What disturbs robots while they move: kicks, forces on their links, and joints that somebody else drives.

Kicks and forces are chosen as soon as the ones before are over, so that a critic may know of them: what nobody can
foresee is luck, and no action is to be blamed for it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from configs.base_config import ConfigError, suggestion

MOTIONS = ("walk", "wander", "hold")


class Pushes:
    """Sudden changes of the velocity of bases, in random horizontal directions.

    Args:
        cfg: The section `domain_rand` of the configuration.
        undisturbed: Environments without, (num_envs,) bool.
        dt: Time of a control step in seconds.
        generator: Random numbers, on the device.
    """

    def __init__(self, cfg: Any, undisturbed: Tensor, dt: float, generator: torch.Generator) -> None:
        self._cfg, self._dt, self._generator = cfg, dt, generator
        self._undisturbed = undisturbed.to(generator.device)
        self._steps = torch.zeros(len(undisturbed), dtype=torch.long, device=generator.device)
        self._velocity = torch.zeros(len(undisturbed), 6, device=generator.device)
        if cfg.push_robots:
            self._choose_next(torch.arange(len(undisturbed), device=generator.device))

    def reset(self, env_ids: Tensor) -> None:
        """Let the next push of robots (n,) be an interval ahead."""
        if self._cfg.push_robots:
            self._choose_next(env_ids)

    def step(self) -> tuple[Tensor, Tensor]:
        """Let a control step pass: who is pushed now, (n,), and changes of velocity and angular velocity, (n, 6)."""
        self._steps -= 1
        env_ids = self._due(self._steps <= 0).nonzero().squeeze(1)
        velocity = self._velocity[env_ids]
        if len(env_ids) > 0:
            self._choose_next(env_ids)
        return env_ids, velocity

    def ahead(self) -> tuple[Tensor, Tensor]:
        """Seconds until the next one, (num_envs,), infinite where there is none, and its changes, (num_envs, 6)."""
        return (self._steps * self._dt).masked_fill(~self._due(self._steps > 0), math.inf), self._velocity

    def _due(self, when: Tensor) -> Tensor:
        return when & ~self._undisturbed & self._cfg.push_robots

    def _choose_next(self, env_ids: Tensor) -> None:
        cfg, count = self._cfg, len(env_ids)
        low, high = cfg.push_interval_s
        self._steps[env_ids] = ((low + (high - low) * _rand(self._generator, count)) / self._dt).long()
        angle, speed = (
            2.0 * math.pi * _rand(self._generator, count),
            cfg.max_push_vel_xy * _rand(self._generator, count),
        )
        velocity = torch.stack((speed * torch.cos(angle), speed * torch.sin(angle), torch.zeros_like(speed)), dim=1)
        turn = cfg.max_push_ang_vel * (2.0 * _rand(self._generator, count, 3) - 1.0)
        self._velocity[env_ids] = torch.cat((velocity, turn), dim=1)


class Punches:
    """Short forces on the links of random joints in all directions, and long horizontal pushes on one link.

    Args:
        cfg: The section `domain_rand` of the configuration.
        undisturbed: Environments without, (num_envs,) bool.
        link_shares: How often each body of the robot is hit beside the others, (num_bodies,); never the base.
        long_push_link: Number of the body that takes long pushes.
        dt: Time of a control step in seconds.
        generator: Random numbers, on the device.

    Attributes:
        in_use: Whether any robot is punched.
        hit: Environments on which a force acts in this step, (num_envs,) bool.
        struck: Number of the body it acts on, (num_envs,) int64, -1 for none.
    """

    def __init__(
        self,
        cfg: Any,
        undisturbed: Tensor,
        link_shares: Tensor,
        long_push_link: int,
        dt: float,
        generator: torch.Generator,
    ) -> None:
        device, num_envs = generator.device, len(undisturbed)
        self._cfg, self._dt, self._generator = cfg, dt, generator
        self._link_shares, self._long_push_link = link_shares.to(device), long_push_link
        self._all = torch.arange(num_envs, device=device)
        self._force = torch.zeros(num_envs, 2, device=device)
        self._interval = torch.zeros(num_envs, 2, device=device)
        self._long_share = torch.zeros(num_envs, device=device)
        self.hit = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self.struck = torch.full((num_envs,), -1, device=device)
        self._countdown = torch.zeros(num_envs, dtype=torch.long, device=device)
        self._left = torch.zeros_like(self._countdown)
        # Of the one that acts, or of the next one:
        self._steps = torch.zeros_like(self._countdown)
        self._body = torch.zeros_like(self._countdown)
        self._vector = torch.zeros(num_envs, 3, device=device)
        if cfg.punch_robots:
            punched = (~undisturbed.to(device)).float().unsqueeze(1)
            force = torch.tensor(cfg.punch_force_range, device=device) * punched
            self.choose(self._all, force, cfg.punch_interval_s, cfg.long_push_share)
        else:
            self.in_use = False

    def choose(self, env_ids: Tensor, force: Tensor, interval: tuple[float, float], long_share: float) -> None:
        """Choose how robots are punched from their next reset on.

        Args:
            env_ids: Environments, (n,).
            force: Smallest and largest force of a punch in N, (n, 2); robots where both are 0 are not punched.
            interval: Shortest and longest time between two in seconds.
            long_share: Share of long pushes.
        """
        self._force[env_ids] = force
        self._interval[env_ids] = torch.tensor(interval, device=force.device)
        self._long_share[env_ids] = long_share
        self.in_use = bool(self._force.any())

    def reset(self, env_ids: Tensor) -> None:
        """Let go of robots (n,), whose next punch is an interval ahead."""
        self._left[env_ids] = 0
        self.hit[env_ids] = False
        self.struck[env_ids] = -1
        if self.in_use:
            self._countdown[env_ids] = self._steps_of(self._draw(self._interval[env_ids]))
            self._choose_next(env_ids)

    def step(self, level: float) -> Tensor | None:
        """Forces of a control step in the world in N, (num_envs, num_bodies, 3), by a share of their strength."""
        if level == 0.0 or not self.in_use:
            return None
        self._countdown -= 1
        due = ((self._countdown <= 0) & (self._left == 0) & (self._force[:, 1] > 0.0)).nonzero().squeeze(1)
        if len(due) > 0:
            self._countdown[due] = self._steps_of(self._draw(self._interval[due]))
            self._left[due] = self._steps[due]
        self.hit = self._left > 0
        self.struck = self._body.masked_fill(~self.hit, -1)
        self._left -= self.hit.long()
        forces = torch.zeros(len(self.hit), len(self._link_shares), 3, device=self.hit.device)
        forces[self._all, self._body] = level * self._vector * self.hit.unsqueeze(1)
        over = (self.hit & (self._left == 0)).nonzero().squeeze(1)
        if len(over) > 0:
            self._choose_next(over)
        return forces

    def ahead(self) -> tuple[Tensor, Tensor, Tensor]:
        """What is to come, at its full strength: of the one that acts, or of the next one.

        Returns:
            Seconds until it begins, (num_envs,), infinite where there is none; the rest of its impulse in the world in
            N s, (num_envs, 3); number of its body, (num_envs,) int64.
        """
        acts = self._left > 0
        seconds = (self._countdown.clamp(min=0) * self._dt).masked_fill(acts, 0.0)
        impulse = self._vector * (torch.where(acts, self._left, self._steps) * self._dt).unsqueeze(1)
        return seconds.masked_fill(self._force[:, 1] == 0.0, math.inf), impulse, self._body.clone()

    def _choose_next(self, env_ids: Tensor) -> None:
        cfg, count = self._cfg, len(env_ids)
        long = _rand(self._generator, count) < self._long_share[env_ids]
        limits = torch.tensor((cfg.long_push_time_range, cfg.long_push_force_range), device=long.device)
        of_long = limits[:, 0] + (limits[:, 1] - limits[:, 0]) * _rand(self._generator, count, 2)  # times and forces
        self._steps[env_ids] = self._steps_of(torch.where(long, of_long[:, 0], cfg.punch_time))
        force = torch.where(long, of_long[:, 1], self._draw(self._force[env_ids]))
        # The height of a point of a sphere is uniform.
        height = (2.0 * _rand(self._generator, count) - 1.0).masked_fill(long, 0.0)
        angle, flat = 2.0 * math.pi * _rand(self._generator, count), (1.0 - height.square()).sqrt()
        direction = torch.stack((flat * torch.cos(angle), flat * torch.sin(angle), height), dim=1)
        self._vector[env_ids] = force.unsqueeze(1) * direction
        link = torch.multinomial(self._link_shares, count, replacement=True, generator=self._generator)
        self._body[env_ids] = torch.where(long, self._long_push_link, link)

    def _steps_of(self, seconds: Tensor) -> Tensor:
        """Control steps that last so long, int64."""
        return (seconds / self._dt).round().long()

    def _draw(self, limits: Tensor) -> Tensor:
        """A number between the two of each row, (n,) from (n, 2)."""
        low, high = limits.unbind(dim=1)
        return low + (high - low) * _rand(self._generator, len(limits))


class DrivenJoints:
    """Joints that somebody else drives in some environments: where they go, and how stiff they are.

    Args:
        cfg: The section `driven_joints` of the configuration.
        joint_names: Joints of the robot.
        arms: Parts of the names of those that are driven if the configuration names none.
        home: Standing pose in rad, (num_dof,).
        limits: Lower and upper limits in rad, (num_dof, 2).
        mirror: Joint on the other side of each joint, (num_dof,), and the sign it takes there, (num_dof,).
        num_envs: Number of environments.
        dt: Time of a control step in seconds.
        world_generator: Random numbers that choose environments, on the CPU.
        generator: Random numbers of the motions, on the device.

    Attributes:
        driven: Which joints of which environments are driven, (num_envs, num_dof) bool.
        in_use: Whether any are.
        stiffness_scale: Factor on the stiffness of each joint, (num_envs, num_dof).
        damping_scale: Factor on the damping of each joint, (num_envs, num_dof).

    Raises:
        ConfigError: If there is no such motion, or no such joint.
    """

    def __init__(
        self,
        cfg: Any,
        joint_names: list[str],
        arms: tuple[str, ...],
        home: Tensor,
        limits: Tensor,
        mirror: tuple[Tensor, Tensor],
        num_envs: int,
        dt: float,
        world_generator: torch.Generator,
        generator: torch.Generator,
    ) -> None:
        device = generator.device
        for name in cfg.motions:
            if name not in MOTIONS:
                raise ConfigError(f"driven_joints.motions: no motion '{name}'{suggestion(name, MOTIONS)}")
        self._cfg, self._generator, self._world_generator = cfg, generator, world_generator
        self._mirror_index, self._mirror_sign = mirror
        self._joints = _named(joint_names, cfg.joints or arms, "joints").to(device)
        self._further = _named(joint_names, cfg.further if cfg.further_share > 0.0 else (), "further").to(device)
        self._low, self._high = (
            torch.maximum(limits[:, 0], home - cfg.reach),
            torch.minimum(limits[:, 1], home + cfg.reach),
        )
        self._home = torch.clamp(home, self._low, self._high)
        self._change_steps = max(1, round(cfg.change_time / dt))
        self.driven = torch.zeros(num_envs, len(joint_names), dtype=torch.bool, device=device)
        self.stiffness_scale = torch.ones(num_envs, len(joint_names), device=device)
        self.damping_scale = torch.ones_like(self.stiffness_scale)
        self.in_use = False
        self._motion = torch.full((num_envs,), -1, device=device)
        self._from = home.repeat(num_envs, 1)
        self._to = self._from.clone()
        self._age = torch.zeros(num_envs, dtype=torch.long, device=device)
        if cfg.share > 0.0:
            shares = torch.tensor([float(cfg.motions.get(name, 0.0)) for name in MOTIONS])
            drawn = torch.rand(num_envs, generator=world_generator) < cfg.share
            motions = torch.multinomial(shares, num_envs, replacement=True, generator=world_generator)
            self.choose(torch.arange(num_envs, device=device), torch.where(drawn, motions, -1).to(device))

    def choose(self, env_ids: Tensor, motions: Tensor) -> None:
        """Choose how environments (n,) are driven, by numbers in `MOTIONS`, -1 for not at all, (n,) int64."""
        cfg, device, shape = self._cfg, self.driven.device, (len(env_ids), 1)
        self._motion[env_ids] = motions
        further = torch.rand(shape, generator=self._world_generator).to(device) < cfg.further_share
        chosen = motions.unsqueeze(1) >= 0
        self.driven[env_ids] = chosen & (self._joints | (self._further & further))
        for scale, (low, high) in (
            (self.stiffness_scale, cfg.stiffness_scale_range),
            (self.damping_scale, cfg.damping_scale_range),
        ):
            drawn = low + (high - low) * torch.rand(shape, generator=self._world_generator).to(device)
            scale[env_ids] = torch.where(self.driven[env_ids], drawn, 1.0)
        self.in_use = bool(self.driven.any())

    def reset(self, env_ids: Tensor, dof_pos: Tensor) -> None:
        """Begin motions in environments (n,) at joint angles of theirs (n, num_dof)."""
        if not self.in_use:
            return
        self._from[env_ids], self._age[env_ids] = dof_pos, 0
        shares = torch.rand(dof_pos.shape, generator=self._generator, device=dof_pos.device)
        anywhere = self._low + (self._high - self._low) * shares
        walks = (self._motion[env_ids] == MOTIONS.index("walk")).unsqueeze(1)
        self._to[env_ids] = torch.where(walks, self._home, anywhere)

    def __call__(self, targets: Tensor) -> Tensor:
        """Let a control step pass; joint targets (num_envs, num_dof) with those of the driven joints in their place."""
        if not self.in_use:
            return targets
        env_ids = ((self._age >= self._change_steps) & (self._motion >= 0)).nonzero().squeeze(1)
        if len(env_ids) > 0:
            self._from[env_ids], self._age[env_ids] = self._to[env_ids], 0
            self._to[env_ids] = torch.clamp(self._to[env_ids] + self._steps(env_ids), self._low, self._high)
        self._age += 1
        share = (self._age / self._change_steps).clamp(max=1.0).unsqueeze(1)
        return torch.where(self.driven, torch.lerp(self._from, self._to, share), targets)

    def without(self, values: Tensor) -> Tensor:
        """Numbers of the joints, (num_dof,) or (num_envs, num_dof), zero where these are driven."""
        return values * ~self.driven if self.in_use else values

    def _steps(self, env_ids: Tensor) -> Tensor:
        """Random steps of environments (n,) in rad, (n, num_dof)."""
        shape = (len(env_ids), len(self._home))
        step = self._cfg.step * torch.randn(shape, generator=self._generator, device=self.driven.device)
        # What is its own mirror image, and as large.
        alike = (step + step[:, self._mirror_index] * self._mirror_sign) / math.sqrt(2.0)
        motion = self._motion[env_ids].unsqueeze(1)
        step = torch.where(motion == MOTIONS.index("walk"), alike, step)
        return step.masked_fill(motion == MOTIONS.index("hold"), 0.0)


def _named(joint_names: list[str], parts: tuple[str, ...], field: str) -> Tensor:
    """Which joints have one of these parts in their name, (num_dof,) bool; raises ConfigError if a part fits none."""
    for part in parts:
        if not any(part in name for name in joint_names):
            raise ConfigError(
                f"driven_joints.{field}: no joint has '{part}' in its name; they are {', '.join(joint_names)}"
            )
    return torch.tensor([any(part in name for part in parts) for name in joint_names])


def _rand(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator, device=generator.device)
