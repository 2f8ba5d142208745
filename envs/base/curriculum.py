"""Curriculum: training passes through stages, each when robots survive the one before."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Sequence

import torch
from torch import Tensor

from configs.legged_robot_config import CurriculumStage

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
        stages: What each stage asks.
        stage: Index of the present stage.

    Raises:
        ValueError: If a stage is not made of four shares, or of three.
    """

    def __init__(self, cfg: Any, num_envs: int, dt: float, episode_length: float, device: str | torch.device) -> None:
        self.stages = [_stage(shares) for shares in cfg.stages]
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
    def shares(self) -> CurriculumStage:
        """What the present stage asks."""
        return self.stages[self.stage]

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


def _stage(shares: Sequence[float]) -> CurriculumStage:
    """A stage from its shares."""
    with contextlib.suppress(TypeError):
        stage = CurriculumStage(*shares)
        if all(0.0 <= share <= 1.0 for share in stage):
            return stage
    raise ValueError(
        f"curriculum.stages: a stage has shares of {', '.join(CurriculumStage._fields)}, 0 to 1, got {shares}"
    )
