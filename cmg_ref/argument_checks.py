"""Checks of what callers hand to a generator; every message names the argument and what is wrong with it."""

from __future__ import annotations

import numpy as np
import torch


def checked_tensor(values: torch.Tensor, shape: tuple[int, ...], name: str, device: torch.device) -> torch.Tensor:
    """Values in float32 on the device.

    Raises:
        ValueError: the shape is another; or, where looking costs no waiting (on a CPU), a value is not finite.
    """
    if tuple(values.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(values.shape)}")
    values = values.detach().float()
    if values.device.type == "cpu":
        finite = np.isfinite(values.numpy())  # a third of the time that torch takes for few values
        if not finite.all():
            raise ValueError(f"{name} holds NaN or infinite values, first in row {int((~finite).any(axis=1).argmax())}")
    return values.to(device)


def checked_env_ids(env_ids: torch.Tensor | None, num_envs: int, device: torch.device) -> torch.Tensor:
    """Indices (n,) of environments given as indices, as a mask (num_envs,), or as None for all.

    Raises:
        ValueError: they are neither.
    """
    if env_ids is None:
        return torch.arange(num_envs, device=device)
    if env_ids.ndim != 1 or env_ids.is_floating_point():
        found = f"{env_ids.dtype} of shape {tuple(env_ids.shape)}"
        raise ValueError(f"env_ids must be indices (n,) or a mask (num_envs,), got {found}")
    env_ids = env_ids.to(device)
    if env_ids.dtype == torch.bool:
        if len(env_ids) != num_envs:
            raise ValueError(f"env_ids: a mask must have {num_envs} entries, got {len(env_ids)}")
        return env_ids.nonzero().squeeze(1)
    return env_ids.long()


def checked_start_frames(start_frames: torch.Tensor | str | None, num: int) -> torch.Tensor | str | None:
    """Start frames of a kind that a pool understands.

    Raises:
        ValueError: they are not.
    """
    if isinstance(start_frames, torch.Tensor):
        if tuple(start_frames.shape) != (num,):
            raise ValueError(f"start_frames must have shape ({num},), got {tuple(start_frames.shape)}")
    elif start_frames is not None and start_frames != "random":
        raise ValueError(f"start_frames must be frames ({num},), 'random' or None, got {start_frames!r}")
    return start_frames
