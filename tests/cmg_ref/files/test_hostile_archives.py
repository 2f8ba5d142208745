"""Archives, as npz and torch files are, that hold other things than they say or far more."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.formats.writers import write_npz
from cmg_ref.clips.motion_clip import ClipError, MotionClip
from cmg_ref.evaluation.evaluated_motion import read_motion
from cmg_ref.network.checkpoint import CheckpointError
from cmg_ref.network.legacy_checkpoint import import_legacy_checkpoint, load_torch_file
from cmg_ref.robots.robot import load_g1
from envs.learning.policy import PolicyError, read_checkpoint

Refusal = Callable[..., None]

MEBIBYTE = 1 << 20


def npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode("latin1") + content


def good_header(shape: str, descr: str = "'<f8'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


BAD_ARRAYS = {
    "a key that cannot be one": npy("{[]: 1}\n"),
    "half a header": npy("{'descr': ("),
    "no type": npy(good_header("(1,)", "()"), b"12345678"),
    "no header": npy(""),
    "a header of 60 kB": npy(good_header("(1,)") + " " * 60_000, b"12345678"),
    "a nested header": npy("{'descr': " + "(" * 4000 + ")" * 4000 + ", 'fortran_order': False, 'shape': ()}"),
    "a header of bytes": npy("\x00\xff" * 50),
    "another version": npy(good_header("(1,)"), b"12345678", version=9),
    "a shape of 80 GB": npy(good_header("(10000000000,)"), b"12345678"),
    "a shape that overflows": npy(good_header("(4611686018427387904, 4611686018427387904)"), b"12345678"),
    "a shape of a thousand digits": npy(good_header(f"({'9' * 1000},)"), b"12345678"),
    "a negative shape": npy(good_header("(-1,)"), b"12345678"),
    "too few bytes": npy(good_header("(2,)"), b"12345678"),
    "text of gigabytes": npy(good_header("(1,)", "'<U1000000000'"), b"12345678"),
    "objects": npy(good_header("(1,)", "'|O'"), b"12345678"),
    "records": npy(good_header("(1,)", "[('a', '<f8')]"), b"12345678"),
    "a date": npy(good_header("(1,)", "'<M8[s]'"), b"12345678"),
    "no array": b"hello, this is no array",
    "nothing": b"",
}


@pytest.mark.parametrize("trick", BAD_ARRAYS)
def test_bad_arrays_in_an_npz(assert_refused: Refusal, swinging_clip: MotionClip, tmp_path: Path, trick: str) -> None:
    write_npz(swinging_clip, tmp_path / "good.npz")
    path = tmp_path / "take.npz"
    with zipfile.ZipFile(tmp_path / "good.npz") as good, zipfile.ZipFile(path, "w") as archive:
        for member in good.namelist():
            archive.writestr(member, BAD_ARRAYS[trick] if member == "dof_pos.npy" else good.read(member))
    assert_refused(lambda: read_clip(path), ClipError, path, "dof_pos")
    assert_refused(lambda: read_motion(path, load_g1(), ignore_root=True), ClipError, path, "dof_pos")


def test_arrays_in_fortran_order_and_of_other_types(swinging_clip: MotionClip, tmp_path: Path) -> None:
    path = tmp_path / "take.npz"
    write_npz(swinging_clip, path)
    fields = dict(np.load(path))
    for dtype in ("<f4", ">f8", "<f2"):
        root_pos = np.asfortranarray(fields["root_pos"].astype(dtype))
        np.savez_compressed(path, **{**fields, "root_pos": root_pos})
        assert np.array_equal(read_clip(path).root_pos.numpy(), root_pos.astype(np.float64))


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Archives with a member of 700 MiB of zeros, by the member's name."""
    path = tmp_path_factory.mktemp("bombs") / "bomb.zip"
    made = {}
    for name in ("joint_pos.npy", "a/data.pkl"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open(
            name, "w"
        ) as file:
            file.write(npy(good_header(f"({700 * MEBIBYTE // 8},)")))
            for _ in range(700):
                file.write(bytes(MEBIBYTE))
        made[name] = path.read_bytes()
    return made


@pytest.mark.parametrize("claim", [None, 100, 100 * MEBIBYTE])
def test_an_archive_that_unpacks_to_much(
    assert_refused: Refusal, bombs: dict[str, bytes], tmp_path: Path, claim: int | None
) -> None:
    """It may also claim that it does not."""
    paths = {name: tmp_path / file for name, file in (("joint_pos.npy", "take.npz"), ("a/data.pkl", "state.pt"))}
    for name, path in paths.items():
        path.write_bytes(bombs[name])
        with zipfile.ZipFile(path) as archive:
            size = struct.pack("<I", archive.getinfo(name).file_size)
        if claim is not None:
            path.write_bytes(bombs[name].replace(size, struct.pack("<I", claim)))
    take, state = paths.values()
    assert take.stat().st_size < 5 * MEBIBYTE
    assert_refused(lambda: read_clip(take), ClipError, take)
    assert_refused(lambda: read_motion(take, load_g1()), ClipError, take)
    assert_refused(lambda: load_torch_file(state), CheckpointError, state)
    assert_refused(lambda: read_checkpoint(state), PolicyError, state)


def test_many_members_at_the_same_bytes(assert_refused: Refusal, tmp_path: Path) -> None:
    """As in a bomb of overlapping members: each is honest, all together are not."""
    path = tmp_path / "take.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy(good_header(f"({MEBIBYTE},)"), bytes(8 * MEBIBYTE)))
        first = archive.infolist()[0]
        archive.filelist.extend([first] * 1000)
    assert_refused(lambda: read_clip(path), ClipError, path)


def test_small_numbers_that_become_large_ones(assert_refused: Refusal, tmp_path: Path) -> None:
    """Bytes take eight times as much when they are used as numbers."""
    path = tmp_path / "take.npz"
    np.savez_compressed(path, joint_pos=np.zeros((1000, 100_000), dtype=np.int8))
    assert_refused(lambda: read_clip(path), ClipError, path, "needs at most")


def test_an_encrypted_member_and_an_unusual_method(
    assert_refused: Refusal, swinging_clip: MotionClip, tmp_path: Path
) -> None:
    path = tmp_path / "take.npz"
    write_npz(swinging_clip, path)
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 8] |= 1
    path.write_bytes(content)
    assert_refused(lambda: read_clip(path), ClipError, path, "is encrypted")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("dof_pos.npy", npy(good_header("(1,)"), b"12345678"))
    assert_refused(lambda: read_clip(path), ClipError, path, "unusual method")


def test_tensors_that_are_views_of_less(assert_refused: Refusal, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(1).expand(1000, 100_000)}, path)
    assert_refused(lambda: load_torch_file(path), CheckpointError, path, "larger than")
    torch.save({"a": torch.zeros(1).expand(10, 10)}, path)
    assert load_torch_file(path)["a"].shape == (10, 10)


@pytest.mark.parametrize("value", [torch.zeros(0, 5), torch.zeros(5), "text", None, [1.0], np.zeros((3, 3))])
def test_weights_of_another_kind(assert_refused: Refusal, tmp_path: Path, value: Any) -> None:
    path = tmp_path / "a.pt"
    torch.save({"model_state_dict": {"gating.gating_network.0.weight": value}, "stats": {}}, path)
    assert_refused(lambda: import_legacy_checkpoint(path), CheckpointError, path)
