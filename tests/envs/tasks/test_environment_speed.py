"""The speed of an environment is measured beside bare physics, without a change of what the environment does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from envs.learning.policy import load_policy
from envs.tasks.environment_speed import TimedTerm, measure_speed
from envs.tasks.task_registry import task_registry

pytestmark = pytest.mark.slow


def test_bare_physics_and_the_term_are_measured_beside_the_step() -> None:
    env: Any = task_registry.make_env("g1_cmg", num_envs=16)[0]
    term = env.term
    speed = measure_speed(env, load_policy(), num_steps=20)
    assert speed.env_steps_per_second > 0.0 and speed.bare_steps_per_second > 0.0
    assert 0.0 < speed.term_share < 1.0
    assert speed.to_json()["share_of_bare"] == pytest.approx(speed.share_of_bare)
    assert env.term is term


def test_environments_go_on_as_if_nothing_had_been_measured() -> None:
    """Bare steps start from the same states and are taken back."""
    envs = [task_registry.make_env("g1_cmg", num_envs=4)[0] for _ in range(2)]
    policy = load_policy()
    measure_speed(envs[0], policy, num_steps=10)
    with torch.no_grad():
        for _ in range(110):
            envs[1].step(policy(envs[1].get_observations()))
    assert torch.equal(envs[0].root_states, envs[1].root_states)
    assert torch.equal(envs[0].dof_pos, envs[1].dof_pos)


def test_driving_by_torques_is_refused() -> None:
    cfg, _ = task_registry.get_cfgs("g1_cmg")
    cfg.control.drive_mode = "effort"
    env, _ = task_registry.make_env("g1_cmg", env_cfg=cfg, num_envs=2)
    with pytest.raises(ValueError, match="drive_mode=position"):
        measure_speed(env, load_policy(), num_steps=1)


def test_time_in_properties_and_methods_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class Slow:
        @property
        def value(self) -> str:
            clock[0] += 2.0
            return "read"

        def method(self) -> str:
            clock[0] += 3.0
            return "called"

    monkeypatch.setattr("envs.tasks.environment_speed.now", lambda: clock[0])
    timed = TimedTerm(Slow())
    assert (timed.value, timed.seconds) == ("read", 2.0)
    assert (timed.method(), timed.seconds) == ("called", 5.0)
