"""Folders of clips: names of their own, nothing skipped in silence, everything said once; CSV files of any editor."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats.clip_files import clip_names
from cmg_ref.clips.formats.collection import read_clips
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.formats.writers import write_npz, write_twist_pickle
from cmg_ref.clips.motion_clip import ClipError, ClipWarning, MotionClip
from cmg_ref.robots.robot import load_g1


def csv_text(clip: MotionClip, delimiter: str = ",", end: str = "\n") -> str:
    table = torch.cat([clip.root_pos, clip.root_quat, clip.dof_pos], dim=-1).tolist()
    return end.join(delimiter.join(f"{value:.9f}" for value in row) for row in table) + end


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/walk.csv", "a/run.csv"], ["walk", "run"]),
        (["CMU/walk.csv", "KIT/walk.csv", "KIT/run.csv"], ["CMU/walk", "KIT/walk", "run"]),
        (["CMU/01/walk.csv", "KIT/01/walk.csv"], ["CMU/01/walk", "KIT/01/walk"]),
        (["CMU/01/walk.csv", "KIT/01/walk.csv", "KIT/02/walk.csv"], ["CMU/01/walk", "KIT/01/walk", "02/walk"]),
        (["a/X.csv", "a/X.pkl"], ["X.csv", "X.pkl"]),
        (["a/1/X.csv", "a/1/X.pkl", "b/1/X.csv"], ["a/1/X.csv", "a/1/X.pkl", "b/1/X"]),
        (["walk.csv", "a/walk.csv"], ["t/walk", "a/walk"]),
        (["X.v1.csv", "X.v2.csv"], ["X.v1", "X.v2"]),
    ],
)
def test_names_take_as_many_folders_as_they_need(tmp_path: Path, files: list[str], names: list[str]) -> None:
    found = clip_names([tmp_path / "t" / file for file in files])
    assert len(set(found)) == len(files)
    assert found == names


def test_clips_of_one_name_are_read(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    for collection, gait in (("CMU", "forward"), ("KIT", "backward")):
        (tmp_path / collection / "01").mkdir(parents=True)
        (tmp_path / collection / "01" / "walk.csv").write_text(csv_text(gaits[gait]))
    write_twist_pickle(gaits["turning"], tmp_path / "KIT" / "01" / "walk.pkl", load_g1())
    said: list[str] = []
    clips = read_clips([tmp_path], load_g1(), csv_fps=50.0, say=said.append)
    assert [clip.name for clip in clips] == ["CMU/01/walk", "KIT/01/walk.csv", "KIT/01/walk.pkl"]
    for clip, gait in zip(clips, ("forward", "backward", "turning")):
        assert (clip.dof_pos - gaits[gait].dof_pos).abs().max() < 1e-6
    assert said == []


def test_what_is_assumed_or_skipped_is_said_once(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    for name in ("a.csv", "b.CSV", "c.Csv"):
        (tmp_path / name).write_text(csv_text(gaits["standing"]))
    write_npz(gaits["standing"], tmp_path / ".d.4711.npz")
    (tmp_path / ".Trash").mkdir()
    (tmp_path / ".Trash" / "e.csv").write_text("old")
    (tmp_path / "notes.txt").write_text("standing")
    (tmp_path / "f.bvh").write_text("HIERARCHY")
    said: list[str] = []
    assert [clip.name for clip in read_clips([tmp_path], load_g1(), say=said.append)] == ["a", "b", "c"]
    assert said[0] == f"{tmp_path}: not read, since no clips: f.bvh, notes.txt"
    assert said[1].startswith("a, b, c: no frame rate inside, 30 per second assumed")
    assert len(said) == 2
    with pytest.warns(ClipWarning, match="a, b, c: no frame rate inside"):
        read_clips([tmp_path], load_g1())


def test_broken_clip_stops_or_is_left_out(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_text(gaits["standing"]))
    (tmp_path / "b.csv").write_text("no numbers")
    with pytest.raises(ClipError, match=r"b\.csv: row 0: 1 columns"):
        read_clips([tmp_path], load_g1(), csv_fps=50.0)
    said: list[str] = []
    assert len(read_clips([tmp_path], load_g1(), csv_fps=50.0, skip_broken=True, say=said.append)) == 1
    assert said == [f"left out {tmp_path / 'b.csv'}: row 0: 1 columns, needs 36"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["walk.csv", "WALK.CSV"])
def test_csv_of_any_editor_is_read(
    gaits: dict[str, MotionClip], tmp_path: Path, encoding: str, delimiter: str, end: str, name: str
) -> None:
    clip = gaits["forward"].slice(0, 60)
    (tmp_path / name).write_bytes(csv_text(clip, delimiter, end).encode(encoding))
    assert (read_clip(tmp_path / name, fps=50.0).dof_pos - clip.dof_pos).abs().max() < 1e-8


def test_other_endings_count_in_any_case(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    write_npz(gaits["forward"], tmp_path / "a.npz")
    write_twist_pickle(gaits["forward"], tmp_path / "b.pkl", load_g1())
    for name in ("a.npz", "b.pkl"):
        (tmp_path / name).rename(tmp_path / name.upper())
    assert [clip.name for clip in read_clips([tmp_path], load_g1())] == ["A", "B"]


def test_csv_says_where_a_marked_file_is_wrong(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    lines = csv_text(gaits["forward"], ";").splitlines()
    lines[7] = "x" + lines[7]
    (tmp_path / "walk.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    with pytest.raises(ClipError, match=r"walk\.csv: field 'root_x', row 7: 'x.*' is not a number"):
        read_clip(tmp_path / "walk.csv")


@pytest.mark.parametrize("form", ["csv", "pkl", "npz"])
@pytest.mark.parametrize(("length", "sound"), [(0.9, True), (1.1, True), (0.94, True), (0.88, False), (1.12, False)])
def test_short_and_long_quaternions(
    gaits: dict[str, MotionClip], tmp_path: Path, form: str, length: float, sound: bool
) -> None:
    clip = gaits["forward"]
    scaled = clip.root_quat * torch.linspace(length, 1.0, clip.num_frames, dtype=torch.float64)[:, None]
    file = tmp_path / f"walk.{form}"
    if form == "csv":
        np.savetxt(file, torch.cat([clip.root_pos, scaled, clip.dof_pos], dim=-1).numpy(), delimiter=",")
    else:
        fields: dict[str, Any] = {"fps": clip.fps, "root_pos": clip.root_pos.numpy(), "dof_pos": clip.dof_pos.numpy()}
        if form == "pkl":
            file.write_bytes(pickle.dumps({**fields, "root_rot": scaled.numpy()}))
        else:
            np.savez(file, joint_names=np.array(clip.joint_names), root_quat_xyzw=scaled.numpy(), **fields)
    if not sound:
        with pytest.raises(ClipError, match=r"row 0: .* is not a unit quaternion, nor one of length 0\.9 to 1\.1"):
            read_clip(file, fps=50.0)
        return
    with pytest.warns(ClipWarning, match=r"quaternions of length \S+ to \S+ are normalised$") as said:
        read = read_clip(file, fps=50.0)
    assert len(said) == 1
    assert (read.root_quat - clip.root_quat / clip.root_quat.norm(dim=-1, keepdim=True)).abs().max() < 1e-6


def test_real_csv_with_windows_marks(motion_folder: Path, tmp_path: Path) -> None:
    original = motion_folder / "lafan1_g1" / "walk1_subject1.csv"
    (tmp_path / "B.CSV").write_bytes(b"\xef\xbb\xbf" + original.read_bytes().replace(b"\n", b"\r\n"))
    shutil.copy(str(original), str(tmp_path / "a.csv"))
    first, second = read_clips([tmp_path / "a.csv", tmp_path / "B.CSV"], load_g1(), csv_fps=30.0)
    assert first.root_pos.equal(second.root_pos)
    assert first.dof_pos.equal(second.dof_pos)
