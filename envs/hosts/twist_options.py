"""The command line of the tasks on top of TWIST: our options, and those of TWIST's own that are handed on to it."""

from __future__ import annotations

import argparse
from typing import Any, Sequence

from cmg_ref.commands.schedule import MAX_COMMAND
from cmg_ref.core.command_line import Parser, real_number, whole_number
from configs.bounds import MAX_ITERATIONS, MAX_NUM_ENVS, MAX_SEED

TEACHER, STUDENT = "g1_cmg_priv_mimic", "g1_cmg_stu_rl"
TASKS = (TEACHER, STUDENT)
TRAINING_PREFIX = "train."

_EPILOG = f"""\
FIELD=VALUE sets a field of the configurations, such as cmg.mode=live or rewards.scales.tracking_lin_vel=2; those of the
training begin with "{TRAINING_PREFIX}". Options that are not listed here go to TWIST's own command line as they are."""

# Name, type (None for a switch) and meaning.
_TWISTS: tuple[tuple[str, Any, str], ...] = (
    ("exptid", str, "name of the run (required)"),
    ("proj_name", str, "folder of the runs in legged_gym/logs of TWIST (default: the task)"),
    ("device", str, "of simulation and networks (default: cuda:0, cpu where there is no GPU)"),
    ("num_envs", whole_number(1, MAX_NUM_ENVS), "number of environments"),
    ("seed", whole_number(0, MAX_SEED), "seed of everything that is drawn"),
    ("checkpoint", int, "iteration to load (default: the last)"),
    ("rows", int, "rows of the ground (default: 4 on the stand-in)"),
    ("cols", int, "columns of the ground (default: 4 on the stand-in)"),
    ("no_wandb", None, "log nothing to Weights & Biases"),
    ("debug", None, "TWIST's debugging, without Weights & Biases"),
    ("headless", None, "without a viewer"),
)
_TWISTS_TO_TRAIN: tuple[tuple[str, Any, str], ...] = (
    ("max_iterations", whole_number(1, MAX_ITERATIONS), "iterations of this run"),
    ("resume", None, "go on with the run of --exptid"),
    ("resumeid", str, "go on with this run, as --exptid"),
    ("teacher_exptid", str, "run of the teacher that a student learns from"),
    ("teacher_checkpoint", int, "iteration of the teacher (default: the last)"),
)


def is_asked_for(arguments: Sequence[str]) -> bool:
    """Whether a command line names one of the tasks on top of TWIST."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--task")
    return parser.parse_known_args(list(arguments))[0].task in TASKS


def read_options(arguments: Sequence[str], playing: bool) -> tuple[argparse.Namespace, list[str]]:
    """Read a command line of the tasks on top of TWIST; ends the process for ``--help`` and for what makes no sense.

    Args:
        arguments: What stands behind the program's name.
        playing: Whether a policy is to be played, else it is to be trained.

    Returns:
        Our own options with the ``overrides`` (FIELD=VALUE), and the command line for TWIST.
    """
    what = "Play a policy of the tasks on top of TWIST" if playing else "Train a teacher or a student on top of TWIST"
    parser = Parser(f"{what}; docs/twist.md explains it.", epilog=_EPILOG, allow_abbrev=False)
    parser.add_argument("--task", choices=TASKS, required=True, help="teacher or student")
    parser.add_argument("--twist_root", help="checkout of TWIST (default: $TWIST_ROOT, or TWIST as installed)")
    if playing:
        speed = real_number(-MAX_COMMAND, MAX_COMMAND)
        parser.add_argument(
            "--command",
            nargs=3,
            type=speed,
            default=[0.6, 0.0, 0.0],
            metavar=("VX", "VY", "WZ"),
            help="[m/s], [m/s], [rad/s] (default: 0.6 0 0)",
        )
        parser.add_argument("--steps", type=whole_number(1, 10**7), default=1000, help="default: %(default)s")
        parser.add_argument("--export", action="store_true", help="write a student's policy as TorchScript")
    group = parser.add_argument_group("handed on to TWIST")
    handed_on = _TWISTS if playing else _TWISTS + _TWISTS_TO_TRAIN
    for name, kind, text in handed_on:
        if kind is None:
            group.add_argument(f"--{name}", action="store_true", help=text)
        else:
            group.add_argument(f"--{name}", type=kind, metavar="X" if kind is str else "N", help=text)
    options, rest = parser.parse_known_args(list(arguments))
    options.overrides = [text for text in rest if "=" in text and not text.startswith("-")]
    rest = [text for text in rest if text not in options.overrides]
    for name, kind, _ in handed_on:
        value = getattr(options, name)
        if value is not None and value is not False:
            rest += [f"--{name}"] if kind is None else [f"--{name}", str(value)]
    return options, ["--task", options.task, *rest]
