"""The checks for machines with Isaac Gym, run on the stand-in, where all of them hold."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.skipif(importlib.util.find_spec("isaacgym") is not None, reason="Isaac Gym is installed")
def test_all_checks_pass_on_the_stand_in(run_process: Callable[..., Any], twist_copy: Path) -> None:
    result = run_process("twist.py", "check", "--twist_root", twist_copy)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    lines = result.stdout.splitlines()
    assert lines[0].endswith("the stand-in: this says nothing about Isaac Gym")
    assert sum(line.startswith("pass") for line in lines) == 8
    assert lines[-1] == "8 of 8 passed"


@pytest.mark.slow
def test_another_folder_is_refused_in_one_line(run_process: Callable[..., Any], tmp_path: Path) -> None:
    result = run_process("twist.py", "check", "--twist_root", tmp_path)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("twist check: ")
    assert "is no checkout of TWIST" in result.stderr
