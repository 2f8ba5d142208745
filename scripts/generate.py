"""Turn a velocity command into a motion: `cmg-generate` without installing it."""

from cmg_ref.core import command_line  # noqa: F401  # isort: split
from envs.cli.generate import main

if __name__ == "__main__":
    main()
