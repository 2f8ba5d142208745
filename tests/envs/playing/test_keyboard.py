"""Steering by keys, on a pseudo terminal."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from envs.playing.keyboard import Keyboard, KeyboardError, steered_commands

pty = pytest.importorskip("pty")


def test_keys_change_the_command_within_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        with Keyboard(torch.tensor([-0.5, -0.3, -1.0]), torch.tensor([0.25, 0.3, 1.0])) as keyboard:
            os.write(ours, b"wwa")
            keyboard.poll()
            torch.testing.assert_close(keyboard.command, torch.tensor([0.2, 0.1, 0.0]))
            os.write(ours, b"w\x1b[D\x1b[Dd")
            keyboard.poll()
            torch.testing.assert_close(keyboard.command, torch.tensor([0.25, 0.0, 0.2]))
            os.write(ours, b" ")
            keyboard.poll()
            assert not keyboard.command.any()
            os.write(ours, b"sx")
            commands = list(steered_commands(keyboard, 0.02, 10.0))
            assert keyboard.ended and commands == []
    os.close(ours)


def test_without_a_terminal_there_is_no_steering(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(KeyboardError, match="needs a terminal"):
            Keyboard(torch.zeros(3), torch.ones(3))
