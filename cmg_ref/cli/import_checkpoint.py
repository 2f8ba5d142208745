"""Turn a checkpoint of the earlier CMG code (.pt) into one of this project (.safetensors).

The earlier files hold no frame rate: 30 frames a second, the rate of the clips they were trained on, is assumed unless
--fps says otherwise. Nothing in a file is executed.
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command, real_number  # isort: split

import argparse
from pathlib import Path

from cmg_ref.network.checkpoint import save_checkpoint
from cmg_ref.network.legacy_checkpoint import LEGACY_FPS, import_legacy_checkpoint


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument(
        "checkpoint", type=Path, help="torch file with 'model_state_dict', or the bare state dictionary"
    )
    parser.add_argument(
        "--stats", type=Path, help="file with the statistics, .pt or .yaml (default: those inside the checkpoint)"
    )
    parser.add_argument(
        "--fps", type=real_number(1, 1000), default=LEGACY_FPS, help="rate it was trained at (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, help="file to write (default: beside the checkpoint, as .safetensors)")
    arguments = parser.parse_args()
    if arguments.output is not None and arguments.output.suffix != ".safetensors":
        parser.error(f"--output {arguments.output}: the name must end in .safetensors")
    return arguments


@command()
def main() -> None:
    """Parse, import, save."""
    arguments = parse_arguments()
    output = arguments.output or arguments.checkpoint.with_suffix(".safetensors")
    checkpoint = import_legacy_checkpoint(arguments.checkpoint, arguments.stats, arguments.fps)
    output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(checkpoint, output)
    low, high = checkpoint.command_min.tolist(), checkpoint.command_max.tolist()
    print(f"{output}: {checkpoint.model.config.num_experts} experts, {checkpoint.fps:g} fps, {checkpoint.layout}")
    for name, least, most in zip(("vx", "vy", "yaw rate"), low, high):
        print(f"  {name:8s} {least:+.2f} to {most:+.2f}")
