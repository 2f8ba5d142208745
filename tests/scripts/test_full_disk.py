"""Scripts on a disk without space: one line that names the file, and nothing left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from cmg_ref.clips.formats.writers import write_npz
from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.rollout.clip_generation import generate_clips

pytestmark = pytest.mark.slow


@pytest.fixture()
def full_disk(small_disk: Path) -> Path:
    """A disk with a few kilobytes left."""
    (small_disk / "fill").write_bytes(bytes(980_000))
    return small_disk


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two motions of some seconds."""
    folder, checkpoint = tmp_path_factory.mktemp("clips"), load_checkpoint()
    commands = torch.tensor([[0.6, 0.0, 0.0], [0.4, 0.0, 0.5]]).unsqueeze(1).repeat(1, 300, 1)
    for number, clip in enumerate(generate_clips(checkpoint, commands)):
        write_npz(clip, folder / f"{number}.npz")
    return folder


def check(run_script: Any, script: str, file: Path, *arguments: object) -> None:
    pytest.importorskip("PIL")
    disk = file.parent
    result = run_script(script, *arguments)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last == f"{Path(script).stem}: No space left on device: {file}"
    assert "Traceback" not in result.stderr and os.listdir(disk) == ["fill"]


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_export_cmg(run_script: Any, full_disk: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    check(run_script, "export_cmg.py", full_disk / f"step{suffix}", full_disk / f"step{suffix}")


def test_prepare_data(run_script: Any, full_disk: Path, clips: Path) -> None:
    output = full_disk / "data.safetensors"
    check(run_script, "prepare_data.py", output, clips, "--output", output, "--held-out", "0")


def test_strip(run_script: Any, full_disk: Path, tmp_path: Path) -> None:
    strip, options = (
        full_disk / "strip.png",
        ("--vx", 1, "--duration", 7, "--no-plot", "--no-video", "--output", tmp_path),
    )
    check(run_script, "generate.py", strip, *options, "--strip", strip)


def test_generate(run_script: Any, small_disk: Path, tmp_path: Path) -> None:
    """Whichever finds the disk full, motion, plot or video (also at its very end), is named; those before are whole."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("imageio_ffmpeg")
    options = ("--vx", 0.5, "--duration", 2, "--renderer", "software", "--output")
    assert run_script("generate.py", *options, tmp_path / "whole").returncode == 0
    names = ["motion.npz", "motion.png", "motion.mp4"]
    sizes = [-(-(tmp_path / "whole" / name).stat().st_size // 4096) * 4096 for name in names]
    for index, name in enumerate(names):
        (small_disk / "fill").write_bytes(bytes(1_048_576 - sum(sizes[: index + 1]) + 4096))
        result = run_script("generate.py", *options, small_disk)
        assert result.returncode == 1
        assert result.stderr.strip().splitlines()[-1] == f"generate: No space left on device: {small_disk / name}"
        assert sorted(os.listdir(small_disk)) == sorted(["fill", *names[:index]])
        for other in small_disk.glob("motion.*"):
            other.unlink()


def test_train_cmg(run_script: Any, full_disk: Path, clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    data = tmp_path / "data.safetensors"
    assert run_script("prepare_data.py", clips, "--output", data, "--held-out", "0").returncode == 0
    run = full_disk / "run"
    options = ("--batch-size", 8, "--horizon-end", 8, "--hidden", 64, "--iterations", 2, "--save-every", 1)
    result = run_script("train_cmg.py", data, "--run-dir", run, "--device", "cpu", "--threads", 1, *options)
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1 and last.startswith(f"train_cmg: No space left on device: {run}")
    assert "Traceback" not in result.stderr and not list(run.glob(".*"))
