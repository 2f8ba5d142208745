"""The loop of a deployed controller, and how well the robot obeys: the measures of the evaluation without its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from envs.deployment.plain_simulation import PlainSimulation

# As in envs.learning.policy_evaluation, which this file does not import: a test holds them to each other.
SETTLING_TIME, WINDOW, PUSH_INTERVAL = 3.0, 0.8, 5.0  # [s]
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
    """

    control_dt: float
    command: list[np.ndarray] = field(default_factory=list)
    velocity: list[np.ndarray] = field(default_factory=list)
    fell_at: float | None = None

    def windows(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean velocities and commands of the settled windows, (num_windows, 3) each."""
        length, settling = round(WINDOW / self.control_dt), round(SETTLING_TIME / self.control_dt)
        ends = [end for end in range(length, len(self.velocity) + 1, length) if end > settling + length - 1]
        velocity, command = np.array(self.velocity), np.array(self.command)
        pairs = [(velocity[end - length : end].mean(axis=0), command[end - 1][: velocity.shape[1]]) for end in ends]
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
    push_steps = round(PUSH_INTERVAL / controller.control_dt)
    controller.reset()
    simulation.reset()
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
    return result


@dataclass(frozen=True)
class Row:
    """Figures of a command: as of `envs.learning.policy_evaluation.CaseResult`."""

    command: tuple[float, float, float]
    runs: int
    survival: float
    lin_vel_error: float
    yaw_rate_error: float
    velocity: tuple[float, float, float]


def summarise(command: tuple[float, float, float], runs: Sequence[Run]) -> Row:
    """Figures of the roll-outs of a command; NaN where none lasted for long enough to be measured."""
    windows = [one.windows() for one in runs]
    errors = [velocity - wanted for velocity, wanted in windows if len(velocity)]
    nothing = float("nan")
    lin = float(np.mean([np.linalg.norm(e[:, :2], axis=1).mean() for e in errors])) if errors else nothing
    yaw = float(np.mean([np.abs(e[:, 2]).mean() for e in errors])) if errors else nothing
    mean = np.mean([v.mean(axis=0) for v, _ in windows if len(v)], axis=0) if errors else np.full(3, nothing)
    survival = sum(one.fell_at is None for one in runs) / len(runs)
    return Row(command, len(runs), survival, lin, yaw, (float(mean[0]), float(mean[1]), float(mean[2])))


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, which is easy to read on a terminal too."""
    lines = ["| command vx, vy, wz | survival | velocity error [m/s] | yaw rate error [rad/s] | velocity reached |"]
    lines.append("|---|--:|--:|--:|---|")
    for row in rows:
        command, reached = (" ".join(f"{value:+.2f}" for value in triple) for triple in (row.command, row.velocity))
        lines.append(
            f"| {command} | {row.survival:.0%} | {row.lin_vel_error:.3f} | {row.yaw_rate_error:.3f} | {reached} |"
        )
    runs = sum(row.runs for row in rows)
    survived = sum(row.runs * row.survival for row in rows)
    return "\n".join([*lines, "", f"{survived:.0f} of {runs} roll-outs without a fall"])
