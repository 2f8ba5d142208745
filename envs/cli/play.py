"""Watch a policy obey, and measure how well it does.

  cmg-play --task g1_cmg                        # the newest run, else the policy of the package
  cmg-play --task g1_cmg --command 0.6 0 0.5 --output outputs/curve
  cmg-play --task g1_cmg --schedule commands.csv
  cmg-play --task g1_cmg --keyboard             # steer from the terminal
  cmg-play --task g1_cmg --evaluate --output outputs/evaluation
  cmg-play --task g1_cmg --calibrate outputs/policy.safetensors   # obeys better: measures what it must be told
  cmg-twist play --help                       # TWIST's tasks, see docs/twist.md

A roll-out leaves a video of the robot and its half transparent reference, a plot of the velocities and a table; an
evaluation tries every command of a grid and leaves evaluation.json and evaluation.md.
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command, labelled_number, real_number, whole_number  # isort: split

import argparse
import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

# Threads of torch that wait for work must not take the cores from the physics; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

# Isaac Gym has to be imported before torch.
from envs.simulator import BACKEND  # isort: skip

import torch

from cmg_ref.commands.schedule import MAX_COMMAND, CommandSchedule, held_within
from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.devices import checked_device
from cmg_ref.core.installation import check_installed
from cmg_ref.network.checkpoint import SHIPPED_CHECKPOINT
from cmg_ref.robots.robot import Robot
from configs.base_config import apply_overrides, class_to_dict
from configs.bounds import MAX_NUM_ENVS, MAX_SEED, check_bounds
from envs.evaluation.calibration import DURATION, SEED, calibrate
from envs.evaluation.cases import FREE, shortened
from envs.evaluation.policy_evaluation import Evaluation, evaluate, evaluation_config, free_config, grid_of
from envs.evaluation.report import save_evaluation, screen_text
from envs.hosts import twist, twist_options
from envs.learning.policy import (
    SHIPPED_POLICY,
    Policy,
    file_hash,
    load_policy,
    policy_of_checkpoint,
    save_policy,
)
from envs.learning.training_run import BEST_POLICY, RunError, find_checkpoint, find_run, project_folder, writable
from envs.playing.keyboard import HELP, Keyboard, KeyboardError, key_help, steered_commands
from envs.playing.playback import (
    Playback,
    command_range,
    config_of_policy,
    make_env,
    play,
    playback_config,
    playback_table,
    save_playback_plot,
)
from envs.playing.video import RENDERERS, VideoError, can_write_mp4, write_video
from envs.tasks.task_registry import task_registry
from envs.terms.commands import configured_layout

# Time [s], vx, vy [m/s], wz [rad/s] of what is shown if nothing else is asked for.
DEMONSTRATION = (
    (0.0, 0.0, 0.0, 0.0),
    (1.0, 0.6, 0.0, 0.0),
    (5.0, 1.2, 0.0, 0.0),
    (9.0, 0.6, 0.0, 0.7),
    (13.0, 0.0, 0.0, -0.8),
    (17.0, 0.0, 0.3, 0.0),
    (21.0, -0.4, 0.0, 0.0),
    (25.0, 0.0, 0.0, 0.0),
)
LAST_COMMAND_TIME = 4.0  # [s] how long the last command of a schedule lasts if no duration is given
COMMAND_TIME = 10.0  # [s] of a single command
MAX_PARALLEL = 512
MIN_DURATION, MAX_DURATION = 0.5, 3600.0  # [s]
KEYBOARD_TIME = 600.0  # [s]
QUICK_ROLLOUTS, QUICK_DURATION = 8, 10.0


class OptionError(ValueError):
    """An option that cannot be used; the message is one line."""


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument("--task", default="g1_cmg", help="default: %(default)s")
    policy = parser.add_argument_group("policy")
    policy.add_argument("--policy", type=Path, metavar="FILE", help="policy file (.safetensors)")
    policy.add_argument("--shipped", action="store_true", help="the policy of the package, whatever runs there are")
    policy.add_argument("--log_dir", type=Path, help="folder of the runs (default: logs/<experiment name>)")
    policy.add_argument("--load_run", metavar="RUN", help="run to load (default: the newest)")
    policy.add_argument("--checkpoint", metavar="WHICH", help="iteration or file name (default: the best)")
    policy.add_argument("--zero_residual", action="store_true", help="no policy: every action is zero")
    given = parser.add_argument_group("command")
    speed = real_number(-MAX_COMMAND, MAX_COMMAND)
    given.add_argument("--command", type=speed, nargs=3, metavar=("VX", "VY", "WZ"), help="[m/s], [m/s], [rad/s]")
    given.add_argument(
        "--channel",
        type=labelled_number(-MAX_COMMAND, MAX_COMMAND),
        action="append",
        default=[],
        metavar="LABEL=VALUE",
        help="another channel of the command (default: at rest)",
    )
    given.add_argument("--schedule", type=Path, metavar="FILE", help="commands over time (.csv or .json)")
    given.add_argument("--keyboard", action="store_true", help=HELP)
    given.add_argument("--duration", type=real_number(MIN_DURATION, MAX_DURATION), help="length of the roll-out [s]")
    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument("--evaluate", action="store_true", help="measure every command of the grid instead")
    evaluation.add_argument(
        "--rollouts", type=whole_number(1, 10**6), default=200, help="of each command (default: %(default)s)"
    )
    evaluation.add_argument(
        "--quick", action="store_true", help=f"after the roll-out, {QUICK_ROLLOUTS} short ones of each command"
    )
    evaluation.add_argument(
        "--free",
        action="store_true",
        help="with --evaluate: the grid with self-collision and free use: random schedules, blows, other robots",
    )
    evaluation.add_argument("--strict", action="store_true", help="fail if a requirement of the grid is missed")
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FILE",
        help="measure how far the policy is off its commands, write it (.safetensors) with offsets on them, and end",
    )
    parser.add_argument(
        "--export", type=Path, metavar="FILE", help="write policy and reference as one ONNX file, check it, and end"
    )
    parser.add_argument("--export_alone", action="store_true", help="with --export: the policy without its reference")
    output = parser.add_argument_group("output")
    output.add_argument("--output", type=Path, help="folder (default: outputs/play or outputs/evaluation)")
    output.add_argument("--no_video", action="store_true", help="do not draw the video")
    output.add_argument("--renderer", choices=RENDERERS, default="auto", help="of the video (default: %(default)s)")
    parser.add_argument(
        "--num_envs",
        type=whole_number(1, MAX_NUM_ENVS),
        default=MAX_PARALLEL,
        help="of an evaluation (default: %(default)s)",
    )
    parser.add_argument("--seed", type=whole_number(0, MAX_SEED), default=1, help="default: %(default)s")
    parser.add_argument("--headless", action="store_true", help="taken as by cmg-train-policy: there is never a viewer")
    parser.add_argument("--sim_device", help="device of the simulation (default: cuda:0 with Isaac Gym, else cpu)")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="fields of the environment's configuration")
    arguments = parser.parse_args()
    if arguments.free and not arguments.evaluate:
        parser.error("--free: says what is evaluated, and needs --evaluate")
    if arguments.calibrate is not None and arguments.calibrate.suffix != ".safetensors":
        parser.error(f"--calibrate {arguments.calibrate}: a policy's name must end in .safetensors")
    if arguments.export is not None and arguments.export.suffix != ".onnx":
        parser.error(f"--export {arguments.export}: a policy is written as ONNX, the name must end in .onnx")
    return arguments


@command(ValueError, KeyboardError, VideoError, twist.TwistError, OSError)
def main() -> None:
    """Do what was asked for, or say in one line why not."""
    torch.set_num_threads(1)  # The cores belong to the physics.
    if twist_options.is_asked_for(sys.argv[1:]):
        twist.play(sys.argv[1:])
        return
    run(parse_arguments())


def run(arguments: argparse.Namespace) -> None:
    """Load a policy and its environment, then export, evaluate or play."""
    if arguments.sim_device is not None:
        checked_device(arguments.sim_device, "--sim_device")
    if arguments.export is not None:
        check_installed("onnx", "onnxruntime")
    policy, origin = choose_policy(arguments)
    if policy is None:
        env_cfg, _ = task_registry.get_cfgs(arguments.task)
    else:
        env_cfg = config_of_policy(arguments.task, policy)
    apply_overrides(env_cfg, arguments.overrides)
    env_cfg.seed = arguments.seed
    check_bounds(env_cfg)
    schedule = read_schedule(arguments, configured_layout(env_cfg.commands))
    if arguments.export is not None:
        export(policy, origin, env_cfg, arguments)
        return
    if arguments.calibrate is not None:
        calibrate_policy(policy, origin, env_cfg, arguments)
        return
    folder = writable(
        arguments.output or project_folder() / "outputs" / ("evaluation" if arguments.evaluate else "play")
    )
    print(f"policy: {origin}")
    if arguments.evaluate:
        settings = {"policy": origin, "simulator": BACKEND, "seed": arguments.seed, "torch": torch.__version__}
        if arguments.free:
            evaluation = run_free(arguments, env_cfg, policy)
        else:
            evaluation = run_grid(arguments, env_cfg, policy, grid_of(env_cfg), arguments.rollouts)
        report(evaluation, folder, {**settings, "roll-outs of each command": arguments.rollouts}, arguments.strict)
        return
    show(arguments, env_cfg, policy, schedule, folder)
    if arguments.quick:
        evaluation = run_grid(arguments, env_cfg, policy, shortened(grid_of(env_cfg), QUICK_DURATION), QUICK_ROLLOUTS)
        settings = {"policy": origin, "roll-outs of each command": QUICK_ROLLOUTS, "seconds": QUICK_DURATION}
        report(evaluation, folder, settings, arguments.strict)


def read_schedule(arguments: argparse.Namespace, layout: CommandLayout) -> CommandSchedule:
    """The commands of a roll-out."""
    told = arguments.command or arguments.channel
    if sum(bool(given) for given in (told, arguments.schedule, arguments.keyboard)) > 1:
        raise OptionError("--command, --schedule and --keyboard exclude each other")
    if arguments.schedule is not None:
        return CommandSchedule.from_file(arguments.schedule, layout)
    if arguments.command is not None or arguments.channel:
        told = dict(zip(CommandLayout().labels, arguments.command or ()))
        return CommandSchedule.constant(**told, layout=layout, **dict(arguments.channel))
    return CommandSchedule(DEMONSTRATION, layout=layout)


def choose_policy(arguments: argparse.Namespace) -> tuple[Policy | None, str]:
    """The policy, None for the zero residual, and where it comes from."""
    if arguments.zero_residual:
        return None, "none, every action is zero"
    _, train_cfg = task_registry.get_cfgs(arguments.task)
    log_dir = arguments.log_dir or project_folder() / "logs" / train_cfg.runner.experiment_name
    wants_run = arguments.load_run is not None or arguments.checkpoint is not None or arguments.log_dir is not None
    if arguments.policy is not None:
        policy, origin = load_policy(arguments.policy), str(arguments.policy)
    elif arguments.shipped or not (wants_run or has_run(log_dir)):
        policy, origin = load_policy(), "of the package"
    else:
        folder = find_run(log_dir, arguments.load_run)
        best = folder / BEST_POLICY
        if arguments.checkpoint is None and best.is_file():
            policy, origin = load_policy(best), str(best)
        else:
            path = find_checkpoint(folder, arguments.checkpoint)
            policy, origin = policy_of_checkpoint(path), str(path)
    if policy.description.task != arguments.task:
        raise OptionError(f"{origin}: is a policy of the task {policy.description.task}, not of {arguments.task}")
    return policy, origin


def has_run(log_dir: Path) -> bool:
    """Whether there is a run to load."""
    try:
        find_run(log_dir)
    except RunError:
        return False
    return True


def actions_of(policy: Policy | None, env: Any) -> Any:
    """A function from observations to actions."""
    return policy or (lambda observations: torch.zeros(len(observations), env.num_actions, device=env.device))


def calibration_of(policy: Policy | None, env: Any) -> torch.nn.Module:
    """From commands to what a policy's environment is told for them."""
    return torch.nn.Identity() if policy is None else policy.description.command_calibration().to(env.device)


