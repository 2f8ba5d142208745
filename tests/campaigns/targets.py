"""Every place of the project where something from outside comes in: files, overrides, command lines, keys."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from archive_mutators import mutated_npz, mutated_pickle, mutated_safetensors, mutated_torch
from corpus import Corpus, walking_clip
from mutators import Mutator, mutated_arguments, mutated_bytes, mutated_csv, mutated_json, mutated_xml, mutated_yaml

from cmg_ref.clips.dataset import MotionDataset, build_dataset
from cmg_ref.clips.formats.clip_files import find_clips
from cmg_ref.clips.formats.collection import read_clips
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.held_out import split_held_out
from cmg_ref.clips.motion_clip import ClipError
from cmg_ref.commands.schedule import CommandSchedule, ScheduleError
from cmg_ref.evaluation.evaluated_motion import read_motion
from cmg_ref.export import ExportError, read_description
from cmg_ref.network.checkpoint import CheckpointError, load_checkpoint
from cmg_ref.network.legacy_checkpoint import import_legacy_checkpoint
from cmg_ref.robots.g1 import SPEC as G1
from cmg_ref.robots.kinematic_tree import RobotError
from cmg_ref.robots.robot import Robot, load_g1
from cmg_ref.robots.urdf import read_urdf
from cmg_ref.training.training_state import read_saved_config
from configs.base_config import ConfigError, apply_overrides
from configs.twist_cmg_config import G1CMGMimicCfg
from envs.hosts import twist
from envs.learning.learning_curves import read_learning_curve
from envs.learning.policy import PolicyError, load_policy, policy_of_checkpoint
from envs.learning.training_run import CONFIG, RunError, find_checkpoint, find_run
from envs.mujoco_gym.assets.asset import AssetError, load_asset
from envs.playing.keyboard import Keyboard
from envs.tasks.task_registry import make_sim_params, task_registry


@dataclass(frozen=True)
class Target:
    """One way in.

    Attributes:
        name: What it is called in reports.
        filename: Name of the input file; the reader may go by its ending.
        seeds: Sound inputs.
        mutator: What spoils them, by the rules of their format.
        run: Reads an input, as users' commands do.
        errors: The project's own errors that may come of it; anything else is a failure.
        share: How many of the inputs go here, against the other targets.
    """

    name: str
    filename: str
    seeds: Sequence[bytes]
    mutator: Mutator
    run: Callable[[Path], object]
    errors: tuple[type[BaseException], ...]
    share: int = 1


class _Steering(Keyboard):
    """A keyboard without a terminal, whose keys are given."""

    def __init__(self) -> None:
        self._begin(torch.tensor([-1.0, -0.5, -1.0]), torch.tensor([2.0, 0.5, 1.0]), None)


def _words(path: Path) -> list[str]:
    """The words of a command line: a JSON list, or what a text that is none comes to; no system passes a NUL on."""
    text = path.read_bytes().decode(errors="replace").replace("\x00", "").replace("\\u0000", "")
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return text.split()
    return [str(word) for word in words] if isinstance(words, list) else [str(words)]


def _press(path: Path) -> None:
    keyboard, keys = _Steering(), path.read_bytes()
    for start in range(0, len(keys), 8):  # as many as `poll` reads at a time
        keyboard.press(keys[start : start + 8].decode(errors="ignore"))
    if not ((keyboard.command >= keyboard.lowest) & (keyboard.command <= keyboard.highest)).all():
        raise AssertionError(f"keys led to the command {keyboard.command.tolist()}, outside the range")


def _sampled_schedule(path: Path) -> None:
    schedule = CommandSchedule.from_file(path)
    schedule.sample(50.0, min(schedule.last_change + 4.0, 600.0))


def _changed_g1(path: Path) -> None:
    Robot.from_mjcf(path, G1)


def _prepared(path: Path) -> None:
    build_dataset(read_clips([path.parent], load_g1(), say=lambda line: None), load_g1())


def _split(path: Path) -> None:
    split_held_out([_CLIP], _words(path))


def _override(path: Path) -> None:
    env_cfg, train_cfg = task_registry.get_cfgs("g1_cmg")
    words = _words(path)
    apply_overrides(env_cfg, words[::2])
    apply_overrides(train_cfg, words[1::2])
    make_sim_params(env_cfg, "cpu")


def _override_twist(path: Path) -> None:
    (path.parent / "arms.urdf").write_bytes(_ARMS)

    asset = SimpleNamespace(file=str(path.parent / "arms.urdf"), dof_armature=[0.1] * 3)
    env = SimpleNamespace(num_actions=3, dof_err_w=[1.0] * 3)
    cfg: Any = type("TwistCfg", (G1CMGMimicCfg,), {"asset": asset, "env": env})
    twist._apply(cfg(), cfg(), _words(path))


def _resumed_config(path: Path) -> None:
    """What `train.py --resume` takes from the settings of a run."""
    run = find_run(path.parent.parent, path.parent.name)
    module("train").take_configuration(*task_registry.get_cfgs("g1_cmg"), run, "g1_cmg")


def _command_line(script: str, *checks: str) -> Callable[[Path], None]:
    """Parses the words of a command line as a script does, then calls its functions that check them."""
    loaded = module(script)

    def run(path: Path) -> None:
        previous, sys.argv = sys.argv, [script, *_words(path)]
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                arguments = loaded.parse_arguments()
                for check in checks:
                    _CHECKS[check](loaded, arguments)
        finally:
            sys.argv = previous

    return run


def _check_generate(script: Any, arguments: Any) -> None:
    schedule = script.read_schedule(arguments, _CHECKPOINT.command_layout)
    script.chosen_duration(arguments, schedule)
    script.choose_initial_states(arguments, _CHECKPOINT, _CHECKPOINT.robot())


def _check_play(script: Any, arguments: Any) -> None:
    script.read_schedule(arguments, _CHECKPOINT.command_layout)
    apply_overrides(task_registry.get_cfgs(arguments.task)[0], arguments.overrides)


def _check_train(script: Any, arguments: Any) -> None:
    script.apply_options(*task_registry.get_cfgs(arguments.task), arguments)


def _check_train_cmg(script: Any, arguments: Any) -> None:
    script.build_config(arguments)


_CHECKS = {
    "generate": _check_generate,
    "play": _check_play,
    "train": _check_train,
    "train_cmg": _check_train_cmg,
}
_CLIP, _CHECKPOINT = dataclasses.replace(walking_clip(), name="walk"), load_checkpoint()
_ARMS = b""


_PROGRAMS = {
    "generate": "envs.cli.generate",
    "play": "envs.cli.play",
    "train": "envs.cli.train_policy",
    "train_cmg": "cmg_ref.cli.train",
    "prepare_data": "cmg_ref.cli.prepare_data",
    "import_checkpoint": "cmg_ref.cli.import_checkpoint",
    "export_cmg": "cmg_ref.cli.export",
    "average_checkpoints": "envs.cli.average_policies",
    "compare_runs": "envs.cli.compare_runs",
    "evaluate_cmg": "cmg_ref.cli.evaluate",
}


def module(script: str) -> Any:
    """The program that a script calls."""
    return importlib.import_module(_PROGRAMS[script])


OVERRIDES = [
    b'["sim.dt=0.005", "runner.max_iterations=5", "rewards.scales.alive=2.0", "algorithm.gamma=0.97"]',
    b'["control.stiffness.knee=150.0", "policy.actor_hidden_dims=(8, 8)", "env.num_envs=4", "seed=3"]',
    b'["commands.ranges.lin_vel_x=(-0.5, 1.0)", "runner.save_interval=50", "terrain.mesh_type=plane", "seed=1"]',
]
TWIST_OVERRIDES = [b'["cmg.mode=live", "rewards.scales.tracking_lin_vel=2.0", "train.cmg.seed=3", "cmg.ramp_time=0.2"]']
COMMAND_LINES = {
    "generate": [b'["--vx", "0.6", "--wz", "0.5", "--duration", "5", "--fps", "30", "--initial-state", "1"]'],
    "play": [b'["--command", "0.6", "0", "0.5", "--duration", "5", "--rollouts", "3", "sim.dt=0.005", "seed=3"]'],
    "train": [
        b'["--num_envs", "8", "--max_iterations", "4", "--seed", "3", "sim.dt=0.01", "train.algorithm.gamma=0.9"]'
    ],
    "train_cmg": [
        b'["data.safetensors", "--run-dir", "nowhere", "--iterations", "10", "--hidden", "8", "--no-mixed-precision",'
        b' "--learning-rate", "1e-3", "--weight-slip", "0.5"]'
    ],
    "prepare_data": [b'["clips", "--output", "x.safetensors", "--fps", "50", "--csv-fps", "30", "--licence", "a=b"]'],
    "import_checkpoint": [b'["cmg.pt", "--fps", "30", "--stats", "stats.yaml"]'],
    "export_cmg": [b'["cmg.onnx", "--checkpoint", "cmg.safetensors"]'],
    "average_checkpoints": [b'["model_1.pt", "model_2.pt", "--output", "mean.safetensors"]'],
    "compare_runs": [b'["with=logs/a", "without=logs/b", "--output", "curves"]'],
    "evaluate_cmg": [b'["walk.npz", "--command", "0.5", "0", "0", "--fps", "30", "--quick"]'],
}


def all_targets(corpus: Corpus) -> list[Target]:
    """Every target, with its sound inputs from the corpus."""
    global _ARMS
    _ARMS = corpus["arms.urdf"][0]
    clip = (ClipError,)
    run = (RunError, ConfigError, PolicyError)
    found = [
        Target("clip csv", "take.csv", corpus["clip csv"], mutated_csv, read_clip, clip, 5),
        Target("clip amass", "take.npz", corpus["clip amass"], mutated_npz, read_clip, clip, 5),
        Target("clip mjlab", "take.npz", corpus["clip mjlab"], mutated_npz, read_clip, clip, 5),
        Target("clip cmg", "take.npz", corpus["clip cmg"], mutated_npz, read_clip, clip, 5),
        Target("clip pickle", "take.pkl", corpus["clip twist"], mutated_pickle, read_clip, clip, 12),
        Target(
            "motion to measure",
            "take.npz",
            corpus["clip mjlab"] + corpus["clip cmg"],
            mutated_npz,
            lambda path: read_motion(path, load_g1()),
            clip,
            3,
        ),
        Target("prepare_data", "take.csv", corpus["clip csv"], mutated_csv, _prepared, clip, 2),
        Target(
            "find_clips", "take.pkl", corpus["clip twist"][:1], mutated_bytes, lambda path: find_clips([path]), clip
        ),
        Target("exported step", "x.pt", corpus["exported.pt"], mutated_torch, read_description, (ExportError,), 2),
        Target("held out", "words.json", [b'["walk[0.1:0.4]"]', b'["walk"]'], mutated_arguments, _split, clip, 2),
        Target(
            "checkpoint",
            "x.safetensors",
            corpus["cmg.safetensors"],
            mutated_safetensors,
            load_checkpoint,
            (CheckpointError,),
            6,
        ),
        Target(
            "earlier checkpoint",
            "x.pt",
            corpus["earlier.pt"],
            mutated_torch,
            import_legacy_checkpoint,
            (CheckpointError,),
            5,
        ),
        Target(
            "earlier statistics",
            "cmg_stats.yaml",
            corpus["cmg_stats.yaml"],
            mutated_yaml,
            lambda path: import_legacy_checkpoint(_beside(path, "bare.pt", corpus["earlier bare.pt"][0]), path),
            (CheckpointError,),
            2,
        ),
        Target(
            "policy", "x.safetensors", corpus["policy.safetensors"], mutated_safetensors, load_policy, (PolicyError,), 6
        ),
        Target("training checkpoint", "model_3.pt", corpus["model_3.pt"], mutated_torch, _last_policy, run, 4),
        Target(
            "dataset", "x.safetensors", corpus["dataset.safetensors"], mutated_safetensors, MotionDataset.load, (), 5
        ),
        Target(
            "training state",
            "training_state.pt",
            corpus["training_state.pt"],
            mutated_torch,
            lambda path: read_saved_config(path.parent),
            (),
            4,
        ),
        Target("settings of a run", CONFIG, corpus["config.json"], mutated_json, _resumed_config, run, 4),
        Target(
            "evaluations of a run",
            "evaluations.json",
            corpus["evaluations.json"],
            mutated_json,
            lambda path: read_learning_curve("x", path.parent),
            run,
            3,
        ),
        Target("schedule csv", "x.csv", corpus["schedule.csv"], mutated_csv, _sampled_schedule, (ScheduleError,), 4),
        Target(
            "schedule json", "x.json", corpus["schedule.json"], mutated_json, _sampled_schedule, (ScheduleError,), 4
        ),
        Target(
            "robot mjcf",
            "g1.xml",
            corpus["g1.xml"],
            mutated_xml,
            _changed_g1,
            (RobotError,),
            6,
        ),
        Target("robot urdf", "arms.urdf", corpus["arms.urdf"], mutated_xml, read_urdf, (RobotError,), 4),
        Target(
            "asset mjcf",
            "x.xml",
            corpus["branches.xml"],
            mutated_xml,
            lambda path: load_asset(str(path.parent), path.name).spec().compile(),
            (AssetError,),
            4,
        ),
        Target(
            "asset urdf",
            "x.urdf",
            corpus["walker.urdf"],
            mutated_xml,
            lambda path: load_asset(str(path.parent), path.name).spec().compile(),
            (AssetError,),
            4,
        ),
        Target("overrides", "words.json", OVERRIDES, mutated_arguments, _override, (ConfigError,), 6),
        Target(
            "overrides of twist",
            "words.json",
            TWIST_OVERRIDES,
            mutated_arguments,
            _override_twist,
            (twist.TwistError, RobotError, ConfigError),
            2,
        ),
        Target("keys", "keys", [b"wwasdqe \x1b[A\x1b[B\x1b[C\x1b[D" * 3], mutated_bytes, _press, ()),
    ]
    for script, words in COMMAND_LINES.items():
        checks = (script,) if script in _CHECKS else ()
        errors = (SystemExit, ConfigError, ScheduleError, getattr(module(script), "OptionError", ScheduleError))
        found.append(
            Target(
                f"options of {script}",
                "words.json",
                words,
                mutated_arguments,
                _command_line(script, *checks),
                errors,
                2,
            )
        )
    return found


def _last_policy(path: Path) -> object:
    return policy_of_checkpoint(find_checkpoint(path.parent))


def _beside(path: Path, name: str, content: bytes) -> Path:
    (path.parent / name).write_bytes(content)
    return path.parent / name
