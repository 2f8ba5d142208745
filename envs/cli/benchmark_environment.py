"""Measure how fast the environment is, beside how fast its physics alone would be in the same states.

Both take turns in one run, with the shipped policy walking. Figures only mean something on a machine that does nothing
else. The generator has a benchmark of its own: cmg-benchmark.
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, as_typed, command, whole_number  # isort: split

import argparse
import json
from pathlib import Path

import torch

from cmg_ref.benchmark.report import machine_name
from cmg_ref.files.atomic_file import write_file
from configs.bounds import MAX_NUM_ENVS
from envs.learning.policy import load_policy
from envs.tasks.environment_speed import EnvironmentSpeed, measure_speed
from envs.tasks.task_registry import task_registry

PHYSICS = ((0.005, 4), (0.01, 2))  # time step [s] and steps in a control step


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument("--task", default="g1_cmg", help="default: %(default)s")
    parser.add_argument("--num_envs", type=whole_number(1, MAX_NUM_ENVS), default=512, help="default: %(default)s")
    parser.add_argument(
        "--steps", type=whole_number(1, 10**6), default=400, help="control steps measured (default: %(default)s)"
    )
    parser.add_argument("--policy", type=Path, help="policy file (default: that of the package)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the table as Markdown, and JSON beside it")
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> list[EnvironmentSpeed]:
    """Speeds with each of `PHYSICS`."""
    torch.set_num_threads(1)  # As in training, where the cores belong to the physics between updates.
    policy = load_policy(arguments.policy)
    results = []
    for dt, decimation in PHYSICS:
        cfg, _ = task_registry.get_cfgs(arguments.task)
        cfg.env.num_envs, cfg.sim.dt, cfg.control.decimation = arguments.num_envs, dt, decimation
        env, _ = task_registry.make_env(arguments.task, env_cfg=cfg)
        results.append(measure_speed(env, policy, arguments.steps, progress=True))
    return results


def markdown(results: list[EnvironmentSpeed]) -> str:
    """A table with a line for each result."""
    lines = [
        "| physics | environments | env-steps/s | bare physics, env-steps/s | share of bare | reference term |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        lines.append(
            f"| {result.decimation} x {1e3 * result.physics_dt:g} ms | {result.num_envs} | "
            f"{result.env_steps_per_second:,.0f} | {result.bare_steps_per_second:,.0f} | "
            f"{result.share_of_bare:.0%} | {result.term_share:.1%} of the step |"
        )
    return "\n".join(lines) + "\n"


@command()
def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments()
    results = measure(arguments)
    title = f"{machine_name(torch.device('cpu'))}; `{as_typed()}`"
    print(f"{title}\n\n{markdown(results)}", end="")
    if arguments.save is not None:
        write_file(arguments.save, f"{title}\n\n{markdown(results)}")
        content = json.dumps([result.to_json() for result in results], indent=2) + "\n"
        write_file(arguments.save.with_suffix(".json"), content)
        print(f"wrote {arguments.save} and {arguments.save.with_suffix('.json')}")
