"""References of a CMG in TWIST (see docs/twist.md).

  cmg-twist train      teacher or student, with TWIST's own runner
  cmg-twist play       a policy under commands from outside; a student's is exported for the robot
  cmg-twist check      what only a machine with Isaac Gym shows, in about a minute
  cmg-twist compare    how fast the motion library is beside TWIST's own

Each says more with --help.
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command, program_name  # isort: skip

# Isaac Gym has to be imported before torch.
from envs.hosts import twist  # isort: skip

import argparse
import sys
from typing import Callable

from envs.cli import twist_check, twist_compare

ACTIONS: dict[str, Callable[[], object]] = {
    "train": lambda: twist.train(sys.argv[1:]),
    "play": lambda: twist.play(sys.argv[1:]),
    "check": twist_check.main,
    "compare": twist_compare.main,
}


@command(twist.TwistError, ValueError, OSError)
def main() -> None:
    """Do what the first word says, with the rest of the command line."""
    parser = Parser(__doc__)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="of the action")
    arguments = parser.parse_args()
    # From here on the program is called, say, "cmg-twist train", in its usage and in what it says.
    sys.argv = [f"{program_name()} {arguments.action}", *arguments.arguments]
    ACTIONS[arguments.action]()


if __name__ == "__main__":
    main()
