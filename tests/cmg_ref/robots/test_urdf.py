"""The URDF reader against MuJoCo's, against TWIST's own robot files and the body positions stored in real clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cmg_ref.clips.formats.pickled_arrays import load_pickled_arrays
from cmg_ref.robots.kinematic_tree import RobotError
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import load_g1
from cmg_ref.robots.urdf import read_urdf

# Siblings out of order, fixed links in between, every way to leave an origin out, an axis that is not of unit length.
URDF = """<robot name="three_arms">
  <mujoco><compiler fusestatic="false" discardvisual="false" balanceinertia="true"/></mujoco>
  {links}
  <joint name="z_last" type="revolute"><parent link="base"/><child link="arm"/>
    <origin xyz="0.1 -0.2 0.3" rpy="0.3 -0.7 1.1"/><axis xyz="0 2 0"/>
    <limit lower="-1" upper="2" effort="1" velocity="1"/>
  </joint>
  <joint name="tip_mount" type="fixed"><parent link="arm"/><child link="mount"/><origin rpy="1.2 0.4 -0.3"/></joint>
  <joint name="elbow" type="continuous"><parent link="mount"/><child link="forearm"/>
    <origin xyz="0 0 0.4"/><axis xyz="0.6 0 0.8"/></joint>
  <joint name="a_first" type="revolute"><parent link="base"/><child link="other_arm"/>
    <limit lower="-0.5" upper="0.5" effort="1" velocity="1"/></joint>
  <joint name="hand" type="fixed"><parent link="forearm"/><child link="hand"/><origin xyz="0.05 0.06 0.07"/></joint>
