"""Pickles of numpy arrays and plain containers: read without ever running code from the file, written portably."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from cmg_ref.clips.motion_clip import ClipError
from cmg_ref.core.shorten import shortened
from cmg_ref.files.atomic_file import atomic_file
from cmg_ref.files.input_file import MEBIBYTE, check_input_file
from cmg_ref.files.plain_arrays import Unread, array_of_bytes, kind_of, plain_dtype
from cmg_ref.files.plain_pickle import Buildable, PickleError, PlainUnpickler, RefusedNameError, StandIn

MAX_BYTES = 1024 * MEBIBYTE


def load_pickled_arrays(path: Path) -> dict[Any, Any]:
    """Loads a pickled dictionary of arrays, numbers, texts and plain containers (pickle protocols 0 to 5).

    Args:
        path: The file.

    Returns:
        The dictionary. Numpy's scalars are arrays without dimensions in it, bytearrays are bytes, and objects of other
        known kinds (sets, paths, dates, tensors, arrays of objects) are `Unread`.

    Raises:
        ClipError: The file cannot be read, is damaged, is no dictionary, or names something that is not data.
    """
    check_input_file(path, ClipError, MAX_BYTES)
    try:
        content = PlainUnpickler(path.read_bytes(), ARRAY_STAND_INS).load()
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror})") from error
    except RefusedNameError as error:
        raise ClipError(f"{path}: refused to load '{error}': only arrays and plain containers are loaded") from error
    except PickleError as error:
        raise ClipError(f"{path}: truncated, damaged or not a pickle ({error})") from error
    if not isinstance(content, dict):
        raise ClipError(f"{path}: holds {kind_of(content)}, needs a dictionary with 'fps', 'root_pos', ...")
    return content


def save_pickled_arrays(path: str | Path, content: Mapping[str, Any]) -> None:
    """Pickles a dictionary of arrays so that Python 3.8 and any numpy can load it."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        _PortablePickler(file, protocol=4).dump(dict(content))


class _PortablePickler(pickle.Pickler):
    """Writes arrays as a call of `numpy.ndarray`: numpy 2 otherwise names a module that numpy 1 does not have."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            return np.ndarray, (value.shape, value.dtype.str, bytearray(value.tobytes()))
        return NotImplemented


# --- What a pickle's names stand for ---------------------------------------------------------------------------------
# Not numpy's own functions: those can be made to take any bytes for pointers to Python objects.


class _PickledDtype(Buildable):
    """In place of `numpy.dtype`: a name, and the byte order that the pickle sets afterwards."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *unused: Any) -> None:
        super().__init__("objects" if name in ("O", "O4", "O8", "|O") else shortened(name))
        self.dtype = plain_dtype(name)

    def build(self, state: Any) -> _PickledDtype:
        """The type with the byte order in the state of numpy's dtype."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError(f"a type of numbers cannot have the state {shortened(state)}")
        if self.dtype is not None:
            self.dtype = self.dtype.newbyteorder(state[1])
        return self


class _PickledArray(Buildable):
    """In place of numpy's `_reconstruct`: an array whose type, shape and content the pickle sets afterwards."""

    __slots__ = ()

    def __init__(self, *template: Any) -> None:
        super().__init__("array without content")

    def build(self, state: Any) -> np.ndarray | Unread:
        """The array with the state of numpy's."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError(f"an array cannot have the state {shortened(state)}")
        _, shape, dtype, is_fortran, content = state
        return _array_of_buffer(content, dtype, shape, "F" if is_fortran else "C")


def _array(shape: Any, dtype_name: Any, content: Any) -> np.ndarray | Unread:
    """In place of `numpy.ndarray`, which `_PortablePickler` writes."""
    return _array_of_buffer(content, _PickledDtype(dtype_name), shape, "C")


def _array_scalar(dtype: Any, content: Any) -> np.ndarray | Unread:
    """In place of numpy's `scalar`."""
    return _array_of_buffer(content, dtype, (), "C")


def _array_of_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray | Unread:
    """In place of numpy's `_frombuffer`, which protocol 5 uses; all other arrays are made here too."""
    if not isinstance(dtype, _PickledDtype):
        raise ValueError(f"an array cannot have {kind_of(dtype)} as its type")
    if dtype.dtype is None:
        return Unread(f"array of {dtype.kind}")
    return array_of_bytes(content, dtype.dtype, shape, order)


def _bytes(content: Any = b"", encoding: Any = "latin1") -> bytes:
    """In place of `_codecs.encode`, with which protocols 0 to 2 write bytes, and of `bytearray`."""
    if isinstance(content, bytes):
        return content
    if not isinstance(content, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes cannot be made of {kind_of(content)} and {shortened(encoding)}")
    return content.encode("latin1")


def _dictionary(pairs: Any = ()) -> dict[Any, Any] | Unread:
    """In place of `OrderedDict`, which Python 2 gave its items in a list of lists."""
    return Unread("collections.OrderedDict of another Python") if pairs else {}


ARRAY_STAND_INS: Mapping[tuple[str, str], StandIn] = {
    ("numpy", "ndarray"): _array,
    ("numpy", "dtype"): _PickledDtype,
    ("numpy.core.multiarray", "_reconstruct"): _PickledArray,  # numpy 1
    ("numpy.core.multiarray", "scalar"): _array_scalar,
    ("numpy.core.numeric", "_frombuffer"): _array_of_buffer,
    ("numpy._core.multiarray", "_reconstruct"): _PickledArray,  # numpy 2
    ("numpy._core.multiarray", "scalar"): _array_scalar,
    ("numpy._core.numeric", "_frombuffer"): _array_of_buffer,
    ("builtins", "bytearray"): _bytes,
    ("builtins", "bytes"): _bytes,
    ("_codecs", "encode"): _bytes,
    ("collections", "OrderedDict"): _dictionary,
    # Kinds of data that are passed over: no reader uses them, and files with them may hold all that one does.
    **{("builtins", name): None for name in ("complex", "frozenset", "range", "set", "slice", "xrange")},
    **{("datetime", name): None for name in ("date", "datetime", "time", "timedelta", "timezone")},
    **{
        (module, name): None
        for module in ("pathlib", "pathlib._local")  # Python 3.13
        for name in ("Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
    },
    **{("torch._utils", f"_rebuild_{kind}"): "torch tensor" for kind in ("parameter", "tensor", "tensor_v2")},
    ("torch.storage", "_load_from_bytes"): None,
    ("torch", "Size"): None,
    ("torch", "device"): None,
    **{("torch", name): None for name in ("float16", "float32", "float64", "int32", "int64", "bool")},
}
"""What the names in a pickle of arrays stand for."""
