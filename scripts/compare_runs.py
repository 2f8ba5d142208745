"""Compare how fast training runs learn: `cmg-compare-runs` without installing it."""

from cmg_ref.core import command_line  # noqa: F401  # isort: split
from envs.cli.compare_runs import main

if __name__ == "__main__":
    main()
