"""Files that are either the old one or the whole new one, never half of it.

While a file is written it lies, under its own name, in a hidden folder beside its place, ``.NAME.unfinished-XXXXXXXX``.
So no listing of a folder shows it, and what libraries leave beside a file that they fail to write lies there too. The
folder is locked as long as its writer lives; the next writer to the same place removes those whose writers were killed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

from cmg_ref.files.folder_lock import lock_folder, unlock

_MARK = ".unfinished-"
_NAME_LENGTH = 50  # characters of the file's name in the folder's, which must not get too long
_FULL = 64 * 1024  # [bytes] a disk with less left is full
_RUST_ERROR = re.compile(r"\(os error (\d+)\)|Os \{ code: (\d+)")


class WriteError(OSError):
    """A file that cannot be written; the message is the reason and the file."""

    def __str__(self) -> str:
        return f"{self.strerror}: {self.filename}"


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Gives another name to write to; what is written there takes the place of `path` at the end, with its permissions.

    If the block raises, `path` stays as it was and nothing else is left. A link is followed: what it leads to is
    replaced.

    Args:
        path: The file to write; its folder is made if need be.

    Yields:
        The name to write to: the same one in another folder. An empty file of that name is there.

    Raises:
        WriteError: The file cannot be written: no space, no permission, a folder or a device in its place.
    """
    target = Path(os.path.realpath(str(path)))
    with naming_errors(path):
        if target.exists() and not target.is_file():
            raise WriteError(errno.EEXIST, "Not a file, so not replaced", str(path))
        if target.parent.is_file():
            raise WriteError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(target.parent)
        folder, lock = _locked_folder(target)
    try:
        with naming_errors(path):
            temporary = folder / target.name
            temporary.touch()
            mode = (target if target.exists() else temporary).stat().st_mode
            yield temporary
            temporary.chmod(mode)  # safetensors makes files that nobody but their owner can read.
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # Only what is on the disk may replace the old file.
            os.replace(temporary, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unlock(lock)


def write_file(path: str | Path, content: str | bytes) -> None:
    """Write a whole file, text as UTF-8, in one step; raises WriteError as :func:`atomic_file` does."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def buffered_file(path: str | Path) -> Iterator[io.BytesIO]:
    """Gives a buffer that becomes the file at the end, for torch, which ends the process where it cannot write.

    Raises:
        WriteError: As :func:`atomic_file`.
    """
    buffer = io.BytesIO()
    yield buffer
    with atomic_file(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def remove_unfinished(folder: str | Path) -> None:
    """Remove what killed writers left in a folder; what is still being written stays."""
    for entry in Path(folder).glob(f".*{_MARK}*"):
        with contextlib.suppress(BlockingIOError):
            lock = lock_folder(entry, wait=False)
            if lock is not None:
                shutil.rmtree(entry, ignore_errors=True)
            unlock(lock)


@contextlib.contextmanager
def naming_errors(path: str | Path) -> Iterator[None]:
    """Turns a failure to write, however a library words it, into an error that names the file.

    Raises:
        WriteError: In place of an OSError or a SafetensorError that names no file, or one in the file's folder.
    """
    folder = os.path.dirname(os.path.realpath(str(path)))
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        number = _error_number(error, folder)
        if number is None:
            raise
        raise WriteError(number, os.strerror(number), str(path)) from error


def _locked_folder(target: Path) -> tuple[Path, int | None]:
    """A new folder for an unfinished file, and its lock."""
    while True:
        prefix = f".{target.name[:_NAME_LENGTH]}{_MARK}"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=str(target.parent)))
        lock = lock_folder(folder, wait=True)
        if folder.exists():  # Before it was locked another writer may have taken it for a dead one's.
            return folder, lock
        unlock(lock)


def _error_number(error: Exception, folder: str) -> int | None:
    """What the system said when a write failed; None for an error that is none of writing into a folder."""
    rust = _RUST_ERROR.search(str(error))
    if rust:  # safetensors has it in its words alone.
        return int(rust.group(1) or rust.group(2))
    if not isinstance(error, OSError):
        return None
    if error.errno in (None, errno.EPIPE):  # From a program that writes for us, such as ffmpeg.
        return errno.ENOSPC if shutil.disk_usage(folder).free < _FULL else None
    if isinstance(error.filename, (str, bytes)):
        place = os.path.realpath(os.fsdecode(error.filename))
        if not (place.startswith(folder) or folder.startswith(place)):
            return None
    return error.errno
