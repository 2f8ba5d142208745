"""Write one frame of a CMG as ONNX (.onnx) or TorchScript (.pt), checked against the checkpoint it came from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cmg_ref.checkpoint import load_checkpoint
from cmg_ref.export import ExportError, export_onnx, export_torchscript


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="file to write; its suffix, .onnx or .pt, chooses the kind")
    parser.add_argument("--checkpoint", type=Path, help="a .safetensors file (default: the one that is shipped)")
    return parser.parse_args()


def main() -> None:
    """Parse, load, write."""
    arguments = parse_arguments()
    if arguments.output.suffix not in (".onnx", ".pt"):
        sys.exit(f"export_cmg: the output must end in .onnx or .pt, got '{arguments.output}'")
    try:
        checkpoint = load_checkpoint(arguments.checkpoint)
        export = export_onnx if arguments.output.suffix == ".onnx" else export_torchscript
        difference = export(checkpoint, arguments.output)
    except (ExportError, ValueError, OSError) as error:
        sys.exit(f"export_cmg: {error}")
    size = arguments.output.stat().st_size / 1e6
    print(f"{arguments.output}: {size:.1f} MB, differs by {difference:.1e} standard deviations at most")


if __name__ == "__main__":
    main()
