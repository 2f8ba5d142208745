"""Turn a checkpoint of the earlier CMG code into one of this project: `cmg-import` without installing it."""

from cmg_ref.cli.import_checkpoint import main

if __name__ == "__main__":
    main()
