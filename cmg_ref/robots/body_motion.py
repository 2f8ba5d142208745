"""How bodies of a robot move in the world, from the states of its joints and of its root."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import torch
from torch import Tensor

from cmg_ref.core.rotations import matrix_from_quat, quat_from_matrix
from cmg_ref.robots.kinematic_tree import KinematicTree
from cmg_ref.robots.kinematics import ForwardKinematics


class BodyStates(NamedTuple):
    """Bodies in the world.

    Attributes:
        pos: Positions of their origins [m], (..., num_bodies, 3).
        quat: Orientations, quaternions xyzw with w >= 0, (..., num_bodies, 4).
        lin_vel: Velocities of their origins [m/s], (..., num_bodies, 3).
        ang_vel: Angular velocities [rad/s], (..., num_bodies, 3).
    """

    pos: Tensor
    quat: Tensor
    lin_vel: Tensor
    ang_vel: Tensor


class BodyMotion:
    """States of chosen bodies.

    Args:
        robot: The robot, or just its tree.
        body_names: Bodies in the order of the results.
        device: Device of the states to come.

    Raises:
        RobotError: If a name is not a body of the robot.
    """

    def __init__(
        self, robot: KinematicTree, body_names: Sequence[str], device: str | torch.device | None = None
    ) -> None:
        self.body_names = tuple(body_names)
        moved = [robot.body_names[body] for body in robot.joint_bodies]
        self._kinematics = ForwardKinematics(robot, (*self.body_names, *moved), device)
        self._axes = robot.joint_axes.unsqueeze(-1).to(device=device, dtype=torch.float32)  # (J, 3, 1)
        above = [_with_ancestors(robot, body) for body in robot.body_index(self.body_names).tolist()]
        # Whether a joint moves a body, (B, J): it does if its own body is the body or above it.
        self._moves = torch.tensor(
            [[float(body in bodies) for body in robot.joint_bodies] for bodies in above], device=device
        )

    def __call__(self, dof_pos: Tensor, dof_vel: Tensor, root_states: Tensor) -> BodyStates:
        """States of the bodies.

        Args:
            dof_pos: Joint angles [rad], (..., num_joints), in the robot's order.
            dof_vel: Joint velocities [rad/s], (..., num_joints).
            root_states: Position, orientation xyzw, linear and angular velocity of the root in the world, (..., 13).
        """
        num = len(self.body_names)
        places, turned = self._kinematics.matrices(dof_pos)  # in the frame of the base, the moved bodies last
        rates = (turned[..., num:, :, :] @ self._axes).squeeze(-1) * dof_vel.unsqueeze(-1)  # (..., J, 3)
        # A joint at q turns a body at p with w and moves it with w x (p - q); summed over the joints above the body.
        ang_vel = self._moves @ rates
        own = places[..., :num, :]
        lin_vel = torch.cross(ang_vel, own, dim=-1) - self._moves @ torch.cross(rates, places[..., num:, :], dim=-1)
        to_world = matrix_from_quat(root_states[..., 3:7])
        vectors = torch.cat((own, lin_vel, ang_vel), dim=-2) @ to_world.transpose(-1, -2)
        arms, lin_vel, ang_vel = vectors.split(num, dim=-2)
        root_pos, root_lin_vel, root_ang_vel = (root_states[..., None, at : at + 3] for at in (0, 7, 10))
        return BodyStates(
            root_pos + arms,
            quat_from_matrix(to_world.unsqueeze(-3) @ turned[..., :num, :, :]),
            root_lin_vel + torch.cross(root_ang_vel.expand_as(arms), arms, dim=-1) + lin_vel,
            root_ang_vel + ang_vel,
        )


def _with_ancestors(robot: KinematicTree, body: int) -> set[int]:
    """A body and all above it but the root, which no joint moves."""
    bodies = set()
    while robot.body_parents[body] >= 0:
        bodies.add(body)
        body = robot.body_parents[body]
    return bodies
