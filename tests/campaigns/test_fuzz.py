"""A slice of the fuzz campaign, and the proof that it catches what it looks for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("mujoco.batch")
pytest.importorskip("rsl_rl")

FUZZ = Path(__file__).parent / "fuzz.py"
MUST_NOT_BE = ("crash", "hang", "exception", "memory", "code", "message")
# What targets that were planted do to damaged input. The rest of their inputs are sound, and accepted.
PLANTED = {
    "spins": "hang",
    "sleeps": "hang",
    "allocates 2 GB": "memory",
    "hides that it allocates 2 GB": "memory",
    "raises KeyError": "exception",
    "starts a program": "code",
    "evaluates": "code",
    "writes elsewhere": "code",
    "crashes": "crash",
    "tells a story": "message",
    "refuses": "refused",
}


def campaign(folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, summary and output of a campaign."""
    command = [sys.executable, str(FUZZ), "--output", str(folder), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (folder / "summary.json").is_file(), result.stderr[-4000:]
    return result.returncode, json.loads((folder / "summary.json").read_text()), result.stdout


def test_what_is_read_stands_a_slice_of_the_campaign(tmp_path: Path) -> None:
    status, summary, output = campaign(tmp_path, "--inputs", "700", "--jobs", "1")
    assert status == 0 and summary["alike"] == {}, output
    counts = summary["counts"]
    assert sum(sum(kinds.values()) for kinds in counts.values()) > 650
    assert not any(kinds.get(kind) for kinds in counts.values() for kind in MUST_NOT_BE)
    assert all(kinds.get("accepted") for kinds in counts.values()), "sound input is read by every target"
    harmless = {"find_clips", "keys"}  # the one only looks for files, the other passes over what is no key
    assert all(kinds.get("refused") for name, kinds in counts.items() if name not in harmless)


def test_the_campaign_catches_what_was_planted(tmp_path: Path) -> None:
    bounds = ("--cpu-seconds", "1", "--wall-seconds", "8")
    status, summary, _ = campaign(tmp_path, "--planted", "--inputs", "24", "--jobs", "2", *bounds)
    assert status == 1
    counts = summary["counts"]
    assert counts.pop("refuses what is sound") == {"exception": 1, "refused": 1}
    assert counts == {name: {"accepted": 1, kind: 1} for name, kind in PLANTED.items()}


def test_a_failure_is_kept_and_replayed(tmp_path: Path) -> None:
    planted = ("--planted", "--targets", "raises KeyError")
    _, summary, output = campaign(tmp_path, *planted, "--inputs", "2")
    (case,) = tmp_path.glob("raises-keyerror-*")
    assert str(case) in output and list(summary["alike"].values()) == [1]
    told = json.loads((case / "case.json").read_text())
    assert (told["kind"], told["seed"], told["number"]) == ("exception", 1, 1)
    replay = [sys.executable, str(FUZZ), *planted, "--replay", str(case)]
    result = subprocess.run(replay, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "KeyError: 'missing'" in result.stdout and "_look_up" in result.stdout
