"""Measure the motion generator beside what the machine allows: `cmg-benchmark` without installing it."""

from cmg_ref.cli.benchmark import main

if __name__ == "__main__":
    main()
