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

from cmg_ref.core.command_layout import NUM_VELOCITIES, CommandLayout

# Channels by the keys that make them more and less, in the order of the layout; the arrows arrive as escape sequences.
KEYS = (("w", "s"), ("a", "d"), ("q", "e"), ("r", "f"), ("t", "g"), ("y", "h"), ("u", "j"))
ARROWS = {"\x1b[A": "w", "\x1b[B": "s", "\x1b[D": "q", "\x1b[C": "e"}
HELP = "w s or up down: forward, back; a d: to the sides; q e or left right: turn; space: stand; x: end"


class KeyboardError(RuntimeError):
    """There is no keyboard to read."""


class Keyboard:
    """Reads keys without waiting for them; a context manager that leaves the terminal as it was.

    Args:
        lowest, highest: Range of the commands, (command_dim,).
        layout: Channels of a command; those of the velocity by default.

    Attributes:
        command: What is told now, (command_dim,).
        ended: Whether the user wants to stop, or the terminal is gone.
        lost: Whether the terminal is gone.

    Raises:
        KeyboardError: Standard input is no terminal, or the system has none of the POSIX kind.
    """

    def __init__(self, lowest: torch.Tensor, highest: torch.Tensor, layout: CommandLayout | None = None) -> None:
        try:
            import termios
        except ImportError as error:
            raise KeyboardError("steering by keyboard needs a POSIX terminal") from error
        if not sys.stdin.isatty():
            raise KeyboardError("steering by keyboard needs a terminal: standard input is none")
        self._termios = termios
        self._begin(lowest, highest, layout)

    def _begin(self, lowest: torch.Tensor, highest: torch.Tensor, layout: CommandLayout | None) -> None:
        """Start from the command at rest."""
        self.lowest, self.highest, self.layout = lowest, highest, layout or CommandLayout()
        self.command = self.layout.rest()
        self._moves = {
            key: (column, sign * channel.step)
            for column, (channel, pair) in enumerate(zip(self.layout, KEYS))
            for key, sign in zip(pair, (1.0, -1.0))
        }
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
            pressed = keys[:3] if keys.startswith("\x1b[") else keys[0]
            keys, key = keys[len(pressed) :], ARROWS.get(pressed, pressed)
            if key == "x":
                self.ended = True
            elif key == " ":
                self.command = self.layout.rest()
            elif key in self._moves:
                column, step = self._moves[key]
                moved = self.command.clone()
                moved[column] += step
                self.command = torch.minimum(torch.maximum(moved, self.lowest), self.highest)


def key_help(layout: CommandLayout) -> str:
    """What the keys do."""
    further = [f"{more} {less}: {one.description}" for one, (more, less) in list(zip(layout, KEYS))[NUM_VELOCITIES:]]
    return "; ".join([*further, HELP])


def steered_commands(keyboard: Keyboard, dt: float, duration: float) -> Iterator[torch.Tensor]:
    """The command (command_dim,) of each control step, in real time, until the user or the time [s] ends it."""
    started = time.perf_counter()
    for step in range(round(duration / dt)):
        keyboard.poll()
        if keyboard.ended:
            break
        told = (
            f"{channel.label} {value:+.{1 if channel.step >= 0.1 else 2}f}"
            for channel, value in zip(keyboard.layout, keyboard.command.tolist())
        )
        print(f"\r{step * dt:6.1f} s   {'   '.join(told)}   ", end="", flush=True)
        yield keyboard.command
        time.sleep(max(0.0, started + (step + 1) * dt - time.perf_counter()))
    print()
