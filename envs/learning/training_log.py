"""What a training logs: by rsl_rl's logger and its writers, of which TensorBoard's is our own."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsl_rl.utils import resolve_callable
from rsl_rl.utils.log_writer import LogWriter
from rsl_rl.utils.logger import Logger

from cmg_ref.core.shorten import reason
from cmg_ref.training.event_log import EventLog
from configs.base_config import ConfigError
from envs.learning.training_run import CONFIG

RSL_RLS_WRITERS = {"wandb": "WandbLogWriter", "neptune": "NeptuneLogWriter"}


class TensorBoardWriter(LogWriter):
    """Curves for TensorBoard.

    The writer that rsl_rl takes by itself shows, after a resume, also what a killed run wrote beyond its last
    checkpoint, and tells of a full disk by the traceback of a thread.

    Args:
        log_dir: Folder of the events.
        iteration: Iteration that the run goes on from; what a killed run wrote from then on is hidden.
    """

    def __init__(self, log_dir: str, iteration: int = 0) -> None:
        self._events = EventLog(Path(log_dir), iteration)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Note a number."""
        self._events.add({tag: float(scalar_value)}, global_step)

    def stop(self) -> None:
        """Write what is left."""
        self._events.close()


def writer_config(runner: Mapping[str, Any]) -> dict[str, Any]:
    """What rsl_rl is told of its writer.

    Args:
        runner: The section `runner` of the configuration of a training.

    Raises:
        ConfigError: There is no such writer, or its package is missing.
    """
    name = runner["logger"]
    if name == "tensorboard":
        return {"class_name": TensorBoardWriter}
    if name in RSL_RLS_WRITERS:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"train.runner.logger={name} needs {name}, which is not installed: pip install {name}")
        return {"class_name": RSL_RLS_WRITERS[name], "project_name": runner["project"] or runner["experiment_name"]}
    try:
        return {"class_name": resolve_callable(name)}
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"train.runner.logger={name}: neither tensorboard, wandb, neptune nor a LogWriter of rsl_rl, module:Class "
            f"({reason(error)})"
        ) from error


class TrainingLog(Logger):
    """rsl_rl's logger without its screens full of numbers, of which the runner's progress bar shows what matters.

    Attributes:
        mean_reward: Mean sum of rewards of the last hundred episodes.
        mean_length: Their mean length in steps.
    """

    cfg: dict[str, Any]

    @property
    def mean_reward(self) -> float:
        """Mean sum of rewards of the last hundred episodes."""
        return sum(self.rewbuffer) / max(1, len(self.rewbuffer))

    @property
    def mean_length(self) -> float:
        """Mean length of the last hundred episodes in steps."""
        return sum(self.lenbuffer) / max(1, len(self.lenbuffer))

    def begin(self, run_dir: Path, iteration: int) -> None:
        """Open the writer in the folder of a run that goes on from an iteration."""
        self.log_dir = str(run_dir)
        self.cfg = _plain(self.cfg)
        if self.cfg["logger"]["class_name"] is TensorBoardWriter:
            self.cfg["logger"]["iteration"] = iteration
        self.init_logging_writer()

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Write what happened in an iteration; see rsl_rl."""
        with contextlib.redirect_stdout(io.StringIO()):
            super().log(*args, **kwargs)

    def add(self, values: Mapping[str, float], iteration: int) -> None:
        """Write more numbers."""
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, iteration)

    def _store_code_state(self) -> list[str]:
        """What a writer uploads: the run's own record, which has commit, status and changes in it."""
        record = Path(self.log_dir or "") / CONFIG
        return [str(record)] if record.is_file() else []


def _plain(cfg: Any) -> Any:
    """A configuration that writers can upload: functions and classes by their names, but for the writer itself."""
    if isinstance(cfg, dict):
        return {name: dict(value) if name == "logger" else _plain(value) for name, value in cfg.items()}
    return getattr(cfg, "__qualname__", str(cfg)) if callable(cfg) else cfg
