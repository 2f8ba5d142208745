"""What rsl-rl-lib 5 asks of an environment, on top of one in legged_gym's shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from rsl_rl.env import VecEnv
from tensordict import TensorDict

from configs.base_config import class_to_dict


@dataclass(frozen=True)
class PlainConfig:
    """Configuration of an environment as rsl_rl's writers upload it."""

    fields: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries of plain values."""
        return self.fields


class RslRlVecEnv(VecEnv):
    """Hands out observations as named groups.

    Args:
        env: an environment with legged_gym's attributes, `observation_groups()` and the two mirror functions.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self.num_envs: int = env.num_envs
        self.num_actions: int = env.num_actions
        self.max_episode_length: int = int(env.max_episode_length)
        self.device = env.device
        self.cfg = PlainConfig(class_to_dict(env.cfg))

    @property
    def episode_length_buf(self) -> torch.Tensor:
        """Steps since the last reset, (num_envs,)."""
        return self.env.episode_length_buf

    @episode_length_buf.setter
    def episode_length_buf(self, value: torch.Tensor) -> None:
        self.env.episode_length_buf = value

    def get_observations(self) -> TensorDict:
        """The observation groups, (num_envs, size) each, which the next step leaves alone."""
        groups = {name: value.clone() for name, value in self.env.observation_groups().items()}
        return TensorDict(groups, batch_size=[self.num_envs], device=self.device)

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Apply actions (num_envs, num_actions); returns observations, rewards, dones (num_envs,) and extras."""
        _, _, rewards, dones, extras = self.env.step(actions)
        return self.get_observations(), rewards, dones, extras

    def mirror_observations(self, observations: torch.Tensor, group: str) -> torch.Tensor:
        """Observations of a group (n, size) of the mirrored robot in the mirrored world."""
        return self.env.mirror_observations(observations, group)

    def mirror_actions(self, actions: torch.Tensor) -> torch.Tensor:
        """Actions (n, num_actions) of the mirrored robot."""
        return self.env.mirror_actions(actions)
