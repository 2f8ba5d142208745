"""How tests run the scripts: in this process, which saves importing torch once per test, or in one of their own."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"


@dataclass
class Result:
    """What a script leaves behind."""

    returncode: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs a script of the repository with some arguments."""

    def __call__(self, script: str, *arguments: object) -> Result: ...


class ProcessRunner(Protocol):
    """Runs a script in a process of its own, in a folder, with folders to import from and environment variables."""

    def __call__(
        self, script: str, *arguments: object, folder: Path | None = None, path: tuple[Path, ...] = (ROOT,), **env: str
    ) -> Any: ...


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


@pytest.fixture(scope="session")
def run_process() -> ProcessRunner:
    """Runs ``python scripts/<name>`` as a user would."""

    def run(
        script: str, *arguments: object, folder: Path | None = None, path: tuple[Path, ...] = (ROOT,), **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **env},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )

    return run
