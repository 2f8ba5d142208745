"""Commands and environments named from outside: written as users of legged_gym do, observed at once, or refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

TASKS = ("g1", "g1_cmg")
STANDING = ("commands.strata={'stand': 1.0}", "commands.resampling_time=(100.0, 100.0)")
# However they lie, robots go on.
UNENDING = ("termination.base_height=-10.0", "termination.tilt=3.1")


def no_actions(env: Any) -> torch.Tensor:
    return torch.zeros(env.num_envs, env.num_actions)


@pytest.fixture(scope="module", params=TASKS)
def env(request: pytest.FixtureRequest, make: Callable[..., Any]) -> Any:
    own = ("reference.start=standing", "termination.reference_tilt=None") if request.param == "g1_cmg" else ()
    return make(request.param, 3, *STANDING, *UNENDING, *own)


@pytest.mark.parametrize("inference", [False, True])
def test_commands_written_before_each_step_are_obeyed(env: Any, inference: bool) -> None:
    env.reset()
    with torch.inference_mode(inference):
        for step in range(30):
            env.commands[:2, 0] = 0.8
            env.step(no_actions(env))
            if step == 5:
                assert bool(((env.commands[:2, 0] > 0.0) & (env.commands[:2, 0] < 0.8)).all())  # on the way
    torch.testing.assert_close(env.commands, torch.tensor([[0.8, 0.0, 0.0], [0.8, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    if hasattr(env, "term"):
        torch.testing.assert_close(env.term.target_commands, env.commands)


def test_what_is_written_once_stays_until_the_reset(env: Any) -> None:
    env.reset()
    env.set_commands([[0.0, 0.2, 0.0]], [1])
    env.commands[1, 2] += 0.4  # the sideways command is on its way still and goes on
    for _ in range(30):
        env.step(no_actions(env))
    torch.testing.assert_close(env.commands[1], torch.tensor([0.0, 0.2, 0.4]))
    env.reset_idx([1])
    for _ in range(3):
        env.step(no_actions(env))
    assert float(env.commands.abs().max()) == 0.0


def test_a_tensor_put_in_place_of_the_commands_is_obeyed(env: Any) -> None:
    env.reset()
    own = env.commands
    env.commands = torch.tensor([[0.3, 0.0, 0.0]] * 3, dtype=torch.float64)
    for _ in range(30):
        env.step(no_actions(env))
    assert env.commands is own
    torch.testing.assert_close(own, torch.tensor([[0.3, 0.0, 0.0]] * 3))


def test_commands_that_are_no_numbers_are_named_at_the_next_step(env: Any) -> None:
    env.reset()
    env.commands[1, 0] = float("nan")
    with pytest.raises(ValueError, match="commands holds NaN or infinite values, first in row 1"):
        env.step(no_actions(env))
    env.commands[1, 0] = 0.0
    env.step(no_actions(env))


def test_observations_follow_a_command_at_once(env: Any) -> None:
    env.reset()
    env.step(no_actions(env))
    before, steps = env.get_observations().clone(), env.episode_length_buf.clone()
    random = env.generator.get_state()
    assert env.get_observations() is env.obs_buf and torch.equal(env.obs_buf, before)
    env.set_commands([[0.9, 0.0, 0.0]], [0])
    if env.cfg.env.history_length == 1:
        assert torch.equal(env.get_observations()[1:], before[1:])
    if hasattr(env, "term"):  # The coming frame of the reference is another already.
        assert not torch.equal(env.get_observations()[0], before[0])
        env.commands[1, 0] = 0.9
        assert not torch.equal(env.observation_groups()["policy"][1], before[1])
        assert torch.equal(env.get_observations()[2], before[2])
    assert torch.equal(env.episode_length_buf, steps) and torch.equal(env.generator.get_state(), random)


def test_observing_anew_keeps_noise_and_history(make: Callable[..., Any]) -> None:
    env = make("g1_cmg", 2, *STANDING, "env.history_length=3", "noise.add_noise=true", "reference.start=standing")
    for _ in range(4):
        env.step(no_actions(env))
    before, size = env.get_observations().clone(), env.num_obs // 3
    env.set_commands([[0.9, 0.0, 0.0]], [0])
    now = env.get_observations()
    assert torch.equal(now[1], before[1])
    assert torch.equal(now[0, : 2 * size], before[0, : 2 * size]) and not torch.equal(now[0], before[0])
    env.step(no_actions(env))
    assert torch.equal(env.get_observations()[0, size : 2 * size], now[0, 2 * size :])


def test_a_play_acts_on_observations_of_the_command_it_gave(make: Callable[..., Any]) -> None:
    from configs.base_config import apply_overrides
    from envs.playing.playback import play, playback_config
    from envs.tasks.task_registry import task_registry

    cfg, _ = task_registry.get_cfgs("g1_cmg")
    apply_overrides(cfg, ("reference.mode=realtime",))
    env: Any = task_registry.make_env("g1_cmg", env_cfg=playback_config(cfg, 1.0))[0]
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def policy(observations: torch.Tensor) -> torch.Tensor:
        coming = env.term.future((1,)).dof_pos[0, 0] - env.default_dof_pos[0]
        seen.append((coming, env._observe_reference_dof_pos()[0]))
        own = observations.clone()
        env._observe_now()
        torch.testing.assert_close(own, env.obs_buf)
        return no_actions(env)

    stand, walk = torch.zeros(3), torch.tensor([0.8, 0.0, 0.0])
    play(env, policy, iter([stand] * 5 + [walk] * 5 + [stand] * 5))
    assert len(seen) == 15
    for coming, observed in seen:
        torch.testing.assert_close(coming, observed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda env: env.reset_idx([3]), "env_ids must lie in 0 to 2, got 3"),
        (lambda env: env.reset_idx([-1]), "env_ids must lie in 0 to 2, got -1"),
        (lambda env: env.reset_idx([1, 1]), "env_ids holds 1 more than once"),
        (lambda env: env.reset_idx([1.7]), "env_ids must be whole numbers"),
        (lambda env: env.reset_idx([True, False]), "env_ids: a mask must have 3 entries"),
        (lambda env: env.set_commands([[0.0, 0.0]], [1]), r"commands must have shape \(1, 3\)"),
        (lambda env: env.set_commands([[0.0, 0.0, float("inf")]], [1]), "commands holds NaN or infinite"),
        (lambda env: env.push([5], [[0.1, 0.0]]), "env_ids must lie in"),
        (lambda env: env.push([1], [[0.1]]), r"velocity must have shape \(1, 2\)"),
        (lambda env: env.push([1], [[float("nan"), 0.0]]), "velocity holds NaN"),
        (lambda env: env.step("stand"), "actions must be a tensor, an array or a list"),
    ],
)
def test_what_does_not_fit_is_named(env: Any, call: Callable[[Any], object], message: str) -> None:
    env.reset()
    before = env.root_states.clone()
    with pytest.raises(ValueError, match=message):
        call(env)
    assert torch.equal(env.root_states, before)


def test_masks_and_arrays_name_environments(env: Any) -> None:
    env.reset()
    for _ in range(3):
        env.step(no_actions(env))
    env.reset_idx(torch.tensor([0, 0, 1], dtype=torch.uint8))
    assert env.episode_length_buf.tolist() == [3, 3, 0]
    env.reset_idx(np.array([True, False, False]))
    assert env.episode_length_buf.tolist() == [0, 3, 0]


def test_gradients_of_actions_end_in_the_environment(env: Any) -> None:
    env.reset()
    actions = no_actions(env).requires_grad_()
    for _ in range(2):
        observations, _, rewards, _, _ = env.step(2.0 * actions)
        assert not observations.requires_grad and not rewards.requires_grad
    env.step(np.zeros((env.num_envs, env.num_actions)))
    assert env.actions.dtype == torch.float32


def test_an_environment_goes_on_outside_of_inference_mode(env: Any) -> None:
    with torch.inference_mode():
        env.reset()
        env.step(no_actions(env))
    env.step(no_actions(env))
    env.reset_idx([0])
    env.reset()


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copies_of_an_environment_are_refused_in_one_line(env: Any, make_copy: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="cannot be copied or pickled: make another and load its state_dict"):
        make_copy(env)


@pytest.mark.parametrize("task", TASKS)
def test_environments_that_the_machine_does_not_hold_are_refused_at_once(
    task: str, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmg_ref.trajectories.memory.available_bytes", lambda device: 10**9)
    with pytest.raises(MemoryError, match=r"^env\.num_envs=1000000: environments take [0-9,]+ MB at least"):
        make(task, 10**6)
    for wrong in (0, 10**9):
        with pytest.raises(ValueError, match=rf"env\.num_envs: must be from 1 to .*, got {wrong}"):
            make(task, wrong)
