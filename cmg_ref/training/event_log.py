"""Curves of a training for TensorBoard."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Mapping

from cmg_ref.files.atomic_file import naming_errors


class EventLog:
    """Writes numbers that TensorBoard shows.

    Args:
        folder: Folder of the run.
        iteration: Iteration that the run goes on from; what a killed run wrote from then on is hidden.

    Raises:
        ImportError: TensorBoard is missing.
        WriteError: The folder cannot be written; so do the methods.
    """

    def __init__(self, folder: Path, iteration: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        # TensorBoard writes in a thread: what fails there is told twice, by the thread itself as a traceback.
        self._hook, threading.excepthook = threading.excepthook, self._on_error_in_thread
        with naming_errors(folder):
            self._writer = SummaryWriter(str(folder), purge_step=iteration, flush_secs=15)

    def add(self, values: Mapping[str, float], iteration: int) -> None:
        """Note values under their names."""
        with naming_errors(self.folder):
            for name, value in values.items():
                self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Write what is left."""
        try:
            with naming_errors(self.folder):
                self._writer.close()
        finally:
            threading.excepthook = self._hook

    def _on_error_in_thread(self, arguments: Any) -> None:
        if not (isinstance(arguments.exc_value, OSError) and type(arguments.thread).__module__.startswith("tensorb")):
            self._hook(arguments)
