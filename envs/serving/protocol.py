"""How TWIST and TWIST2 write motion frames and measurements into Redis."""

from __future__ import annotations

import json
from typing import Iterable

import numpy as np

from envs.deployment.twist2_controller import DEFAULT_POSE
from envs.serving.motion_frame import (
    HEIGHT,
    JOINTS,
    LEFT_HAND,
    NECK,
    PITCH,
    RIGHT_HAND,
    ROLL,
    VELOCITY,
    YAW,
    YAW_RATE,
    standing_frame,
)

START_KEY, EXIT_KEY = "motion_start_signal", "motion_exit_signal"
_ANG_VEL = 3  # numbers of a measurement before roll and pitch


class Protocol:
    """Keys and layouts of a low level.

    Args:
        robot: What the keys end with.

    Attributes:
        default: The frame that the robot stands in before and after, (SIZE,).
        state_key: Where the low level writes what it measures.
        clock_key: Where it writes the time of its measurement; None if it does not.
    """

    robot = ""
    height = 0.0  # [m] of the root in the default frame
    clock_key: str | None = None

    def __init__(self, robot: str | None = None) -> None:
        self.robot = robot or self.robot
        self.default = standing_frame(self.height)
        self.state_key = f"state_body_{self.robot}"

    def messages(self, frame: np.ndarray) -> dict[str, str]:
        """What to write for a frame (SIZE,): JSON by key, all keys that the low level looks for."""
        raise NotImplementedError

    def measured(self, text: bytes | None) -> np.ndarray | None:
        """The pose in what the low level wrote, as a frame at rest (SIZE,); None if it has measured nothing yet."""
        raise NotImplementedError

    def at_rest(self) -> list[float]:
        """What the low level measures in the default pose."""
        raise NotImplementedError


class Twist2(Protocol):
    """TWIST2: 29 joints, hands and neck under keys of their own."""

    robot, height, clock_key = "unitree_g1_with_hands", 0.8, "t_state"

    @staticmethod
    def body(frame: np.ndarray) -> np.ndarray:
        """What TWIST2's policy is told of a frame (SIZE,): vx, vy, height, roll, pitch, yaw rate, joints, (35,)."""
        pose = (frame[HEIGHT], frame[ROLL], frame[PITCH], frame[YAW_RATE])
        return np.array((*frame[VELOCITY][:2], *pose, *frame[JOINTS]))

    def messages(self, frame: np.ndarray) -> dict[str, str]:
        """As of :class:`Protocol`."""
        return {
            f"action_body_{self.robot}": _json(self.body(frame)),
            f"action_hand_left_{self.robot}": _json(frame[LEFT_HAND]),
            f"action_hand_right_{self.robot}": _json(frame[RIGHT_HAND]),
            f"action_neck_{self.robot}": _json(frame[NECK]),
        }

    def measured(self, text: bytes | None) -> np.ndarray | None:
        """As of :class:`Protocol`."""
        values = _numbers(text, _ANG_VEL + 2 + len(DEFAULT_POSE))
        if values is None:
            return None
        frame = self.default.copy()
        frame[[ROLL, PITCH]] = values[_ANG_VEL : _ANG_VEL + 2]
        frame[JOINTS] = values[_ANG_VEL + 2 :]
        return frame

    def at_rest(self) -> list[float]:
        """As of :class:`Protocol`."""
        return [*(_ANG_VEL + 2) * [0.0], *DEFAULT_POSE]


class Twist(Protocol):
    """TWIST: 23 joints without wrists, to which the rolls of the wrists are added in the frame alone."""

    robot, height = "g1", 0.793
    # Of our 29 joints: those that it measures, and those in the frame, wrist rolls at places 19 and 24.
    _BODY = (*range(19), *range(22, 26))
    _SENT = (*range(20), *range(22, 27))
    _SHOULDER_ROLLS = (16, 23)

    def __init__(self, robot: str | None = None) -> None:
        super().__init__(robot)
        # It stands with the arms closer to the body than in the pose that its policy counts from.
        self.default[JOINTS][list(self._SHOULDER_ROLLS)] = (0.2, -0.2)

    def messages(self, frame: np.ndarray) -> dict[str, str]:
        """As of :class:`Protocol`."""
        yaw = np.arctan2(np.sin(frame[YAW]), np.cos(frame[YAW]))
        pose = (frame[HEIGHT], frame[ROLL], frame[PITCH], yaw)
        body = (*pose, *frame[VELOCITY], frame[YAW_RATE], *frame[JOINTS][list(self._SENT)])
        hands = (*frame[LEFT_HAND], *frame[RIGHT_HAND])
        return {f"action_mimic_{self.robot}": _json(body), f"action_hand_{self.robot}": _json(hands)}

    def measured(self, text: bytes | None) -> np.ndarray | None:
        """As of :class:`Protocol`."""
        values = _numbers(text, _ANG_VEL + 2 + 3 * len(self._BODY))
        if values is None:
            return None
        frame = standing_frame(self.height)
        frame[[ROLL, PITCH]] = values[_ANG_VEL : _ANG_VEL + 2]
        frame[JOINTS][list(self._BODY)] += values[_ANG_VEL + 2 : _ANG_VEL + 2 + len(self._BODY)]
        return frame

    def at_rest(self) -> list[float]:
        """As of :class:`Protocol`."""
        return (_ANG_VEL + 2 + 3 * len(self._BODY)) * [0.0]


PROTOCOLS = {"twist": Twist, "twist2": Twist2}


def _json(values: Iterable[float]) -> str:
    return json.dumps([round(float(value), 6) for value in values])


def _numbers(text: bytes | None, size: int) -> np.ndarray | None:
    """As many finite numbers as expected; None for anything else, and for the zeros that low levels begin with."""
    try:
        values: list[float] = json.loads(text or b"null")
        array = np.array(values, dtype=float)
    except (ValueError, TypeError):
        return None
    return array if array.shape == (size,) and bool(np.isfinite(array).all()) and array.any() else None
