"""Files appear whole or not at all, and nothing else stays: after errors, kills and other writers."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cmg_ref.clips.formats.readers import find_clips
from cmg_ref.clips.motion_clip import ClipError
from cmg_ref.files.atomic_file import WriteError, atomic_file, buffered_file, write_file

WRITE_AND_WAIT = """
import sys, time
from cmg_ref.files.atomic_file import atomic_file
with atomic_file(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def start_writer(path: Path) -> subprocess.Popen[str]:
    """A process that is in the midst of writing a file, until its input ends."""
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(path)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    return writer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert temporary.name == "file.txt" and not path.exists()
    assert path.read_text() == "new" and names(path.parent) == ["file.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_file(path) as temporary:
        temporary.write_text("half")
        (temporary.parent / "what a library left").touch()
        raise KeyError
    assert path.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_what_a_killed_writer_left_is_hidden_and_goes_at_the_next_writing(tmp_path: Path) -> None:
    with start_writer(tmp_path / "walk.npz") as writer:
        writer.send_signal(signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".walk.npz.unfinished-") and (left / "walk.npz").is_file()
    with pytest.raises(ClipError, match="no clip"):
        find_clips([tmp_path])
    write_file(tmp_path / "run.npz", b"")
    assert names(tmp_path) == ["run.npz"]
    assert find_clips([tmp_path]) == [tmp_path / "run.npz"]


def test_two_live_writers_leave_each_other_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with start_writer(path) as writer:
        write_file(path, "whole")
        assert path.read_text() == "whole" and len(names(tmp_path)) == 2
        writer.communicate("")
    assert writer.returncode == 0
    assert path.read_text() == "half" and names(tmp_path) == ["file.txt"]


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    path, link, fresh = tmp_path / "file.safetensors", tmp_path / "link.safetensors", tmp_path / "fresh.safetensors"
    path.touch(mode=0o640)
    path.chmod(0o640)
    link.symlink_to(path)
    for target in (link, fresh):
        with atomic_file(target) as temporary:
            save_file({"a": torch.zeros(2)}, str(temporary))
    assert link.is_symlink() and path.stat().st_size > 0
    assert path.stat().st_mode & 0o777 == 0o640
    (tmp_path / "usual").touch()
    assert fresh.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("place", ["folder", "/dev/null"])
def test_only_files_are_replaced(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match=f"Not a file, so not replaced: .*{place}"):
        write_file(tmp_path / place, "")
    assert Path("/dev/null").is_char_device() and names(tmp_path) == ["folder"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"Not a directory: .*file/inside\.txt"):
        write_file(tmp_path / "file" / "inside.txt", "")


def test_errors_of_reading_something_else_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No such file"), atomic_file(tmp_path / "new"):
        Path("/nowhere/absent").read_text()


def test_a_full_disk_is_one_line_whoever_writes(small_disk: Path) -> None:
    """Every library that writes files here: Python, safetensors, numpy, pillow, torch, TorchScript."""
    big = torch.rand(1_000_000)
    path = small_disk / "file.png"
    path.write_text("old")

    def by_pillow(temporary: Path) -> None:
        image = pytest.importorskip("PIL.Image")
        image.fromarray((np.random.rand(1500, 1500) * 255).astype("uint8")).save(temporary)

    def by_numpy(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, big=big.numpy())

    writers = [
        lambda temporary: temporary.write_bytes(bytes(4_000_000)),
        lambda temporary: save_file({"big": big}, str(temporary)),
        by_numpy,
        by_pillow,
    ]
    for write in writers:
        with pytest.raises(WriteError, match=f"^No space left on device: {path}$"), atomic_file(path) as temporary:
            write(temporary)
        assert path.read_text() == "old" and names(small_disk) == ["file.png"]
    traced = torch.jit.trace(torch.nn.Linear(1000, 1000), torch.zeros(1, 1000))
    for save in (lambda buffer: torch.save(big, buffer), lambda buffer: torch.jit.save(traced, buffer)):
        with pytest.raises(WriteError, match=f"^No space left on device: {path}$"), buffered_file(path) as buffer:
            save(buffer)
        assert path.read_text() == "old" and names(small_disk) == ["file.png"]
