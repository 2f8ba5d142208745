"""Pickles that ask for more than they hold are refused; odd ones that are sound are read."""

from __future__ import annotations

import datetime
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats.pickled_arrays import load_pickled_arrays
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.motion_clip import ClipError, MotionClip
from cmg_ref.files.plain_arrays import Unread
from cmg_ref.network.checkpoint import CheckpointError
from cmg_ref.network.legacy_checkpoint import load_torch_file

Refusal = Callable[..., None]

MEBIBYTE = 1 << 20


def nested_lists(width: int, depth: int) -> bytes:
    """Lists that hold each other `width` times, `depth` deep."""
    levels = b"".join(pickle.EMPTY_LIST + pickle.BINPUT + bytes([level]) + pickle.POP for level in range(depth + 1))
    links = b"".join(
        pickle.BINGET + bytes([level]) + (pickle.BINGET + bytes([level + 1]) + pickle.APPEND) * width + pickle.POP
        for level in range(depth)
    )
    return (
        b"\x80\x04" + levels + links + pickle.EMPTY_DICT + b"X\1\0\0\0x" + pickle.BINGET + b"\0" + pickle.SETITEM + b"."
    )


def bytearray_of(size: bytes) -> bytes:
    return (
        b"\x80\x04cbuiltins\nbytearray\n"
        + pickle.LONG1
        + bytes([len(size)])
        + size
        + pickle.TUPLE1
        + pickle.REDUCE
        + b"."
    )


def array_of_shape(*shape: int) -> bytes:
    """An array of numpy of that shape, with eight bytes."""
    numbers = b"".join(pickle.LONG1 + b"\x09" + length.to_bytes(9, "little", signed=True) for length in shape)
    dtype = b"cnumpy\ndtype\n(X\2\0\0\0f8I00\nI01\ntR"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85C\1btR"
    return b"\x80\x04" + array + b"(K\1(" + numbers + b"t" + dtype + b"I00\nC\x0812345678tb."


TUPLES = b"(" + b"(" * 30 + b")" + b"".join(b"\x94h" + bytes([n]) + b"\x86" for n in range(30))
HUNGRY_PICKLES = {
    "lists that hold each other": nested_lists(10, 30),
    "a list that holds itself": b"\x80\x04}X\1\0\0\0x]\x94h\0as.",
    "lists a hundred thousand deep": b"\x80\x04}X\1\0\0\0x" + b"]" * 100_000 + b"a" * 99_999 + b"s.",
    "tuples a hundred thousand deep": b"\x80\x04}X\1\0\0\0x)" + b"\x85" * 100_000 + b"s.",
    "a tuple that is slow to hash": b"\x80\x04}" + b")" + b"\x942\x86" * 60 + b"Ns.",
    "a memo of gigabytes": b"\x80\x04}r" + struct.pack("<I", 300_000_000) + b".",
    "a memo of terabytes": b"\x80\x04}p" + b"9" * 200 + b"\n.",
    "a bytearray of gigabytes": bytearray_of((5_000_000_000).to_bytes(5, "little")),
    "bytes of gigabytes": b"\x80\x04B" + struct.pack("<I", 4_000_000_000) + b"x.",
    "bytes of exabytes": b"\x80\x04\x8e" + b"\xff" * 8 + b"x.",
    "a bytearray of exabytes": b"\x80\x05\x96" + b"\xff" * 7 + b"\x7fx.",
    "text of exabytes": b"\x80\x04\x8d" + b"\xff" * 8 + b"x.",
    "a frame of exabytes": b"\x80\x04\x95" + b"\xff" * 8 + b".",
    "an integer of gigabytes": b"\x80\x04\x8b" + struct.pack("<i", 2_000_000_000) + b".",
    "an integer of negative size": b"\x80\x04\x8b" + struct.pack("<i", -1) + b".",
    "an integer of a megabyte": b"\x80\x04\x8b" + struct.pack("<i", MEBIBYTE) + b"\x7f" * MEBIBYTE + b".",
    "a million digits": b"L" + b"7" * 1_000_000 + b"L\n.",
    "a float of a million digits": b"F" + b"7" * 1_000_000 + b"\n.",
    "text that is multiplied": b"\x80\x04c_codecs\nencode\n(X\1\0\0\0aK\x09tR.",
    "copies of a copy": b"\x80\x02c_codecs\nencode\nq\0X"
    + struct.pack("<I", 1000)
    + b"a" * 1000
    + b"q\1X\6\0\0\0latin1q\2\x30" * 1
    + b"h\0h\1h\2\x86R0" * 100_000
    + b"}.",
    "a shape of 80 GB": array_of_shape(10_000_000_000),
    "a shape that overflows": array_of_shape(1 << 62, 1 << 62),
    "a negative shape": array_of_shape(-1, 1),
    "a shape of nothing": array_of_shape(1 << 62, 0),
    "sixty dimensions": array_of_shape(*[1] * 60),
    "an array of pointers": b"\x80\x04cnumpy\nndarray\n(K\1\x85X\1\0\0\0OC\x0812345678tR.",
    "steps without end": b"\x80\x04" + b"N0" * 3_000_000 + b"}.",
    "an empty stack": b"\x80\x04.",
    "a mark that is not there": b"\x80\x04t.",
    "a value below a mark": b"\x80\x04}(0b.",
    "no end": b"\x80\x04}",
    "half a surrogate": b"V\\ud800\n.",
}


