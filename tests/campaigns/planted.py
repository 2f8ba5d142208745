"""Targets that do to damaged input what no reader may: whoever trusts the campaign has to see that it catches them."""

from __future__ import annotations

import ctypes
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from targets import Target


class PlantedError(ValueError):
    """The error that is the planted targets' own."""


def _spin(path: Path) -> None:
    while True:
        pass


def _sleep(path: Path) -> None:
    time.sleep(3600.0)


def _allocate(path: Path) -> None:
    bytearray(2 << 30)


def _hide_allocation(path: Path) -> None:
    try:
        bytearray(2 << 30)
    except MemoryError as error:
        raise PlantedError(f"{path}: damaged") from error


def _look_up(path: Path) -> None:
    json.loads("{}")["missing"]


def _start_program(path: Path) -> None:
    os.system("true")


def _evaluate(path: Path) -> None:
    eval("1 + 1")


def _write_elsewhere(path: Path) -> None:
    open(os.devnull, "w").close()


def _crash(path: Path) -> None:
    ctypes.string_at(0)


def _go_on(path: Path) -> None:
    raise PlantedError("several\nlines")


def _refuse(path: Path) -> None:
    raise PlantedError(f"{path}: is not sound")


NAMES = (
    "spins",
    "sleeps",
    "allocates 2 GB",
    "hides that it allocates 2 GB",
    "raises KeyError",
    "starts a program",
    "evaluates",
    "writes elsewhere",
    "crashes",
    "tells a story",
    "refuses",
)
SOUND = b"sound"


def planted_targets() -> list[Target]:
    """One target for each kind of outcome, and more than one where it can come about in several ways."""
    acts: tuple[Callable[[Path], None], ...]
    acts = (_spin, _sleep, _allocate, _hide_allocation, _look_up, _start_program)
    acts += (_evaluate, _write_elsewhere, _crash, _go_on, _refuse)
    planted = [
        Target(name, "input", [SOUND], _damaged, _acting_on_damage(act), (PlantedError,))
        for name, act in zip(NAMES, acts, strict=True)
    ]
    return [*planted, Target("refuses what is sound", "input", [SOUND], _damaged, _refuse, (PlantedError,))]


def _damaged(data: bytes, rng: random.Random) -> bytes:
    return b"damaged"


def _acting_on_damage(act: Callable[[Path], None]) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        if path.read_bytes() != SOUND:
            act(path)

    return run
