"""How fast runs learn: survival and velocity error over steps, from the evaluations made during training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmg_ref.core.shorten import reason
from cmg_ref.files.atomic_file import atomic_file
from envs.learning.training_run import EVALUATIONS, RunError, read_json

FASTEST = 1.5  # [m/s] running faster is a goal of its own and left out of the means
REACHED_SURVIVAL, REACHED_ERROR = 0.9, 0.2
COLORS = ("#1f5fa8", "#d1495b", "#4d9078", "#e2832b", "#6d597a")


@dataclass(frozen=True)
class LearningCurve:
    """What a run had learnt when, as means over the commands of the grid.

    Attributes:
        name: What the run is called.
        steps: Environment steps at each evaluation.
        minutes: Time of training at each evaluation [min].
        survival: Share of roll-outs that did not fall.
        error: Velocity error [m/s]; infinite while no robot lasts until it can be measured for some command.
    """

    name: str
    steps: list[int]
    minutes: list[float]
    survival: list[float]
    error: list[float]

    def reached(self) -> int | None:
        """Index of the first evaluation with the survival and error wanted, None if there is none."""
        for index, (survival, error) in enumerate(zip(self.survival, self.error, strict=True)):
            if survival >= REACHED_SURVIVAL and error < REACHED_ERROR:
                return index
        return None


def read_learning_curve(name: str, run: Path) -> LearningCurve:
    """The curve of a run.

    Raises:
        RunError: The folder holds no evaluations, or they are not what a training writes.
    """
    path = run / EVALUATIONS
    if run.is_dir() and not path.exists():
        raise RunError(f"{path}: not there: the run was not evaluated yet (train.runner.evaluation_interval)")
    evaluations = read_json(path)
    if not evaluations:
        raise RunError(f"{path}: holds no evaluation yet")
    try:
        return _curve(name, evaluations)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise RunError(
            f"{path}: not the evaluations that a training writes ({type(error).__name__}: {reason(error)})"
        ) from error


def _curve(name: str, evaluations: Sequence[Mapping[str, Any]]) -> LearningCurve:
    """The curve that evaluations make."""
    survival, errors = [], []
    for evaluation in evaluations:
        rows = [row for row in evaluation["rows"] if abs(row["command"][0]) <= FASTEST]
        survival.append(sum(row["survival"] for row in rows) / len(rows))
        errors.append(
            sum(math.inf if row["lin_vel_error"] is None else row["lin_vel_error"] for row in rows) / len(rows)
        )
    return LearningCurve(
        name,
        [int(evaluation["steps"]) for evaluation in evaluations],
        [float(evaluation["time"]) / 60.0 for evaluation in evaluations],
        survival,
        errors,
    )


def comparison_table(curves: Sequence[LearningCurve]) -> str:
    """Runs side by side, as Markdown."""
    goal = f"{REACHED_SURVIVAL:.0%} survival and error under {REACHED_ERROR:g} m/s after"
    lines = [f"| run | {goal} | last: steps | survival | velocity error [m/s] |", "|---|--:|--:|--:|--:|"]
    for curve in curves:
        index = curve.reached()
        reached = "never" if index is None else f"{_millions(curve.steps[index])}, {curve.minutes[index]:.0f} min"
        error = "not measurable" if math.isinf(curve.error[-1]) else f"{curve.error[-1]:.3f}"
        lines.append(
            f"| {curve.name} | {reached} | {_millions(curve.steps[-1])} | {curve.survival[-1]:.1%} | {error} |"
        )
    return "\n".join(lines) + "\n"


def save_comparison_plot(curves: Sequence[LearningCurve], path: str | Path) -> None:
    """Draw survival and velocity error over steps; raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    survival_axes, error_axes = figure.subplots(1, 2)
    for curve, color in zip(curves, COLORS * len(curves), strict=False):
        millions = [steps / 1e6 for steps in curve.steps]
        survival_axes.plot(millions, curve.survival, color=color, marker=".", label=curve.name)
        measured = [(x, error) for x, error in zip(millions, curve.error, strict=True) if math.isfinite(error)]
        error_axes.plot([x for x, _ in measured], [error for _, error in measured], color=color, marker=".")
    survival_axes.axhline(REACHED_SURVIVAL, color="0.6", linewidth=0.8, linestyle="--")
    error_axes.axhline(REACHED_ERROR, color="0.6", linewidth=0.8, linestyle="--")
    survival_axes.set(title="survival", xlabel="environment steps [millions]", ylim=(0.0, 1.02))
    error_axes.set(title="velocity error [m/s]", xlabel="environment steps [millions]")
    error_axes.set_ylim(bottom=0.0)
    survival_axes.legend(loc="lower right")
    for axes in (survival_axes, error_axes):
        axes.grid(alpha=0.3)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _millions(steps: int) -> str:
    return f"{steps / 1e6:.1f} M steps"
