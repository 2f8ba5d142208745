"""What came of an evaluation of a policy: its figures, as a table on the screen, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Mapping

from cmg_ref.files.atomic_file import write_file
from envs.evaluation.cases import EvaluationCase

COLUMNS = {
    "survival": "survival",
    "lin_vel_error": "velocity error [m/s]",
    "mean_velocity_error": "of the mean [m/s]",
    "yaw_rate_error": "yaw rate error [rad/s]",
    "joint_error": "joint error [rad]",
    "drift": "drift [m]",
    "heading": "turn [rad]",
    "steps": "steps",
    "touch_downs": "touch-downs [1/s]",
    "double_support": "double support",
    "flight": "flight",
    "slip": "slip [m/s]",
    "height_error": "height error [m]",
}
FALLING_TIME = 2.0  # [s] after a punch; who falls later falls of something else
# Measures beside which the reference's own stand.
OF_REFERENCE = {name: f"reference_{name}" for name in ("touch_downs", "double_support", "flight")}


@dataclass(frozen=True)
class CaseResult:
    """Figures of a case over its roll-outs; NaN where there is nothing to measure.

    Attributes:
        case: The case.
        rollouts: Number of roll-outs.
        survival: Share that did not fall.
        lin_vel_error: Mean distance of the averaged heading-frame velocity from the command [m/s].
        mean_velocity_error: Mean distance of a roll-out's mean velocity from the command [m/s]: what does not sway to
            and fro with the strides; only for constant commands.
        yaw_rate_error: Mean distance of the averaged yaw rate from the command [rad/s].
        joint_error: Root mean square of joint minus reference [rad].
        drift: Mean distance from start to end [m]; only for the command to stand.
        steps: Mean number of times that a foot was lifted later than `STEPPING_AFTER`; only for that command.
        velocity: Mean vx, vy, yaw rate reached.
        heading: Mean turn from start to end [rad]; only for the command to stand.
        touch_downs: Of both feet a second, after `SETTLING_TIME`, as all that follows.
        double_support: Share of the time with both feet on the ground.
        flight: Share of the time with none.
        slip: Mean horizontal speed of feet on the ground [m/s].
        base_height: Mean height of the base above the ground [m]; only where one is told, as the next.
        height_error: Mean distance of a roll-out's mean height from the one told [m].
        reference_touch_downs, reference_double_support, reference_flight: The same of the reference.
        punches: How many hit each link, and how many of these a robot fell of within `FALLING_TIME`.
    """

    case: EvaluationCase
    rollouts: int
    survival: float
    lin_vel_error: float
    yaw_rate_error: float
    joint_error: float
    drift: float
    steps: float
    velocity: tuple[float, ...]
    mean_velocity_error: float = math.nan
    heading: float = math.nan
    touch_downs: float = math.nan
    double_support: float = math.nan
    flight: float = math.nan
    slip: float = math.nan
    base_height: float = math.nan
    height_error: float = math.nan
    reference_touch_downs: float = math.nan
    reference_double_support: float = math.nan
    reference_flight: float = math.nan
    punches: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def missed(self) -> list[str]:
        """Measures that are not as required; one that could not be measured is missed."""
        return [
            name
            for name, limit in self.case.required.items()
            if not (getattr(self, name) >= limit if name == "survival" else getattr(self, name) <= limit)
        ]

    @property
    def quality(self) -> float:
        """One number from 0 to 1: survival, less for velocity errors that come near 0.5 m/s or 0.75 rad/s."""
        quality = self.survival
        for error, worst in ((self.lin_vel_error, 0.5), (self.yaw_rate_error, 0.75)):
            quality *= 0.0 if math.isnan(error) else max(0.0, 1.0 - error / worst)
        return quality

    def to_json(self) -> dict[str, Any]:
        """All figures under their names, None for NaN."""
        case = self.case
        figures = {item.name: getattr(self, item.name) for item in fields(self) if item.type == "float"}
        return {
            "name": case.name,
            "command": list(case.command),
            "duration": case.duration,
            "push": case.push,
            "height": case.height,
            "conditions": case.conditions,
            "rollouts": self.rollouts,
            **{name: None if math.isnan(value) else round(value, 5) for name, value in figures.items()},
            "velocity": [None if math.isnan(value) else round(value, 4) for value in self.velocity],
            "required": case.required,
            "passed": not self.missed,
            "punches": {name: list(counts) for name, counts in self.punches.items()},
        }


@dataclass(frozen=True)
class Evaluation:
    """Results of all cases."""

    results: list[CaseResult]

    @property
    def score(self) -> float:
        """What checkpoints are chosen by: the mean of the mean quality and the worst one, from 0 to 1.

        With the worst one in it, a policy that forgets one command while it gets better at the others loses. With cases
        of free use it is the worse one of theirs and of the others': a policy must not bear more by obeying less.
        """
        free = [result.quality for result in self.results if result.case.conditions]
        constant = [result.quality for result in self.results if not result.case.conditions]
        return min(0.5 * (sum(group) / len(group) + min(group)) for group in (free, constant) if group)

    @property
    def survival(self) -> float:
        """Mean survival of the cases."""
        return sum(result.survival for result in self.results) / len(self.results)

    @property
    def punches(self) -> dict[str, tuple[int, int]]:
        """Punches on links, left and right together, and how many of them a robot fell of, over all cases."""
        counts: dict[str, tuple[int, int]] = {}
        for result in self.results:
            for name, (hits, falls) in result.punches.items():
                link = name.replace("left_", "").replace("right_", "")
                before = counts.get(link, (0, 0))
                counts[link] = before[0] + hits, before[1] + falls
        return dict(sorted(counts.items(), key=lambda item: -item[1][1] / item[1][0]))

    def summary(self) -> str:
        """One line: how many requirements are met, where there are any, and the means."""
        required = [result for result in self.results if result.case.required]
        worst = min(self.results, key=lambda result: result.quality)
        text = f"score {self.score:.3f}, survival {self.survival:.1%}, worst at {worst.case.name} ({worst.quality:.2f})"
        if required:
            passed = sum(not result.missed for result in required)
            text = f"{passed} of {len(required)} cases as required, {text}"
        return text

    def to_json(self) -> list[dict[str, Any]]:
        """A row for each case."""
        return [result.to_json() for result in self.results]


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
    if evaluation.punches:
        lines += ["", f"Punches, and how many of them a robot fell of within {FALLING_TIME:g} s:", ""]
        lines += ["| link | punches | falls | share |", "|---|--:|--:|--:|"]
        rows = {**evaluation.punches, "all": tuple(map(sum, zip(*evaluation.punches.values())))}
        lines += [f"| {name} | {hits} | {falls} | {falls / hits:.1%} |" for name, (hits, falls) in rows.items()]
    return "\n".join(lines) + "\n"


def screen_text(evaluation: Evaluation) -> str:
    """The evaluation as a table for a terminal."""
    titles = ["command", "survival", "v error", "of mean", "wz error", "joints", "drift", "turn", "steps", "landings"]
    titles += ["double", "flight", "slip", "height", "passed"]
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
        of_reference = getattr(result, OF_REFERENCE.get(name, name))
        if name in OF_REFERENCE and not math.isnan(of_reference):
            text = f"{value:.2f} ({of_reference:.2f})"
        if name in result.case.required and name in result.missed:
            sign, limit = (">=" if name == "survival" else "<="), result.case.required[name]
            text = f"{text} (must be {sign} {limit:g})"
        cells.append(text)
    if not result.case.required:
        return [*cells, ""]
    return [*cells, "NO" if result.missed else "yes"]
