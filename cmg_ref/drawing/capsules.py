"""How the G1 looks when it is drawn: capsules on its links, the left limbs blue and the right ones orange.

The collision geometry of the robot's description is plain on purpose; these parts are only ever looked at. Links are
matched by name, so that any description of a G1 can be drawn, with or without wrists.
"""

from __future__ import annotations

import numpy as np
import torch

from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.rotations import matrix_from_quat
from cmg_ref.drawing.ray_caster import Figure
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot

SHELL = (0.90, 0.91, 0.93)
METAL = (0.40, 0.43, 0.48)
DARK = (0.13, 0.14, 0.17)
LEFT = (0.20, 0.46, 0.80)
RIGHT = (0.93, 0.50, 0.16)
GHOST = (0.25, 0.70, 0.45)
GHOST_OPACITY = 0.45

# Link, one end and other end of the capsule's axis in the link's frame [m], radius [m], colour.
_MIDDLE = (
    ("pelvis", (0.0, -0.040, -0.050), (0.0, 0.040, -0.050), 0.054, DARK),
    ("pelvis", (0.0, -0.030, -0.100), (0.0, 0.030, -0.100), 0.052, METAL),
    ("waist_yaw_link", (0.0, 0.0, 0.000), (0.0, 0.0, 0.055), 0.052, METAL),
    ("torso_link", (0.002, -0.036, 0.060), (0.002, 0.036, 0.060), 0.056, DARK),
    ("torso_link", (0.002, -0.030, 0.115), (0.010, -0.052, 0.225), 0.066, SHELL),
    ("torso_link", (0.002, 0.030, 0.115), (0.010, 0.052, 0.225), 0.066, SHELL),
    ("torso_link", (0.014, 0.000, 0.115), (0.016, 0.000, 0.225), 0.066, SHELL),
    ("torso_link", (0.002, -0.064, 0.243), (0.002, 0.064, 0.243), 0.052, SHELL),
    ("torso_link", (0.056, -0.024, 0.205), (0.056, 0.024, 0.205), 0.031, DARK),
    ("torso_link", (0.000, 0.0, 0.290), (0.003, 0.0, 0.340), 0.036, METAL),
    ("torso_link", (0.002, 0.0, 0.385), (0.000, 0.0, 0.440), 0.066, SHELL),
    ("torso_link", (0.024, 0.0, 0.375), (0.020, 0.0, 0.432), 0.055, DARK),
)
# The same for the left side; the right side is its mirror image.
_LEFT = (
    ("hip_pitch_link", (0.0, 0.010, -0.006), (0.0, 0.050, -0.029), 0.049, METAL),
    ("hip_roll_link", (0.024, 0.0, -0.010), (0.024, 0.0, -0.085), 0.052, LEFT),
    ("hip_yaw_link", (0.000, 0.0, -0.020), (-0.052, 0.001, -0.125), 0.054, LEFT),
    ("hip_yaw_link", (-0.050, 0.001, -0.120), (-0.070, 0.002, -0.160), 0.047, LEFT),
    ("knee_link", (0.0, -0.024, 0.0), (0.0, 0.024, 0.0), 0.046, METAL),
    ("knee_link", (0.014, 0.0, -0.050), (0.008, 0.0, -0.150), 0.044, LEFT),
    ("knee_link", (0.006, 0.0, -0.150), (0.001, 0.0, -0.275), 0.032, LEFT),
    ("ankle_pitch_link", (0.0, -0.014, 0.0), (0.0, 0.014, 0.0), 0.027, METAL),
    # The sole reaches to the corners of the contact points.
    ("ankle_roll_link", (-0.046, -0.018, -0.022), (0.112, -0.022, -0.022), 0.013, DARK),
    ("ankle_roll_link", (-0.050, -0.009, -0.022), (0.118, -0.011, -0.022), 0.013, DARK),
    ("ankle_roll_link", (-0.050, 0.000, -0.022), (0.120, 0.000, -0.022), 0.013, DARK),
    ("ankle_roll_link", (-0.050, 0.009, -0.022), (0.118, 0.011, -0.022), 0.013, DARK),
    ("ankle_roll_link", (-0.046, 0.018, -0.022), (0.112, 0.022, -0.022), 0.013, DARK),
    ("ankle_roll_link", (-0.026, 0.0, -0.006), (0.078, 0.0, -0.015), 0.023, LEFT),
    ("shoulder_pitch_link", (0.0, 0.004, 0.0), (0.0, 0.040, -0.012), 0.044, METAL),
    ("shoulder_roll_link", (0.0, 0.004, -0.005), (0.0, 0.006, -0.060), 0.041, LEFT),
    ("shoulder_yaw_link", (0.0, 0.0, 0.030), (0.006, -0.002, -0.060), 0.037, LEFT),
    ("elbow_link", (0.0, -0.014, 0.0), (0.0, 0.014, 0.0), 0.036, METAL),
    ("elbow_link", (0.030, 0.001, -0.006), (0.090, 0.002, -0.010), 0.036, LEFT),
    ("wrist_roll_link", (0.0, 0.0, 0.0), (0.034, 0.0, 0.0), 0.031, LEFT),
    ("wrist_pitch_link", (0.0, -0.010, 0.0), (0.0, 0.010, 0.0), 0.028, METAL),
    ("wrist_pitch_link", (0.0, 0.0, 0.0), (0.046, 0.0, 0.0), 0.025, METAL),
    ("wrist_yaw_link", (0.010, 0.0, 0.0), (0.070, -0.003, 0.0), 0.030, DARK),
    ("wrist_yaw_link", (0.070, -0.003, 0.008), (0.122, -0.010, 0.002), 0.019, DARK),
    ("wrist_yaw_link", (0.070, -0.003, -0.012), (0.120, -0.010, -0.014), 0.019, DARK),
)


