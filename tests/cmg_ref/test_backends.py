"""Every backend shows what the reference, torch's operations, shows: frames, roots, commands, starts and reading."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Callable

import pytest
import torch

from cmg_ref.core.backends import BACKENDS, chosen_backend
from cmg_ref.cuda_graph import triton_reader
from cmg_ref.cuda_graph.captured_frames import CapturedFrames
from cmg_ref.cuda_graph.triton_frame import TritonFrame
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.trajectories import environment_changes
from cmg_ref.trajectories.pool import TrajectoryPoolCfg

CPU, NUM_ENVS = torch.device("cpu"), 9


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


@pytest.fixture(params=[name for name in BACKENDS if name != "torch"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that can work here; Triton's interpreter stands in for a GPU, its graphs are run as they are."""
    if request.param == "cuda_graph":
        pytest.importorskip("triton", reason="the kernels are Triton's")
        if torch.cuda.is_available():
            pytest.skip("test_cuda.py runs the kernels themselves where there is a GPU")
        request.getfixturevalue("without_graphs")
        request.getfixturevalue("large_programs")
    else:
        pytest.importorskip(request.param, reason=f"needs {request.param}")
    return str(request.param)


SETTINGS: dict[str, dict[str, Any]] = {
    "realtime": {"mode": "realtime", "buffer_size": 12},
    "realtime in float16": {"mode": "realtime", "buffer_size": 12, "storage_dtype": torch.float16},
    "a command at once": {"mode": "realtime", "buffer_size": 12, "interpolation_steps": 0},
    "between frames": {"mode": "realtime", "buffer_size": 12, "control_dt": 0.013},
    "pregenerated": {"mode": "pregenerated", "preload_duration": 14},
    "held": {"mode": "pregenerated", "preload_duration": 14, "at_end": "hold"},
    "pool": {"mode": "pregenerated", "preload_duration": 14, "buffer_size": 8, "pool": TrajectoryPoolCfg(5)},
}


def make(checkpoint: Checkpoint, backend: str, kind: str, **changes: Any) -> CMGMotionGenerator:
    settings = {"control_dt": 1.0 / checkpoint.fps, "seed": 4, **SETTINGS[kind], **changes}
    return CMGMotionGenerator(checkpoint, NUM_ENVS, backend=backend, **settings)


def assert_same(ours: CMGMotionGenerator, theirs: CMGMotionGenerator, ahead: list[int], tolerance: float) -> None:
    """What both show now, and ahead."""
    assert torch.equal(ours.command_excess, theirs.command_excess)
    torch.testing.assert_close(ours.commands, theirs.commands, atol=1e-6, rtol=0.0)
    assert torch.equal(ours.target_commands, theirs.target_commands)
    for found, expected in zip(ours.get_motion(), theirs.get_motion()):
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    shown = [(ours.get_frames(), theirs.get_frames())]
    if ahead:
        (frames, joints), (other_frames, other_joints) = (one.window(ahead, [2, 1]) for one in (ours, theirs))
        torch.testing.assert_close(joints, other_joints, atol=tolerance, rtol=tolerance)
        shown.append((frames, other_frames))
    for one, other in shown:
        for field in fields(one):
            found, expected = getattr(one, field.name), getattr(other, field.name)
            torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_every_backend_shows_what_torch_shows(
    checkpoint: Checkpoint, backend: str, kind: str, make_equal: Callable[..., None]
) -> None:
    """From equal states a step is the same but for rounding, with random resets, commands and places."""
    names = checkpoint.joint_names[::-1]
    ours, theirs = (make(checkpoint, name, kind, joint_names=names) for name in (backend, "torch"))
    assert (ours.backend, theirs.backend) == (backend, "torch")
    by_kernels = backend == "cuda_graph" and SETTINGS[kind]["mode"] == "realtime" and kind != "between frames"
    assert (ours._shown.changes is not None) is by_kernels
    draw, pooled = torch.Generator().manual_seed(9), kind == "pool"
    tolerance = 2e-3 if "float16" in kind else 1e-4 if pooled else 2e-5
    for step in range(8):
        begun, told, placed = ((torch.rand(NUM_ENVS, generator=draw) < 0.2).nonzero().squeeze(1) for _ in range(3))
        commands, places = torch.randn(2, NUM_ENVS, 3, generator=draw)
        commands[torch.rand(NUM_ENVS, generator=draw) < 0.2] = 0.0
        make_equal(theirs, ours)
        for generator in (ours, theirs):
            if step % 5 == 4 or pooled:
                generator.reset(begun)
            else:
                # Poses that are no single block of memory, as callers may hand them over.
                poses = places[begun] if step % 3 else places[:1].expand(len(begun), 3)
                generator.reset(begun, commands=commands[begun] if step % 4 else None, root_pose=poses)
            generator.update_commands(commands.flip(0)[told], told)
            if step % 4 == 3:
                generator.set_root_pose(places[placed], placed)
        assert_same(ours, theirs, [0, 3] if step > 2 and not pooled else [], tolerance)  # At first nobody reads ahead.
        for generator in (ours, theirs):
            generator.advance()
    assert ours.rollout.frame_count > 0 and theirs.rollout.frame_count > 0


