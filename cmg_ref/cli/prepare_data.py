"""Turn folders of motion clips into one dataset file for cmg-train.

Reads LAFAN1 CSV, AMASS npz, GMR and TWIST pickles, BeyondMimic and mjlab npz and this project's own npz, all retargeted
to one robot. Clips are resampled to one rate, put on the floor, their arms moved out of the body, and checked: frames
that crouch, bend over, leave the floor, jump or pose are marked and not used. A picture of the velocities that are left
is drawn beside the dataset.

Example:
  cmg-prepare-data path/to/clips --output data/dataset.safetensors
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command, real_number, whole_number  # isort: split

import argparse
import importlib.util
from pathlib import Path

from cmg_ref.clips.dataset import ClipSummary, MotionDataset, build_dataset_with_summary
from cmg_ref.clips.formats.collection import read_clips
from cmg_ref.clips.formats.quaternion_order import ORDERS
from cmg_ref.clips.held_out import default_held_out
from cmg_ref.clips.motion_clip import ClipError
from cmg_ref.core.command_layout import FURTHER_CHANNELS, CommandLayout
from cmg_ref.core.progress import ProgressBar
from cmg_ref.drawing.coverage_plot import plot_velocity_coverage
from cmg_ref.robots.robot import RobotError, load_robot


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="clip file, or folder searched to any depth"
    )
    parser.add_argument(
        "--robot", default="g1", help="name or description (.json) of the robot of the clips (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, required=True, help="dataset file to write (.safetensors)")
    parser.add_argument(
        "--fps", type=real_number(1, 1000), default=50.0, help="frame rate of the dataset (default: %(default)s)"
    )
    parser.add_argument(
        "--csv-fps",
        type=real_number(1, 1000),
        help="frame rate of CSV clips, which do not tell (default: the robot's, 30 of the G1, unless gravity speaks "
        "against it)",
    )
    parser.add_argument(
        "--quat-order",
        choices=ORDERS,
        help="order of quaternions in CSV clips and pickles (default: what the motion tells)",
    )
    parser.add_argument(
        "--held-out",
        nargs="*",
        metavar="NAME",
        help="clips to keep out of training, each a name or name[start:end] in seconds (default: parts of the known "
        "LAFAN1, TWIST2 and AMASS clips, a tenth of every kind of motion; without those, the last tenth of long clips)",
    )
    parser.add_argument(
        "--channels",
        nargs="*",
        choices=sorted(FURTHER_CHANNELS),
        default=[],
        help="what the CMG is told beside the velocity, measured in the clips",
    )
    parser.add_argument(
        "--no-repair", action="store_true", help="leave arms that reach into the body where the retargeting has them"
    )
    parser.add_argument(
        "--lowered",
        type=whole_number(0, 100),
        default=0,
        metavar="COPIES",
        help="copies of each clip with the body lowered by up to 0.2 m and the feet where they were, to walk low by; "
        "needs --channels base_height (default: %(default)s)",
    )
    parser.add_argument(
        "--licence",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="licence terms of a clip or of the clips in a folder of this name; may be repeated",
    )
    parser.add_argument(
        "--skip-broken", action="store_true", help="leave out clips that cannot be read instead of stopping"
    )
    arguments = parser.parse_args()
    if arguments.output.suffix != ".safetensors":
        parser.error(f"--output {arguments.output}: the name must end in .safetensors")
    if arguments.lowered and "base_height" not in arguments.channels:
        parser.error("--lowered needs --channels base_height, which tells the CMG how low")
    for entry in arguments.licence:
        if "=" not in entry:
            parser.error(f"--licence {entry}: must be NAME=TEXT")
    return arguments


@command(ClipError, RobotError, OSError)
def main() -> None:
    """Read, build, save, report."""
    arguments = parse_arguments()
    robot = load_robot(arguments.robot)
    clips = read_clips(
        arguments.paths,
        robot,
        arguments.csv_fps,
        quat_order=arguments.quat_order,
        skip_broken=arguments.skip_broken,
        say=ProgressBar.write,
        progress=lambda files: ProgressBar(files, desc="reading", unit="clip"),
    )
    held_out = default_held_out(clips) if arguments.held_out is None else arguments.held_out
    licences = dict(entry.split("=", 1) for entry in arguments.licence)
    layout = CommandLayout.of_names(arguments.channels)
    dataset, summaries = build_dataset_with_summary(
        clips,
        robot,
        arguments.fps,
        held_out,
        licences,
        progress=True,
        command_layout=layout,
        repair=not arguments.no_repair,
        lowered_copies=arguments.lowered,
    )
    dataset.save(arguments.output)
    print_summary(dataset, summaries)
    print(f"\nwrote {arguments.output}")
    if importlib.util.find_spec("matplotlib") is None:
        print("no picture of the coverage: it needs matplotlib, pip install 'cmg_ref[viz]'")
        return
    picture = arguments.output.with_suffix(".png")
    plot_velocity_coverage(dataset, picture)
    print(f"wrote {picture}")


def print_summary(dataset: MotionDataset, summaries: list[ClipSummary]) -> None:
    """A row for each clip, then the seconds of each kind of motion."""
    width = max(len(summary.name) for summary in summaries)
    print(f"\n{'clip':{width}}  seconds  kept  floor    why not (share of frames)")
    for summary in summaries:
        kept = summary.num_kept / summary.num_frames
        causes = sorted(summary.rejected.items(), key=lambda cause: -cause[1])
        reasons = ", ".join(f"{name} {frames / summary.num_frames:.0%}" for name, frames in causes if frames)
        print(
            f"{summary.name:{width}}  {summary.num_frames / dataset.fps:7.1f}  {kept:4.0%}"
            f"  {1000.0 * summary.floor_offset:+3.0f} mm  {'[held out] ' if summary.held_out else ''}{reasons}"
        )
    training, held_out = dataset.speed_summary(held_out=False), dataset.speed_summary(held_out=True)
    print(f"\n{'motion':20}  training [s]  held out [s]")
    for band in training:
        print(f"{band:20}  {training[band]:12.1f}  {held_out[band]:12.1f}")
    print(f"{'all':20}  {sum(training.values()):12.1f}  {sum(held_out.values()):12.1f}")
