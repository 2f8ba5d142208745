from __future__ import annotations

from argparse import Namespace

import pytest

pytest.importorskip("mujoco.batch")

from configs.base_config import ConfigError
from configs.g1_cmg_config import G1Cfg, G1CfgPPO, G1CMGCfg
from envs.base.legged_robot import LeggedRobot
from envs.tasks.reference_follower import ReferenceFollower
from envs.tasks.task_registry import TaskRegistry, make_sim_params, task_registry


def test_tasks_are_known_by_name() -> None:
    assert {"g1", "g1_cmg"} <= set(task_registry.names())
    assert task_registry.get_task_class("g1_cmg") is ReferenceFollower
    with pytest.raises(ConfigError, match="there is no task 'g1cmg'; did you mean 'g1_cmg'"):
        task_registry.get_cfgs("g1cmg")


def test_configurations_are_copies() -> None:
    cfg, train_cfg = task_registry.get_cfgs("g1_cmg")
    cfg.env.num_envs = 3
    train_cfg.seed = 99
    again, train_again = task_registry.get_cfgs("g1_cmg")
    assert (again.env.num_envs, train_again.seed) == (G1CMGCfg.env.num_envs, 1)


def test_options_come_from_arguments_keywords_and_overrides() -> None:
    arguments = Namespace(num_envs=5, seed=4, headless=True, task="g1", overrides=["rewards.scales.alive=2"])
    env, cfg = task_registry.make_env("g1", args=arguments, num_envs=2)
    assert (env.num_envs, cfg.env.num_envs, cfg.seed, cfg.rewards.scales.alive) == (2, 2, 4, 2.0)
    with pytest.raises(ConfigError, match="no option 'num_env'; did you mean 'num_envs'"):
        task_registry.make_env("g1", num_env=2)
    with pytest.raises(ConfigError, match="has no field 'aliev'; did you mean 'alive'"):
        task_registry.make_env("g1", overrides=["rewards.scales.aliev=2"])


def test_a_misspelt_field_of_a_derived_configuration_is_an_error() -> None:
    class MisspeltCfg(G1CMGCfg):
        class env(G1CMGCfg.env):  # noqa: N801
            num_env = 4

    with pytest.raises(ConfigError, match="has no field 'num_env'; did you mean 'num_envs'"):
        task_registry.make_env("g1_cmg", env_cfg=MisspeltCfg(), num_envs=1)


def test_a_gpu_is_refused_by_mujoco() -> None:
    with pytest.raises(ValueError, match="MuJoCo simulates on the CPU"):
        task_registry.make_env("g1", num_envs=1, sim_device="cuda:0")


def test_parameters_of_the_simulation_come_from_the_configuration() -> None:
    cfg = G1Cfg()
    cfg.sim.dt = 0.01
    cfg.sim.mujoco.iterations = 7
    cfg.sim.physx.num_threads = 1
    params = make_sim_params(cfg, "cpu")
    assert (params.dt, params.mujoco.iterations, params.physx.num_threads) == (0.01, 7, 1)
    assert list(params.gravity) == [0.0, 0.0, -9.81]


def test_users_register_tasks_of_their_own() -> None:
    class LongCfg(G1Cfg):
        class env(G1Cfg.env):  # noqa: N801
            episode_length_s = 40.0

    registry = TaskRegistry()
    registry.register("long", LeggedRobot, LongCfg(), G1CfgPPO())
    env, _ = registry.make_env("long", num_envs=1)
    assert env.max_episode_length == 2000
