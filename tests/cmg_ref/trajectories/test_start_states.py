"""Motions begin in states that suit their commands, and stand in poses that a robot can hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.robots.robot import load_g1
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories.start_states import EnvironmentDraws, InitialStates, load_on_left_foot


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


@pytest.fixture(scope="module")
def states(checkpoint: Checkpoint) -> InitialStates:
    return InitialStates(checkpoint, Rollout(checkpoint.model), load_g1())


def test_load_of_known_poses(checkpoint: Checkpoint) -> None:
    robot, layout = load_g1(), checkpoint.layout
    poses = torch.zeros(4, layout.size)
    poses[:, layout["projected_gravity"]] = torch.tensor([0.0, 0.0, -1.0])
    poses[1, list(checkpoint.joint_names).index("left_hip_roll_joint")] = 0.8  # the left leg to the side
    poses[2, list(checkpoint.joint_names).index("right_hip_roll_joint")] = -0.8
    poses[3, layout["projected_gravity"]] = torch.tensor([0.0, 0.1, -(0.99**0.5)])  # leans to the left
    still = torch.zeros(4, 3)
    load = load_on_left_foot(replace(checkpoint, initial_states=poses, initial_commands=still), robot)
    assert float(load[0]) == pytest.approx(0.5, abs=0.01)
    assert float(load[1]) < 0.3
    assert float(load[1] + load[2]) == pytest.approx(1.0, abs=0.02)
    # The centre of mass is some 0.7 m above feet that are 0.24 m apart.
    assert float(load[3]) == pytest.approx(0.5 + 0.1 * 0.7 / 0.24, abs=0.1)
    massless = replace(robot, body_mass=torch.zeros_like(robot.body_mass))
    assert torch.equal(load_on_left_foot(checkpoint, massless), torch.full((len(checkpoint.initial_states),), 0.5))


def test_who_stands_loads_both_feet(checkpoint: Checkpoint, states: InitialStates) -> None:
    own = replace(checkpoint, initial_states=states.standing, initial_commands=torch.zeros(len(states.standing), 3))
    assert len(states.standing) >= 8
    assert float((load_on_left_foot(own, load_g1()) - 0.5).abs().max()) <= 0.05
    assert float((load_on_left_foot(checkpoint, load_g1()) - 0.5).abs().max()) > 0.3


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


@pytest.mark.parametrize("num", [1, 300])
def test_the_compiled_choice_is_that_of_torch(states: InitialStates, num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(num)
    wanted = 2.0 * torch.rand(num, 3, generator=random) - 1.0
    draw = torch.randint(1 << 32, (num,), generator=random)
    compiled = states.choose(wanted, draw)
    monkeypatch.setattr(states, "_numba", False)
    for here, there in zip(compiled, states.choose(wanted, draw)):
        assert torch.equal(here, there)


def test_draws_are_those_of_the_environment_alone() -> None:
    env_ids = torch.arange(5)
    draws = EnvironmentDraws(5, 0, 3, torch.device("cpu"))
    first, second = draws(env_ids), draws(env_ids)
    assert len(torch.cat((first, second)).unique()) == 10
    assert bool(((first >= 0) & (first < 1 << 32)).all())
    # The third and fourth environments, in a process of their own and one after the other.
    others = EnvironmentDraws(2, 2, 3, torch.device("cpu"))
    assert torch.equal(torch.cat([others(torch.tensor([i])) for i in (1, 0)]), first[[3, 2]])
    assert torch.equal(others(torch.tensor([0, 1])), second[2:4])
    assert not torch.equal(EnvironmentDraws(5, 0, 4, torch.device("cpu"))(env_ids), first)
