"""Joints driven from outside are shown everywhere, and touch nothing of what is generated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.reference_motion_term import ReferenceMotionTerm, ReferenceMotionTermCfg
from cmg_ref.robots.robot import load_g1
from cmg_ref.trajectories.pool import TrajectoryPoolCfg

MODES = ("pool", "pregenerated", "realtime")
NUM_ENVS = 4
JOINTS = load_g1().joint_names
ARMS = tuple(name for name in JOINTS if any(part in name for part in ("shoulder", "elbow", "wrist")))
ARM_COLUMNS = [JOINTS.index(name) for name in ARMS]
OTHER_COLUMNS = [column for column in range(len(JOINTS)) if column not in ARM_COLUMNS]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


@pytest.fixture(params=MODES)
def make(request: Any, checkpoint: Checkpoint) -> Callable[[], ReferenceMotionTerm]:
    def make_term() -> ReferenceMotionTerm:
        cfg = ReferenceMotionTermCfg(
            checkpoint=checkpoint,
            mode=request.param,
            preload_duration=120,
            latest_start=1.0,
            future_steps=(1, 5),
            future_joint_steps=(2, 8),
            pool=TrajectoryPoolCfg(num_trajectories=8),
        )
        term = ReferenceMotionTerm(cfg, NUM_ENVS, 0.02, JOINTS)
        term.reset()
        return term

    return make_term


def everything(term: ReferenceMotionTerm) -> dict[str, torch.Tensor]:
    """All that is read of a term, each (num_envs, num_steps, ...)."""
    window = term.future((0, 1, 5))
    shown = {name: value.clone() for name, value in vars(window).items()}
    shown.update({f"{name} at 3": value.clone() for name, value in vars(term.future((3,))).items()})
    shown["joints ahead"] = term.future_dof_pos.clone()
    shown["key bodies"] = term.key_body_pos_b.unsqueeze(1).clone()
    shown["generator"] = torch.stack(term.generator.get_motion(), dim=1).clone()
    shown["frames"] = term.generator.get_frames().dof_pos.unsqueeze(1).clone()
    return shown


def test_driven_arms_are_shown_and_nothing_else_changes(make: Callable[[], ReferenceMotionTerm]) -> None:
    driven, free = make(), make()
    angles, speeds = torch.full((NUM_ENVS, len(ARMS)), 0.3), torch.full((NUM_ENVS, len(ARMS)), -0.7)
    for _ in range(40):
        driven.override(ARMS, angles, speeds)
        driven.step()
        free.step()
    shown, generated = everything(driven), everything(free)
    for name in ("dof_pos", "dof_pos at 3", "joints ahead", "frames"):
        assert torch.equal(shown[name][..., ARM_COLUMNS], torch.full_like(shown[name][..., ARM_COLUMNS], 0.3)), name
        assert torch.equal(shown[name][..., OTHER_COLUMNS], generated[name][..., OTHER_COLUMNS]), name
    for name in ("dof_vel", "dof_vel at 3"):
        assert torch.equal(shown[name][..., ARM_COLUMNS], torch.full_like(shown[name][..., ARM_COLUMNS], -0.7)), name
        assert torch.equal(shown[name][..., OTHER_COLUMNS], generated[name][..., OTHER_COLUMNS]), name
    for name in ("root_pos_w", "root_quat_w", "root_lin_vel_w", "root_ang_vel_w"):
        assert torch.equal(shown[name], generated[name]), name
    # Hands and elbows are where the driven joints put them, feet where the generated ones do.
    assert torch.allclose(shown["key bodies"][:, 0], driven.key_body_positions(shown["dof_pos"][:, 0]))
    moved = (shown["key bodies"] - generated["key bodies"]).norm(dim=-1).amax(dim=(0, 1))
    for body, distance in zip(driven.key_bodies, moved.tolist()):
        assert (distance > 0.01) == ("elbow" in body or "wrist" in body), body


def test_released_joints_are_generated_again_as_if_never_driven(make: Callable[[], ReferenceMotionTerm]) -> None:
    driven, free = make(), make()
    driven.override(ARMS, torch.zeros(NUM_ENVS, len(ARMS)))
    for _ in range(20):
        driven.step()
        free.step()
    driven.release()
    shown, generated = everything(driven), everything(free)
    assert all(torch.equal(shown[name], generated[name]) for name in shown)


def test_environments_are_driven_and_released_one_by_one(make: Callable[[], ReferenceMotionTerm]) -> None:
    term, free = make(), make()
    term.override(ARMS[:2], torch.tensor([[0.1, 0.2]]), env_ids=[1])
    term.override(ARMS[1:2], np.array([[0.5], [0.6]]), env_ids=torch.tensor([False, True, True, False]))
    columns = ARM_COLUMNS[:2]
    assert term.dof_pos[1, columns].tolist() == pytest.approx([0.1, 0.5])
    assert float(term.dof_pos[2, columns[1]]) == pytest.approx(0.6)
    assert torch.equal(term.dof_pos[[0, 3]], free.dof_pos[[0, 3]])
    assert term.initial_state([1])[0][0, columns].tolist() == pytest.approx([0.1, 0.5])
    term.release([1])
    assert torch.equal(term.dof_pos[[0, 1, 3]], free.dof_pos[[0, 1, 3]])
    assert float(term.dof_pos[2, columns[1]]) == pytest.approx(0.6)


def test_a_reset_leaves_joints_driven(make: Callable[[], ReferenceMotionTerm]) -> None:
    term = make()
    term.override(ARMS, torch.zeros(NUM_ENVS, len(ARMS)))
    term.reset([0, 2])
    assert float(term.dof_pos[:, ARM_COLUMNS].abs().max()) == 0.0


def test_angles_are_held_inside_the_limits(checkpoint: Checkpoint) -> None:
    generator = CMGMotionGenerator(checkpoint, num_envs=2)
    generator.override(["left_elbow_joint"], torch.tensor([[9.0], [-9.0]]))
    shown = generator.get_motion()[0][:, JOINTS.index("left_elbow_joint")]
    robot = load_g1()
    limit = robot.joint_index(["left_elbow_joint"])
    assert shown.tolist() == pytest.approx([float(robot.joint_upper[limit]), float(robot.joint_lower[limit])])


def test_joints_in_an_order_of_ones_own_are_driven_by_name(checkpoint: Checkpoint) -> None:
    order = tuple(reversed(JOINTS))
    generator = CMGMotionGenerator(checkpoint, num_envs=1, joint_names=order)
    generator.override(["waist_yaw_joint"], [[0.25]])
    assert float(generator.get_motion()[0][0, order.index("waist_yaw_joint")]) == 0.25


@pytest.mark.parametrize(
    ("names", "positions", "message"),
    [
        (["left_tail_joint"], [[0.0]], "there is no joint 'left_tail_joint'"),
        (["left_knee_joint"], [[0.0]], "'left_knee_joint' carries a foot"),
        (["waist_yaw_joint"] * 2, [[0.0, 0.0]], "named twice"),
        (["waist_yaw_joint"], [[0.0, 0.0]], r"positions must have shape \(1, 1\)"),
        (["waist_yaw_joint"], [[float("nan")]], "positions holds NaN"),
    ],
)
def test_what_cannot_be_driven_is_refused(
    checkpoint: Checkpoint, names: list[str], positions: list[list[float]], message: str
) -> None:
    generator = CMGMotionGenerator(checkpoint, num_envs=1)
    before = generator.get_motion()[0].clone()
    with pytest.raises(ValueError, match=message):
        generator.override(names, positions)
    assert torch.equal(generator.get_motion()[0], before)


def test_unused_it_costs_no_copy(checkpoint: Checkpoint) -> None:
    generator = CMGMotionGenerator(checkpoint, num_envs=2)
    assert generator.get_motion()[0].data_ptr() == generator.get_motion()[0].data_ptr()
    generator.override(["waist_yaw_joint"], [[0.2], [0.2]])
    driven = generator.get_motion()[0]
    generator.release()
    assert driven.data_ptr() != generator.get_motion()[0].data_ptr()
    assert generator.get_motion()[0].data_ptr() == generator.get_motion()[0].data_ptr()
