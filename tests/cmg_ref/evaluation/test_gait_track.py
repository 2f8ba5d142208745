"""Steps, clearance, symmetry and self-contact of motions made by formula, whose figures are known."""

from __future__ import annotations

import math

import pytest
import torch

from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.gait_track import GaitTrack
from cmg_ref.robots.kinematics import FootKinematics
from cmg_ref.robots.robot import Robot, load_g1

FPS = 50.0


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_g1()


def marching(robot: Robot, rate: float, lifts: tuple[float, float], seconds: float = 12.0) -> torch.Tensor:
    """Marching on the spot, each foot `rate` times a second, lifted by an angle [rad] at the hip; (1, T, S)."""
    layout = StateLayout.with_root(robot.num_joints)
    time = torch.arange(round(seconds * FPS)) / FPS
    states = torch.zeros(1, len(time), layout.size)
    pose = robot.default_dof_pos.float().repeat(len(time), 1)
    for side, lift, sign in (("left", lifts[0], 1.0), ("right", lifts[1], -1.0)):
        angle = lift * (sign * torch.sin(2.0 * math.pi * rate * time)).clamp(min=0.0)
        for joint, share in (("hip_pitch", -1.0), ("knee", 2.0), ("ankle_pitch", -1.0)):
            pose[:, robot.joint_names.index(f"{side}_{joint}_joint")] += share * angle
    states[0, :, layout["dof_pos"]] = pose
    states[..., layout["projected_gravity"]] = torch.tensor([0.0, 0.0, -1.0])
    feet = FootKinematics(robot)(pose)[..., 2].amin(dim=(1, 2)) - robot.foot_radius
    states[..., layout["root_height"]] = -feet[:, None]
    return states


def test_marching_has_its_rate_and_its_height(robot: Robot) -> None:
    states = marching(robot, 0.8, (0.4, 0.4))
    figures = GaitTrack.of(states, robot, FPS).figures()
    assert figures.cadence == pytest.approx(1.6, abs=0.1)
    layout = StateLayout.with_root(robot.num_joints)
    points = FootKinematics(robot)(states[0, :, layout["dof_pos"]])[..., 2].amin(dim=2)
    assert figures.clearance == pytest.approx(float((points[:, 0] - points[:, 1]).abs().max()), abs=0.002)
    assert figures.slip < 0.05 and figures.slip_p90 < 0.05
    assert figures.swing_asymmetry < 0.05
    assert figures.contact_share == 0.0


def test_a_limp_is_uneven(robot: Robot) -> None:
    even, limping = (
        GaitTrack.of(marching(robot, 0.8, lifts), robot, FPS).figures() for lifts in ((0.4, 0.4), (0.7, 0.3))
    )
    assert even.pose_asymmetry < 0.01 < 0.02 < limping.pose_asymmetry
    assert limping.swing_asymmetry > even.swing_asymmetry + 0.05


def test_standing_has_no_steps_and_no_clearance(robot: Robot) -> None:
    figures = GaitTrack.of(marching(robot, 0.8, (0.0, 0.0)), robot, FPS).figures()
    assert figures.cadence == 0.0
    assert math.isnan(figures.clearance)
    assert "clearance" not in figures.known()


def test_slip_has_a_tail_that_its_mean_hides(robot: Robot) -> None:
    layout = StateLayout.with_root(robot.num_joints)
    states = marching(robot, 0.8, (0.0, 0.0), 10.0)
    states[:, 400:475, layout["root_lin_vel_h"].start] = 0.8  # 15 % of the time it skates
    figures = GaitTrack.of(states, robot, FPS).figures()
    assert figures.slip == pytest.approx(0.12, abs=0.01)
    assert figures.slip_p90 == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("drift", [0.0, 0.3])
def test_a_root_that_goes_from_side_to_side_sways_and_one_that_goes_to_one_side_does_not(
    robot: Robot, drift: float
) -> None:
    states = marching(robot, 0.8, (0.4, 0.4))
    aside = states[..., StateLayout.with_root(robot.num_joints)["root_lin_vel_h"]][..., 1]
    aside += drift
    assert GaitTrack.of(states, robot, FPS).figures().sway == pytest.approx(0.0, abs=1e-3)
    aside += 0.1 * torch.sin(2.0 * math.pi * 0.8 * torch.arange(aside.shape[1]) / FPS)
    assert GaitTrack.of(states, robot, FPS).figures().sway == pytest.approx(0.1 / math.sqrt(2.0), rel=0.25)


def test_joined_tracks_are_measured_by_any_choice_of_frames(robot: Robot) -> None:
    slow, fast = (GaitTrack.of(marching(robot, rate, (0.4, 0.4)), robot, FPS) for rate in (0.5, 1.0))
    both = GaitTrack.join([slow, fast])
    second = torch.arange(len(both.last)) >= len(slow.last)
    assert both.figures(second) == fast.figures()
    assert both.figures(~second) == slow.figures()
    assert both.figures().cadence == pytest.approx(0.5 * (slow.figures().cadence + fast.figures().cadence))


def test_hands_in_the_thighs_are_seen(robot: Robot) -> None:
    layout = StateLayout.with_root(robot.num_joints)
    states = marching(robot, 0.8, (0.0, 0.0), 4.0)
    for side, sign in (("left", -1.0), ("right", 1.0)):
        for joint, angle in (("shoulder_pitch", 0.0), ("shoulder_roll", 0.1 * sign), ("elbow", 1.5)):
            column = layout["dof_pos"].start + robot.joint_names.index(f"{side}_{joint}_joint")
            states[:, :50, column] = angle
    figures = GaitTrack.of(states, robot, FPS).figures()
    assert figures.contact_share == pytest.approx(0.25)
    assert figures.contact_depth > 0.01
