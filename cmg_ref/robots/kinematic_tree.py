"""The tree of bodies and joints that forward kinematics needs, from whatever file it was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import torch
from torch import Tensor

from cmg_ref.robots.spec import RobotError

__all__ = ["KinematicTree", "RobotError"]


@dataclass(frozen=True, eq=False)
class KinematicTree:
    """Bodies and hinges of a robot with at most one hinge a body. Float tensors are float64 on the CPU.

    Attributes:
        name: Model name.
        body_names: Bodies, depth first; the first is the root (the pelvis).
        body_parents: Index of each body's parent, -1 for the root.
        body_pos: Fixed offset of each body in its parent's frame in metres, (num_bodies, 3). The root's own is
            its place in the world as the file has it, which the kinematics do not use.
        body_quat: Fixed orientation of each body in its parent's frame, quaternion xyzw, (num_bodies, 4).
        joint_names: Joints, in the order of the bodies they move.
        joint_bodies: Index of the body each joint moves.
        joint_axes: Unit axis of each joint in that body's frame, (num_joints, 3).
        joint_lower: Lower limits in rad, (num_joints,); minus infinity where there is none.
        joint_upper: Upper limits in rad, (num_joints,); infinity where there is none.
    """

    name: str
    body_names: tuple[str, ...]
    body_parents: tuple[int, ...]
    body_pos: Tensor
    body_quat: Tensor
    joint_names: tuple[str, ...]
    joint_bodies: tuple[int, ...]
    joint_axes: Tensor
    joint_lower: Tensor
    joint_upper: Tensor

    @property
    def num_joints(self) -> int:
        """Number of joints."""
        return len(self.joint_names)

    @property
    def num_bodies(self) -> int:
        """Number of bodies, the root included."""
        return len(self.body_names)

    def joint_index(self, names: Sequence[str]) -> Tensor:
        """Indices of joints, (len(names),) int64.

        Raises:
            RobotError: If a name is not a joint of this robot.
        """
        return _index_of(names, self.joint_names, "joint", self.name)

    def body_index(self, names: Sequence[str]) -> Tensor:
        """Indices of bodies, (len(names),) int64.

        Raises:
            RobotError: If a name is not a body of this robot.
        """
        return _index_of(names, self.body_names, "body", self.name)

    def joints_towards(self, bodies: Sequence[str]) -> set[str]:
        """Names of the joints between the root and some bodies, their own among them.

        Raises:
            RobotError: If a name is not a body of this robot.
        """
        passed: set[int] = set()
        for body in self.body_index(bodies).tolist():
            while body >= 0:
                passed.add(body)
                body = self.body_parents[body]
        return {name for name, body in zip(self.joint_names, self.joint_bodies) if body in passed}


def _index_of(names: Sequence[str], available: Sequence[str], kind: str, robot: str) -> Tensor:
    missing = [name for name in names if name not in available]
    if missing:
        raise RobotError(f"{robot}: has no {kind} {', '.join(repr(name) for name in missing)}")
    return torch.tensor([available.index(name) for name in names], dtype=torch.int64)
