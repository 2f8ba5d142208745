"""Average the policies of several checkpoints of one training into a policy file.

cmg-average-policies RUN/model_2900.pt RUN/model_3000.pt --output mean.safetensors
cmg-play --task g1_cmg --policy mean.safetensors --evaluate
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command  # isort: split

import argparse
from pathlib import Path

from envs.learning.policy import average_policies, policy_of_checkpoint, save_policy


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="model_<iteration>.pt of a run")
    parser.add_argument("--output", type=Path, required=True, help="policy file to write (.safetensors)")
    arguments = parser.parse_args()
    if arguments.output.suffix != ".safetensors":
        parser.error(f"--output {arguments.output}: the name must end in .safetensors")
    return arguments


@command()
def main() -> None:
    """Read, average, write."""
    arguments = parse_arguments()
    policy = average_policies([policy_of_checkpoint(path) for path in arguments.checkpoints])
    policy.description.notes["averaged"] = [path.stem for path in arguments.checkpoints]
    save_policy(policy, arguments.output)
    print(f"wrote {arguments.output}, the mean of {len(arguments.checkpoints)} policies")
