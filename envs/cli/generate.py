"""Turn a velocity command into a motion of the G1: a file of joint and root trajectories, a plot and a video.

Examples:
  cmg-generate --vx 1.0 --duration 10
  cmg-generate --vx 0.6 --wz 0.8 --output outputs/curve.npz
  cmg-generate --schedule commands.csv --format twist --output outputs/mission

A schedule is a CSV file with the header time,vx,vy,wz, or a JSON list of such rows; each command holds until the next.
Further channels of a checkpoint's command have columns of their own there, or --channel LABEL=VALUE.
"""

from __future__ import annotations

from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.command_line import Parser, command, labelled_number, real_number, whole_number  # isort: split

import argparse
import importlib.util
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from cmg_ref.clips.formats.writers import write_npz, write_twist_pickle
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.commands.schedule import MAX_COMMAND, CommandSchedule, held_within
from cmg_ref.core.installation import check_installed
from cmg_ref.core.shorten import one_line
from cmg_ref.drawing.plots import save_clip_plot
from cmg_ref.drawing.strip import save_strip
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.robots.robot import Robot, load_robot
from cmg_ref.rollout.clip_generation import generate_clips
from configs.bounds import MAX_SEED
from envs.playing.video import RENDERERS, VideoError, can_write_mp4, write_video

SUFFIXES = {"npz": ".npz", "twist": ".pkl", "gmr": ".pkl"}
DEFAULT_DURATION = 10.0  # [s]
LAST_COMMAND_TIME = 5.0  # [s] how long the last command of a schedule lasts if no duration is given
MIN_DURATION, MAX_DURATION = 0.2, 600.0  # [s]
SETTLING_TIME = 1.5  # [s] after a change of command, left out of the mean speeds
AXES = CommandLayout().labels


class OptionError(ValueError):
    """An option that cannot be used; the message is one line."""


@dataclass(frozen=True)
class Outputs:
    """Files to write; None for those that are not wanted."""

    motion: Path
    form: str
    plot: Path | None
    video: Path | None


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    motion_command = parser.add_argument_group("command")
    speed = real_number(-MAX_COMMAND, MAX_COMMAND)
    motion_command.add_argument("--vx", type=speed, help="forward speed [m/s] (default: 0)")
    motion_command.add_argument("--vy", type=speed, help="speed to the left [m/s] (default: 0)")
    motion_command.add_argument("--wz", type=speed, help="yaw rate, to the left [rad/s] (default: 0)")
    motion_command.add_argument(
        "--channel",
        type=labelled_number(-MAX_COMMAND, MAX_COMMAND),
        action="append",
        default=[],
        metavar="LABEL=VALUE",
        help="another channel of the checkpoint's command (default: at rest)",
    )
    motion_command.add_argument(
        "--schedule", type=Path, metavar="FILE", help="commands over time instead (.csv or .json)"
    )
    motion_command.add_argument(
        "--duration",
        type=real_number(MIN_DURATION, MAX_DURATION),
        help=f"length of the motion [s] (default: {DEFAULT_DURATION:g}, "
        f"or {LAST_COMMAND_TIME:g} after the last change of a schedule)",
    )
    motion_command.add_argument(
        "--ramp",
        type=real_number(0, 10),
        default=0.5,
        help="time that a change of command takes [s] (default: %(default)s)",
    )
    motion = parser.add_argument_group("motion")
    motion.add_argument("--checkpoint", type=Path, help="trained CMG (.safetensors; default: the one of the package)")
    motion.add_argument("--robot", metavar="ROBOT", help="name or description (.json) (default: the checkpoint's)")
    motion.add_argument(
        "--initial-state",
        default="standing",
        metavar="WHICH",
        help="pose to start from: standing, random (see --seed) or the number of an initial state of the checkpoint "
        "(default: %(default)s)",
    )
    motion.add_argument(
        "--seed", type=whole_number(0, MAX_SEED), default=0, help="of a random initial state (default: %(default)s)"
    )
    motion.add_argument(
        "--fps", type=real_number(1, 1000), help="frame rate of what is written (default: the checkpoint's)"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/motion"),
        help="folder, or motion file (.npz or .pkl) beside which plot and video are put (default: %(default)s)",
    )
    output.add_argument(
        "--format",
        choices=sorted(SUFFIXES),
        help="npz; the pickle of TWIST, whose robot has no wrists; or the same with wrists, as GMR writes it "
        "(default: by the ending of --output, .pkl being TWIST's, else npz)",
    )
    output.add_argument("--no-plot", action="store_true", help="do not draw the plot")
    output.add_argument("--no-video", action="store_true", help="do not draw the video")
    output.add_argument("--strip", type=Path, metavar="FILE", help="draw moments of the motion side by side too (.png)")
    pixels = whole_number(16, 16384)
    output.add_argument(
        "--strip-size",
        type=pixels,
        nargs=2,
        default=(1600, 420),
        metavar=("WIDTH", "HEIGHT"),
        help="of --strip, in pixels (default: 1600 420)",
    )
    output.add_argument(
        "--renderer",
        choices=RENDERERS,
        default="auto",
        help="of the video: MuJoCo's, which needs EGL or OSMesa, or the one built in, which needs nothing "
        "(default: MuJoCo's where it works)",
    )
    arguments = parser.parse_args()
    if arguments.strip is not None and arguments.strip.suffix != ".png":
        parser.error(f"--strip {arguments.strip}: the name must end in .png")
    return arguments


