"""Motions begin in states that suit their commands, and stand in poses that a robot can hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cmg_ref.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.initial_states import InitialStates, balance_offset
from cmg_ref.robot import load_g1
from cmg_ref.rollout import Rollout


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


@pytest.fixture(scope="module")
def states(checkpoint: Checkpoint) -> InitialStates:
    return InitialStates(checkpoint, Rollout(checkpoint.model), load_g1())


def test_balance_of_known_poses(checkpoint: Checkpoint) -> None:
    robot, layout = load_g1(), checkpoint.layout
    upright = torch.zeros(3, layout.size)
    upright[:, layout["projected_gravity"]] = torch.tensor([0.0, 0.0, -1.0])
    roll = list(checkpoint.joint_names).index("left_hip_roll_joint")
    upright[1, roll] = 0.8  # the left leg to the side takes the middle between the feet with it
    upright[2, layout["projected_gravity"]] = torch.tensor([0.5, 0.0, -(0.75**0.5)])
    still = torch.zeros(3, 3)
    offset = balance_offset(replace(checkpoint, initial_states=upright, initial_commands=still), robot)
    assert 0.0 < float(offset[0]) < 0.05
    assert float(offset[1]) > 0.15
    assert float(offset[2]) > 0.3  # tilted by 30 degrees, with the centre of mass 0.7 m above the feet


def test_who_stands_is_balanced(checkpoint: Checkpoint, states: InitialStates) -> None:
    own = replace(checkpoint, initial_states=states.standing, initial_commands=torch.zeros(len(states.standing), 3))
    assert len(states.standing) >= 16
    assert float(balance_offset(own, load_g1()).max()) < 0.07
    assert float(balance_offset(checkpoint, load_g1()).max()) > 0.2  # others are in the middle of a step


def test_the_command_to_stand_chooses_among_all_that_stand(checkpoint: Checkpoint, states: InitialStates) -> None:
    chosen, commands, _ = states.choose(torch.zeros(200, 3), torch.arange(200))
    assert len(chosen.unique(dim=0)) == len(states.standing.unique(dim=0))
    assert bool((chosen[:, checkpoint.layout["dof_vel"]].abs() < 0.01).all())
    assert float(commands.abs().max()) < 0.01


def test_other_commands_choose_what_did_nearly_that(states: InitialStates) -> None:
    wanted = torch.tensor([[1.0, 0.0, 0.0], [-0.4, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.8]]).repeat(8, 1)
    chosen, commands, following = states.choose(wanted, torch.arange(32))
    assert float((commands - wanted).abs().max()) < 0.3
    assert not torch.equal(chosen, following)
