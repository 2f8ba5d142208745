"""The order of quaternions is told from the motion, whichever way the robot faces."""

from __future__ import annotations

import dataclasses
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats.collection import read_clips
from cmg_ref.clips.formats.quaternion_order import ORDERS, quat_order_evidence
from cmg_ref.clips.formats.readers import OpenClipError, read_clip
from cmg_ref.clips.motion_clip import ClipError, ClipWarning, MotionClip
from cmg_ref.core.rotations import quat_from_euler_xyz, quat_from_yaw, quat_multiply, quat_rotate, yaw_from_quat
from cmg_ref.robots.robot import load_g1

HEADINGS = range(-180, 180, 15)
GAITS = ("standing", "forward", "backward", "sideways", "turning")


def headed(clip: MotionClip, degrees: float) -> MotionClip:
    """The clip turned about the vertical so that most of the time it faces this way."""
    turn = quat_from_yaw(math.radians(degrees) - yaw_from_quat(clip.root_quat).median()).expand_as(clip.root_quat)
    return dataclasses.replace(
        clip, root_quat=quat_multiply(turn, clip.root_quat), root_pos=quat_rotate(turn, clip.root_pos)
    )


def in_order(clip: MotionClip, order: str) -> torch.Tensor:
    return clip.root_quat if order == "xyzw" else clip.root_quat.roll(1, dims=-1)


def write_pickle(clip: MotionClip, path: Path, order: str, **more: object) -> Path:
    fields = {
        "fps": clip.fps,
        "root_pos": clip.root_pos.numpy(),
        "root_rot": in_order(clip, order).numpy(),
        "dof_pos": clip.dof_pos.numpy(),
        **more,
    }
    path.write_bytes(pickle.dumps(fields))
    return path


def lying(clip: MotionClip, roll: float, pitch: float) -> MotionClip:
    """The clip's robot on the floor, breathing a little."""
    time = torch.arange(clip.num_frames) / clip.fps
    turn = torch.full_like(time, 1.0)
    place = torch.stack((0.0 * time, 0.0 * time, 0.12 + 0.01 * torch.sin(time)), dim=-1)
    dof_pos = torch.zeros_like(clip.dof_pos)
    return dataclasses.replace(
        clip,
        dof_pos=dof_pos,
        dof_vel=None,
        root_pos=place,
        root_quat=quat_from_euler_xyz(roll * turn, pitch * turn, 0.0 * turn).double(),
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("gait", GAITS)
def test_read_right_at_every_heading(
    gaits: dict[str, MotionClip], tmp_path: Path, gait: str, order: str, recwarn: pytest.WarningsRecorder
) -> None:
    clip = gaits[gait]
    for degrees in HEADINGS:
        turned = headed(clip, degrees)
        read = read_clip(write_pickle(turned, tmp_path / "take.pkl", order))
        assert (read.root_lin_vel_h() - clip.root_lin_vel_h()).abs().max() < 0.1, degrees
        if gait != "standing":  # Of a robot that stands still, only what is learnt has to be right.
            assert (read.root_quat - turned.root_quat).abs().max() < 1e-6, degrees
        assert (read.projected_gravity() - clip.projected_gravity()).abs().max() < 0.2, degrees
    said = any("quaternions are wxyz, not xyzw" in str(warning.message) for warning in recwarn)
    assert said == (order == "wxyz")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("roll", "pitch"), [(0.0, 1.57), (0.0, -1.57), (1.57, 0.0), (-1.57, 0.0)])
def test_lying_robot_is_not_stood_up(gaits: dict[str, MotionClip], roll: float, pitch: float, order: str) -> None:
    robot, clip = load_g1(), lying(gaits["standing"], roll, pitch)
    for degrees in HEADINGS:
        turned = dataclasses.replace(
            clip,
            root_quat=quat_multiply(
                quat_from_yaw(torch.tensor(math.radians(degrees), dtype=torch.float64)).expand_as(clip.root_quat),
                clip.root_quat,
            ),
        )
        evidence = quat_order_evidence(robot, turned.dof_pos, turned.root_pos, in_order(turned, order), turned.fps)
        assert evidence.order in (order, None), degrees


