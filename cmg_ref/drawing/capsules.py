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
    body = CapsuleBody(robot)
    places = body.place(clip.reordered(robot).dof_pos, clip.root_pos, clip.root_quat)
    color = np.tile(GHOST, (len(body.radius), 1)) if ghost else body.color
    opacity = GHOST_OPACITY if ghost else 1.0
    return [Figure(*ends, body.radius, color, opacity) for ends in zip(*places)]


class CapsuleBody:
    """The capsules of a robot, to be put where its links are.

    Args:
        robot: Whose description says what to draw.

    Attributes:
        radius, length: Of each capsule and of its axis [m], (num_shapes,) each.
        color: RGB from 0 to 1, (num_shapes, 3).

    Raises:
        RobotError: The description has nothing to draw.
    """

    def __init__(self, robot: Robot) -> None:
        links, self._start, self._end, self.radius, self.color = _parts(robot)
        self.length = (self._end - self._start).norm(dim=1).numpy()
        self._kinematics = ForwardKinematics(robot, links, dtype=torch.float64)

    def place(
        self, dof_pos: torch.Tensor, root_pos: torch.Tensor, root_quat: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ends of all axes in the world.

        Args:
            dof_pos: Joint angles in the robot's order [rad], (n, num_joints).
            root_pos: Position of the root in the world [m], (n, 3).
            root_quat: Its orientation, xyzw, (n, 4).

        Returns:
            One end of each axis and the other [m], (n, num_shapes, 3) each.
        """
        position_b, rotation_b = self._kinematics.matrices(dof_pos.double())
        root_rotation = matrix_from_quat(root_quat.double()).unsqueeze(1)  # (n, 1, 3, 3)

        def in_world(points: torch.Tensor) -> np.ndarray:
            points_b = position_b + (rotation_b @ points.unsqueeze(-1)).squeeze(-1)
            return ((root_rotation @ points_b.unsqueeze(-1)).squeeze(-1) + root_pos.unsqueeze(1)).numpy()

        return in_world(self._start), in_world(self._end)


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
