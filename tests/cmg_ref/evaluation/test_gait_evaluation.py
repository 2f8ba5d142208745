"""What a checkpoint's path, stops and shortfall come to, on checkpoints whose motion is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from cmg_ref import CMGMotionGenerator
from cmg_ref.clips.dataset import build_dataset
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.gait_evaluation import GAIT_COMMANDS, GaitEvaluation, Stop, evaluate_gait, straightness
from cmg_ref.evaluation.mocap_statistics import mocap_figures
from cmg_ref.evaluation.report import Evaluation, json_text, markdown_text
from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.robots.robot import Robot, load_g1
from cmg_ref.robots.self_contact import SelfContact

FPS = 50.0


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_g1()


def driving(robot: Robot, velocity: tuple[float, float], yaw_rate: float, seconds: float) -> torch.Tensor:
    layout = StateLayout.with_root(robot.num_joints)
    states = torch.zeros(round(seconds * FPS), layout.size)
    states[:, layout["projected_gravity"]] = torch.tensor([0.0, 0.0, -1.0])
    states[:, layout["root_lin_vel_h"].start : layout["root_lin_vel_h"].start + 2] = torch.tensor(velocity)
    states[:, layout["root_yaw_rate"]] = yaw_rate
    return states


def test_a_straight_path_is_straight_whatever_its_direction(robot: Robot) -> None:
    for velocity in ((1.0, 0.0), (-0.5, 0.0), (0.0, 0.3), (0.4, -0.4)):
        heading, off_line = straightness(driving(robot, velocity, 0.0, 20.0), (*velocity, 0.0), FPS)
        assert heading == 0.0 and off_line < 1e-4


def test_a_curve_is_as_far_off_as_its_arc(robot: Robot) -> None:
    heading, off_line = straightness(driving(robot, (1.0, 0.0), 0.02, 40.0), (1.0, 0.0, 0.0), FPS)
    assert heading == pytest.approx(0.8, abs=1e-3)
    assert off_line == pytest.approx((1.0 - math.cos(0.8)) / 0.02, rel=0.01)
    heading, _ = straightness(driving(robot, (1.0, 0.0), 0.5, 10.0), (1.0, 0.0, 0.5), FPS)
    assert heading == pytest.approx(0.0, abs=1e-3)


def test_shortfall_grows_with_what_is_missed_and_counts_what_cannot_be_measured() -> None:
    def shortfall(*last_steps: float) -> float:
        stops = [Stop((0.5, 0.0, 0.0), last_step, 0.0, 0.0) for last_step in last_steps]
        return GaitEvaluation(20.0, stops=stops).shortfall()

    assert shortfall(1.0, 2.0) == 0.0
    assert 0.0 < shortfall(1.0, 3.0) < shortfall(1.0, 4.0) < shortfall(1.0, float("nan")) == shortfall(1.0, 100.0)


def test_legs_of_the_shipped_checkpoint_stay_apart(robot: Robot) -> None:
    commands = torch.tensor(
        [
            *((vx, 0.0, 0.0) for vx in (-0.6, -0.3, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5)),
            *((0.0, vy, 0.0) for vy in (-0.4, -0.3, -0.2, -0.1, 0.1, 0.2, 0.3, 0.4)),
            *((vx, vy, wz) for vx in (-0.4, 0.0, 0.6) for vy in (-0.2, 0.2) for wz in (-0.6, 0.6)),
        ]
    ).repeat_interleave(4, dim=0)
    generator = CMGMotionGenerator(num_envs=len(commands), mode="realtime", control_dt=0.02)
    generator.reset(commands=commands)  # from any pose of the data, from where the first steps may cross
    legs, inside = SelfContact(robot, of=("knee", "ankle")), []
    for step in range(500):
        generator.advance()
        if step >= 150:
            inside.append(legs.depth(generator.get_motion()[0]) > 0.0)
    share = torch.stack(inside).float().mean(dim=0)
    assert float(share.max()) <= 0.01, f"inside one another: {commands[share > 0.01].tolist()}"


@pytest.mark.slow
def test_the_shipped_checkpoint_beside_people(robot: Robot, motion_folder: Path) -> None:
    clip = read_clip(motion_folder / "lafan1_g1" / "walk1_subject1.csv")
    dataset = build_dataset([clip], robot)
    people = mocap_figures(dataset, robot, GAIT_COMMANDS)
    found = evaluate_gait(load_checkpoint(), robot, people, seconds=12.0)
    by_command = {tuple(row.command): row for row in found.rows}
    walk = by_command[0.6, 0.0, 0.0]
    assert walk.reached is not None and walk.reached[0] == pytest.approx(0.6, abs=0.1)
    for figures in (walk.ours, walk.people):
        assert 1.0 < figures["cadence"] < 2.2
        assert 0.02 < figures["clearance"] < 0.08
        assert 0.005 < figures["slip"] < 0.4
    assert {stop.command for stop in found.stops} >= {(0.5, 0.0, 0.0), (1.5, 0.0, 0.0)}
    evaluation = Evaluation("shipped", {}, gait=found)
    content = json.loads(json_text(evaluation))["gait"]
    assert len(content["rows"]) == len(GAIT_COMMANDS) and content["measures"]
    assert "| vx 0.6 |" in markdown_text(evaluation)
    # The same table for clips of anybody: here the people's own.
    clips = evaluate_gait(dataset, robot, people)
    assert all(row.ours == row.people for row in clips.rows)
    assert clips.stops == [] and "heading" not in markdown_text(Evaluation("clips", {}, gait=clips))
