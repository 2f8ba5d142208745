"""Run an exported controller in plain MuJoCo, on any model of the robot: `cmg-sim` without installing it."""

from __future__ import annotations

import sys
from pathlib import Path

# It has to run where nothing of this repository is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from envs.cli.sim import main

if __name__ == "__main__":
    main()
