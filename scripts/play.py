"""Watch a policy obey, measure or export it: `cmg-play` without installing it."""

from cmg_ref.core import command_line  # noqa: F401  # isort: split
from envs.cli.play import main

if __name__ == "__main__":
    main()
