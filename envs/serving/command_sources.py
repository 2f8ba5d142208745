"""Where velocity commands come from: a schedule, the terminal, a gamepad, Redis; and when each counts as lost."""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from cmg_ref.commands.schedule import CommandSchedule
from cmg_ref.core.shorten import shortened
from cmg_ref.files.json_text import parse_json
from envs.playing.keyboard import Keyboard

COMMAND_KEY = "cmg_serve_command"
REMARK_EVERY = 2.0  # [s] a fault that repeats itself is not told more often


class SourceError(OSError):
    """There is nothing to read commands from; the message is one line."""


@dataclass
class Steering:
    """What a source wants now.

    Attributes:
        command: vx, vy [m/s], yaw rate [rad/s], (3,).
        lost: Why no command comes any more, though one should; None if all is well. It may come back.
        ended: Why it has ended for good; None if it goes on.
        remark: Something to tell the user.
    """

    command: np.ndarray = field(default_factory=lambda: np.zeros(3))
    lost: str | None = None
    ended: str | None = None
    remark: str | None = None


class CommandSource:
    """Gives a command in every control step; a context that leaves everything as it was."""

    key: str | None = None
    """Key of Redis whose value is taken away in every control step, for this source to see."""

    def poll(self, now: float, elapsed: float, text: bytes | None) -> Steering:
        """What it wants now.

        Args:
            now: Present time [s] of a clock that never goes back.
            elapsed: Time that commands have been obeyed for [s]; 0 as long as the robot is eased in.
            text: What was under the key.
        """
        raise NotImplementedError

    def __enter__(self) -> CommandSource:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class ScheduleSource(CommandSource):
    """Commands of a schedule, which begins when the robot has been eased in.

    Args:
        schedule: The commands.
        duration: When it ends [s].
        dt: Time of a control step [s].
    """

    def __init__(self, schedule: CommandSchedule, duration: float, dt: float) -> None:
        self._commands, self._dt = schedule.sample(1.0 / dt, duration).double().numpy(), dt

    def poll(self, now: float, elapsed: float, text: bytes | None) -> Steering:
        """As of :class:`CommandSource`."""
        step = round(elapsed / self._dt)
        if step >= len(self._commands):
            return Steering(ended="the schedule has ended")
        return Steering(self._commands[step])


class KeySource(CommandSource):
    """JSON lists of vx, vy, yaw rate under a key of Redis.

    The value is taken away as it is read, so one that has been written before is never obeyed twice, and a sender that
    has died is noticed: from the first command on one has to come within the patience, even if it stays the same.

    Args:
        patience: Time without a command after which the input is lost [s].
        key: The key.
    """

    def __init__(self, patience: float, key: str = COMMAND_KEY) -> None:
        self.key, self._patience = key, patience
        self._command, self._remarked_at = np.zeros(3), -np.inf
        self._heard_at: float | None = None

    def poll(self, now: float, elapsed: float, text: bytes | None) -> Steering:
        """As of :class:`CommandSource`."""
        remark = None
        if text is not None:
            command = self._read(text)
            if command is not None:
                self._command, self._heard_at = command, now
            elif now - self._remarked_at > REMARK_EVERY:
                self._remarked_at = now
                remark = f"{self.key}: {shortened(text)} is no list of three finite numbers: not obeyed"
        if self._heard_at is None:
            return Steering(remark=remark)
        if now - self._heard_at > self._patience:
            return Steering(lost=f"no command under {self.key} for {self._patience:g} s", remark=remark)
        return Steering(self._command, remark=remark)

    @staticmethod
    def _read(text: bytes) -> np.ndarray | None:
        with contextlib.suppress(ValueError, TypeError):
            command = np.array(parse_json(text.decode("utf-8")), dtype=float)
            if command.shape == (3,) and bool(np.isfinite(command).all()):
                return command
        return None


class KeyboardSource(CommandSource):
    """Keys of the terminal.

    Args:
        lowest, highest: Range of the commands, (3,).
        hold: Time without a key after which the command is zero [s]; None lets it stay.

    Raises:
        KeyboardError: Standard input is no terminal.
    """

    def __init__(self, lowest: np.ndarray, highest: np.ndarray, hold: float | None) -> None:
        self._keyboard = Keyboard(torch.from_numpy(lowest).float(), torch.from_numpy(highest).float())
        self._hold, self._pressed_at = hold, 0.0

    def __enter__(self) -> CommandSource:
        self._keyboard.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._keyboard.__exit__(None, None, None)

    def poll(self, now: float, elapsed: float, text: bytes | None) -> Steering:
        """As of :class:`CommandSource`."""
        if self._keyboard.poll():
            self._pressed_at = now
        if self._keyboard.lost:
            return Steering(ended="the terminal is gone", lost="the terminal is gone")
        if self._keyboard.ended:
            return Steering(ended="x was pressed")
        if self._hold is not None and now - self._pressed_at > self._hold:
            self._keyboard.press(" ")
        return Steering(self._keyboard.command.double().numpy())


class GamepadSource(CommandSource):
    """A gamepad as Linux's joystick device: left stick forward and sideways, right stick turn, while a button is held.

    Args:
        path: The device, such as /dev/input/js0.
        lowest, highest: Commands at the ends of the sticks' ways, (3,).
        button: The button to hold; 4 is the left one at the front of most gamepads.

    Raises:
        SourceError: The device cannot be opened.
    """

    _EVENT = struct.Struct("IhBB")  # time [ms], value, kind, number
    _BUTTON, _AXIS, _FIRST = 1, 2, 0x80
    _AXES = (1, 0, 3)  # for vx, vy and yaw rate; sticks count to the right and backward
    _DEAD_ZONE = 0.1

    def __init__(self, path: str | Path, lowest: np.ndarray, highest: np.ndarray, button: int = 4) -> None:
        try:
            self._file = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise SourceError(f"{path}: no gamepad to read ({error.strerror})") from error
        self._path, self._lowest, self._highest, self._button = path, lowest, highest, button
        self._sticks, self._held, self._rest, self._gone = np.zeros(3), False, b"", False

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def poll(self, now: float, elapsed: float, text: bytes | None) -> Steering:
        """As of :class:`CommandSource`."""
        self._read()
        if self._gone:
            return Steering(lost=f"{self._path}: the gamepad is gone")
        if not self._held:
            return Steering()
        ends = np.where(self._sticks > 0.0, self._highest, -self._lowest)
        return Steering(self._sticks * ends)

    def _read(self) -> None:
        while not self._gone:
            try:
                data = os.read(self._file, 64 * self._EVENT.size)
            except BlockingIOError:
                return
            except OSError:  # it was unplugged
                data = b""
            self._gone = not data
            self._rest += data
            whole = len(self._rest) // self._EVENT.size * self._EVENT.size
            for _, value, kind, number in self._EVENT.iter_unpack(self._rest[:whole]):
                kind &= ~self._FIRST  # the state at opening comes as events too
                if kind == self._BUTTON and number == self._button:
                    self._held = bool(value)
                elif kind == self._AXIS and number in self._AXES:
                    share = -value / 32767.0
                    far = max(0.0, abs(share) - self._DEAD_ZONE) / (1.0 - self._DEAD_ZONE)
                    self._sticks[self._AXES.index(number)] = np.copysign(min(far, 1.0), share)
            self._rest = self._rest[whole:]
