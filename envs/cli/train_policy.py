"""Train a policy.

  cmg-train-policy --task g1_cmg

Fields of the configurations can be set by name, those of the training with "train." before them:
  cmg-train-policy --task g1_cmg --run_name mine rewards.scales.alive=2 train.algorithm.gamma=0.97

A run that was killed goes on:   cmg-train-policy --task g1_cmg --resume
Several GPUs or processes:       torchrun --nproc_per_node N --no-python cmg-train-policy --task g1_cmg
TWIST's teacher and student:     cmg-twist train --help
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command, whole_number  # isort: split

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

# Threads of torch that wait for work must not take the cores from the physics; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

# Isaac Gym has to be imported before torch.
from envs.simulator import BACKEND, CAPABILITIES  # isort: skip

import torch

from cmg_ref.core.devices import checked_device
from cmg_ref.core.installation import check_installed
from cmg_ref.files.folder_lock import sole_writer
from configs.base_config import ConfigError, apply_overrides, class_to_dict, suggestion, update_from_dict
from configs.bounds import MAX_ITERATIONS, MAX_NUM_ENVS, MAX_SEED, check_bounds
from envs.evaluation.policy_evaluation import make_evaluator
from envs.hosts import twist, twist_options
from envs.learning.older_rsl_rl import installed_version, train_with_older_rsl_rl
from envs.learning.policy import describe_policy, load_policy, read_checkpoint
from envs.learning.training_run import (
    CONFIG,
    RunError,
    TrainingDivergedError,
    check_writable,
    find_checkpoint,
    find_run,
    git_state,
    new_run,
    nothing_left,
    project_folder,
    read_config,
    save_json,
)
from envs.tasks.task_registry import task_registry

TRAINING_PREFIX = "train."
CASES = ("grid", "free")  # of evaluations


def parse_arguments() -> argparse.Namespace:
    """Command line of the program, with legged_gym's names."""
    parser = Parser(__doc__)
    parser.add_argument("--task", default="g1_cmg", help="default: %(default)s")
    parser.add_argument("--num_envs", type=whole_number(1, MAX_NUM_ENVS), help="number of environments of each process")
    parser.add_argument("--max_iterations", type=whole_number(1, MAX_ITERATIONS), help="iterations altogether")
    parser.add_argument("--seed", type=whole_number(0, MAX_SEED), help="seed of everything that is drawn")
    parser.add_argument("--run_name", help="name of the run, after its date (default: train.runner.run_name)")
    parser.add_argument("--log_dir", type=Path, help="folder of the runs (default: logs/<experiment name>)")
    parser.add_argument("--resume", action="store_true", help="go on with a run and its configuration")
    parser.add_argument("--load_run", metavar="RUN", help="run to go on with (default: the newest)")
    parser.add_argument("--checkpoint", metavar="WHICH", help="iteration or file name (default: the last)")
    parser.add_argument(
        "--initial",
        type=Path,
        metavar="FILE",
        help="checkpoint, or policy (.safetensors), that begins a new run",
    )
    parser.add_argument("--headless", action="store_true", default=True, help="without a viewer (the default)")
    parser.add_argument("--viewer", dest="headless", action="store_false", help="with Isaac Gym's viewer")
    parser.add_argument("--sim_device", help="device of the simulation (default: cuda:0 with Isaac Gym, else cpu)")
    parser.add_argument("--rl_device", help="device of the networks (default: that of the simulation)")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="fields of the configurations")
    return parser.parse_args()


