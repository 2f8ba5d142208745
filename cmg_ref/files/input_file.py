"""What every reader asks of a file before it opens it."""

from __future__ import annotations

from pathlib import Path

MEBIBYTE = 1 << 20
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def check_input_file(path: Path, error: type[Exception], max_bytes: int = 4096 * MEBIBYTE) -> int:
    """Makes sure that a path names a file with content of its own, which a reader can then open.

    Args:
        path: The file.
        error: The kind of error that the reader raises.
        max_bytes: Largest file that the reader takes.

    Returns:
        Size of the file [bytes].

    Raises:
        error: There is no such file, it is no ordinary file (a folder, a pipe, a device), it may not be read, it is too
            large, or it is Git LFS's pointer to a file.
    """
    size, head = -1, b""
    try:
        is_folder = path.is_dir()
        if path.is_file() or not path.exists():  # Merely to open a pipe can take for ever.
            with path.open("rb") as file:
                head = file.read(len(_LFS_POINTER))
                size = file.seek(0, 2)
    except (OSError, ValueError) as problem:  # ValueError: a name that no file can have.
        raise error(f"{path}: cannot be read ({getattr(problem, 'strerror', None) or problem})") from problem
    if size < 0:
        raise error(f"{path}: is {'a folder' if is_folder else 'no ordinary file'}, needs a file")
    if head == _LFS_POINTER:
        raise error(f"{path}: is only Git LFS's pointer to the file; fetch the file itself with `git lfs pull`")
    if size > max_bytes:
        raise error(f"{path}: {size / MEBIBYTE:.0f} MiB, larger than the {max_bytes / MEBIBYTE:.0f} MiB that are read")
    return size
