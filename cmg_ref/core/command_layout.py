"""Named channels of a command, so that no code needs to know how many there are or what they mean.

A layout begins with the velocity of the root in the heading frame, :data:`VELOCITY_CHANNELS`. What else a CMG is told
follows. A further channel takes two files:

1. here: a :class:`CommandChannel`, in :data:`FURTHER_CHANNELS`, which says what it is;
2. `cmg_ref/clips/command_measures.py`: a function that measures it in a clip, from which data sets are made.

The rest is settings: `prepare_data.py --channels NAME` puts it into a data set, and an environment draws it from its
range in `commands.ranges.further`. Everything else reads the layout: of a data set, of the checkpoint trained on it,
and of whoever generates from that.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Iterator, Sequence

import torch

from cmg_ref.core.shorten import reason, shortened


@dataclass(frozen=True)
class CommandChannel:
    """One number of a command.

    Attributes:
        name: Identifies it in configurations and files.
        label: Short name in tables, files of commands and command lines.
        description: What it is, in a word or two.
        unit: Unit of its value.
        range: Lowest and highest value that a CMG is trained for, unless its training says otherwise.
        mirror: 1 where it stays as it is in a mirror, -1 where it changes sign.
        rest: Value where nothing is asked for.
        difference: As bad as an average pose error of one when training looks for a recording that fits.
        bins: Widths in which training balances its value and its change within a window.
        step: What a key changes it by.

    Raises:
        ValueError: Names the field with an impossible value.
    """

    name: str
    label: str
    description: str
    unit: str
    range: tuple[float, float]
    mirror: float
    rest: float
    difference: float
    bins: tuple[float, float]
    step: float

    def __post_init__(self) -> None:
        for field in ("name", "label", "description", "unit"):
            value = getattr(self, field)
            if not isinstance(value, str) or not (value.isidentifier() if field in ("name", "label") else value):
                raise ValueError(f"command channel: '{field}' must be a word, got {shortened(value)}")
        numbers = (*self.range, self.mirror, self.rest, self.difference, *self.bins, self.step)
        finite = all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
        if len(self.range) != 2 or len(self.bins) != 2 or not finite:
            raise ValueError(f"command channel '{self.name}': needs finite numbers, got {shortened(numbers)}")
        if not self.range[0] <= self.rest <= self.range[1] or self.range[0] == self.range[1]:
            raise ValueError(f"command channel '{self.name}': rest {self.rest} is not within {shortened(self.range)}")
        if self.mirror not in (1.0, -1.0) or (self.mirror == -1.0 and self.rest != 0.0):
            raise ValueError(f"command channel '{self.name}': 'mirror' is 1, or -1 for what rests at 0")
        if not min(self.difference, *self.bins, self.step) > 0.0:
            raise ValueError(f"command channel '{self.name}': 'difference', 'bins' and 'step' must be positive")

    @property
    def title(self) -> str:
        """What it is, its label and its unit, such as "yaw rate wz [rad/s]"."""
        return f"{self.description} {self.label} [{self.unit}]"


VELOCITY_CHANNELS = (
    CommandChannel("lin_vel_x", "vx", "forward speed", "m/s", (-0.8, 3.2), 1.0, 0.0, 0.2, (0.25, 0.6), 0.1),
    CommandChannel("lin_vel_y", "vy", "speed to the left", "m/s", (-0.6, 0.6), -1.0, 0.0, 0.15, (0.2, 0.5), 0.1),
    CommandChannel("ang_vel_yaw", "wz", "yaw rate", "rad/s", (-1.3, 1.3), -1.0, 0.0, 0.3, (0.4, 1.2), 0.1),
)
"""Forward speed, speed to the left and yaw rate to the left, in the heading frame; what every command begins with."""
NUM_VELOCITIES = len(VELOCITY_CHANNELS)
VELOCITY = slice(0, NUM_VELOCITIES)
"""Columns of a command that can be compared with the velocity of a root."""
HEIGHT = "base_height"
"""The channel that asks for a height of the root."""
FURTHER_CHANNELS = {
    channel.name: channel
    for channel in (
        CommandChannel(HEIGHT, "height", "base height", "m", (0.55, 0.85), 1.0, 0.75, 0.03, (0.03, 0.05), 0.02),
    )
}
"""What else data sets can be made with, by name."""
ACCELERATIONS = {"lin_vel_x": 2.0, "lin_vel_y": 1.0, "ang_vel_yaw": 4.0, HEIGHT: 0.4}
"""What a command changes by in a second at most, in its unit: about what people change their walk by."""


def check_acceleration(acceleration: Sequence[float] | None, name: str) -> None:
    """Raise a ValueError, with a name for it, unless these are limits for vx, vy and yaw rate, or None."""
    if acceleration is None:
        return
    values = list(acceleration)
    fit = all(type(value) in (int, float) and math.isfinite(value) and value > 0.0 for value in values)
    if len(values) != NUM_VELOCITIES or not fit:
        raise ValueError(f"{name} must be {NUM_VELOCITIES} positive numbers, got {shortened(acceleration)}")


class CommandLayout:
    """The order of the channels that make up one command.

    Args:
        further: Channels after those of the velocity.

    Attributes:
        channels: All of them, in the order of the columns.
        size: Number of columns.

    Raises:
        ValueError: Two channels share a name or a label.
    """

    def __init__(self, further: Sequence[CommandChannel] = ()) -> None:
        self.channels = (*VELOCITY_CHANNELS, *further)
        self.size = len(self.channels)
        for field in ("name", "label"):
            values = [getattr(channel, field) for channel in self.channels]
            twice = [value for value in values if values.count(value) > 1]
            if twice:
                raise ValueError(f"command layout: two channels have the {field} '{twice[0]}'")

    @classmethod
    def of_names(cls, names: Sequence[str]) -> CommandLayout:
        """The velocity and the channels of :data:`FURTHER_CHANNELS` with these names.

        Raises:
            ValueError: There is no such channel.
        """
        for name in names:
            if name not in FURTHER_CHANNELS:
                known = ", ".join(FURTHER_CHANNELS) or "none"
                raise ValueError(f"no command channel {shortened(name)} beside the velocity; there are: {known}")
        return cls([FURTHER_CHANNELS[name] for name in names])

    @property
    def further(self) -> tuple[CommandChannel, ...]:
        """The channels after those of the velocity."""
        return self.channels[NUM_VELOCITIES:]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(channel.name for channel in self.channels)

    @property
    def labels(self) -> tuple[str, ...]:
        """Short names of the columns."""
        return tuple(channel.label for channel in self.channels)

    @property
    def mirror(self) -> tuple[float, ...]:
        """Sign of each column as seen in a mirror."""
        return tuple(channel.mirror for channel in self.channels)

    @property
    def lowest(self) -> tuple[float, ...]:
        """Lowest value of each column."""
        return tuple(channel.range[0] for channel in self.channels)

    @property
    def highest(self) -> tuple[float, ...]:
        """Highest value of each column."""
        return tuple(channel.range[1] for channel in self.channels)

    def column(self, name: str) -> int:
        """Column of the channel of a name or label.

        Raises:
            KeyError: There is none.
        """
        for column, channel in enumerate(self.channels):
            if name in (channel.name, channel.label):
                return column
        raise KeyError(f"command layout: no channel '{name}', only {', '.join(self.names)}")

    def up_to(self, names: Sequence[str]) -> CommandLayout:
        """The first channels: the velocity, and further ones as far as the last that is named."""
        known = [one.name for one in self.further]
        return CommandLayout(self.further[: max((known.index(name) + 1 for name in names), default=0)])

    def rest(self, *shape: int, device: str | torch.device = "cpu") -> torch.Tensor:
        """Commands to stand, all channels at rest, (*shape, size)."""
        values = torch.tensor([channel.rest for channel in self.channels], device=device)
        return values.expand(*shape, self.size).clone()

    def velocity_alone(self, commands: torch.Tensor) -> torch.Tensor:
        """Whether commands (..., size) ask for nothing but a velocity, (...) bool.

        Where all of them ask for more, as in data whose height was measured, none is told apart: all count.
        """
        resting = commands[..., NUM_VELOCITIES:] == self.rest(device=commands.device)[NUM_VELOCITIES:].to(commands)
        alone = resting.all(dim=-1)
        return alone if bool(alone.any()) else torch.ones_like(alone)

    def complete(self, commands: torch.Tensor) -> torch.Tensor:
        """Commands (..., at most size) whose missing last channels are at rest, (..., size)."""
        missing = self.size - commands.shape[-1]
        if missing == 0:
            return commands
        rest = self.rest(*commands.shape[:-1], device=commands.device)[..., self.size - missing :]
        return torch.cat((commands, rest.to(commands.dtype)), dim=-1)

    def largest_changes(
        self, dt: float, device: str | torch.device = "cpu", acceleration: Sequence[float] | None = None
    ) -> torch.Tensor:
        """What each channel changes by at most, (size,).

        Args:
            dt: In which time [s].
            device: Of the result.
            acceleration: What vx, vy [m/s^2] and yaw rate [rad/s^2] change by in a second at most; None and all further
                channels: :data:`ACCELERATIONS`.
        """
        limits = {**ACCELERATIONS, **dict(zip((one.name for one in VELOCITY_CHANNELS), acceleration or ()))}
        return torch.tensor([dt * limits.get(name, math.inf) for name in self.names], device=device)

    def title(self) -> str:
        """Labels and units, such as "vx, vy [m/s], wz [rad/s]"."""
        following = (*self.channels[1:], None)
        return ", ".join(
            one.label if other is not None and one.unit == other.unit else f"{one.label} [{one.unit}]"
            for one, other in zip(self.channels, following)
        )

    def described(self, command: Sequence[float], digits: str = "g", between: str = " ") -> str:
        """A short text for a command, such as "vx 0.6 wz -0.4"; "stand" where all is at rest."""
        pairs = zip(self.channels, command)
        parts = [f"{channel.label} {value:{digits}}" for channel, value in pairs if abs(value - channel.rest) > 1e-9]
        return between.join(parts) or "stand"

    def __iter__(self) -> Iterator[CommandChannel]:
        """The channels in order."""
        return iter(self.channels)

    def __eq__(self, other: object) -> bool:
        """Same channels in the same order."""
        return isinstance(other, CommandLayout) and self.channels == other.channels

    def __hash__(self) -> int:
        """Hash that agrees with equality."""
        return hash(self.channels)

    def __repr__(self) -> str:
        """Names of the channels, joined by bars."""
        return f"CommandLayout({' | '.join(self.names)})"

    def to_json(self) -> list[dict[str, Any]]:
        """A JSON-ready description of the channels in order."""
        return [{**asdict(channel), "range": list(channel.range), "bins": list(channel.bins)} for channel in self]

    @classmethod
    def from_json(cls, channels: Any) -> CommandLayout:
        """The layout described by :meth:`to_json`; None, as files before it have, is the velocity alone.

        Raises:
            ValueError: It describes none, or one that does not begin with the velocity.
        """
        if channels is None:
            return cls()
        try:
            pairs = ({**one, "range": tuple(one["range"]), "bins": tuple(one["bins"])} for one in channels)
            read = [CommandChannel(**fields) for fields in pairs]
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"command layout: no list of channels ({reason(error)})") from error
        if [channel.name for channel in read[:NUM_VELOCITIES]] != list(cls().names):
            raise ValueError(f"command layout: must begin with the velocity: {', '.join(cls().names)}")
        return cls(read[NUM_VELOCITIES:])


def take_written(
    commands: torch.Tensor, shown: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What was written into the velocities that an environment shows, as commands to approach.

    Args:
        commands: What they are now, (num_envs, at least `NUM_VELOCITIES`).
        shown: What the environment wrote there, (num_envs, NUM_VELOCITIES).
        targets: What was approached until now, (num_envs, command_dim), kept in channels that were not written to.

    Returns:
        Environments that were written to, (n,), and their commands, (n, command_dim).
    """
    velocities = commands[:, VELOCITY]
    written = velocities != shown
    env_ids = written.any(dim=1).nonzero().squeeze(1)
    taken = targets[env_ids]  # a copy
    taken[:, VELOCITY] = torch.where(written[env_ids], velocities[env_ids], taken[:, VELOCITY])
    return env_ids, taken


def told_to_stand(commands: torch.Tensor) -> torch.Tensor:
    """Whether commands (..., size) have all velocities at rest, (...) bool."""
    return commands[..., VELOCITY].abs().amax(dim=-1) == 0.0


def ramp_steps(start: torch.Tensor, target: torch.Tensor, steps: int, largest: torch.Tensor) -> torch.Tensor:
    """Steps that a command takes from ``start`` to ``target``, (...): more than ``steps`` if it has far to go.

    Args:
        start: Where it begins, (..., size).
        target: Where it ends, (..., size).
        steps: Steps that it takes anyway.
        largest: What each channel changes by in a step at most, (size,).
    """
    return ((target - start).abs() / largest).amax(dim=-1).clamp(min=float(steps))
