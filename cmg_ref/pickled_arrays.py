"""Pickles of numpy arrays and plain containers: read without ever running code from the file, written portably.

A pickle is a program: it may name any importable function and call it. The unpickler here resolves only the few names
with which numpy 1.x and 2.x rebuild arrays, and puts functions of its own in their place; any other name is an error.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np

from cmg_ref.atomic_file import atomic_file
from cmg_ref.motion_clip import ClipError


def load_pickled_arrays(path: Path) -> dict[str, Any]:
    """Loads a pickled dictionary of arrays, numbers, texts and plain containers (pickle protocols 0 to 5).

    Args:
        path: The file.

    Returns:
        The dictionary.

    Raises:
        ClipError: The file cannot be read, is damaged, is no dictionary, or names something else than numpy arrays.
    """
    try:
        with path.open("rb") as file:
            content = ArrayUnpickler(file).load()
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror})") from error
    except RefusedGlobalError as error:
        raise ClipError(f"{path}: refused to load '{error}': only arrays and plain containers are loaded") from error
    except Exception as error:  # A damaged pickle can fail in any of the functions that rebuild arrays.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ClipError(f"{path}: truncated, damaged or not a pickle ({reason})") from error
    if not isinstance(content, dict):
        raise ClipError(f"{path}: holds a {type(content).__name__}, needs a dictionary with 'fps', 'root_pos', ...")
    return content


def save_pickled_arrays(path: str | Path, content: Mapping[str, Any]) -> None:
    """Pickles a dictionary of arrays so that Python 3.8 and any numpy can load it."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        _PortablePickler(file, protocol=4).dump(dict(content))


class RefusedGlobalError(pickle.UnpicklingError):
    """The pickle names something that is not needed to rebuild arrays; the message is its name."""


class _PortablePickler(pickle.Pickler):
    """Writes arrays as a call of `numpy.ndarray`: numpy 2 otherwise names a module that numpy 1 does not have."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            return np.ndarray, (value.shape, value.dtype.str, bytearray(value.tobytes()))
        return NotImplemented


# --- What a pickle's names stand for ---------------------------------------------------------------------------------
# Not numpy's own functions: those can be made to take any bytes for pointers to Python objects.


class _PickledDtype:
    """In place of `numpy.dtype`: a name, and the byte order that the pickle sets afterwards."""

    def __init__(self, name: str, align: bool = False, copy: bool = True) -> None:
        self.dtype = np.dtype(name)
        if self.dtype.kind not in "biufSU":
            raise pickle.UnpicklingError(f"array of '{self.dtype}', needs numbers or text")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _PickledArray:
    """In place of numpy's `_reconstruct`: an array whose type, shape and content the pickle sets afterwards."""

    def __init__(self, *template: Any) -> None:
        self.array = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        self.array = _array_of_buffer(content, dtype, shape, "F" if is_fortran else "C")


def _with_arrays(value: Any) -> Any:
    """The value with every `_PickledArray` in it, however deep in plain containers, replaced by the array."""
    if isinstance(value, _PickledArray):
        return value.array
    if isinstance(value, dict):
        value.update({key: _with_arrays(inner) for key, inner in value.items()})
    elif isinstance(value, list):
        value[:] = map(_with_arrays, value)
    elif isinstance(value, tuple):
        return tuple(map(_with_arrays, value))
    return value


def _array(shape: tuple[int, ...], dtype_name: str, content: bytearray) -> np.ndarray:
    """In place of `numpy.ndarray`, which `_PortablePickler` writes."""
    return _array_of_buffer(content, _PickledDtype(dtype_name), shape, "C")


def _array_scalar(dtype: _PickledDtype, content: bytes) -> np.ndarray:
    """In place of numpy's `scalar`."""
    return _array_of_buffer(content, dtype, (), "C")


def _array_of_buffer(content: Any, dtype: _PickledDtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """In place of numpy's `_frombuffer`, which protocol 5 uses; all other arrays are made here too."""
    return np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _encode_latin1(text: str, encoding: str) -> bytes:
    """In place of `_codecs.encode`, with which protocols 0 to 2 write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unexpected text encoding '{encoding}'")
    return text.encode("latin1")


class ArrayUnpickler(pickle.Unpickler):
    """Resolves only what is needed to rebuild numpy arrays; any other name raises `RefusedGlobalError`."""

    stand_ins: Mapping[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): _array,
        ("numpy", "dtype"): _PickledDtype,
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,  # numpy 1
        ("numpy.core.multiarray", "scalar"): _array_scalar,
        ("numpy.core.numeric", "_frombuffer"): _array_of_buffer,
        ("numpy._core.multiarray", "_reconstruct"): _PickledArray,  # numpy 2
        ("numpy._core.multiarray", "scalar"): _array_scalar,
        ("numpy._core.numeric", "_frombuffer"): _array_of_buffer,
        ("builtins", "bytearray"): bytearray,
        ("_codecs", "encode"): _encode_latin1,
    }

    def load(self) -> Any:
        """The unpickled object with its arrays in place."""
        return _with_arrays(super().load())

    def find_class(self, module_name: str, global_name: str) -> Any:
        """What the pickle's name stands for."""
        try:
            return self.stand_ins[(module_name, global_name)]
        except KeyError:
            raise RefusedGlobalError(f"{module_name}.{global_name}") from None
