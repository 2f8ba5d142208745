"""Reading and writing checkpoints, and every way a file can be unfit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cmg_ref.network.checkpoint import SHIPPED_CHECKPOINT, Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from cmg_ref.robots.robot import load_g1


def parts() -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of the shipped file, to be spoilt."""
    with safe_open(str(SHIPPED_CHECKPOINT), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def test_shipped_checkpoint_is_complete_and_small() -> None:
    checkpoint = load_checkpoint()
    assert checkpoint.joint_names == load_g1().joint_names
    assert checkpoint.fps == 50.0
    assert checkpoint.layout.has_root
    assert SHIPPED_CHECKPOINT.stat().st_size < 10_000_000
    assert SHIPPED_CHECKPOINT.with_suffix(".md").is_file(), "a model card belongs beside the checkpoint"
    for key in ("training", "data", "validation"):
        assert checkpoint.metadata[key]


def test_round_trip_keeps_every_number(tmp_path: Path) -> None:
    before = load_checkpoint()
    save_checkpoint(before, tmp_path / "copy.safetensors")
    after = load_checkpoint(tmp_path / "copy.safetensors")
    for name, value in before.model.state_dict().items():
        assert torch.equal(value, after.model.state_dict()[name]), name
    assert torch.equal(before.initial_states, after.initial_states)
    assert before.metadata == after.metadata
    assert [path.name for path in tmp_path.iterdir()] == ["copy.safetensors"]


def spoil(tmp_path: Path, kind: str) -> Path:
    """A file that is unfit in one way."""
    path = tmp_path / f"{kind}.safetensors"
    tensors, metadata = parts()
    description = json.loads(metadata["cmg_ref"])
    if kind == "truncated":
        path.write_bytes(SHIPPED_CHECKPOINT.read_bytes()[:100_000])
        return path
    if kind == "pickle":
        torch.save({"model_state_dict": {}}, str(path))
        return path
    if kind == "foreign":
        metadata = {}
    elif kind == "nan":
        tensors["model.layers.1.weight"][0, 0, 0] = float("nan")
    elif kind == "version":
        metadata["cmg_ref"] = json.dumps({**description, "format_version": 99})
    elif kind == "joints":
        metadata["cmg_ref"] = json.dumps({**description, "joint_names": description["joint_names"][:-1]})
    elif kind == "shape":
        metadata["cmg_ref"] = json.dumps({**description, "architecture": {**description["architecture"], "hidden": 8}})
    elif kind == "rate":
        metadata["cmg_ref"] = json.dumps({**description, "fps": 0.0})
    save_file(tensors, str(path), metadata)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "truncated, damaged or not a safetensors checkpoint"),
        ("pickle", "truncated, damaged or not a safetensors checkpoint"),
        ("foreign", "import_checkpoint"),
        ("nan", "NaN"),
        ("version", "format version 99"),
        ("joints", "joint names"),
        ("shape", r"weight .gate\.2\.weight. is|weight .layers\.0\.weight. is"),
        ("rate", "fps"),
    ],
)
def test_unfit_file_is_named_in_one_line(tmp_path: Path, kind: str, message: str) -> None:
    path = spoil(tmp_path, kind)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint file"):
        load_checkpoint(tmp_path / "nothing.safetensors")


def test_unfit_checkpoint_is_not_written(tmp_path: Path) -> None:
    checkpoint = load_checkpoint()
    broken = Checkpoint(
        checkpoint.model, checkpoint.joint_names, checkpoint.initial_states * float("nan"), checkpoint.initial_commands
    )
    with pytest.raises(CheckpointError, match="initial_states"):
        save_checkpoint(broken, tmp_path / "broken.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_standing_state_stands() -> None:
    checkpoint = load_checkpoint()
    parts = checkpoint.layout.split(checkpoint.standing_state())
    assert parts["dof_vel"].abs().max() < 0.1
    assert parts["root_lin_vel_h"].abs().max() < 0.05
    forward = checkpoint.initial_states[:, checkpoint.layout["root_lin_vel_h"]][:, 0]
    assert forward[checkpoint.initial_commands[:, 0] > 0.8].min() > 0.2
    assert forward[checkpoint.initial_commands[:, 0] < -0.4].max() < 0.0
