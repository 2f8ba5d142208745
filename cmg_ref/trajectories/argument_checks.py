"""Checks of what callers hand over; every message names the argument and what is wrong with it.

Values are looked at where that costs no waiting: lists, NumPy arrays and tensors on the CPU. What already lies on
another device is used as it is, and only its shape and type are checked.
"""

from __future__ import annotations

import numbers
from typing import Any, Sequence, Union

import numpy as np
import torch

from cmg_ref.core.command_layout import NUM_VELOCITIES, CommandLayout
from cmg_ref.core.shorten import shortened
from cmg_ref.core.state_layout import StateLayout

# What is taken for numbers, and for environments: lists, arrays or tensors.
Values = Union[torch.Tensor, np.ndarray, Sequence[Any]]
EnvIds = Values

_MASKS = (torch.bool, torch.uint8)
_NUMPY_TYPES: dict[str, type] = {"i": np.int64, "u": np.int64, "f": np.float64}  # by kind
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8)


def as_tensor(values: Values, name: str) -> torch.Tensor:
    """What was given, as a tensor.

    Raises:
        ValueError: It is no tensor, array or list of numbers.
    """
    if isinstance(values, torch.Tensor):
        return values
    try:
        if isinstance(values, (list, tuple)) and any(isinstance(value, torch.Tensor) for value in values):
            return torch.stack([torch.as_tensor(value) for value in values])
        array = np.asarray(values)
        if array.dtype == np.uint8:
            return torch.from_numpy(array.copy())
        # Torch knows fewer types than NumPy does.
        return torch.from_numpy(array.astype(_NUMPY_TYPES.get(array.dtype.kind, array.dtype)))
    except (TypeError, ValueError, RuntimeError):
        kind = f"{type(values).__name__} {shortened(values)}"
        raise ValueError(f"{name} must be a tensor, an array or a list of numbers, got {kind}") from None


def checked_tensor(
    values: Values, shape: tuple[int, ...], name: str, device: torch.device | str, clean: bool = True
) -> torch.Tensor:
    """Values in float32 on the device, without gradients.

    What is not finite is refused; on a device other than the CPU, where looking would take waiting, it becomes 0, or
    stays for the caller to deal with where ``clean`` is False.

    Raises:
        ValueError: They are no numbers, the shape is another, or a value is not finite.
    """
    values = as_tensor(values, name)
    if tuple(values.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(values.shape)}")
    if values.dtype == torch.bool or values.is_complex():
        raise ValueError(f"{name} must be real numbers, got {values.dtype}")
    values = values.detach().float()
    if values.device.type != "cpu":
        if not clean:
            return values.to(device)
        return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).to(device)
    finite = np.isfinite(values.numpy())  # a third of the time that torch takes for few values
    if not finite.all():
        row = int((~finite).reshape(len(finite), -1).any(axis=1).argmax())
        raise ValueError(f"{name} holds NaN or infinite values, first in row {row}")
    return values.to(device)


def checked_commands(
    commands: Values, num: int, layout: CommandLayout, device: torch.device | str, clean: bool = True
) -> torch.Tensor:
    """Commands (num, command_dim); of velocities alone, (num, 3), the other channels are at rest.

    Raises:
        ValueError: As :func:`checked_tensor` says.
    """
    commands = as_tensor(commands, "commands")
    shapes = [(num, width) for width in sorted({NUM_VELOCITIES, layout.size})]
    if tuple(commands.shape) not in shapes:
        raise ValueError(f"commands must have shape {' or '.join(map(str, shapes))}, got {tuple(commands.shape)}")
    return layout.complete(checked_tensor(commands, tuple(commands.shape), "commands", device, clean))


def checked_env_ids(
    env_ids: EnvIds | None, num_envs: int, device: torch.device | str, name: str = "env_ids"
) -> torch.Tensor:
    """Indices (n,) of environments given as indices, each once; as a mask (num_envs,), bool or uint8; or None for all.

    Raises:
        ValueError: They are neither, or an index is out of range or comes twice.
    """
    if env_ids is None:
        return torch.arange(num_envs, device=device)
    env_ids = as_tensor(env_ids, name)
    if env_ids.dtype in _MASKS:
        return _indices_of_mask(env_ids, num_envs, device, name)
    return checked_indices(env_ids, num_envs, device, name, distinct=True)


