"""The evaluation of checkpoints: constant models by formula, whose every figure is known."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.checkpoint_evaluation import STEADY_COMMANDS, CheckpointEvaluation
from cmg_ref.evaluation.report import Evaluation, json_text, markdown_text, save_report, screen_text
from cmg_ref.evaluation.requirements import (
    Measure,
    acceleration_measure,
    command_label,
    is_walk,
    slip_limit,
    speed_tolerance,
    yaw_tolerance,
)
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.network.standing import STANCE_SHARE
from cmg_ref.robots.robot import Robot, load_g1

pytestmark = pytest.mark.slow

TINY = CMGConfig(num_experts=1, hidden=2, num_layers=2, gate_hidden=2, prediction="next_state")


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_g1()


def constant_checkpoint(robot: Robot, joint_names: tuple[str, ...] | None = None, **channels: Any) -> Checkpoint:
    """A checkpoint that goes to one state whatever the command: standing, but for the channels given."""
    names = joint_names or robot.joint_names
    layout = StateLayout.with_root(robot.num_joints)
    state = torch.zeros(layout.size)
    state[layout["dof_pos"]] = robot.default_dof_pos.float()[[robot.joint_names.index(name) for name in names]]
    state[layout["root_height"]] = 0.78
    state[layout["projected_gravity"]] = torch.tensor([0.0, 0.0, -1.0])
    initial = state[None].clone()
    for name, value in channels.items():
        state[layout[name]] = torch.as_tensor(value, dtype=torch.float32)
    model = CMG(TINY, layout, 50.0).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.zero_()  # The network's output is zero, which stands for the mean state.
    model.motion_mean.copy_(state)
    model.command_max.copy_(torch.tensor([3.2, 0.6, 1.3]))
    model.command_min.copy_(torch.tensor([-0.8, -0.6, -1.3]))
    return Checkpoint(model, names, initial, torch.zeros(1, 3))


def evaluate(
    checkpoint: Checkpoint, robot: Robot, mocap: dict[str, Any] | None = None
) -> dict[tuple[str, str], Measure]:
    evaluator = CheckpointEvaluation(checkpoint, robot, mocap, quick=True, progress=False)
    evaluator.num_random, evaluator.random_time = 8, 4.0
    evaluation = evaluator.run("test")
    assert len({(measure.name, measure.command) for measure in evaluation.measures}) == len(evaluation.measures)
    return {(measure.name, measure.command): measure for measure in evaluation.measures}


def test_a_statue_stands_well_and_goes_nowhere(robot: Robot) -> None:
    figures = evaluate(constant_checkpoint(robot), robot)
    for command in STEADY_COMMANDS:
        speed = figures["root speed error", command_label(command)]
        assert speed.value == pytest.approx((command[0] ** 2 + command[1] ** 2) ** 0.5, abs=1e-5)
        assert speed.passed is (command[:2] == (0.0, 0.0))
        assert figures["yaw rate error", command_label(command)].value == pytest.approx(abs(command[2]), abs=1e-5)
        assert figures["foot slip", command_label(command)].value < 1e-5
    for name in ("rms joint speed", "root drift", "higher foot above the lower"):
        assert figures[name, "stand 20 s"].passed
    assert figures["step frequency, last against first", "vx 1.0, 20 s"].passed is False
    label = "8 random roll-outs of 4 s"
    for name in ("diverged roll-outs", "lowest root", "highest root", "largest tilt", "frames in which the guard acts"):
        assert figures[name, label].passed
    assert figures["root speed error 1.5 s after a change", "stand -> vx 1.5"].value == pytest.approx(1.5, abs=1e-5)
    assert figures["yaw rate error 1.5 s after a change", "wz 1.0 -> wz -1.0"].passed is False


def test_a_root_that_drives_over_still_feet_is_found_to_skate(robot: Robot) -> None:
    figures = evaluate(constant_checkpoint(robot, root_lin_vel_h=[0.6, 0.0, 0.0]), robot)
    assert figures["root speed error", "vx 0.6"].passed
    slip = figures["foot slip", "vx 0.6"]
    assert slip.value == pytest.approx(0.6, abs=1e-4)
    assert slip.passed is False
    # Told to stand, a motion is held back by a share of what it moves by, whatever the network says.
    assert figures["root drift", "stand 20 s"].value == pytest.approx(0.6 / (1.0 + STANCE_SHARE) * 17.0, rel=0.01)


def test_velocities_that_tell_nothing_are_found(robot: Robot) -> None:
    figures = evaluate(constant_checkpoint(robot, dof_vel=0.3), robot)
    assert figures["velocity mismatch", "vx 0.6"].value == pytest.approx(1.0)
    assert figures["velocity mismatch", "vx 0.6"].passed is False
    assert figures["rms joint speed", "stand 20 s"].value > 0.2


@pytest.mark.parametrize(
    ("channel", "value", "row"),
    [
        ("root_height", 0.5, "lowest root"),
        ("root_height", 1.0, "highest root"),
        ("projected_gravity", [0.7, 0.0, -0.714], "largest tilt"),
        ("dof_pos", 4.0, "joint limits exceeded"),
    ],
)
def test_roll_outs_that_leave_the_bounds_are_counted(robot: Robot, channel: str, value: Any, row: str) -> None:
    figures = evaluate(constant_checkpoint(robot, **{channel: value}), robot)
    label = "8 random roll-outs of 4 s"
    assert figures["diverged roll-outs", label].value == 8.0
    assert figures[row, label].passed is False


def test_a_guard_that_always_acts_is_reported(robot: Robot) -> None:
    checkpoint = constant_checkpoint(robot, root_height=1.2)
    checkpoint.model.state_max[checkpoint.layout["root_height"]] = 0.85
    figures = evaluate(checkpoint, robot)
    label = "8 random roll-outs of 4 s"
    assert figures["frames in which the guard acts", label].value == 1.0
    assert figures["highest root", label].value == pytest.approx(0.85)
    assert figures["diverged roll-outs", label].passed


def test_joints_are_matched_by_name(robot: Robot) -> None:
    shuffled = robot.joint_names[::-1]
    beyond = torch.zeros(robot.num_joints)
    knee = "left_knee_joint"
    beyond[shuffled.index(knee)] = float(robot.joint_upper[robot.joint_names.index(knee)]) + 0.5
    figures = evaluate(constant_checkpoint(robot, shuffled, dof_pos=beyond), robot)
    assert figures["joint limits exceeded", "all of the above"].value == pytest.approx(0.5, abs=1e-5)


def test_a_joint_that_the_robot_does_not_have_is_named(robot: Robot) -> None:
    checkpoint = constant_checkpoint(robot)
    checkpoint.joint_names = ("nose_joint", *robot.joint_names[1:])
    with pytest.raises(ValueError, match=robot.joint_names[0]):
        CheckpointEvaluation(checkpoint, robot)


def test_a_checkpoint_without_root_is_measured_by_its_stance_foot(robot: Robot) -> None:
    layout = StateLayout.joints_only(robot.num_joints)
    model = CMG(TINY, layout, 30.0).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.zero_()
    state = torch.cat((robot.default_dof_pos.float(), torch.zeros(robot.num_joints)))
    model.motion_mean.copy_(state)
    figures = evaluate(Checkpoint(model, robot.joint_names, state[None], torch.zeros(1, 3)), robot)
    assert figures["root drift", "stand 20 s"].value < 1e-3
    assert figures["root speed error", "vx 1.0"].value == pytest.approx(1.0, abs=1e-3)
    assert figures["lowest root", "8 random roll-outs of 4 s"].passed


def test_recorded_motion_stands_beside_and_widens_the_slip_limit(robot: Robot) -> None:
    mocap = {
        "clips": ["walk"],
        "joint_acceleration": dict.fromkeys(robot.joint_names, 2.0),
        "like": [{"command": [0.6, 0.0, 0.0], "seconds": 9.0, "held_out": True, "slip": 0.5}],
    }
    figures = evaluate(constant_checkpoint(robot, root_lin_vel_h=[0.6, 0.0, 0.0]), robot, mocap)
    slip = figures["foot slip", "vx 0.6"]
    assert (slip.mocap, slip.must, slip.passed) == (0.5, 0.75, True)
    assert figures["foot slip", "vx 1.0"].must == 0.2
    ratios = [measure for (name, _), measure in figures.items() if name.startswith("joint acceleration")]
    assert len(ratios) == 4
    assert all(measure.passed for measure in ratios)


def test_a_jerk_is_found_by_its_joint(robot: Robot) -> None:
    mocap = {"joint_acceleration": dict.fromkeys(robot.joint_names, 2.0)}
    acceleration = torch.zeros(10, robot.num_joints)
    acceleration[3, 7] = 5.0
    measure = acceleration_measure(acceleration, "a -> b", robot, mocap, 1.5)
    assert measure.value == 2.5
    assert measure.passed is False
    assert robot.joint_names[7] in measure.command
    still = {"joint_acceleration": dict.fromkeys(robot.joint_names, 0.0)}
    assert acceleration_measure(acceleration, "a -> b", robot, still, 1.5).value == 5.0


def test_requirements_of_the_table() -> None:
    assert [speed_tolerance((vx, 0, 0)) for vx in (-0.6, 0.0, 1.5, 2.0, 2.5, 3.0)] == [0.1, 0.1, 0.1, 0.15, 0.25, 0.4]
    assert speed_tolerance((0, -0.4, 0)) == speed_tolerance((0.6, 0, 1.0)) == 0.12
    assert yaw_tolerance((1.0, 0, 0)) is None
    assert yaw_tolerance((0, 0, 1.0)) == yaw_tolerance((0, 0.4, 0)) == 0.15
    assert [is_walk(command) for command in ((0, 0, 0), (1.5, 0, 0), (2.0, 0, 0), (0, 0, 1))] == [
        False,
        True,
        False,
        True,
    ]
    assert [slip_limit(slip) for slip in (None, 0.1, 0.2)] == pytest.approx([0.2, 0.2, 0.3])


def test_a_figure_that_cannot_be_measured_does_not_pass() -> None:
    assert Measure("x", "", float("nan"), "", 0.1).passed is False
    assert Measure("x", "", float("nan"), "", 0.1, at_least=True).passed is False
    assert Measure("x", "", 0.7, "", 0.6, at_least=True).passed is True
    assert Measure("x", "", 0.7, "").passed is None


def test_reports_say_the_same_thing(tmp_path: Any) -> None:
    evaluation = Evaluation("subject", {"fps": 50.0})
    evaluation.measures = [
        Measure("speed", "vx 1.0", 0.25, "m/s", 0.1, 0.05),
        Measure("steps", "vx 1.0", float("nan"), "Hz", 0.1),
        Measure("height", "stand", 0.7, "m", 0.6, at_least=True),
        Measure("note", "stand", 1.0, ""),
    ]
    evaluation.commanded, evaluation.reached = [[1.0, 0.0, 0.0]], [[0.75, 0.0, 0.0]]
    content = json.loads(json_text(evaluation))
    assert [row["passed"] for row in content["measures"]] == [False, False, True, None]
    assert content["measures"][1]["value"] is None
    for text in (markdown_text(evaluation), screen_text(evaluation)):
        assert "1 of 3 requirements met, 2 missed." in text
        assert "not measurable" in text
    assert "| speed | vx 1.0 | 0.250 | m/s | <= 0.100 | NO | 0.050 |" in markdown_text(evaluation)
    pytest.importorskip("matplotlib")
    files = save_report(evaluation, tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(path.name for path in files)
    assert {path.suffix for path in files} == {".json", ".md", ".png"}
