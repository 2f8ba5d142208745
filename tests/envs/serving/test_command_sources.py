"""Where commands come from, and when each of them counts as lost."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from cmg_ref.commands.schedule import CommandSchedule
from envs.playing.keyboard import KeyboardError
from envs.serving.command_sources import GamepadSource, KeyboardSource, KeySource, ScheduleSource, SourceError

LOWEST, HIGHEST = np.array([-0.5, -0.4, -1.0]), np.array([1.5, 0.4, 1.0])


def test_a_schedule_waits_for_the_robot_and_ends() -> None:
    source = ScheduleSource(CommandSchedule([(0.0, 0.0, 0.0, 0.0), (1.0, 0.5, 0.0, 0.1)]), 2.0, 0.02)
    assert not source.poll(100.0, 0.0, None).command.any()
    np.testing.assert_allclose(source.poll(200.0, 1.0, None).command, [0.5, 0.0, 0.1], atol=1e-6)
    assert source.poll(0.0, 1.98, None).ended is None
    assert source.poll(0.0, 2.0, None).ended == "the schedule has ended"


def test_a_key_of_redis_is_lost_when_nobody_writes_it() -> None:
    source = KeySource(patience=0.5)
    first = source.poll(0.0, 0.0, None)
    assert not first.command.any() and first.lost is None  # nobody has begun yet
    assert source.poll(1.0, 0.0, b"[0.5, 0, 0.1]").command.tolist() == [0.5, 0.0, 0.1]
    kept = source.poll(1.4, 0.0, None)
    assert kept.command.tolist() == [0.5, 0.0, 0.1] and kept.lost is None
    lost = source.poll(1.6, 0.0, None)
    assert lost.lost == "no command under cmg_serve_command for 0.5 s" and not lost.command.any()
    assert source.poll(1.7, 0.0, b"[0.2, 0, 0]").lost is None


@pytest.mark.parametrize("text", [b"[NaN, 0, 0]", b"[1e999, 0, 0]", b"[1, 2]", b"{}", b"walk", b"\xff", b"[[1,2,3]]"])
def test_what_is_no_command_is_said_once_and_never_obeyed(text: bytes) -> None:
    source = KeySource(patience=0.5)
    source.poll(0.0, 0.0, b"[0.5, 0, 0]")
    told = source.poll(0.1, 0.0, text)
    assert told.command.tolist() == [0.5, 0.0, 0.0] and told.remark is not None and "\n" not in told.remark
    assert "no list of three finite numbers" in told.remark
    assert source.poll(0.2, 0.0, text).remark is None
    assert source.poll(0.6, 0.0, text).lost is not None  # it does not count as a sign of life


def event(kind: int, number: int, value: int) -> bytes:
    return struct.pack("IhBB", 0, value, kind, number)


def test_a_gamepad_drives_while_its_button_is_held(tmp_path: Path) -> None:
    device = tmp_path / "js0"
    os.mkfifo(device)
    other_end = os.open(device, os.O_RDWR)
    source = GamepadSource(device, LOWEST, HIGHEST)
    os.write(other_end, event(0x82, 1, -32767) + event(2, 3, 16384))  # left stick forward, right one half to the right
    assert not source.poll(0.0, 0.0, None).command.any()
    button = event(1, 4, 1)
    os.write(other_end, button[:3])  # an event that arrives in two halves
    assert not source.poll(0.0, 0.0, None).command.any()
    os.write(other_end, button[3:])
    np.testing.assert_allclose(source.poll(0.0, 0.0, None).command, [1.5, 0.0, -0.444], atol=1e-3)
    os.write(other_end, event(2, 1, 32767) + event(2, 0, 32767) + event(2, 3, 2000))  # back, right, almost nothing
    np.testing.assert_allclose(source.poll(0.0, 0.0, None).command, [-0.5, -0.4, 0.0], atol=1e-6)
    os.write(other_end, event(1, 4, 0))
    released = source.poll(0.0, 0.0, None)
    assert not released.command.any() and released.lost is None
    os.close(other_end)
    assert source.poll(0.0, 0.0, None).lost == f"{device}: the gamepad is gone"
    source.__exit__()
    with pytest.raises(SourceError, match="no gamepad to read"):
        GamepadSource(tmp_path / "absent", LOWEST, HIGHEST)


def test_the_keyboard_holds_or_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    pty = pytest.importorskip("pty")
    for hold, later in ((None, 0.1), (0.5, 0.0)):
        ours, theirs = pty.openpty()
        with os.fdopen(theirs, "r") as terminal:
            monkeypatch.setattr(sys, "stdin", terminal)
            with KeyboardSource(LOWEST, HIGHEST, hold) as source:
                os.write(ours, b"w")
                assert source.poll(10.0, 0.0, None).command[0] == pytest.approx(0.1)
                assert source.poll(10.4, 0.0, None).command[0] == pytest.approx(0.1)
                assert source.poll(10.6, 0.0, None).command[0] == pytest.approx(later)
                os.write(ours, b"x")
                assert source.poll(10.7, 0.0, None).ended == "x was pressed"
        os.close(ours)


def test_a_terminal_that_goes_away_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        with KeyboardSource(LOWEST, HIGHEST, None) as source:
            assert source.poll(0.0, 0.0, None).ended is None
            os.close(ours)
            gone = source.poll(0.0, 0.0, None)
            assert gone.ended == gone.lost == "the terminal is gone"


def test_without_a_terminal_there_is_no_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(KeyboardError, match="needs a terminal"):
            KeyboardSource(LOWEST, HIGHEST, None)
