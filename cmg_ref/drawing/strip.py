"""Draw moments of one generated motion side by side in a single picture, as the one in the README.

Example:
  python scripts/draw_strip.py --output docs/motion.png
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command, whole_number  # isort: split

from pathlib import Path

import numpy as np

from cmg_ref import CommandSchedule, generate_clips, load_checkpoint, load_g1
from cmg_ref.core.extras import check_installed
from cmg_ref.drawing.capsules import figures
from cmg_ref.drawing.ray_caster import Camera, SoftwareRenderer
from cmg_ref.files.atomic_file import atomic_file

# time [s], vx, vy [m/s], wz [rad/s]: stand, walk, run, slow down.
SCHEDULE = [(0.0, 0.0, 0.0, 0.0), (0.8, 1.0, 0.0, 0.0), (3.0, 2.5, 0.0, 0.0), (5.0, 0.5, 0.0, 0.0)]
DURATION = 7.0
NUM_MOMENTS = 8
CLOSEST = 0.4  # [m] between two figures
LEAST_HALF_HEIGHT = 0.8  # [m]
MARGIN = 0.55  # [m] left and right of the first and the last figure
FIELD_OF_VIEW = 8.0  # [degrees] from far away, so that all figures are seen from the side


@command("draw_strip")
def main() -> None:
    """Generate, choose moments a step apart, draw them all at once."""
    parser = Parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="picture to write (.png)")
    parser.add_argument("--checkpoint", type=Path, help="trained CMG (default: the one of the package)")
    pixels = whole_number(16, 16384)
    parser.add_argument("--width", type=pixels, default=1600, help="pixels (default: %(default)s)")
    parser.add_argument("--height", type=pixels, default=420, help="pixels (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.output.suffix != ".png":
        parser.error(f"--output {arguments.output}: the name must end in .png")
    check_installed("PIL")
    from PIL import Image

    checkpoint = load_checkpoint(arguments.checkpoint)
    commands = CommandSchedule(SCHEDULE).sample(checkpoint.fps, DURATION)
    clip = generate_clips(checkpoint, commands.unsqueeze(0))[0]
    way = clip.root_pos[:, 0].cummax(dim=0).values.numpy()
    if way[-1] - way[0] < NUM_MOMENTS * CLOSEST:
        raise ValueError(f"the robot went only {way[-1] - way[0]:.1f} m forward: its {NUM_MOMENTS} figures overlap")
    marks = np.linspace(way[0], way[-1], NUM_MOMENTS)
    frames = np.searchsorted(way, marks)
    # As far away as it takes for the whole way, and the whole robot, to fit in.
    half_width = 0.5 * float(way[-1] - way[0]) + MARGIN
    half_height = max(half_width * arguments.height / arguments.width, LEAST_HALF_HEIGHT)
    distance = half_height / np.tan(np.deg2rad(0.5 * FIELD_OF_VIEW))
    camera = Camera(azimuth=90.0, elevation=-9.0, distance=distance, height=0.62, field_of_view=FIELD_OF_VIEW)
    shown = figures(clip, load_g1())
    picture = SoftwareRenderer(arguments.width, arguments.height, camera).draw(
        (0.5 * float(way[0] + way[-1]), 0.0), [shown[frame] for frame in frames]
    )
    with atomic_file(arguments.output) as temporary:
        Image.fromarray(picture).save(temporary, optimize=True)
    print(f"wrote {arguments.output} ({len(frames)} moments of {DURATION:g} s)")


if __name__ == "__main__":
    main()
