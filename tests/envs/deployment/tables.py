"""Makes the tables of docs/deploy.md anew: python -m tests.envs.deployment.tables UNITREE TWIST2 MJLAB TWIST2_ONNX.

The arguments are the robot's model of each project (MJCF) and TWIST2's policy. It takes half an hour on one core. With
``--calibrated`` before them it makes the table of calibrated commands alone, in some ten minutes.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.deployment.controller_export import export_controller
from envs.deployment.exported_controller import ExportedController
from envs.deployment.plain_runner import COMMANDS, Row, Run, command_name, run, summarise
from envs.deployment.plain_simulation import Conditions, PlainSimulation
from envs.deployment.twist2_controller import Twist2Controller, Twist2Policy
from envs.learning.policy import SHIPPED_POLICY, load_policy
from envs.serving.calibrate import calibrate
from envs.serving.calibration import Calibration
from envs.serving.motion_frame import JOINT_NAMES
from envs.serving.protocol import Twist2
from envs.serving.reference import Reference

PAGE = Path(__file__).parents[3] / "docs" / "deploy.md"
SEEDS, SECONDS = 3, 20.0
STEPS = (0.002, 0.005)  # [s] of physics
TWIST2_STEP = 0.001


CALIBRATED = ((0.5, 0, 0), (1, 0, 0), (1.2, 0, 0), (-0.4, 0, 0), (0, 0.3, 0), (0, -0.3, 0), (0, 0, 0.8))


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[0] == "--calibrated":
        _, model, _, twist2 = map(Path, arguments[1:])
        replace("calibrated", calibrated(twist2, model))
        return
    *models, twist2 = map(Path, arguments)
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.onnx"
        export_controller(load_policy(), policy, policy_file=SHIPPED_POLICY)
        controller = ExportedController(policy)
        columns = [rows(model, controller, step) for model in models for step in STEPS]
        replace(
            "models",
            ["| " + " | ".join([name_of(own), *map(cell, same)]) + " |" for own, *same in with_command(columns)],
        )
        theirs = rows(models[1], Twist2Controller(twist2, controller), TWIST2_STEP)
        lines = [
            f"| {name_of(command)} | {cell(row)} | {' '.join(f'{value:+.2f}' for value in row.velocity)} |"
            for command, row in with_command([theirs])
        ]
        replace("twist2", lines)


def rows(model: Path, controller: Any, physics_dt: float) -> list[Row]:
    """Each command of the evaluation, SEEDS roll-outs of SECONDS each, with the noise of training."""
    found = []
    for command in COMMANDS:
        told = np.tile(command, (round(SECONDS / controller.control_dt), 1))
        conditions = Conditions(physics_dt=physics_dt, noise=1.0)
        runs = [run(PlainSimulation(model, controller, conditions, seed), controller, told) for seed in range(SEEDS)]
        found.append(summarise(command_name(command), runs))
        print(model, physics_dt, found[-1].name, f"{found[-1].survival:.0%}", flush=True)
    return found


def calibrated(policy: Path, model: Path) -> list[str]:
    """Rows of commands that TWIST2's policy is told as they are, and as a calibration learnt anew has them."""
    controller = Twist2Policy(policy, JOINT_NAMES)
    with tempfile.TemporaryDirectory() as folder:
        learnt = calibrate(policy, model, Path(folder) / "map.json", None, lambda line: print(line, flush=True))
    lines = []
    for command in CALIBRATED:
        cells = []
        for calibration in (None, learnt):
            runs = [follow(command, calibration, 0.25 + 0.3 * seed, controller, model) for seed in range(SEEDS)]
            row = summarise(name_of(command), runs)
            cells.append(f"{cell(row)}; {' '.join(f'{value:+.2f}' for value in row.velocity)}")
        lines.append(f"| {name_of(command)} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def follow(
    command: Sequence[float], calibration: Calibration | None, standing: float, controller: Twist2Policy, model: Path
) -> Run:
    """A run of SECONDS after standing for some time [s], on which it depends what exactly a robot does."""
    reference, protocol = Reference(calibration=calibration), Twist2()
    simulation = PlainSimulation(model, controller, Conditions(TWIST2_STEP))
    controller.reset()
    result, control_dt = Run(controller.control_dt), controller.control_dt
    for step in range(round((standing + SECONDS) / control_dt)):
        told = np.array(command, dtype=float) if step * control_dt >= standing else np.zeros(3)
        body = protocol.body(reference.step(told))
        simulation.step(controller.follow(body, *simulation.measure()))
        if simulation.fallen:
            result.fell_at = step * control_dt
            break
        result.command.append(told)
        result.velocity.append(simulation.velocity())
    return result


def with_command(columns: Sequence[Sequence[Row]]) -> list[tuple[Any, ...]]:
    """Each command with its row of every column."""
    return list(zip(COMMANDS, *columns, strict=True))


def name_of(command: Sequence[float]) -> str:
    """Such as "vx 0.6 vy 0.2 wz 0.4", or "stand"."""
    return (
        " ".join(f"{name} {value:g}" for name, value in zip(("vx", "vy", "wz"), command, strict=True) if value)
        or "stand"
    )


def cell(row: Row) -> str:
    """Errors of velocity and yaw rate, and how many fell, if any did."""
    fallen = round(row.runs * (1.0 - row.survival))
    errors = f"{row.lin_vel_error:.2f} / {row.yaw_rate_error:.2f}" if np.isfinite(row.lin_vel_error) else ""
    return f"{errors} **{fallen} of {row.runs} fall**".strip() if fallen else errors


def replace(name: str, lines: Sequence[str]) -> None:
    """Put lines below the heading of a marked table."""
    pattern = rf"(<!-- table: {name} -->\n\|[^\n]*\n\|[^\n]*\n).*?(<!-- end of table -->)"
    text, number = re.subn(
        pattern,
        lambda found: found[1] + "\n".join(lines) + "\n" + found[2],
        PAGE.read_text(encoding="utf-8"),
        flags=re.S,
    )
    assert number == 1, name
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
