"""Train a policy: `cmg-train-policy` without installing it."""

from cmg_ref.core import command_line  # noqa: F401  # isort: split
from envs.cli.train_policy import main

if __name__ == "__main__":
    main()
