"""Limbs that reach into one another are found, as deep as another program and another model of the robot say."""

from __future__ import annotations

import importlib.util
import re
from itertools import product
from pathlib import Path

import pytest
import torch

from cmg_ref.robots.g1 import SPEC
from cmg_ref.robots.robot import Robot, load_g1
from cmg_ref.robots.self_contact import SelfContact, segment_distance


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_g1()


def random_poses(robot: Robot, count: int, legs: float = 0.2) -> torch.Tensor:
    """Arms anywhere, legs about where they stand within `legs` [rad], (count, num_joints)."""
    share = torch.rand(count, robot.num_joints, generator=torch.Generator().manual_seed(3))
    pose = robot.joint_lower + share * (robot.joint_upper - robot.joint_lower)
    arms = torch.tensor([any(part in name for part in SPEC.arm_joints) for name in robot.joint_names])
    return torch.where(arms, pose, robot.default_dof_pos + legs * (share - 0.5)).float()


def test_segments_are_as_far_apart_as_their_nearest_points() -> None:
    ends = torch.rand(4, 200, 3, generator=torch.Generator().manual_seed(0))
    ends[1, :20] = ends[0, :20]  # a sphere is a segment of no length
    ends[3, 20:40] = ends[2, 20:40] + (ends[1, 20:40] - ends[0, 20:40])  # parallel
    share = torch.linspace(0.0, 1.0, 201)[:, None, None]
    first, second = torch.lerp(ends[0], ends[1], share), torch.lerp(ends[2], ends[3], share)
    apart = torch.cdist(first.transpose(0, 1), second.transpose(0, 1)).amin(dim=(1, 2))
    assert torch.allclose(segment_distance(*ends), apart, atol=2e-3)


def test_a_hand_at_the_side_is_inside_the_thigh_and_one_in_front_is_not(robot: Robot) -> None:
    contact = SelfContact(robot)
    poses = robot.default_dof_pos.float().repeat(2, 1)
    for name, angle in (
        ("left_shoulder_pitch_joint", 0.0),
        ("left_shoulder_roll_joint", -0.1),
        ("left_elbow_joint", 1.5),
    ):
        poses[0, robot.joint_names.index(name)] = angle
    inside, apart = contact.depth(poses)
    assert apart < 0.0
    assert inside > 0.01
    assert torch.allclose(contact.depth(robot.mirrored(poses)), contact.depth(poses), atol=1e-4)


def test_a_foot_drawn_in_is_inside_the_other_and_feet_side_by_side_are_not(robot: Robot) -> None:
    contact = SelfContact(robot, of=("ankle", "knee"))
    poses = robot.default_dof_pos.float().repeat(2, 1)
    poses[0, robot.joint_names.index("left_hip_roll_joint")] = -0.35
    inside, apart = contact.depth(poses)
    assert apart < -0.05
    assert inside > 0.01
    assert torch.allclose(contact.depth(robot.mirrored(poses)), contact.depth(poses), atol=1e-4)
    assert torch.equal(SelfContact(robot).depth(poses)[:1], inside[None])
    assert float(SelfContact(robot, of=SPEC.arm_joints).depth(poses).max()) < 0.0, "of arms alone"


def test_depth_has_a_gradient_that_leads_out(robot: Robot) -> None:
    contact, pose = SelfContact(robot), random_poses(robot, 2000)
    pose = pose[contact.depth(pose) > 0.02].requires_grad_()
    assert len(pose) > 20
    depth = contact.depth(pose)
    depth.sum().backward()
    assert pose.grad is not None
    step = 0.005 * pose.grad / pose.grad.norm(dim=1, keepdim=True)
    assert bool((contact.depth(pose.detach() - step) < depth.detach()).float().mean() > 0.95)


def test_a_robot_without_pairs_touches_nothing(robot: Robot) -> None:
    bare = Robot.from_mjcf(SPEC.asset, type(SPEC)(SPEC.name, SPEC.asset, SPEC.foot_bodies, SPEC.walking_height))
    assert bool((SelfContact(bare).depth(torch.zeros(3, robot.num_joints)) == -float("inf")).all())


@pytest.mark.parametrize(
    ("of", "legs", "one", "other", "tolerance"),
    [
        (("wrist",), 0.2, "wrist|hand", "hip|thigh", 0.005),
        # Their shins end halfway down, and their feet are of seven thin capsules.
        (("ankle", "knee"), 0.3, "left_(foot|shin)", "right_(foot|shin)", 0.008),
    ],
)
def test_mjlabs_capsules_say_the_same(
    robot: Robot, of: tuple[str, ...], legs: float, one: str, other: str, tolerance: float
) -> None:
    mujoco = pytest.importorskip("mujoco")
    spec = importlib.util.find_spec("mjlab")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("mjlab is not installed")
    file = Path(spec.submodule_search_locations[0]) / "asset_zoo" / "robots" / "unitree_g1" / "xmls" / "g1.xml"
    text = re.sub(r"<mesh [^>]*/>|<geom[^>]*class=\"visual\"[^>]*/>", "", file.read_text(encoding="utf-8"))
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    names = [model.geom(index).name for index in range(model.ngeom)]
    pairs = list(product(*([i for i, name in enumerate(names) if re.search(part, name)] for part in (one, other))))
    poses = random_poses(robot, 3000, legs)
    depth = []
    for pose in poses:
        data.qpos[3:] = [1.0, 0.0, 0.0, 0.0, *pose.tolist()]
        mujoco.mj_kinematics(model, data)
        depth.append(max(-mujoco.mj_geomDistance(model, data, *pair, 0.5, None) for pair in pairs))
    theirs, ours = torch.tensor(depth), SelfContact(robot, of=of).depth(poses)
    near = theirs > -0.02
    assert int(near.sum()) > 50
    assert float((theirs - ours)[near].abs().mean()) < tolerance
    assert float(((theirs > 0.005) == (ours > 0.005)).float().mean()) > 0.97
