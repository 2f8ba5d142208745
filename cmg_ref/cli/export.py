"""Write one frame of a CMG as ONNX (.onnx) or TorchScript (.pt), checked against the checkpoint it came from."""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command  # isort: split

import argparse
from pathlib import Path

from cmg_ref.export import ExportError, export_onnx, export_torchscript
from cmg_ref.network.checkpoint import load_checkpoint


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument("output", type=Path, help="file to write; its suffix, .onnx or .pt, chooses the kind")
    parser.add_argument("--checkpoint", type=Path, help="a .safetensors file (default: the one that is shipped)")
    arguments = parser.parse_args()
    if arguments.output.suffix not in (".onnx", ".pt"):
        parser.error(f"{arguments.output}: the name must end in .onnx or .pt")
    return arguments


@command(ExportError, ValueError, OSError)
def main() -> None:
    """Parse, load, write."""
    arguments = parse_arguments()
    checkpoint = load_checkpoint(arguments.checkpoint)
    export = export_onnx if arguments.output.suffix == ".onnx" else export_torchscript
    difference = export(checkpoint, arguments.output)
    size = arguments.output.stat().st_size / 1e6
    print(f"{arguments.output}: {size:.1f} MB, differs by {difference:.1e} standard deviations at most")
