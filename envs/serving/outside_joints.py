"""Joints, hands and neck that someone else gives, such as a teleoperator, while the rest follows the generator."""

from __future__ import annotations

import numpy as np

from cmg_ref.core.shorten import shortened
from cmg_ref.files.json_text import parse_json
from cmg_ref.robots.robot import load_g1
from envs.serving.motion_frame import JOINT_NAMES, JOINTS, LEFT_HAND, NECK, RIGHT_HAND, SIZE

KEY = "cmg_serve_joints"
_PARTS = {
    "left_hand": LEFT_HAND,
    "right_hand": RIGHT_HAND,
    "neck": NECK,
    **{name: slice(JOINTS.start + column, JOINTS.start + column + 1) for column, name in enumerate(JOINT_NAMES)},
}
_FADE_TIME = 1.0  # [s] from the generator's joints to the given ones, and back
_FASTEST = 8.0  # [rad/s] of a given joint


class JointsError(ValueError):
    """What was given is no description of joints; the message is one line."""


class OutsideJoints:
    """Keeps what was given, and puts it into frames.

    What is no longer given, for longer than a time, fades back to the generator's. Angles are held within the limits of
    the joints, and their speed is limited.

    Args:
        patience: How long something given holds [s].
        dt: Time of a control step [s].
    """

    def __init__(self, patience: float, dt: float) -> None:
        self._patience, self._dt = patience, dt
        robot = load_g1()
        self._lowest, self._highest = np.full(SIZE, -np.pi), np.full(SIZE, np.pi)
        self._lowest[JOINTS], self._highest[JOINTS] = robot.joint_lower.numpy(), robot.joint_upper.numpy()
        self._given, self._at = np.zeros(SIZE), np.full(SIZE, -np.inf)
        self._used, self._share = np.zeros(SIZE), np.zeros(SIZE)

    def take(self, text: bytes, now: float) -> None:
        """Take note of what was given at a time [s].

        Args:
            text: JSON: angles [rad] by name of a joint; under "left_hand", "right_hand" and "neck" lists of 7, 7, 2.
            now: Present time [s].

        Raises:
            JointsError: It is something else; nothing of it is used.
        """
        try:
            told = parse_json(text.decode("utf-8"))
        except ValueError as error:
            raise JointsError(f"{KEY}: is not valid JSON ({shortened(text)})") from error
        if not isinstance(told, dict):
            raise JointsError(f"{KEY}: must be an object of joint names and angles, got {shortened(told)}")
        values: dict[str, np.ndarray] = {}
        for name, value in told.items():
            part = _PARTS.get(name)
            if part is None:
                raise JointsError(f"{KEY}: there is no joint {shortened(name)}")
            values[name] = _angles(name, value, part.stop - part.start)
        for name, angles in values.items():
            self._given[_PARTS[name]], self._at[_PARTS[name]] = angles, now

    def put_into(self, frame: np.ndarray, now: float) -> np.ndarray:
        """The frame (SIZE,) with what is given in it."""
        fresh = now - self._at <= self._patience
        self._used = np.where(self._share > 0.0, self._used, frame)
        target = np.clip(self._given, self._lowest, self._highest)
        self._used += np.clip(target - self._used, -_FASTEST * self._dt, _FASTEST * self._dt)
        self._share = np.clip(self._share + np.where(fresh, 1.0, -1.0) * self._dt / _FADE_TIME, 0.0, 1.0)
        return frame + self._share * (self._used - frame)


def _angles(name: str, value: object, size: int) -> np.ndarray:
    try:
        angles = np.array(value, dtype=float).reshape(-1)
    except (TypeError, ValueError) as error:
        raise JointsError(f"{KEY}: {name} is {shortened(value)}, not {size} angles") from error
    if len(angles) != size or not np.isfinite(angles).all():
        raise JointsError(f"{KEY}: {name} is {shortened(value)}, needs {size} finite angles")
    return angles