FAILURES: dict[str, tuple[type, str, str]] = {
    "a step": (TritonFrame, "step", "cannot build its kernels"),
    "a frame": (TritonFrame, "frame", "cannot be captured"),
    "frames of a graph": (CapturedFrames, "_captured", "frames cannot be captured"),
    "changes": (environment_changes.EnvironmentChanges, "_changed", "changes cannot be captured"),
    "what is asked for": (environment_changes.EnvironmentChanges, "_write", "changes cannot be captured"),
    "what is on show": (environment_changes.EnvironmentChanges, "_show", "changes cannot be captured"),
    "reading": (triton_reader.TritonReader, "frames", "reading: Triton cannot build"),
}


@pytest.mark.parametrize("part", list(FAILURES))
@pytest.mark.usefixtures("without_graphs", "large_programs")
@pytest.mark.skipif(torch.cuda.is_available(), reason="the fallback is tested by the interpreter")
def test_where_a_kernel_fails_torch_goes_on(checkpoint: Checkpoint, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="the kernels are Triton's")
    owner, method, message = FAILURES[part]

    def fail(*arguments: Any, **sizes: Any) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(owner, method, fail)
    with pytest.warns(UserWarning, match=f"{message}.*no compiler") as warned:
        ours, theirs = (make(checkpoint, name, "realtime") for name in ("cuda_graph", "torch"))
        for step in range(3):
            for generator in (ours, theirs):
                generator.reset([step], commands=torch.tensor([[0.5, 0.1, 0.2]]))
                generator.update_commands(torch.tensor([[0.8, 0.0, -0.2]]), [5])
            assert_same(ours, theirs, [0, 2], 1e-4)
            for generator in (ours, theirs):
                generator.advance()
    said = [str(warning.message) for warning in warned if "no compiler" in str(warning.message)]
    assert len(said) == len({text.partition(" (")[0] for text in said}), "each is told once"


def test_the_choice_is_told_or_refused(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    gpu = torch.device("cuda")
    assert chosen_backend("auto", gpu) == "cuda_graph"
    assert chosen_backend("torch", gpu) == "torch"
    assert chosen_backend("auto", CPU) in ("numba", "torch")
    assert make(checkpoint, "auto", "realtime").backend == chosen_backend("auto", CPU)
    for wanted, device, message in (
        ("numpy", CPU, "backend must be 'auto' or one of"),
        ("numba", gpu, "works on a CPU"),
        ("cuda_graph", CPU, "needs a GPU"),
    ):
        with pytest.raises(ValueError, match=message):
            chosen_backend(wanted, device)
    with pytest.raises(ValueError, match="backend must be 'auto' or one of"):
        make(checkpoint, "numpy", "realtime")
