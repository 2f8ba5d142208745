"""The loop of a deployed controller, and how well the robot obeys: the measures of the evaluation without its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from envs.deployment.plain_simulation import PlainSimulation

# As in envs.evaluation.policy_evaluation, which this file does not import: a test holds them to each other.
SETTLING_TIME, WINDOW = 3.0, 0.8  # [s]
COMMANDS: tuple[tuple[float, float, float], ...] = (
    (0.0, 0.0, 0.0),
    *((vx, 0.0, 0.0) for vx in (-0.5, 0.5, 1.0, 1.5)),
    *((0.0, vy, 0.0) for vy in (-0.3, 0.3)),
    *((0.0, 0.0, wz) for wz in (-0.8, 0.8)),
    *((0.6, 0.2, 0.4), (0.6, -0.2, -0.4), (1.0, 0.0, 0.6), (1.0, 0.0, -0.6)),
    *((vx, 0.0, 0.0) for vx in (2.0, 2.5)),
)


@dataclass
class Run:
    """What happened in a roll-out.

    Attributes:
        command: Of each control step, (num_steps, 3).
        velocity: Of the base after it: vx, vy in the heading frame, yaw rate, (num_steps, 3).
        control_dt: Time of a control step [s].
        fell_at: When the robot fell [s]; None if it did not.
        moved: From start to end: x, y [m] and turn [rad], (3,).
    """

    control_dt: float
    command: list[np.ndarray] = field(default_factory=list)
    velocity: list[np.ndarray] = field(default_factory=list)
    fell_at: float | None = None
    moved: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def windows(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean velocities and commands of the settled windows, (num_windows, 3) each."""
        length, settling = round(WINDOW / self.control_dt), round(SETTLING_TIME / self.control_dt)
        ends = [end for end in range(length, len(self.velocity) + 1, length) if end > settling + length - 1]
        velocity, command = np.array(self.velocity), np.array(self.command)
        width = velocity.shape[1] if len(velocity) else 3
        pairs = [(velocity[e - length : e].mean(axis=0), command[e - length : e, :width].mean(axis=0)) for e in ends]
        return np.array([v for v, _ in pairs]).reshape(-1, 3), np.array([c for _, c in pairs]).reshape(-1, 3)


def run(
    simulation: PlainSimulation,
    controller: Any,
    commands: Iterable[np.ndarray],
    show: Callable[[PlainSimulation], None] | None = None,
) -> Run:
    """Roll a robot out until the commands end or it falls.

    Args:
        simulation: The robot, wherever it is.
        controller: An `ExportedController` or what looks like one.
        commands: Command of each control step, beginning with vx, vy [m/s], yaw rate [rad/s].
        show: Called after each control step.
    """
    result = Run(controller.control_dt)
    push_steps = round(simulation.conditions.push_interval / controller.control_dt)
    controller.reset()
    simulation.reset()
    start = simulation.pose()
    for step, command in enumerate(commands):
        if step and step % push_steps == 0 and simulation.conditions.push > 0.0:
            simulation.push()
        ang_vel, gravity, joint_pos, joint_vel = simulation.measure()
        simulation.step(controller.step(ang_vel, gravity, command, joint_pos, joint_vel))
        if show is not None:
            show(simulation)
        if simulation.fallen:
            result.fell_at = (step + 1) * controller.control_dt
            break
        result.command.append(np.asarray(command))
        result.velocity.append(simulation.velocity())
    result.moved = simulation.pose() - start
    result.moved[2] = np.arctan2(np.sin(result.moved[2]), np.cos(result.moved[2]))
    return result


@dataclass(frozen=True)
class Row:
    """Figures of a command, or of a case of free use: as of `envs.evaluation.report.CaseResult`."""

    name: str
    runs: int
    survival: float
    lin_vel_error: float
    yaw_rate_error: float
    velocity: tuple[float, float, float]
    drift: float
    heading: float

    def to_json(self) -> dict[str, Any]:
        """All figures under their names, None for NaN."""
        figures = {name: value for name, value in asdict(self).items() if name != "name"}
        return {"name": self.name, **{name: None if np.isnan(x).any() else x for name, x in figures.items()}}


def command_name(command: Sequence[float]) -> str:
    """Such as "+0.60 -0.20 -0.40"."""
    return " ".join(f"{value:+.2f}" for value in command)


def summarise(name: str, runs: Sequence[Run], still: bool = False) -> Row:
    """Figures of the roll-outs of a case; NaN where none lasted for long enough to be measured.

    Args:
        name: Of the case.
        runs: The roll-outs.
        still: Whether the command is to stand, so that drift [m] and heading [rad] from start to end mean something.
    """
    windows = [one.windows() for one in runs]
    errors = [velocity - wanted for velocity, wanted in windows if len(velocity)]
    nothing = float("nan")
    lin = float(np.mean([np.linalg.norm(e[:, :2], axis=1).mean() for e in errors])) if errors else nothing
    yaw = float(np.mean([np.abs(e[:, 2]).mean() for e in errors])) if errors else nothing
    mean = np.mean([v.mean(axis=0) for v, _ in windows if len(v)], axis=0) if errors else np.full(3, nothing)
    survival = sum(one.fell_at is None for one in runs) / len(runs)
    moved = np.abs([one.moved for one in runs])
    drift, heading = np.hypot(moved[:, 0], moved[:, 1]).mean(), moved[:, 2].mean()
    standing = (float(drift), float(heading)) if still else (nothing, nothing)
    return Row(name, len(runs), survival, lin, yaw, (float(mean[0]), float(mean[1]), float(mean[2])), *standing)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, which is easy to read on a terminal too."""
    titles = ("command vx, vy, wz", "survival", "velocity error [m/s]", "yaw rate error [rad/s]", "velocity reached")
    lines = [f"| {' | '.join(titles)} | drift [m] | turn [rad] |", "|---|--:|--:|--:|---|--:|--:|"]
    for row in rows:
        cells = [row.name, f"{row.survival:.0%}", f"{row.lin_vel_error:.3f}", f"{row.yaw_rate_error:.3f}"]
        cells += [command_name(row.velocity), *("" if np.isnan(x) else f"{x:.3f}" for x in (row.drift, row.heading))]
        lines.append(f"| {' | '.join(cells)} |")
    runs = sum(row.runs for row in rows)
    survived = sum(row.runs * row.survival for row in rows)
    return "\n".join([*lines, "", f"{survived:.0f} of {runs} roll-outs without a fall"])
