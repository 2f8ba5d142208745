"""The rows of an evaluation: what was measured, what it must be, and what recorded motion does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Sequence

import torch
from torch import Tensor

from cmg_ref.core.command_layout import VELOCITY, CommandLayout
from cmg_ref.robots.robot import Robot

SMALLEST_ACCELERATION = 1.0
"""Joints that recorded motion accelerates less [rad/s^2], such as wrists that no clip moves, are compared with this."""
WALKING_SPEED = 1.5
"""Commands up to this speed [m/s] are walks, faster ones runs."""
YAW_TOLERANCE = 0.15
"""Error of the yaw rate that is allowed under a command that turns or goes sideways [rad/s]."""


@dataclass(frozen=True)
class Measure:
    """One figure.

    Attributes:
        name: What was measured.
        command: What the robot was told to do, as text.
        value: The figure; NaN where there was nothing to measure it on.
        unit: Its unit, "" for a ratio or a count.
        must: Largest value that passes, None where none is required.
        mocap: The figure of recorded motion of like speed, None where there is none.
        at_least: Whether `must` is the smallest value that passes instead.
    """

    name: str
    command: str
    value: float
    unit: str
    must: float | None = None
    mocap: float | None = None
    at_least: bool = False

    @property
    def passed(self) -> bool | None:
        """Whether the requirement is met, None without one; a figure that could not be measured does not meet it."""
        if self.must is None:
            return None
        return self.value >= self.must if self.at_least else self.value <= self.must

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON, in which there is no NaN or infinity."""
        return {
            "name": self.name,
            "command": self.command,
            "value": self.value if math.isfinite(self.value) else None,
            "unit": self.unit,
            "must": self.must,
            "at_least": self.at_least,
            "passed": self.passed,
            "mocap": self.mocap,
        }


def command_label(command: Sequence[float]) -> str:
    """A short text for a command, e.g. `vx 0.6, wz 1.0`; `stand` for zero."""
    return CommandLayout().described(command, ".1f", ", ")


def speed_tolerance(command: Sequence[float]) -> float:
    """Error of the root's speed that is allowed under a command [m/s]."""
    return float(speed_tolerances(torch.tensor(list(command), dtype=torch.float64)))


def speed_tolerances(commands: Tensor) -> Tensor:
    """Errors of the root's speed that are allowed under commands (..., command_dim), (...) [m/s]."""
    forward, sideways, turning = commands[..., VELOCITY].abs().unbind(-1)
    tolerances = torch.full_like(forward, 0.4)
    for limit, tolerance in ((2.5, 0.25), (2.0, 0.15), (1.5, 0.10)):
        tolerances = tolerances.masked_fill(forward <= limit + 1e-6, tolerance)
    return tolerances.masked_fill((sideways > 1e-9) | (turning > 1e-9), 0.12)


def yaw_tolerance(command: Sequence[float]) -> float | None:
    """Error of the yaw rate that is allowed under a command [rad/s]; None where it moves straight ahead."""
    return YAW_TOLERANCE if abs(command[1]) > 1e-9 or abs(command[2]) > 1e-9 else None


def is_walk(command: Sequence[float]) -> bool:
    """Whether a command moves the feet no faster than a walk."""
    return any(abs(value) > 1e-9 for value in command) and math.hypot(*command[:2]) <= WALKING_SPEED + 1e-6


def slip_limit(mocap_slip: float | None) -> float:
    """Foot slip that is allowed in a walk [m/s]: 0.2, or half as much again as recorded motion of like speed."""
    return max(0.20, 1.5 * (mocap_slip or 0.0))


def acceleration_measure(
    acceleration: Tensor, label: str, robot: Robot, mocap: dict[str, Any] | None, must: float | None = None
) -> Measure:
    """Largest of the joint accelerations (num_frames, num_joints), over mocap's 99.9th percentile of the same joint."""
    if mocap is None:
        return Measure("largest joint acceleration", label, float(acceleration.max()), "rad/s^2")
    limits = torch.tensor([mocap["joint_acceleration"][name] for name in robot.joint_names])
    ratio, joint = (acceleration.amax(dim=0) / limits.clamp(min=SMALLEST_ACCELERATION)).max(dim=0)
    label = f"{label} ({robot.joint_names[int(joint)]})"
    return Measure("joint acceleration over mocap's 99.9 %", label, float(ratio), "", must, 1.0)
