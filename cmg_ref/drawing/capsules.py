"""How a robot looks when it is drawn: capsules on its links, the left limbs blue and the right ones orange.

Links are matched by name, so that other models of the same robot can be drawn, a G1 without wrists for example.
"""

from __future__ import annotations

import numpy as np
import torch

from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.rotations import matrix_from_quat
from cmg_ref.drawing.ray_caster import Figure
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot
from cmg_ref.robots.spec import RobotError

COLORS = {"shell": (0.90, 0.91, 0.93), "metal": (0.40, 0.43, 0.48), "dark": (0.13, 0.14, 0.17)}
LEFT = (0.20, 0.46, 0.80)
RIGHT = (0.93, 0.50, 0.16)
GHOST = (0.25, 0.70, 0.45)
GHOST_OPACITY = 0.45


def figures(clip: MotionClip, robot: Robot, ghost: bool = False) -> list[Figure]:
    """What to draw of a clip, frame by frame.

    Args:
        clip: The motion.
        robot: Whose joints it has.
        ghost: Draw it half transparent and in one colour, to go with a solid robot.

    Raises:
        ClipError: The clip has other joints than the robot.
        RobotError: The robot's description has nothing to draw.
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
    spec = robot.spec
    parts = [
        (*part[:4], side if part.color == "side" else COLORS[part.color])
        for capsules, side in ((spec.capsules, LEFT), (spec.mirror_images(spec.capsules), RIGHT))
        for part in capsules
    ]
    parts = [part for part in parts if part[0] in robot.body_names]
    if not parts:
        raise RobotError(f"the description of the robot {spec.name} has no capsules to draw it with")
    links, starts, ends, radii, colors = zip(*parts)
    return (
        list(links),
        torch.tensor(starts, dtype=torch.float64),
        torch.tensor(ends, dtype=torch.float64),
        np.array(radii),
        np.array(colors),
    )
