"""Files that are either the old one or the whole new one, never half of it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Gives a temporary name in the same folder; what is written there takes the place of `path` at the end.

    If the block raises, `path` stays as it was and the temporary file is removed.

    Args:
        path: The file to write; its folder is made if need be.

    Yields:
        The name to write to, with the same suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    temporary.touch()
    usual_mode = temporary.stat().st_mode
    try:
        yield temporary
        temporary.chmod(usual_mode)  # safetensors makes files that nobody but their owner can read.
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()
