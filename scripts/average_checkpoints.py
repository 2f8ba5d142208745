"""Average the policies of several checkpoints of a training: `cmg-average-policies` without installing it."""

from cmg_ref.core import command_line  # noqa: F401  # isort: split
from envs.cli.average_policies import main

if __name__ == "__main__":
    main()
