"""Rewards of an environment: methods `_reward_<name>`, switched and weighed by the configuration's `rewards`."""

from __future__ import annotations

from typing import Any, Callable, TypeVar

import torch
from torch import Tensor

from configs.base_config import ConfigError, suggestion

PREFIX = "_reward_"
# What costs time and is there only if a reward that is switched on needs it.
FEET_MOTION, AIR_TIME, LAST_DOF_VEL = "feet_motion", "air_time", "last_dof_vel"
QUANTITIES = (FEET_MOTION, AIR_TIME, LAST_DOF_VEL)

Reward = TypeVar("Reward", bound=Callable[..., Tensor])


def needs(quantity: str) -> Callable[[Reward], Reward]:
    """Decorator of a method `_reward_<name>` that reads one of `QUANTITIES`; one that overrides it may read it too.

    Raises:
        ValueError: If there is no such quantity.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"needs: there is no '{quantity}'{suggestion(quantity, QUANTITIES)}")

    def mark(reward: Reward) -> Reward:
        reward.needs = quantity  # type: ignore[attr-defined]
        return reward

    return mark


class RewardTerms:
    """The rewards whose scales are not zero, and their sums.

    Args:
        owner: The environment, whose methods `_reward_<name>` return (num_envs,) each.
        cfg: The section `rewards` of the configuration.
        dt: Time of a control step in seconds, by which scales are multiplied.
        num_envs: Number of environments.
        device: Device of the rewards.

    Attributes:
        names: Rewards in use.
        functions: Their methods.
        scales: Their scales, times the time of a control step, (num_rewards, 1).
        episode_sums: Their sums since each episode began, (num_rewards, num_envs).
        needed: Those of `QUANTITIES` that they need.

    Raises:
        ConfigError: If a scale, a refinement or a forgiving time belongs to no method.
    """

    def __init__(self, owner: Any, cfg: Any, dt: float, num_envs: int, device: str | torch.device) -> None:
        known = [name[len(PREFIX) :] for name in dir(owner) if name.startswith(PREFIX)]
        scales = {name: value for name, value in vars(cfg.scales).items() if not name.startswith("_")}
        forgiving = cfg.forgiving_times
        for field, names in (("scales", scales), ("refinements", cfg.refinements), ("forgiving_times", forgiving)):
            for name in names:
                if name not in known:
                    raise ConfigError(f"rewards.{field}: there is no reward '{name}'{suggestion(name, known)}")
        self._cfg, self._dt, self._num_envs, self._device = cfg, dt, num_envs, device
        self._full_scales = {name: float(scale) for name, scale in scales.items() if scale != 0.0}
        self.names = list(self._full_scales)
        self._forgiven = [index for index, name in enumerate(self.names) if name in forgiving]
        steps = [round(forgiving[self.names[index]] / dt) for index in self._forgiven]
        self._forgiving_steps = torch.tensor(steps, device=device).unsqueeze(1)
        self.functions: list[Callable[[], Tensor]] = [getattr(owner, PREFIX + name) for name in self.names]
        definitions = [vars(parent).get(PREFIX + name) for parent in type(owner).__mro__ for name in self.names]
        self.needed = {getattr(definition, "needs", None) for definition in definitions} - {None}
        self.episode_sums = torch.zeros(len(self.names), num_envs, device=device)
        self.set_refinement(1.0)

    def set_refinement(self, share: float) -> None:
        """Let the rewards in `rewards.refinements` count by a share of their scales."""
        refined = self._cfg.refinements
        scales = [scale * (share if name in refined else 1.0) for name, scale in self._full_scales.items()]
        self.scales = self._dt * torch.tensor(scales, device=self._device).unsqueeze(1)

    def __call__(self, meaningless: Tensor, steps_since_hit: Tensor) -> Tensor:
        """Rewards of a step, (num_envs,), added to the sums of the episodes.

        Args:
            meaningless: Where a state is, and earns nothing, (num_envs,) bool.
            steps_since_hit: Control steps since the last push or punch, (num_envs,) int64; soon after it some rewards
                do not count, see `rewards.forgiving_times`.
        """
        if not self.functions:
            return torch.zeros(self._num_envs, device=self._device)
        terms = torch.stack([function() for function in self.functions])  # (num_rewards, num_envs)
        terms.mul_(self.scales).masked_fill_(meaningless, 0.0)
        if self._forgiven:
            terms[self._forgiven] = terms[self._forgiven].masked_fill(steps_since_hit < self._forgiving_steps, 0.0)
        self.episode_sums += terms
        total = terms.sum(dim=0)
        return total.clamp(min=0.0) if self._cfg.only_positive_rewards else total
