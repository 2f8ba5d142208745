"""Serve motion frames to TWIST's or TWIST2's low level: velocity commands in, a reference motion out, over Redis.

  cmg-serve --keyboard                       # TWIST2; w s a d q e, space to stand, x to end
  cmg-serve --keyboard --hold                # stops when no key is held down
  cmg-serve --gamepad /dev/input/js0         # sticks, while the left button at the front is held
  cmg-serve --schedule commands.csv          # time,vx,vy,wz
  cmg-serve --redis-commands                 # JSON lists of vx, vy, wz under the key cmg_serve_command
  cmg-serve --command 0.5 0 0 --dry-run      # prints the frames
  cmg-serve --calibrate twist2.onnx g1_sim2sim_29dof.xml --calibration map.json

Ctrl-C, x, the end of a schedule, lost input or motion_exit_signal: the robot stops and is eased out to the default
pose; a second Ctrl-C does not wait for the stop. See docs/deploy.md.
"""

from __future__ import annotations

# Before all that takes long to import: from here on Ctrl-C is one line.
from cmg_ref.core.command_line import Parser, command, real_number, whole_number  # isort: skip

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from cmg_ref.commands.schedule import CommandSchedule
from cmg_ref.core.shorten import one_line
from envs.playing.keyboard import KeyboardError
from envs.serving.calibration import load_calibration
from envs.serving.clocks import LowLevelClock, Punctuality, WallClock
from envs.serving.command_sources import (
    COMMAND_KEY,
    CommandSource,
    GamepadSource,
    KeyboardSource,
    KeySource,
    ScheduleSource,
)
from envs.serving.motion_server import MotionServer, Patience, Phase
from envs.serving.protocol import PROTOCOLS, Protocol
from envs.serving.redis_link import DryLink, LinkError, RedisLink
from envs.serving.reference import ACCELERATION, CONTROL_DT, HIGHEST, LOWEST, Reference

LAST_COMMAND_TIME = 4.0  # [s] how long the last command of a schedule lasts if no duration is given
LONGEST = 86_400.0  # [s]
STATUS_KEY = "cmg_serve_status"  # for whoever looks on: phase and command in force, as JSON
REDIS_PATIENCE = 3.0  # [s] how long an end waits for a Redis that is gone
_STATUS_EVERY = 10  # control steps


def parse_arguments() -> argparse.Namespace:
    """Command line of the process."""
    parser = Parser(description=__doc__)
    number = real_number(-100.0, 100.0)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--keyboard", action="store_true", help="steer from the terminal")
    source.add_argument("--gamepad", type=Path, metavar="DEVICE", help="joystick device, such as /dev/input/js0")
    source.add_argument("--schedule", type=Path, metavar="FILE", help=".csv or .json with time,vx,vy,wz")
    source.add_argument("--command", type=number, nargs=3, metavar=("VX", "VY", "WZ"), help="[m/s], [m/s], [rad/s]")
    source.add_argument("--redis-commands", action="store_true", help=f"read from the key {COMMAND_KEY}")
    source.add_argument(
        "--calibrate", type=Path, nargs=2, metavar=("POLICY", "MJCF"), help="write --calibration, in simulation"
    )
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="twist2", help="(default: %(default)s)")
    parser.add_argument("--robot-name", metavar="NAME", help="what the keys end with (default: the protocol's)")
    parser.add_argument("--host", default="127.0.0.1", help="of Redis (default: %(default)s)")
    parser.add_argument("--port", type=whole_number(1, 65535), default=6379, help="of Redis (default: %(default)s)")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="generator (default: the shipped one)")
    parser.add_argument("--duration", type=real_number(0.02, LONGEST), help="of --schedule or --command [s]")
    limits: dict[str, Any] = {"type": number, "nargs": 3, "metavar": ("VX", "VY", "WZ")}
    parser.add_argument("--lowest", default=LOWEST, help="command (default: %(default)s)", **limits)
    parser.add_argument("--highest", default=HIGHEST, help="command (default: %(default)s)", **limits)
    parser.add_argument(
        "--acceleration",
        type=real_number(0.01, 100.0),
        nargs=3,
        metavar=("VX", "VY", "WZ"),
        default=ACCELERATION,
        help="of the command [m/s^2, m/s^2, rad/s^2] (default: %(default)s)",
    )
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="corrections learnt by --calibrate")
    parser.add_argument(
        "--dead-man", type=real_number(0.05, 60.0), default=0.5, help="time without input [s] (default: %(default)s)"
    )
    parser.add_argument("--hold", action="store_true", help="with --keyboard: no key for --dead-man means stop")
    parser.add_argument(
        "--patience", type=real_number(0.1, 60.0), default=1.0, help="with a still low level [s] (default: %(default)s)"
    )
    parser.add_argument(
        "--follow-clock",
        type=whole_number(1, 100),
        metavar="STEPS",
        help="a frame whenever the low level has taken so many steps, however long they take",
    )
    parser.add_argument("--dry-run", action="store_true", help="print frames, no Redis")
    return parser.parse_args()


