"""What the command lines share: options that are numbers, and how a command ends when something is wrong.

A program imports this first: from then on Ctrl-C while torch is being imported, or a package that is not installed,
ends it in one line. Nothing here imports torch, which Isaac Gym has to be imported before.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Callable, Iterator, NoReturn

from cmg_ref.core.installation import check_own_packages, what_to_install
from cmg_ref.core.shorten import one_line, shortened

INTERRUPTED, TERMINATED, BROKEN_PIPE = 128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + 13
_MAX_DIGITS = 40


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one short line each.

    Args:
        description: Usually the program's docstring, whose lines stay as they are.
        **options: Of `argparse.ArgumentParser`.
    """

    def __init__(self, description: str | None, **options: Any) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and the message."""
        about = "argument "
        message = message[len(about) :] if message.startswith(about) else message
        self.exit(2, f"{program_name()}: {one_line(message)}\n")


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Converts the text of an option to a whole number from ``low`` to ``high``; else the option is refused."""

    def convert(text: str) -> int:
        with contextlib.suppress(ValueError):
            number = int(text[:_MAX_DIGITS])
            if low <= number <= high and len(text) <= _MAX_DIGITS:
                return number
        raise argparse.ArgumentTypeError(f"{shortened(text)} is not a whole number from {low} to {high}")

    return convert


def real_number(low: float, high: float) -> Callable[[str], float]:
    """Converts the text of an option to a finite number from ``low`` to ``high``; else the option is refused."""

    def convert(text: str) -> float:
        with contextlib.suppress(ValueError):
            number = float(text)
            if math.isfinite(number) and low <= number <= high:
                return number
        raise argparse.ArgumentTypeError(f"{shortened(text)} is not a number from {low:g} to {high:g}")

    return convert


def program_name() -> str:
    """What messages begin with: ``train`` for ``scripts/train.py``, ``cmg-train`` for the installed command."""
    return Path(sys.argv[0]).stem


def as_typed() -> str:
    """The command line of this process, so that it can be written down and typed again."""
    program = Path(sys.argv[0])
    typed = f"python {program.parent.name}/{program.name}" if program.suffix == ".py" else program.name
    return " ".join([typed, *sys.argv[1:]])


def labelled_number(low: float, high: float) -> Callable[[str], tuple[str, float]]:
    """A converter of options of the form ``LABEL=VALUE``, the value a number from ``low`` to ``high``."""
    number = real_number(low, high)

    def convert(text: str) -> tuple[str, float]:
        label, equals, value = text.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"{shortened(text)} is not of the form LABEL=VALUE")
        return label, number(value)

    return convert


def command(*errors: type[Exception], interrupted: str = "") -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Decorates the main function of a command: whatever ends it early is one line, and an exit code.

    Ctrl-C gives 130 and SIGTERM 143; both leave through every ``finally``, so that no file is left half-written. Output
    that nobody reads any more, as under ``| head``, ends it without a word.

    Args:
        *errors: Errors that are the user's to mend, and whose messages say how: ``ValueError`` and ``OSError`` if none
            are given. Any other is a fault of the program and keeps its traceback.
        interrupted: What Ctrl-C is told in addition, such as how to go on.
    """
    expected = errors or (ValueError, OSError)

    def decorate(main: Callable[[], None]) -> Callable[[], None]:
        @functools.wraps(main)
        def guarded() -> None:
            with _sigterm_raises():
                try:
                    try:
                        main()
                    finally:
                        sys.stdout.flush()
                except _Terminated:
                    _end("terminated", TERMINATED)
                except KeyboardInterrupt:
                    _end(f"interrupted{interrupted and '; '}{interrupted}", INTERRUPTED)
                except BrokenPipeError:
                    _write_nowhere()
                    sys.exit(BROKEN_PIPE)
                except expected as error:
                    sys.exit(f"{program_name()}: {one_line(str(error))}")
                except ImportError as error:
                    reason = what_to_install(error)
                    if reason is None:
                        raise
                    sys.exit(f"{program_name()}: {reason}")

        return guarded

    return decorate


class _Terminated(BaseException):
    """SIGTERM was received."""


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM clean up as Ctrl-C does; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(reason: str, code: int) -> NoReturn:
    """Exit with a code and a line, below whatever progress bar or Ctrl-C was on the terminal's."""
    with contextlib.suppress(OSError):
        print("\n" * sys.stderr.isatty() + f"{program_name()}: {reason}", file=sys.stderr)
    sys.exit(code)


def _write_nowhere() -> None:
    """Let what Python still writes to standard output on leaving go nowhere: its reader has gone away."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _while_importing(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As :func:`command`, for what happens before a main function runs."""
    if issubclass(kind, KeyboardInterrupt):
        _end("interrupted", INTERRUPTED)
    reason = what_to_install(error) if isinstance(error, ImportError) else None
    if reason is None:
        _usual_hook(kind, error, trace)
        return
    _end(reason, 1)


_usual_hook: Callable[..., Any] = sys.excepthook
sys.excepthook = _while_importing
check_own_packages()