@pytest.mark.parametrize("trick", HUNGRY_PICKLES)
def test_hungry_pickles_are_refused(assert_refused: Refusal, tmp_path: Path, trick: str) -> None:
    path, state = tmp_path / "take.pkl", tmp_path / "state.pt"
    path.write_bytes(HUNGRY_PICKLES[trick])
    assert_refused(lambda: read_clip(path), ClipError, path)
    with zipfile.ZipFile(state, "w") as archive:
        archive.writestr("a/data.pkl", HUNGRY_PICKLES[trick])
    if trick != "a tuple that is slow to hash":  # A key of another kind does no harm there.
        assert_refused(lambda: load_torch_file(state), CheckpointError, state)


def test_keys_that_collide_are_not_looked_up(assert_refused: Refusal, tmp_path: Path) -> None:
    collide = [b"\x8a\x0a" + (key * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for key in range(1, 60_000)]
    (tmp_path / "take.pkl").write_bytes(b"\x80\x04}(" + b"".join(collide) + b"u.")
    assert_refused(lambda: read_clip(tmp_path / "take.pkl"), ClipError, tmp_path / "take.pkl", "'dof_pos' is missing")


def twist_fields(clip: MotionClip) -> dict[str, Any]:
    return {
        "fps": clip.fps,
        "root_pos": clip.root_pos.numpy(),
        "root_rot": clip.root_quat.numpy(),
        "quat_order": "xyzw",
        "dof_pos": clip.dof_pos.numpy(),
    }


ODD_VALUES = {
    "set": {1, 2},
    "frozenset": frozenset("ab"),
    "path": Path("/a/b"),
    "torch tensor": torch.arange(3.0),
    "parameter": torch.nn.Parameter(torch.zeros(2)),
    "array of objects": np.array([{}, None], dtype=object),
    "complex array": np.zeros(2, dtype=np.complex64),
    "records": np.zeros(2, dtype=[("a", "f4"), ("b", "i8")]),
    "complex": 1j,
    "date": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc),
    "range": range(3),
    "bytearray": bytearray(b"abc"),
    "tuple keys": {(1, 2): 3},
    "big integer": 1 << 200,
    "nested": {"a": [({"b": None},)], "c": OrderedDict(d=True)},
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("odd", ODD_VALUES)
def test_a_field_of_odd_kind_does_no_harm_where_it_is_not_used(
    assert_refused: Refusal, swinging_clip: MotionClip, tmp_path: Path, odd: str, protocol: int
) -> None:
    path = tmp_path / "take.pkl"
    fields = {"note": ODD_VALUES[odd], "notes": [ODD_VALUES[odd]], **twist_fields(swinging_clip)}
    path.write_bytes(pickle.dumps(fields, protocol))
    assert read_clip(path).dof_pos.equal(swinging_clip.dof_pos)
    path.write_bytes(pickle.dumps(OrderedDict(fields), protocol))
    assert read_clip(path).dof_pos.equal(swinging_clip.dof_pos)
    for field in ("fps", "dof_pos") if odd != "big integer" else ("dof_pos",):
        path.write_bytes(pickle.dumps({**fields, field: ODD_VALUES[odd]}, protocol))
        assert_refused(lambda: read_clip(path), ClipError, path, f"field '{field}': holds ")


@pytest.mark.parametrize(
    ("value", "kind"),
    [({1}, "set"), (Path("a"), "Path"), (torch.zeros(1), "tensor"), (np.array([None]), "objects"), ([1], "list")],
)
def test_what_is_refused_says_its_kind(
    assert_refused: Refusal, swinging_clip: MotionClip, tmp_path: Path, value: Any, kind: str
) -> None:
    path = tmp_path / "take.pkl"
    path.write_bytes(pickle.dumps(value))
    assert_refused(lambda: read_clip(path), ClipError, path, f"{kind}, needs a dictionary")
    path.write_bytes(pickle.dumps({**twist_fields(swinging_clip), "dof_pos": value}))
    assert_refused(lambda: read_clip(path), ClipError, path, "field 'dof_pos': holds ", f"{kind}, needs an array")


def test_arrays_may_be_shared_and_recalled(tmp_path: Path) -> None:
    array, text = np.arange(6.0).reshape(2, 3), np.array(["a", "bcd"])
    value = {"one": array, "same": array, "fortran": np.asfortranarray(array), "text": text, "empty": array[:0]}
    value.update(scalar=np.float32(2.5), big=array.astype(">f8"), truth=np.array([True, False]))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
        read = load_pickled_arrays(tmp_path / "a.pkl")
        assert read["one"] is read["same"] or protocol == 5
        for key, want in value.items():
            np.testing.assert_array_equal(read[key], want)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"odd": {1}}))
    assert isinstance(load_pickled_arrays(tmp_path / "a.pkl")["odd"], Unread)
