"""Runs one input at a time in a process of its own, under bounds that the kernel keeps, watched for code that runs.

A worker is forked from a process that has everything imported, so that a new one costs little when one was ended.
"""

from __future__ import annotations

import contextlib
import encodings
import importlib
import math
import os
import pkgutil
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from targets import Target

MESSAGE_LENGTH = 1000
"""Characters of the longest message; the paths of temporary folders are among them."""

ACCEPTED, REFUSED = "accepted", "refused"
FAILURES = {
    "crash": "crashes",
    "hang": "hangs",
    "exception": "exceptions other than the project's own",
    "memory": "over the bound of memory",
    "code": "code run",
    "message": "messages of several lines or without end",
}

_FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn", "subprocess.Popen"),
    *("exec", "import", "pickle.find_class", "marshal.loads", "code.__new__", "ctypes.dlopen", "webbrowser.open"),
    *("socket.__new__", "socket.connect", "socket.getaddrinfo", "urllib.Request", "shutil.rmtree", "shutil.move"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "os.symlink", "os.kill", "os.putenv"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_OPTIONS = ("--", "TrainConfig.", "CMGConfig.")  # what messages on settings begin with
_ALLOCATION = ("can't allocate memory", "not enough memory", "DefaultCPUAllocator", "bad_alloc", "Could not allocate")


@dataclass(frozen=True)
class Bounds:
    """What an input may take.

    Attributes:
        cpu_seconds: Time on a core of its own [s]: other work on the machine does not count.
        wall_seconds: Time on the clock [s], for what waits without using its core.
        memory: Address space beyond what the process has before [bytes].
    """

    cpu_seconds: int = 10
    wall_seconds: int = 60
    memory: int = 1 << 30

    def text(self) -> str:
        """The bounds for a line of a report."""
        return f"{self.cpu_seconds} s of a core and {self.memory >> 20} MB"


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        kind: "accepted", "refused" by an error of the project, or one of `FAILURES`.
        summary: One line about it.
        place: Where it was raised, to tell failures apart.
        trace: The traceback, for a replay.
    """

    kind: str
    summary: str = ""
    place: str = ""
    trace: str = ""


class Sentinel:
    """Notes what a reader of data has no business to do: start programs, run code, import, write, read elsewhere.

    An audit hook cannot be taken away again, so this belongs into a process of its own.

    Args:
        folder: Where inputs lie; the only place that may be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.armed = False
        self.seen: list[str] = []
        self._readable = tuple(
            {str(folder), sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), "/proc/self", "/sys"}
        )
        self._writable = str(folder)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event == "import" and str(arguments[0]).startswith("encodings."):
            return  # A text may name any encoding; those that there are have been imported.
        if event in _FORBIDDEN:
            self.seen.append(f"{event} {str(arguments[:1])[:80]}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path, mode, flags = os.path.abspath(os.fsdecode(arguments[0])), arguments[1] or "", arguments[2] or 0
            writes = bool(flags & _WRITING) or any(letter in mode for letter in "wax+")
            if not path.startswith(self._writable if writes else self._readable):
                self.seen.append(f"opens {path[:80]} {'to write' if writes else 'to read'}")


def work(connection: Connection, targets: Sequence[Target], bounds: Bounds) -> None:
    """Takes (index of a target, input) from the connection and answers with outcomes, until it is closed."""
    for codec in pkgutil.iter_modules(encodings.__path__, "encodings."):
        with contextlib.suppress(ImportError):  # of other systems
            importlib.import_module(codec.name)
    repr(torch.zeros(1))  # torch imports what it prints tensors with
    folder = Path(tempfile.mkdtemp(prefix="cmg_ref_fuzz_"))
    os.chdir(folder)  # MuJoCo writes its log into the present folder
    sentinel = Sentinel(folder)
    warnings.simplefilter("ignore")
    with contextlib.suppress(EOFError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # what libraries say of broken files
        while True:
            index, content = connection.recv()
            case = folder / "run"
            case.mkdir()
            path = case / targets[index].filename
            path.write_bytes(content)
            connection.send(run_bounded(targets[index], path, sentinel, bounds))
            shutil.rmtree(case)
    shutil.rmtree(folder)


def run_bounded(target: Target, path: Path, sentinel: Sentinel, bounds: Bounds) -> Outcome:
    """One input; the process is ended by the kernel where it takes more time than it may."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(used.ru_utime + used.ru_stime) + bounds.cpu_seconds
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (size + bounds.memory, resource.RLIM_INFINITY))
    sentinel.seen.clear()
    error: BaseException | None = None
    sentinel.armed = True
    try:
        target.run(path)
    except BaseException as raised:  # SystemExit too: whatever comes is what is judged.
        error = raised
    finally:
        sentinel.armed = False
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    outcome = judged(target, path, error)
    if sentinel.seen:
        return Outcome("code", "; ".join(sentinel.seen)[:300], sentinel.seen[0].split()[0], outcome.trace)
    return outcome


def judged(target: Target, path: Path, error: BaseException | None) -> Outcome:
    """Whether an error is one of the project's own, of one line, and none that hides a lack of memory."""
    if error is None:
        return Outcome(ACCEPTED)
    message = str(error)
    summary = f"{type(error).__name__}: {' '.join(message.split())[:200]}"
    trace = "".join(traceback.format_exception(error))[-6000:]
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else ""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or any(words in str(cause) for words in _ALLOCATION):
            return Outcome("memory", f"{summary} <- {type(cause).__name__}: {str(cause)[:100]}", place, trace)
        cause = cause.__cause__ or cause.__context__
    if not _is_own(target, path, error):
        return Outcome("exception", summary, f"{type(error).__name__} {place}", trace)
    if len(message.splitlines()) > 1 or len(message) > MESSAGE_LENGTH:
        return Outcome("message", f"{len(message)} characters: {summary}", place, trace)
    return Outcome(REFUSED, summary, place)


def _is_own(target: Target, path: Path, error: BaseException) -> bool:
    if isinstance(error, SystemExit):  # argparse has shown what is wrong, or the message is what is shown
        return SystemExit in target.errors and (error.code in (0, 2) or isinstance(error.code, str))
    if isinstance(error, target.errors):
        return True
    return type(error) in (ValueError, FileNotFoundError) and str(error).startswith((str(path), *_OPTIONS))
