"""An evaluation, and how it is told: as text on the screen, as Markdown, JSON and a picture."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Sequence

from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY_CHANNELS
from cmg_ref.evaluation.gait_evaluation import GaitEvaluation, gait_label
from cmg_ref.evaluation.requirements import Measure
from cmg_ref.files.atomic_file import atomic_file, write_file

HEADINGS = ("measure", "command", "value", "unit", "must", "passed", "mocap")
WORDS = ("measure", "command", "unit", "passed", "band")
"""Columns that are written from the left; numbers are from the right."""
GAIT_COLUMNS = (
    ("slip [m/s]", "slip", 1.0, ".2f"),
    ("p90", "slip_p90", 1.0, ".2f"),
    ("steps/s", "cadence", 1.0, ".2f"),
    ("clearance [cm]", "clearance", 100.0, ".1f"),
    ("self-contact [%]", "contact_share", 100.0, ".0f"),
    ("99 % deep [mm]", "contact_depth", 1000.0, ".0f"),
    ("pose asymmetry [rad]", "pose_asymmetry", 1.0, ".3f"),
    ("swing asymmetry", "swing_asymmetry", 1.0, ".2f"),
)
"""Heading, figure of `GaitFigures`, factor and format of the columns that have ours beside people's."""


@dataclass
class Evaluation:
    """All figures of one checkpoint or motion.

    Attributes:
        subject: What was measured.
        settings: How, for the reader: durations, rates, where the root and the mocap figures come from.
        measures: The figures.
        commanded: Commands, (vx, vy, yaw rate) each, for the plot of commanded against reached velocity.
        reached: Mean velocities reached under them.
        gait: How it moves at every speed, None where that was not measured.
    """

    subject: str
    settings: dict[str, Any]
    measures: list[Measure] = field(default_factory=list)
    commanded: list[Sequence[float]] = field(default_factory=list)
    reached: list[Sequence[float]] = field(default_factory=list)
    gait: GaitEvaluation | None = None

    @property
    def missed(self) -> list[Measure]:
        """Figures that miss what they must be, those of the gait included."""
        gait = [] if self.gait is None else self.gait.measures()
        return [measure for measure in self.measures + gait if measure.passed is False]


def save_report(evaluation: Evaluation, folder: str | Path) -> list[Path]:
    """Writes `evaluation.json`, `evaluation.md` and, where there were commands and matplotlib is there, a plot.

    Args:
        evaluation: The figures.
        folder: Folder to write to, made if need be.

    Returns:
        The files written.
    """
    folder = Path(folder)
    texts: dict[str, Callable[[Evaluation], str]] = {"evaluation.json": json_text, "evaluation.md": markdown_text}
    written = []
    for name, text in texts.items():
        write_file(folder / name, text(evaluation))
        written.append(folder / name)
    if evaluation.commanded:
        with contextlib.suppress(ImportError):  # The plot is an extra; the caller sees that it is not among the files.
            written.append(_save_velocity_plot(evaluation, folder / "evaluation.png"))
    return written


