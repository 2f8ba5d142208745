"""Measure a checkpoint, a motion clip or an npz of joint angles, and say which requirements it meets.

A checkpoint is rolled out from standing under steady, changing and random commands. A motion is measured as it is: any
clip format of this project, or an npz with `dof_pos` and `fps` (and, if they are there, `joint_names`, `dof_vel` and
`command`), whose root is then told by the stance foot. Of a folder of clips the gait is measured at every speed.

  cmg-evaluate                                the shipped checkpoint
  cmg-evaluate --gait --motion clips          only its gait, beside that of the people in these clips
  cmg-evaluate clips                          the gait of all clips in a folder
  cmg-evaluate runs/cmg/best.safetensors      another one
  cmg-evaluate walk.npz --command 1.0 0 0     a motion that was told to walk at 1 m/s
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command, real_number  # isort: split

import argparse
import sys
from pathlib import Path

import torch

from cmg_ref.clips.dataset import MotionDataset, build_dataset
from cmg_ref.clips.formats.collection import read_clips
from cmg_ref.clips.held_out import default_held_out
from cmg_ref.commands.schedule import MAX_COMMAND
from cmg_ref.core.devices import checked_device
from cmg_ref.evaluation.checkpoint_evaluation import COMPARED_COMMANDS, CheckpointEvaluation
from cmg_ref.evaluation.clip_evaluation import evaluate_motion
from cmg_ref.evaluation.evaluated_motion import read_motion
from cmg_ref.evaluation.gait_evaluation import evaluate_gait
from cmg_ref.evaluation.mocap_statistics import mocap_figures
from cmg_ref.evaluation.motion_distribution import MotionDistribution
from cmg_ref.evaluation.report import Evaluation, save_report, screen_text
from cmg_ref.network.checkpoint import SHIPPED_CHECKPOINT, load_checkpoint
from cmg_ref.robots.robot import Robot, load_robot


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument(
        "subject",
        type=Path,
        nargs="?",
        default=SHIPPED_CHECKPOINT,
        help="checkpoint, clip, npz or folder of clips (default: the shipped checkpoint)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/evaluation"), help="folder for the report (default: %(default)s)"
    )
    parser.add_argument(
        "--robot", help="name or description (.json) (default: the one that the checkpoint names, g1 for a motion)"
    )
    parser.add_argument("--quick", action="store_true", help="shorter and fewer roll-outs: a first look in seconds")
    parser.add_argument("--gait", action="store_true", help="measure only how a checkpoint moves, about a minute")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 if a requirement is missed")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    mocap = parser.add_mutually_exclusive_group()
    mocap.add_argument("--dataset", type=Path, help="dataset whose held-out clips stand beside (from cmg-prepare-data)")
    mocap.add_argument("--motion", type=Path, help="folder of clips to stand beside instead")
    motion = parser.add_argument_group("for a motion")
    speed = real_number(-MAX_COMMAND, MAX_COMMAND)
    motion.add_argument("--command", type=speed, nargs=3, metavar=("VX", "VY", "WZ"), help="what it was told to do")
    motion.add_argument("--fps", type=real_number(1, 1000), help="frame rate to play it at (default: its own)")
    motion.add_argument(
        "--ignore-root", action="store_true", help="let the stance foot tell the root even if it has one"
    )
    return parser.parse_args()


def recorded_motion(arguments: argparse.Namespace, robot: Robot) -> MotionDataset | None:
    """The recorded motion that the command line names to stand beside."""
    if arguments.dataset is not None:
        return MotionDataset.load(arguments.dataset)
    return None if arguments.motion is None else dataset_of(arguments.motion, robot)


def dataset_of(folder: Path, robot: Robot) -> MotionDataset:
    """The clips of a folder, those that are kept out of training by default held out."""
    clips = read_clips([folder], robot, say=print)
    return build_dataset(clips, robot, held_out=default_held_out(clips), progress=True)


@command()
def main() -> None:
    """Parse, measure, print, save."""
    arguments = parse_arguments()
    subject, device = arguments.subject, checked_device(arguments.device, "--device")
    checkpoint = load_checkpoint(subject) if subject.suffix == ".safetensors" else None
    given = None if arguments.robot is None else load_robot(arguments.robot)
    robot = (given or load_robot("g1")) if checkpoint is None else checkpoint.robot(given)
    recorded = recorded_motion(arguments, robot)
    mocap = None if recorded is None else mocap_figures(recorded, robot, COMPARED_COMMANDS)
    if checkpoint is not None:
        distribution = None if recorded is None else MotionDistribution(recorded, robot)
        mocap = mocap or checkpoint.metadata.get("mocap")
        evaluator = CheckpointEvaluation(checkpoint, robot, mocap, arguments.quick, device, distribution=distribution)
        evaluation = evaluator.run(subject.name, only_gait=arguments.gait)
    elif subject.is_dir():
        evaluation = Evaluation(subject.name, {}, gait=evaluate_gait(dataset_of(subject, robot), robot, mocap))
    else:
        motion = read_motion(subject, robot, arguments.fps, arguments.ignore_root)
        evaluation = evaluate_motion(motion, robot, mocap, arguments.command)
    files = save_report(evaluation, arguments.output)
    print(screen_text(evaluation))
    print("written: " + ", ".join(map(str, files)))
    if evaluation.commanded and len(files) < 3:
        print("no plot: matplotlib is missing, `pip install 'cmg_ref[viz]'` brings it")
    if arguments.strict and evaluation.missed:
        sys.exit(1)
