"""Drive robots from the browser: sliders and keys for the command, the reference beside them, pushes, friction, plots.

  cmg-drive                                       # the policy of the package
  cmg-drive --policy logs/g1_cmg/RUN              # a run that is being trained: its newest checkpoint, again and again
  cmg-drive --policy twist2.onnx mine.safetensors # TWIST2's published policy and one of yours, to choose from
  cmg-drive --num_envs 4 --port 8081

The page opens by itself where there is a screen; Ctrl-C ends it.
"""

from __future__ import annotations

# Before all that takes long to import: from here on Ctrl-C is one line.
from cmg_ref.core.command_line import Parser, command, whole_number  # isort: skip

import argparse
import contextlib
import functools
import io
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

# Isaac Gym has to be imported before torch.
import envs.simulator  # isort: skip  # noqa: F401

import torch

from cmg_ref.core.installation import check_installed
from envs.driving.page import Page
from envs.driving.robots import DrivenRobots, PolicyRobots, ReferenceRobots, RunRobots, Twist2Robots
from envs.driving.session import Session
from envs.learning.policy import load_policy, policy_of_checkpoint
from envs.learning.training_run import checkpoints, find_run

MOST_ROBOTS = 64
SHIPPED, REFERENCE = "policy of the package", "reference alone"


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--policy",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="policy file, training checkpoint, folder of a run, or TWIST2's ONNX file; the first is driven first",
    )
    parser.add_argument(
        "--num_envs", type=whole_number(1, MOST_ROBOTS), default=1, help="number of robots (default: %(default)s)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=whole_number(1, 65535), default=8080, help="or the next free one (8080)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    return parser.parse_args()


@command(ValueError, OSError)
def main() -> None:
    """Do what was asked for, or say in one line why not."""
    arguments = parse_arguments()
    check_installed("viser")
    torch.set_num_threads(1)  # The cores belong to the physics and to the page.
    choices = what_to_drive(arguments.policy)
    first = next(iter(choices.values()))
    drive(Session(first(arguments.num_envs)), choices, arguments.host, arguments.port, not arguments.no_browser)


def what_to_drive(paths: list[Path]) -> dict[str, Callable[[int], DrivenRobots]]:
    """What makes robots, by a name for the page: those of the paths, then the package's policy and the reference."""
    choices = {str(path): robots_of(path) for path in paths}
    choices[SHIPPED] = lambda number: PolicyRobots(load_policy(), number, SHIPPED)
    choices[REFERENCE] = ReferenceRobots
    return choices


def robots_of(path: Path) -> Callable[[int], DrivenRobots]:
    """What makes the robots that a path holds a policy for."""
    if path.is_dir():
        return functools.partial(RunRobots, path if checkpoints(path) else find_run(path))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such policy")
    if path.suffix == ".onnx":
        check_installed("onnxruntime")
        return functools.partial(Twist2Robots, path)
    policy = policy_of_checkpoint(path) if path.suffix == ".pt" else load_policy(path)
    return lambda number: PolicyRobots(policy, number, path.name)


def drive(
    session: Session,
    choices: dict[str, Callable[[int], DrivenRobots]],
    host: str = "127.0.0.1",
    port: int = 8080,
    browser: bool = False,
) -> None:
    """Serve the page until Ctrl-C."""
    import viser

    with ended_by_signals(session):
        with contextlib.redirect_stdout(io.StringIO()):  # its greeting
            server = viser.ViserServer(host=host, port=port, verbose=False)
        page = Page(server, session, choices)
        drawing = threading.Thread(target=page.run, daemon=True)
        drawing.start()
        url = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{server.get_port()}"
        print(f"{url}  (Ctrl-C ends it)", flush=True)
        if browser and (sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)):
            webbrowser.open(url)
        try:
            session.run()
        finally:
            session.end()
            page.end()
            drawing.join()
            server.stop()


@contextlib.contextmanager
def ended_by_signals(session: Session) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the session's loop, and do their usual only when all is closed.

    An exception out of the blue, amid whatever the loop calls, could be swallowed there, or end a clean-up half-way.
    """
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        session.end()

    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = [number for number, handler in usual.items() if callable(handler)]  # the rest is ignored, as under nohup
    for number in heard:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, usual[number])
    if received:
        signal.raise_signal(received[0])


if __name__ == "__main__":
    main()