def figures(clip: MotionClip, robot: Robot, ghost: bool = False) -> list[Figure]:
    """What to draw of a clip, frame by frame.

    Args:
        clip: The motion.
        robot: Whose joints it has.
        ghost: Draw it half transparent and in one colour, to go with a solid robot.

    Raises:
        ClipError: The clip has other joints than the robot.
    """
    links, start, end, radius, color = _parts(robot)
    position_b, rotation_b = ForwardKinematics(robot, links, dtype=torch.float64).matrices(
        clip.reordered(robot).dof_pos
    )
    root_rotation = matrix_from_quat(clip.root_quat).unsqueeze(1)  # (num_frames, 1, 3, 3)

    def place(points: torch.Tensor) -> np.ndarray:
        """Points of the links (num_shapes, 3) in the world, (num_frames, num_shapes, 3)."""
        points_b = position_b + (rotation_b @ points.unsqueeze(-1)).squeeze(-1)
        return ((root_rotation @ points_b.unsqueeze(-1)).squeeze(-1) + clip.root_pos.unsqueeze(1)).numpy()

    if ghost:
        color = np.tile(GHOST, (len(links), 1))
    opacity = GHOST_OPACITY if ghost else 1.0
    return [Figure(*ends, radius, color, opacity) for ends in zip(place(start), place(end))]


def _parts(robot: Robot) -> tuple[list[str], torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    """Links, ends, radii and colours of all parts whose links the robot has."""
    parts = [
        *_MIDDLE,
        *(("left_" + link, start, end, radius, color) for link, start, end, radius, color in _LEFT),
        *(
            ("right_" + link, _mirrored(start), _mirrored(end), radius, RIGHT if color == LEFT else color)
            for link, start, end, radius, color in _LEFT
        ),
    ]
    links, start, end, radius, color = zip(*(part for part in parts if part[0] in robot.body_names))
    return (
        list(links),
        torch.tensor(start, dtype=torch.float64),
        torch.tensor(end, dtype=torch.float64),
        np.array(radius),
        np.array(color),
    )


def _mirrored(point: tuple[float, float, float]) -> tuple[float, float, float]:
    return point[0], -point[1], point[2]
