"""Measure a CMG or a motion clip: `cmg-evaluate` without installing it."""

from cmg_ref.cli.evaluate import main

if __name__ == "__main__":
    main()
