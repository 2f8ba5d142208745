"""The shipped robot: its figures, its mirror image and its stance."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import cmg_ref.robots.robot
from cmg_ref.robots.g1 import SPEC as G1
from cmg_ref.robots.kinematics import FootKinematics, ForwardKinematics
from cmg_ref.robots.robot import Robot, RobotError, load_g1

G1_FILE = Path(cmg_ref.__file__).parent / "assets" / "g1_29dof.xml"

# Mass in kg and joint limits in rad by link, from Unitree's g1_29dof_rev_1_0, the left side standing for both.
LINKS = {
    "pelvis": (3.813, None),
    "left_hip_pitch_link": (1.35, (-2.5307, 2.8798)),
    "left_hip_roll_link": (1.52, (-0.5236, 2.9671)),
    "left_hip_yaw_link": (1.702, (-2.7576, 2.7576)),
    "left_knee_link": (1.932, (-0.087267, 2.8798)),
    "left_ankle_pitch_link": (0.074, (-0.87267, 0.5236)),
    "left_ankle_roll_link": (0.608, (-0.2618, 0.2618)),
    "waist_yaw_link": (0.214, (-2.618, 2.618)),
    "waist_roll_link": (0.086, (-0.52, 0.52)),
    "torso_link": (7.818, (-0.52, 0.52)),
    "left_shoulder_pitch_link": (0.718, (-3.0892, 2.6704)),
    "left_shoulder_roll_link": (0.643, (-1.5882, 2.2515)),
    "left_shoulder_yaw_link": (0.734, (-2.618, 2.618)),
    "left_elbow_link": (0.6, (-1.0472, 2.0944)),
    "left_wrist_roll_link": (0.085445, (-1.97222, 1.97222)),
    "left_wrist_pitch_link": (0.48405, (-1.61443, 1.61443)),
    "left_wrist_yaw_link": (0.254576, (-1.61443, 1.61443)),
}


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_g1()


def random_pose(robot: Robot, count: int) -> torch.Tensor:
    fraction = torch.rand(count, robot.num_joints, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return robot.joint_lower + (robot.joint_upper - robot.joint_lower) * fraction


def test_links_have_unitrees_masses_and_limits(robot: Robot) -> None:
    assert robot.num_joints == 29
    assert robot.num_bodies == robot.num_joints + 1
    names = set(LINKS) | {name.replace("left", "right") for name in LINKS}
    assert set(robot.body_names) == names
    joint_of_body = dict(zip(robot.joint_bodies, range(robot.num_joints)))
    for name, (mass, limits) in LINKS.items():
        for side in {name, name.replace("left", "right")}:
            body = robot.body_names.index(side)
            assert float(robot.body_mass[body]) == mass, side
            if limits is None:
                continue
            lower, upper = limits
            if side != name and ("roll" in name or "yaw" in name):
                lower, upper = -upper, -lower
            joint = joint_of_body[body]
            assert (float(robot.joint_lower[joint]), float(robot.joint_upper[joint])) == (lower, upper), side
    assert float(robot.body_mass.sum()) == pytest.approx(33.341142, abs=1e-6)


def test_joints_are_in_unitrees_order(robot: Robot) -> None:
    leg = ["hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll"]
    arm = ["shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_roll", "wrist_pitch", "wrist_yaw"]
    expected = [f"{side}_{part}_joint" for side in ("left", "right") for part in leg]
    expected += [f"waist_{part}_joint" for part in ("yaw", "roll", "pitch")]
    expected += [f"{side}_{part}_joint" for side in ("left", "right") for part in arm]
    assert list(robot.joint_names) == expected


@pytest.mark.parametrize(
    ("joint", "effort", "velocity", "armature"),
    [
        ("left_hip_pitch_joint", 88, 32, 0.010177520),
        ("right_hip_roll_joint", 139, 20, 0.025101925),
        ("left_hip_yaw_joint", 88, 32, 0.010177520),
        ("right_knee_joint", 139, 20, 0.025101925),
        ("left_ankle_pitch_joint", 50, 30, 2 * 0.003609725),
        ("waist_yaw_joint", 88, 32, 0.010177520),
        ("waist_pitch_joint", 50, 30, 2 * 0.003609725),
        ("right_elbow_joint", 25, 37, 0.003609725),
        ("left_wrist_roll_joint", 25, 37, 0.003609725),
        ("right_wrist_yaw_joint", 5, 22, 0.00425),
    ],
)
def test_motors_have_their_limits(robot: Robot, joint: str, effort: float, velocity: float, armature: float) -> None:
    (index,) = robot.joint_index([joint]).tolist()
    assert float(robot.effort_limit[index]) == effort
    assert float(robot.velocity_limit[index]) == velocity
    assert float(robot.armature[index]) == pytest.approx(armature, abs=1e-9)


def test_every_link_is_that_of_mjlabs_g1(robot: Robot) -> None:
    spec = importlib.util.find_spec("mjlab")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("mjlab, which packages Unitree's model, is not installed")
    folder = Path(spec.submodule_search_locations[0])
    other = Robot.from_mjcf(folder / "asset_zoo" / "robots" / "unitree_g1" / "xmls" / "g1.xml", G1)
    for name in ("body_names", "body_parents", "joint_names", "joint_bodies"):
        assert getattr(robot, name) == getattr(other, name), name
    for name in ("body_quat", "body_mass", "body_com", "body_inertia", "body_iquat", "joint_axes", "joint_lower"):
        assert torch.equal(getattr(robot, name), getattr(other, name)), name
    assert torch.equal(robot.joint_upper, other.joint_upper)
    assert torch.equal(robot.body_pos[1:], other.body_pos[1:])
    lowest, expected = ((r.foot_points[..., 2] - r.foot_radius).amin(dim=-1) for r in (robot, other))
    assert torch.allclose(lowest, expected, atol=1e-9)


def test_the_mirror_swaps_sides_and_turns_roll_and_yaw_round(robot: Robot) -> None:
    for index, name in enumerate(robot.joint_names):
        twin = robot.joint_names[int(robot.mirror_index[index])]
        if "waist" in name:
            assert twin == name
        else:
            assert {name.split("_", 1)[0], twin.split("_", 1)[0]} == {"left", "right"}
            assert name.split("_", 1)[1] == twin.split("_", 1)[1]
        assert float(robot.mirror_sign[index]) == (-1.0 if "roll" in name or "yaw" in name else 1.0)
    pose = random_pose(robot, 10)
    assert torch.equal(robot.mirrored(robot.mirrored(pose)), pose)
    assert robot.mirrored(pose.float()).dtype == torch.float32


def test_a_mirrored_pose_is_the_pose_seen_in_a_mirror(robot: Robot) -> None:
    pose = random_pose(robot, 50)
    twins = [name.replace("left", "?").replace("right", "left").replace("?", "right") for name in robot.body_names]
    seen = ForwardKinematics(robot, dtype=torch.float64).positions(pose)
    mirrored = ForwardKinematics(robot, twins, dtype=torch.float64).positions(robot.mirrored(pose))
    flip = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    # Unitree's own left and right sides differ by 1e-5 m at the shoulders and a few 1e-5 rad in the offsets.
    assert (mirrored - flip * seen).abs().max() < 1e-4
    # Mirroring the limits must give the limits: otherwise a mirrored clip could break them.
    lower, upper = robot.mirrored(robot.joint_lower), robot.mirrored(robot.joint_upper)
    assert torch.equal(torch.minimum(lower, upper), robot.joint_lower)


def test_the_standing_pose_is_symmetric_within_limits_and_on_the_floor(robot: Robot) -> None:
    pose = robot.default_dof_pos
    assert torch.equal(robot.mirrored(pose), pose)
    assert (pose >= robot.joint_lower).all()
    assert (pose <= robot.joint_upper).all()
    upright = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    soles = FootKinematics(robot, dtype=torch.float64)(pose, robot.body_pos[0], upright)
    assert (soles[..., 2] - robot.foot_radius).abs().max() < 1e-5


def test_key_bodies_and_feet_are_bodies(robot: Robot) -> None:
    robot.body_index([*robot.key_bodies, *robot.foot_bodies])
    assert set(robot.foot_bodies) < set(robot.key_bodies)
    heel_left, heel_right, toe_left, toe_right = robot.foot_points[0]
    assert heel_left[0] < toe_left[0]
    assert heel_right[1] < heel_left[1]
    assert toe_right[1] < toe_left[1]


def test_an_unknown_name_is_named(robot: Robot) -> None:
    assert robot.joint_index(["waist_yaw_joint", "left_hip_pitch_joint"]).tolist() == [12, 0]
    with pytest.raises(RobotError, match="no joint 'tail_joint', 'left_wing_joint'"):
        robot.joint_index(["waist_yaw_joint", "tail_joint", "left_wing_joint"])
    with pytest.raises(RobotError, match="no body 'tail_link'"):
        robot.body_index(["tail_link"])


def test_a_copy_in_single_precision_keeps_indices(robot: Robot) -> None:
    copy = robot.to(dtype=torch.float32)
    assert copy.joint_lower.dtype == copy.foot_points.dtype == torch.float32
    assert copy.mirror_index.dtype == torch.int64
    assert robot.joint_lower.dtype == torch.float64
    assert copy.joint_names == robot.joint_names


def test_the_file_compiles_and_stands_without_touching_itself(robot: Robot) -> None:
    mujoco = pytest.importorskip("mujoco")
    spec = mujoco.MjSpec.from_file(str(G1_FILE))
    model = spec.compile()
    assert model.nmesh == 0
    assert model.njnt == robot.num_joints + 1
    assert model.site("imu_in_pelvis").bodyid[0] == model.body("pelvis").id
    assert model.site("imu_in_torso").bodyid[0] == model.body("torso_link").id
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("stand").id)
    mujoco.mj_forward(model, data)
    assert data.ncon == 0
    mujoco.mj_resetData(model, data)  # all joints at zero
    mujoco.mj_forward(model, data)
    assert data.ncon == 0

    spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[5, 5, 0.1], margin=1e-3)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("stand").id)
    mujoco.mj_forward(model, data)
    touching = sorted(model.geom(contact.geom2).name for contact in data.contact)
    assert len(touching) == 8
    assert all("_foot_" in name for name in touching)
    assert abs(data.contact.dist).max() < 1e-5
    # The centre of mass lies over the soles, far enough inside to stand.
    toes, heels = (max(data.geom_xpos[:, 0]), min(data.geom(name).xpos[0] for name in touching))
    assert heels + 0.04 < data.subtree_com[model.body("pelvis").id][0] < toes - 0.04


def test_the_robot_is_what_mujoco_makes_of_the_file(robot: Robot) -> None:
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_path(str(G1_FILE))
    for ours, theirs in (
        (robot.body_mass, model.body_mass[1:]),
        (robot.body_com, model.body_ipos[1:]),
        (robot.body_inertia, model.body_inertia[1:]),
        (robot.body_iquat, model.body_iquat[1:, [1, 2, 3, 0]]),
        (robot.joint_lower, model.jnt_range[1:, 0]),
        (robot.joint_upper, model.jnt_range[1:, 1]),
        (robot.effort_limit, model.jnt_actfrcrange[1:, 1]),
        (robot.velocity_limit, model.jnt_user[1:, 0]),
        (robot.armature, model.dof_armature[6:]),
        (robot.default_dof_pos, model.key("stand").qpos[7:]),
    ):
        assert (ours - torch.from_numpy(theirs)).abs().max() < 1e-12
