"""Time the motion library beside TWIST's own, both in one run, with TWIST's robot and the questions of its teacher.

  cmg-twist compare --twist_root TWIST
  cmg-twist compare --twist_root TWIST --motion_file clips.yaml --device cuda:0

Every environment asks for now and for all future steps that the teacher observes, each library about its own motions at
random times. Without --motion_file, TWIST's library gets clips that `cmg-generate --format twist` would write.
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command, whole_number  # isort: skip

# Isaac Gym has to be imported before torch.
from envs.hosts import twist  # isort: skip

import argparse
import importlib
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import torch

from cmg_ref.clips.formats.writers import write_twist_pickle
from cmg_ref.core.devices import checked_device
from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.robots.urdf import read_urdf
from cmg_ref.rollout.clip_generation import generate_clips
from cmg_ref.twist.motion_lib import CMGMotionLib
from configs.bounds import MAX_NUM_ENVS, MAX_THREADS
from envs.hosts.twist_mimic import motion_lib_cfg, robot_file

CLIP_COMMANDS = ((0.0, 0.0, 0.0), (0.6, 0.0, 0.0), (1.2, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, 0.8), (-0.4, 0.0, 0.0))
CLIP_LENGTH = 12.0  # [s]


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument("--twist_root", help="checkout of TWIST (default: $TWIST_ROOT, or TWIST as installed)")
    parser.add_argument("--motion_file", type=Path, help="TWIST's clips: a .pkl, or a .yaml that lists them")
    parser.add_argument("--num_envs", type=whole_number(1, MAX_NUM_ENVS), default=4096, help="default: %(default)s")
    parser.add_argument(
        "--num_motions", type=whole_number(1, 10**7), help="motions of our library (default: as in training)"
    )
    parser.add_argument("--all_bodies", action="store_true", help="all bodies of the robot, not only key bodies")
    parser.add_argument(
        "--repeats", type=whole_number(1, 10**6), default=7, help="of which the fastest counts (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=whole_number(1, MAX_THREADS), default=1, help="of torch (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    return parser.parse_args()


def write_clips(folder: Path) -> Path:
    """Write generated clips for TWIST's library; returns the file that lists them."""
    checkpoint = load_checkpoint()
    commands = torch.tensor(CLIP_COMMANDS).unsqueeze(1).repeat(1, round(CLIP_LENGTH * checkpoint.fps), 1)
    lines = [f"root_path: {folder}", "motions:"]
    for number, clip in enumerate(generate_clips(checkpoint, commands)):
        write_twist_pickle(clip, folder / f"{number}.pkl", checkpoint.robot(), wrists=False)
        lines += [f"- file: {number}.pkl", "  weight: 1.0"]
    (folder / "clips.yaml").write_text("\n".join(lines))
    return folder / "clips.yaml"


def our_library(cfg: Any, arguments: argparse.Namespace) -> CMGMotionLib:
    """Our library, as the teacher of a TWIST configuration gets it."""
    tree = read_urdf(robot_file(cfg))
    feet = [name for name in tree.body_names if cfg.asset.foot_name in name]
    bodies = tree.body_names if arguments.all_bodies else tuple(dict.fromkeys([*cfg.motion.key_bodies, *feet]))
    cfg.cmg.num_blocks = 0
    cfg.cmg.num_motions = arguments.num_motions or cfg.cmg.num_motions
    control_dt = cfg.sim.dt * cfg.control.decimation
    lib_cfg = motion_lib_cfg(cfg, control_dt, tree.joint_names)
    return CMGMotionLib(lib_cfg, arguments.num_envs, control_dt, tree, bodies, device=arguments.device)


def question(library: Any, offsets: torch.Tensor, num_envs: int) -> Callable[[], Any]:
    """Asks a library for the frames of environments at random times and at offsets (num_times,) [s] from there."""
    device = offsets.device
    motions = torch.randint(library.num_motions(), (num_envs,), device=device)
    times = torch.rand(num_envs, device=device) * library.get_motion_length(motions)
    motions = motions.unsqueeze(1).expand(-1, len(offsets)).flatten()
    times = (times.unsqueeze(1) + offsets).flatten()
    return lambda: library.calc_motion_frame(motions, times.clone())  # TWIST's library writes into the times


def seconds(ask: Callable[[], Any], device: str) -> float:
    """How long a question takes [s]."""
    if device != "cpu":
        torch.cuda.synchronize()
    started = time.perf_counter()
    ask()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def compare(arguments: argparse.Namespace) -> None:
    """Build both libraries, time them in turn, and print what came out."""
    registry = twist.register_tasks(arguments.twist_root)
    cfg, _ = registry.get_cfgs(twist.TEACHER)
    motion_lib = importlib.import_module("pose.utils.motion_lib_pkl")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.motion_file is not None and not arguments.motion_file.is_file():
        raise OSError(f"{arguments.motion_file} does not exist")
    with tempfile.TemporaryDirectory() as folder:
        file = arguments.motion_file or write_clips(Path(folder))
        theirs = motion_lib.MotionLib(str(file), arguments.device)
    ours = our_library(cfg, arguments)
    offsets = torch.tensor([0, *cfg.env.tar_obs_steps], device=arguments.device) * ours.control_dt
    asked = [question(library, offsets, arguments.num_envs) for library in (theirs, ours)]
    for ask in asked:
        ask()
    costs = [[seconds(ask, arguments.device) for ask in asked] for _ in range(arguments.repeats)]
    theirs_took, ours_took = (min(cost[place] for cost in costs) for place in (0, 1))
    print(
        f"{arguments.num_envs} environments x {len(offsets)} times, {arguments.device}, {arguments.threads} thread(s)"
    )
    for name, library, took, ask in (("TWIST", theirs, theirs_took, asked[0]), ("ours", ours, ours_took, asked[1])):
        frames = ask()
        held = f"{library.num_motions()} motions of {library.get_total_length():.0f} s together"
        print(f"{name:<6}{1e3 * took:8.1f} ms  {frames[4].shape[1]} joints, {frames[6].shape[1]} bodies, {held}")
    print(f"ours / TWIST = {ours_took / theirs_took:.3f}")


@command(twist.TwistError, ValueError, OSError)
def main() -> None:
    """Compare, or say in one line why not."""
    arguments = parse_arguments()
    checked_device(arguments.device, "--device")
    compare(arguments)
