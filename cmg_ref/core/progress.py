"""How programs show how far they are."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

from tqdm import tqdm

LINE_INTERVAL = 30.0  # [s] between two lines where no terminal is
now = time.monotonic  # [s]


class ProgressBar(tqdm):
    """tqdm's bar on a terminal; elsewhere, as in a log file, a line now and then and one at the end.

    Args:
        *args: As of tqdm.
        **options: As of tqdm.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._on_terminal = bool(getattr(options.get("file") or sys.stderr, "isatty", bool)())
        self._line_due, self._written = now() + LINE_INTERVAL, options.get("initial", 0)
        super().__init__(*args, **options)

    @staticmethod
    def status_printer(file: Any) -> Any:
        """What writes and wipes the bar: nothing where it cannot be wiped."""
        return tqdm.status_printer(file) if getattr(file, "isatty", bool)() else lambda text: None

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Show the state, or the message instead."""
        if self._on_terminal:
            return super().display(msg, pos)
        if msg is None and self.n > self._written and (now() >= self._line_due or self.n == self.total):
            self._line_due, self._written = now() + LINE_INTERVAL, self.n
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return True

    def close(self) -> None:
        """End the bar."""
        if not self._on_terminal and not self.disable:
            self.display()
            self.fp = io.StringIO()  # tqdm would end it with an empty line
        super().close()
