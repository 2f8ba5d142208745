"""What older versions of rsl_rl are given."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mujoco.batch")

from configs.base_config import class_to_dict
from envs.learning import older_rsl_rl
from envs.learning.older_rsl_rl import OlderVecEnv, installed_version, older_config, train_with_older_rsl_rl
from envs.learning.policy import PolicyError
from envs.tasks.task_registry import task_registry


class PPO:
    """Takes what the PPO of rsl_rl 1.0.2 takes."""

    def __init__(
        self, actor_critic: Any, num_learning_epochs: int = 1, gamma: float = 0.998, device: str = "cpu"
    ) -> None:
        self.gamma = gamma


@pytest.fixture(scope="module")
def train_cfg() -> dict[str, Any]:
    return class_to_dict(task_registry.get_cfgs("g1_cmg")[1])


def test_version_1_gets_the_sections_of_legged_gym(train_cfg: dict[str, Any]) -> None:
    cfg = older_config(train_cfg, 1, PPO)
    assert cfg["runner"]["policy_class_name"] == "ActorCritic" and cfg["runner"]["algorithm_class_name"] == "PPO"
    assert cfg["algorithm"] == {"num_learning_epochs": 3, "gamma": 0.98}
    assert PPO(None, **cfg["algorithm"]).gamma == 0.98


def test_version_2_gets_classes_by_name(train_cfg: dict[str, Any]) -> None:
    cfg = older_config(train_cfg, 2, PPO)
    assert cfg["algorithm"]["class_name"] == "PPO" and cfg["policy"]["class_name"] == "ActorCritic"
    assert cfg["num_steps_per_env"] == 24 and cfg["empirical_normalization"] is True


def test_version_2_finds_the_critic_among_the_extras(make: Callable[..., Any]) -> None:
    env = OlderVecEnv(make("g1", 3))
    observations, extras = env.get_observations()
    assert observations.shape == (3, env.num_obs)
    assert extras["observations"]["critic"].shape == (3, env.num_privileged_obs)
    observations, rewards, dones, extras = env.step(torch.zeros(3, env.num_actions))
    assert torch.equal(observations, env.env.obs_buf) and rewards.shape == dones.shape == (3,)
    assert torch.equal(extras["observations"]["critic"], env.env.privileged_obs_buf)
    assert extras["time_outs"].shape == (3,)


def test_the_installed_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "rsl_rl":
            raise metadata.PackageNotFoundError(name)
        return "2.3.3"

    monkeypatch.setattr(metadata, "version", version)
    assert installed_version() == 2


def test_other_versions_are_refused(train_cfg: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version, message in ((0, "none is installed"), (3, "version 3 is installed")):
        monkeypatch.setattr(older_rsl_rl, "installed_version", lambda version=version: version)
        with pytest.raises(PolicyError, match=message):
            train_with_older_rsl_rl(None, "g1_cmg", train_cfg, lambda: tmp_path, None, "cpu")
