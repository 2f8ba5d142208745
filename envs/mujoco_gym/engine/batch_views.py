"""Fields of a MuJoCo batch as torch tensors on the same memory."""

from __future__ import annotations

import torch
from mujoco.batch import Batch
from torch import Tensor

__all__ = ["field_view", "model_view"]


def field_view(batch: Batch, name: str) -> Tensor:
    """A state or a computed field of all worlds, (num_envs, ...) float64; computed ones must not be written to."""
    field = batch.bind(name)
    if not field.flags.writeable:
        # Torch has no read-only tensors.
        field = field.view()
        field.flags.writeable = True
    return torch.from_numpy(field)


def model_view(batch: Batch, name: str) -> Tensor:
    """A field of the model: (num_envs, ...) where the worlds differ in it, else (1, ...). It must not be written to."""
    differs = batch.expanded(name) is not None
    return torch.from_numpy(batch.expand(name) if differs else getattr(batch.model, name)[None])
