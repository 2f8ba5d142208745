"""Curriculum: training passes through stages, each when robots survive the one before."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

CHECK_INTERVAL = 100  # steps between decisions, so that the device is seldom waited for


class Curriculum:
    """Stages of commands, pushes, randomisation and refinement.

    The share of episodes that survive is told from the rate of falls, exp(-rate * length): episodes that ended would
    tell too little, for those that fall end sooner.

    Args:
        cfg: The section `curriculum` of the configuration.
        num_envs: Number of environments.
        dt: Time of a control step in seconds.
        episode_length: Length of a full episode in seconds.
        device: Device of the count of falls.

    Attributes:
        stages: Shares of commands, pushes, randomisation and refinement in each stage.
        stage: Index of the present stage.

    Raises:
        ValueError: If a stage is not made of four shares, or of three.
    """

    def __init__(self, cfg: Any, num_envs: int, dt: float, episode_length: float, device: str | torch.device) -> None:
        # Runs from before there were refinements have three shares, and all refinements from the beginning.
        self.stages = [(*stage, 1.0) if len(stage) == 3 else tuple(stage) for stage in cfg.stages]
        for stage in self.stages:
            if len(stage) != 4 or not all(0.0 <= share <= 1.0 for share in stage):
                raise ValueError(
                    "curriculum.stages: a stage has shares of commands, pushes, randomisation and refinement, 0 to 1, "
                    f"got {stage}"
                )
        if not self.stages:
            raise ValueError("curriculum.stages: there must be at least one stage")
        self.cfg, self.stage = cfg, 0
        self._episode_length = episode_length
        self._seconds_per_step = num_envs * dt
        self._forgotten = min(1.0, dt / cfg.averaging_time)
        self._steps_in_stage = 0
        # Fading mean of the falls per second of an environment in this stage, and the weight of what it was made of.
        self._fall_rate = torch.zeros((), device=device)
        self._weight = 0.0

    @property
    def command_level(self) -> float:
        """Share of the command ranges in use."""
        return float(self.stages[self.stage][0])

    @property
    def push_level(self) -> float:
        """Share of the strength of pushes in use."""
        return float(self.stages[self.stage][1])

    @property
    def randomisation_level(self) -> float:
        """Share of the differences between robots, and of the noise of their sensors, in use."""
        return float(self.stages[self.stage][2])

    @property
    def refinement_level(self) -> float:
        """Share of the rewards that ask for more than to stay up, in use."""
        return float(self.stages[self.stage][3])

    def survival(self) -> float:
        """Share of episodes that would survive at the present rate of falls; 0 before the first step of a stage."""
        if self._weight == 0.0:
            return 0.0
        return math.exp(-float(self._fall_rate) / self._weight * self._episode_length)

    def step(self, fallen: Tensor) -> bool:
        """Count the falls (num_envs,) bool of a control step; returns whether the next stage begins."""
        self._fall_rate.lerp_(fallen.sum() / self._seconds_per_step, self._forgotten)
        self._weight += self._forgotten * (1.0 - self._weight)
        self._steps_in_stage += 1
        if self._steps_in_stage < self.cfg.min_steps or self._steps_in_stage % CHECK_INTERVAL:
            return False
        if self.stage + 1 >= len(self.stages) or self.survival() < self.cfg.survival:
            return False
        self.stage += 1
        self._steps_in_stage = 0
        self._weight = 0.0
        self._fall_rate.zero_()
        return True

    def state_dict(self) -> dict[str, Any]:
        """What resuming a training needs."""
        return {
            "stage": self.stage,
            "steps_in_stage": self._steps_in_stage,
            "fall_rate": self._fall_rate,
            "weight": self._weight,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; a stage beyond the last is the last."""
        self.stage = min(int(state["stage"]), len(self.stages) - 1)
        self._steps_in_stage = int(state["steps_in_stage"])
        self._fall_rate.copy_(state["fall_rate"])
        self._weight = float(state["weight"])
