"""TWIST2's published policy, which tracks motion frames: by itself, and fed with an exported controller's reference."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.deployment.exported_controller import ArtefactError, ExportedController, open_session

# Gains, limits and pose of TWIST2's own simulation, legs, waist and arms [N m / rad, N m s / rad, N m, rad].
_LEG, _ARM = (100.0, 100.0, 100.0, 150.0, 40.0, 40.0), (40.0, 40.0, 40.0, 40.0, 4.0, 4.0, 4.0)
_LEG_DAMPING, _ARM_DAMPING = (2.0, 2.0, 2.0, 4.0, 2.0, 2.0), (5.0, 5.0, 5.0, 5.0, 0.2, 0.2, 0.2)
_LEG_POSE = (-0.2, 0.0, 0.0, 0.4, -0.2, 0.0)
_LEFT_ARM_POSE, _RIGHT_ARM_POSE = (0.0, 0.4, 0.0, 1.2, 0.0, 0.0, 0.0), (0.0, -0.4, 0.0, 1.2, 0.0, 0.0, 0.0)
DEFAULT_POSE = (*_LEG_POSE, *_LEG_POSE, 0.0, 0.0, 0.0, *_LEFT_ARM_POSE, *_RIGHT_ARM_POSE)
_ANKLES = (4, 5, 10, 11)
_HISTORY, _FRAME, _OBSERVED = 10, 35, 92
_ACTION_SCALE, _ACTION_LIMIT = 0.5, 10.0


class Twist2Policy:
    """TWIST2's policy as its low level runs it: from motion frames and measurements to joint targets.

    It has what :class:`PlainSimulation` asks of a controller.

    Args:
        path: TWIST2's ONNX file.
        joint_names: The 29 joints of the robot, in Unitree's order.
        control_dt: Time of a control step [s].

    Raises:
        ArtefactError: The file holds something else.
    """

    def __init__(self, path: str | Path, joint_names: Sequence[str], control_dt: float = 0.02) -> None:
        self._session = open_session(path)
        inputs = self._session.get_inputs()
        size = (_FRAME + _OBSERVED) * (_HISTORY + 1) + _FRAME
        if len(inputs) != 1 or inputs[0].shape[-1] != size or len(joint_names) != 29:
            raise ArtefactError(
                f"{path}: not a policy of TWIST2 for 29 joints (it takes {inputs[0].shape}, not {size})"
            )
        self._input = inputs[0].name
        self.joint_names, self.control_dt = list(joint_names), control_dt
        self.description: dict[str, Any] = {"training": {"ends_at": {}, "noise": {}}}  # the file does not say
        self.stiffness = np.array((*_LEG, *_LEG, 150.0, 150.0, 150.0, *_ARM, *_ARM))
        self.damping = np.array((*_LEG_DAMPING, *_LEG_DAMPING, 4.0, 4.0, 4.0, *_ARM_DAMPING, *_ARM_DAMPING))
        self.torque_limit, self.armature = self.stiffness.copy(), None  # the model's own
        self.start_joint_pos, self.start_gravity = np.array(DEFAULT_POSE), np.array([0.0, 0.0, -1.0])
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._last_action = np.zeros(29)
        self._past: deque[np.ndarray] = deque([np.zeros(_FRAME + _OBSERVED)] * _HISTORY, maxlen=_HISTORY)

    def follow(
        self, frame: np.ndarray, ang_vel: np.ndarray, gravity: np.ndarray, joint_pos: np.ndarray, joint_vel: np.ndarray
    ) -> np.ndarray:
        """Let a control step pass.

        Args:
            frame: Velocity in the root's frame (2), height, roll, pitch, yaw rate, joint angles (29); (35,).
            ang_vel: Angular velocity of the base in its own frame [rad/s], (3,).
            gravity: Direction of gravity in the same frame, (3,).
            joint_pos: Joint angles [rad], (29,).
            joint_vel: Joint velocities [rad/s], (29,).

        Returns:
            Joint targets [rad], (29,).
        """
        slow = joint_vel * 0.05
        slow[list(_ANKLES)] = 0.0
        measured = (0.25 * ang_vel, roll_and_pitch(gravity), joint_pos - DEFAULT_POSE, slow, self._last_action)
        present = np.concatenate((frame, *measured))
        observation = np.concatenate((present, *self._past, frame))
        self._past.append(present)
        (action,) = self._session.run(None, {self._input: observation[None].astype(np.float32)})
        self._last_action = action[0].astype(float)
        return np.array(DEFAULT_POSE) + _ACTION_SCALE * np.clip(self._last_action, -_ACTION_LIMIT, _ACTION_LIMIT)


class Twist2Controller:
    """TWIST2's policy with the interface of :class:`ExportedController`.

    Args:
        path: TWIST2's ONNX file.
        source: Where the reference comes from.
    """

    def __init__(self, path: str | Path, source: ExportedController) -> None:
        self._policy, self._source = Twist2Policy(path, source.joint_names, source.control_dt), source
        self.description, self.joint_names, self.control_dt = source.description, source.joint_names, source.control_dt
        self.stiffness, self.damping = self._policy.stiffness, self._policy.damping
        self.torque_limit, self.armature = self._policy.torque_limit, self._policy.armature
        self.start_joint_pos, self.start_gravity = source.start_joint_pos, source.start_gravity
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._source.reset()
        self._policy.reset()

    def step(
        self,
        ang_vel: np.ndarray,
        gravity: np.ndarray,
        command: np.ndarray,
        joint_pos: np.ndarray,
        joint_vel: np.ndarray,
    ) -> np.ndarray:
        """Let a control step pass; as of :meth:`ExportedController.step`."""
        before = self._source.reference
        self._source.step(ang_vel, gravity, command, joint_pos, joint_vel)
        frame = self._frame(before, self._source.reference)
        return self._policy.follow(frame, ang_vel, gravity, joint_pos, joint_vel)

    def _frame(self, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        """A motion frame: velocity in the root's frame (2), height, roll, pitch, yaw rate, joints."""
        part = self._source.reference_part
        gravity, height = part("projected_gravity", now), part("root_height", now)
        rise = (height - part("root_height", before)) / self.control_dt
        roll, pitch = roll_and_pitch(gravity)
        velocity = _tilt(roll, pitch).T @ np.concatenate((part("root_lin_vel_h", now)[:2], rise))
        rate = part("root_yaw_rate", now) * np.cos(roll) * np.cos(pitch)
        return np.concatenate((velocity[:2], height, (roll, pitch), rate, part("dof_pos", now)))


def roll_and_pitch(gravity: np.ndarray) -> tuple[float, float]:
    """Roll and pitch [rad] of a base that sees gravity in this direction, (3,)."""
    return float(np.arctan2(-gravity[1], -gravity[2])), float(np.arcsin(np.clip(gravity[0], -1.0, 1.0)))


def _tilt(roll: float, pitch: float) -> np.ndarray:
    """Rotation from the root's frame to the heading frame, (3, 3)."""
    cos_r, sin_r, cos_p, sin_p = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cos_r, -sin_r], [0.0, sin_r, cos_r]])
    about_y = np.array([[cos_p, 0.0, sin_p], [0.0, 1.0, 0.0], [-sin_p, 0.0, cos_p]])
    return about_y @ about_x