def run_grid(
    arguments: argparse.Namespace, env_cfg: Any, policy: Policy | None, cases: Any, rollouts: int
) -> Evaluation:
    """Roll-outs of all cases."""
    cfg = evaluation_config(env_cfg, max(case.duration for case in cases))
    return run_cases(arguments, cfg, policy, cases, rollouts)


def run_free(arguments: argparse.Namespace, env_cfg: Any, policy: Policy | None) -> Evaluation:
    """Roll-outs of the grid and of free use; another solver and another ground in simulations of their own."""
    tried, results = (*grid_of(env_cfg), *FREE), {}
    for world in dict.fromkeys((case.noslip, case.roughness) for case in tried):
        cases = [case for case in tried if (case.noslip, case.roughness) == world]
        cfg = free_config(env_cfg, max(case.duration for case in cases), *world)
        evaluation = run_cases(arguments, cfg, policy, cases, arguments.rollouts)
        results.update({result.case.name: result for result in evaluation.results})
    return Evaluation([results[case.name] for case in tried])


def run_cases(arguments: argparse.Namespace, cfg: Any, policy: Policy | None, cases: Any, rollouts: int) -> Evaluation:
    """Roll-outs of cases in one simulation."""
    cfg.env.num_envs = min(arguments.num_envs, len(cases) * rollouts)
    env = make_env(arguments.task, cfg, policy, arguments.sim_device)
    actions, seed, calibration = actions_of(policy, env), arguments.seed, calibration_of(policy, env)
    return evaluate(env, actions, cases, rollouts, seed, progress=True, calibration=calibration)


