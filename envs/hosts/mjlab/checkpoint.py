"""One of our policies as a checkpoint that mjlab's `play` loads.

python -m envs.hosts.mjlab.checkpoint logs/shipped/model_0.pt
play Mjlab-CMG-Flat-Unitree-G1 --checkpoint-file logs/shipped/model_0.pt
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command  # isort: split

from pathlib import Path

import torch

from cmg_ref.files.atomic_file import atomic_file
from envs.learning.policy import SHIPPED_POLICY, Policy, PolicyError, load_policy

SEEN = 10**9  # observations that the normaliser counts: it hardly moves any more
EXPLORATION = 0.05  # standard deviation of the actions, which `play` does not use


@command(PolicyError, OSError)
def main() -> None:
    """Read a policy and write the checkpoint."""
    parser = Parser(__doc__)
    parser.add_argument("checkpoint", type=Path, metavar="FILE", help="to write (.pt)")
    parser.add_argument(
        "--policy", type=Path, default=SHIPPED_POLICY, metavar="FILE", help="(default: the shipped one)"
    )
    arguments = parser.parse_args()
    write_checkpoint(load_policy(arguments.policy), arguments.checkpoint)
    print(f"wrote {arguments.checkpoint}")


def write_checkpoint(policy: Policy, path: Path) -> None:
    """Write the actor of a checkpoint; one that is there is replaced in one step."""
    actor = {
        **policy.actor_state(),
        "obs_normalizer.count": torch.tensor(SEEN),
        "distribution.std_param": torch.full((len(policy.description.joint_names),), EXPLORATION),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        torch.save({"actor_state_dict": actor, "iter": 0, "infos": None}, temporary)


if __name__ == "__main__":
    main()
