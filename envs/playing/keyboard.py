"""Steering by the keys of a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from types import TracebackType
from typing import Iterator

import torch

# Change of vx, vy [m/s], yaw rate [rad/s] by a key; the arrows arrive as escape sequences.
STEPS = {
    "w": (0.1, 0.0, 0.0),
    "s": (-0.1, 0.0, 0.0),
    "a": (0.0, 0.1, 0.0),
    "d": (0.0, -0.1, 0.0),
    "q": (0.0, 0.0, 0.1),
    "e": (0.0, 0.0, -0.1),
    "\x1b[A": (0.1, 0.0, 0.0),
    "\x1b[B": (-0.1, 0.0, 0.0),
    "\x1b[D": (0.0, 0.0, 0.1),
    "\x1b[C": (0.0, 0.0, -0.1),
}
HELP = "w s or up down: forward, back; a d: to the sides; q e or left right: turn; space: stand; x: end"


class KeyboardError(RuntimeError):
    """There is no keyboard to read."""


class Keyboard:
    """Reads keys without waiting for them; a context manager that leaves the terminal as it was.

    Args:
        lowest, highest: Range of the commands, (3,).

    Attributes:
        command: vx, vy [m/s], yaw rate [rad/s], (3,).
        ended: Whether the user wants to stop, or the terminal is gone.
        lost: Whether the terminal is gone.

    Raises:
        KeyboardError: Standard input is no terminal, or the system has none of the POSIX kind.
    """

    def __init__(self, lowest: torch.Tensor, highest: torch.Tensor) -> None:
        try:
            import termios
        except ImportError as error:
            raise KeyboardError("steering by keyboard needs a POSIX terminal") from error
        if not sys.stdin.isatty():
            raise KeyboardError("steering by keyboard needs a terminal: standard input is none")
        self._termios = termios
        self.lowest, self.highest = lowest, highest
        self.command = torch.zeros(3)
        self.ended = self.lost = False

    def __enter__(self) -> Keyboard:
        import tty

        self._settings = self._termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin.fileno())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(self._termios.error):  # a terminal that is gone needs no settings
            self._termios.tcsetattr(sys.stdin, self._termios.TCSADRAIN, self._settings)

    def poll(self) -> bool:
        """Take note of the keys pressed since the last call; returns whether there were any."""
        pressed = False
        while not self.lost and select.select([sys.stdin], [], [], 0.0)[0]:
            try:
                keys = os.read(sys.stdin.fileno(), 8)
            except OSError:
                keys = b""
            if keys:
                pressed = True
                self.press(keys.decode(errors="ignore"))
            else:
                self.lost = self.ended = True
        return pressed

    def press(self, keys: str) -> None:
        """Change the command as some keys say."""
        while keys:
            key = keys[:3] if keys.startswith("\x1b[") else keys[0]
            keys = keys[len(key) :]
            if key == "x":
                self.ended = True
            elif key == " ":
                self.command = torch.zeros(3)
            elif key in STEPS:
                moved = self.command + torch.tensor(STEPS[key])
                self.command = torch.minimum(torch.maximum(moved, self.lowest), self.highest)


def steered_commands(keyboard: Keyboard, dt: float, duration: float) -> Iterator[torch.Tensor]:
    """The command (3,) of each control step, in real time, until the user or the time [s] ends it."""
    started = time.perf_counter()
    for step in range(round(duration / dt)):
        keyboard.poll()
        if keyboard.ended:
            break
        vx, vy, wz = keyboard.command.tolist()
        print(f"\r{step * dt:6.1f} s   vx {vx:+.1f}   vy {vy:+.1f}   wz {wz:+.1f}   ", end="", flush=True)
        yield keyboard.command
        time.sleep(max(0.0, started + (step + 1) * dt - time.perf_counter()))
    print()
