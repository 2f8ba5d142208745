"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.shorten import shortened
from cmg_ref.network.model import CMGConfig
from cmg_ref.training.loss_terms import SLIP_FRAMES, TERMS, default_weights

# Lowest and highest value of the settings.
_BOUNDS = {
    "iterations": (1, 10**8),
    "batch_size": (1, 2**20),
    "horizon_start": (1, 10**4),
    "horizon_end": (1, 10**4),
    "horizon_growth": (0.0, 1.0),
    "still_share": (0.0, 1.0),
    "matched_share": (0.0, 1.0),
    "matched_after": (0.0, 1.0),
    "learning_rate": (0.0, 10.0),
    "final_learning_rate": (0.0, 10.0),
    "warm_up": (1, 10**8),
    "gradient_clip": (1e-9, 1e9),
    "input_noise": (0.0, 100.0),
    "average_decay": (0.0, 1.0),
    "balance": (0.0, 10.0),
    "validate_every": (1, 10**8),
    "save_every": (1, 10**8),
    "seed": (0, 2**32 - 1),
}
_MAX_WEIGHT = 1e9


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    Attributes:
        iterations: optimiser steps.
        batch_size: roll-outs in a step, over all processes.
        horizon_start: frames of a roll-out at first.
        horizon_end: frames of a roll-out once it has grown.
        horizon_growth: share of the iterations during which it grows, linearly.
        still_share: share of the rows that must stand still.
        matched_share: share of the rows that start from the model's own states, once it has learnt to move.
        matched_after: share of the iterations during which there are no such rows.
        learning_rate: highest learning rate; a cosine takes it down to ``final_learning_rate``.
        final_learning_rate: last learning rate.
        warm_up: iterations over which the learning rate rises.
        gradient_clip: largest norm of the gradient.
        input_noise: largest standard deviation of the noise on initial states, in standard deviations of the state.
        average_decay: decay of the running average of the weights, which is what gets validated and shipped.
        balance: see :class:`WindowSampler`.
        command_min, command_max: range of commands to train on and to declare as trained.
        mixed_precision: bfloat16 matrix products, where the device is faster with them.
        validate_every, save_every: iterations between validations and between saved training states.
        seed: seed of weights and batches.
        model: architecture.
        weights: weights of the loss terms, see :data:`TERMS`; one that is not named is left out.
    """

    iterations: int = 7000
    batch_size: int = 192
    horizon_start: int = 8
    horizon_end: int = 48
    horizon_growth: float = 0.35
    still_share: float = 0.05
    matched_share: float = 0.5
    matched_after: float = 0.4
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warm_up: int = 100
    gradient_clip: float = 1.0
    input_noise: float = 0.15
    average_decay: float = 0.995
    balance: float = 0.35
    command_min: tuple[float, ...] = CommandLayout().lowest
    command_max: tuple[float, ...] = CommandLayout().highest
    mixed_precision: bool = True
    validate_every: int = 500
    save_every: int = 100
    seed: int = 1
    model: CMGConfig = field(default_factory=CMGConfig)
    weights: dict[str, float] = field(default_factory=default_weights)

    def validate(self) -> None:
        """Raise a ValueError that names the first field with an impossible value."""
        for name, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"TrainConfig.{name} must be from {low:g} to {high:g}, got {shortened(getattr(self, name))}"
                )
        for name, weight in self.weights.items():
            if name not in TERMS:
                raise ValueError(f"TrainConfig.weights: there is no loss {shortened(name)}, only {', '.join(TERMS)}")
            if not 0.0 <= weight <= _MAX_WEIGHT:
                raise ValueError(f"TrainConfig.weights['{name}'] must be 0 to {_MAX_WEIGHT:g}, got {shortened(weight)}")
        if self.horizon_start <= SLIP_FRAMES:
            raise ValueError(f"TrainConfig.horizon_start must exceed {SLIP_FRAMES}, got {self.horizon_start}")
        if self.horizon_end < self.horizon_start:
            raise ValueError(
                f"TrainConfig.horizon_end ({self.horizon_end}) is below horizon_start ({self.horizon_start})"
            )
        if not 0.0 <= self.still_share + self.matched_share < 1.0 or min(self.still_share, self.matched_share) < 0.0:
            raise ValueError("TrainConfig.still_share and matched_share must leave room for recorded rows")
        self.model.validate()

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> TrainConfig:
        """The configuration saved with a run; raises TypeError on an unknown field."""
        fields = dict(fields, model=CMGConfig(**fields["model"]), weights=dict(fields["weights"]))
        fields.update({name: tuple(fields[name]) for name in ("command_min", "command_max")})
        return cls(**fields)

    def horizon(self, iteration: int) -> int:
        """Frames of a roll-out at an iteration."""
        progress = min(1.0, iteration / max(1.0, self.horizon_growth * self.iterations))
        return round(self.horizon_start + progress * (self.horizon_end - self.horizon_start))

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate at an iteration: linear warm-up, then a cosine."""
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, iteration / self.iterations)))
        rate = self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * cosine
        return rate * min(1.0, (iteration + 1) / self.warm_up)
