"""Turn folders of motion clips into one dataset file: `cmg-prepare-data` without installing it."""

from cmg_ref.cli.prepare_data import main

if __name__ == "__main__":
    main()
