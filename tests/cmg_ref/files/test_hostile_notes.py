"""Safetensors files whose header or notes in JSON ask for what the tensors do not bear out."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from safetensors.torch import load_file, save_file

from cmg_ref.clips.dataset import MotionDataset, build_dataset
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.network.checkpoint import SHIPPED_CHECKPOINT, CheckpointError, load_checkpoint
from cmg_ref.robots.robot import Robot, load_g1
from envs.learning.policy import SHIPPED_POLICY, PolicyError, load_policy

Refusal = Callable[..., None]


DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 400
BAD_JSON = [
    "{",
    DEEP,
    DIGITS,
    f"[{DIGITS}]",
    "[1, 2",
    "1e999",
    "NaN",
    '"text"',
    "null",
    "[]",
    '{"a": 1}',
    "x" * 300_000,
]


def with_notes(source: Path, path: Path, key: str, change: Callable[[dict[str, Any]], str]) -> Path:
    """A safetensors file with other notes."""
    from safetensors import safe_open

    with safe_open(str(source), framework="pt") as file:
        notes = file.metadata()
    save_file(load_file(str(source)), str(path), {**notes, key: change(json.loads(notes[key]))})
    return path


@pytest.mark.parametrize("notes", BAD_JSON)
def test_notes_that_are_no_description(assert_refused: Refusal, tmp_path: Path, notes: str) -> None:
    path = with_notes(SHIPPED_CHECKPOINT, tmp_path / "a.safetensors", "cmg_ref", lambda _: notes)
    assert_refused(lambda: load_checkpoint(path), CheckpointError, path)
    path = with_notes(SHIPPED_POLICY, tmp_path / "b.safetensors", "cmg_ref_policy", lambda _: notes)
    assert_refused(lambda: load_policy(path), PolicyError, path)


HUGE: list[Any] = [10**400, 10**7, 20_000, 0, -1, 2.5, True, None, "many", [], {"a": 1}, "x" * 300_000, [[[]]] * 1000]


@pytest.mark.parametrize("field", ["num_experts", "hidden", "num_layers", "gate_hidden", "prediction", "other"])
@pytest.mark.parametrize("number", range(len(HUGE)))
def test_an_architecture_that_the_weights_do_not_bear_out(
    assert_refused: Refusal, tmp_path: Path, field: str, number: int
) -> None:
    def change(description: dict[str, Any]) -> str:
        description["architecture"][field] = HUGE[number]
        return json.dumps(description)

    path = with_notes(SHIPPED_CHECKPOINT, tmp_path / "a.safetensors", "cmg_ref", change)
    assert_refused(lambda: load_checkpoint(path), CheckpointError, path)


@pytest.mark.parametrize("field", ["format_version", "architecture", "layout", "joint_names", "fps", "metadata"])
@pytest.mark.parametrize("number", range(len(HUGE)))
def test_fields_of_a_checkpoint_of_another_kind(
    assert_refused: Refusal, tmp_path: Path, field: str, number: int
) -> None:
    if (field, number) in {("fps", 1), ("fps", 2), ("fps", 5), ("fps", 6), ("metadata", 10), ("format_version", 6)}:
        pytest.skip("is a value of the right kind")
    path = with_notes(
        SHIPPED_CHECKPOINT,
        tmp_path / "a.safetensors",
        "cmg_ref",
        lambda description: json.dumps({**description, field: HUGE[number]}),
    )
    assert_refused(lambda: load_checkpoint(path), CheckpointError, path)


POLICY_FIELDS = ("hidden_dims", "activation", "observations", "joint_names", "stiffness", "control_dt", "task")


@pytest.mark.parametrize("field", POLICY_FIELDS)
@pytest.mark.parametrize("number", range(len(HUGE)))
def test_fields_of_a_policy_of_another_kind(assert_refused: Refusal, tmp_path: Path, field: str, number: int) -> None:
    value = HUGE[number]
    if isinstance(value, str) and field == "task":
        pytest.skip("is a value of the right kind")
    if field == "control_dt" and number in (1, 2, 3, 4, 5):
        pytest.skip("is a number, which the task is compared with")
    if field == "stiffness" and number == 9:
        pytest.skip("is an empty list of numbers")
    path = with_notes(
        SHIPPED_POLICY,
        tmp_path / "a.safetensors",
        "cmg_ref_policy",
        lambda description: json.dumps({**description, field: value}),
    )
    assert_refused(lambda: load_policy(path), PolicyError, path)


@pytest.mark.parametrize(
    "hidden", [[20_000, 20_000], [10**7] * 3, [1] * 100_000, [512, 256, 128.0], [[512], [256], [128]]]
)
def test_hidden_layers_that_the_weights_do_not_bear_out(
    assert_refused: Refusal, tmp_path: Path, hidden: list[Any]
) -> None:
    path = with_notes(
        SHIPPED_POLICY,
        tmp_path / "a.safetensors",
        "cmg_ref_policy",
        lambda description: json.dumps({**description, "hidden_dims": hidden}),
    )
    assert_refused(lambda: load_policy(path), PolicyError, path)


@pytest.fixture(scope="module")
def dataset_file(tmp_path_factory: pytest.TempPathFactory, make_clip: Callable[..., MotionClip], robot: Robot) -> Path:
    path = tmp_path_factory.mktemp("dataset") / "set.safetensors"
    build_dataset([make_clip(seconds=1.0)], robot).save(path)
    return path


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_g1()


@pytest.mark.parametrize("field", ["fps", "joint_names", "layout", "clip_names", "held_out", "licences"])
@pytest.mark.parametrize("number", range(len(HUGE)))
def test_fields_of_a_dataset_of_another_kind(
    assert_refused: Refusal, dataset_file: Path, tmp_path: Path, field: str, number: int
) -> None:
    path = with_notes(dataset_file, tmp_path / "a.safetensors", field, lambda _: json.dumps(HUGE[number]))
    if field == "fps" and number in (5, 6):
        pytest.skip("is a frame rate")
    assert_refused(lambda: MotionDataset.load(path), ValueError, path)


@pytest.mark.parametrize("fps", ["-1", "0", "NaN", "Infinity", "1e-300", "1e9", '"fast"', DIGITS, DEEP])
def test_a_dataset_has_a_frame_rate(assert_refused: Refusal, dataset_file: Path, tmp_path: Path, fps: str) -> None:
    path = with_notes(dataset_file, tmp_path / "a.safetensors", "fps", lambda _: fps)
    assert_refused(
        lambda: MotionDataset.load(path), ValueError, path, "fps" if len(fps) < 10 and fps != '"fast"' else ""
    )


@pytest.mark.parametrize("field", ["states", "commands", "valid", "clip_index"])
@pytest.mark.parametrize(
    "change", [lambda t: t[None], lambda t: t.to(torch.int8), lambda t: t[:0], lambda t: t.flatten()[0]]
)
def test_tensors_of_a_dataset_of_another_kind(
    assert_refused: Refusal,
    dataset_file: Path,
    tmp_path: Path,
    field: str,
    change: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    from safetensors import safe_open

    with safe_open(str(dataset_file), framework="pt") as file:
        notes = file.metadata()
    tensors = load_file(str(dataset_file))
    path = tmp_path / "a.safetensors"
    save_file({**tensors, field: change(tensors[field]).contiguous()}, str(path), notes)
    assert_refused(lambda: MotionDataset.load(path), ValueError, path)


HEADERS = [
    b"",
    b"{}",
    b"{",
    b"\xff" * 100,
    b"[" * 100_000,
    b'{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]}}',
    b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}',
    b'{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}',
    b'{"a":{"dtype":"F4","shape":[16],"data_offsets":[0,8]}}',
    b'{"a":{"dtype":"F8_E8M0","shape":[8],"data_offsets":[0,8]}}',
    b'{"__metadata__":{"cmg_ref":1}}',
    b'{"__metadata__":{"cmg_ref":"\\ud800"}}',
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
@pytest.mark.parametrize("size", [None, 0, 1 << 63, (1 << 64) - 1])
def test_headers_of_tensors(assert_refused: Refusal, tmp_path: Path, header: bytes, size: int | None) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header) if size is None else size) + header + b"12345678")
    assert_refused(lambda: load_checkpoint(path), CheckpointError, path)
    assert_refused(lambda: load_policy(path), PolicyError, path)
    assert_refused(lambda: MotionDataset.load(path), ValueError, path)


def test_more_tensors_than_any_model_has(assert_refused: Refusal, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({f"model.{number}": torch.zeros(0) for number in range(10_001)}, str(path))
    assert_refused(lambda: load_checkpoint(path), CheckpointError, path, "10001 tensors")
