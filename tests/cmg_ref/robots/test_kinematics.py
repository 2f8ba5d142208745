"""Forward kinematics against MuJoCo, against the body positions of real clips, and their gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import cmg_ref.robots.robot
from cmg_ref.core import rotations
from cmg_ref.robots.kinematics import FootKinematics, ForwardKinematics, LimbKinematics
from cmg_ref.robots.robot import Robot, RobotError, load_g1

G1_FILE = Path(cmg_ref.__file__).parent / "assets" / "g1_29dof.xml"


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_g1()


def random_states(robot: Robot, count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Joint positions over the whole range, root positions and root orientations."""
    generator = torch.Generator().manual_seed(0)
    fraction = torch.rand(count, robot.num_joints, dtype=torch.float64, generator=generator)
    dof_pos = robot.joint_lower + (robot.joint_upper - robot.joint_lower) * fraction
    root_pos = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    root_quat = torch.randn(count, 4, dtype=torch.float64, generator=generator)
    return dof_pos.to(dtype), root_pos.to(dtype), torch.nn.functional.normalize(root_quat, dim=-1).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_every_body_and_foot_point_is_where_mujoco_puts_it(robot: Robot, dtype: torch.dtype) -> None:
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_path(str(G1_FILE))
    data = mujoco.MjData(model)
    dof_pos, root_pos, root_quat = random_states(robot, 100, dtype)
    position, quat = ForwardKinematics(robot, dtype=dtype)(dof_pos, root_pos, root_quat)
    feet = FootKinematics(robot, dtype=dtype)(dof_pos, root_pos, root_quat)
    assert position.dtype == quat.dtype == feet.dtype == dtype
    matrix = rotations.matrix_from_quat(quat)
    spheres = [index for index in range(model.ngeom) if "_foot_" in model.geom(index).name]
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for row in range(len(dof_pos)):
        data.qpos[:3] = root_pos[row]
        data.qpos[3:7] = root_quat[row][[3, 0, 1, 2]]
        data.qpos[7:] = dof_pos[row]
        mujoco.mj_kinematics(model, data)
        assert (position[row] - torch.from_numpy(data.xpos[1:])).abs().max() < tolerance
        assert (matrix[row].flatten(-2) - torch.from_numpy(data.xmat[1:])).abs().max() < tolerance
        expected = torch.from_numpy(data.geom_xpos[spheres]).reshape(2, 4, 3)
        assert (feet[row] - expected).abs().max() < tolerance


def test_clips_of_another_program_have_the_same_body_positions(robot: Robot, motion_folder: Path) -> None:
    pickled_arrays = pytest.importorskip("cmg_ref.clips.formats.pickled_arrays")
    files = sorted((motion_folder / "twist2_g1").glob("*.pkl"))
    if not files:
        pytest.skip(f"no TWIST pickles in {motion_folder}")
    for file in files[:3]:
        clip = pickled_arrays.load_pickled_arrays(file)
        names = list(clip["link_body_list"])
        shared = [name for name in names if name in robot.body_names]
        assert set(shared) == set(robot.body_names)
        found = ForwardKinematics(robot, shared).positions(torch.as_tensor(clip["dof_pos"], dtype=torch.float32))
        expected = torch.as_tensor(clip["local_body_pos"])[:, [names.index(name) for name in shared]]
        assert (found - expected).abs().max() < 1e-5


def test_chosen_bodies_come_in_the_order_asked_for(robot: Robot) -> None:
    dof_pos, root_pos, root_quat = random_states(robot, 20)
    everything = ForwardKinematics(robot, dtype=torch.float64)
    assert everything.body_names == robot.body_names
    names = ["right_wrist_yaw_link", "pelvis", "left_knee_link", "waist_roll_link", "left_knee_link"]
    chosen = ForwardKinematics(robot, names, dtype=torch.float64)
    assert list(chosen.body_names) == names
    columns = robot.body_index(names)
    for found, expected in zip(chosen(dof_pos, root_pos, root_quat), everything(dof_pos, root_pos, root_quat)):
        assert torch.equal(found, expected[:, columns])
    alone = ForwardKinematics(robot, ["pelvis"], dtype=torch.float64).positions(dof_pos)
    assert torch.equal(alone, torch.zeros(20, 1, 3, dtype=torch.float64))


