"""Folders that one process has to itself, for as long as it lives; the system itself lets go of a killed one's."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Iterator

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # On Windows files are written whole too, but nobody is told of another writer.
    fcntl = None


class FolderInUseError(OSError):
    """Another process has the folder; the message is one line."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@contextmanager
def sole_writer(folder: str | Path) -> Iterator[None]:
    """Have a folder to oneself inside the block: two trainings in one folder would overwrite each other's files.

    Raises:
        FolderInUseError: Another process has it.
    """
    try:
        lock = lock_folder(folder, wait=False)
    except BlockingIOError as error:
        reason = "another process is training there; wait for it or stop it"
        raise FolderInUseError(errno.EBUSY, reason, str(folder)) from error
    try:
        yield
    finally:
        unlock(lock)


def lock_folder(folder: str | Path, wait: bool) -> int | None:
    """Lock a folder until :func:`unlock` or the end of the process.

    Args:
        folder: The folder.
        wait: Whether to wait while another process holds the lock.

    Returns:
        What :func:`unlock` takes; None if there is no such folder (any more), or its file system or the system has no
        locks.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is false.
    """
    if fcntl is None:
        return None
    try:
        lock = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(lock)
        raise
    except OSError:
        os.close(lock)
        return None
    return lock


def unlock(lock: int | None) -> None:
    """Let go of what :func:`lock_folder` returned."""
    if lock is not None:
        os.close(lock)
