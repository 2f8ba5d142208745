"""Train a CMG on a dataset made by cmg-prepare-data.

Several GPUs or processes: ``torchrun --nproc_per_node N --no-python cmg-train ...``.
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command, whole_number  # isort: split

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.core.devices import checked_device
from cmg_ref.core.installation import check_installed
from cmg_ref.core.progress import ProgressBar
from cmg_ref.core.sharding import join_processes
from cmg_ref.files.atomic_file import write_file
from cmg_ref.files.folder_lock import sole_writer
from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.network.model import CMGConfig
from cmg_ref.robots.robot import load_robot
from cmg_ref.training.event_log import EventLog
from cmg_ref.training.loss_terms import TERMS
from cmg_ref.training.train_config import TrainConfig
from cmg_ref.training.trainer import Trainer
from cmg_ref.training.training_state import read_saved_config
from configs.bounds import MAX_THREADS


def parse_arguments() -> argparse.Namespace:
    """Command line of the program; every field of TrainConfig that is a number is an option."""
    parser = Parser(__doc__)
    parser.add_argument("dataset", type=Path, help="dataset file written by cmg-prepare-data")
    parser.add_argument(
        "--run-dir", type=Path, default=Path("runs/cmg"), help="folder of the run (default: %(default)s)"
    )
    parser.add_argument("--robot", help="name or description (.json) (default: the one that the dataset names)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --run-dir; its settings are kept")
    parser.add_argument(
        "--initial", type=Path, help="checkpoint to start from, such as the shipped one, to adapt it to other clips"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    parser.add_argument("--threads", type=whole_number(1, MAX_THREADS), help="CPU threads (default: all)")
    group = parser.add_argument_group("training")
    for field in dataclasses.fields(TrainConfig):
        if isinstance(field.default, bool):
            for prefix, value in (("--", True), ("--no-", False)):
                text = f"default: {field.default}" if value else "the opposite"
                flag = prefix + field.name.replace("_", "-")
                group.add_argument(flag, dest=field.name, action="store_const", const=value, default=None, help=text)
        elif isinstance(field.default, (int, float)):
            flag, kind = f"--{field.name.replace('_', '-')}", type(field.default)
            group.add_argument(flag, type=kind, default=None, metavar="N", help=f"default: {field.default}")
    group = parser.add_argument_group("architecture")
    for field in dataclasses.fields(CMGConfig):
        if isinstance(field.default, int):
            flag = f"--{field.name.replace('_', '-')}"
            group.add_argument(flag, type=int, default=None, metavar="N", help=f"default: {field.default}")
    group = parser.add_argument_group("weights of the losses (see cmg_ref/training/loss_terms.py); 0 leaves one out")
    for name, term in TERMS.items():
        flag = f"--weight-{name.replace('_', '-')}"
        group.add_argument(flag, type=float, default=None, metavar="X", help=f"default: {term.weight}")
    return parser.parse_args()


def build_config(arguments: argparse.Namespace) -> tuple[TrainConfig, int]:
    """Settings of the run, saved ones when resuming, else the defaults, with the options given; iterations done."""
    saved = read_saved_config(arguments.run_dir)
    if saved is not None and not arguments.resume:
        raise ValueError(
            f"{arguments.run_dir} already holds a run: give --resume to go on with it, or another --run-dir"
        )
    if saved is None and arguments.resume:
        print(f"{arguments.run_dir} holds no run yet: starting one")
    config, reached = saved or (TrainConfig(), 0)
    model = dataclasses.replace(config.model, **given_options(arguments, CMGConfig))
    options = {name: getattr(arguments, f"weight_{name}") for name in TERMS}
    weights = {**config.weights, **{name: weight for name, weight in options.items() if weight is not None}}
    config = dataclasses.replace(config, model=model, weights=weights, **given_options(arguments, TrainConfig))
    config.validate()
    return config, reached


def given_options(arguments: argparse.Namespace, settings: type) -> dict[str, Any]:
    """The options that were given and are fields of a settings class."""
    values = {field.name: getattr(arguments, field.name, None) for field in dataclasses.fields(settings)}
    return {name: value for name, value in values.items() if value is not None}


def train(trainer: Trainer, run_dir: Path, show: bool) -> None:
    """Run to the last iteration with a progress bar, TensorBoard, validation and saved states."""
    log = EventLog(run_dir, trainer.iteration) if show else None
    config = trainer.config
    progress = ProgressBar(
        total=config.iterations, initial=trainer.iteration, unit="it", disable=not show, mininterval=2.0
    )
    try:
        while trainer.iteration < config.iterations:
            report = trainer.train_step()
            iteration = trainer.iteration
            progress.update()
            progress.set_postfix(
                loss=f"{report['loss']:.3f}", horizon=int(report["horizon"]), best=f"{trainer.best_score:.3f}"
            )
            if log is not None and iteration % 10 == 0:
                log.add({f"train/{name}": value for name, value in report.items()}, iteration)
            if iteration % config.validate_every == 0 or iteration == config.iterations:
                if log is not None:
                    started = time.perf_counter()
                    scores = trainer.validate()
                    log.add({f"validation/{name}": value for name, value in scores.items()}, iteration)
                    summary = " ".join(f"{name} {value:.3f}" for name, value in scores.items())
                    progress.write(f"{iteration}: {summary} ({time.perf_counter() - started:.0f} s)")
                if trainer.world_size > 1:
                    distributed.barrier()
            if iteration % config.save_every == 0 or iteration == config.iterations:
                trainer.save()
    finally:
        progress.close()
        if log is not None:
            log.close()


@command(ValueError, OSError, interrupted="go on with --resume")
def main() -> None:
    """Parse, set up the processes, train."""
    arguments = parse_arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = checked_device(arguments.device, "--device")
    check_installed("tensorboard")
    config, reached = build_config(arguments)
    if reached >= config.iterations:
        asked = f"iteration {reached} is reached, and {config.iterations} were asked for; --iterations takes more"
        print(f"{arguments.run_dir}: nothing to do: {asked}")
        return
    dataset = MotionDataset.load(arguments.dataset)
    robot = load_robot(arguments.robot or dataset.robot)
    initial = load_checkpoint(arguments.initial) if arguments.initial else None
    if arguments.device == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if world_size > 1:
        join_processes(device)
    trainer = Trainer(dataset, robot, config, arguments.run_dir, device, rank, world_size, initial)
    if rank != 0:
        train(trainer, arguments.run_dir, show=False)
        return
    arguments.run_dir.mkdir(parents=True, exist_ok=True)
    with sole_writer(arguments.run_dir):
        write_file(arguments.run_dir / "config.json", json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        train(trainer, arguments.run_dir, show=True)
    print(f"best score {trainer.best_score:.3f}: {arguments.run_dir / 'best.safetensors'}")
