"""Motions begin in states that suit their commands, and stand in poses that a robot can hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY
from cmg_ref.core.rotations import quat_from_gravity_and_yaw
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.robots.kinematics import FootKinematics
from cmg_ref.robots.robot import load_g1
from cmg_ref.robots.self_contact import SelfContact
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


def test_the_neutral_stance_is_even_and_the_network_keeps_it(checkpoint: Checkpoint) -> None:
    robot, layout, standing = load_g1(), checkpoint.layout, checkpoint.standing_state()
    parts = layout.split(standing)
    dof_pos = parts["dof_pos"]
    assert torch.equal(robot.mirrored(dof_pos), dof_pos)
    assert float(parts["dof_vel"].abs().max()) == float(parts["root_lin_vel_h"].abs().max()) == 0.0
    gravity, height = parts["projected_gravity"], parts["root_height"]
    turn = quat_from_gravity_and_yaw(gravity, torch.zeros(()))
    feet = FootKinematics(robot)(dof_pos, torch.cat((torch.zeros(2), height)), turn)
    assert float(feet[..., 2].min()) == pytest.approx(robot.foot_radius, abs=1e-5)
    left, right = feet.mean(dim=1)
    assert float((left - right)[0].abs()) < 1e-5 and 0.15 < float((left - right)[1]) < 0.35
    own = replace(checkpoint, initial_states=standing[None], initial_commands=torch.zeros(1, 3))
    assert float(load_on_left_foot(own, robot)) == pytest.approx(0.5, abs=0.005)
    assert float(SelfContact(robot).depth(dof_pos)) < 0.0
    kept = Rollout(checkpoint.model).generate(standing[None], torch.zeros(1, 500, 3))
    assert torch.equal(kept[0, -1], standing)


def test_who_stands_loads_both_feet(checkpoint: Checkpoint, states: InitialStates) -> None:
    assert torch.equal(states.standing, checkpoint.standing_state().expand_as(states.standing))
    as_it_comes = InitialStates(checkpoint, Rollout(checkpoint.model), load_g1(), "as_it_comes").standing
    assert len(as_it_comes) == len(states.standing) >= 8
    assert len(as_it_comes.unique(dim=0)) >= 8
    own = replace(checkpoint, initial_states=as_it_comes, initial_commands=torch.zeros(len(as_it_comes), 3))
    assert float((load_on_left_foot(own, load_g1()) - 0.5).abs().max()) <= 0.05
    assert float((load_on_left_foot(checkpoint, load_g1()) - 0.5).abs().max()) > 0.3


@pytest.mark.parametrize("mode", ["realtime", "pregenerated"])
@pytest.mark.parametrize("stand", ["neutral", "as_it_comes"])
def test_a_generator_stands_as_it_is_told(checkpoint: Checkpoint, mode: str, stand: str) -> None:
    generator = CMGMotionGenerator(checkpoint, num_envs=16, mode=mode, preload_duration=60, buffer_size=16, stand=stand)
    generator.reset(commands=torch.zeros(16, 3))
    neutral = checkpoint.layout.split(checkpoint.standing_state())["dof_pos"]
    for _ in range(50):
        generator.advance()
    off = (generator.get_motion()[0] - neutral).abs().amax(dim=1)
    assert bool((off == 0.0).all()) == (stand == "neutral")


def test_an_unknown_way_to_stand_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match=r"stand must be one of .* got 'proudly'"):
        CMGMotionGenerator(checkpoint, num_envs=1, stand="proudly")


def test_the_command_to_stand_chooses_among_all_that_stand(checkpoint: Checkpoint, states: InitialStates) -> None:
    chosen, commands, _ = states.choose(checkpoint.command_layout.rest(200), torch.arange(200))
    assert len(chosen.unique(dim=0)) == len(states.standing.unique(dim=0))
    assert bool((chosen[:, checkpoint.layout["dof_vel"]].abs() < 0.01).all())
    assert torch.equal(commands, checkpoint.command_layout.rest(200))


def test_other_commands_choose_what_did_nearly_that(checkpoint: Checkpoint, states: InitialStates) -> None:
    wanted = torch.tensor([[1.0, 0.0, 0.0], [-0.4, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.8]]).repeat(8, 1)
    wanted = checkpoint.command_layout.complete(wanted)
    chosen, commands, following = states.choose(wanted, torch.arange(32))
    assert float(((commands - wanted) * states.scale)[:, VELOCITY].abs().max()) < 0.35
    assert bool(((commands - wanted)[:, NUM_VELOCITIES:].abs() < 0.05).all())
    assert not torch.equal(chosen, following)


@pytest.mark.parametrize("num", [1, 300])
def test_the_compiled_choice_is_that_of_torch(
    checkpoint: Checkpoint, states: InitialStates, num: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(num)
    wanted = checkpoint.command_layout.complete(2.0 * torch.rand(num, 3, generator=random) - 1.0)
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
