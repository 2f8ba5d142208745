from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import Any

import pytest

from configs.base_config import BaseConfig, ConfigError, apply_overrides, field_names
from configs.bounds import ENVIRONMENT, TRAINING, bounds_of, check_bounds
from configs.g1_cmg_config import G1Cfg, G1CfgPPO, G1CMGCfg, G1CMGCfgPPO


def numeric_fields(config: BaseConfig, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in field_names(config):
        value, inner = getattr(config, name), f"{path}.{name}" if path else name
        if isinstance(value, BaseConfig):
            found.update(numeric_fields(value, inner))
        elif (isinstance(value, (int, float)) and not isinstance(value, bool)) or (
            isinstance(value, (tuple, dict)) and value and not isinstance(next(iter(value)), str)
        ):
            found[inner] = value
    return found


@pytest.mark.parametrize("config", [G1CMGCfg(), G1Cfg(), G1CMGCfgPPO(), G1CfgPPO()], ids=lambda cfg: type(cfg).__name__)
def test_the_configurations_as_they_are_shipped_are_within_bounds(config: BaseConfig) -> None:
    check_bounds(config)


@pytest.mark.parametrize(("config", "bounds"), [(G1CMGCfg(), ENVIRONMENT), (G1CMGCfgPPO(), TRAINING)])
def test_every_number_has_bounds_and_every_bound_a_number(config: BaseConfig, bounds: Any) -> None:
    paths = numeric_fields(config)
    assert len(paths) > 20
    assert [path for path in paths if bounds_of(path, bounds)[1] == math.inf] == []
    every = {*paths, *(f"{name}" for name in ("init_state.default_joint_angles", "reference.num_trajectories"))}
    every |= {"control.stiffness", "control.damping", "control.action_scale", "rewards.joint_weights"}
    every |= {"commands.strata", "terrain.proportions", "domain_rand.payloads", "driven_joints.motions"}
    every |= {"domain_rand.punch_links", "rewards.forgiving_times", "policy.least_scales"}
    patterns = [pattern for patterns, _, _ in bounds for pattern in patterns.split()]
    assert [pattern for pattern in patterns if not any(fnmatchcase(path, pattern) for path in every)] == []


@pytest.mark.parametrize("path", sorted(numeric_fields(G1CMGCfg())))
def test_no_field_takes_nan_or_infinity(path: str) -> None:
    """As code could set them; the command line refuses them already."""
    for wrong in (math.nan, math.inf, -math.inf):
        config = G1CMGCfg()
        *sections, name = path.split(".")
        section: Any = config
        for each in sections:
            section = getattr(section, each)
        present = getattr(section, name)
        setattr(section, name, (wrong, *present[1:]) if isinstance(present, tuple) else wrong)
        with pytest.raises(ConfigError, match=f"^{path}: must be finite, got {wrong}$"):
            check_bounds(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.num_envs=0", "env.num_envs: must be from 1 to "),
        ("env.num_envs=1" + 400 * "0", "env.num_envs: must be from 1 to "),
        ("env.episode_length_s=0", "env.episode_length_s: must be from 0.1 to 100000, got 0.0"),
        ("env.history_length=0", "env.history_length: must be from 1 to"),
        ("control.decimation=0", "control.decimation: must be from 1 to 1000, got 0"),
        ("control.decimation=900", "sim.dt times control.decimation, a control step, is 4.5 s: at most 0.5 s"),
        ("control.stiffness.hip=-1", "control.stiffness: must be from 0 to"),
        ("sim.dt=0", "sim.dt: must be from 1e-05 to 0.1, got 0.0"),
        ("sim.dt=-0.005", "sim.dt: must be from"),
        ("sim.substeps=0", "sim.substeps: must be from 1"),
        ("sim.gravity=(0,0)", "sim.gravity: must have 3 numbers"),
        ("commands.resampling_time=(0,0)", "commands.resampling_time: must be from 0.01"),
        ("commands.ranges.lin_vel_x=(1,0)", r"commands.ranges.lin_vel_x: must be \(lowest, highest\), got"),
        ("domain_rand.friction_range=(0.1,)", "domain_rand.friction_range: must have 2 numbers"),
        ("domain_rand.friction_range=[1.2, 0.4]", "domain_rand.friction_range: must be"),
        ("rewards.lin_vel_sigma=0", "rewards.lin_vel_sigma: must be from"),
        ("seed=-1", "seed: must be from 0 to"),
        ("reference.num_trajectories=0", "reference.num_trajectories: must be from 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(override: str, message: str) -> None:
    config = G1CMGCfg()
    apply_overrides(config, [override])
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        check_bounds(config)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "override",
    [
        *("runner.max_iterations=-5", "runner.num_steps_per_env=0", "runner.save_interval=0", "evaluation.rollouts=0"),
        *("algorithm.gamma=1.5", "algorithm.learning_rate=-1", "algorithm.num_mini_batches=0", "seed=-3"),
        *("policy.init_noise_std=0", "policy.actor_hidden_dims=(0,)", "policy.critic_hidden_dims=(10**9,)"),
    ],
)
def test_trainings_that_make_no_sense_are_refused(override: str) -> None:
    config = G1CMGCfgPPO()
    override = override.replace("10**9", str(10**9))
    apply_overrides(config, [override])
    with pytest.raises(ConfigError, match=f"^{override.split('=')[0]}: must be from "):
        check_bounds(config)


def test_fields_of_a_users_own_must_only_be_finite() -> None:
    class Mine(G1CMGCfg):
        class rewards(G1CMGCfg.rewards):
            offset = -5.0

    config = Mine()
    check_bounds(config)
    config.rewards.offset = math.nan
    with pytest.raises(ConfigError, match=r"rewards\.offset: must be finite"):
        check_bounds(config)
