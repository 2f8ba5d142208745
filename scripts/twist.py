"""Train and play TWIST's policies on references of a CMG: `cmg-twist` without installing it."""

from cmg_ref.core import command_line  # noqa: F401  # isort: split
from envs.cli.twist import main

if __name__ == "__main__":
    main()
