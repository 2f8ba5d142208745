"""Run an exported controller in plain MuJoCo, on any model of the robot: no torch, no training code.

  cmg-play --task g1_cmg --shipped --export outputs/policy.onnx
  cmg-sim --mjcf scene.xml --policy outputs/policy.onnx --command 0.6 0 0.5
  cmg-sim --mjcf scene.xml --policy outputs/policy.onnx --schedule commands.csv --video outputs/sim.mp4
  cmg-sim --mjcf scene.xml --policy outputs/policy.onnx --evaluate --seeds 3 --physics_dt 0.005
  cmg-sim --mjcf scene.xml --policy outputs/policy.onnx --free --seeds 40 --json outputs/free.json
  cmg-sim --mjcf scene.xml --policy outputs/policy.onnx --twist2 twist2.onnx --evaluate

It needs numpy, onnxruntime and mujoco 3.2 or newer.
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command  # isort: split

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from envs.deployment.exported_controller import ArtefactError, ExportedController
from envs.deployment.free_use import FREE
from envs.deployment.plain_runner import COMMANDS, command_name, run, summarise, table
from envs.deployment.plain_simulation import Conditions, PlainSimulation
from envs.deployment.sim_display import Video, Window
from envs.deployment.twist2_controller import Twist2Controller

LAST_COMMAND_TIME = 4.0  # [s] how long the last command of a schedule lasts if no duration is given


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument("--mjcf", type=Path, required=True, metavar="FILE", help="model of the robot or scene")
    parser.add_argument("--policy", type=Path, required=True, metavar="FILE", help="written by cmg-play --export")
    parser.add_argument(
        "--twist2", type=Path, metavar="FILE", help="TWIST2's policy, which follows --policy's reference"
    )
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--command", type=float, nargs=3, metavar=("VX", "VY", "WZ"), help="[m/s], [m/s], [rad/s]")
    given.add_argument("--schedule", type=Path, metavar="FILE", help="CSV with the columns time,vx,vy,wz")
    given.add_argument("--evaluate", action="store_true", help="every command of the evaluation, as a table")
    given.add_argument("--free", action="store_true", help="free use as a table: random schedules, blows, other robots")
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --evaluate or --free: write the figures")
    parser.add_argument("--duration", type=float, help="of a roll-out [s] (default: 20, or that of the schedule)")
    parser.add_argument("--seeds", type=int, default=1, help="roll-outs of each command (default: %(default)s)")
    for name, default, text in (
        ("physics_dt", 0.002, "physics step [s]"),
        ("delay", 0.0, "from a target to the motors [s]"),
        ("noise", 0.0, "of measurements, 1 as in training"),
        ("payload", 0.0, "mass added to the torso [kg]"),
        ("push", 0.0, "change of velocity every 5 s [m/s]"),
        ("roughness", 0.0, "bumps of the ground of up to so much, up and down [m]"),
    ):
        parser.add_argument(f"--{name}", type=float, default=default, help=f"{text} (default: %(default)s)")
    parser.add_argument(
        "--height", type=float, help="of the base [m], told with every command to a file that takes one"
    )
    parser.add_argument("--friction", type=float, help="of all surfaces (default: the model's)")
    parser.add_argument("--video", type=Path, metavar="FILE", help="draw a video (.mp4)")
    return parser.parse_args()


@command(ArtefactError, OSError, ValueError)
def main() -> None:
    """Do what was asked for, or say in one line why not."""
    simulate(parse_arguments())


def simulate(arguments: argparse.Namespace) -> None:
    """Load everything, then evaluate or show."""
    controller: Any = ExportedController(arguments.policy)
    if arguments.twist2 is not None:
        controller = Twist2Controller(arguments.twist2, controller)
    if arguments.height is not None and "height" not in controller.command_labels:
        raise ArtefactError(
            f"{arguments.policy}: takes {', '.join(controller.command_labels)}, no height: cmg-play --export FILE "
            "'commands.ranges.further={\"base_height\": (0.6, 0.77)}' writes one that does"
        )
    told = ("physics_dt", "delay", "noise", "friction", "payload", "push", "roughness")
    conditions = Conditions(**{name: getattr(arguments, name) for name in told})
    if arguments.evaluate or arguments.free:
        rows = []
        for name, case_conditions, commands_of in cases(arguments, conditions, controller.control_dt):
            runs = []
            for seed in range(arguments.seeds):
                simulation = PlainSimulation(arguments.mjcf, controller, case_conditions, seed)
                commands = with_height(commands_of(seed), arguments.height)
                runs.append(run(simulation, controller, commands))
            rows.append(summarise(name, runs, still=not np.any(commands[:, :3])))
            print(f"{name}: {rows[-1].survival:.0%}", file=sys.stderr)
        print(table(rows))
        if arguments.json is not None:
            from cmg_ref.files.atomic_file import write_file

            write_file(arguments.json, json.dumps([row.to_json() for row in rows], indent=1, allow_nan=False) + "\n")
        return
    commands = read_commands(arguments, controller.control_dt, controller.command_labels)
    commands = with_height(commands, arguments.height)
    simulation = PlainSimulation(arguments.mjcf, controller, conditions)
    with display(arguments, simulation) as show:
        result = run(simulation, controller, commands, show)
    seconds = len(result.velocity) * controller.control_dt
    end = "no fall" if result.fell_at is None else f"the robot fell after {result.fell_at:.1f} s"
    velocity, wanted = result.windows()
    error = np.linalg.norm((velocity - wanted)[:, :2], axis=1).mean() if len(velocity) else float("nan")
    print(f"{seconds:.1f} s; {end}; velocity error {error:.3f} m/s over windows of 0.8 s, the first 3 s left out")


def cases(
    arguments: argparse.Namespace, conditions: Conditions, control_dt: float
) -> Iterator[tuple[str, Conditions, Callable[[int], np.ndarray]]]:
    """Name, conditions, and commands by seed of everything that is evaluated."""
    if arguments.free:
        for case in FREE:
            if arguments.duration is not None:
                case = dataclasses.replace(case, seconds=min(case.seconds, arguments.duration))
            yield (
                case.name,
                dataclasses.replace(conditions, **case.conditions),
                functools.partial(case.commands, control_dt),
            )
        return
    steps = round((arguments.duration or 20.0) / control_dt)
    for told in COMMANDS:
        yield command_name(told), conditions, lambda seed, told=told: np.tile(told, (steps, 1))  # type: ignore[misc]


def read_commands(arguments: argparse.Namespace, control_dt: float, labels: list[str]) -> np.ndarray:
    """The command of every control step, (num_steps, at most command_dim)."""
    rows = np.array([[0.0, *(arguments.command or (0.5, 0.0, 0.0))]])
    if arguments.schedule is not None:
        rows = np.loadtxt(arguments.schedule, delimiter=",", skiprows=1, ndmin=2)
        fits = 4 <= rows.shape[1] <= 1 + len(labels)
        if not fits or rows[0, 0] != 0.0 or (np.diff(rows[:, 0]) <= 0.0).any() or not np.isfinite(rows).all():
            raise ArtefactError(f"{arguments.schedule}: needs the columns time,{','.join(labels)}, times rising from 0")
    last = 20.0 if len(rows) == 1 else rows[-1, 0] + LAST_COMMAND_TIME
    times = np.arange(round((arguments.duration or last) / control_dt)) * control_dt
    return rows[np.searchsorted(rows[:, 0], times + 1e-9, side="right") - 1, 1:]


def with_height(commands: np.ndarray, height: float | None) -> np.ndarray:
    """Commands (num_steps, command_dim) that ask for a height of the base [m] too, unless it is None."""
    if height is None:
        return commands
    return np.column_stack((commands[:, :3], np.full(len(commands), height)))


def display(arguments: argparse.Namespace, simulation: PlainSimulation) -> Any:
    """What shows the robot: a video if one was asked for, else a window where there is a screen, else a video."""
    on_screen = sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if arguments.video is not None:
        return Video(simulation, arguments.video)
    if on_screen:
        return Window(simulation)
    try:
        return Video(simulation, Path("outputs/sim.mp4"))
    except ArtefactError as error:
        print(f"without a picture: {error}")
        return contextlib.nullcontext()
