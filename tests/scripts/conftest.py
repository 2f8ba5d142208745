"""How tests run the scripts: in this process, which saves importing torch once per test."""

from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@dataclass
class Result:
    """What a script leaves behind."""

    returncode: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs a script of the repository with some arguments."""

    def __call__(self, script: str, *arguments: object) -> Result: ...


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runner:
    """Runs ``scripts/<name>`` as ``python`` would."""

    def run(script: str, *arguments: object) -> Result:
        path = str(SCRIPTS / script)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        returncode: object = 0
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as stop:
            returncode = stop.code or 0
            if isinstance(returncode, str):  # What Python itself does with a message.
                print(returncode, file=sys.stderr)
                returncode = 1
        captured = capsys.readouterr()
        return Result(int(str(returncode)), captured.out, captured.err)

    return run
