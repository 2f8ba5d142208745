"""The folder of a training run: its place, its checkpoints, and the configuration and code it was made with."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from cmg_ref.atomic_file import write_file

BEST_CHECKPOINT = "best.pt"
BEST_POLICY = "best_policy.safetensors"
CONFIG, EVALUATIONS = "config.json", "evaluations.json"
_CHECKPOINT_NAME = re.compile(r"model_(\d+)\.pt")


class RunError(ValueError):
    """A run or a checkpoint that is not there or cannot be written; the message is one line."""


class TrainingDivergedError(RuntimeError):
    """A training produced NaN or infinite numbers."""


def new_run(log_dir: Path, run_name: str) -> Path:
    """Make the folder of a new run, named by date and `run_name`.

    Raises:
        RunError: It cannot be written to.
    """
    name = time.strftime("%Y-%m-%d_%H-%M-%S") + (f"_{run_name}" if run_name else "")
    return writable(log_dir / name)


def writable(folder: Path) -> Path:
    """The folder, made if need be; raises RunError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(f"{folder}: cannot write there: {error.strerror}") from error
    return folder


def find_run(log_dir: Path, name: str | None = None) -> Path:
    """An existing run.

    Args:
        log_dir: Folder of the runs of a task.
        name: Name of the run or path to it; the newest run that holds a checkpoint by default.

    Raises:
        RunError: There is none.
    """
    if name is not None:
        for folder in (log_dir / name, Path(name)):
            if folder.is_dir():
                return folder
        raise RunError(f"no run '{name}' in {log_dir}{_list_of_runs(log_dir)}")
    runs = [folder for folder in _runs(log_dir) if checkpoints(folder)]
    if not runs:
        raise RunError(f"{log_dir}: holds no run with a checkpoint")
    return max(runs, key=lambda folder: max(path.stat().st_mtime for path in checkpoints(folder).values()))


def checkpoints(run: Path) -> dict[int, Path]:
    """Checkpoints of a run by their iteration, in rising order."""
    matches = ((_CHECKPOINT_NAME.fullmatch(path.name), path) for path in run.glob("model_*.pt"))
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def find_checkpoint(run: Path, which: str | None = None) -> Path:
    """A checkpoint of a run.

    Args:
        run: Folder of the run.
        which: Iteration, "best", or the name of a file; the last one by default.

    Raises:
        RunError: There is no such checkpoint.
    """
    found = checkpoints(run)
    if which is None or which == "-1":
        if not found:
            raise RunError(f"{run}: holds no checkpoint")
        return list(found.values())[-1]
    if which.isdecimal():
        if int(which) not in found:
            have = ", ".join(map(str, found)) or "none"
            raise RunError(f"{run}: holds no checkpoint of iteration {which}; there are: {have}")
        return found[int(which)]
    path = run / (BEST_CHECKPOINT if which == "best" else which)
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint")
    return path


def save_json(content: Any, path: Path) -> None:
    """Write a JSON file in one step."""
    write_file(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Content of a JSON file; raises RunError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def git_state(folder: Path) -> dict[str, str]:
    """Commit, status and uncommitted changes of the repository around a folder; empty without git or repository."""
    state = {}
    commands = {"commit": ["rev-parse", "HEAD"], "status": ["status", "--porcelain"], "diff": ["diff", "HEAD"]}
    for name, command in commands.items():
        try:
            result = subprocess.run(
                ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True, timeout=30.0
            )
        except (OSError, subprocess.SubprocessError):
            return {}
        state[name] = result.stdout.strip()
    return state


def _runs(log_dir: Path) -> list[Path]:
    return sorted(path for path in log_dir.iterdir() if path.is_dir()) if log_dir.is_dir() else []


def _list_of_runs(log_dir: Path) -> str:
    names = [folder.name for folder in _runs(log_dir)]
    return f"; there are: {', '.join(names[-5:])}" if names else ""
