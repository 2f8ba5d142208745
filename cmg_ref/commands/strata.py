"""Kinds of velocity command, each with its own share of the draws, and drawn more often where they fail.

Commands drawn uniformly from a box are nearly all fast curves: none of them stands, and hardly any goes purely
backward, sideways or round on the spot, so that a policy never learns those.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import torch

from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY, CommandLayout

STRATA = ("stand", "forward", "run", "backward", "side", "turn", "mixed")
BALANCED_STRATA: Mapping[str, float] = {
    "stand": 0.12,
    "forward": 0.22,
    "run": 0.12,
    "backward": 0.16,
    "side": 0.10,
    "turn": 0.16,
    "mixed": 0.12,
}
SMALLEST = (0.15, 0.15, 0.2)  # [m/s, m/s, rad/s] what counts as moving along an axis
RUN_SPEED = 1.6  # [m/s] from where on forward is running
NUM_BINS = 6  # parts of the range of a stratum's own axis that fail or succeed by themselves
PRIOR_EPISODES = 2.0  # episodes, all failed, that a bin counts with before its first report

_OWN_AXIS = (0, 0, 0, 0, 1, 2, 0)  # axis of the command that the bins of a stratum divide


class CommandStrata:
    """Draws commands by kind and keeps count of which fail.

    A stratum leaves every axis at zero but its own: forward, run and backward that of vx, side vy and turn the yaw
    rate; mixed draws from all three, at walking speed. Its own axis is divided into bins of equal length. The chance of
    a bin is its base share, mixed with the base share times its failure rate.

    Args:
        ranges: Lowest and highest vx, vy [m/s] and yaw rate [rad/s].
        shares: Base share of each stratum, at least one of them positive; they are scaled to a sum of 1.
        failure_weight: Share of the draws that go where commands fail, 0 to 1.
        memory: Reports after which an earlier one counts half.
        device: Device of everything.

    Attributes:
        reports, failures: Fading numbers of reports and of failures among them, (num_strata, num_bins).

    Raises:
        ValueError: a share names no stratum, is negative, or asks for what the ranges do not hold.
    """

    def __init__(
        self,
        ranges: Sequence[tuple[float, float]],
        shares: Mapping[str, float],
        failure_weight: float = 0.5,
        memory: float = 2000.0,
        device: str | torch.device = "cpu",
    ) -> None:
        check_shares(ranges, shares)
        self.ranges, self.failure_weight, self.memory = tuple(ranges), failure_weight, memory
        self.device = torch.device(device)
        self._shares = {name: shares.get(name, 0.0) / sum(shares.values()) for name in STRATA}
        self._axis = torch.tensor(_OWN_AXIS, device=self.device)
        self._smallest = torch.tensor(SMALLEST, device=self.device)
        self.reports = torch.zeros(len(STRATA), NUM_BINS, device=self.device)
        self.failures = torch.zeros(len(STRATA), NUM_BINS, device=self.device)
        self.set_scale(1.0)

    def set_scale(self, scale: float) -> None:
        """Use a share of the ranges, 0 to 1; what counts as moving stays. Running waits until they reach its speed."""
        intervals = _intervals(self.ranges, scale)
        self._intervals = torch.tensor(intervals, device=self.device)  # (num_strata, NUM_VELOCITIES, 4)
        shares = dict(self._shares)
        if intervals[STRATA.index("run")][0][3] <= RUN_SPEED:
            shares["forward"] += shares.pop("run")
        base = torch.tensor([[shares.get(name, 0.0) / NUM_BINS] * NUM_BINS for name in STRATA])
        base[0] = torch.tensor([shares["stand"]] + [0.0] * (NUM_BINS - 1))  # Standing has no range to divide.
        self._base = base.to(self.device)

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Velocities of commands, (count, NUM_VELOCITIES)."""
        uniform = torch.rand(count, NUM_VELOCITIES + 1, generator=generator, device=self.device)
        edges = self.chances().flatten().cumsum(0)
        cells = torch.searchsorted(edges, uniform[:, -1].contiguous() * edges[-1], right=True)
        cells = cells.clamp(max=len(STRATA) * NUM_BINS - 1)
        stratum, own_bin = torch.div(cells, NUM_BINS, rounding_mode="floor"), cells % NUM_BINS
        axis = self._axis[stratum].unsqueeze(1)
        inside = (own_bin.unsqueeze(1) + uniform.gather(1, axis)) / NUM_BINS
        # Share of the way through the range, of each axis; short of all of it, or rounding could leave the interval.
        place = uniform[:, VELOCITY].scatter(1, axis, inside).clamp(max=1.0 - 1e-6)
        low, low_end, high, high_end = self._intervals[stratum].unbind(dim=2)  # each (count, NUM_VELOCITIES)
        distance = place * (low_end - low + high_end - high)
        return torch.where(distance < low_end - low, low + distance, high + distance - (low_end - low))

    def chances(self) -> torch.Tensor:
        """Chance of each stratum and bin to be drawn, (num_strata, num_bins), of sum 1."""
        rates = self.failure_rates()
        mean = (self._base * rates).sum()
        return self._base * (1.0 - self.failure_weight + self.failure_weight * rates / mean)

    def failure_rates(self) -> torch.Tensor:
        """Failed share of what was reported of each stratum and bin, (num_strata, num_bins)."""
        return (self.failures + PRIOR_EPISODES) / (self.reports + PRIOR_EPISODES)

    def stratum_of(self, commands: torch.Tensor) -> torch.Tensor:
        """Index into ``STRATA`` of commands (n, command_dim), (n,); by their velocity, however they were drawn."""
        tolerance = 1e-4
        x, y, turn = (commands[:, VELOCITY].abs() > self._smallest - tolerance).unbind(dim=1)
        forward = torch.where(commands[:, 0] > RUN_SPEED - tolerance, 2, 1)
        along_x = torch.where(commands[:, 0] < 0.0, torch.full_like(forward, 3), forward)
        alone = torch.where(x, along_x, torch.where(y, 4, torch.where(turn, 5, 0)))
        moving = x.long() + y.long() + turn.long()
        return torch.where(moving > 1, torch.full_like(alone, 6), alone)

    def report(self, commands: torch.Tensor, failed: torch.Tensor) -> None:
        """Count how commands (n, command_dim) ended: ``failed`` (n,) bool."""
        fade = 0.5 ** (len(commands) / self.memory)
        stratum = self.stratum_of(commands)
        axis = self._axis[stratum].view(-1, 1)
        value = commands.gather(1, axis).squeeze(1)
        low, low_end, high, high_end = self._intervals[stratum, axis.squeeze(1)].unbind(dim=1)  # each (n,)
        distance = torch.where(value < high, value - low, value - high + low_end - low)
        place = distance / (low_end - low + high_end - high).clamp(min=1e-6)
        own_bin = torch.where(stratum == 0, torch.zeros_like(place), place * NUM_BINS).long().clamp(0, NUM_BINS - 1)
        cells = stratum * NUM_BINS + own_bin
        self.reports.mul_(fade).view(-1).index_add_(0, cells, torch.ones_like(value))
        self.failures.mul_(fade).view(-1).index_add_(0, cells, failed.to(value.dtype))

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"reports": self.reports, "failures": self.failures}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.reports.copy_(state["reports"])
        self.failures.copy_(state["failures"])