@command(ValueError, OSError, VideoError)
def main() -> None:
    """Check everything, generate, write, report."""
    arguments = parse_arguments()
    if arguments.strip is not None:
        check_installed("PIL")
    # Small matrices: one core is enough, and the others are the renderer's and the encoder's.
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    robot = None if arguments.robot is None else load_robot(arguments.robot)
    checkpoint = load_checkpoint(arguments.checkpoint or (None if robot is None else robot.spec.checkpoint))
    robot = checkpoint.robot(robot)
    schedule = read_schedule(arguments, checkpoint.command_layout)
    duration = chosen_duration(arguments, schedule)
    initial_states = choose_initial_states(arguments, checkpoint, robot)
    outputs = prepare_outputs(arguments)
    commands, held = held_within(
        schedule.sample(checkpoint.fps, duration),
        checkpoint.command_min,
        checkpoint.command_max,
        checkpoint.command_layout,
    )
    for line in held:
        print(line)
    clip = generate_clips(
        checkpoint,
        commands.unsqueeze(0),
        initial_states,
        names=[outputs.motion.stem],
        interpolation_steps=round(arguments.ramp * checkpoint.fps),
        robot=robot,
        progress=True,
    )[0]
    if arguments.fps is not None:
        clip = clip.resample(arguments.fps)
    print_speeds(clip, schedule, checkpoint.command_layout)
    write_outputs(clip, robot, outputs, arguments.renderer)
    if arguments.strip is not None:
        save_strip(clip, robot, arguments.strip, *arguments.strip_size)
        print(f"wrote {arguments.strip}")


def read_schedule(arguments: argparse.Namespace, layout: CommandLayout) -> CommandSchedule:
    """The command over time, from the options or from a file."""
    given = {name: getattr(arguments, name) for name in AXES if getattr(arguments, name) is not None}
    if arguments.schedule is not None:
        if given or arguments.channel:
            option = next(iter([*given, "channel"]))
            raise OptionError(f"--{option} and --schedule cannot go together: the file holds the commands")
        return CommandSchedule.from_file(arguments.schedule, layout)
    return CommandSchedule.constant(**given, layout=layout, **dict(arguments.channel))


def chosen_duration(arguments: argparse.Namespace, schedule: CommandSchedule) -> float:
    """Length of the motion [s]."""
    if arguments.duration is not None:
        return float(arguments.duration)
    if schedule.last_change == 0.0:
        return DEFAULT_DURATION
    return schedule.end(LAST_COMMAND_TIME, MAX_DURATION)


