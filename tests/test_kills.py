"""A slice of the campaign of `make kill-test`: one kill and one resumption of each script that writes files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CAMPAIGN = Path(__file__).parent / "campaigns" / "kills.py"


def test_killed_scripts_lose_nothing_and_go_on() -> None:
    for package in ("rsl_rl", "mujoco.batch", "tensorboard", "matplotlib", "PIL"):
        pytest.importorskip(package)
    result = subprocess.run(
        [sys.executable, str(CAMPAIGN), "--kills", "4", "--seed", "3"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert re.search(r"4 kills \(\d amid the writing of a file\), \d+ files .*, 4 resumes, 0 failures", result.stdout)