def checked_indices(
    indices: Values, end: int, device: torch.device | str, name: str, distinct: bool = False
) -> torch.Tensor:
    """Whole numbers (n,) from 0 to below ``end``, as int64 on the device; ``distinct`` allows none twice.

    Raises:
        ValueError: They are not.
    """
    indices = as_tensor(indices, name)
    if indices.ndim == 1 and len(indices) == 0:
        return torch.zeros(0, dtype=torch.long, device=device)
    if indices.ndim != 1 or indices.dtype not in _INTEGERS:
        or_mask = f" or a mask ({end},)" if distinct else ""
        found = f"{indices.dtype} of shape {tuple(indices.shape)}"
        raise ValueError(f"{name} must be whole numbers (n,){or_mask}, got {found}")
    if indices.device.type == "cpu":
        _check_range(indices.numpy(), end, name, distinct)
    return indices.to(device).long()


def checked_start_frames(
    start_frames: Values | str | None, num: int, last: int, device: torch.device | str
) -> torch.Tensor | str | None:
    """Start frames of a kind that a pool understands: (num,) from 0 to ``last``, ``"random"`` or None.

    Raises:
        ValueError: They are not.
    """
    if start_frames is None or (isinstance(start_frames, str) and start_frames == "random"):
        return start_frames
    if isinstance(start_frames, str):
        raise ValueError(f"start_frames must be frames ({num},), 'random' or None, got {shortened(start_frames)}")
    start_frames = as_tensor(start_frames, "start_frames")
    if tuple(start_frames.shape) != (num,):
        raise ValueError(f"start_frames must have shape ({num},), got {tuple(start_frames.shape)}")
    return checked_indices(start_frames, last + 1, device, "start_frames")


def checked_motion(
    init_motion: Values | tuple[Values, Values],
    num: int,
    num_joints: int,
    layout: StateLayout,
    device: torch.device | str,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """States (num, state_dim) to start from, or a pair of joint angles and velocities, each (num, num_joints).

    States may lack the phase of the stride, see :meth:`StateLayout.complete`.

    Raises:
        ValueError: They are neither.
    """
    if not isinstance(init_motion, (tuple, list)):
        states = layout.complete(as_tensor(init_motion, "init_motion"))
        return checked_tensor(states, (num, layout.size), "init_motion", device)
    if len(init_motion) != 2:
        raise ValueError(
            "init_motion must be states (n, state_dim) or a pair of joint angles and velocities (n, num_joints), "
            f"got {len(init_motion)} parts"
        )
    angles, velocities = init_motion
    shape = (num, num_joints)
    return (
        checked_tensor(angles, shape, "init_motion dof_pos", device),
        checked_tensor(velocities, shape, "init_motion dof_vel", device),
    )


def checked_whole(value: Any, name: str, least: int) -> int:
    """A whole number that is not too small.

    Raises:
        ValueError: It is something else.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:
        what = "at least" if whole else "a whole number of at least"
        raise ValueError(f"{name} must be {what} {least}, got {shortened(value)}")
    return int(value)


def whole_steps(steps: Values | int) -> list[int]:
    """Control steps ahead that are given as a list, an array or a tensor, or by number, from the next one on.

    Raises:
        ValueError: They are no whole numbers, or one is negative.
    """
    if isinstance(steps, (int, np.integer)):
        return list(range(1, int(steps) + 1))
    listed = steps.tolist() if isinstance(steps, (torch.Tensor, np.ndarray)) else steps
    return [step if type(step) is int and step >= 0 else checked_whole(step, "future: steps", 0) for step in listed]


def _indices_of_mask(mask: torch.Tensor, num_envs: int, device: torch.device | str, name: str) -> torch.Tensor:
    """Indices (n,) of the environments that a mask (num_envs,) marks."""
    if tuple(mask.shape) != (num_envs,):
        advice = "; give indices as int64" if mask.dtype == torch.uint8 else ""
        raise ValueError(f"{name}: a mask must have {num_envs} entries, got shape {tuple(mask.shape)}{advice}")
    if mask.dtype == torch.uint8 and mask.device.type == "cpu" and int(mask.numpy().max()) > 1:
        raise ValueError(f"{name}: a mask of uint8 holds 0 and 1, got {int(mask.max())}; give indices as int64")
    return mask.to(device).nonzero().squeeze(1)


def _check_range(indices: np.ndarray, end: int, name: str, distinct: bool) -> None:
    """Raise a ValueError if an index (n,), n > 0, is not in 0 to end - 1, or comes twice and must not."""
    if distinct and bool((indices[1:] > indices[:-1]).all()):  # Mostly they rise.
        lowest, highest = indices[0], indices[-1]
    else:
        lowest, highest = indices.min(), indices.max()
        if distinct:
            values, counts = np.unique(indices, return_counts=True)
            if counts.max() > 1:
                raise ValueError(f"{name} holds {values[counts.argmax()]} more than once")
    if lowest < 0 or highest >= end:
        raise ValueError(f"{name} must lie in 0 to {end - 1}, got {lowest if lowest < 0 else highest}")