def choose_initial_states(arguments: argparse.Namespace, checkpoint: Checkpoint, robot: Robot) -> torch.Tensor:
    """The state to start from, (1, state_dim)."""
    which, number = arguments.initial_state, len(checkpoint.initial_states)
    if which == "standing":
        return checkpoint.standing_state(robot).unsqueeze(0)
    if which == "random":
        index = int(torch.randint(number, (1,), generator=torch.Generator().manual_seed(arguments.seed)))
    elif which.isdecimal() and len(which) < 10 and int(which) < number:
        index = int(which)
    else:
        raise OptionError(
            f"--initial-state {one_line(which, 80)}: must be standing, random or a number from 0 to {number - 1}"
        )
    return checkpoint.initial_states[index].unsqueeze(0)


def prepare_outputs(arguments: argparse.Namespace) -> Outputs:
    """Names of the files; makes their folder and finds out whether it can be written to."""
    output, form = arguments.output, arguments.format
    if output.suffix and not output.is_dir():
        forms = [name for name, suffix in SUFFIXES.items() if suffix == output.suffix]
        if not forms:
            raise OptionError(f"--output {output}: must end in .npz or .pkl, or name a folder (without a dot)")
        if form not in (None, *forms):
            raise OptionError(f"--output {output}: a file of --format {form} ends in {SUFFIXES[form]}")
        folder, stem, form = output.parent, output.stem, form or forms[0]
    else:
        folder, stem, form = output, "motion", form or "npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OptionError(f"--output {output}: cannot write there: {error.strerror}") from error
    plot, video = folder / f"{stem}.png", folder / f"{stem}{'.mp4' if can_write_mp4() else '.gif'}"
    wanted_plot = not arguments.no_plot and installed("matplotlib", "a plot", "--no-plot")
    wanted_video = not arguments.no_video and installed("PIL", "a video", "--no-video")
    motion = folder / f"{stem}{SUFFIXES[form]}"
    return Outputs(motion, form, plot if wanted_plot else None, video if wanted_video else None)


def installed(module: str, what: str, option: str) -> bool:
    """Whether an optional package is there; says so if it is not."""
    if importlib.util.find_spec(module) is not None:
        return True
    print(f"without {what}: it needs more packages, pip install 'cmg_ref[viz]' ({option} does without)")
    return False


def print_speeds(clip: MotionClip, schedule: CommandSchedule, layout: CommandLayout) -> None:
    """A row for each command: what was asked for, and the mean of what the root did once it had settled."""
    assert clip.command is not None
    done = torch.cat((clip.root_lin_vel_h()[:, :2], clip.root_yaw_rate()[:, None]), dim=-1)  # (num_frames, 3)
    starts = [round(time * clip.fps) for time in schedule.times.tolist()]
    print(f"{'time [s]':>15}   {'command ' + layout.title():32}   mean of the root")
    for start, end in zip(starts, [*starts[1:], clip.num_frames], strict=True):
        end = min(end, clip.num_frames)
        if start >= end:
            continue
        settled = done[start + round(SETTLING_TIME * clip.fps) : end]
        times = f"{start / clip.fps:.1f} to {end / clip.fps:.1f}"
        mean = in_columns(settled.mean(dim=0)) if len(settled) else f"(shorter than the {SETTLING_TIME:g} s it takes)"
        print(f"{times:>15}   {in_columns(clip.command[end - 1]):32}   {mean}")


def in_columns(values: torch.Tensor) -> str:
    """Numbers in columns."""
    return "  ".join(f"{value:+.2f}" for value in values.tolist())


def write_outputs(clip: MotionClip, robot: Robot, outputs: Outputs, renderer: str) -> None:
    """Writes motion, plot and video, and says what was written."""
    if outputs.form == "npz":
        write_npz(clip, outputs.motion)
    else:
        write_twist_pickle(clip, outputs.motion, robot, wrists=outputs.form == "gmr")
    print(f"wrote {outputs.motion} ({clip.num_frames} frames at {clip.fps:g} per second)")
    if outputs.plot is not None:
        save_clip_plot(clip, outputs.plot, robot)
        print(f"wrote {outputs.plot}")
    if outputs.video is not None:
        report = write_video(clip, outputs.video, robot, renderer=renderer)
        reason = f"; not by MuJoCo: {report.note}" if report.note else ""
        print(f"wrote {report.path} ({report.num_frames} frames, drawn by {report.renderer}{reason})")
