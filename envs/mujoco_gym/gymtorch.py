"""The module `isaacgym.gymtorch`: the state tensors here are torch tensors already, so both calls pass them on."""

from __future__ import annotations

from torch import Tensor

__all__ = ["unwrap_tensor", "wrap_tensor"]


def wrap_tensor(gym_tensor: Tensor) -> Tensor:
    """The simulator's own memory as a torch tensor; `refresh_*` calls write into it."""
    return gym_tensor


def unwrap_tensor(torch_tensor: Tensor) -> Tensor:
    """What the setters of the gym take.

    Raises:
        ValueError: If the tensor is not contiguous; Isaac Gym would read the wrong memory.
    """
    if not torch_tensor.is_contiguous():
        raise ValueError("unwrap_tensor needs a contiguous tensor: call .contiguous() or pass the whole state tensor")
    return torch_tensor