def report(evaluation: Evaluation, folder: Path, settings: dict[str, object], strict: bool) -> None:
    """Show and write the results; ends with an error if that was asked for and something is missed."""
    print(screen_text(evaluation))
    for path in save_evaluation(evaluation, folder, settings):
        print(f"wrote {path}")
    missed = [result.case.name for result in evaluation.results if result.missed]
    if strict and missed:
        raise OptionError(f"missed: {', '.join(missed)}")


def show(
    arguments: argparse.Namespace, env_cfg: Any, policy: Policy | None, schedule: CommandSchedule, folder: Path
) -> None:
    """Roll one robot out; table, plot and video."""
    last = LAST_COMMAND_TIME if schedule.last_change > 0.0 else COMMAND_TIME
    duration = arguments.duration or (KEYBOARD_TIME if arguments.keyboard else schedule.end(last, MAX_DURATION))
    env = make_env(arguments.task, playback_config(env_cfg, duration), policy, arguments.sim_device)
    act, calibration = actions_of(policy, env), calibration_of(policy, env)
    lowest, highest = command_range(env)
    if arguments.keyboard:
        print(key_help(env.command_layout))
        with Keyboard(lowest, highest, env.command_layout) as keyboard:
            commands = steered_commands(keyboard, env.dt, duration)
            playback = play(env, act, commands, calibration=calibration)
    else:
        rows, held = held_within(schedule.sample(1.0 / env.dt, duration), lowest, highest, env.command_layout)
        for line in held:
            print(line)
        playback = play(env, act, iter(rows), calibration=calibration)
        print(playback_table(playback, schedule))
    write_outputs(playback, env.robot, folder, arguments)


