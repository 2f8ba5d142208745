"""The data script, run as a user runs it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.clips.formats.writers import write_npz, write_twist_pickle
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.clips.quality import lowest_sole_point
from cmg_ref.robots.robot import load_g1

pytestmark = pytest.mark.slow

Run = Callable[..., Any]


@pytest.fixture
def run(run_script: Run) -> Run:
    return lambda *arguments: run_script("prepare_data.py", *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips of one name in two folders: the standing robot drawn forward and to its left."""
    robot = load_g1()
    for index, side in enumerate(("forward", "left")):
        clip = MotionClip(
            name=side,
            fps=40.0,
            joint_names=robot.joint_names,
            dof_pos=robot.default_dof_pos.expand(200, -1).clone(),
            root_pos=torch.zeros(200, 3),
            root_quat=torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(200, -1),
        )
        clip.root_pos[:, index] = torch.arange(200) / 40.0
        clip.root_pos[:, 2] = -lowest_sole_point(clip, robot)[0]
        (tmp_path / "clips" / side).mkdir(parents=True)
        write_npz(clip, tmp_path / "clips" / side / "walk.npz")
    write_twist_pickle(clip, tmp_path / "clips" / "other.pkl", robot)
    return tmp_path / "clips"


def test_makes_a_dataset_and_a_picture(run: Run, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "set.safetensors"
    result = run(folder, "--output", output, "--held-out", "left/walk[1:2]", "--licence", "forward=MIT")
    assert result.returncode == 0, result.stderr
    dataset = MotionDataset.load(output)
    assert dataset.fps == 50.0
    assert dataset.clip_names == (
        "forward/walk",
        "left/walk[0.0:1.0]",
        "left/walk[1.0:2.0]",
        "left/walk[2.0:5.0]",
        "other",
    )
    assert dataset.held_out == (False, False, True, False, False)
    assert dataset.licences[0] == "MIT"
    assert dataset.commands[10].allclose(torch.tensor([1.0, 0.0, 0.0]), atol=1e-3)
    assert "forward/walk" in result.stdout
    assert "100%" in result.stdout
    pytest.importorskip("matplotlib")
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_broken_clip_stops_before_anything_is_written(run: Run, folder: Path, tmp_path: Path) -> None:
    broken = folder / "broken.pkl"
    broken.write_bytes((folder / "other.pkl").read_bytes()[:5000])
    output = tmp_path / "set.safetensors"
    output.write_text("the old one")
    result = run(folder, "--output", output)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"prepare_data: {broken}: truncated")
    assert "Traceback" not in result.stderr
    assert output.read_text() == "the old one"
    skipped = run(folder, "--output", output, "--skip-broken")
    assert skipped.returncode == 0, skipped.stderr
    assert f"left out {broken}" in skipped.stderr + skipped.stdout
    assert len(MotionDataset.load(output).clip_names) == 3


def test_hostile_clips_are_left_out(run: Run, folder: Path, tmp_path: Path) -> None:
    """Among them what once ended the whole preparation: headers, an archive under a password, a pickle without end."""
    good = zipfile.ZipFile(folder / "left" / "walk.npz")
    for number, header in enumerate(("{[]: 1}", "{'descr': (", "{'descr': (), 'fortran_order': False, 'shape': (1,)}")):
        with zipfile.ZipFile(folder / f"header{number}.npz", "w") as archive:
            for name in good.namelist():
                content = b"\x93NUMPY\1\0" + bytes([len(header), 0]) + header.encode()
                archive.writestr(name, content if name == "dof_pos.npy" else good.read(name))
    encrypted = bytearray((folder / "left" / "walk.npz").read_bytes())
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    (folder / "encrypted.npz").write_bytes(encrypted)
    (folder / "memo.pkl").write_bytes(b"\x80\x04}r\x00\xa3\xe1\x11.")
    (folder / "long.csv").write_text("1" * 300_000)
    (folder / "pointer.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n")
    result = run(folder, "--output", tmp_path / "set.safetensors", "--skip-broken")
    assert result.returncode == 0, result.stderr
    assert len(MotionDataset.load(tmp_path / "set.safetensors").clip_names) == 3
    left_out = [line for line in (result.stderr + result.stdout).splitlines() if "left out" in line]
    assert len(left_out) == 7
    assert max(map(len, left_out)) < 600


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "set.npz"], "must end in .safetensors"),
        (["--output", "set.safetensors", "--fps", "0"], "--fps: '0' is not a number from 1 to 1000"),
        (["--output", "set.safetensors", "--licence", "MIT"], "--licence MIT: must be NAME=TEXT"),
        (["--output", "set.safetensors", "--held-out", "wlak"], "held-out 'wlak': none of the 3 clips is called so"),
        ([], "--output"),
    ],
)
def test_wrong_options(run: Run, folder: Path, options: list[str], message: str) -> None:
    result = run(folder, *options)
    assert result.returncode != 0
    assert message in result.stderr.splitlines()[-1]


def test_missing_folder_as_a_user_sees_it(run_process: Run, tmp_path: Path) -> None:
    result = run_process("prepare_data.py", tmp_path / "nowhere", "--output", tmp_path / "set.safetensors")
    assert result.returncode == 1
    assert result.stderr.strip() == f"prepare_data: {tmp_path / 'nowhere'}: no such file or folder"


def test_what_is_assumed_is_printed(run: Run, folder: Path, tmp_path: Path) -> None:
    with np.load(folder / "forward" / "walk.npz") as archive:
        table = np.concatenate([archive[name] for name in ("root_pos", "root_quat_xyzw", "dof_pos")], axis=1)
    np.savetxt(folder / "glide.csv", table, delimiter=",")
    output = tmp_path / "set.safetensors"
    result = run(folder, "--output", output)
    assert "glide.csv: field 'root_quat': the motion does not tell" in result.stderr.splitlines()[-1]
    assert "--quat-order" in result.stderr.splitlines()[-1]
    assert not output.exists()
    result = run(folder, "--output", output, "--quat-order", "xyzw")
    assert result.returncode == 0, result.stderr
    assert "glide: no frame rate inside, 30 per second assumed; another: " in result.stdout
    result = run(folder, "--output", output, "--quat-order", "wxyz", "--csv-fps", "40")
    assert "no frame rate inside" not in result.stdout
    dataset = MotionDataset.load(output)
    middle = int((dataset.clip_index == dataset.clip_names.index("glide")).nonzero()[100])
    assert dataset.commands[middle].allclose(torch.tensor([-1.0, 0.0, 0.0]), atol=1e-3)
