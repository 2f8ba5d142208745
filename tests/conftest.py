"""What tests share: where the real motion clips lie, and a walk that needs none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.cuda_graph import capture
from cmg_ref.robots.robot import load_g1

if not torch.cuda.is_available():  # Triton looks when it is first imported, by whichever test that is.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# What TWIST needs to run on the stand-in; `pip install 'cmg_ref[mujoco]'` and TWIST's README name the packages.
TWIST_PACKAGES = (
    "cv2",
    "matplotlib",
    "mujoco.batch",
    "pydelatin",
    "pyfqmr",
    "rich",
    "scipy",
    "termcolor",
    "wandb",
    "yaml",
)


# Fixtures for what is not in the repository: a test that asks for one is "external".
EXTERNAL = {"motion_folder", "twist_root", "twist_copy", "legged_gym_root", "small_disk"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs things from outside, skip what needs a GPU where there is none, and order for several workers."""
    # Those of the whole package take minutes each: no worker shall be left with one when the others have ended.
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)
    for item in items:
        if EXTERNAL & set(getattr(item, "fixturenames", ())):
            item.add_marker("external")
        if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def motion_folder() -> Path:
    """Folder of real clips: `$CMG_MOTION_FOLDER`, else `../shared/motion` beside the repository; skips without it."""
    folder = Path(os.environ.get("CMG_MOTION_FOLDER", Path(__file__).parents[2] / "shared" / "motion"))
    if not folder.is_dir():
        pytest.skip(f"no motion clips in {folder} (set CMG_MOTION_FOLDER)")
    return folder


@pytest.fixture(scope="session")
def twist_root() -> Path:
    """A checkout of TWIST (github.com/YanjieZe/TWIST), named by `$TWIST_ROOT`; skips without it."""
    return checkout("TWIST_ROOT", "legged_gym/legged_gym/envs/g1", "https://github.com/YanjieZe/TWIST")


@pytest.fixture(scope="session")
def twist_copy(twist_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of TWIST, without meshes, that may be written to: training keeps its runs inside."""
    for package in TWIST_PACKAGES:
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("twist")
    for package in ("legged_gym", "rsl_rl", "pose"):
        shutil.copytree(twist_root / package, folder / package, ignore=shutil.ignore_patterns("logs", "__pycache__"))
    (folder / "assets" / "g1").mkdir(parents=True)
    for file in (twist_root / "assets" / "g1").glob("*.urdf"):
        shutil.copy(str(file), str(folder / "assets" / "g1"))
    return folder


@pytest.fixture(scope="session")
def legged_gym_root() -> Path:
    """A checkout of legged_gym (github.com/leggedrobotics), named by `$LEGGED_GYM_ROOT`; skips without it."""
    return checkout("LEGGED_GYM_ROOT", "legged_gym/envs", "https://github.com/leggedrobotics/legged_gym")


def checkout(variable: str, inside: str, address: str) -> Path:
    """The folder named by an environment variable; skips if it is not set, fails if it holds something else."""
    if not os.environ.get(variable):
        pytest.skip(f"${variable} names no checkout of {address}")
    folder = Path(os.environ[variable])
    assert (folder / inside).is_dir(), f"${variable}={folder} is no checkout of {address}: it has no {inside}"
    return folder.resolve()


@pytest.fixture(scope="session")
def run_code() -> Callable[..., Any]:
    """Runs Python code in a process of its own, with folders to import from; returns the JSON in its last line.

    TWIST and legged_gym give their packages the same names, so no process can hold both.
    """

    def run(code: str, *folders: Path) -> Any:
        root = Path(__file__).resolve().parents[1]
        path = [str(folder) for folder in (root, *folders)] + [os.environ.get("PYTHONPATH", "")]
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert result.returncode == 0, result.stderr[-4000:]
        return json.loads(result.stdout.splitlines()[-1])

    return run


@pytest.fixture()
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, to fill; skips where none can be made, which takes the rights of root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture()
def swinging_clip() -> MotionClip:
    """A second of swinging legs at 30 frames per second that moves on at 0.7 m/s, with a command, for what is drawn."""
    robot = load_g1()
    time = torch.arange(30, dtype=torch.float64) / 30.0
    swing = torch.sin(2.0 * torch.pi * time)
    dof_pos = robot.default_dof_pos.repeat(len(time), 1)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        dof_pos[:, robot.joint_names.index(f"{side}_hip_pitch_joint")] += 0.4 * sign * swing
        dof_pos[:, robot.joint_names.index(f"{side}_knee_joint")] += 0.3 + 0.3 * sign * swing
    root_pos = torch.stack((0.7 * time, torch.zeros_like(time), torch.full_like(time, 0.78)), dim=-1)
    root_quat = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64).repeat(len(time), 1)
    command = torch.tensor([0.7, 0.0, 0.0], dtype=torch.float64).repeat(len(time), 1)
    return MotionClip("swinging", 30.0, robot.joint_names, dof_pos, root_pos, root_quat, command=command)


@pytest.fixture
def without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what would be captured as a CUDA graph, which takes a GPU, where the graph would be replayed."""

    def run(warm_up: Callable[[], object], action: Callable[[], object], device: torch.device) -> Any:
        warm_up()
        return SimpleNamespace(replay=action)

    monkeypatch.setattr(capture, "capture", run)
