"""Exported steps do what the roll-out does and say what they are."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from cmg_ref import export
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.export import ExportError, export_onnx, export_torchscript, read_description
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.robots.robot import load_g1
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories.start_states import InitialStates

pytestmark = pytest.mark.slow

FRAMES = 100


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def commands_of_a_walk(checkpoint: Checkpoint) -> torch.Tensor:
    """Standing, then walking, then standing again; beyond the trained range for a moment, (3, FRAMES, command_dim)."""
    commands = checkpoint.command_layout.rest(3).unsqueeze(1).repeat(1, FRAMES, 1)
    commands[1, 10:60, 0] = 1.0
    commands[2, :40, 0] = 99.0
    return commands


def test_onnx_rolls_out_as_the_checkpoint_does(checkpoint: Checkpoint, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "cmg.onnx"
    assert export_onnx(checkpoint, path) <= 1e-5
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    commands = commands_of_a_walk(checkpoint)
    state = checkpoint.standing_state().expand(3, -1).contiguous()
    rollout, expected = Rollout(checkpoint.model, stance=checkpoint.stances()), state
    for frame in range(FRAMES):
        inputs = {"state": state.numpy(), "command": commands[:, frame].contiguous().numpy()}
        state = torch.from_numpy(session.run(["next_state"], inputs)[0])
        expected = rollout.advance(expected, commands[:, frame])
        torch.testing.assert_close(state, expected, atol=1e-3, rtol=0.0)
    assert float(state[0, checkpoint.layout["dof_vel"]].abs().max()) == 0.0  # rest is kept exactly


def test_onnx_is_the_same_where_torch_has_only_its_newer_exporter(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    own = torch.onnx.export

    def newer(*arguments: Any, dynamo: bool = True, **named: Any) -> Any:
        if not dynamo:
            raise TypeError("export() got an unexpected keyword argument 'dynamo'")
        return own(*arguments, dynamo=True, **named)

    newer.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.onnx, "export", newer)
    assert export_onnx(checkpoint, tmp_path / "cmg.onnx") <= 1e-5


def test_torchscript_rolls_out_as_the_checkpoint_does(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "cmg.pt"
    assert export_torchscript(checkpoint, path) <= 1e-5
    step = torch.jit.load(str(path))
    commands = commands_of_a_walk(checkpoint)
    state = checkpoint.standing_state().expand(3, -1)
    rollout, expected = Rollout(checkpoint.model, stance=checkpoint.stances()), state
    with torch.no_grad():
        for frame in range(FRAMES):
            state = step(state, commands[:, frame])
            expected = rollout.advance(expected, commands[:, frame])
            torch.testing.assert_close(state, expected, atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_files_say_what_they_are(checkpoint: Checkpoint, tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    path = tmp_path / f"cmg{suffix}"
    (export_onnx if suffix == ".onnx" else export_torchscript)(checkpoint, path)
    description = read_description(path)
    assert tuple(description["joint_names"]) == checkpoint.joint_names
    assert description["fps"] == checkpoint.fps
    assert StateLayout.from_json(description["layout"]) == checkpoint.layout
    torch.testing.assert_close(torch.tensor(description["command_max"]), checkpoint.command_max)
    # A stance that the generator itself begins from: on both feet.
    standing = InitialStates(checkpoint, Rollout(checkpoint.model), load_g1()).standing
    assert any(torch.equal(torch.tensor(description["standing_state"]), state) for state in standing)


def test_a_file_that_differs_is_not_kept(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cmg.pt"
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="differs by"):
        export_torchscript(checkpoint, path)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    with pytest.raises(ExportError, match="not a step exported"):
        read_description(path)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"\xff" * 100, b"PK\3\4", b"version https://git-lfs.github.com/spec/"]
)
@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / f"step{suffix}"
    path.write_bytes(content)
    with pytest.raises(ExportError) as error:
        read_description(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


class Acting(torch.nn.Module):
    """Does something as soon as it is loaded, which TorchScript allows."""

    @torch.jit.export
    def __getstate__(self) -> bool:
        return self.training

    @torch.jit.export
    def __setstate__(self, state: bool) -> None:
        self.training = state
        raise RuntimeError("the program was run")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_reading_what_a_file_says_runs_nothing_in_it(tmp_path: Path) -> None:
    path = tmp_path / "acting.pt"
    notes = {export._TORCHSCRIPT_METADATA: '{"format_version": 1}'}
    torch.jit.save(torch.jit.script(Acting()), str(path), _extra_files=notes)
    with pytest.raises(torch.jit.Error, match="the program was run"):
        torch.jit.load(str(path))
    assert read_description(path) == {"format_version": 1}
