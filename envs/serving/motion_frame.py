"""A motion frame: what a low level is told to look like in the next control step, as one array of numbers."""

from __future__ import annotations

import numpy as np

from cmg_ref.robots.robot import load_g1
from envs.deployment.twist2_controller import DEFAULT_POSE

JOINT_NAMES = load_g1().joint_names
# Columns: velocity in the root's frame [m/s], height [m], roll, pitch, yaw [rad], yaw rate in the root's frame
# [rad/s], joint angles in Unitree's order, fingers of each hand and neck [rad].
VELOCITY, HEIGHT, ROLL, PITCH, YAW, YAW_RATE = slice(0, 3), 3, 4, 5, 6, 7
JOINTS, LEFT_HAND, RIGHT_HAND, NECK = slice(8, 37), slice(37, 44), slice(44, 51), slice(51, 53)
SIZE = 53


def standing_frame(height: float) -> np.ndarray:
    """The default pose of TWIST and TWIST2, upright and at rest, the root at a height [m], (SIZE,)."""
    frame = np.zeros(SIZE)
    frame[HEIGHT], frame[JOINTS] = height, DEFAULT_POSE
    return frame


def eased(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """A frame on the way between two, gently at both ends; the yaw, which no pose has, is that of the end."""
    share = min(max(share, 0.0), 1.0)
    share = share * share * (3.0 - 2.0 * share)
    frame = (1.0 - share) * start + share * end  # exact at both ends
    frame[YAW] = end[YAW]
    return frame
