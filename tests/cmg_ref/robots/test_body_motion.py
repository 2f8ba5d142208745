"""States of bodies: poses as forward kinematics has them, velocities as poses change."""

from __future__ import annotations

import pytest
import torch

from cmg_ref.core.rotations import quat_conjugate, quat_from_axis_angle, quat_multiply, rotation_vector_from_quat
from cmg_ref.robots.body_motion import BodyMotion
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import RobotError, load_g1

BODIES = ("torso_link", "pelvis", "left_ankle_roll_link", "right_wrist_yaw_link")
STEP = 1e-3  # [s]


def moved(root: torch.Tensor, time: float) -> torch.Tensor:
    """Root states (n, 13) some time later at the same velocities."""
    angle = root[:, 10:].norm(dim=1)
    turn = quat_from_axis_angle(root[:, 10:] / angle.unsqueeze(1), angle * time)
    return torch.cat((root[:, :3] + time * root[:, 7:10], quat_multiply(turn, root[:, 3:7]), root[:, 7:]), dim=1)


def test_velocities_are_how_poses_change() -> None:
    generator = torch.Generator().manual_seed(0)
    robot = load_g1()
    dof_pos, dof_vel = torch.randn(2, 8, robot.num_joints, generator=generator)
    root = torch.randn(8, 13, generator=generator)
    root[:, 3:7] = torch.nn.functional.normalize(root[:, 3:7], dim=1)
    motion = BodyMotion(robot, BODIES)
    states = motion(dof_pos, dof_vel, root)
    pos, quat = ForwardKinematics(robot, BODIES)(dof_pos, root[:, :3], root[:, 3:7])
    assert torch.allclose(states.pos, pos, atol=1e-5)
    assert torch.allclose((states.quat * quat).sum(dim=-1).abs(), torch.ones(8, len(BODIES)), atol=1e-5)
    ahead, behind = (motion(dof_pos + t * dof_vel, dof_vel, moved(root, t)) for t in (STEP, -STEP))
    assert torch.allclose(states.lin_vel, (ahead.pos - behind.pos) / (2 * STEP), atol=5e-3)
    turn = rotation_vector_from_quat(quat_multiply(ahead.quat, quat_conjugate(behind.quat)))
    assert torch.allclose(states.ang_vel, turn / (2 * STEP), atol=5e-3)


def test_an_unknown_body_is_named() -> None:
    with pytest.raises(RobotError, match="no body 'tail'"):
        BodyMotion(load_g1(), ("tail",))