def train(arguments: argparse.Namespace) -> None:
    """Build environment and runner, and train; nothing is written before all of it has been accepted."""
    rank = int(os.environ.get("RANK", "0"))
    env_cfg, train_cfg = task_registry.get_cfgs(arguments.task)
    log_dir = arguments.log_dir or project_folder() / "logs" / train_cfg.runner.experiment_name
    run_dir, checkpoint, policy = None, arguments.initial, None
    if checkpoint is not None and checkpoint.suffix == ".safetensors":
        policy, checkpoint = load_policy(checkpoint), None
    if arguments.resume:
        run_dir = find_run(log_dir, arguments.load_run)
        checkpoint = find_checkpoint(run_dir, arguments.checkpoint)
        take_configuration(env_cfg, train_cfg, run_dir, arguments.task)
    apply_options(env_cfg, train_cfg, arguments)
    check_writable(run_dir or log_dir)
    config = {
        "task": arguments.task,
        "environment": class_to_dict(env_cfg),
        "training": class_to_dict(train_cfg),
        "arguments": sys.argv[1:],
        "torch": torch.__version__,
        "simulator": BACKEND,
        "git": git_state(project_folder()),
    }
    version = installed_version()
    if version < 5 and policy is not None:
        raise RunError(f"--initial {arguments.initial}: begins a run with rsl-rl-lib 5, version {version} is installed")
    if version >= 5 and checkpoint is not None:
        reached, wanted = read_checkpoint(checkpoint)["iter"], train_cfg.runner.max_iterations
        if arguments.resume and reached >= wanted:
            print(f"train: {run_dir}: {nothing_left(reached, wanted)}")
            return

    env_cfg.seed += rank
    torch.manual_seed(env_cfg.seed)
    sim_device = arguments.sim_device or CAPABILITIES.default_device
    device = arguments.rl_device or sim_device
    if device == "cpu":
        # The cores belong to the physics between updates; the algorithm takes them all during an update.
        torch.set_num_threads(1)
    options = argparse.Namespace(**{**vars(arguments), "sim_device": sim_device, "rl_device": device})
    with contextlib.ExitStack() as stack:
        if run_dir is not None and rank == 0:
            stack.enter_context(sole_writer(run_dir))

        def begin() -> Path:
            """Folder of the run, made if it is a new one, with its configuration."""
            if rank != 0:
                return run_dir or log_dir
            folder = run_dir or new_run(log_dir, train_cfg.runner.run_name)
            if run_dir is None:
                stack.enter_context(sole_writer(folder))
            try:
                save_json(config, folder / CONFIG)
            except OSError:
                if run_dir is None:
                    folder.rmdir()
                raise
            print(f"train: {folder}")
            return folder

        env, env_cfg = task_registry.make_env(arguments.task, args=options, env_cfg=env_cfg)
        training = class_to_dict(train_cfg)
        if version < 5:
            train_with_older_rsl_rl(env, arguments.task, training, begin, checkpoint, device)
            return
        from envs.learning.rsl_rl_runner import Runner

        tried = train_cfg.evaluation
        evaluate = None
        if rank == 0:
            free = tried.cases == "free"
            evaluate = make_evaluator(arguments.task, env_cfg, tried.rollouts, tried.duration, free)
        runner = Runner(env, training, run_dir or log_dir, describe_policy(env, arguments.task), evaluate, device)
        if checkpoint is not None:
            if arguments.resume:
                runner.load(str(checkpoint))
            else:
                runner.begin_with_checkpoint(str(checkpoint))
            print(f"train: from {checkpoint}, iteration {runner.current_learning_iteration}")
        elif policy is not None:
            with_critic = runner.begin_with(policy)
            print(f"train: from {arguments.initial}, with {'its' if with_critic else 'a new'} critic")
        runner.run_dir = begin()
        runner.learn(training["runner"]["max_iterations"], init_at_random_ep_len=True)


def take_configuration(env_cfg: Any, train_cfg: Any, run_dir: Path, task: str) -> None:
    """Take over the configuration of a run; raises RunError if it is not whole or not of this release."""
    saved = read_config(run_dir, task)
    try:
        update_from_dict(env_cfg, saved["environment"])
        update_from_dict(train_cfg, saved["training"])
    except ConfigError as error:
        raise RunError(f"{run_dir / CONFIG}: {error}") from error


def apply_options(env_cfg: Any, train_cfg: Any, arguments: argparse.Namespace) -> None:
    """Take the options into the configurations; raises ConfigError for a field that does not exist or a bad value."""
    if arguments.num_envs is not None:
        env_cfg.env.num_envs = arguments.num_envs
    if arguments.max_iterations is not None:
        train_cfg.runner.max_iterations = arguments.max_iterations
    if arguments.run_name is not None:
        train_cfg.runner.run_name = arguments.run_name
    if arguments.seed is not None:
        env_cfg.seed = train_cfg.seed = arguments.seed
    prefix = TRAINING_PREFIX
    apply_overrides(env_cfg, [text for text in arguments.overrides if not text.startswith(prefix)])
    apply_overrides(train_cfg, [text[len(prefix) :] for text in arguments.overrides if text.startswith(prefix)])
    check_bounds(env_cfg)
    check_bounds(train_cfg)
    if train_cfg.evaluation.cases not in CASES:
        raise ConfigError(
            f"evaluation.cases: no '{train_cfg.evaluation.cases}'{suggestion(train_cfg.evaluation.cases, CASES)}"
        )


@command(ValueError, TrainingDivergedError, twist.TwistError, OSError, interrupted="go on with --resume")
def main() -> None:
    """Train, or say in one line why not."""
    if twist_options.is_asked_for(sys.argv[1:]):
        twist.train(sys.argv[1:])
        return
    arguments = parse_arguments()
    for option in ("sim_device", "rl_device"):
        if getattr(arguments, option) is not None:
            checked_device(getattr(arguments, option), f"--{option}")
    check_installed("rsl_rl", "tensorboard")
    train(arguments)
