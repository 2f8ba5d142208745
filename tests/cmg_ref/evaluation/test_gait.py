"""Each measure finds what it is for, on motions made by formula and on real clips that were spoilt on purpose."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cmg_ref.clips.dataset import MotionDataset, build_dataset
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.core.rotations import projected_gravity, quat_from_euler_xyz
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.gait import (
    Gait,
    find_steps,
    joint_acceleration,
    joint_limit_excess,
    joint_speed,
    mean_velocity,
    tilt_angle,
    velocity_mismatch,
)
from cmg_ref.robots.robot import Robot, load_g1

FPS = 50.0


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_g1()


@pytest.fixture(scope="module")
def layout(robot: Robot) -> StateLayout:
    return StateLayout.with_root(robot.num_joints)


@pytest.fixture(scope="module")
def recording(robot: Robot, motion_folder: Path) -> MotionDataset:
    return build_dataset([read_clip(motion_folder / "lafan1_g1" / "walk1_subject1.csv")], robot)


@pytest.fixture
def walk(recording: MotionDataset) -> torch.Tensor:
    """Four seconds of real walking at 0.6 m/s or so, (1, T, S)."""
    starts = recording.windows(200)
    speed = torch.stack([recording.commands[starts + offset, 0] for offset in range(0, 200, 20)]).amin(dim=0)
    assert speed.max() > 0.4
    start = int(starts[speed.argmax()])
    return recording.states[start : start + 200][None].clone()


def standing(robot: Robot, layout: StateLayout, num_frames: int = 100) -> torch.Tensor:
    """A robot that stands still in its default pose, (1, T, S)."""
    states = torch.zeros(1, num_frames, layout.size)
    states[..., layout["dof_pos"]] = robot.default_dof_pos.float()
    states[..., layout["projected_gravity"]] = torch.tensor([0.0, 0.0, -1.0])
    states[..., layout["root_height"]] = 0.78
    return states


def test_standing_does_not_slip_and_keeps_both_feet_down(robot: Robot, layout: StateLayout) -> None:
    gait = Gait(standing(robot, layout), robot, FPS)
    slip, stance_share = gait.mean_slip()
    assert slip.item() < 1e-6
    assert stance_share.item() == 1.0
    assert gait.highest_foot().item() < 1e-6


def test_a_still_robot_whose_root_drives_skates_at_that_speed(robot: Robot, layout: StateLayout) -> None:
    states = standing(robot, layout)
    states[..., layout["root_lin_vel_h"]] = torch.tensor([0.3, -0.4, 0.0])
    assert Gait(states, robot, FPS).mean_slip()[0].item() == pytest.approx(0.5, abs=1e-4)


def test_a_still_robot_that_says_it_turns_skates(robot: Robot, layout: StateLayout) -> None:
    states = standing(robot, layout)
    states[..., layout["root_yaw_rate"]] = 1.0
    slip = Gait(states, robot, FPS).mean_slip()[0].item()
    assert 0.05 < slip < 0.2  # The feet stand about a decimetre beside the root.


def test_the_predicted_tilt_counts(robot: Robot, layout: StateLayout) -> None:
    # A body that says it rocks about the pelvis, while the joints rest, drags its feet over the floor.
    states = standing(robot, layout)
    time = torch.arange(states.shape[1]) / FPS
    pitch = 0.1 * torch.sin(2 * math.pi * time)
    zero = torch.zeros_like(pitch)
    states[0, :, layout["projected_gravity"]] = projected_gravity(quat_from_euler_xyz(zero, pitch, zero))
    assert Gait(states, robot, FPS).mean_slip()[0].item() > 0.1


def test_real_walking_slips_little_and_a_faster_root_slips_by_the_difference(
    robot: Robot, layout: StateLayout, walk: torch.Tensor
) -> None:
    honest, share = Gait(walk, robot, FPS).mean_slip()
    assert honest.item() < 0.25
    assert share.item() > 0.7
    speed = mean_velocity(walk, layout)[0, :2].norm().item()
    walk[..., layout["root_lin_vel_h"]] *= 2.0
    assert Gait(walk, robot, FPS).mean_slip()[0].item() > honest.item() + 0.5 * speed


def test_real_standing_hardly_slips(robot: Robot, recording: MotionDataset) -> None:
    slip, stance = Gait(recording.states[None], robot, FPS).slip()
    still = (recording.commands.abs().amax(dim=-1) < 0.05) & recording.valid
    assert still.sum() > 50
    assert slip[0][still[:-1] & stance[0]].mean() < 0.03


def test_velocities_of_a_clip_agree_until_it_is_played_at_another_rate(layout: StateLayout, walk: torch.Tensor) -> None:
    parts = layout.split(walk)
    assert velocity_mismatch(parts["dof_pos"], parts["dof_vel"], FPS).item() < 1e-4
    played_fast = velocity_mismatch(parts["dof_pos"], parts["dof_vel"], FPS * 50 / 30).item()
    assert played_fast == pytest.approx(50 / 30 - 1, rel=1e-3)
    unrelated = torch.randn_like(parts["dof_vel"])
    assert velocity_mismatch(parts["dof_pos"], unrelated, FPS).item() > 0.9


def test_mismatch_of_rest_is_zero_and_of_hidden_motion_infinite(robot: Robot) -> None:
    rest = robot.default_dof_pos.float().repeat(1, 10, 1)
    still = torch.zeros_like(rest)
    assert velocity_mismatch(rest, still, FPS).item() == 0.0
    moving = rest + torch.linspace(0, 1, 10)[:, None]
    assert velocity_mismatch(moving, still, FPS).item() == float("inf")


def test_limit_excess_is_how_far_a_joint_is_beyond_its_limit(robot: Robot) -> None:
    dof_pos = torch.stack([robot.joint_upper + 0.7, robot.joint_lower - 0.2, robot.default_dof_pos])
    excess = joint_limit_excess(dof_pos, robot)
    torch.testing.assert_close(excess[0], torch.full_like(excess[0], 0.7))
    torch.testing.assert_close(excess[1], torch.full_like(excess[1], 0.2))
    assert not excess[2].any()


def test_acceleration_of_a_sine(robot: Robot) -> None:
    time = torch.arange(200, dtype=torch.float64) / FPS
    dof_pos = 0.3 * torch.sin(2 * math.pi * time)[:, None].expand(-1, robot.num_joints)
    largest = joint_acceleration(dof_pos, FPS).abs().max().item()
    assert largest == pytest.approx(0.3 * (2 * math.pi) ** 2, rel=0.01)


def test_joint_speed_sees_jitter_that_the_velocities_hide(robot: Robot) -> None:
    dof_pos = robot.default_dof_pos.repeat(1, 100, 1)
    dof_pos[:, ::2] += 0.001
    hidden = joint_speed(dof_pos, torch.zeros_like(dof_pos), FPS).item()
    assert hidden == pytest.approx(0.001 * FPS, rel=1e-3)
    assert joint_speed(dof_pos, torch.full_like(dof_pos, 0.2), FPS).item() == pytest.approx(0.2, rel=1e-3)


def test_tilt_angle() -> None:
    angles = torch.tensor([0.0, 0.3, 0.7, 2.0])
    gravity = projected_gravity(quat_from_euler_xyz(torch.zeros(4), angles, torch.ones(4)))
    torch.testing.assert_close(tilt_angle(gravity), angles, atol=1e-5, rtol=0)


def test_steps_of_a_sine_with_a_small_wobble() -> None:
    time = torch.arange(round(10 * FPS)) / FPS
    lead = 0.3 * torch.sin(2 * math.pi * 0.9 * time) + 0.01 * torch.sin(2 * math.pi * 11.0 * time)
    steps = find_steps(lead, FPS)
    assert steps.frequency == pytest.approx(1.8, rel=0.01)
    assert steps.length_asymmetry < 0.03
    assert steps.time_asymmetry < 0.08  # The wobble moves the extremes by a frame.


def test_a_limp_shows_in_length_and_time() -> None:
    time = torch.arange(round(20 * FPS)) / FPS
    phase = 2 * math.pi * time
    longer_left = 0.3 * torch.sin(phase) + 0.05
    assert find_steps(longer_left, FPS).length_asymmetry == pytest.approx(0.1 / 0.3, rel=0.05)
    slower_left = 0.3 * torch.sin(phase + 0.5 * torch.sin(phase))
    assert find_steps(slower_left, FPS).time_asymmetry > 0.1


def test_no_steps_cannot_be_measured() -> None:
    assert math.isnan(find_steps(torch.zeros(100), FPS).frequency)
    assert math.isnan(find_steps(torch.linspace(-0.1, 0.1, 100), FPS).length_asymmetry)


def test_real_walking_has_even_steps(robot: Robot, walk: torch.Tensor) -> None:
    steps = Gait(walk, robot, FPS).steps(0)
    assert 0.9 < steps.frequency < 2.2
    assert steps.length_asymmetry < 0.3


def test_motions_of_a_batch_are_measured_apart(robot: Robot, walk: torch.Tensor) -> None:
    batch = torch.cat((walk, walk.flip(1), walk))
    together = Gait(batch, robot, FPS).mean_slip()[0]
    for index in range(3):
        torch.testing.assert_close(
            together[index : index + 1], Gait(batch[index : index + 1], robot, FPS).mean_slip()[0]
        )
