"""What the writers write is what the readers, and TWIST, read."""

from __future__ import annotations

import dataclasses
import pickle
import pickletools
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats import writers
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.formats.writers import write_npz, write_twist_pickle
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.robots.robot import load_g1

MakeClip = Callable[..., MotionClip]


def test_npz_round_trip(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = dataclasses.replace(make_clip(), command=torch.rand(201, 3))
    write_npz(clip, tmp_path / "new" / "walk.npz")
    with np.load(tmp_path / "new" / "walk.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {
            "fps",
            "joint_names",
            "dof_pos",
            "dof_vel",
            "root_pos",
            "root_quat_xyzw",
            "command",
        }
        assert all(len(archive[field]) == 201 for field in archive.files if field not in ("fps", "joint_names"))
    read = read_clip(tmp_path / "new" / "walk.npz")
    assert (read.name, read.fps, read.joint_names) == ("walk", 50.0, clip.joint_names)
    assert read.command is not None
    assert clip.command is not None
    assert (read.command - clip.command).abs().max() < 1e-6
    for field in ("dof_pos", "root_pos", "root_quat"):
        assert (getattr(read, field) - getattr(clip, field)).abs().max() < 1e-6
    assert (read.velocities() - clip.velocities()).abs().max() < 1e-5


def test_npz_without_command(make_clip: MakeClip, tmp_path: Path) -> None:
    write_npz(make_clip(), tmp_path / "walk.npz")
    assert read_clip(tmp_path / "walk.npz").command is None


def test_twist_pickle_has_the_body_positions_of_the_original(motion_folder: Path, tmp_path: Path) -> None:
    for file in sorted((motion_folder / "twist2_g1").glob("*.pkl")):
        original = pickle.loads(file.read_bytes())
        write_twist_pickle(read_clip(file), tmp_path / "again.pkl", load_g1())
        written = pickle.loads((tmp_path / "again.pkl").read_bytes())
        assert written["link_body_list"] == list(original["link_body_list"])
        assert np.abs(written["local_body_pos"] - original["local_body_pos"]).max() < 1e-5
        for field in ("root_pos", "root_rot", "dof_pos"):
            assert np.abs(written[field] - original[field]).max() < 1e-12
        assert float(written["fps"]) == pytest.approx(float(original["fps"]))


def test_twist_pickle_names_nothing_that_old_numpy_lacks(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip()
    write_twist_pickle(clip, tmp_path / "walk.pkl", load_g1())
    content = (tmp_path / "walk.pkl").read_bytes()
    texts = {argument for _, argument, _ in pickletools.genops(content) if isinstance(argument, str)}
    assert not [text for text in texts if text.startswith("numpy.")]
    written = pickle.loads(content)
    written["dof_pos"][0] = 0.0  # TWIST changes what it has loaded.
    assert written["local_body_pos"].dtype == np.float32
    assert len(written["link_body_list"]) == written["local_body_pos"].shape[1]
    assert (read_clip(tmp_path / "walk.pkl").root_pos - clip.root_pos).abs().max() < 1e-12


def test_failed_write_leaves_the_old_file(make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_npz(make_clip(), tmp_path / "walk.npz")
    before = (tmp_path / "walk.npz").read_bytes()

    def fail(file: object, **arrays: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    monkeypatch.setattr(writers.np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        write_npz(make_clip(), tmp_path / "walk.npz")
    assert (tmp_path / "walk.npz").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["walk.npz"]
