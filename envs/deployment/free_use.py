"""Free use of a robot in plain MuJoCo: random commands, blows, and arms that somebody else moves.

The cases are those of `envs.evaluation.cases`, which this file does not import: a test holds them to
each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Lowest and highest vx, vy [m/s] and yaw rate [rad/s] of random commands, and the time between them [s].
SCHEDULED, SCHEDULE = ((-0.6, 2.0), (-0.4, 0.4), (-1.0, 1.0)), (1.0, 4.0)
PUNCH_INTERVAL, PUNCH_TIME = 5.0, 0.08  # [s]
ANG_VEL_BIAS, GRAVITY_BIAS = 0.05, 0.03  # [rad/s], [rad]
ARMS = ("shoulder", "elbow", "wrist")
ARM_TIME, ARM_STEP, ARM_REACH = 0.5, 0.17, 1.0  # [s] between targets, [rad] of a step, [rad] from where they began
ARM_FREQUENCY, ARM_DAMPING_RATIO = 10.0, 2.0  # [Hz] of the arms' drives


@dataclass(frozen=True)
class FreeCase:
    """How a robot is tried: for how long, under which `Conditions`, by random commands or told to stand."""

    name: str
    seconds: float = 20.0
    conditions: Mapping[str, Any] = field(default_factory=dict)
    scheduled: bool = True

    def commands(self, control_dt: float, seed: int) -> np.ndarray:
        """Command of every control step, (num_steps, 3)."""
        steps = round(self.seconds / control_dt)
        if not self.scheduled:
            return np.zeros((steps, 3))
        random, low_high = np.random.default_rng(seed), np.array(SCHEDULED).T
        rows: list[np.ndarray] = []
        while len(rows) < steps:
            rows += [random.uniform(*low_high)] * round(random.uniform(*SCHEDULE) / control_dt)
        return np.array(rows[:steps])


FREE: tuple[FreeCase, ...] = (
    FreeCase("free, 60 s", 60.0),
    FreeCase("free, 60 s, push 0.5", 60.0, {"push": 0.5, "push_interval": 4.0}),
    FreeCase("free, 60 s, push 1", 60.0, {"push": 1.0, "push_interval": 4.0}),
    FreeCase("free, delay 40 ms", conditions={"delay": 0.04}),
    FreeCase("free, biased IMU, noise", conditions={"imu_bias": 1.0, "noise": 2.0}),
    FreeCase("free, torso +6 kg", conditions={"payload": 6.0}),
    FreeCase("free, friction 0.4", conditions={"friction": 0.4}),
    FreeCase("free, friction 0.3", conditions={"friction": 0.3}),
    FreeCase("free, motors 0.8", conditions={"strength": 0.8}),
    FreeCase("free, punches 250 N", conditions={"punch": 250.0}),
    FreeCase("free, punches 500 N", conditions={"punch": 500.0}),
    FreeCase("free, arms driven", conditions={"arms": "walk"}),
    FreeCase("free, arms driven, punches 500 N", conditions={"arms": "walk", "punch": 500.0}),
    FreeCase("free, rough ground", conditions={"roughness": 0.02}),
    # A plain model keeps no feet from creeping unless it says so.
    FreeCase("stand 120 s without noslip", 120.0, scheduled=False),
)


class DrivenArms:
    """A random walk of both arms alike, driven by gains of its own.

    Args:
        joint_names: Joints of the robot.
        limits: Their lower and upper limits [rad], (num_joints, 2).
        armature: Of the joints, (num_joints,).
        control_dt: Time of a control step [s].
        random: Random numbers.

    Attributes:
        columns: The arms' joints, (num_driven,).
        stiffness, damping: Of their drives, (num_driven,).
    """

    def __init__(
        self,
        joint_names: Sequence[str],
        limits: np.ndarray,
        armature: np.ndarray,
        control_dt: float,
        random: np.random.Generator,
    ) -> None:
        self.columns = np.array([i for i, name in enumerate(joint_names) if any(part in name for part in ARMS)])
        names = [joint_names[column] for column in self.columns]
        others = [name.replace("left_", "\0").replace("right_", "left_").replace("\0", "right_") for name in names]
        self._twin = np.array([names.index(other) for other in others])
        self._sign = np.array([-1.0 if "roll" in name or "yaw" in name else 1.0 for name in names])
        self._limits, self._random = limits[self.columns], random
        self._steps = round(ARM_TIME / control_dt)
        rate = 2.0 * np.pi * ARM_FREQUENCY
        self.stiffness = armature[self.columns] * rate**2
        self.damping = 2.0 * ARM_DAMPING_RATIO * armature[self.columns] * rate

    def reset(self, joint_pos: np.ndarray) -> None:
        """Begin at joint angles of the robot [rad], (num_joints,)."""
        self._from = self._to = home = joint_pos[self.columns]
        self._low = np.maximum(self._limits[:, 0], home - ARM_REACH)
        self._high = np.minimum(self._limits[:, 1], home + ARM_REACH)
        self._age = 0

    def step(self) -> np.ndarray:
        """Targets of the next control step [rad], (num_driven,)."""
        if self._age == self._steps:
            step = ARM_STEP * self._random.standard_normal(len(self.columns))
            step = (step + self._sign * step[self._twin]) / np.sqrt(2.0)
            self._from, self._age = self._to, 0
            self._to = np.clip(self._to + step, self._low, self._high)
        self._age += 1
        return self._from + (self._to - self._from) * (self._age / self._steps)


class Blows:
    """A force on the link of a random joint every few seconds.

    Args:
        bodies: Bodies of the joints, (num_joints,).
        largest: Largest force [N]; the smallest is half of it.
        control_dt: Time of a control step [s].
        random: Random numbers.
    """

    def __init__(self, bodies: np.ndarray, largest: float, control_dt: float, random: np.random.Generator) -> None:
        self._bodies, self._largest, self._random = bodies, largest, random
        self._interval, self._length = round(PUNCH_INTERVAL / control_dt), round(PUNCH_TIME / control_dt)

    def step(self, step: int, forces: np.ndarray) -> None:
        """Put the forces of a control step into those on all bodies, (num_bodies, 6)."""
        if step >= self._interval and step % self._interval == 0:
            direction = self._random.standard_normal(3)
            force = self._largest * self._random.uniform(0.5, 1.0)
            forces[self._random.choice(self._bodies), :3] = force * direction / np.linalg.norm(direction)
        elif step % self._interval == self._length:
            forces[:] = 0.0
