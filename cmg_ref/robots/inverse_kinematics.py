"""Joint angles that put the feet where they are wanted, by damped least squares on the joints of each leg.

The toes come first: where an ankle bends no further, the heel rises, as a person's does.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cmg_ref.core.rotations import matrix_from_quat, quat_multiply
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot

ITERATIONS = 30
DAMPING = 1e-4
"""Keeps steps finite where a leg is stretched out; in squares of metres and radians."""
LARGEST_STEP = 0.2
"""Of a joint in one iteration [rad]."""
TURN_WEIGHTS = (0.1, 0.03, 0.3)
"""What an error of a foot's roll, pitch and yaw [rad] counts beside one of the toes' place [m]."""
REACHED = (0.003, 0.15, 0.7, 0.05)
"""A foot whose toes are this near to where they should be [m], and its roll, pitch and yaw [rad], is there."""
BACK, LEAN = 0.4, 1.5
"""How far a root that is lowered moves back and leans forward for a depth [m / m, rad / m]."""


class LegKinematics:
    """Legs of a robot as chains of hinges from the root to the feet.

    Args:
        robot: Robot whose joint order the angles have.

    Attributes:
        joints: Joints of each leg from the hip down, (2, num_leg_joints).
    """

    def __init__(self, robot: Robot) -> None:
        joint_of_body = {body: joint for joint, body in enumerate(robot.joint_bodies)}
        legs: list[list[int]] = []
        for body in robot.body_index(robot.foot_bodies).tolist():
            leg: list[int] = []
            while robot.body_parents[body] >= 0:
                leg += [joint_of_body[body]] if body in joint_of_body else []
                body = robot.body_parents[body]
            legs.append(leg[::-1])
        self.joints = torch.tensor(legs)
        self._lower, self._upper = robot.joint_lower[self.joints], robot.joint_upper[self.joints]
        self._axes = robot.joint_axes[self.joints]  # (2, num_leg_joints, 3)
        bodies = [robot.body_names[robot.joint_bodies[joint]] for leg in legs for joint in leg]
        self._kinematics = ForwardKinematics(robot, [*bodies, *robot.foot_bodies], dtype=torch.float64)
        self._toes = robot.foot_points[:, 2:].mean(dim=1, keepdim=True).transpose(-1, -2)  # (2, 3, 1)
        self._weights = torch.tensor((1.0, 1.0, 1.0, *TURN_WEIGHTS), dtype=torch.float64)

    def feet(self, dof_pos: Tensor) -> tuple[Tensor, Tensor]:
        """Places of the toes (..., 2, 3) [m] and rotation matrices of the feet (..., 2, 3, 3) in the base frame."""
        position, rotation = self._kinematics.matrices(dof_pos)
        rotation = rotation[..., -2:, :, :]
        return position[..., -2:, :] + (rotation @ self._toes).squeeze(-1), rotation

    def solve(self, dof_pos: Tensor, position: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Moves the joints of the legs, within their limits, until the feet are where they should be.

        Args:
            dof_pos: Joint angles to begin with, (num_frames, num_joints) float64 [rad].
            position: Of the toes in the base frame, (num_frames, 2, 3) [m].
            rotation: Of the feet in the base frame, (num_frames, 2, 3, 3).

        Returns:
            Joint angles (num_frames, num_joints), and whether both feet are where they should be, (num_frames,) bool.
        """
        dof_pos = dof_pos.clone()
        for _ in range(ITERATIONS):
            error, jacobian = self._linearised(dof_pos, position, rotation)
            error, jacobian = error * self._weights, jacobian * self._weights.unsqueeze(-1)
            step = _damped_step(jacobian, error)
            have = dof_pos[:, self.joints]
            # Joints at a limit that should go beyond it leave the work to the others.
            blocked = ((have <= self._lower) & (step < 0.0)) | ((have >= self._upper) & (step > 0.0))
            step = _damped_step(jacobian.masked_fill(blocked.unsqueeze(-2), 0.0), error)
            angles = have + step.clamp(-LARGEST_STEP, LARGEST_STEP)
            dof_pos[:, self.joints] = torch.minimum(torch.maximum(angles, self._lower), self._upper)
        error, _ = self._linearised(dof_pos, position, rotation)
        away = torch.cat((error[..., :3].norm(dim=-1, keepdim=True), error[..., 3:].abs()), dim=-1)
        return dof_pos, (away < away.new_tensor(REACHED)).all(dim=-1).all(dim=-1)

    def lowered(
        self, dof_pos: Tensor, root_pos: Tensor, root_quat: Tensor, depth: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Poses with the root lowered and the toes where they were: hips move back, and the body leans, for balance.

        Args:
            dof_pos: Joint angles, (num_frames, num_joints) float64 [rad].
            root_pos: Positions of the root in the world, (num_frames, 3) float64 [m].
            root_quat: Orientations of the root, xyzw, (num_frames, 4) float64.
            depth: How far to lower the root, (num_frames,) float64 [m].

        Returns:
            The same three of the lowered poses, and whether the legs can do it, (num_frames,) bool.
        """
        toes, feet = self.feet(dof_pos)  # (num_frames, 2, 3), (num_frames, 2, 3, 3)
        before = matrix_from_quat(root_quat).unsqueeze(1)
        toes_w = root_pos.unsqueeze(1) + (before @ toes.unsqueeze(-1)).squeeze(-1)
        half, zero = 0.5 * LEAN * depth, torch.zeros_like(depth)
        root_quat = quat_multiply(root_quat, torch.stack((zero, torch.sin(half), zero, torch.cos(half)), dim=-1))
        after = matrix_from_quat(root_quat).unsqueeze(1)
        ahead = functional.normalize(before[:, 0, :2, 0], dim=-1)  # The base's x axis on the floor.
        root_pos = root_pos - depth.unsqueeze(-1) * torch.cat((BACK * ahead, torch.ones_like(ahead[:, :1])), dim=-1)
        wanted = (after.transpose(-1, -2) @ (toes_w - root_pos.unsqueeze(1)).unsqueeze(-1)).squeeze(-1)
        dof_pos, reached = self.solve(dof_pos, wanted, after.transpose(-1, -2) @ before @ feet)
        return dof_pos, root_pos, root_quat, reached

    def _linearised(self, dof_pos: Tensor, position: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """What the feet lack, (num_frames, 2, 6) [m, rad], and how joints move them, (..., 2, 6, num_leg_joints).

        Places are in the base frame, turns in the foot's own.
        """
        have, turned = self._kinematics.matrices(dof_pos)
        hinges = have[:, :-2].unflatten(1, self.joints.shape)  # (num_frames, 2, num_leg_joints, 3)
        axes = (turned[:, :-2].unflatten(1, self.joints.shape) @ self._axes.unsqueeze(-1)).squeeze(-1)
        feet = turned[:, -2:]
        toes = have[:, -2:] + (feet @ self._toes).squeeze(-1)
        moves = torch.linalg.cross(axes, toes.unsqueeze(2) - hinges, dim=-1).transpose(-1, -2)
        turns = feet.transpose(-1, -2) @ axes.transpose(-1, -2)
        lacking = feet.transpose(-1, -2) @ rotation
        # Half of the antisymmetric part is the axis times the sine of the angle.
        turn = 0.5 * torch.stack(
            (
                lacking[..., 2, 1] - lacking[..., 1, 2],
                lacking[..., 0, 2] - lacking[..., 2, 0],
                lacking[..., 1, 0] - lacking[..., 0, 1],
            ),
            dim=-1,
        )
        return torch.cat((position - toes, turn), dim=-1), torch.cat((moves, turns), dim=-2)


def _damped_step(jacobian: Tensor, error: Tensor) -> Tensor:
    """Least change of the joints that undoes the error nearly, (..., 6, n) and (..., 6) -> (..., n)."""
    square = jacobian @ jacobian.transpose(-1, -2) + DAMPING * torch.eye(6, dtype=jacobian.dtype)
    return (jacobian.transpose(-1, -2) @ torch.linalg.solve(square, error.unsqueeze(-1))).squeeze(-1)
