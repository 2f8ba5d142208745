"""Measure a policy in mjlab's simulation, and beside it in the plain runner on mjlab's model of the robot.

  python -m envs.hosts.mjlab.evaluate
  python -m envs.hosts.mjlab.evaluate --policy logs/rsl_rl/g1_cmg/<run>/policy.safetensors --rollouts 8

All robots begin from standing, each with one command, with mjlab's own friction and no randomisation. Measures are
those of cmg-sim: means over windows of 0.8 s, the first 3 s left out. Last comes what the reference costs of a step.
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command  # isort: split

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mjlab.asset_zoo.robots.unitree_g1.g1_constants import G1_XML
from mjlab.envs import ManagerBasedRlEnv

from cmg_ref.core.rotations import in_heading
from configs.g1_cmg_config import G1CMGCfg
from envs.deployment.controller_export import export_controller
from envs.deployment.exported_controller import ExportedController
from envs.deployment.plain_runner import Row, Run, command_name, run, summarise, table
from envs.deployment.plain_simulation import Conditions, PlainSimulation
from envs.hosts.mjlab.runner import describe_policy
from envs.hosts.mjlab.tasks import make_env_cfg
from envs.hosts.mjlab.terms import COMMAND
from envs.learning.policy import SHIPPED_POLICY, PolicyError, load_policy

COMMANDS: tuple[tuple[float, float, float], ...] = (
    (0.0, 0.0, 0.0),
    *((vx, 0.0, 0.0) for vx in (0.5, 1.0, 1.5, -0.4)),
    (0.0, 0.3, 0.0),
    (0.0, 0.0, 0.8),
    (0.6, 0.2, 0.4),
)


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--policy", type=Path, default=SHIPPED_POLICY, metavar="FILE", help="(default: the shipped one)"
    )
    parser.add_argument("--rollouts", type=int, default=1, help="robots of each command (default: %(default)s)")
    parser.add_argument("--duration", type=float, default=20.0, help="of a roll-out [s] (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="of the simulation (default: %(default)s)")
    return parser.parse_args()


@command(PolicyError, OSError, ValueError)
def main() -> None:
    """Print both tables."""
    arguments = parse_arguments()
    policy = arguments.policy, arguments.duration
    rows, whole, reference = in_mjlab(*policy, arguments.rollouts, arguments.device)
    print("mjlab:\n\n" + table(rows))
    print("\nThe plain runner on mjlab's model:\n\n" + table(in_plain_mujoco(*policy)))
    robots = len(COMMANDS) * arguments.rollouts
    share = f"{1000.0 * reference:.1f} ms of {1000.0 * whole:.0f} ms, {reference / whole:.1%}"
    print(f"\nThe reference takes {share} of a step of {robots} robots (medians).")


@torch.no_grad()
def in_mjlab(policy_file: Path, duration: float, rollouts: int, device: str) -> tuple[list[Row], float, float]:
    """Figures of each command, all robots side by side, and what a step and, of it, the command term take [s]."""
    policy = load_policy(policy_file).to(device)
    task = G1CMGCfg()
    task.env.history_length = policy.description.history_length
    limits = policy.description.config.get("commands", {}).get("acceleration", task.commands.acceleration)
    task.commands.acceleration = tuple(limits)
    cfg = make_env_cfg(rough=False, play=True, cfg=task)
    cfg.scene.num_envs = len(COMMANDS) * rollouts
    cfg.events = {}
    env = ManagerBasedRlEnv(cfg, device)
    why = policy.description.mismatch(describe_policy(env))
    if why:
        raise PolicyError(f"{policy_file}: {why}")
    limit, term = policy.description.action_limit, env.command_manager.get_term(COMMAND)
    observations, _ = env.reset()
    told = torch.tensor(COMMANDS, device=device).repeat_interleave(rollouts, dim=0)
    term.set_commands(policy.description.command_calibration().to(device)(told))
    runs = [Run(env.step_dt) for _ in told]
    steps, references = _Stopwatch(env.step, device), _Stopwatch(env.command_manager.compute, device)
    env.command_manager.compute = references
    for step in range(round(duration / env.step_dt)):
        observations, *_ = steps(policy(observations["actor"]).clamp(-limit, limit))
        _note(runs, told.cpu().numpy(), _velocity(term.robot), env.reset_terminated, step + 1)
    env.close()
    rows = [summarise(command_name(one), runs[at * rollouts : (at + 1) * rollouts]) for at, one in enumerate(COMMANDS)]
    return rows, float(np.median(steps.seconds)), float(np.median(references.seconds))


class _Stopwatch:
    """Calls a function and notes how long it takes, `seconds`."""

    def __init__(self, function: Callable[..., Any], device: str) -> None:
        self._function, self._wait = function, device != "cpu"
        self.seconds: list[float] = []

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self._settle()
        started = time.perf_counter()
        result = self._function(*arguments, **named)
        self._settle()
        self.seconds.append(time.perf_counter() - started)
        return result

    def _settle(self) -> None:
        if self._wait:  # A GPU is still at work when a call returns.
            torch.cuda.synchronize()


def in_plain_mujoco(policy_file: Path, duration: float) -> list[Row]:
    """Figures of each command in the runner of `cmg-sim`, one robot after the other."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.onnx"
        export_controller(load_policy(policy_file), path)
        controller = ExportedController(path)
    rows = []
    for told in COMMANDS:
        simulation = PlainSimulation(G1_XML, controller, Conditions(physics_dt=0.005))
        steps = round(duration / controller.control_dt)
        rows.append(summarise(command_name(told), [run(simulation, controller, [np.array(told)] * steps)]))
    return rows


def _velocity(robot: Any) -> np.ndarray:
    """vx, vy [m/s] in the heading frame and yaw rate [rad/s] of the bases, (num_envs, 3)."""
    data = robot.data
    horizontal = in_heading(data.root_link_quat_w.roll(-1, dims=-1), data.root_link_lin_vel_w)[:, :2]
    return torch.cat((horizontal, data.root_link_ang_vel_w[:, 2:]), dim=1).cpu().numpy()


def _note(runs: list[Run], told: np.ndarray, velocity: np.ndarray, fell: torch.Tensor, steps: int) -> None:
    """Add a step to every roll-out that has not ended yet."""
    for one, command_given, reached, down in zip(runs, told, velocity, fell.tolist(), strict=True):
        if down and one.fell_at is None:
            one.fell_at = steps * one.control_dt
        if one.fell_at is None:
            one.command.append(command_given)
            one.velocity.append(reached)


if __name__ == "__main__":
    main()
