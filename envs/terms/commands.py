"""Commands of an environment: what gives them, and the tensor in which users read and write them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg, CommandSmoother, ranges_of
from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.reference_motion_term import ReferenceMotionTermCfg
from cmg_ref.trajectories.argument_checks import checked_tensor
from cmg_ref.trajectories.pool import TrajectoryPoolCfg


def command_sampler_cfg(section: Any) -> CommandSamplerCfg:
    """What a section `commands` of a configuration says about the draws."""
    return CommandSamplerCfg.over(
        ranges_of(section.ranges),
        strata=dict(section.strata) or None,
        failure_weight=section.failure_weight,
        resampling_time=tuple(section.resampling_time),
        curriculum_start=0.0,
        further_share=section.further_share,
        further_speed=section.further_speed,
    )


def configured_layout(section: Any) -> CommandLayout:
    """Channels of a command by a section `commands` of a configuration: the velocity, and those with further ranges."""
    return CommandLayout.of_names(list(section.ranges.further))


def reference_term_cfg(cfg: Any) -> ReferenceMotionTermCfg:
    """The reference that a configuration with a section `reference` asks for, for any number of environments."""
    reference = cfg.reference
    return ReferenceMotionTermCfg(
        checkpoint=reference.checkpoint,
        # Trajectories of a pool are under way already, so whoever begins from standing goes on by himself.
        mode=reference.mode if reference.start == "random" else "realtime",
        pool=TrajectoryPoolCfg(num_trajectories=reference.num_trajectories),
        future_joint_steps=tuple(sorted({reference.actor_future_step, *reference.critic_future_steps})),
        command_sampler=command_sampler_cfg(cfg.commands),
        ramp_time=cfg.commands.ramp_time,
        acceleration=cfg.commands.acceleration,
        standing_starts=reference.standing_starts,
    )


class CommandSource:
    """Gives every robot a command, and hears which of them fail.

    The channels of a command are those of the environment, vx, vy [m/s] and yaw rate [rad/s] first.

    Attributes:
        sampler: Draws the commands.
    """

    sampler: CommandSampler

    @property
    def commands(self) -> Tensor:
        """Commands in force, (num_envs, command_dim); later steps leave the tensor alone."""
        raise NotImplementedError

    @property
    def targets(self) -> Tensor:
        """Commands that those in force ramp to, (num_envs, command_dim)."""
        raise NotImplementedError

    def reset(self, env_ids: Tensor) -> None:
        """Draw commands for environments (n,) that begin an episode."""
        raise NotImplementedError

    def step(self) -> None:
        """Let a control step pass."""
        raise NotImplementedError

    def approach(self, commands: Tensor, env_ids: Tensor) -> None:
        """Let environments (n,) approach commands (n, command_dim) until their next reset."""
        raise NotImplementedError

    def report_failures(self, env_ids: Tensor) -> None:
        """Learn in which environments (n,) commands have just failed."""
        raise NotImplementedError

    def report_successes(self) -> None:
        """Learn that every robot has got through another second of its command."""
        raise NotImplementedError


class SampledCommands(CommandSource):
    """Commands that are drawn, and ramped from one to the next.

    Args:
        num_envs: Number of environments.
        cfg: What to draw from.
        ramp_time: Time in which a command passes linearly to the next in seconds, or more if that is far off.
        dt: Time of a control step in seconds.
        device: Device of the commands.
        seed: Seed of the draws.
        layout: Channels of a command.
        acceleration: What vx, vy [m/s^2] and yaw rate [rad/s^2] change by at most meanwhile.
    """

    def __init__(
        self,
        num_envs: int,
        cfg: CommandSamplerCfg,
        ramp_time: float,
        dt: float,
        device: str | torch.device,
        seed: int,
        layout: CommandLayout,
        acceleration: tuple[float, float, float],
    ) -> None:
        self.sampler = CommandSampler(num_envs, cfg, dt, device, seed, layout)
        self._smoother = CommandSmoother(num_envs, round(ramp_time / dt), device, layout, dt, acceleration)
        self._commands = layout.rest(num_envs, device=device)

    @property
    def commands(self) -> Tensor:
        """Commands in force, (num_envs, command_dim)."""
        return self._commands

    @property
    def targets(self) -> Tensor:
        """Commands that those in force ramp to, (num_envs, command_dim)."""
        return self._smoother.target

    def reset(self, env_ids: Tensor) -> None:
        """Draw commands for environments (n,), in force at once."""
        self._smoother.reset(self.sampler.reset(env_ids), env_ids)
        self._commands = self._smoother.value()

    def step(self) -> None:
        """Let a control step pass."""
        targets, changed = self.sampler.step(self._smoother.target)
        self._commands = self._smoother.step()
        rows = changed.nonzero().squeeze(1)
        if len(rows) > 0:
            self._smoother.set_target(targets[rows], rows)

    def approach(self, commands: Tensor, env_ids: Tensor) -> None:
        """Approach commands (n, command_dim) in environments (n,) until their next reset."""
        changed = (commands != self._smoother.target[env_ids]).any(dim=1).nonzero().squeeze(1)
        self._smoother.set_target(commands[changed], env_ids[changed])  # Others are on their way already.
        self.sampler.hold(env_ids)

    def report_failures(self, env_ids: Tensor) -> None:
        """Learn in which environments (n,) commands have just failed."""
        failed = torch.ones(len(env_ids), dtype=torch.bool, device=env_ids.device)
        self.sampler.report(self._smoother.target[env_ids], failed)

    def report_successes(self) -> None:
        """Learn that every robot has got through another second of its command."""
        survived = torch.zeros(len(self._smoother.target), dtype=torch.bool, device=self._smoother.target.device)
        self.sampler.report(self._smoother.target, survived)


class CommandBuffer:
    """The commands in force in one tensor, which users may write into.

    Args:
        num_envs: Number of environments.
        layout: Channels of a command.
        device: Device of the commands.

    Attributes:
        values: Commands in force, (num_envs, command_dim); the same tensor always.
    """

    def __init__(self, num_envs: int, layout: CommandLayout, device: str | torch.device) -> None:
        self.values = layout.rest(num_envs, device=device)
        self.show(self.values.clone())

    def show(self, commands: Tensor) -> None:
        """Put commands in force (num_envs, command_dim), which nobody changes, into `values`."""
        self._shown = commands
        self.values.copy_(commands)
        # Torch counts the changes of a tensor and of its views, so that whether there were any costs no comparison.
        self._version = self.values._version

    def take_written(self, targets: Tensor) -> tuple[Tensor, Tensor] | None:
        """What users have written since the last call, after which `values` is what was shown again.

        Args:
            targets: Commands being approached, (num_envs, command_dim): numbers that are not written to keep theirs.

        Returns:
            Commands (n, command_dim) and their environments (n,); None if nothing was written.

        Raises:
            ValueError: If a number is not finite; nothing is taken then.
        """
        if self.values._version == self._version:
            return None
        written = checked_tensor(self.values, tuple(self.values.shape), "commands", self.values.device).clone()
        changed = written != self._shown
        wanted = torch.where(changed, written, targets)
        self.show(self._shown)
        rows = changed.any(dim=1).nonzero().squeeze(1)
        return (wanted[rows], rows) if len(rows) > 0 else None
