"""Reference motion of the Unitree G1 from a velocity command, for thousands of environments at once."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmg_ref.interface import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """A module of the package, or a name of :mod:`cmg_ref.interface`.

    It is loaded late because it loads torch, which Isaac Gym has to come before, and because a script must be able to
    say what is wrong, or that it was interrupted, before the seconds that takes.
    """
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module 'cmg_ref' has no attribute '{name}'")
    if importlib.util.find_spec(f"cmg_ref.{name}") is not None:
        return importlib.import_module(f"cmg_ref.{name}")
    interface = importlib.import_module("cmg_ref.interface")
    if not hasattr(interface, name):
        raise AttributeError(f"module 'cmg_ref' has no attribute '{name}'")
    return getattr(interface, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *importlib.import_module("cmg_ref.interface").__all__})
