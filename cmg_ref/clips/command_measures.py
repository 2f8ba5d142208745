"""How each channel of a command is measured in a clip: one function per channel, by its name."""

from __future__ import annotations

from typing import Callable

import torch

from cmg_ref.clips.motion_clip import ClipError, MotionClip
from cmg_ref.core.command_layout import CommandLayout

MEASURES: dict[str, Callable[[MotionClip], torch.Tensor]] = {
    "lin_vel_x": lambda clip: clip.root_lin_vel_h()[:, 0],
    "lin_vel_y": lambda clip: clip.root_lin_vel_h()[:, 1],
    "ang_vel_yaw": MotionClip.root_yaw_rate,
    "base_height": MotionClip.root_height,
}
"""Channel to its value at each frame of a clip that stands on the floor, (num_frames,) float64."""


def measured_commands(clip: MotionClip, layout: CommandLayout) -> torch.Tensor:
    """What a clip does in the sense of a command, frame by frame, (num_frames, command_dim) float64.

    Raises:
        ClipError: Nobody knows how to measure a channel.
    """
    for channel in layout:
        if channel.name not in MEASURES:
            raise ClipError(f"command channel '{channel.name}' cannot be measured in clips, only {', '.join(MEASURES)}")
    return torch.stack([MEASURES[channel.name](clip) for channel in layout], dim=-1)
