"""Joints of a checkpoint, a robot and a simulator, matched by name and never by place."""

from __future__ import annotations

from typing import Sequence

import torch


def match_joints(
    available: Sequence[str], wanted: Sequence[str] | None, dropped: Sequence[str], device: torch.device
) -> tuple[tuple[str, ...], torch.Tensor | None]:
    """Match joints by name.

    Args:
        available: Joints that there are.
        wanted: Joints asked for, in order; None asks for all that are not dropped.
        dropped: Joints that are left out on purpose.
        device: Device of the columns.

    Returns:
        Names in the order asked for, and the column of each among ``available``, None where the two are the same.

    Raises:
        ValueError: Names a joint that is missing, or that is there but neither wanted nor dropped.
    """
    if wanted is None:
        wanted = [name for name in available if name not in set(dropped)]
    missing = [name for name in wanted if name not in available]
    extra = [name for name in available if name not in wanted and name not in dropped]
    unknown = [name for name in dropped if name not in available]
    if missing or unknown:
        raise ValueError(f"the checkpoint has no joint '{(missing + unknown)[0]}'; it has {', '.join(available)}")
    if extra:
        raise ValueError(
            f"the checkpoint's joint '{extra[0]}' is not asked for; name it in drop_joints to leave it out"
        )
    if tuple(wanted) == tuple(available):
        return tuple(available), None
    return tuple(wanted), torch.tensor([list(available).index(name) for name in wanted], device=device)
