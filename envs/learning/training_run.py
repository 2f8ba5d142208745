"""The folder of a training run: its place, its checkpoints, and the configuration and code it was made with."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from cmg_ref.core.shorten import reason
from cmg_ref.files.atomic_file import write_file
from cmg_ref.files.input_file import MEBIBYTE, check_input_file
from cmg_ref.files.json_text import parse_json

BEST_CHECKPOINT = "best.pt"
BEST_POLICY = "best_policy.safetensors"
CONFIG, EVALUATIONS = "config.json", "evaluations.json"
_CHECKPOINT_NAME = re.compile(r"model_(\d+)\.pt")


class RunError(ValueError):
    """A run or a checkpoint that is not there or cannot be written; the message is one line."""


class TrainingDivergedError(RuntimeError):
    """A training produced NaN or infinite numbers."""


def new_run(log_dir: Path, run_name: str) -> Path:
    """Make the folder of a new run, named by date and `run_name`; runs of the same second are numbered.

    Raises:
        RunError: It cannot be made.
    """
    date = time.strftime("%Y-%m-%d_%H-%M-%S")
    for number in itertools.count(1):
        folder = log_dir / ((date if number == 1 else f"{date}-{number}") + (f"_{run_name}" if run_name else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(f"{folder}: cannot write there: {error.strerror}") from error
        return folder
    raise AssertionError


def writable(folder: Path) -> Path:
    """The folder, made if need be; raises RunError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot write there: {error.strerror}") from error
    check_writable(folder)
    return folder


def check_writable(folder: Path) -> None:
    """Raise RunError if nothing could be written to a folder, or if it could not be made; makes nothing."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise RunError(f"{folder}: cannot write there: {error.strerror}") from error


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
            raise RunError(f"{run}: holds no checkpoint (model_*.pt): the run ended before its first; choose another")
        return list(found.values())[-1]
    if which.isdecimal() and len(which) < 10:
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
    check_input_file(path, RunError, 64 * MEBIBYTE)
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({reason(error)})") from error


def read_config(run: Path, task: str) -> dict[str, dict[str, Any]]:
    """The configuration that a run was trained with.

    Args:
        run: Folder of the run.
        task: Task that it must be of.

    Returns:
        Fields of the environment under "environment", and of the training under "training".

    Raises:
        RunError: The file is missing, damaged or not whole, or the run is of another task.
    """
    path = run / CONFIG
    last = list(checkpoints(run).values())[-1:]
    advice = "restore it" + "".join(f", or begin a new run with its networks: --initial {file}" for file in last)
    try:
        content = read_json(path)
    except RunError as error:
        raise RunError(f"{error}; {advice}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: holds no configuration; {advice}")
    lacking = [name for name in ("environment", "training") if not isinstance(content.get(name), dict)]
    if lacking:
        raise RunError(f"{path}: lacks {' and '.join(map(repr, lacking))}; {advice}")
    if content.get("task", task) != task:
        raise RunError(f"{path}: the run is of the task {content['task']!r}, not of {task!r}; give its --task")
    return content


def nothing_left(reached: int, wanted: int) -> str:
    """What to tell of a run that is to end at an iteration, or before one, that it has reached."""
    return f"nothing to do: iteration {reached} is reached, and {wanted} were asked for; --max_iterations takes more"


def project_folder() -> Path:
    """Where runs and outputs are kept by default: the checkout that this code lies in, else the current folder."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "setup.py").is_file() else Path()


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
    if not log_dir.is_dir():
        return []
    return sorted(path for path in log_dir.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list_of_runs(log_dir: Path) -> str:
    names = [folder.name for folder in _runs(log_dir)]
    return f"; there are: {', '.join(names[-5:])}" if names else ""
