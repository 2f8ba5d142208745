"""An evaluation as text on the screen, as Markdown, JSON and a picture."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Callable

from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY_CHANNELS
from cmg_ref.evaluation.requirements import Evaluation
from cmg_ref.files.atomic_file import atomic_file, write_file

HEADINGS = ("measure", "command", "value", "unit", "must", "passed", "mocap")
NUMBERS = ("value", "must", "mocap")


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
    content = {
        "subject": evaluation.subject,
        "settings": evaluation.settings,
        "measures": [measure.to_json() for measure in evaluation.measures],
        "commanded": evaluation.commanded,
        "reached": evaluation.reached,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def markdown_text(evaluation: Evaluation) -> str:
    """The evaluation as Markdown."""
    lines = [f"# Evaluation of {evaluation.subject}", "", summary(evaluation), ""]
    lines += [f"- {name}: {value}" for name, value in evaluation.settings.items()]
    lines += [
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "|".join("--:" if name in NUMBERS else "---" for name in HEADINGS) + "|",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(evaluation)]
    return "\n".join(lines) + "\n"


def screen_text(evaluation: Evaluation) -> str:
    """The evaluation as a table for a terminal."""
    rows = [HEADINGS, *_rows(evaluation)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = []
    for row in rows:
        cells = zip(HEADINGS, row, widths)
        aligned = [cell.rjust(width) if name in NUMBERS else cell.ljust(width) for name, cell, width in cells]
        lines.append("  ".join(aligned).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*lines, "", summary(evaluation)])


def summary(evaluation: Evaluation) -> str:
    """One line: how many requirements are met."""
    required = [measure for measure in evaluation.measures if measure.passed is not None]
    missed = evaluation.missed
    text = f"{len(required) - len(missed)} of {len(required)} requirements met"
    return f"{text}, {len(missed)} missed." if missed else f"{text}."


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
