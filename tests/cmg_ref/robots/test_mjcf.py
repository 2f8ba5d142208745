"""The MJCF reader against MuJoCo's own, on a file that says everything in another way than ours does."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cmg_ref.core import rotations
from cmg_ref.robots.g1 import SPEC as G1
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot, RobotError

# Degrees, Euler angles, nested classes, childclass, a moving world beside the robot, every way to write a rotation.
DIALECT = """
<mujoco model="dialect">
  <compiler angle="degree" eulerseq="EULERSEQ"/>
  <default>
    <joint axis="0 1 0" armature="0.01"/>
    <default class="robot">
      <joint range="-90 45" actuatorfrcrange="-20 30"/>
      <geom contype="0" conaffinity="0"/>
      <default class="strong"> <joint actuatorfrcrange="-100 100"/> </default>
      <default class="sole"> <geom type="capsule" size="0.01" contype="1" conaffinity="1"/> </default>
    </default>
  </default>
  <worldbody>
    <geom type="plane" size="1 1 1"/>
    <body name="box" pos="3 0 0"><geom size="0.1"/></body>
    <body name="pelvis" pos="0 0 1" childclass="robot">
      <joint name="root" type="free"/>
      <inertial pos="0 0 0.1" mass="5" fullinertia="0.05 0.06 0.03 0.004 -0.002 0.001" />
      <body name="left_hip_link" pos="0 0.1 0" euler="20 -10 35">
        <inertial pos="0.01 0.02 -0.1" mass="2" diaginertia="0.03 0.02 0.01" euler="10 20 30"/>
        <joint name="left_hip_joint" class="strong"/>
        <body name="left_knee_link" pos="0 0 -0.3" axisangle="0 2 0 25">
          <inertial pos="0 0 0" mass="1" diaginertia="0.01 0.01 0.01"/>
          <joint name="left_knee_joint" range="0 120" axis="0 3 0"/>
          <body name="left_ankle_roll_link" pos="0 0 -0.3" xyaxes="1 0.2 0 0 1 0.1">
            <inertial pos="0 0 0" mass="1" diaginertia="0.01 0.01 0.01"/>
            <joint name="left_ankle_joint" axis="1 0 0.5" limited="false"/>
            <geom class="sole" fromto="-0.05 0.03 -0.02 0.1 0.03 -0.02"/>
            <geom class="sole" fromto="-0.05 -0.03 -0.02 0.1 -0.03 -0.02"/>
            <geom type="sphere" size="0.5"/>
          </body>
        </body>
      </body>
      <body name="right_hip_link" pos="0 -0.1 0" zaxis="0.3 0.1 1">
        <inertial pos="0 0 0" mass="2" diaginertia="0.03 0.02 0.01"/>
        <joint name="right_hip_joint" class="strong"/>
        <body name="right_knee_link" pos="0 0 -0.3" quat="2 0 1 0">
          <inertial pos="0 0 0" mass="1" diaginertia="0.01 0.01 0.01"/>
          <joint name="right_knee_joint" range="0 120"/>
          <body name="right_ankle_roll_link" pos="0 0 -0.3">
            <inertial pos="0 0 0" mass="1" diaginertia="0.01 0.01 0.01"/>
            <joint name="right_ankle_joint" axis="-1 0 -0.5" range="-30 30"/>
            <geom class="sole" type="box" size="0.08 0.03 0.01" pos="0.02 0 -0.03"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "robot.xml"
    path.write_text(text.replace("EULERSEQ", "xyz"))
    return path