def write_outputs(playback: Playback, robot: Robot, folder: Path, arguments: argparse.Namespace) -> None:
    """Plot and video, where what they need is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        print("without a plot and a video: they need more packages, pip install 'cmg_ref[viz]'")
        return
    save_playback_plot(playback, folder / "velocity.png")
    print(f"wrote {folder / 'velocity.png'}")
    if not arguments.no_video:
        path = folder / ("video.mp4" if can_write_mp4() else "video.gif")
        video = write_video(playback.robot, path, robot, ghost=playback.ghost(), renderer=arguments.renderer)
        print(f"wrote {path} ({video.num_frames} frames, drawn by {video.renderer})")


def calibrate_policy(policy: Policy | None, origin: str, env_cfg: Any, arguments: argparse.Namespace) -> None:
    """Write the policy with the offsets on commands with which it obeys better."""
    if policy is None:
        raise OptionError("--zero_residual has no policy to calibrate")
    writable(arguments.calibrate.parent)
    cfg = evaluation_config(env_cfg, DURATION)
    cfg.env.num_envs, cfg.seed = arguments.num_envs, SEED
    print(f"policy: {origin}")
    env = make_env(arguments.task, cfg, policy, arguments.sim_device)
    calibration = calibrate(env, actions_of(policy, env), report=print)
    policy.description = replace(policy.description, calibration=calibration.to_json())
    save_policy(policy.cpu(), arguments.calibrate)
    print(f"wrote {arguments.calibrate}: calibrated anew, whatever calibration it had before")


def export(policy: Policy | None, origin: str, env_cfg: Any, arguments: argparse.Namespace) -> None:
    """Write the policy as ONNX: with the generator of its reference in the same file, or alone."""
    from envs.deployment.controller_export import export_controller
    from envs.deployment.policy_export import export_policy

    if policy is None:
        raise OptionError("--zero_residual has no policy to export")
    path = arguments.export
    if arguments.export_alone or not policy.description.reference:
        difference, what = export_policy(policy, path), "the policy alone"
    else:
        # What may be asked of it, and of which channels, may be said on the command line.
        config = {**policy.description.config, "commands": class_to_dict(env_cfg.commands)}
        policy.description = replace(policy.description, config=config)
        policy_file = Path(origin) if Path(origin).is_file() else SHIPPED_POLICY
        checkpoint_file = env_cfg.reference.checkpoint
        if policy.description.reference != file_hash(checkpoint_file or SHIPPED_CHECKPOINT):
            print("note: the policy was trained with another reference checkpoint than the one in use")
        difference, what = export_controller(policy, path, checkpoint_file, policy_file), "policy and reference"
    print(f"wrote {path}: {what} (onnxruntime differs from torch by {difference:.1e})")
