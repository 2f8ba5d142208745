from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from configs.base_config import ConfigError, apply_overrides
from configs.g1_cmg_config import G1Cfg, G1CMGCfg
from envs.base.legged_robot import LeggedRobot
from envs.tasks.task_registry import task_registry
from envs.terms.rewards import AIR_TIME, needs


def only(*scales: str, cfg: Any = G1Cfg) -> list[str]:
    """Overrides that switch all rewards off but some."""
    return [
        *(f"rewards.scales.{name}=0" for name in vars(cfg().rewards.scales)),
        *(f"rewards.scales.{s}" for s in scales),
    ]


def test_a_scale_is_multiplied_by_the_time_of_a_step(make: Callable[..., Any]) -> None:
    env = make("g1", 2, *only("alive=3.0"))
    _, _, rewards, _, _ = env.step(torch.zeros(2, 29))
    torch.testing.assert_close(rewards, torch.full((2,), 3.0 * 0.02))
    assert env.reward_names == ["alive"]


def test_rewards_are_summed_and_logged_by_name(make: Callable[..., Any]) -> None:
    env = make("g1", 3)
    total = torch.zeros(3)
    for _ in range(5):
        total += env.step(torch.full((3, 29), 0.1))[2]
    torch.testing.assert_close(env.episode_sums.sum(dim=0), total)
    sums = dict(zip(env.reward_names, env.episode_sums[:, 1].tolist(), strict=True))
    env.episode_length_buf[1] = env.max_episode_length
    extras = env.step(torch.full((3, 29), 0.1))[4]
    logged = {name: float(extras["episode"][f"rew_{name}"]) for name in env.reward_names}
    assert logged["alive"] == pytest.approx((sums["alive"] + 0.02) / 20.0, rel=1e-4)
    assert logged["action_size"] == pytest.approx((sums["action_size"] - 0.01 * 0.02 * 29 * 0.01) / 20.0, rel=1e-4)


def test_a_reward_that_is_switched_off_is_not_computed(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task_class = task_registry.get_task_class("g1")
    monkeypatch.setattr(task_class, "_reward_torques", lambda self: 1 / 0)
    make("g1", 1, "rewards.scales.torques=0").step(torch.zeros(1, 29))
    with pytest.raises(ZeroDivisionError):
        make("g1", 1, "rewards.scales.torques=-1").step(torch.zeros(1, 29))


def test_an_unknown_reward_is_an_error_that_suggests_the_right_one(make: Callable[..., Any]) -> None:
    class MisspeltCfg(G1Cfg):
        class rewards(G1Cfg.rewards):  # noqa: N801
            class scales(G1Cfg.rewards.scales):  # noqa: N801
                trakcing_lin_vel = 1.0

    with pytest.raises(ConfigError, match="no reward 'trakcing_lin_vel'; did you mean 'tracking_lin_vel'"):
        task_registry.make_env("g1", env_cfg=MisspeltCfg(), num_envs=1)


def test_every_reward_can_be_switched_on(make: Callable[..., Any]) -> None:
    for task, cfg in (("g1", G1Cfg), ("g1_cmg", G1CMGCfg)):
        names = list(vars(cfg().rewards.scales))
        env = make(
            task, 3, *only(*(f"{name}=1.0" for name in names), cfg=cfg), "asset.penalize_contacts_on=('pelvis',)"
        )
        assert env.reward_names == names
        for _ in range(3):
            rewards = env.step(torch.full((3, 29), 0.2))[2]
        assert torch.isfinite(rewards).all()
        values = dict(zip(names, [function() for function in env.reward_terms.functions], strict=True))
        for name, value in values.items():
            assert value.shape == (3,), name
            assert torch.isfinite(value).all(), name
        for name in ("alive", "tracking_lin_vel", "torques", "action_size", "dof_vel"):
            assert (values[name] > 0.0).all(), name


def test_velocity_rewards_see_averaged_velocities(make: Callable[..., Any]) -> None:
    env = make("g1", 1, *only("tracking_lin_vel=1.0"))
    env.reset()
    before = env.average_velocity.clone()
    env.step(torch.zeros(1, 29))
    expected = before + env.cfg.rewards.velocity_averaging * (env._velocity_and_yaw_rate - before)
    torch.testing.assert_close(env.average_velocity, expected)


def test_feet_that_slide_are_penalised_and_feet_in_the_air_are_not(make: Callable[..., Any]) -> None:
    env = make("g1", 2, *only("feet_slip=1.0", "feet_air_time=1.0"))
    env.set_commands(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    for _ in range(10):
        env.step(torch.zeros(2, 29))
    assert env.feet.contact.all()
    standing = env._reward_feet_slip().clone()
    env.push(torch.tensor([1]), torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 3.0]]))
    env.root_states[0, 2] += 0.3
    env.root_states[0, 7] += 1.5
    env._root_changed[0] = True
    env.step(torch.zeros(2, 29))
    assert not env.feet.contact[0].any()
    slip = env._reward_feet_slip()
    assert slip[0] == 0.0 and slip[1] > 10.0 * standing[1]
    torch.testing.assert_close(env.feet.speed[0], torch.full((2,), 1.5), atol=0.3, rtol=0.0)