@pytest.mark.parametrize("sequence", ["xyz", "zyx", "XYZ", "ZXy"])
def test_another_dialect_reads_as_mujoco_reads_it(tmp_path: Path, sequence: str) -> None:
    mujoco = pytest.importorskip("mujoco")
    path = write(tmp_path, DIALECT.replace("EULERSEQ", sequence))
    robot = Robot.from_mjcf(path, G1)
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    first = model.body("pelvis").id
    assert robot.body_names == tuple(model.body(first + index).name for index in range(robot.num_bodies))
    joints = [model.joint(name) for name in robot.joint_names]
    for joint, lower, upper, effort, armature in zip(
        joints, robot.joint_lower, robot.joint_upper, robot.effort_limit, robot.armature
    ):
        if model.jnt_limited[joint.id]:
            assert (float(lower), float(upper)) == pytest.approx(tuple(joint.range))
        else:
            assert (float(lower), float(upper)) == (-math.inf, math.inf)
        assert float(effort) == abs(model.jnt_actfrcrange[joint.id]).max()
        assert float(armature) == model.dof_armature[joint.dofadr[0]]

    dof_pos = torch.randn(robot.num_joints, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    data.qpos[model.joint("root").qposadr[0] :][:7] = [0, 0, 0, 1, 0, 0, 0]
    for joint, value in zip(joints, dof_pos):
        data.qpos[joint.qposadr[0]] = value
    mujoco.mj_kinematics(model, data)
    position, rotation = ForwardKinematics(robot, dtype=torch.float64).matrices(dof_pos)
    assert (position - torch.from_numpy(data.xpos[first:])).abs().max() < 1e-12
    assert (rotation.flatten(-2) - torch.from_numpy(data.xmat[first:])).abs().max() < 1e-12

    def tensors(mass: torch.Tensor, moments: torch.Tensor, quat: torch.Tensor) -> torch.Tensor:
        axes = rotations.matrix_from_quat(quat)
        return torch.cat(((axes * moments.unsqueeze(-2)) @ axes.mT, mass[:, None, None].expand(-1, 3, 1)), dim=-1)

    mass, moments, quat_wxyz = (
        torch.from_numpy(values[first:]) for values in (model.body_mass, model.body_inertia, model.body_iquat)
    )
    expected = tensors(mass, moments, quat_wxyz[:, [1, 2, 3, 0]])
    assert (tensors(robot.body_mass, robot.body_inertia, robot.body_iquat) - expected).abs().max() < 1e-9
    assert (robot.body_com - torch.from_numpy(model.body_ipos[first:])).abs().max() < 1e-12


def test_soles_of_capsules_and_boxes_have_four_corners(tmp_path: Path) -> None:
    robot = Robot.from_mjcf(write(tmp_path, DIALECT), G1)
    capsules = torch.tensor([[-0.05, 0.03, -0.02], [-0.05, -0.03, -0.02], [0.1, 0.03, -0.02], [0.1, -0.03, -0.02]])
    box = torch.tensor([[-0.06, 0.03, -0.03], [-0.06, -0.03, -0.03], [0.1, 0.03, -0.03], [0.1, -0.03, -0.03]])
    assert torch.allclose(robot.foot_points.float(), torch.stack((capsules, box)))
    assert robot.foot_radius == 0.01


def test_without_a_keyframe_the_pose_is_zero_within_the_limits(tmp_path: Path) -> None:
    text = DIALECT.replace('range="0 120" axis', 'range="10 120" axis')
    robot = Robot.from_mjcf(write(tmp_path, text), G1)
    assert robot.default_dof_pos.tolist() == pytest.approx([0, math.radians(10), 0, 0, 0, 0])


LEFT_HIP = '<joint name="left_hip_joint" class="strong"/>'
LEFT_KNEE = '<joint name="left_knee_joint" range="0 120" axis="0 3 0"/>'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("</worldbody>", "", "is not valid XML"),
        ('<mujoco model="dialect">', '<robot name="dialect">', "valid XML"),
        (LEFT_HIP, LEFT_HIP.replace("strong", "weak"), "<joint name='left_hip_joint'> uses the default class 'weak'"),
        (LEFT_HIP, LEFT_HIP.replace("left_hip_joint", "hip"), "<joint name='hip'>|<joint name='right_hip_joint'>"),
        (LEFT_HIP, LEFT_HIP + LEFT_HIP, "<body name='left_hip_link'> has 2 joints"),
        (LEFT_HIP, LEFT_HIP.replace("/>", ' type="slide"/>'), "'left_hip_joint'> is of type 'slide'"),
        (LEFT_HIP, LEFT_HIP.replace("/>", ' pos="0 0 1"/>'), "'left_hip_joint'> has a pos or ref"),
        (LEFT_HIP, '<freejoint name="loose"/>', "<freejoint name='loose'> is a free joint inside"),
        (LEFT_KNEE, LEFT_KNEE.replace("0 120", "120 0"), "'left_knee_joint'> has the range '120 0'"),
        (LEFT_KNEE, LEFT_KNEE.replace("0 120", "0 a"), "'left_knee_joint'> has range='0 a', expected 2 finite numbers"),
        (LEFT_KNEE, LEFT_KNEE.replace("0 120", "0 nan"), "'left_knee_joint'> has range='0 nan'"),
        (LEFT_KNEE, LEFT_KNEE.replace("0 3 0", "0 3"), "'left_knee_joint'> has axis='0 3', expected 3 finite numbers"),
        (LEFT_KNEE, LEFT_KNEE.replace("0 3 0", "0 0 0"), "'left_knee_joint'> has the axis 0 0 0"),
        (LEFT_KNEE, LEFT_KNEE.replace("0 3 0", "1 0 1"), "'right_knee_joint' do not have mirrored axes"),
        ('name="left_knee_link"', 'name="left_hip_link"', "<body name='left_hip_link'> occurs twice"),
        ('name="left_knee_link"', "", "<body> of body 'left_hip_link' has no name"),
        ('euler="20 -10 35"', 'euler="20" quat="1 0 0 0"', "'left_hip_link'> gives its orientation twice"),
        ('quat="2 0 1 0"', 'quat="0 0 0 0"', "'right_knee_link'> has quat='0 0 0 0', which is no direction"),
        ('mass="5"', 'mass="-5"', "<inertial> of body 'pelvis' has a negative mass"),
        ('mass="5"', "", "<inertial> of body 'pelvis' has no mass"),
        ('name="left_ankle_roll_link"', 'name="foot"', "<body name='left_ankle_roll_link'>, a foot, is missing"),
        ('size="0.08 0.03 0.01"', 'size="0.08"', "<geom> of body 'right_ankle_roll_link' is a box with the size"),
        ('class="sole" type="box"', 'type="box"', "'right_ankle_roll_link'> needs spheres, capsules or a box"),
        ('size="0.08 0.03 0.01"', 'size="0.08 0.03 1e300"', "corners of its sole, found some more than 10 m away"),
        ('type="free"', 'type="hinge"', "<worldbody> must hold one robot, found box, pelvis"),
        ('<geom type="plane" size="1 1 1"/>', '<include file="floor.xml"/>', "<include> is not supported"),
        ("</worldbody>", '</worldbody><keyframe><key name="stand" qpos="1 2"/></keyframe>', "<key name='stand'> has 2"),
    ],
)
def test_errors_name_the_file_and_the_element_in_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in DIALECT
    path = write(tmp_path, DIALECT.replace(old, new, 1))
    with pytest.raises(RobotError) as caught:
        Robot.from_mjcf(path, G1)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert any(alternative in message for alternative in said.split("|"))


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RobotError, match=r"none\.xml: cannot be read \(No such file"):
        Robot.from_mjcf(tmp_path / "none.xml", G1)
    with pytest.raises(RobotError, match="is a folder, needs a file"):
        Robot.from_mjcf(tmp_path, G1)
    with pytest.raises(RobotError, match=r"robot\.xml: the outermost element is <robot>, expected <mujoco>"):
        Robot.from_mjcf(write(tmp_path, "<robot/>"), G1)
    (tmp_path / "binary.xml").write_bytes(bytes(range(256)))
    with pytest.raises(RobotError, match=r"binary\.xml: is not valid XML"):
        Robot.from_mjcf(tmp_path / "binary.xml", G1)
