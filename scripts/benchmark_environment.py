"""Measure how fast the environment is: `cmg-benchmark-environment` without installing it."""

from cmg_ref.core import command_line  # noqa: F401  # isort: split
from envs.cli.benchmark_environment import main

if __name__ == "__main__":
    main()
