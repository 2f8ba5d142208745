"""Joints without names are told from bodies or angles, or refused."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats.collection import read_clips
from cmg_ref.clips.formats.joint_order import all_joints, known_numbers, known_orders, order_of_angles
from cmg_ref.clips.formats.readers import OpenClipError, read_clip
from cmg_ref.clips.formats.writers import write_twist_pickle
from cmg_ref.clips.motion_clip import ClipError, ClipWarning, MotionClip
from cmg_ref.evaluation.evaluated_motion import read_motion
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import load_g1

ROBOT = load_g1()
ORDERS = [names for number in (29, 27, 25, 23, 21) for names in known_orders(ROBOT, number).values()]
TWIST_23 = tuple(name for name in ROBOT.joint_names if "wrist" not in name)
UNITREE_23 = tuple(
    name
    for name in ROBOT.joint_names
    if not any(part in name for part in ("waist_roll", "waist_pitch", "wrist_pitch", "wrist_yaw"))
)


def columns(clip: MotionClip, names: tuple[str, ...]) -> np.ndarray:
    return clip.dof_pos[:, [ROBOT.joint_names.index(name) for name in names]].numpy()


def write_pickle(clip: MotionClip, path: Path, names: tuple[str, ...], bodies: bool = False, **more: Any) -> Path:
    """The joints of a smaller robot, with the bodies of its own kinematics."""
    dof_pos = columns(clip, names)
    fields = {
        "fps": clip.fps,
        "root_pos": clip.root_pos.numpy(),
        "root_rot": clip.root_quat.numpy(),
        "dof_pos": dof_pos,
        "local_body_pos": None,
        "link_body_list": None,
        "quat_order": "xyzw",
        **more,
    }
    if bodies:
        whole = torch.from_numpy(all_joints(ROBOT, names, dof_pos))
        fields["local_body_pos"] = ForwardKinematics(ROBOT, dtype=torch.float64).positions(whole).float().numpy()
        fields["link_body_list"] = list(ROBOT.body_names)
    path.write_bytes(pickle.dumps(fields))
    return path


def expected(clip: MotionClip, names: tuple[str, ...]) -> np.ndarray:
    return all_joints(ROBOT, names, columns(clip, names))


def test_two_orders_of_23_joints_are_known() -> None:
    assert known_numbers(ROBOT) == [29, 27, 25, 23, 21]
    assert TWIST_23 in ORDERS
    assert UNITREE_23 in ORDERS
    assert len({len(TWIST_23), len(UNITREE_23)}) == 1
    assert UNITREE_23[12:18] == (
        "waist_yaw_joint",
        "left_shoulder_pitch_joint",
        "left_shoulder_roll_joint",
        "left_shoulder_yaw_joint",
        "left_elbow_joint",
        "left_wrist_roll_joint",
    )


@pytest.mark.parametrize("names", ORDERS, ids=lambda names: f"{len(names)} {names[1]} {names[14]}")
def test_bodies_tell_every_order(gaits: dict[str, MotionClip], tmp_path: Path, names: tuple[str, ...]) -> None:
    for clip in gaits.values():
        read = read_clip(write_pickle(clip, tmp_path / "take.pkl", names, bodies=True))
        assert np.abs(read.dof_pos.numpy() - expected(clip, names)).max() == 0.0


@pytest.mark.parametrize("names", ORDERS, ids=lambda names: f"{len(names)} {names[1]} {names[14]}")
def test_angles_tell_or_are_refused_but_never_mistaken(
    gaits: dict[str, MotionClip], tmp_path: Path, names: tuple[str, ...]
) -> None:
    told = 0
    for clip in gaits.values():
        file = write_pickle(clip, tmp_path / "take.pkl", names)
        try:
            read = read_clip(file)
        except OpenClipError as error:
            assert f"field 'dof_pos': {len(names)} joints without names" in str(error)
            assert "joint_names" in str(error)
            continue
        told += 1
        assert np.abs(read.dof_pos.numpy() - expected(clip, names)).max() == 0.0
    assert told >= 3


@pytest.mark.parametrize("names", ORDERS, ids=lambda names: f"{len(names)} {names[1]} {names[14]}")
def test_real_clips_are_never_mistaken(real_clips: list[MotionClip], names: tuple[str, ...]) -> None:
    found = [order_of_angles(ROBOT, columns(clip, names)) for clip in real_clips]
    assert all(order in (names, None) for order in found)
    assert sum(order == names for order in found) > 0.6 * len(found)


def test_unitree_23_with_bodies_is_not_taken_for_twist(motion_folder: Path, tmp_path: Path) -> None:
    clip = read_clip(motion_folder / "lafan1_g1" / "walk1_subject1.csv", fps=30.0).slice(0, 900)
    with pytest.warns(ClipWarning, match="23 joints; zero are waist_roll_joint, waist_pitch_joint"):
        read = read_clip(write_pickle(clip, tmp_path / "take.pkl", UNITREE_23, bodies=True))
    waist_roll = read.dof_pos[:, ROBOT.joint_names.index("waist_roll_joint")]
    shoulder = read.dof_pos[:, ROBOT.joint_names.index("left_shoulder_pitch_joint")]
    assert waist_roll.abs().max() == 0.0
    assert shoulder.equal(clip.dof_pos[:, ROBOT.joint_names.index("left_shoulder_pitch_joint")])


def ambiguous(clip: MotionClip) -> MotionClip:
    """Arms that do not tell: straight waist, and all arm joints alike."""
    dof_pos = clip.dof_pos.clone()
    dof_pos[:, 12:] = 0.1 + 0.01 * dof_pos[:, :1]
    return dataclasses.replace(clip, dof_pos=dof_pos, dof_vel=None)


def test_open_order_is_refused_unless_the_joints_are_named(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    clip = ambiguous(gaits["forward"])
    for names in (TWIST_23, UNITREE_23):
        file = write_pickle(clip, tmp_path / "take.pkl", names)
        with pytest.raises(OpenClipError, match="23 joints without names, and the motion does not tell"):
            read_clip(file)
        wanted = expected(clip, names)
        assert (read_clip(file, joint_names=names).dof_pos.numpy() == wanted).all()
        for field in ("joint_names", "dof_names"):
            more: dict[str, Any] = {field: list(names)}
            write_pickle(clip, file, names, **more)
            assert (read_clip(file).dof_pos.numpy() == wanted).all()
    with pytest.raises(ClipError, match="23 columns for the 22 joint_names given"):
        read_clip(write_pickle(clip, tmp_path / "take.pkl", names), joint_names=names[1:])


@pytest.mark.parametrize("names", [TWIST_23, UNITREE_23], ids=["twist", "unitree"])
def test_open_order_is_that_of_the_folder(gaits: dict[str, MotionClip], tmp_path: Path, names: tuple[str, ...]) -> None:
    clip = ambiguous(gaits["forward"])
    write_pickle(clip, tmp_path / "a.pkl", names)
    write_pickle(gaits["turning"], tmp_path / "b.pkl", names, bodies=True)
    first, _ = read_clips([tmp_path], load_g1(), say=lambda line: None)
    assert (first.dof_pos.numpy() == expected(clip, names)).all()


def test_names_that_contradict_the_bodies_are_refused(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    swapped = [name.replace("left", "x").replace("right", "left").replace("x", "right") for name in ROBOT.joint_names]
    file = write_pickle(gaits["forward"], tmp_path / "take.pkl", ROBOT.joint_names, bodies=True, joint_names=swapped)
    with pytest.raises(ClipError, match="field 'joint_names': contradicts 'local_body_pos'"):
        read_clip(file)


def test_columns_of_the_root_are_said(tmp_path: Path) -> None:
    fields = {"fps": 30.0, "dof_pos": np.zeros((9, 36)), "root_pos": np.zeros((9, 3)), "root_rot": np.zeros((9, 4))}
    (tmp_path / "take.pkl").write_bytes(pickle.dumps(fields))
    with pytest.raises(
        ClipError, match=r"'dof_pos': 36 joints, needs 29 or, of smaller robots, 27, 25, 23, 21: are 7 of them the root"
    ):
        read_clip(tmp_path / "take.pkl")


def test_our_own_pickle_says_what_it_is(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    clip = ambiguous(gaits["forward"])
    write_twist_pickle(clip, tmp_path / "take.pkl", ROBOT, wrists=False)
    assert (read_clip(tmp_path / "take.pkl").dof_pos.numpy() == expected(clip, TWIST_23)).all()


@pytest.mark.parametrize("names", ORDERS, ids=lambda names: f"{len(names)} {names[1]} {names[14]}")
def test_bare_joint_angles_are_told_as_well(
    gaits: dict[str, MotionClip], tmp_path: Path, names: tuple[str, ...]
) -> None:
    clip = gaits["turning"]
    np.savez(tmp_path / "angles.NPZ", dof_pos=columns(clip, names), fps=50.0)
    (tmp_path / "angles.NPZ.npz").rename(tmp_path / "angles.NPZ")
    read = read_motion(tmp_path / "angles.NPZ", ROBOT)
    assert np.abs(read.states[:, :29].numpy() - expected(clip, names)).max() < 1e-6
