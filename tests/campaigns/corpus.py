"""Small sound files of every format, made by the project's own writers and by the helpers of its tests."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import pickle
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from cmg_ref.clips.dataset import build_dataset
from cmg_ref.clips.formats.writers import write_npz, write_twist_pickle
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.commands.schedule import CommandSchedule
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.export import export_torchscript
from cmg_ref.network.checkpoint import load_checkpoint, save_checkpoint
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.robots.robot import load_g1
from cmg_ref.rollout.clip_generation import generate_clips
from cmg_ref.training.train_config import TrainConfig
from configs.base_config import class_to_dict
from envs.learning.policy import Policy, load_policy, save_policy
from envs.tasks.task_registry import task_registry

ROOT = Path(__file__).resolve().parents[2]
REAL_CLIPS = Path(os.environ.get("CMG_MOTION_FOLDER", ROOT.parent / "shared" / "motion"))
Corpus = dict[str, list[bytes]]


def module_of(path: Path) -> ModuleType:
    """A file of the repository that is no part of a package, such as a script or a test, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def make_corpus() -> Corpus:
    """The sound files by name of their format; the same bytes every time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {
            **_clips(folder),
            **_networks(folder),
            **_training(folder),
            **_robots(),
            "schedule.csv": [b"time,vx,vy,wz\n0,0,0,0\n1,1.0,0,0\n5,0.6,0,0.8\n"],
            "schedule.json": [
                b"[[0, 0, 0, 0], [1.5, 0.6, 0, 0.2]]",
                b'[{"time": 0, "vx": 1, "vy": 0, "wz": 0}, {"time": 2, "vx": 0, "vy": 0, "wz": 1}]',
            ],
        }


def walking_clip() -> MotionClip:
    """A little of what the shipped checkpoint makes of 1 m/s; a walk tells the order of its quaternions."""
    checkpoint = load_checkpoint()
    commands = CommandSchedule.constant(vx=1.0).sample(checkpoint.fps, 3.0)
    return generate_clips(checkpoint, commands.unsqueeze(0))[0].slice(100, 141)


def _clips(folder: Path) -> Corpus:
    readers = module_of(ROOT / "tests" / "cmg_ref" / "clips" / "formats" / "test_readers.py")
    clip = walking_clip()
    contents = {form: [make(clip, folder).read_bytes()] for form, make in readers.FORMATS.items()}
    contents["twist"] += [readers.twist_file(clip, folder, protocol=protocol).read_bytes() for protocol in (0, 2, 5)]
    for with_wrists in (False, True):
        write_twist_pickle(clip, folder / "own.pkl", load_g1(), with_wrists)
        contents["twist"].append((folder / "own.pkl").read_bytes())
    write_npz(clip, folder / "own.npz")
    contents["cmg"].append((folder / "own.npz").read_bytes())
    if REAL_CLIPS.is_dir():
        for file in sorted((REAL_CLIPS / "lafan1_g1").glob("*.csv"))[:2]:
            contents["csv"].append(b"\n".join(file.read_bytes().split(b"\n")[1000:1060]) + b"\n")
        for file in sorted((REAL_CLIPS / "twist2_g1").glob("*.pkl"))[:2]:
            fields = pickle.loads(file.read_bytes())  # trusted: it lies there for the tests
            short = {name: value[:40] if getattr(value, "ndim", 0) > 1 else value for name, value in fields.items()}
            contents["twist"].append(pickle.dumps(short, protocol=4))
    return {f"clip {form}": files for form, files in contents.items()}


def _networks(folder: Path) -> Corpus:
    """CMG checkpoints of this and of the earlier code, and a policy, all with few weights."""
    shipped = load_checkpoint()
    earlier: Any = module_of(ROOT / "tests" / "cmg_ref" / "network" / "test_legacy_checkpoint.py")
    torch.manual_seed(0)
    model = CMG(
        CMGConfig(num_experts=2, hidden=4, num_layers=2, gate_hidden=4),
        shipped.layout,
        shipped.fps,
        shipped.command_layout,
    )
    model.load_state_dict({**model.state_dict(), **dict(shipped.model.named_buffers())})
    small = dataclasses.replace(
        shipped,
        model=model.eval(),
        initial_states=shipped.initial_states[:3],
        initial_commands=shipped.initial_commands[:3],
        metadata={"training": {"iteration": 3}, "data": {"clips": []}},
    )
    save_checkpoint(small, folder / "cmg.safetensors")
    export_torchscript(small, folder / "step.pt")
    save_policy(Policy(load_policy().description, (8, 4)), folder / "policy.safetensors")

    earlier.HIDDEN, earlier.NUM_EXPERTS = 4, 2
    network = earlier.LegacyCMG(2 * load_g1().num_joints)
    statistics_of = getattr(earlier.stats, "__wrapped__", None) or earlier.stats.__pytest_wrapped__.obj
    stats = statistics_of()
    torch.save({"model_state_dict": network.state_dict(), "stats": stats}, folder / "with_stats.pt")
    torch.save(network.state_dict(), folder / "bare.pt")
    yaml = earlier.write_yaml(stats, folder / "cmg_stats.yaml")
    return {
        "cmg.safetensors": [(folder / "cmg.safetensors").read_bytes()],
        "policy.safetensors": [(folder / "policy.safetensors").read_bytes()],
        "exported.pt": [(folder / "step.pt").read_bytes()],
        "earlier.pt": [(folder / "with_stats.pt").read_bytes()],
        "earlier bare.pt": [(folder / "bare.pt").read_bytes()],
        "cmg_stats.yaml": [yaml.read_bytes()],
    }


def _training(folder: Path) -> Corpus:
    """What the two trainings leave behind and read again."""
    dataset = build_dataset([walking_clip()], load_g1())
    dataset.save(folder / "dataset.safetensors")
    config = TrainConfig(model=CMGConfig(num_experts=2, hidden=4, num_layers=2, gate_hidden=4))
    model = CMG(config.model, StateLayout.with_root(29), 50.0)
    optimizer = torch.optim.AdamW(model.parameters())
    state = {
        "config": json.dumps(dataclasses.asdict(config)),
        "iteration": 7,
        "best_score": 0.5,
        "typical_norm": 5.0,
        "history": [{"iteration": 1.0, "score": 0.5}],
        "model": model.state_dict(),
        "average": dict(model.named_parameters()),
        "optimizer": optimizer.state_dict(),
        "generators": [torch.Generator().manual_seed(1).get_state()],
        "own_states": [torch.zeros(80, 66)],
        "wanted": [torch.zeros(80, 3)],
    }
    torch.save(state, folder / "training_state.pt")

    env_cfg, train_cfg = task_registry.get_cfgs("g1_cmg")
    run = {"task": "g1_cmg", "environment": class_to_dict(env_cfg), "training": class_to_dict(train_cfg)}
    row = {"command": [0.5, 0.0, 0.0], "survival": 1.0, "lin_vel_error": 0.1, "yaw_rate_error": 0.05}
    evaluations = [{"steps": 1000 * n, "time": 60.0 * n, "score": 0.5, "rows": [row, row]} for n in (1, 2)]
    return {
        "dataset.safetensors": [(folder / "dataset.safetensors").read_bytes()],
        "training_state.pt": [(folder / "training_state.pt").read_bytes()],
        "config.json": [json.dumps(run).encode()],
        "evaluations.json": [json.dumps(evaluations).encode()],
        "model_3.pt": [_trained(folder)],
    }


def _trained(folder: Path) -> bytes:
    """A checkpoint of a training of two robots."""
    from envs.learning.policy import describe_policy
    from envs.learning.rsl_rl_runner import Runner

    env_cfg, train_cfg = task_registry.get_cfgs("g1_cmg")
    env_cfg.reference.mode = "realtime"
    train_cfg.runner.num_steps_per_env, train_cfg.policy.normalizer_warmup_steps = 4, 8
    train_cfg.policy.actor_hidden_dims = train_cfg.policy.critic_hidden_dims = (8, 8)
    torch.manual_seed(0)
    env, _ = task_registry.make_env("g1_cmg", env_cfg=env_cfg, num_envs=2)
    config: dict[str, Any] = class_to_dict(train_cfg)
    runner = Runner(env, config, folder, describe_policy(env, "g1_cmg"))
    runner.save(str(folder / "model_3.pt"))
    return (folder / "model_3.pt").read_bytes()


def _robots() -> Corpus:
    urdf = module_of(ROOT / "tests" / "cmg_ref" / "robots" / "test_urdf.py")
    links = "".join(f'<link name="{name}">{urdf.INERTIAL}</link>' for name in urdf.LINKS)
    assets = ROOT / "tests" / "envs" / "mujoco_gym" / "assets"
    return {
        "g1.xml": [(ROOT / "cmg_ref" / "assets" / "g1_29dof.xml").read_bytes()],
        "arms.urdf": [urdf.URDF.format(links=links).encode()],
        "walker.urdf": [module_of(assets / "test_urdf_reader.py").ROBOT.encode()],
        "branches.xml": [module_of(assets / "test_mjcf_reader.py").BRANCHES.encode()],
    }
