"""Motions that are told to stand, at the height that is asked for."""

from __future__ import annotations

import pytest
import torch

from cmg_ref.core.command_layout import HEIGHT
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.robots.kinematics import FootKinematics
from cmg_ref.rollout.clip_generation import smooth_commands
from cmg_ref.rollout.rollout import Rollout, integrate_root

NATURAL = 0.75  # what asks for it
HEIGHTS = (0.56, 0.60, 0.65, 0.70, 0.73)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def soles(checkpoint: Checkpoint, states: torch.Tensor) -> torch.Tensor:
    """Sole points of motions (num_motions, num_frames, state_dim) in the world, (..., 2, num_points, 3)."""
    robot = checkpoint.robot()
    root_pos, root_quat = integrate_root(states, checkpoint.layout, checkpoint.fps)
    dof_pos = torch.zeros(*states.shape[:2], robot.num_joints)
    dof_pos[..., robot.joint_index(list(checkpoint.joint_names))] = states[..., checkpoint.layout["dof_pos"]]
    points = FootKinematics(robot)(*(values.flatten(0, 1) for values in (dof_pos, root_pos, root_quat)))
    points = points.unflatten(0, states.shape[:2])
    return points - points.new_tensor([0.0, 0.0, robot.foot_radius])


def commands_to_stand(checkpoint: Checkpoint, heights: tuple[float, ...], frames: int) -> torch.Tensor:
    commands = checkpoint.command_layout.rest(len(heights))
    commands[:, checkpoint.command_layout.column(HEIGHT)] = torch.tensor(heights)
    return commands.unsqueeze(1).repeat(1, frames, 1)


def test_stances_differ_by_the_height_of_the_body_alone(checkpoint: Checkpoint) -> None:
    stances, layout = checkpoint.stances(), checkpoint.layout
    assert torch.equal(stances[-1], checkpoint.standing_state())
    heights = stances[:, layout["root_height"]].squeeze(1)
    assert float(heights[0]) < 0.56 < 0.78 < float(heights[-1])
    torch.testing.assert_close(heights.diff(), torch.full_like(heights[1:], 0.005), atol=1e-5, rtol=0.0)
    points = soles(checkpoint, stances.unsqueeze(1)).squeeze(1)  # (num_stances, 2, num_points, 3)
    assert float(points[..., 2].amin(dim=(1, 2)).abs().max()) < 0.005 and float(points[..., 2].max()) < 0.02
    # The root has moved back over the feet, and both sides are alike.
    assert float((points[..., 1] - points[-1, ..., 1]).abs().max()) < 0.005
    assert float((points[:, 0] - points[:, 1])[..., 0].mean(dim=1).abs().max()) < 0.001
    assert (stances[:, layout["dof_pos"]].diff(dim=0).abs() < 0.12).all()
    assert ((stances >= checkpoint.model.state_min) & (stances <= checkpoint.model.state_max)).all()


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_who_is_told_a_height_stands_there_and_keeps_it(checkpoint: Checkpoint, backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    stances, layout = checkpoint.stances(), checkpoint.layout
    rollout = Rollout(checkpoint.model, backend=backend, stance=stances)
    for start in (stances[-1], stances[0]):
        commands = commands_to_stand(checkpoint, (*HEIGHTS, NATURAL), 1500)
        states = rollout.generate(start.expand(len(commands), -1), commands)
        reached = states[:, 200, layout["root_height"]].squeeze(1)
        torch.testing.assert_close(reached[:4], torch.tensor(HEIGHTS[:4]), atol=0.003, rtol=0.0)
        assert 0.729 < float(reached[4]) < float(reached[5]) == pytest.approx(float(stances[-1, layout["root_height"]]))
        torch.testing.assert_close(states[:, -1], states[:, 250], atol=2e-3, rtol=0.0)
        assert float(states[:, -1, layout["dof_vel"]].abs().max()) < 0.01


def test_feet_stay_on_the_floor_where_the_height_changes(checkpoint: Checkpoint) -> None:
    stances = checkpoint.stances()
    commands = commands_to_stand(checkpoint, HEIGHTS, 500)
    commands[:, :50, 3] = commands[:, 250:, 3] = NATURAL
    states = Rollout(checkpoint.model, stance=stances).generate(
        stances[-1].expand(len(commands), -1), smooth_commands(commands, 25, checkpoint.command_layout)
    )
    lowest = soles(checkpoint, states)[..., 2].amin(dim=(-1, -2))
    assert float(lowest.min()) > -0.03 and float(lowest.max()) < 0.02
    places = soles(checkpoint, states)[:, -1, ..., :2].mean(dim=(1, 2))
    began = soles(checkpoint, states)[:, 0, ..., :2].mean(dim=(1, 2))
    assert float((places - began).norm(dim=1).max()) < 0.06


def test_a_height_is_reached_from_walking_too(checkpoint: Checkpoint) -> None:
    stances, layout = checkpoint.stances(), checkpoint.layout
    commands = commands_to_stand(checkpoint, HEIGHTS[:4], 400)
    commands[:, :200, 0] = 0.6
    states = Rollout(checkpoint.model, stance=stances).generate(
        stances[-1].expand(len(commands), -1), smooth_commands(commands, 25, checkpoint.command_layout)
    )
    assert float((states[:, 310, layout["root_height"]].squeeze(1) - torch.tensor(HEIGHTS[:4])).abs().max()) < 0.01
    feet = soles(checkpoint, states[:, -1:]).squeeze(1).mean(dim=2)
    assert float((feet[:, 0, 0] - feet[:, 1, 0]).abs().max()) < 0.01  # side by side


def test_others_are_as_without_heights(checkpoint: Checkpoint) -> None:
    commands = commands_to_stand(checkpoint, (NATURAL, NATURAL, NATURAL, 0.6), 150)
    commands[1, :60, 0], commands[2:, :, 0] = 1.0, 0.5
    one, several = (
        Rollout(checkpoint.model, stance=stance).generate(checkpoint.initial_states[:4], commands)
        for stance in (checkpoint.standing_state(), checkpoint.stances())
    )
    assert torch.equal(one[2:], several[2:])
    torch.testing.assert_close(one[:2, -1], several[:2, -1], atol=1e-3, rtol=0.0)


def test_a_height_that_is_no_number_stays_so_and_alone(checkpoint: Checkpoint) -> None:
    states = checkpoint.stances()[-3:].clone()
    commands = commands_to_stand(checkpoint, (0.6, 0.6, 0.6), 1)[:, 0]
    for backend in ("torch", "auto"):
        rollout = Rollout(checkpoint.model, backend=backend, stance=checkpoint.stances())
        expected = rollout.advance(states, commands)
        broken = states.clone()
        broken[1, checkpoint.layout["root_height"]] = float("nan")
        following = rollout.advance(broken, commands)
        assert following[1].isnan().any() and torch.equal(following[::2], expected[::2])
