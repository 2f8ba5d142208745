"""Controllers as they are deployed: an exported file, numpy and onnxruntime. Nothing here knows torch or training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

METADATA_KEY = "cmg_ref_controller"


class ArtefactError(ValueError):
    """A file that cannot be used; the message says which and why."""


class ExportedController:
    """A file written by `play.py --export`: one call for each control step.

    Attributes:
        description: What the file says of itself.
        joint_names: Order of the joints in everything.
        control_dt: Time of a control step [s].
        stiffness, damping, torque_limit, armature: Of the joints' drives, (num_joints,).
        start_joint_pos: Pose to begin in [rad], (num_joints,).
        start_gravity: Direction of gravity in the base's frame then, (3,).

    Raises:
        ArtefactError: The file is missing or holds something else.
    """

    def __init__(self, path: str | Path) -> None:
        self._session = open_session(path)
        entries = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in entries:
            raise ArtefactError(f"{path}: holds no controller of cmg_ref; write one with play.py --export FILE")
        self.description: dict[str, Any] = json.loads(entries[METADATA_KEY])
        told = self.description
        self.joint_names: list[str] = told["joint_names"]
        self.control_dt: float = told["control_dt"]
        self.stiffness, self.damping = np.array(told["stiffness"]), np.array(told["damping"])
        self.torque_limit, self.armature = np.array(told["torque_limit"]), np.array(told["armature"])
        self._default = np.array(told["default_joint_pos"])
        self.start_joint_pos = np.array(told["start"]["joint_pos"])
        self._standing = np.array(told["reference"]["standing_state"])
        # Files of earlier versions are told the velocity alone.
        self.command_labels: list[str] = told["command"].get("labels", ["vx", "vy", "wz"])
        self._rest = np.array(told["command"].get("rest", [0.0, 0.0, 0.0]))
        self.start_gravity = self.reference_part("projected_gravity", self._standing)
        self._state_size = self._session.get_inputs()[1].shape[1]
        self.reset()

    def reset(self, joint_pos: np.ndarray | None = None) -> None:
        """Begin anew: the reference stands, no command is in force.

        Args:
            joint_pos: Joint angles measured now [rad], (num_joints,): the arms of the reference begin there. By default
                they begin in the starting pose.
        """
        self._state = np.zeros((1, self._state_size), np.float32)
        if joint_pos is not None:
            for name, column in self.description["start"]["from_measured_pose"]["columns"].items():
                if name in self.joint_names:
                    joint = self.joint_names.index(name)
                    self._state[0, column] = joint_pos[joint] - self.start_joint_pos[joint]

    def step(
        self,
        ang_vel: np.ndarray,
        gravity: np.ndarray,
        command: np.ndarray,
        joint_pos: np.ndarray,
        joint_vel: np.ndarray,
    ) -> np.ndarray:
        """Let a control step pass.

        Args:
            ang_vel: Angular velocity of the base in its own frame [rad/s], (3,).
            gravity: Direction of gravity in the same frame, (3,).
            command: vx, vy [m/s], yaw rate [rad/s] and what else `command_labels` names, which is at rest where the
                array ends, (at most command_dim,).
            joint_pos: Joint angles [rad], (num_joints,).
            joint_vel: Joint velocities [rad/s], (num_joints,).

        Returns:
            Joint targets [rad], (num_joints,).
        """
        told = np.concatenate((command, self._rest[len(command) :]))
        observation = np.concatenate((ang_vel, gravity, told, joint_pos - self._default, joint_vel))
        inputs = {"observation": observation[None].astype(np.float32), "state": self._state}
        self._state, targets = self._session.run(["next_state", "joint_targets"], inputs)
        return targets[0].astype(float)

    @property
    def reference(self) -> np.ndarray:
        """Present frame of the reference motion, (frame_size,); `reference_part` finds its channels."""
        return self._standing + self._state[0, : len(self._standing)]

    def reference_part(self, name: str, frame: np.ndarray) -> np.ndarray:
        """A channel of a frame of the reference, such as "root_lin_vel_h"."""
        start = 0
        for part in self.description["reference"]["layout"]:
            if part["name"] == name:
                return frame[start : start + part["size"]]
            start += part["size"]
        raise ArtefactError(f"the reference has no channel '{name}'")


def open_session(path: str | Path) -> Any:
    """An onnxruntime session of one thread: for one robot more threads only wait for each other."""
    import onnxruntime

    if not Path(path).is_file():
        raise ArtefactError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common class for what can be wrong with a file
        raise ArtefactError(f"{path}: not a readable ONNX file ({' '.join(str(error).split())[:120]})") from error
