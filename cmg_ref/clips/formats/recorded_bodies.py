"""What the recorded poses of a clip's bodies prove of its root, its joints and its quaternions.

Forward kinematics of the joint angles must put the bodies where the file has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np
import torch

from cmg_ref.clips.formats.joint_order import (
    MAX_BODY_MISMATCH,
    body_mismatch,
    breadth_first_bodies,
    is_known_set,
    known_orders,
    spread_rows,
)
from cmg_ref.clips.formats.quaternion_order import as_xyzw
from cmg_ref.clips.motion_clip import ClipError
from cmg_ref.core.rotations import quat_rotate_inverse
from cmg_ref.robots.robot import Robot

MAX_NAMED_MISMATCH = 0.05
"""The same where the joints have names: the links of another revision of the robot may be a little longer."""
NUM_ROWS = 32
"""Frames, spread over the clip, in which the bodies are compared."""


@dataclass
class BodyFindings:
    """What the bodies prove.

    Attributes:
        root: Index of the root among the bodies.
        joint_names: Names of the joint columns.
        quat_order: Order of the quaternions.
        notices: What is unusual about it, for the user to see.
    """

    root: int
    joint_names: tuple[str, ...]
    quat_order: str
    notices: list[str]


@dataclass
class RecordedBodies:
    """The bodies and joints of one file as they stand there.

    Attributes:
        path: The file.
        robot: The robot it should be of.
        dof_pos: Joint angles [rad], (T, num_joints).
        position: Positions of the bodies in the world [m], (T, num_bodies, 3).
        quat: Orientations of the bodies, usually wxyz, (T, num_bodies, 4).
        dof_field: Name of the field of `dof_pos`, for messages.
        position_field: Name of the field of `position`.
    """

    path: Path
    robot: Robot
    dof_pos: np.ndarray
    position: np.ndarray
    quat: np.ndarray
    dof_field: str
    position_field: str

    def findings(self, joint_names: Sequence[str] | None, body_names: Sequence[str] | None) -> BodyFindings:
        """Root, joints and order of quaternions for which the joint angles explain the bodies.

        Args:
            joint_names: Names of the joint columns in the file; None if it has none, then one of the orders in use.
            body_names: Names of the bodies in the file, with or without the robot's name before a slash; None if it has
                none, then depth or breadth first with the root at the head.

        Raises:
            ClipError: The names contradict the bodies, there is no root among them, or no order in use explains them.
        """
        num_joints = self.dof_pos.shape[1]
        joint_orders = list(known_orders(self.robot, num_joints).values())
        if joint_names is not None:
            if len(joint_names) != num_joints:
                columns = f"{num_joints} columns for {len(joint_names)} joint_names"
                hint = ": leave out the 7 of the root" if num_joints == len(joint_names) + 7 else ""
                raise ClipError(f"{self.path}: field '{self.dof_field}': {columns}{hint}")
            joint_orders = [tuple(name.rsplit("/", 1)[-1] for name in joint_names)]
        root, body_orders = self._bodies(body_names)
        if joint_names is not None and not is_known_set(self.robot, joint_orders[0]):
            return BodyFindings(root, joint_orders[0], "wxyz", [])  # `MotionClip.validate` names the odd ones.

        rows = spread_rows(len(self.dof_pos), NUM_ROWS)
        joint_rows = self.dof_pos[rows]
        fits: dict[tuple[str, tuple[str, ...]], float] = {}
        for quat_order in ("wxyz", "xyzw"):
            bodies_b = self._in_root_frame(rows, root, quat_order)
            for names in joint_orders:
                fits[quat_order, names] = min(
                    body_mismatch(self.robot, names, joint_rows, dict(zip(order, bodies_b.swapaxes(0, 1))))
                    for order in body_orders
                )
        quat_order, names = best = min(fits, key=fits.__getitem__)
        if not fits[best] <= (MAX_BODY_MISMATCH if joint_names is None else MAX_NAMED_MISMATCH):
            raise ClipError(self._contradiction(joint_names, body_names, fits[best]))
        notices = [] if quat_order == "wxyz" else ["quaternions are xyzw, not wxyz: only so the bodies fit the joints"]
        return BodyFindings(root, names, quat_order, notices)

    def _bodies(self, body_names: Sequence[str] | None) -> tuple[int, list[list[str]]]:
        """Index of the root, and possible names of all bodies."""
        num_bodies, names = self.position.shape[1], list(self.robot.body_names)
        if body_names is not None:
            given = [name.rsplit("/", 1)[-1] for name in body_names]
            if len(given) != num_bodies:
                raise ClipError(
                    f"{self.path}: field '{self.position_field}': {num_bodies} bodies for {len(given)} body_names"
                )
            if names[0] not in given:
                raise ClipError(f"{self.path}: field 'body_names': no '{names[0]}' among {len(given)} bodies")
            return given.index(names[0]), [given]
        if num_bodies == len(names):
            return 0, [names, [names[body] for body in breadth_first_bodies(self.robot)]]
        raise ClipError(
            f"{self.path}: field '{self.position_field}': {num_bodies} bodies without names, needs {len(names)} or "
            "'body_names'"
        )

    def _in_root_frame(self, rows: np.ndarray, root: int, quat_order: str) -> np.ndarray:
        """Positions of the bodies in the root's frame in some rows, (num_rows, num_bodies, 3)."""
        quat = as_xyzw(torch.from_numpy(self.quat[rows, root]), quat_order)
        quat = torch.nn.functional.normalize(quat, dim=-1).unsqueeze(1)
        offset = torch.from_numpy(self.position[rows] - self.position[rows, root][:, None])
        return quat_rotate_inverse(quat.expand(*offset.shape[:2], 4), offset).numpy()

    def _contradiction(
        self, joint_names: Sequence[str] | None, body_names: Sequence[str] | None, mismatch: float
    ) -> str:
        """What to say where nothing explains the bodies."""
        field, error = f"field '{self.dof_field}'", f"(mean error {mismatch:.3f} m)"
        if joint_names is None:
            return f"{self.path}: {field}: no known joint order explains '{self.position_field}' {error}"
        bodies = "a root at their head" if body_names is None else "their 'body_names'"
        return (
            f"{self.path}: {field}: the joints as they are named contradict the bodies of '{self.position_field}' with "
            f"{bodies} {error}"
        )
