from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from envs.terms.observations import ObservationMirror, ObservationTerm

FLIP = torch.tensor([1.0, -1.0, 1.0])


def put_mirrored_pair(env: Any) -> None:
    """Put environment 0 into a state amid a movement and environment 1 into the same seen in a mirror."""
    random = torch.Generator().manual_seed(4)
    origin = env.env_origins[:2]
    tilt = torch.nn.functional.normalize(torch.tensor([0.05, -0.08, 0.3, 1.0]), dim=0)
    env.root_states[:2, :3] = origin + torch.tensor([[0.0, 0.0, 0.80]])
    env.root_states[0, 3:7] = tilt
    env.root_states[1, 3:7] = tilt * torch.tensor([-1.0, 1.0, -1.0, 1.0])
    linear, angular = torch.tensor([0.6, 0.2, -0.1]), torch.tensor([0.3, -0.4, 0.5])
    env.root_states[0, 7:10], env.root_states[1, 7:10] = linear, linear * FLIP
    env.root_states[0, 10:13], env.root_states[1, 10:13] = angular, -angular * FLIP
    dof_pos = env.default_dof_pos[0] + 0.2 * (torch.rand(env.num_dof, generator=random) - 0.5)
    dof_vel = torch.randn(env.num_dof, generator=random)
    for target, values in ((env.dof_pos, dof_pos), (env.dof_vel, dof_vel)):
        target[0], target[1] = values, env.mirror_actions(values)
    env._root_changed[:2] = env._dof_changed[:2] = True
    env._update_base_state(None)
    env.average_velocity = env._velocity_and_yaw_rate.clone()


def test_the_mirror_of_an_observation_is_the_observation_of_the_mirror(make: Callable[..., Any]) -> None:
    env = make("g1", 2, "domain_rand.push_robots=False")
    put_mirrored_pair(env)
    env._command_buffer.show(torch.tensor([[0.5, 0.2, -0.7], [0.5, -0.2, 0.7]]))
    actions = torch.randn(29, generator=torch.Generator().manual_seed(1))
    env.actions = torch.stack((actions, env.mirror_actions(actions)))
    env.feet.contact = torch.tensor([[True, False], [False, True]])
    env.compute_observations()
    for group, values in env.observation_groups().items():
        mirrored = env.mirror_observations(values, group)
        torch.testing.assert_close(mirrored[0], values[1], atol=1e-5, rtol=0.0)
        assert (values[0] - values[1]).abs().max() > 0.1
        torch.testing.assert_close(env.mirror_observations(mirrored, group), values)


def test_mirrored_actions_do_the_mirrored_thing_in_the_simulator(make: Callable[..., Any]) -> None:
    env = make("g1", 2)
    put_mirrored_pair(env)
    random = torch.Generator().manual_seed(2)
    env.command_source.targets[:] = 0.0
    for _ in range(3):
        actions = 0.5 * torch.randn(29, generator=random)
        env.step(torch.stack((actions, env.mirror_actions(actions))))
    mirrored = env.mirror_actions(env.dof_pos[0])
    # The two sides of the robot differ by fractions of a millimetre, and contacts make that grow.
    torch.testing.assert_close(mirrored, env.dof_pos[1], atol=0.03, rtol=0.0)
    assert (env.dof_pos[0] - env.dof_pos[1]).abs().max() > 0.1
    torch.testing.assert_close(env.base_lin_vel_h[0] * FLIP, env.base_lin_vel_h[1], atol=0.05, rtol=0.0)


def test_the_layout_says_what_is_where(make: Callable[..., Any]) -> None:
    env = make("g1", 2)
    env.reset()
    env.dof_vel[:] = torch.arange(29.0)
    env.compute_observations()
    for group, values in env.observation_groups().items():
        layout = env.observation_layout[group]
        assert sum(term.size for term in layout) == values.shape[1]
        start = 0
        for term in layout:
            columns = values[:, start : start + term.size]
            start += term.size
            if term.name == "dof_vel":
                torch.testing.assert_close(columns, 0.05 * env.dof_vel)
            if term.name == "commands":
                torch.testing.assert_close(columns, env.commands)