def test_time_in_the_air_is_counted_until_landing(make: Callable[..., Any]) -> None:
    env = make("g1", 1)
    for _ in range(5):
        env.step(torch.zeros(1, 29))
    env.root_states[0, 2] += 0.05
    env.root_states[0, 7:13] = 0.0
    env._root_changed[0] = True
    flights = []
    for _ in range(20):
        env.step(torch.zeros(1, 29))
        if env.feet.first_contact.any():
            flights.append(float(env.feet.air_time.max()))
    # Falling by 5 cm takes 0.1 s.
    assert flights and flights[0] == pytest.approx(0.1, abs=0.03)


def test_the_height_of_a_sole_is_that_of_its_lowest_point(make: Callable[..., Any]) -> None:
    env = make("g1", 2)
    for _ in range(10):
        env.step(torch.zeros(2, 29))
    root = env.root_states
    heights = env.feet.places(env.dof_pos, root[:, :3], root[:, 3:7])[1]
    assert heights.abs().max() < 0.01
    raised = env.feet.places(env.dof_pos, root[:, :3] + torch.tensor([0.0, 0.0, 0.2]), root[:, 3:7])[1]
    torch.testing.assert_close(raised, heights + 0.2)


def test_the_configuration_says_below_which_speed_robots_are_told_to_stand(make: Callable[..., Any]) -> None:
    env = make("g1", 2, "rewards.standing_speed=0.5")
    env.set_commands([[0.4, -0.4, 0.4], [0.0, 0.0, 0.6]])
    for _ in range(round(env.cfg.commands.ramp_time / env.dt) + 1):
        env.step(torch.zeros(2, env.num_actions))
    assert env.told_to_stand.tolist() == [True, False]


def build(task_class: type, monkeypatch: pytest.MonkeyPatch, *scales: str) -> Any:
    """The baseline's task with another environment and few rewards."""
    monkeypatch.setitem(task_registry._tasks, "g1", (task_class, *task_registry._tasks["g1"][1:]))
    cfg, _ = task_registry.get_cfgs("g1")
    apply_overrides(cfg, only(*scales))
    return task_registry.make_env("g1", env_cfg=cfg, num_envs=2)[0]


def test_a_reward_of_the_feet_says_so_and_an_overriding_one_need_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(LeggedRobot):
        def _reward_dof_vel(self) -> torch.Tensor:
            return self.feet.speed.sum(dim=1)

        def _reward_feet_slip(self) -> torch.Tensor:
            return self.feet.speed.sum(dim=1)

    env = build(Forgetful, monkeypatch, "dof_vel=1.0")
    with pytest.raises(RuntimeError, match=r"feet\.speed is not computed: mark the reward .* @needs\('feet_motion'\)"):
        env.step(torch.zeros(2, 29))
    env = build(Forgetful, monkeypatch, "feet_slip=1.0")
    env.step(torch.zeros(2, 29))
    assert bool((env.step(torch.ones(2, 29))[2] > 0.0).all())
    with pytest.raises(ValueError, match="there is no 'feet_motions'; did you mean 'feet_motion'"):
        needs("feet_motions")


def test_a_user_adds_a_reward_by_a_method_and_a_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in legged_gym: two files at most, the environment and its configuration."""

    class Mine(LeggedRobot):
        @needs(AIR_TIME)
        def _reward_hop(self) -> torch.Tensor:
            return self.feet.air_time.amin(dim=1)

        def _reset_states(self, env_ids: torch.Tensor) -> None:
            super()._reset_states(env_ids)
            self.root_states[env_ids, 2] += 0.3

    class MineCfg(G1Cfg):
        class rewards(G1Cfg.rewards):  # noqa: N801
            class scales(G1Cfg.rewards.scales):  # noqa: N801
                hop = 5.0

    monkeypatch.setitem(task_registry._tasks, "mine", (Mine, MineCfg(), None))
    env: Any = task_registry.make_env("mine", env_cfg=MineCfg(), num_envs=2)[0]
    assert env.reward_names[-1] == "hop"
    for _ in range(3):
        env.step(torch.zeros(2, 29))
    torch.testing.assert_close(env.episode_sums[-1], torch.full((2,), 5.0 * 0.02 * (0.02 + 0.04 + 0.06)))