def check_shares(ranges: Sequence[tuple[float, float]], shares: Mapping[str, float]) -> None:
    """Raise a ValueError if shares name no stratum, are negative, or ask for what the ranges do not hold."""
    for name, share in shares.items():
        if name not in STRATA:
            raise ValueError(f"strata: no stratum '{name}', there are {', '.join(STRATA)}")
        if not share >= 0.0:
            raise ValueError(f"strata: the share of '{name}' must not be negative, got {share}")
    if not sum(shares.values()) > 0.0:
        raise ValueError("strata: at least one share must be positive")
    for axis, (low, high) in zip(CommandLayout().names, ranges):
        if not low <= 0.0 <= high:
            raise ValueError(f"strata: {axis} must contain 0, at which most strata leave it, got {(low, high)}")
    needs = {
        "forward": (ranges[0][1] > SMALLEST[0], f"vx above {SMALLEST[0]} m/s"),
        "run": (ranges[0][1] > RUN_SPEED, f"vx above {RUN_SPEED} m/s"),
        "backward": (ranges[0][0] < -SMALLEST[0], f"vx below -{SMALLEST[0]} m/s"),
        "side": (max(-ranges[1][0], ranges[1][1]) > SMALLEST[1], f"vy beyond {SMALLEST[1]} m/s"),
        "turn": (max(-ranges[2][0], ranges[2][1]) > SMALLEST[2], f"a yaw rate beyond {SMALLEST[2]} rad/s"),
    }
    for name, (met, need) in needs.items():
        if shares.get(name, 0.0) > 0.0 and not met:
            raise ValueError(f"strata: '{name}' needs {need}, which the ranges {tuple(ranges)} do not hold")


def _intervals(ranges: Sequence[tuple[float, float]], scale: float) -> list[list[list[float]]]:
    """A lower and an upper interval for each stratum and axis, (num_strata, NUM_VELOCITIES, 4)."""
    nothing = [0.0, 0.0, 0.0, 0.0]
    sides = []  # of each axis: what is moving, towards either side
    for (lowest, highest), smallest in zip(ranges, SMALLEST):
        below = [-smallest + scale * min(lowest + smallest, 0.0), -smallest] if lowest < -smallest else [0.0, 0.0]
        above = [smallest, smallest + scale * max(highest - smallest, 0.0)] if highest > smallest else [0.0, 0.0]
        sides.append((below, above))
    (backward, ahead), sideways, turning = sides
    fastest_walk = min(ahead[1], RUN_SPEED)
    return [
        [nothing, nothing, nothing],
        [[0.0, 0.0, ahead[0], fastest_walk], nothing, nothing],
        [[0.0, 0.0, RUN_SPEED, max(ahead[1], RUN_SPEED)], nothing, nothing],
        [[*backward, 0.0, 0.0], nothing, nothing],
        [nothing, [*sideways[0], *sideways[1]], nothing],
        [nothing, nothing, [*turning[0], *turning[1]]],
        [
            [backward[0], 0.0, 0.0, fastest_walk],
            [sideways[0][0], 0.0, 0.0, sideways[1][1]],
            [turning[0][0], 0.0, 0.0, turning[1][1]],
        ],
    ]