@command(ValueError, OSError, KeyboardError)
def main() -> None:
    """Do what was asked for, or say in one line why not."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    if arguments.calibrate:
        from envs.serving.calibrate import calibrate

        if arguments.calibration is None:
            raise ValueError("--calibrate needs --calibration FILE to write to")
        policy, mjcf = arguments.calibrate
        calibrate(policy, mjcf, arguments.calibration, arguments.checkpoint, say)
        return
    reference = Reference(
        arguments.checkpoint,
        arguments.acceleration,
        arguments.lowest,
        arguments.highest,
        None if arguments.calibration is None else load_calibration(arguments.calibration),
    )
    protocol: Protocol = PROTOCOLS[arguments.protocol](arguments.robot_name)
    if arguments.follow_clock and protocol.clock_key is None:
        raise ValueError(f"--follow-clock: {arguments.protocol} writes no clock")
    source = make_source(arguments, reference)
    link: RedisLink | DryLink
    if arguments.dry_run:
        link = DryLink(protocol.state_key, protocol.at_rest())
    else:
        link = RedisLink(arguments.host, arguments.port)
    clock: WallClock | LowLevelClock = WallClock(CONTROL_DT)
    if arguments.follow_clock and protocol.clock_key is not None and not arguments.dry_run:
        clock = LowLevelClock(link, protocol.clock_key, arguments.follow_clock, CONTROL_DT, arguments.patience)
    patience = Patience(low_level=arguments.patience, joints=arguments.dead_man)
    with contextlib.closing(link), source:
        served = serve(MotionServer(reference, protocol, source, say, patience), protocol, link, clock)
    if not served:
        sys.exit(1)


def make_source(arguments: argparse.Namespace, reference: Reference) -> CommandSource:
    """Where the commands come from."""
    if arguments.keyboard:
        return KeyboardSource(reference.lowest, reference.highest, arguments.dead_man if arguments.hold else None)
    if arguments.hold:
        raise ValueError("--hold needs --keyboard")
    if arguments.gamepad is not None:
        return GamepadSource(arguments.gamepad, reference.lowest, reference.highest)
    if arguments.redis_commands:
        if arguments.dry_run:
            raise ValueError("--dry-run knows no Redis to read commands from")
        return KeySource(arguments.dead_man)
    if arguments.command is not None:
        schedule = CommandSchedule.constant(*arguments.command)
        return ScheduleSource(schedule, arguments.duration or LONGEST, CONTROL_DT)
    schedule = CommandSchedule.from_file(arguments.schedule)
    duration = arguments.duration or schedule.end(LAST_COMMAND_TIME, LONGEST)
    return ScheduleSource(schedule, duration, CONTROL_DT)


def serve(
    server: MotionServer, protocol: Protocol, link: RedisLink | DryLink, clock: WallClock | LowLevelClock
) -> bool:
    """Send frames until the server is done.

    Returns:
        Whether it ended as someone wanted, with the robot in the default pose.
    """
    heard: dict[str, bytes | None] = {}
    sent, punctuality = server.frame, Punctuality(CONTROL_DT, isinstance(clock, WallClock))
    gone_at: float | None = None
    for step, asked in enumerate(ends_asked_for()):
        if asked:
            server.leave(asked.pop(), at_once=bool(server.leaving))
        if gone_at is None:
            frame = server.step(time.monotonic(), heard)
        clock.wait()
        try:
            messages = {**protocol.messages(frame), STATUS_KEY: server.status()}
            heard = link.exchange(messages, server.keys, server.taken_keys)
        except LinkError as error:
            if gone_at is None:
                say(f"{one_line(str(error))}: trying again")
                gone_at = time.monotonic()
            if server.leaving and time.monotonic() - gone_at > REDIS_PATIENCE:
                say("Redis is gone: the robot could not be brought to the default pose")
                return False
            continue
        if gone_at is not None:
            say("Redis answers again")
            server.interrupted(sent)
            gone_at, frame = None, server.frame
            continue
        sent = frame
        punctuality.sent(time.monotonic())
        if server.phase is Phase.DONE:
            say(str(punctuality))
            return not server.failed
        if step % _STATUS_EVERY == 0 and sys.stdout.isatty():
            print(f"\r{server.status()} \x1b[K", end="", flush=True)
    raise AssertionError("the signals never end")


def ends_asked_for() -> Iterator[list[str]]:
    """Forever, a list of the signals to end that have come; they no longer interrupt anything."""
    asked: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append({2: "Ctrl-C", 15: "terminated"}.get(number, "the terminal is gone"))

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        while True:
            yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """Tell the user something, on a line of its own."""
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    with contextlib.suppress(OSError):  # nobody listens any more: the robot is looked after all the same
        print(f"{start}serve: {text}", file=sys.stderr, flush=True)
