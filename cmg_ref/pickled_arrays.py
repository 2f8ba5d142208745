"""Reads pickles of numpy arrays and plain containers without ever running code from the file.

A pickle is a program: it may name any importable function and call it. This unpickler resolves only the few functions
that rebuild a numpy array or scalar, by the names that numpy 1.x and 2.x write; any other name is an error.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Callable

import numpy as np

from cmg_ref.motion_clip import ClipError


def load_pickled_arrays(path: Path) -> dict[str, Any]:
    """Loads a pickled dictionary of arrays, numbers, strings and plain containers (pickle protocols 0 to 5).

    Args:
        path: The file.

    Returns:
        The dictionary.

    Raises:
        ClipError: The file cannot be read, is damaged, is no dictionary, or names something else than numpy arrays.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file).load()
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror})") from error
    except _RefusedGlobalError as error:
        raise ClipError(f"{path}: refused to load '{error}': only arrays and plain containers are loaded") from error
    except Exception as error:  # A damaged pickle can fail in any of the functions that rebuild arrays.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ClipError(f"{path}: truncated, damaged or not a pickle ({reason})") from error
    if not isinstance(content, dict):
        raise ClipError(f"{path}: holds a {type(content).__name__}, needs a dictionary with 'fps', 'root_pos', ...")
    return content


class _RefusedGlobalError(pickle.UnpicklingError):
    """The pickle names something that is not needed to rebuild arrays; the message is its name."""


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Stands in for `_codecs.encode`, with which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unexpected text encoding '{encoding}'")
    return text.encode("latin1")


def _plain_dtype(name: str, *args: Any) -> np.dtype:
    """Stands in for `numpy.dtype`; arrays of Python objects are not needed."""
    dtype = np.dtype(name, *args)
    if dtype.hasobject:
        raise pickle.UnpicklingError("array of Python objects")
    return dtype


def _array_rebuilders() -> dict[tuple[str, str], Callable[..., Any]]:
    """What a pickled array may name; the functions are taken from numpy's own way of pickling an array."""
    allowed: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _plain_dtype,
        ("_codecs", "encode"): _encode_latin1,
    }
    rebuilders: dict[tuple[str, str], Any] = {
        ("multiarray", "_reconstruct"): np.zeros(1).__reduce__()[0],
        ("multiarray", "scalar"): np.float64(0.0).__reduce__()[0],
        ("numeric", "_frombuffer"): np.zeros(1).__reduce_ex__(5)[0],
    }
    for (module, function), rebuilder in rebuilders.items():
        for core in ("numpy.core", "numpy._core"):  # As numpy 1.x and 2.x call it.
            allowed[(f"{core}.{module}", function)] = rebuilder
    return allowed


class _ArrayUnpickler(pickle.Unpickler):
    """Resolves only what is needed to rebuild numpy arrays."""

    allowed = _array_rebuilders()

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return self.allowed[(module_name, global_name)]
        except KeyError:
            raise _RefusedGlobalError(f"{module_name}.{global_name}") from None
