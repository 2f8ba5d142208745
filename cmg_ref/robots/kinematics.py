"""Batched forward kinematics in torch.

All bodies of one depth of the tree are computed together, and the batch is the last dimension of every tensor inside,
so that each operation runs over long contiguous rows. Nothing loops over the batch, everything is differentiable.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from cmg_ref.core import rotations
from cmg_ref.robots.kinematic_tree import KinematicTree
from cmg_ref.robots.robot import Robot


class ForwardKinematics:
    """Poses of chosen bodies of a robot from its joint positions.

    Attributes:
        body_names: Bodies in the order of the results.
        num_joints: Number of joint positions expected.
    """

    def __init__(
        self,
        robot: KinematicTree,
        body_names: Sequence[str] | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Precompute the constant part of every joint's transform.

        Args:
            robot: The robot, or just its tree.
            body_names: Bodies to compute, all of the robot's by default; only they and their ancestors are computed.
            device: Device of the joint positions to come.
            dtype: Float type of the joint positions to come.

        Raises:
            RobotError: If a name is not a body of the robot.
        """
        self.body_names: tuple[str, ...] = tuple(robot.body_names if body_names is None else body_names)
        self.num_joints = robot.num_joints
        requested = robot.body_index(self.body_names).tolist()
        levels = _levels(robot, requested)
        bodies = [body for level in levels for body in level]
        self._level_sizes = [len(level) for level in levels]
        # Slots of each level's parents in the level above; None where they are the same bodies in the same order.
        self._parent_slots: list[Tensor | None] = []
        for above, level in zip([[0], *levels], levels):
            slots = [above.index(robot.body_parents[body]) for body in level]
            same = slots == list(range(len(above)))
            self._parent_slots.append(None if same else torch.tensor(slots, device=device))
        self._output_slots = torch.tensor([[0, *bodies].index(body) for body in requested], device=device)

        joint_slots, turns, translation = _placements(robot, bodies)
        self._joint_slots = joint_slots.to(device=device)
        unmoved = torch.zeros_like(translation)
        self._constant, self._sine, self._cosine = (
            torch.cat((turn, moved), dim=-1).permute(1, 2, 0).unsqueeze(-1).to(device=device, dtype=dtype)
            for turn, moved in zip(turns, (translation, unmoved, unmoved))
        )  # each (3, 4, K, 1)
        self._root = torch.eye(3, 4, device=device, dtype=dtype)[:, :, None, None]
        self._last_row = torch.tensor([0.0, 0.0, 0.0, 1.0], device=device, dtype=dtype)[None, :, None, None]

    def __call__(
        self, dof_pos: Tensor, root_pos: Tensor | None = None, root_quat: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Positions and orientations of the bodies.

        Args:
            dof_pos: Joint positions in rad, (..., num_joints).
            root_pos: Position of the root in the world in metres, (..., 3).
            root_quat: Orientation of the root in the world, quaternion xyzw, (..., 4).

        Returns:
            Positions in metres, (..., B, 3), and orientations, quaternions xyzw of either sign, (..., B, 4): in the
            world, or in the base frame if the root is not given.

        Raises:
            ValueError: If `dof_pos` does not have `num_joints` columns, or only one half of the root is given.
        """
        position, rotation = self.matrices(dof_pos)
        position = _to_world(position, root_pos, root_quat)
        quat = rotations.quat_from_matrix(rotation)
        if root_quat is not None:
            quat = rotations.quat_multiply(root_quat.unsqueeze(-2), quat)
        return position, quat

    def positions(self, dof_pos: Tensor, root_pos: Tensor | None = None, root_quat: Tensor | None = None) -> Tensor:
        """Positions of the bodies alone, (..., B, 3); arguments, frames and errors as in a call."""
        position = self._transforms(dof_pos)[:, 3]  # (3, B, N)
        position = position.permute(2, 1, 0).reshape((*dof_pos.shape[:-1], len(self.body_names), 3))
        return _to_world(position, root_pos, root_quat)

    def matrices(self, dof_pos: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (..., B, 3) and rotation matrices (..., B, 3, 3) in the base frame; cheaper than quaternions."""
        transforms = self._transforms(dof_pos).permute(3, 2, 0, 1)  # (N, B, 3, 4)
        transforms = transforms.reshape((*dof_pos.shape[:-1], len(self.body_names), 3, 4))
        return transforms[..., 3], transforms[..., :3]

    def _transforms(self, dof_pos: Tensor) -> Tensor:
        """Rotation and position of the bodies in the base frame, (..., J) -> (3, 4, B, N)."""
        _check_columns(dof_pos, self.num_joints)
        rows = dof_pos.reshape(-1, self.num_joints)
        angles = rows.T.index_select(0, self._joint_slots)  # (K, N)
        local = self._constant + self._sine * torch.sin(angles) + self._cosine * torch.cos(angles)  # (3, 4, K, N)
        levels = [self._root.expand(3, 4, 1, rows.shape[0])]
        for own, slots in zip(local.split(self._level_sizes, dim=2), self._parent_slots):
            if len(levels) == 1:  # the root's transform is the identity
                levels.append(own)
                continue
            parent = levels[-1] if slots is None else levels[-1].index_select(2, slots)
            levels.append(
                parent[:, 0, None] * own[0]
                + parent[:, 1, None] * own[1]
                + parent[:, 2, None] * own[2]
                + parent[:, 3, None] * self._last_row
            )
        return torch.cat(levels, dim=2).index_select(2, self._output_slots)


class LimbKinematics:
    """Where the ends of limbs are and how they are tilted, for a fraction of the cost of :class:`ForwardKinematics`.

    Two vectors pass from joint to joint, not whole frames: the vertical from the base outward, the position of a limb's
    end inward. Both go through all limbs at once.

    Attributes:
        body_names: Ends of limbs in the order of the results.
        num_joints: Number of joint positions expected.
        joints: Joint that turns each body on the way from the root to an end, (num_limbs, num_steps).
        turns: Matrices R0, R1, R2 of each body's rotation R0 + sin(q) R1 + cos(q) R2 in its parent's frame,
            (num_limbs, num_steps, 3, 3, 3).
        moves: Place of each body in its parent's frame in metres, (num_limbs, num_steps, 3).
    """

    def __init__(
        self,
        robot: KinematicTree,
        body_names: Sequence[str],
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Precompute the constant part of every joint's turn; arguments and errors as of :class:`ForwardKinematics`."""
        self.body_names: tuple[str, ...] = tuple(body_names)
        self.num_joints = robot.num_joints
        limbs = [_path(robot, body) for body in robot.body_index(self.body_names).tolist()]
        num_steps = max((len(limb) for limb in limbs), default=0)
        # Shorter limbs end at bodies that sit at rest, as the root does.
        bodies = [body for limb in limbs for body in limb + [0] * (num_steps - len(limb))]
        joints, turns, moves = _placements(robot, bodies)
        shape = (len(limbs), num_steps)
        self.joints = joints.view(shape).to(device=device)
        self.turns = torch.stack(turns, dim=1).view(*shape, 3, 3, 3).to(device=device, dtype=dtype)
        self.moves = moves.view(*shape, 3).to(device=device, dtype=dtype)
        # Steps first, (num_steps, outward and inward, limbs, ...); outward it is the world that turns, the other way.
        back = self.turns.flip(1)
        both_turns = torch.stack((self.turns.transpose(-1, -2), back)).permute(2, 0, 1, 4, 3, 5)
        both_moves = torch.stack((torch.zeros_like(self.moves), self.moves.flip(1))).permute(2, 0, 1, 3)
        self._joint_slots = torch.stack((self.joints, self.joints.flip(1))).permute(2, 0, 1).flatten()
        # The terms side by side, (..., 3, 9): one product turns a vector and its parts with the sine and the cosine.
        self._turns = both_turns.reshape(num_steps, 2 * len(limbs), 3, 9)
        self._moves = both_moves.reshape(num_steps, 2 * len(limbs), 3, 1)

    def __call__(self, dof_pos: Tensor, vertical_b: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the bodies, and the vertical seen from them.

        Args:
            dof_pos: Joint positions in rad, (N, num_joints).
            vertical_b: Upward direction, or any other vector, in the base frame, (N, 3).

        Returns:
            Positions in the base frame in metres, (B, 3, N), and the vector in the bodies' frames, (B, 3, N).

        Raises:
            ValueError: If `dof_pos` does not have `num_joints` columns.
        """
        _check_columns(dof_pos, self.num_joints)
        num, num_limbs = len(dof_pos), len(self.body_names)
        angles = dof_pos.T.index_select(0, self._joint_slots).view(len(self._turns), 2 * num_limbs, 1, num)
        shares = torch.stack((torch.ones_like(angles), torch.sin(angles), torch.cos(angles)), dim=2)
        vertical = vertical_b.T.expand(num_limbs, 3, num)
        vectors = torch.cat((vertical, torch.zeros_like(vertical)))  # (2 B, 3, N)
        for turn, move, share in zip(self._turns.unbind(), self._moves.unbind(), shares.unbind()):
            parts = share * vectors.unsqueeze(1)  # (2 B, 3, 3, N)
            vectors = torch.baddbmm(move, turn, parts.flatten(1, 2))
        return vectors[num_limbs:], vectors[:num_limbs]


class FootKinematics:
    """Places of the contact spheres under the feet.

    Attributes:
        radius: Radius of the spheres in metres: the sole's lowest point lies that far below the lowest centre.
    """

    def __init__(
        self, robot: Robot, device: str | torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        """Take the feet of a robot; device and dtype are those of the joint positions to come."""
        self.radius = robot.foot_radius
        self._feet = ForwardKinematics(robot, robot.foot_bodies, device, dtype)
        self._points = robot.foot_points.to(device=device, dtype=dtype)

    def __call__(self, dof_pos: Tensor, root_pos: Tensor | None = None, root_quat: Tensor | None = None) -> Tensor:
        """Centres of the spheres of the left and the right foot.

        Args:
            dof_pos: Joint positions in rad, (..., num_joints).
            root_pos: Position of the root in the world in metres, (..., 3).
            root_quat: Orientation of the root in the world, quaternion xyzw, (..., 4).

        Returns:
            Positions in metres, (..., 2, 4, 3), in the order of `Robot.foot_points`: in the world, or in the base
            frame if the root is not given.

        Raises:
            ValueError: If `dof_pos` does not have `num_joints` columns, or only one half of the root is given.
        """
        position, rotation = self._feet.matrices(dof_pos)  # (..., 2, 3), (..., 2, 3, 3)
        points = position.unsqueeze(-2) + (rotation.unsqueeze(-3) * self._points.unsqueeze(-2)).sum(dim=-1)
        return _to_world(points.flatten(-3, -2), root_pos, root_quat).unflatten(-2, points.shape[-3:-1])


def _check_columns(dof_pos: Tensor, num_joints: int) -> None:
    if dof_pos.shape[-1] != num_joints:
        raise ValueError(f"dof_pos has {dof_pos.shape[-1]} columns, the robot has {num_joints} joints")


def _to_world(points_b: Tensor, root_pos: Tensor | None, root_quat: Tensor | None) -> Tensor:
    """Points in the base frame, (..., B, 3), as points in the world; unchanged if the root is not given."""
    if root_pos is None and root_quat is None:
        return points_b
    if root_pos is None or root_quat is None:
        raise ValueError("give root_pos and root_quat together, or neither for the base frame")
    return root_pos.unsqueeze(-2) + rotations.quat_rotate(root_quat.unsqueeze(-2), points_b)


def _levels(robot: KinematicTree, bodies: Sequence[int]) -> list[list[int]]:
    """The bodies and their ancestors below the root, by depth."""
    depth = [0] * robot.num_bodies
    for body, parent in enumerate(robot.body_parents):
        depth[body] = 0 if parent < 0 else depth[parent] + 1
    needed: set[int] = set()
    for body in bodies:
        while robot.body_parents[body] >= 0 and body not in needed:
            needed.add(body)
            body = robot.body_parents[body]
    return [
        sorted(body for body in needed if depth[body] == level)
        for level in range(1, max((depth[body] for body in needed), default=0) + 1)
    ]


def _path(robot: KinematicTree, body: int) -> list[int]:
    """The bodies from below the root to a body."""
    path = []
    while robot.body_parents[body] >= 0:
        path.append(body)
        body = robot.body_parents[body]
    return path[::-1]


def _placements(robot: KinematicTree, bodies: Sequence[int]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor]:
    """How bodies sit in their parents' frames; the root sits at rest in its own.

    Returns:
        Joint that turns each body, (K,), matrices R0, R1 and R2 (K, 3, 3) of its rotation R0 + sin(q) R1 + cos(q) R2,
        and its place in metres, (K, 3, 1).
    """
    joint_of_body = {body: joint for joint, body in enumerate(robot.joint_bodies)}
    joints = [joint_of_body.get(body, -1) for body in bodies]  # -1: fixed to its parent
    # A fixed body reads joint 0 and turns about a null axis, which leaves it where it is.
    slots = torch.tensor([max(joint, 0) for joint in joints], dtype=torch.int64)
    hinged = torch.tensor([float(joint >= 0) for joint in joints], dtype=torch.float64).unsqueeze(-1)
    offset = rotations.matrix_from_quat(robot.body_quat[bodies])  # (K, 3, 3)
    translation = robot.body_pos[bodies].unsqueeze(-1)
    roots = torch.tensor([robot.body_parents[body] < 0 for body in bodies], dtype=torch.bool)
    offset[roots], translation[roots] = torch.eye(3, dtype=torch.float64), 0.0
    # Rodrigues: R = C (I + sin(q) X + (1 - cos(q)) X X) with C the fixed offset and X v = axis x v.
    cross = _cross_matrix(hinged * robot.joint_axes[slots])
    squared = cross @ cross
    return slots, (offset + offset @ squared, offset @ cross, -offset @ squared), translation


def _cross_matrix(axes: Tensor) -> Tensor:
    """Matrices X with X v = axis x v, (..., 3) -> (..., 3, 3)."""
    x, y, z = axes.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).reshape((*axes.shape[:-1], 3, 3))