</robot>"""
INERTIAL = '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
LINKS = ("base", "arm", "mount", "forearm", "other_arm", "hand")


@pytest.fixture()
def urdf_file(tmp_path: Path) -> Path:
    path = tmp_path / "three_arms.urdf"
    path.write_text(URDF.format(links="".join(f'<link name="{name}">{INERTIAL}</link>' for name in LINKS)))
    return path


def test_bodies_are_depth_first_and_siblings_by_joint_name(urdf_file: Path) -> None:
    tree = read_urdf(urdf_file)
    assert tree.name == "three_arms"
    assert tree.body_names == ("base", "other_arm", "arm", "mount", "forearm", "hand")
    assert tree.body_parents == (-1, 0, 0, 2, 3, 4)
    assert tree.joint_names == ("a_first", "z_last", "elbow")
    assert tree.joint_bodies == (1, 2, 4)
    assert tree.joint_lower.tolist() == [-0.5, -1.0, -torch.inf]
    assert tree.joint_upper.tolist() == [0.5, 2.0, torch.inf]


def test_every_body_is_where_mujoco_puts_it(urdf_file: Path) -> None:
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_path(str(urdf_file))
    data = mujoco.MjData(model)
    tree = read_urdf(urdf_file)
    bodies = [name for name in tree.body_names if name != "base"]  # MuJoCo welds the root to the world
    dof_pos = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    positions = ForwardKinematics(tree, bodies, dtype=torch.float64).positions(dof_pos)
    for row in range(len(dof_pos)):
        for joint, name in enumerate(tree.joint_names):
            data.qpos[model.joint(name).qposadr[0]] = dof_pos[row, joint]
        mujoco.mj_kinematics(model, data)
        expected = torch.stack([torch.from_numpy(data.body(name).xpos.copy()) for name in bodies])
        assert (positions[row] - expected).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<robot", "<model", "not valid XML"),
        ('<parent link="mount"/>', '<parent link="nowhere"/>', "names the unknown link 'nowhere'"),
        ('<parent link="mount"/>', "", "elbow'> has no <parent"),
        ('<child link="hand"/>', '<child link="arm"/>', "'arm'> hangs on two joints"),
        ('<parent link="base"/><child link="arm"/>', '<parent link="hand"/><child link="arm"/>', "form a loop"),
        ('type="continuous"', 'type="prismatic"', "elbow'> is of type 'prismatic'"),
        ('<axis xyz="0.6 0 0.8"/>', '<mimic joint="z_last"/>', "elbow'> follows another joint"),
        ('<axis xyz="0.6 0 0.8"/>', '<axis xyz="0 0 0"/>', "elbow'> has the axis 0 0 0"),
        ('xyz="0 0 0.4"', 'xyz="0 0 far"', "xyz='0 0 far', expected 3 finite numbers"),
        ('lower="-1"', 'lower="nan"', "lower='nan', expected 1 finite"),
    ],
)
def test_a_broken_file_is_refused_by_name(urdf_file: Path, old: str, new: str, message: str) -> None:
    text = urdf_file.read_text()
    assert old in text
    urdf_file.write_text(text.replace(old, new, 1))
    with pytest.raises(RobotError, match=message) as error:
        read_urdf(urdf_file)
    assert str(urdf_file) in str(error.value)


def test_a_missing_file_or_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RobotError, match="cannot be read"):
        read_urdf(tmp_path / "absent.urdf")
    (tmp_path / "g1.xml").write_text("<mujoco/>")
    with pytest.raises(RobotError, match="expected <robot>"):
        read_urdf(tmp_path / "g1.xml")


# TWIST's robots ---------------------------------------------------------------------------------------------------

TWIST_KEY_BODIES = (
    *("left_rubber_hand", "right_rubber_hand", "left_ankle_roll_link", "right_ankle_roll_link"),
    *("left_knee_link", "right_knee_link", "left_elbow_link", "right_elbow_link", "head_mocap"),
)


def test_twist_robot_has_isaac_gyms_body_order(twist_root: Path) -> None:
    tree = read_urdf(twist_root / "assets/g1/g1_custom_collision_with_fixed_hand.urdf")
    # These indices are those of TWIST's rigid body tensor under Isaac Gym.
    assert tree.body_index(TWIST_KEY_BODIES).tolist() == [29, 44, 6, 14, 4, 12, 25, 40, 20]
    assert (tree.num_bodies, tree.num_joints) == (52, 23)
    assert tree.joint_names == tuple(name for name in load_g1().joint_names if "wrist" not in name)


@pytest.mark.parametrize(
    ("file", "num_joints", "num_shared"),
    [
        ("g1_custom_collision_with_fixed_hand.urdf", 23, 32),
        ("g1_custom_collision_with_revolute_hand.urdf", 37, 32),
        ("g1_29dof_rev_1_0.urdf", 29, 35),
    ],
)
def test_body_positions_are_those_of_real_clips(
    twist_root: Path, motion_folder: Path, file: str, num_joints: int, num_shared: int
) -> None:
    """Fed a clip's joint angles, the kinematics of TWIST's file give the positions that are stored in the clip."""
    tree = read_urdf(twist_root / "assets" / "g1" / file)
    assert tree.num_joints == num_joints
    clip_joints = load_g1().joint_names
    files = sorted((motion_folder / "twist2_g1").glob("*.pkl"))
    assert files
    for path in files:
        clip = load_pickled_arrays(path)
        clip_bodies = list(clip["link_body_list"])
        # The clips were made with toes of another length; hands hang on wrists, which the 23-joint robot lacks.
        foreign = ("toe",) if num_joints == 29 else ("toe", "wrist_yaw", "hand")
        shared = [name for name in tree.body_names if name in clip_bodies and not any(part in name for part in foreign)]
        assert len(shared) == num_shared
        dof_pos = torch.zeros(len(clip["dof_pos"]), num_joints, dtype=torch.float64)
        for column, name in enumerate(tree.joint_names):
            if name in clip_joints:
                dof_pos[:, column] = torch.tensor(clip["dof_pos"])[:, clip_joints.index(name)]
        positions = ForwardKinematics(tree, shared, dtype=torch.float64).positions(dof_pos)
        stored = torch.tensor(clip["local_body_pos"])[:, [clip_bodies.index(name) for name in shared]]
        assert (positions - stored).norm(dim=-1).max() < 1e-3
