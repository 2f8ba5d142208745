"""Moments of one motion side by side in a single picture, as the one in the README."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cmg_ref.clips.motion_clip import ClipError, MotionClip
from cmg_ref.drawing.capsules import figures
from cmg_ref.drawing.ray_caster import Camera, SoftwareRenderer
from cmg_ref.files.atomic_file import atomic_file
from cmg_ref.robots.robot import Robot

NUM_MOMENTS = 8
CLOSEST = 0.4  # [m] between two figures
LEAST_HALF_HEIGHT = 0.8  # [m]
MARGIN = 0.55  # [m] left and right of the first and the last figure
FIELD_OF_VIEW = 8.0  # [degrees] from far away, so that all figures are seen from the side


def save_strip(clip: MotionClip, robot: Robot, path: Path, width: int = 1600, height: int = 420) -> None:
    """Draw the moments at which a robot has gone equal parts of its way forward.

    Args:
        clip: Motion along the x-axis of the world.
        robot: Its robot.
        path: Picture to write (.png).
        width: Pixels.
        height: Pixels.

    Raises:
        ClipError: The way is so short that the figures would overlap.
    """
    from PIL import Image

    way = clip.root_pos[:, 0].cummax(dim=0).values.numpy()
    if way[-1] - way[0] < NUM_MOMENTS * CLOSEST:
        raise ClipError(f"the robot went only {way[-1] - way[0]:.1f} m forward: its {NUM_MOMENTS} figures overlap")
    moments = np.searchsorted(way, np.linspace(way[0], way[-1], NUM_MOMENTS))
    # As far away as it takes for the whole way, and the whole robot, to fit in.
    half_width = 0.5 * float(way[-1] - way[0]) + MARGIN
    half_height = max(half_width * height / width, LEAST_HALF_HEIGHT)
    distance = half_height / np.tan(np.deg2rad(0.5 * FIELD_OF_VIEW))
    camera = Camera(azimuth=90.0, elevation=-9.0, distance=distance, height=0.62, field_of_view=FIELD_OF_VIEW)
    shown = figures(clip, robot)
    picture = SoftwareRenderer(width, height, camera).draw(
        (0.5 * float(way[0] + way[-1]), 0.0), [shown[moment] for moment in moments]
    )
    with atomic_file(path) as temporary:
        Image.fromarray(picture).save(temporary, optimize=True)
