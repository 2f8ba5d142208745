from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.drawing.plots import clip_figure, save_clip_plot
from cmg_ref.robots.robot import load_g1

pytest.importorskip("matplotlib")


@pytest.fixture()
def walk(swinging_clip: MotionClip) -> MotionClip:
    return swinging_clip


def panel(clip: MotionClip, title: str) -> Any:
    return next(axes for axes in clip_figure(clip, load_g1()).axes if axes.get_title(loc="left").startswith(title))


def test_plot_file_is_a_picture(walk: MotionClip, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "new" / "walk.png"
    save_clip_plot(walk, path, load_g1())
    with image.open(path) as picture:
        assert min(picture.size) > 600
        assert np.asarray(picture.convert("L")).std() > 10
    assert [file.name for file in path.parent.iterdir()] == ["walk.png"]


def test_curves_are_the_clips_own(walk: MotionClip) -> None:
    measured, average, command = (np.asarray(line.get_ydata()) for line in panel(walk, "forward speed").lines)
    assert measured == pytest.approx(walk.root_lin_vel_h()[:, 0].numpy())
    assert command == pytest.approx(0.7)
    assert np.mean(average) == pytest.approx(np.mean(measured), abs=0.05)
    assert np.std(np.diff(average)) < np.std(np.diff(measured))
    left, right = (np.asarray(line.get_ydata()) for line in panel(walk, "knee").lines)
    for side, drawn in (("left", left), ("right", right)):
        assert drawn == pytest.approx(walk.dof_pos[:, walk.joint_names.index(f"{side}_knee_joint")].numpy())


def test_every_joint_is_drawn_once(walk: MotionClip) -> None:
    labels = [
        str(line.get_label())
        for axes in clip_figure(walk, load_g1()).axes
        if axes.get_title(loc="left").endswith("[rad]")
        for line in axes.lines
    ]
    assert sorted(labels) == sorted(name.replace("_joint", "").replace("_", " ") for name in walk.joint_names)


def test_feet_alternate_on_the_floor(motion_folder: Path) -> None:
    walk = read_clip(motion_folder / "lafan1_g1" / "walk1_subject1.csv").slice(450, 600)
    left, right = (np.asarray(line.get_ydata()) for line in panel(walk, "lowest point").lines[:2])
    assert np.minimum(left, right).max() < 0.05
    assert np.maximum(left, right).max() > 0.03
    assert 0.2 < (left < right).mean() < 0.8


def test_broken_limits_are_said(walk: MotionClip) -> None:
    robot = load_g1()
    assert panel(walk, "range used").get_title(loc="left") == "range used: all within their limits"
    bent = walk.slice(0, walk.num_frames)
    bent.dof_pos = walk.dof_pos.clone()
    bent.dof_pos[3, robot.joint_names.index("left_knee_joint")] = -0.2
    assert panel(bent, "range used").get_title(loc="left") == "range used: 1 joints beyond their limits"


def test_plot_works_without_command(walk: MotionClip) -> None:
    bare = walk.slice(0, 40)
    bare.command = None
    assert [line.get_label() for line in panel(bare, "forward speed").lines] == ["root", "average over 0.8 s"]


def test_other_endings_are_refused(walk: MotionClip, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a plot ends in"):
        save_clip_plot(walk, tmp_path / "walk.bmp", load_g1())


def test_missing_matplotlib_names_the_extra(walk: MotionClip, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_matplotlib(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ImportError, match=r"cmg_ref\[viz\]"):
        clip_figure(walk, load_g1())
