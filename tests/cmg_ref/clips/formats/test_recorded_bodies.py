"""An npz of BeyondMimic or mjlab: its root by name, its joints and quaternions by its bodies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats.joint_order import breadth_first_bodies, known_orders
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.motion_clip import ClipError, ClipWarning, MotionClip
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import load_g1

ROBOT = load_g1()


def bodies_of(clip: MotionClip, names: list[str]) -> dict[str, Any]:
    """An npz's fields with the named bodies, of which "world" lies at the origin."""
    position, quat = ForwardKinematics(ROBOT, dtype=torch.float64)(clip.dof_pos, clip.root_pos, clip.root_quat)
    places, turns = dict(zip(ROBOT.body_names, position.unbind(1))), dict(zip(ROBOT.body_names, quat.unbind(1)))
    places["world"] = torch.zeros_like(clip.root_pos)
    turns["world"] = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64).expand_as(clip.root_quat)
    return {
        "fps": np.array([clip.fps]),
        "joint_names": np.array(ROBOT.joint_names),
        "joint_pos": clip.dof_pos.numpy(),
        "joint_vel": clip.velocities().numpy(),
        "body_names": np.array(names),
        "body_pos_w": torch.stack([places[name] for name in names], dim=1).float().numpy(),
        "body_quat_w": torch.stack([turns[name].roll(1, dims=-1) for name in names], dim=1).float().numpy(),
    }


def write(folder: Path, fields: dict[str, Any]) -> Path:
    np.savez(folder / "motion.npz", **{name: value for name, value in fields.items() if value is not None})
    return folder / "motion.npz"


def assert_same(read: MotionClip, clip: MotionClip) -> None:
    for field in ("root_pos", "dof_pos"):
        assert (getattr(read, field) - getattr(clip, field)).abs().max() < 1e-6, field
    apart = torch.minimum(
        (read.root_quat - clip.root_quat).norm(dim=-1), (read.root_quat + clip.root_quat).norm(dim=-1)
    )
    assert apart.max() < 1e-6


@pytest.mark.parametrize(
    "names",
    [
        ["world", *ROBOT.body_names],
        [*ROBOT.body_names[::-1]],
        ["torso_link", "pelvis", "left_ankle_roll_link", "right_ankle_roll_link", "left_wrist_yaw_link"],
    ],
    ids=["world first", "reversed", "some, torso first"],
)
@pytest.mark.parametrize("joints_named", [True, False])
@pytest.mark.parametrize("gait", ["forward", "turning"])
def test_root_is_found_by_its_name(
    gaits: dict[str, MotionClip], tmp_path: Path, names: list[str], joints_named: bool, gait: str
) -> None:
    fields = bodies_of(gaits[gait], names)
    if not joints_named:
        fields["joint_names"] = None
    read = read_clip(write(tmp_path, fields))
    assert_same(read, gaits[gait])
    if gait == "forward":
        assert read.root_pos[-1, 0] > 4.0  # Where the world's own body stays at 0.


def test_real_walk_with_the_world_first(motion_folder: Path, tmp_path: Path) -> None:
    clip = read_clip(motion_folder / "lafan1_g1" / "walk1_subject1.csv", fps=30.0).slice(300, 600)
    read = read_clip(write(tmp_path, bodies_of(clip, ["world", *ROBOT.body_names])))
    assert_same(read, clip)


def test_names_of_an_entity_are_understood(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    fields = bodies_of(gaits["forward"], list(ROBOT.body_names))
    for field in ("joint_names", "body_names"):
        fields[field] = np.array([f"robot/{name}" for name in fields[field]])
    assert_same(read_clip(write(tmp_path, fields)), gaits["forward"])


def test_names_without_a_root_are_refused(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    fields = bodies_of(gaits["forward"], ["torso_link", "left_ankle_roll_link"])
    with pytest.raises(ClipError, match=r"field 'body_names': no 'pelvis' among 2 bodies$"):
        read_clip(write(tmp_path, fields))
    fields["body_names"] = fields["body_names"][:1]
    with pytest.raises(ClipError, match=r"field 'body_pos_w': 2 bodies for 1 body_names$"):
        read_clip(write(tmp_path, fields))


@pytest.mark.parametrize("bodies_named", [True, False])
def test_joint_names_that_contradict_the_bodies_are_refused(
    gaits: dict[str, MotionClip], tmp_path: Path, bodies_named: bool
) -> None:
    fields = bodies_of(gaits["forward"], list(ROBOT.body_names))
    breadth_first = list(known_orders(ROBOT, 29).values())[1]
    fields["joint_names"] = np.array(breadth_first)  # The columns have the other order.
    if not bodies_named:
        fields["body_names"] = None
    with pytest.raises(ClipError, match=r"field 'joint_pos': the joints as they are named contradict the bodies"):
        read_clip(write(tmp_path, fields))


@pytest.mark.parametrize("joints_named", [True, False])
def test_unnamed_bodies_that_may_not_begin_with_the_root_are_refused(
    gaits: dict[str, MotionClip], tmp_path: Path, joints_named: bool
) -> None:
    other_order = [*ROBOT.body_names[1:], ROBOT.body_names[0]]
    for names, problem in (
        (["world", *ROBOT.body_names], r"'body_pos_w': 31 bodies without names, needs 30 or 'body_names'$"),
        (
            ["torso_link", "pelvis", "left_knee_link"],
            r"'body_pos_w': 3 bodies without names, needs 30 or 'body_names'$",
        ),
        (other_order, "with a root at their head" if joints_named else "no known joint order explains 'body_pos_w'"),
    ):
        fields = {**bodies_of(gaits["forward"], names), "body_names": None}
        if not joints_named:
            fields["joint_names"] = None
        with pytest.raises(ClipError, match=problem):
            read_clip(write(tmp_path, fields))


def test_joints_and_bodies_in_different_orders(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    """MJCF's joints with Isaac Lab's bodies, neither named."""
    names = [ROBOT.body_names[body] for body in breadth_first_bodies(ROBOT)]
    fields = {**bodies_of(gaits["turning"], names), "joint_names": None, "body_names": None}
    assert_same(read_clip(write(tmp_path, fields)), gaits["turning"])


@pytest.mark.parametrize("gait", ["standing", "forward", "backward"])
def test_quaternions_of_the_other_order_are_told_by_the_bodies(
    gaits: dict[str, MotionClip], tmp_path: Path, gait: str
) -> None:
    fields = bodies_of(gaits[gait], list(ROBOT.body_names))
    fields["body_quat_w"] = np.roll(fields["body_quat_w"], -1, axis=-1)
    with pytest.warns(ClipWarning, match="quaternions are xyzw, not wxyz: only so the bodies fit the joints"):
        read = read_clip(write(tmp_path, fields))
    assert_same(read, gaits[gait])


def test_columns_of_the_root_are_said(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    clip = gaits["forward"]
    fields = bodies_of(clip, list(ROBOT.body_names))
    fields["joint_pos"] = torch.cat([clip.root_pos, clip.root_quat, clip.dof_pos], dim=-1).numpy()
    with pytest.raises(ClipError, match=r"'joint_pos': 36 columns for 29 joint_names: leave out the 7 of the root$"):
        read_clip(write(tmp_path, fields))
    fields["joint_names"] = None
    with pytest.raises(ClipError, match=r"'joint_pos': 36 joints, needs 29 or, .*: are 7 of them the root's\?$"):
        read_clip(write(tmp_path, fields))
