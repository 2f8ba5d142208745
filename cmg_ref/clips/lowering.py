"""Recorded motion with the body lowered and the feet where they were: what walking low looks like.

People do not crouch in motion capture of walking, or they bend over to it. A robot can: its legs bend more, its hips
move back, which its ankles need, and its body leans forward for balance; arms and steps stay as they are.
"""

from __future__ import annotations

import dataclasses

import torch

from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.robots.inverse_kinematics import LegKinematics
from cmg_ref.robots.robot import Robot

DEEPEST = 0.2
"""Bodies are lowered by up to this [m]."""
HOLDING_TIME, CHANGING_TIME = 4.0, 1.5
"""A depth is kept for the first of these and changed within the second [s]."""


def random_depths(num_frames: int, fps: float, generator: torch.Generator) -> torch.Tensor:
    """How far to lower a body: depths that are kept for a while and changed smoothly, (num_frames,) float64 [m]."""
    period = HOLDING_TIME + CHANGING_TIME
    count = int(num_frames / fps / period) + 2
    depths = DEEPEST * torch.rand(count, generator=generator, dtype=torch.float64)
    time = torch.arange(num_frames, dtype=torch.float64) / fps
    number = (time / period).long()
    share = ((time - number * period - HOLDING_TIME) / CHANGING_TIME).clamp(0.0, 1.0)
    smooth = share * share * (3.0 - 2.0 * share)
    return torch.lerp(depths[number], depths[number + 1], smooth)


def lowered(clip: MotionClip, robot: Robot, depth: torch.Tensor) -> tuple[MotionClip, torch.Tensor]:
    """The clip with its root lowered and its toes and arms where they were.

    Args:
        clip: The clip, in the robot's joint order.
        robot: Robot whose legs bend.
        depth: How far to lower the root, (num_frames,) float64 [m].

    Returns:
        The clip, and the frames in which the legs can do it, (num_frames,) bool.
    """
    moved = LegKinematics(robot).lowered(clip.dof_pos, clip.root_pos, clip.root_quat, depth)
    dof_pos, root_pos, root_quat, reached = moved
    return dataclasses.replace(clip, dof_pos=dof_pos, root_pos=root_pos, root_quat=root_quat, dof_vel=None), reached
