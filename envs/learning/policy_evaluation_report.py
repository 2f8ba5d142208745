"""An evaluation of a policy as a table on the screen, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Mapping

from cmg_ref.files.atomic_file import write_file
from envs.learning.policy_evaluation import CaseResult, Evaluation

COLUMNS = {
    "survival": "survival",
    "lin_vel_error": "velocity error [m/s]",
    "yaw_rate_error": "yaw rate error [rad/s]",
    "joint_error": "joint error [rad]",
    "drift": "drift [m]",
    "steps": "steps",
}


def save_evaluation(evaluation: Evaluation, folder: str | Path, settings: Mapping[str, object]) -> list[Path]:
    """Write `evaluation.json`, a list with an entry for each command, and `evaluation.md`; returns the files.

    Args:
        evaluation: The results.
        folder: Folder to write to, made if need be.
        settings: What to note in the Markdown about how they came about.
    """
    folder = Path(folder)
    texts = {
        "evaluation.json": json.dumps(evaluation.to_json(), indent=1, allow_nan=False) + "\n",
        "evaluation.md": markdown_text(evaluation, settings),
    }
    for name, text in texts.items():
        write_file(folder / name, text)
    return [folder / name for name in texts]


def markdown_text(evaluation: Evaluation, settings: Mapping[str, object]) -> str:
    """The evaluation as Markdown."""
    titles = ["command", *COLUMNS.values(), "passed"]
    lines = ["# Evaluation of the policy", "", f"{evaluation.summary()}.", ""]
    lines += [f"- {name}: {value}" for name, value in settings.items()]
    lines += ["", "| " + " | ".join(titles) + " |", "|---|" + "--:|" * len(COLUMNS) + "---|"]
    lines += ["| " + " | ".join(_cells(result)) + " |" for result in evaluation.results]
    return "\n".join(lines) + "\n"


def screen_text(evaluation: Evaluation) -> str:
    """The evaluation as a table for a terminal."""
    titles = ["command", "survival", "v error", "wz error", "joints", "drift", "steps", "passed"]
    rows = [titles, *(_cells(result) for result in evaluation.results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, len(titles) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], "", evaluation.summary()])


def _cells(result: CaseResult) -> list[str]:
    cells = [result.case.name]
    for name in COLUMNS:
        value = getattr(result, name)
        text = "" if math.isnan(value) else f"{value:.1%}" if name == "survival" else f"{value:.3f}"
        if name in result.case.required and name in result.missed:
            sign, limit = (">=" if name == "survival" else "<="), result.case.required[name]
            text = f"{text} (must be {sign} {limit:g})"
        cells.append(text)
    if not result.case.required:
        return [*cells, ""]
    return [*cells, "NO" if result.missed else "yes"]
