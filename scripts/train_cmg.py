"""Train a CMG: `cmg-train` without installing it."""

from cmg_ref.cli.train import main

if __name__ == "__main__":
    main()
