"""A command over time: one for the whole motion, or a list of changes read from a file."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, Sequence

import torch

from cmg_ref.core.command_layout import NUM_VELOCITIES, CommandLayout
from cmg_ref.core.shorten import listed, reason, shortened
from cmg_ref.files.input_file import MEBIBYTE, check_input_file
from cmg_ref.files.json_text import parse_json

MAX_TIME = 86_400.0  # [s] a day
MAX_COMMAND = 100.0  # of any channel, in its unit


class ScheduleError(ValueError):
    """A command schedule that cannot be used; the message is one line that names the file and the row."""


class CommandSchedule:
    """Commands that each hold from their time until the next one's.

    Attributes:
        times: When each command begins, rising from 0 [s], (num_commands,).
        commands: What is told, (num_commands, command_dim).
        source: Where they come from, for messages.
    """

    def __init__(
        self, rows: Sequence[Sequence[Any]], source: str = "command schedule", layout: CommandLayout | None = None
    ) -> None:
        """Checks and keeps the rows.

        Args:
            rows: Time [s] and channels of each command, of which those after the velocity may be missing and are then
                at rest; the first time is 0.
            source: Where the rows come from, for messages.
            layout: Channels of a command; those of the velocity by default.

        Raises:
            ScheduleError: A row does not have as many finite numbers, the times do not rise from 0 to `MAX_TIME` at
                most, or a command exceeds `MAX_COMMAND`.
        """
        layout = layout or CommandLayout()
        columns = columns_of(layout)
        if not rows:
            raise ScheduleError(f"{source}: holds no command, needs rows of {', '.join(columns)}")
        rest = [channel.rest for channel in layout]
        values: list[list[float]] = []
        for number, row in enumerate(rows, start=1):
            if not NUM_VELOCITIES + 1 <= len(row) <= len(columns):
                raise ScheduleError(f"{source}: row {number}: {len(row)} values, needs {', '.join(columns)}")
            given = [_number(f"{source}: row {number}: {name}", cell) for name, cell in zip(columns, row)]
            values.append(given + rest[len(given) - 1 :])
            time = values[-1][0]
            if number == 1 and time != 0.0:
                raise ScheduleError(f"{source}: row 1: time is {time:g}, the first command must begin at 0")
            if number > 1 and time <= values[-2][0]:
                raise ScheduleError(f"{source}: row {number}: time {time:g} does not come after {values[-2][0]:g}")
            if time > MAX_TIME:
                raise ScheduleError(f"{source}: row {number}: time is {time:g}, more than {MAX_TIME:g} seconds")
            for name, value in zip(columns[1:], values[-1][1:]):
                if abs(value) > MAX_COMMAND:
                    raise ScheduleError(f"{source}: row {number}: {name} is {value:g}, beyond {MAX_COMMAND:g}")
        self.source = source
        table = torch.tensor(values, dtype=torch.float64)
        self.times = table[:, 0]
        self.commands = table[:, 1:]

    @classmethod
    def constant(
        cls, vx: float = 0.0, vy: float = 0.0, wz: float = 0.0, layout: CommandLayout | None = None, **further: float
    ) -> CommandSchedule:
        """One command for the whole motion: vx, vy [m/s], yaw rate wz [rad/s] and further channels by label.

        Raises:
            ScheduleError: The layout has no channel of a label.
        """
        layout, values = layout or CommandLayout(), {"vx": vx, "vy": vy, "wz": wz, **further}
        unknown = [shortened(label) for label in values if label not in layout.labels]
        if unknown:
            raise ScheduleError(f"command: no channel {unknown[0]}, only {', '.join(layout.labels)}")
        row = [values.get(channel.label, channel.rest) for channel in layout]
        return cls([(0.0, *row)], source="command", layout=layout)

    @classmethod
    def from_file(cls, path: str | Path, layout: CommandLayout | None = None) -> CommandSchedule:
        """Reads a schedule.

        Args:
            path: A CSV file whose first row is ``time,vx,vy,wz`` and the labels of further channels, or a JSON file
                with a list of such rows, each either a list of numbers or an object with those names. Rows are counted
                from 1, the header aside.
            layout: Channels of a command; those of the velocity by default.

        Raises:
            ScheduleError: The file cannot be read, or a row is wrong.
        """
        path = Path(path)
        readers = {".csv": _read_csv, ".json": _read_json}
        if path.suffix.lower() not in readers:
            raise ScheduleError(f"{path}: a command schedule is a .csv or .json file")
        check_input_file(path, ScheduleError, 16 * MEBIBYTE)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ScheduleError(f"{path}: cannot be read ({reason(error)})") from error
        columns = columns_of(layout or CommandLayout())
        return cls(readers[path.suffix.lower()](str(path), text, columns), source=str(path), layout=layout)

    @property
    def last_change(self) -> float:
        """Time at which the last command begins [s]."""
        return float(self.times[-1])

    def end(self, last: float, longest: float) -> float:
        """When the last command has lasted a while [s].

        Args:
            last: How long it lasts [s].
            longest: How long all may last [s].

        Raises:
            ScheduleError: It begins too late for that.
        """
        if self.last_change + last > longest:
            raise ScheduleError(
                f"{self.source}: the last command begins at {self.last_change:g} s and would end at "
                f"{self.last_change + last:g} s; what is made lasts {longest:g} s at most (--duration cuts it off)"
            )
        return self.last_change + last

    def sample(self, fps: float, duration: float) -> torch.Tensor:
        """The command of every frame.

        Args:
            fps: Frames per second.
            duration: Length [s]; there is at least one frame.

        Returns:
            (round(duration * fps), command_dim), float32.
        """
        frames = torch.arange(max(1, round(duration * fps)), dtype=torch.float64)
        # A command begins at the first frame that is not before it; the allowance is for the rounding of times.
        index = torch.searchsorted(self.times * fps - 1e-6, frames, right=True) - 1
        return self.commands[index].to(torch.float32)


def columns_of(layout: CommandLayout) -> tuple[str, ...]:
    """Names of the columns of a schedule; those after the velocity may be missing."""
    return ("time", *layout.labels)


def _read_csv(source: str, text: str, columns: tuple[str, ...]) -> list[Any]:
    try:
        lines = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ScheduleError(f"{source}: is not valid CSV: {reason(error)}") from error
    header = [cell.strip() for cell in lines[0]] if lines else []
    if len(header) <= NUM_VELOCITIES or header != list(columns[: len(header)]):
        raise ScheduleError(f"{source}: the first row must be {','.join(columns)}, not {shortened(','.join(header))}")
    for number, row in enumerate(lines[1:], start=1):
        if len(row) != len(header):
            raise ScheduleError(f"{source}: row {number}: {len(row)} values, needs {', '.join(header)}")
    return lines[1:]


def _read_json(source: str, text: str, columns: tuple[str, ...]) -> list[Any]:
    try:
        rows = parse_json(text)
    except ValueError as error:
        raise ScheduleError(f"{source}: is not valid JSON: {reason(error)}") from error
    if not isinstance(rows, list):
        raise ScheduleError(f"{source}: must hold a list of rows")
    return [_json_row(source, number, row, columns) for number, row in enumerate(rows, start=1)]


def _json_row(source: str, number: int, row: Any, columns: tuple[str, ...]) -> list[Any]:
    if isinstance(row, dict):
        given = columns[: max(len(row), NUM_VELOCITIES + 1)]
        if set(row) != set(given):
            raise ScheduleError(f"{source}: row {number}: has {listed(row) or 'no names'}, needs {', '.join(columns)}")
        return [row[name] for name in given]
    if not isinstance(row, list):
        raise ScheduleError(f"{source}: row {number}: must be a list or an object")
    return row


def _number(where: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ScheduleError(f"{where} is {shortened(value)}, not a number") from None
    if not math.isfinite(number):
        raise ScheduleError(f"{where} is {number}, not a finite number")
    return number


def held_within(
    commands: torch.Tensor, lowest: torch.Tensor, highest: torch.Tensor, layout: CommandLayout | None = None
) -> tuple[torch.Tensor, list[str]]:
    """Commands inside a range.

    Args:
        commands: Of every frame, (num_frames, command_dim).
        lowest: Lowest command, (command_dim,).
        highest: Highest command, (command_dim,).
        layout: Channels of a command; those of the velocity by default.

    Returns:
        The commands, each held at the nearest bound, (num_frames, command_dim), and a line for each channel that was.
    """
    inside = torch.minimum(torch.maximum(commands, lowest), highest)
    lines = []
    for column, name in enumerate((layout or CommandLayout()).labels):
        excess = (commands - inside)[:, column]
        if bool((excess != 0.0).any()):
            worst = int(excess.abs().argmax())
            lines.append(
                f"{name} {commands[worst, column]:+.2f} is outside the trained range {lowest[column]:+.2f} to "
                f"{highest[column]:+.2f}: held at {inside[worst, column]:+.2f} "
                f"({(excess != 0.0).float().mean():.0%} of the frames)"
            )
    return inside, lines
