from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from configs.base_config import ConfigError, apply_overrides, update_from_dict
from configs.legged_robot_config import CurriculumStage, LeggedRobotCfg
from envs.base.curriculum import CHECK_INTERVAL, Curriculum


def curriculum(num_envs: int, **fields: Any) -> Curriculum:
    cfg: Any = LeggedRobotCfg().curriculum
    cfg.stages = ((0.5, 0.0, 0.0, 0.2), (1.0, 0.0, 0.5, 1.0), (1.0, 1.0, 1.0, 1.0))
    for name, value in fields.items():
        setattr(cfg, name, value)
    return Curriculum(cfg, num_envs, 0.02, 20.0, "cpu")


def test_survival_is_told_from_the_rate_of_falls() -> None:
    """Environments that fall with a known probability a step survive 20 s as often as that says."""
    stages = curriculum(200, averaging_time=40.0, stages=((1.0, 1.0, 1.0, 1.0),))
    random = torch.Generator().manual_seed(0)
    chance = 0.3 / 1000
    for step in range(20000):
        stages.step(torch.rand(200, generator=random) < chance)
        if step == 1000:  # It is not far off long before the mean has settled.
            assert stages.survival() == pytest.approx((1.0 - chance) ** 1000, abs=0.2)
    assert stages.survival() == pytest.approx((1.0 - chance) ** 1000, abs=0.1)


def test_a_stage_begins_when_the_last_is_survived_and_not_before() -> None:
    stages = curriculum(4, averaging_time=2.0, min_steps=1000, survival=0.8)
    nobody, everybody = torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)
    for _ in range(2000):
        assert not stages.step(everybody)
    begun = [step for step in range(4000) if stages.step(nobody)]
    assert len(begun) == 2 and stages.stage == 2
    assert begun[0] % CHECK_INTERVAL == CHECK_INTERVAL - 1 and begun[0] > 100
    assert begun[1] - begun[0] == 1000
    assert stages.shares == CurriculumStage(1.0, 1.0, 1.0, 1.0)


def test_no_stage_begins_before_its_time() -> None:
    stages = curriculum(4, averaging_time=0.02, min_steps=500)
    nobody = torch.zeros(4, dtype=torch.bool)
    assert not any(stages.step(nobody) for _ in range(499))
    assert stages.step(nobody)


def test_the_stage_survives_resuming() -> None:
    stages, other = curriculum(4), curriculum(4)
    stages.stage = 1
    stages.step(torch.tensor([True, False, False, False]))
    other.load_state_dict(stages.state_dict())
    assert other.stage == 1 and other.survival() == stages.survival()


def test_stages_of_earlier_runs_are_read() -> None:
    """Runs keep stages as lists, the earliest without a share of refinements."""
    cfg = LeggedRobotCfg()
    update_from_dict(cfg, json.loads('{"curriculum": {"stages": [[1, 0.0, 0.5], [0.5, 0.0, 0.0, 0.2]]}}'))
    assert cfg.curriculum.stages == (CurriculumStage(1.0, 0.0, 0.5, 1.0), CurriculumStage(0.5, 0.0, 0.0, 0.2))
    assert Curriculum(cfg.curriculum, 1, 0.02, 20.0, "cpu").shares.randomisation == 0.5
    assert curriculum(1, stages=((1.0, 0.0, 0.5),)).shares.refinement == 1.0


def test_a_stage_of_too_few_shares_is_refused() -> None:
    cfg = LeggedRobotCfg()
    with pytest.raises(ConfigError, match=r"curriculum.stages: each has 4 values \(commands, pushes, "):
        apply_overrides(cfg, ["curriculum.stages=((1.0, 0.0),)"])
    with pytest.raises(ValueError, match=r"curriculum\.stages: a stage has shares of commands, pushes, "):
        curriculum(1, stages=((1.0, 0.0),))


def test_impossible_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="shares of commands, pushes, randomisation, refinement"):
        curriculum(1, stages=((1.5, 0.0, 0.0, 1.0),))
    with pytest.raises(ValueError, match="at least one stage"):
        curriculum(1, stages=())


def test_a_stage_scales_commands_and_pushes(make: Callable[..., Any]) -> None:
    env = make(
        "g1", 256, "curriculum.stages=((0.2, 0.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0))", "domain_rand.push_robots=True"
    )
    narrow = env.command_sampler.sample(2000).abs().amax(dim=0)
    env._root_changed[:] = False
    env.pushes._steps[:] = 0
    env._push_robots()
    assert not env._root_changed.any()
    env.curriculum.stage = 1
    env._apply_curriculum()
    wide = env.command_sampler.sample(2000).abs().amax(dim=0)
    assert (wide > narrow + 0.1).all()
    env.pushes._steps[:] = 0
    env._push_robots()
    assert env._root_changed.all()


def test_refinements_count_by_the_share_of_the_stage(make: Callable[..., Any]) -> None:
    """Of robots in the same states, those of an earlier stage gain less by obeying and no less by the rest."""
    stages = "curriculum.stages=((1.0, 0.0, 1.0, 0.25), (1.0, 0.0, 1.0, 1.0))"
    early, late = make("g1_cmg", 4, stages), make("g1_cmg", 4, stages)
    late.curriculum.stage = 1
    late._apply_curriculum()
    for env in (early, late):
        for _ in range(5):
            env.step(torch.zeros(4, env.num_actions))
    assert torch.equal(early.dof_pos, late.dof_pos)
    for name, refined, whole in zip(early.reward_names, early.episode_sums, late.episode_sums, strict=True):
        share = 0.25 if name in early.cfg.rewards.refinements else 1.0
        torch.testing.assert_close(refined, share * whole)
    assert set(early.cfg.rewards.refinements) & set(early.reward_names)


def test_a_misspelt_refinement_is_named(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="refinements: there is no reward 'tracking_lin'; did you mean"):
        make("g1", 1, "rewards.refinements=('tracking_lin',)")