def test_any_leading_dimensions_and_a_shared_root(robot: Robot) -> None:
    dof_pos, root_pos, root_quat = random_states(robot, 12)
    kinematics, feet = ForwardKinematics(robot, dtype=torch.float64), FootKinematics(robot, dtype=torch.float64)
    position, quat = kinematics(dof_pos.reshape(3, 4, -1))
    assert position.shape == (3, 4, robot.num_bodies, 3)
    assert quat.shape == (3, 4, robot.num_bodies, 4)
    assert torch.equal(position.reshape(12, -1, 3), kinematics(dof_pos)[0])
    assert torch.equal(kinematics.positions(dof_pos[5]), position.reshape(12, -1, 3)[5])
    assert torch.equal(kinematics.matrices(dof_pos)[0], kinematics.positions(dof_pos))
    assert feet(dof_pos[0]).shape == (2, 4, 3)
    assert feet(dof_pos[0], root_pos, root_quat).shape == (12, 2, 4, 3)
    assert kinematics.positions(dof_pos[:0]).shape == (0, robot.num_bodies, 3)


def test_the_world_is_the_base_frame_moved_by_the_root(robot: Robot) -> None:
    dof_pos, root_pos, root_quat = random_states(robot, 10)
    kinematics, feet = ForwardKinematics(robot, dtype=torch.float64), FootKinematics(robot, dtype=torch.float64)
    local, world = feet(dof_pos), feet(dof_pos, root_pos, root_quat)
    moved = rotations.quat_rotate(root_quat[:, None, None], local) + root_pos[:, None, None]
    assert (world - moved).abs().max() < 1e-13
    position, quat = kinematics(dof_pos, root_pos, root_quat)
    assert torch.equal(position, kinematics.positions(dof_pos, root_pos, root_quat))
    assert (position[:, 0] - root_pos).abs().max() < 1e-15
    assert (quat[:, 0] - root_quat).abs().max() < 1e-15


def test_gradients_are_those_of_finite_differences(robot: Robot) -> None:
    dof_pos, root_pos, root_quat = (value.requires_grad_() for value in random_states(robot, 2))
    kinematics = ForwardKinematics(robot, ["left_ankle_roll_link", "right_wrist_yaw_link"], dtype=torch.float64)
    feet = FootKinematics(robot, dtype=torch.float64)
    assert torch.autograd.gradcheck(kinematics, (dof_pos, root_pos, root_quat))
    assert torch.autograd.gradcheck(kinematics.matrices, (dof_pos,))
    assert torch.autograd.gradcheck(feet, (dof_pos,))


def test_gradients_are_finite_at_the_zero_pose(robot: Robot) -> None:
    dof_pos = torch.zeros(1, robot.num_joints, requires_grad=True)
    position, quat = ForwardKinematics(robot)(dof_pos)
    (position.sum() + quat.sum()).backward()
    assert dof_pos.grad is not None
    assert torch.isfinite(dof_pos.grad).all()
    assert dof_pos.grad.abs().amin() > 0.0  # every joint moves something


def test_wrong_arguments_are_named(robot: Robot) -> None:
    kinematics = ForwardKinematics(robot)
    with pytest.raises(ValueError, match="dof_pos has 23 columns, the robot has 29 joints"):
        kinematics(torch.zeros(5, 23))
    with pytest.raises(ValueError, match="root_pos and root_quat together"):
        kinematics(torch.zeros(5, 29), root_pos=torch.zeros(5, 3))
    with pytest.raises(RobotError, match="no body 'head_link'"):
        ForwardKinematics(robot, ["head_link"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_limbs_end_where_their_bodies_are(robot: Robot, dtype: torch.dtype) -> None:
    """Limbs of different lengths, one of them the root itself."""
    names = [*robot.foot_bodies, "right_wrist_yaw_link", "torso_link", "pelvis"]
    dof_pos, vertical, _ = random_states(robot, 50, dtype)
    limbs = LimbKinematics(robot, names, dtype=dtype)
    assert (limbs.body_names, limbs.num_joints) == (tuple(names), robot.num_joints)
    found, seen = limbs(dof_pos, vertical)
    position, rotation = ForwardKinematics(robot, names, dtype=dtype).matrices(dof_pos)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert (found.permute(2, 0, 1) - position).abs().max() < tolerance
    expected = torch.matmul(rotation.transpose(2, 3), vertical[:, None, :, None]).squeeze(3)
    assert (seen.permute(2, 0, 1) - expected).abs().max() < tolerance
    with pytest.raises(ValueError, match="dof_pos has 23 columns, the robot has 29 joints"):
        limbs(dof_pos[:, :23], vertical)