@pytest.mark.parametrize("order", ORDERS)
def test_real_clips_are_told_at_every_heading(real_clips: list[MotionClip], order: str) -> None:
    robot = load_g1()
    for clip in (clip.slice(0, 240) for clip in real_clips if "lafan1" not in clip.source or "walk2" in clip.name):
        for degrees in HEADINGS[::2]:
            turned = headed(clip, degrees)
            quats = in_order(turned, order)
            assert quat_order_evidence(robot, turned.dof_pos, turned.root_pos, quats, turned.fps).order == order


def gliding(clip: MotionClip, order: str) -> MotionClip:
    """A standing robot moved forward without a step, facing the way that looks upright in both orders."""
    forward, quat = (1.0, [0.0, 0.0, 0.0, 1.0]) if order == "xyzw" else (-1.0, [0.0, 0.0, 1.0, 0.0])
    time = torch.arange(clip.num_frames, dtype=torch.float64) / clip.fps
    still = clip.dof_pos[:1].expand_as(clip.dof_pos)
    place = torch.stack((forward * time, 0.0 * time, 0.0 * time + 0.78), dim=-1)
    upright = torch.tensor(quat).expand(clip.num_frames, -1)
    return dataclasses.replace(clip, dof_pos=still, dof_vel=None, root_pos=place, root_quat=upright)


def test_open_order_is_refused_unless_it_is_said(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    clip = gliding(gaits["standing"], "xyzw")
    file = write_pickle(clip, tmp_path / "glide.pkl", "xyzw")
    with pytest.raises(OpenClipError, match=r"field 'root_rot': the motion does not tell .* xyzw or wxyz; say it with"):
        read_clip(file)
    assert read_clip(file, quat_order="xyzw").root_lin_vel_h()[5, 0] == pytest.approx(1.0)
    assert read_clip(file, quat_order="wxyz").root_lin_vel_h()[5, 0] == pytest.approx(-1.0)
    write_pickle(clip, file, "xyzw", quat_order="xyzw")
    assert read_clip(file).root_lin_vel_h()[5, 0] == pytest.approx(1.0)
    write_pickle(clip, file, "xyzw", quat_order="xwyz")
    with pytest.raises(ClipError, match="field 'quat_order': needs xyzw or wxyz"):
        read_clip(file)
    with pytest.raises(ValueError, match="quat_order 'wzyx': needs xyzw or wxyz"):
        read_clip(file, quat_order="wzyx")


@pytest.mark.parametrize("order", ORDERS)
def test_open_order_is_that_of_the_folder(gaits: dict[str, MotionClip], tmp_path: Path, order: str) -> None:
    write_pickle(gliding(gaits["standing"], order), tmp_path / "glide.pkl", order)
    said: list[str] = []
    with pytest.raises(OpenClipError):
        read_clips([tmp_path], load_g1(), say=said.append)
    write_pickle(gaits["forward"], tmp_path / "walk.pkl", order)
    glide, _ = read_clips([tmp_path], load_g1(), say=said.append)
    assert glide.root_lin_vel_h()[5, 0] == pytest.approx(1.0)
    assert any(line == "glide: what is left open here is taken from the other clips of the folder" for line in said)


def test_motionless_robot_is_read_in_the_usual_order(tmp_path: Path) -> None:
    fields = dict(
        fps=30.0,
        root_pos=np.tile([0.0, 0.0, 0.78], (60, 1)),
        root_rot=np.tile([0.0, 0.0, 0.0, 0.98], (60, 1)),
        dof_pos=np.zeros((60, 29)),
    )
    (tmp_path / "stand.pkl").write_bytes(pickle.dumps(fields))
    with pytest.warns(ClipWarning, match=r"stand\.pkl: quaternions of length 0\.98 to 0\.98 are normalised$"):
        read = read_clip(tmp_path / "stand.pkl")
    assert read.root_quat.equal(torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64).expand(60, 4))