def json_text(evaluation: Evaluation) -> str:
    """The evaluation as JSON."""
    gait = evaluation.gait
    content = {
        "subject": evaluation.subject,
        "settings": evaluation.settings,
        "measures": [measure.to_json() for measure in evaluation.measures],
        "commanded": evaluation.commanded,
        "reached": evaluation.reached,
        "gait": None
        if gait is None
        else {**gait.to_json(), "measures": [measure.to_json() for measure in gait.measures()]},
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def markdown_text(evaluation: Evaluation) -> str:
    """The evaluation as Markdown."""
    lines = [f"# Evaluation of {evaluation.subject}", "", *_summaries(evaluation), ""]
    lines += [f"- {name}: {value}" for name, value in evaluation.settings.items()]
    for heading, *rows in _tables(evaluation):
        lines += [
            "",
            "| " + " | ".join(heading) + " |",
            "|" + "|".join("---" if name in WORDS else "--:" for name in heading) + "|",
            *("| " + " | ".join(row) + " |" for row in rows),
        ]
    return "\n".join(lines) + "\n"


def screen_text(evaluation: Evaluation) -> str:
    """The evaluation as tables for a terminal."""
    lines = []
    for rows in _tables(evaluation):
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        table = []
        for row in rows:
            cells = zip(rows[0], row, widths)
            aligned = [cell.ljust(width) if name in WORDS else cell.rjust(width) for name, cell, width in cells]
            table.append("  ".join(aligned).rstrip())
        lines += [table[0], "-" * max(map(len, table)), *table[1:], ""]
    return "\n".join([*lines, *_summaries(evaluation)])


def summary(measures: Sequence[Measure]) -> str:
    """How many requirements are met."""
    passed = [measure.passed for measure in measures if measure.passed is not None]
    missed = passed.count(False)
    return f"{passed.count(True)} of {len(passed)} requirements met" + (f", {missed} missed." if missed else ".")


def _tables(evaluation: Evaluation) -> list[list[tuple[str, ...]]]:
    """Tables with their headings: the single figures, then those of the gait, ours / people's."""
    tables: list[list[tuple[str, ...]]] = [[HEADINGS, *_rows(evaluation)]] if evaluation.measures else []
    gait = evaluation.gait
    if gait is None:
        return tables
    path = () if gait.seconds == 0.0 else (f"heading after {gait.seconds:.0f} s [deg]", "off the line [m]")
    names = tuple(f"{name}, ours / people" if name.startswith("slip [") else name for name, *_ in GAIT_COLUMNS)
    tables.append([("command", *names, *path)])
    for row in gait.rows:
        cells = [
            " / ".join(format(factor * own[key], form) if key in own else "-" for own in (row.ours, row.people))
            for _, key, factor, form in GAIT_COLUMNS
        ]
        if row.heading is not None:
            cells += [f"{math.degrees(row.heading):.0f}", "" if row.off_line is None else f"{row.off_line:.1f}"]
        tables[-1].append((gait_label(row.command), *cells))
    if gait.small:
        tables.append([("command", "vx reached", "vy reached", "wz reached")])
        tables[-1] += [
            (gait_label(row.command), *(f"{value:.3f}" for value in row.reached or ())) for row in gait.small
        ]
    if gait.low:
        tables.append([("command", "height reached [m]", "velocity error [m/s]", "slip [m/s]", "p90")])
        tables[-1] += [
            (
                low.label,
                f"{low.reached_height:.3f}",
                f"{low.velocity_error:.3f}",
                *(f"{low.row.ours[key]:.2f}" if key in low.row.ours else "-" for key in ("slip", "slip_p90")),
            )
            for low in gait.low
        ]
    if gait.stops:
        tables.append([("command", "last step [s]", "feet apart [m]", "pose asymmetry [rad]")])
        tables[-1] += [
            (
                f"{gait_label(stop.command)} -> stand",
                f"{stop.last_step:.2f}",
                f"{stop.feet_apart:.3f}",
                f"{stop.pose_asymmetry:.3f}",
            )
            for stop in gait.stops
        ]
    if gait.distribution:
        tables.append([("band", "Fréchet ratio")])
        tables[-1] += [(name, f"{ratio:.2f}") for name, ratio in gait.distribution.items()]
    return tables


def _summaries(evaluation: Evaluation) -> list[str]:
    """How many requirements are met, and which ones of the gait are not at which commands."""
    lines = [summary(evaluation.measures)] if evaluation.measures else []
    if evaluation.gait is not None:
        measures = evaluation.gait.measures()
        lines.append(f"Gait: {summary(measures)}")
        missed: dict[str, list[str]] = {}
        for measure in measures:
            if measure.passed is False:
                missed.setdefault(measure.name, []).append(f"{measure.command} ({_number(measure.value)})")
        lines += ["", *(f"- {name}: {'; '.join(commands)}" for name, commands in missed.items())]
    return lines


def _rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    return [
        (
            measure.name,
            measure.command,
            _number(measure.value),
            measure.unit,
            "" if measure.must is None else f"{'>=' if measure.at_least else '<='} {_number(measure.must)}",
            {None: "", True: "yes", False: "NO"}[measure.passed],
            "" if measure.mocap is None else _number(measure.mocap),
        )
        for measure in evaluation.measures
    ]


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "not measurable" if math.isnan(value) else "infinite"
    return f"{value:.0f}" if abs(value) >= 100.0 else f"{value:.3f}"


def _save_velocity_plot(evaluation: Evaluation, path: Path) -> Path:
    """Reached against commanded velocity, one panel for each component; raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 4.2), layout="constrained")
    for column, (axes, channel) in enumerate(zip(figure.subplots(1, NUM_VELOCITIES), VELOCITY_CHANNELS)):
        commanded = [command[column] for command in evaluation.commanded]
        reached = [velocity[column] for velocity in evaluation.reached]
        low, high = min(commanded + reached) - 0.1, max(commanded + reached) + 0.1
        axes.plot([low, high], [low, high], color="0.7", linewidth=1.0, label="as commanded")
        axes.scatter(commanded, reached, color="#1f5fa8", s=28, alpha=0.8, label="reached")
        axes.set(title=channel.title, xlabel="commanded", ylabel="reached", xlim=(low, high), ylim=(low, high))
        axes.set_aspect("equal")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(loc="upper left")
    figure.suptitle(evaluation.subject)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path
