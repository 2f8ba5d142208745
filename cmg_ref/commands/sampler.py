"""Commands over time: linear smoothing, random sampling, presets and curriculum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

import torch

from cmg_ref.commands.strata import CommandStrata, check_shares
from cmg_ref.core.command_layout import NUM_VELOCITIES, CommandLayout, ramp_steps

REPORTS_REMEMBERED = 40.0  # reports per environment after which an earlier one counts half
HELD = 2**60  # steps until the next change of a command that stays

PRESETS: dict[str, tuple[float, float, float]] = {
    "stand": (0.0, 0.0, 0.0),
    "walk": (0.8, 0.0, 0.0),
    "fast_walk": (1.4, 0.0, 0.0),
    "run": (2.5, 0.0, 0.0),
    "backward": (-0.5, 0.0, 0.0),
    "side_left": (0.0, 0.4, 0.0),
    "side_right": (0.0, -0.4, 0.0),
    "turn_left": (0.0, 0.0, 1.0),
    "turn_right": (0.0, 0.0, -1.0),
    "curve_left": (0.6, 0.0, 0.8),
    "curve_right": (0.6, 0.0, -0.8),
}
"""vx, vy [m/s] and yaw rate [rad/s]."""


class CommandSmoother:
    """Takes each environment from its present command to its target along a straight line.

    A command that has far to go takes longer.

    Args:
        num_envs: Number of environments.
        interpolation_steps: Steps from a change of target until it is reached, or more; 0 switches at once.
        device: Device of the commands.
        layout: Channels of a command; those of the velocity by default.
        dt: Time of a step [s].
        acceleration: What vx, vy [m/s^2] and yaw rate [rad/s^2] change by at most; by default
            :data:`cmg_ref.core.command_layout.ACCELERATIONS`.

    Attributes:
        start: Command at the time of the last change, (num_envs, command_dim).
        target: Command being approached, (num_envs, command_dim).
        elapsed: Steps since the last change, (num_envs,).
    """

    def __init__(
        self,
        num_envs: int,
        interpolation_steps: int = 25,
        device: str | torch.device = "cpu",
        layout: CommandLayout | None = None,
        dt: float = 0.02,
        acceleration: Sequence[float] | None = None,
    ) -> None:
        layout = layout or CommandLayout()
        if num_envs < 1 or interpolation_steps < 0:
            raise ValueError(f"CommandSmoother: num_envs={num_envs}, interpolation_steps={interpolation_steps}")
        self.interpolation_steps = interpolation_steps
        self.start = layout.rest(num_envs, device=device)
        self.target = self.start.clone()
        self._largest = layout.largest_changes(dt, device, acceleration)
        self.elapsed = torch.full((num_envs,), interpolation_steps, dtype=torch.long, device=device)

    def value(self, steps_ahead: int | torch.Tensor = 0, env_ids: torch.Tensor | None = None) -> torch.Tensor:
        """Command some steps from now, (num_envs or len(env_ids), command_dim).

        Args:
            steps_ahead: Number of steps, one for all environments or one each.
            env_ids: Environments asked for; all by default.
        """
        start, target, elapsed = self.start, self.target, self.elapsed
        if env_ids is not None:
            start, target, elapsed = start[env_ids], target[env_ids], elapsed[env_ids]
        if self.interpolation_steps == 0:
            return target.clone()
        ramp = ramp_steps(start, target, self.interpolation_steps, self._largest)
        share = ((elapsed + steps_ahead).to(start.dtype) / ramp).clamp(0.0, 1.0).unsqueeze(1)
        return torch.lerp(start, target, share)

    def set_target(
        self, commands: torch.Tensor, env_ids: torch.Tensor | None = None, steps_ahead: int | torch.Tensor = 0
    ) -> None:
        """Approach new commands, starting from the command that is (or in ``steps_ahead`` steps would be) in force.

        Args:
            commands: Targets, (num_envs or len(env_ids), command_dim).
            env_ids: Environments concerned; all by default.
            steps_ahead: Steps from now at which the new ramp begins, one for all or one each.
        """
        start = self.value(steps_ahead, env_ids)
        rows: slice | torch.Tensor = slice(None) if env_ids is None else env_ids
        self.start[rows] = start
        self.target[rows] = commands.to(self.target)
        self.elapsed[rows] = -torch.as_tensor(steps_ahead, dtype=torch.long, device=self.elapsed.device)

    def reset(self, commands: torch.Tensor, env_ids: torch.Tensor | None = None) -> None:
        """Put commands (num_envs or len(env_ids), command_dim) in force at once."""
        rows: slice | torch.Tensor = slice(None) if env_ids is None else env_ids
        self.start[rows] = commands.to(self.start)
        self.target[rows] = self.start[rows]
        self.elapsed[rows] = self.interpolation_steps

    def step(self, steps: int | torch.Tensor = 1) -> torch.Tensor:
        """Let steps pass, one number for all environments or one each, and return the commands in force."""
        self.elapsed.add_(steps)
        return self.value()


@dataclass(frozen=True)
class CommandSamplerCfg:
    """What :class:`CommandSampler` draws from.

    Attributes:
        lin_vel_x, lin_vel_y: Ranges [m/s].
        ang_vel_yaw: Range of the yaw rate [rad/s].

        strata: Shares of the kinds of command in :data:`cmg_ref.commands.strata.STRATA`, such as ``BALANCED_STRATA``;
            None draws uniformly from the ranges.
        failure_weight: With strata, share of the draws that go where commands fail.
        standing_share: Without strata, share of environments told to stand.
        preset_share: Share of environments given one of ``presets``.
        presets: Names out of ``PRESETS``.
        resampling_time: Shortest and longest time between changes [s].
        curriculum_start: Share of the ranges in use at curriculum level 0; level 1 uses all of them.
        curriculum_stages: Promotions it takes from level 0 to level 1; 0 begins at level 1.
        promote_above, demote_below: Success rates beyond which the curriculum moves by a stage.
        further: Ranges of other channels by name, drawn uniformly; those without one stay at rest.
        further_share: Share of the commands that ask for them; of the others they are at rest.
        further_speed: Whoever is asked for them goes no faster ahead than this [m/s]: nobody runs low.
    """

    lin_vel_x: tuple[float, float] = (-0.6, 2.5)
    lin_vel_y: tuple[float, float] = (-0.4, 0.4)
    ang_vel_yaw: tuple[float, float] = (-1.0, 1.0)

    strata: Mapping[str, float] | None = None
    failure_weight: float = 0.5
    standing_share: float = 0.1
    preset_share: float = 0.0
    presets: tuple[str, ...] = tuple(PRESETS)
    resampling_time: tuple[float, float] = (2.0, 6.0)
    curriculum_start: float = 1.0
    curriculum_stages: int = 0
    promote_above: float = 0.9
    demote_below: float = 0.5
    further: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    further_share: float = 0.5
    further_speed: float = 1.0

    @classmethod
    def over(cls, ranges: Mapping[str, tuple[float, float]], **settings: Any) -> CommandSamplerCfg:
        """Settings with the ranges of channels by name, and others as they are given."""
        own = dict(ranges)
        velocity: dict[str, Any] = {name: own.pop(name) for name in CommandLayout().names if name in own}
        return cls(**velocity, further=own, **settings)

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """Ranges of vx, vy [m/s] and yaw rate [rad/s]."""
        return self.lin_vel_x, self.lin_vel_y, self.ang_vel_yaw

    def validate(self) -> None:
        """Raise a ValueError that names the first impossible field."""
        velocity = zip(CommandLayout().names, self.ranges)
        for name, (low, high) in (*velocity, *self.further.items(), ("resampling_time", self.resampling_time)):
            if not low <= high:
                raise ValueError(f"CommandSamplerCfg.{name}: {low} is above {high}")
        if self.resampling_time[0] <= 0.0:
            raise ValueError(f"CommandSamplerCfg.resampling_time must be positive, got {self.resampling_time}")
        if min(self.standing_share, self.preset_share) < 0.0 or self.standing_share + self.preset_share > 1.0:
            raise ValueError("CommandSamplerCfg: standing_share and preset_share must be shares of 1 together")
        for name in ("curriculum_start", "failure_weight", "promote_above", "demote_below", "further_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"CommandSamplerCfg.{name} must be in [0, 1], got {getattr(self, name)}")
        if not self.further_speed >= 0.0:
            raise ValueError(f"CommandSamplerCfg.further_speed must not be negative, got {self.further_speed}")
        if self.demote_below > self.promote_above:
            raise ValueError(
                f"CommandSamplerCfg.demote_below ({self.demote_below}) is above promote_above ({self.promote_above})"
            )
        if self.curriculum_stages < 0:
            raise ValueError(f"CommandSamplerCfg.curriculum_stages must not be negative, got {self.curriculum_stages}")
        unknown = [name for name in self.presets if name not in PRESETS]
        if unknown:
            raise ValueError(f"CommandSamplerCfg.presets: no preset '{unknown[0]}', there are {', '.join(PRESETS)}")
        if self.strata is not None:
            check_shares(self.ranges, self.strata)


def ranges_of(section: Any) -> dict[str, tuple[float, float]]:
    """Ranges of channels by name, from a section ``commands.ranges`` that holds them as legged_gym does.

    Channels that legged_gym does not have are entries of its dictionary ``further``, which may be missing.
    """
    ranges = {name: getattr(section, name) for name in CommandLayout().names}
    ranges.update(getattr(section, "further", {}))
    return {name: (low, high) for name, (low, high) in ranges.items()}


class CommandSampler:
    """Draws commands for environments and decides when they change within an episode.

    With strata in the configuration it learns from :meth:`report` which commands fail, and draws them more often.

    Args:
        num_envs: Number of environments.
        cfg: Ranges, shares and times.
        control_dt: Time of a step [s].
        device: Device of the commands.
        seed: Seed of the draws.
        layout: Channels of a command; those of the velocity by default.

    Attributes:
        strata: Kinds of command and how often they fail; None without strata in the configuration.
        steps_left: Steps until the next change of each environment, (num_envs,).
    """

    def __init__(
        self,
        num_envs: int,
        cfg: CommandSamplerCfg | None = None,
        control_dt: float = 0.02,
        device: str | torch.device = "cpu",
        seed: int = 0,
        layout: CommandLayout | None = None,
    ) -> None:
        self.cfg, self.layout = cfg or CommandSamplerCfg(), layout or CommandLayout()
        self.cfg.validate()
        for name in self.cfg.further:
            if name not in self.layout.names[NUM_VELOCITIES:]:
                raise ValueError(
                    f"CommandSamplerCfg.further, commands.ranges.further of a task: the reference takes no '{name}', "
                    f"only {', '.join(self.layout.names)}; leave it out ({{}}), or make the reference's data with "
                    f"--channels {name}"
                )
        self.control_dt = control_dt
        self.device = torch.device(device)
        self.generator = torch.Generator(device=self.device).manual_seed(seed)
        self.strata: CommandStrata | None = None
        if self.cfg.strata is not None:
            self.strata = CommandStrata(
                self.cfg.ranges,
                self.cfg.strata,
                self.cfg.failure_weight,
                memory=max(2000.0, REPORTS_REMEMBERED * num_envs),
                device=self.device,
            )
        ranges = torch.tensor(self.cfg.ranges, device=self.device)
        self._low, self._high = ranges[:, 0], ranges[:, 1]
        rows = [(one.rest, *self.cfg.further.get(one.name, (one.rest, one.rest))) for one in self.layout.further]
        self._further = torch.tensor(rows, device=self.device)  # rest, lowest and highest of each
        names: Sequence[str] = self.cfg.presets or ("stand",)
        self._presets = torch.tensor([PRESETS[name] for name in names], device=self.device)
        self.level = 1.0 if self.cfg.curriculum_stages == 0 else 0.0
        self.steps_left = torch.zeros(num_envs, dtype=torch.long, device=self.device)
        self.steps_left[:] = self._durations(num_envs)

    @property
    def level(self) -> float:
        """Curriculum level, 0 to 1; scales the ranges from ``curriculum_start`` to all of them."""
        return self._level

    @level.setter
    def level(self, level: float) -> None:
        self._level = min(max(level, 0.0), 1.0)
        self._scale = self.cfg.curriculum_start + (1.0 - self.cfg.curriculum_start) * self._level
        if self.strata is not None:
            self.strata.set_scale(self._scale)

    def sample(self, count: int) -> torch.Tensor:
        """Draw commands (count, command_dim)."""
        if self.strata is not None:
            commands = self.strata.draw(count, self.generator)
        else:
            uniform = torch.rand(count, NUM_VELOCITIES, generator=self.generator, device=self.device)
            commands = self._scale * (self._low + (self._high - self._low) * uniform)
        picks = torch.randint(len(self._presets), (count,), generator=self.generator, device=self.device)
        kind = torch.rand(count, 1, generator=self.generator, device=self.device)
        standing_share = self.cfg.standing_share if self.strata is None else 0.0
        commands = torch.where(kind < standing_share + self.cfg.preset_share, self._presets[picks], commands)
        commands = torch.where(kind < standing_share, torch.zeros_like(commands), commands)
        return self._with_further(commands) if self.layout.further else commands

    def _with_further(self, velocities: torch.Tensor) -> torch.Tensor:
        """Velocities (n, NUM_VELOCITIES) with the channels after them, in the share that is asked for any."""
        rest, low, high = self._further.unbind(dim=1)
        uniform = torch.rand(len(velocities), len(rest) + 1, generator=self.generator, device=self.device)
        asked = (uniform[:, :1] < self.cfg.further_share) & bool(self.cfg.further)
        values = rest + self._scale * (low + (high - low) * uniform[:, 1:] - rest) * asked
        ahead = velocities[:, :1]
        slower = torch.where(asked, ahead.clamp(max=self.cfg.further_speed), ahead)
        return torch.cat((slower, velocities[:, 1:], values), dim=1)

    def report(self, commands: torch.Tensor, failed: torch.Tensor) -> None:
        """Count how commands went; with strata, those that fail are drawn more often.

        Args:
            commands: Commands that were in force, (n, command_dim).
            failed: Whether the robot fell under each, or got through some time (the same for all reports), (n,) bool.

        Raises:
            ValueError: The shapes do not fit.
        """
        size = self.layout.size
        if commands.ndim != 2 or commands.shape[1] != size or tuple(failed.shape) != (len(commands),):
            found = f"{tuple(commands.shape)}, {tuple(failed.shape)}"
            raise ValueError(f"report: expected commands (n, {size}) and failed (n,), got {found}")
        if self.strata is not None and len(commands) > 0:
            self.strata.report(commands, failed)

    def update_curriculum(self, success_rate: float) -> float:
        """Move the curriculum by a stage where the success rate (0 to 1) says so; returns the level."""
        if self.cfg.curriculum_stages > 0:
            stage = (success_rate > self.cfg.promote_above) - (success_rate < self.cfg.demote_below)
            self.level = self.level + stage / self.cfg.curriculum_stages
        return self.level

    def reset(self, env_ids: torch.Tensor) -> torch.Tensor:
        """Commands (len(env_ids), command_dim) for environments that begin an episode; their timers start anew."""
        self.steps_left[env_ids] = self._durations(len(env_ids))
        return self.sample(len(env_ids))

    def step(self, commands: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Let a step pass.

        Args:
            commands: Commands in force, (num_envs, command_dim).

        Returns:
            Commands for the next step (num_envs, command_dim) and which environments changed (num_envs,) bool.
        """
        self.steps_left -= 1
        due = self.steps_left <= 0
        # Every environment draws, so that nothing depends on how many are due and no device has to be waited for.
        self.steps_left.copy_(torch.where(due, self._durations(len(due)), self.steps_left))
        return torch.where(due.unsqueeze(1), self.sample(len(due)), commands), due

    def hold(self, env_ids: torch.Tensor) -> None:
        """Let the commands of some environments (n,) stay as they are until they are reset."""
        self.steps_left[env_ids] = HELD

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs: curriculum level, timers, the state of the random numbers and what was reported."""
        state = {"level": self.level, "steps_left": self.steps_left, "generator": self.generator.get_state()}
        return state if self.strata is None else {**state, "strata": self.strata.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; another number of environments keeps its own timers."""
        self.level = float(state["level"])
        if len(state["steps_left"]) == len(self.steps_left):
            self.steps_left.copy_(state["steps_left"])
        self.generator.set_state(state["generator"].cpu())
        if self.strata is not None and "strata" in state:
            self.strata.load_state_dict(state["strata"])

    def _durations(self, count: int) -> torch.Tensor:
        """Steps until a change, (count,)."""
        low, high = self.cfg.resampling_time
        seconds = low + (high - low) * torch.rand(count, generator=self.generator, device=self.device)
        return (seconds / self.control_dt).round().long().clamp(min=1)
