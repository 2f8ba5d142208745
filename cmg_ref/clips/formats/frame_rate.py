"""Whether a clip whose file does not tell its frame rate moves as gravity would have it at the assumed one.

Everything else about a motion stays the same at any speed of play; only gravity sets a time. While one foot stands, a
body falls away from it like an inverted pendulum: its centre of mass accelerates by g / h times its horizontal distance
from the foot (S. Kajita et al., "The 3D linear inverted pendulum mode", IROS 2001).
"""

from __future__ import annotations

import math

import torch

from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.rotations import quat_rotate
from cmg_ref.robots.kinematics import FootKinematics, ForwardKinematics
from cmg_ref.robots.robot import Robot

GRAVITY = 9.81
SWING_HEIGHT = 0.04
"""The other foot is in the air when it is this much higher than the standing one [m]."""
STANCE_HEIGHT = 0.03
"""A foot stands when it is no higher than this above the clip's floor [m]."""
REACH = 2
"""Accelerations are second differences over this many frames on either side."""
MIN_STANCE_FRAMES = 100
MIN_STANCE_SHARE = 0.03
MIN_CORRELATION = 0.25
"""Fewer frames on one foot, or accelerations that follow the pendulum less than this, tell nothing."""
MAX_FRAMES = 4000
"""As many frames are enough; what follows is left alone."""


def frame_rate_bounds(clip: MotionClip, robot: Robot) -> tuple[float, float] | None:
    """Lowest and highest frame rate at which the clip's steps are those of a body under gravity.

    Both the accelerations and the lever arms carry errors (noise; where under the sole the foot presses). Regressing
    either on the other therefore errs to either side, and the true rate lies between the two slopes.

    Args:
        clip: A clip; its own rate does not matter.
        robot: Robot whose joints the clip has.

    Returns:
        Frames per second from and to, or None where the motion does not tell: it stands, or takes too few steps.
    """
    clip = clip.reordered(robot).slice(0, MAX_FRAMES)
    if clip.num_frames < MIN_STANCE_FRAMES:
        return None
    position, rotation = ForwardKinematics(robot, dtype=torch.float64).matrices(clip.dof_pos)
    share = robot.body_mass / robot.body_mass.sum()
    offset = torch.einsum("tbij,bj->tbi", rotation, robot.body_com)
    mass_centre_b = torch.einsum("b,tbi->ti", share, position + offset)
    mass_centre = clip.root_pos + quat_rotate(clip.root_quat, mass_centre_b)  # (T, 3)
    soles = FootKinematics(robot, dtype=torch.float64)(clip.dof_pos, clip.root_pos, clip.root_quat)  # (T, 2, 4, 3)

    acceleration = (mass_centre[2 * REACH :] - 2.0 * mass_centre[REACH:-REACH] + mass_centre[: -2 * REACH]) / REACH**2
    mass_centre, soles = mass_centre[REACH:-REACH], soles[REACH:-REACH]
    height = soles[..., 2].amin(dim=-1)  # (T, 2)
    lowest, standing = height.min(dim=-1)
    on_floor = lowest < lowest.quantile(0.3) + STANCE_HEIGHT
    on_one_foot = on_floor & (height.amax(dim=-1) - lowest > SWING_HEIGHT)
    if on_one_foot.sum() < max(MIN_STANCE_FRAMES, MIN_STANCE_SHARE * clip.num_frames):
        return None
    foot = soles.mean(dim=2)[torch.arange(len(soles)), standing]
    lever = mass_centre - foot
    fall = (GRAVITY * lever[:, :2] / lever[:, 2:].clamp(min=0.1))[on_one_foot]  # [m/s^2]
    found = acceleration[on_one_foot, :2]  # [m per frame^2]
    together, of_found, of_fall = (found * fall).sum(), (found**2).sum(), (fall**2).sum()
    if together <= MIN_CORRELATION * (of_found * of_fall).sqrt():
        return None
    return math.sqrt(together / of_found), math.sqrt(of_fall / together)
