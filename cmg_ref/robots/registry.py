"""Robots by name: those of this folder, and those that a program adds."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from cmg_ref.core.shorten import shortened
from cmg_ref.robots.spec import RobotError, RobotSpec

FIRST_ROBOT = "g1"
"""The robot of files from before they named theirs."""

_SPECS: dict[str, RobotSpec] = {}


def register_robot(spec: RobotSpec) -> None:
    """Let a robot be found by its name from now on, in this program."""
    _SPECS[spec.name] = spec


def robot_names() -> list[str]:
    """Names of the robots there are."""
    for file in Path(__file__).parent.glob("*.py"):
        _find(file.stem)
    return sorted(_SPECS)


def robot_spec(name: str | Path) -> RobotSpec:
    """The description of a robot.

    Args:
        name: Name of a robot, or a path to a description that ends in .json.

    Raises:
        RobotError: There is no such robot, or the description cannot be used.
    """
    if str(name).endswith(".json"):
        return RobotSpec.from_json(name)
    return registered_robot(str(name))


def registered_robot(name: object) -> RobotSpec:
    """The description of a robot by its name alone, as files give it.

    Raises:
        RobotError: There is no such robot.
    """
    spec = _find(name) if isinstance(name, str) else None
    if spec is None:
        known = ", ".join(robot_names())
        raise RobotError(f"there is no robot {shortened(name)}; known are {known}, others by a description (.json)")
    return spec


def _find(name: str) -> RobotSpec | None:
    """A robot added by a program, or the `SPEC` of the module of this folder that has its name."""
    module = f"{__package__}.{name}"
    if name not in _SPECS and name.isidentifier() and importlib.util.find_spec(module) is not None:
        spec = getattr(importlib.import_module(module), "SPEC", None)
        if isinstance(spec, RobotSpec):
            register_robot(spec)
    return _SPECS.get(name)
