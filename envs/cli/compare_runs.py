"""Compare how fast training runs learn: a table and a picture of their learning curves.

cmg-compare-runs "with reference=logs/g1_cmg/<run>" "without=logs/g1/<run>" --output docs/baselines
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command  # isort: split

import argparse
from pathlib import Path

from cmg_ref.core.installation import check_installed
from cmg_ref.files.atomic_file import write_file
from envs.learning.learning_curves import comparison_table, read_learning_curve, save_comparison_plot
from envs.learning.training_run import writable


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="[NAME=]FOLDER", help="runs, with the names to show for them")
    parser.add_argument("--output", type=Path, default=Path("outputs/comparison"), help="folder (default: %(default)s)")
    return parser.parse_args()


@command()
def main() -> None:
    """Read, draw, write."""
    arguments = parse_arguments()
    check_installed("matplotlib")
    curves = []
    for run in arguments.runs:
        name, _, folder = run.rpartition("=")
        curves.append(read_learning_curve(name or Path(folder).name, Path(folder)))
    folder = writable(arguments.output)
    table = comparison_table(curves)
    print(table, end="")
    write_file(folder / "learning_curves.md", table)
    save_comparison_plot(curves, folder / "learning_curves.png")
    print(f"wrote {folder / 'learning_curves.md'} and {folder / 'learning_curves.png'}")
