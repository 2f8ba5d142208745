"""The checks for machines with Isaac Gym, run on the stand-in, where all of them hold."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(twist_root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "twist.py"), "check", "--twist_root", str(twist_root)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        check=False,
    )


@pytest.mark.skipif(importlib.util.find_spec("isaacgym") is not None, reason="Isaac Gym is installed")
def test_all_checks_pass_on_the_stand_in(twist_copy: Path) -> None:
    result = run(twist_copy)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    lines = result.stdout.splitlines()
    assert lines[0].endswith("the stand-in: this says nothing about Isaac Gym")
    assert sum(line.startswith("pass") for line in lines) == 8
    assert lines[-1] == "8 of 8 passed"


def test_another_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("twist check: ")
    assert "is no checkout of TWIST" in result.stderr
