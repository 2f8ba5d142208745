"""The arrays of an npz; nothing is allocated that the file does not hold, and pickled objects are passed over."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cmg_ref.clips.motion_clip import ClipError
from cmg_ref.core.shorten import shortened
from cmg_ref.files.archive import Archive
from cmg_ref.files.input_file import MEBIBYTE
from cmg_ref.files.plain_arrays import Unread, array_of_bytes, plain_dtype

_SUFFIX = ".npy"
_MAX_HEADER = 10_000
"""Longest header that numpy reads as well."""


def npz_fields(path: Path) -> list[str]:
    """Names of the arrays in an npz; raises as `read_npz` does."""
    with Archive(path, ClipError, "an npz") as archive:
        return [_field(name) for name in archive.names]


def read_npz(path: Path) -> dict[str, np.ndarray | Unread]:
    """All arrays of an npz.

    Args:
        path: The file.

    Returns:
        Field to array; an array of anything but numbers and text is `Unread`.

    Raises:
        ClipError: The file cannot be read, is no npz, is damaged, or holds more than a file of its size can honestly
            have; the message names file and field.
    """
    content: dict[str, np.ndarray | Unread] = {}
    num_elements = 0
    with Archive(path, ClipError, "an npz") as archive:
        for name in archive.names:
            try:
                array = _array_of_npy(archive.read(name))
            except ValueError as error:
                if isinstance(error, ClipError):
                    raise
                raise ClipError(f"{path}: field {shortened(_field(name))}: truncated or damaged ({error})") from error
            content[_field(name)] = array
            num_elements += array.size if isinstance(array, np.ndarray) else 0
            # Whatever their type: they are used as float64.
            if 8 * num_elements > archive.max_bytes:
                limit = archive.max_bytes / MEBIBYTE
                raise ClipError(f"{path}: holds {num_elements} numbers or more, needs at most {limit:.0f} MiB of them")
    return content


def _field(name: str) -> str:
    return name[: -len(_SUFFIX)] if name.endswith(_SUFFIX) else name


def _array_of_npy(content: bytearray) -> np.ndarray | Unread:
    """The array in a file of numpy's format; raises a ValueError if it is none."""
    if content[:6] != b"\x93NUMPY" or len(content) < 12 or content[6] not in (1, 2, 3):
        raise ValueError("is no array in numpy's format")
    size = 2 if content[6] == 1 else 4
    start = 8 + size + int.from_bytes(content[8 : 8 + size], "little")
    if start > min(len(content), _MAX_HEADER):
        raise ValueError("has no header, or a longer one than numpy reads")
    header = content[8 + size : start].decode("latin1")
    # No more of Python's syntax than numpy's headers need.
    order = re.search(r"""['"]fortran_order['"]\s*:\s*(True|False)\b""", header)
    shape = re.search(r"""['"]shape['"]\s*:\s*\(([\d\s,L]*)\)""", header)
    descr = re.search(r"""['"]descr['"]\s*:\s*(?:['"]([^'"]*)['"]|\[)""", header)
    if order is None or shape is None or descr is None:
        raise ValueError(f"has the header {shortened(header.strip())}")
    dtype = plain_dtype(descr.group(1))
    if dtype is None:
        objects = "O" in (descr.group(1) or "")
        return Unread("pickled objects" if objects else "an unusual type")
    lengths = [word.strip().rstrip("L") for word in shape.group(1).split(",") if word.strip()]
    if not all(word.isdigit() and len(word) < 16 for word in lengths):
        raise ValueError(f"has the shape ({shortened(shape.group(1))})")
    return array_of_bytes(content, dtype, tuple(map(int, lengths)), "F" if order.group(1) == "True" else "C", start)
