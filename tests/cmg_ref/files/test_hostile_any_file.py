"""What every reader says of a file that is none, is another one, or is only a pointer to one."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
import torch

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.motion_clip import ClipError
from cmg_ref.commands.schedule import CommandSchedule, ScheduleError
from cmg_ref.evaluation.evaluated_motion import read_motion
from cmg_ref.network.checkpoint import CheckpointError, load_checkpoint
from cmg_ref.network.legacy_checkpoint import import_legacy_checkpoint
from cmg_ref.robots.kinematic_tree import RobotError
from cmg_ref.robots.mjcf import read_mjcf
from cmg_ref.robots.robot import load_g1
from cmg_ref.robots.urdf import read_urdf
from cmg_ref.training.training_state import read_saved_config
from envs.learning.policy import PolicyError, load_policy, read_checkpoint
from envs.learning.training_run import RunError, read_json

Refusal = Callable[..., None]


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 310717\n"
READERS: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
    "take.pkl": (read_clip, ClipError),
    "take.npz": (read_clip, ClipError),
    "take.csv": (read_clip, ClipError),
    "motion.npz": (lambda path: read_motion(path, load_g1()), ClipError),
    "cmg.safetensors": (load_checkpoint, CheckpointError),
    "cmg.pt": (import_legacy_checkpoint, CheckpointError),
    "training_state.pt": (lambda path: read_saved_config(path.parent), ValueError),
    "policy.safetensors": (load_policy, PolicyError),
    "model_1.pt": (read_checkpoint, PolicyError),
    "set.safetensors": (MotionDataset.load, ValueError),
    "schedule.csv": (CommandSchedule.from_file, ScheduleError),
    "schedule.json": (CommandSchedule.from_file, ScheduleError),
    "config.json": (read_json, RunError),
    "robot.xml": (read_mjcf, RobotError),
    "robot.urdf": (read_urdf, RobotError),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pointer_of_git_lfs_says_so(assert_refused: Refusal, tmp_path: Path, name: str) -> None:
    read, kind = READERS[name]
    (tmp_path / name).write_text(POINTER)
    assert_refused(lambda: read(tmp_path / name), kind, tmp_path / name, "Git LFS", "git lfs pull")


def test_a_pointer_in_place_of_statistics(assert_refused: Refusal, tmp_path: Path) -> None:
    torch.save({"gating.gating_network.0.weight": torch.zeros(1, 1)}, tmp_path / "a.pt")
    for name in ("stats.yaml", "stats.pt"):
        (tmp_path / name).write_text(POINTER)
        read = tmp_path / name
        assert_refused(lambda: import_legacy_checkpoint(tmp_path / "a.pt", read), CheckpointError, read, "git lfs")  # noqa: B023


@pytest.mark.parametrize("content", [b"", b"\0", b"\0" * 5000, b"\xff" * 5000, b"PK\3\4" + b"\0" * 100, b"\x80\x04"])
@pytest.mark.parametrize("name", READERS)
def test_a_file_of_nothing_sensible(assert_refused: Refusal, tmp_path: Path, name: str, content: bytes) -> None:
    read, kind = READERS[name]
    (tmp_path / name).write_bytes(content)
    assert_refused(lambda: read(tmp_path / name), kind, tmp_path / name)


@pytest.mark.parametrize("name", [name for name in READERS if "." in name])
def test_a_folder_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    read, kind = READERS[name]
    if name == "training_state.pt":
        pytest.skip("a folder there is no training state")
    (tmp_path / name).mkdir()
    with pytest.raises((kind, FileNotFoundError)) as error:
        read(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("name", ["take.pkl", "take.npz", "cmg.pt", "schedule.json", "robot.xml", "robot.urdf"])
def test_a_sparse_file_of_many_gigabytes(assert_refused: Refusal, tmp_path: Path, name: str) -> None:
    read, kind = READERS[name]
    with (tmp_path / name).open("wb") as file:
        file.truncate(50 << 30)
    assert_refused(lambda: read(tmp_path / name), kind, tmp_path / name, "MiB that are read")