def test_noise_is_for_the_actor_and_within_its_bounds(make: Callable[..., Any]) -> None:
    env = make("g1", 64, "noise.add_noise=True")
    env.reset()
    noise = env.obs_buf - env.privileged_obs_buf[:, : env.num_obs]
    start = 0
    for term in env.observation_layout["policy"]:
        columns = noise[:, start : start + term.size].abs()
        start += term.size
        bound = term.noise * term.scale
        assert columns.max() <= bound + 1e-5
        assert bound == 0.0 or columns.max() > 0.8 * bound
    calm = make("g1", 2)
    torch.testing.assert_close(calm.obs_buf, calm.privileged_obs_buf[:, : calm.num_obs], rtol=0.0, atol=0.0)


def test_history_holds_the_last_observations_and_begins_anew(make: Callable[..., Any]) -> None:
    env = make("g1", 3, "env.history_length=3")
    size = env.num_obs // 3
    first = env.reset()[0].view(3, 3, size)
    torch.testing.assert_close(first[:, 0], first[:, 2])
    second = env.step(torch.zeros(3, 29))[0].view(3, 3, size)
    torch.testing.assert_close(second[:, 1], first[:, 2])
    assert (second[:, 2] != first[:, 2]).any()
    env.reset_idx(torch.tensor([1]))
    env.compute_observations()
    third = env.obs_buf.view(3, 3, size)
    torch.testing.assert_close(third[1, 0], third[1, 2])
    torch.testing.assert_close(third[0, 1], second[0, 2])
    # Each of the three is mirrored by itself.
    mirrored = env.mirror_observations(env.obs_buf, "policy").view(3, 3, size)
    single = make("g1", 1)
    torch.testing.assert_close(mirrored[:, 1], single.mirror_observations(third[:, 1], "policy"))


def test_a_term_that_does_not_fit_its_mirror_is_refused() -> None:
    joints = (torch.tensor([1, 0]), torch.tensor([1.0, -1.0]))
    mirror = ObservationMirror(
        [ObservationTerm("window", 4, 1.0, "joints"), ObservationTerm("v", 3, 1.0, "polar")], *joints
    )
    mirrored = mirror(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]))
    assert mirrored.tolist() == [2.0, -1.0, 4.0, -3.0, 5.0, -6.0, 7.0]
    with pytest.raises(ValueError, match="'base': 4 columns cannot be mirrored as polar"):
        ObservationMirror([ObservationTerm("base", 4, 1.0, "polar")], *joints)


def test_a_critic_may_know_how_robots_differ(make: Callable[..., Any]) -> None:
    known = {"friction": 1, "payload": 1, "strength": 1, "delay": 1, "ang_vel_bias": 3, "gravity_bias": 3}
    privileged = f"observations.privileged={(*known, 'undisturbed')!r}"
    switches = [f"domain_rand.randomize_{name}=True" for name in ("imu", "strength")]
    env = make("g1", 6, privileged, *switches, "domain_rand.undisturbed_share=0.5", calm=False)
    env.change_robots(torch.tensor([2]), delay=torch.tensor([[0.03]]), added_mass=torch.tensor([4.0]))
    env.reset()
    values = env.privileged_obs_buf[:, env.num_obs :].split([*known.values(), 1], dim=1)
    seen = dict(zip((*known, "undisturbed"), values, strict=True))
    robots = env.randomisation
    torch.testing.assert_close(seen["friction"].squeeze(1), robots.friction)
    torch.testing.assert_close(seen["strength"], robots.strength)
    torch.testing.assert_close(seen["ang_vel_bias"], 0.25 * robots.ang_vel_bias)
    torch.testing.assert_close(seen["gravity_bias"], robots.gravity_bias)
    assert seen["delay"][2].item() == pytest.approx(1.5)  # steps of 20 ms
    # All that the base carries, and what the links do.
    torch.testing.assert_close(seen["payload"].squeeze(1), robots.added_mass + robots.payload.sum(dim=1))
    assert seen["payload"][2].item() == pytest.approx(4.0)
    assert set(seen["undisturbed"].flatten().tolist()) == {0.0, 1.0}
    # In a mirror sensors are off to the other side, and nothing else is.
    mirrored = env.mirror_observations(env.privileged_obs_buf, "critic")[:, env.num_obs :]
    changed = (mirrored != env.privileged_obs_buf[:, env.num_obs :]).any(dim=0)
    assert changed.nonzero().flatten().tolist() == [4, 6, 8]  # roll and yaw rate, gravity to the side
