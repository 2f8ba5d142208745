"""Arrays of numbers and text from the bytes of a file, whatever the file claims of them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from cmg_ref.core.shorten import shortened

_PLAIN_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|[SU]\d{1,6})")


MAX_NAMES = 1000
"""No robot has as many joints or bodies."""


class Unread:
    """Stands where a file holds something that is not data, and was passed over.

    Attributes:
        kind: What it was, e.g. "pathlib.PosixPath" or "array of objects".
    """

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


def kind_of(value: Any) -> str:
    """What a value read from a file is, for messages."""
    if isinstance(value, Unread):
        return value.kind
    return f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


def names_of(value: Any) -> tuple[str, ...] | None:
    """The names in a list, a tuple or an array (num_names,) of text; None if it is none, or longer than any robot's."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind == "U" and len(value) <= MAX_NAMES:
        try:
            value = value.tolist()
        except ValueError:  # Bytes that are no characters.
            return None
    if not isinstance(value, (list, tuple)) or len(value) > MAX_NAMES:
        return None
    return tuple(value) if all(isinstance(name, str) for name in value) else None


def plain_dtype(name: Any) -> np.dtype | None:
    """The type of numbers or text that numpy calls so; None for anything else, such as Python objects."""
    return np.dtype(name) if isinstance(name, str) and _PLAIN_DTYPE.fullmatch(name) else None


def array_of_bytes(content: Any, dtype: np.dtype, shape: Any, order: Any, offset: int = 0) -> np.ndarray:
    """The array that some bytes hold, without a copy.

    Args:
        content: The bytes.
        dtype: Type of the elements, one that `plain_dtype` gives.
        shape: Length of each dimension.
        order: "F" if the first index runs fastest, else the last does.
        offset: Where the elements begin in `content`.

    Raises:
        ValueError: There are not exactly as many bytes as the shape needs, or the shape is none.
    """
    if not isinstance(content, (bytes, bytearray)) or not isinstance(shape, tuple) or len(shape) > 32:
        raise ValueError(f"an array cannot be made of {kind_of(content)} and the shape {shortened(shape)}")
    num_elements = 1
    for length in shape:
        if type(length) is not int or not 0 <= length < 1 << 40:
            raise ValueError(f"an array cannot have the shape {shortened(shape)}")
        num_elements *= length
    if num_elements * max(dtype.itemsize, 1) != len(content) - offset:
        have = len(content) - offset
        raise ValueError(f"{have} bytes for an array of {dtype} with the shape {shortened(shape)}")
    if not num_elements:
        return np.empty(shape, dtype)
    return np.frombuffer(content, dtype, num_elements, offset).reshape(shape, order="F" if order == "F" else "C")
