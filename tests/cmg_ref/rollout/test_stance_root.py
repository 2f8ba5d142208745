"""The root estimated from the stance foot: exact where its assumptions hold, near the recorded root on real clips."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cmg_ref.clips.dataset import build_dataset
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.core.rotations import projected_gravity, quat_conjugate, quat_multiply, quat_rotate, yaw_from_quat
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot, load_g1
from cmg_ref.rollout.stance_root import StanceRoot

FPS = 50.0


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_g1()


def planted_left_foot(robot: Robot) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Joint angles (T, J) of a robot that bends and twists on its left leg, and the root's exact pose."""
    time = torch.arange(200, dtype=torch.float64) / FPS
    dof_pos = robot.default_dof_pos.repeat(len(time), 1)

    def move(joint: str, offset: float, amplitude: float, frequency: float) -> None:
        column = int(robot.joint_index([joint]))
        dof_pos[:, column] += offset + amplitude * torch.sin(2 * math.pi * frequency * time)

    move("right_hip_pitch_joint", -0.8, 0.1, 0.7)
    move("right_knee_joint", 1.2, 0.2, 0.9)
    move("left_hip_pitch_joint", -0.1, 0.15, 0.5)
    move("left_knee_joint", 0.2, 0.2, 0.6)
    move("left_hip_yaw_joint", 0.0, 0.4, 0.4)
    move("left_ankle_roll_joint", 0.0, 0.05, 0.8)
    foot = ForwardKinematics(robot, robot.foot_bodies[:1], dtype=torch.float64)
    foot_pos_b, foot_quat_b = (value.squeeze(-2) for value in foot(dof_pos))
    root_quat = quat_conjugate(foot_quat_b)  # the foot's axes are the world's
    sole = robot.foot_radius - float(robot.foot_points[0, :, 2].min())
    root_pos = torch.tensor([0.0, 0.0, sole], dtype=torch.float64) - quat_rotate(root_quat, foot_pos_b)
    return dof_pos, root_pos, root_quat


def test_planted_foot_gives_the_exact_root(robot: Robot) -> None:
    dof_pos, root_pos, root_quat = planted_left_foot(robot)
    root = StanceRoot(robot, dtype=torch.float64)(dof_pos, FPS, projected_gravity(root_quat))

    first_yaw = yaw_from_quat(root_quat)[0]
    back = torch.stack([torch.zeros(()), torch.zeros(()), -torch.sin(first_yaw / 2), torch.cos(first_yaw / 2)])
    expected_pos = quat_rotate(back.expand(len(dof_pos), 4), root_pos - root_pos[0] * torch.tensor([1.0, 1.0, 0.0]))
    expected_quat = quat_multiply(back.expand(len(dof_pos), 4), root_quat)
    assert (root.root_pos_w - expected_pos).norm(dim=-1).max() < 1e-3
    assert ((root.root_quat_w * expected_quat).sum(dim=-1).abs() - 1.0).abs().max() < 1e-9
    assert (root.root_height.squeeze(-1) - root_pos[:, 2]).abs().max() < 1e-9


def test_flat_sole_tells_the_tilt(robot: Robot) -> None:
    dof_pos, _, root_quat = planted_left_foot(robot)
    true = projected_gravity(root_quat)
    found = StanceRoot(robot, dtype=torch.float64)(dof_pos, FPS).projected_gravity
    error = torch.acos((true * found).sum(dim=-1).clamp(max=1.0))
    upright = torch.acos(-true[:, 2].clamp(min=-1.0))
    assert upright.pow(2).mean().sqrt() > 0.1
    assert error.pow(2).mean().sqrt() < 0.6 * upright.pow(2).mean().sqrt()


def test_batches_are_independent_of_each_other(robot: Robot) -> None:
    dof_pos, _, _ = planted_left_foot(robot)
    stance_root = StanceRoot(robot, dtype=torch.float64)
    batch = torch.stack([dof_pos, robot.mirrored(dof_pos), dof_pos.flip(0), dof_pos])[:, None]  # (4, 1, T, J)
    together = stance_root(batch, FPS)
    assert together.root_lin_vel_h.shape == (4, 1, len(dof_pos), 3)
    for index in range(4):
        alone = stance_root(batch[index, 0], FPS)
        for name in (
            "root_height",
            "projected_gravity",
            "root_lin_vel_h",
            "root_yaw_rate",
            "root_pos_w",
            "root_quat_w",
        ):
            torch.testing.assert_close(getattr(together, name)[index, 0], getattr(alone, name))


def test_mirrored_motion_gives_the_mirrored_root(robot: Robot) -> None:
    dof_pos, _, _ = planted_left_foot(robot)
    stance_root = StanceRoot(robot, dtype=torch.float64)
    root, seen = stance_root(dof_pos, FPS), stance_root(robot.mirrored(dof_pos), FPS)
    sideways = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(seen.root_lin_vel_h, root.root_lin_vel_h * sideways, atol=1e-6, rtol=0)
    torch.testing.assert_close(seen.root_yaw_rate, -root.root_yaw_rate, atol=1e-6, rtol=0)


def test_completed_states_keep_the_joints_and_gain_the_root(robot: Robot) -> None:
    dof_pos, _, _ = planted_left_foot(robot)
    layout = StateLayout.joints_only(robot.num_joints)
    states = torch.cat((dof_pos, torch.zeros_like(dof_pos)), dim=-1).float()[None]
    completed = StanceRoot(robot).complete(states, layout, FPS)
    parts = StateLayout.with_root(robot.num_joints).split(completed)
    torch.testing.assert_close(parts["dof_pos"], states[..., layout["dof_pos"]])
    root = StanceRoot(robot)(states[..., layout["dof_pos"]], FPS)
    torch.testing.assert_close(parts["root_lin_vel_h"], root.root_lin_vel_h)
    torch.testing.assert_close(parts["root_height"], root.root_height)


def test_one_frame_is_an_error(robot: Robot) -> None:
    with pytest.raises(ValueError, match="at least 2 frames"):
        StanceRoot(robot)(robot.default_dof_pos[None].float(), FPS)


@pytest.mark.parametrize("gravity_given", [True, False])
def test_walking_clips_give_the_recorded_root(robot: Robot, motion_folder: Path, gravity_given: bool) -> None:
    path = motion_folder / "lafan1_g1" / "walk1_subject1.csv"
    dataset = build_dataset([read_clip(path)], robot)
    parts = dataset.layout.split(dataset.states)
    root = StanceRoot(robot)(parts["dof_pos"], dataset.fps, parts["projected_gravity"] if gravity_given else None)
    error = (root.root_lin_vel_h - parts["root_lin_vel_h"])[:, :2]
    speed = dataset.commands[:, 0]
    for low, high in ((-0.1, 0.1), (0.3, 0.7), (0.7, 1.2)):
        frames = dataset.valid & (speed > low) & (speed < high)
        assert frames.sum() > 200
        mean_error = error[frames].mean(dim=0).norm()
        assert mean_error < (0.03 if gravity_given else 0.10), (low, high)
        turn_error = (root.root_yaw_rate - parts["root_yaw_rate"])[frames].mean().abs()
        assert turn_error < 0.15, (low, high)
    height_error = (root.root_height - parts["root_height"])[dataset.valid]
    assert height_error.abs().mean() < 0.015
