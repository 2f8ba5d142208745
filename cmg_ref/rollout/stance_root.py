"""The root's motion estimated from the stance foot, for joint angles that come without a root.

Three assumptions stand in for what joint angles cannot say: the lowest sole point is on the floor, the sole of a foot
that stands is flat, and a sole point in contact does not move over the floor. Where no sole point is in contact, in the
flight of a run, the velocity before and after is carried on.

Everything is batched over leading dimensions and has no loop over frames: the world pose is a running sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cmg_ref.core.rotations import quat_from_gravity_and_yaw, quat_rotate
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.robots.joint_matching import match_joints
from cmg_ref.robots.kinematics import FootKinematics
from cmg_ref.robots.robot import Robot

SOLE_TURN_RATE = 1.0
"""Soles that turn faster than about this [rad/s] against the base are rolling over heel or toe, not flat."""
LOWER_FOOT_DEPTH = 0.02
"""Difference in height [m] that makes the lower foot's sole count e times as much as the other's."""
UPRIGHT_WEIGHT = 0.1
"""Weight of an upright base, where a flat sole has 1: what is left to go by while both soles roll."""
TILT_TIME = 0.3
"""Standard deviation [s] of the Gaussian that the tilt is averaged with; heel strike and push-off fall out of it."""
CONTACT_DEPTH = 0.02
"""Sole points this much above the lowest one [m] count 1/e as contacts."""
CONTACT_VERTICAL_SPEED = 0.3
"""Sole points that rise or sink this fast [m/s] against the lowest one count 1/e as contacts."""
SLIDING = ((1.5, 0.4), (1.0, 0.4), (0.7, 0.3), (0.5, 0.2), (0.4, 0.15), (0.3, 0.1), (0.2, 0.1))
"""Sole points that slide this fast [m/s] against the motion around them count a quarter as contacts; that motion is
averaged by a Gaussian of this standard deviation [s]. From coarse to fine: at first a swinging foot pulls at it."""
CARRIED_CONTACT = 0.1
"""With this much contact, where one sole point in full contact is 1, half of the motion is the carried one."""


@dataclass
class RootMotion:
    """Motion of the root, (...) standing for the leading dimensions of the joint angles.

    Attributes:
        root_height: Height of the root above the floor [m], (..., T, 1).
        projected_gravity: Unit vector of gravity in the base frame, (..., T, 3).
        root_lin_vel_h: Velocity of the root in the heading frame [m/s], (..., T, 3).
        root_yaw_rate: Rate of the heading [rad/s], (..., T, 1).
        root_pos_w: Position of the root in the world [m], (..., T, 3); x = y = 0 at the first frame.
        root_quat_w: Orientation of the root in the world, xyzw, (..., T, 4); heading 0 at the first frame.
    """

    root_height: Tensor
    projected_gravity: Tensor
    root_lin_vel_h: Tensor
    root_yaw_rate: Tensor
    root_pos_w: Tensor
    root_quat_w: Tensor


class StanceRoot:
    """Tells the root's motion from joint angles by the kinematics of the stance foot.

    Args:
        robot: Robot whose joint order the angles have.
        device: Device of the joint angles to come.
        dtype: Float type of the joint angles to come.
        joint_names: Order of the joint angles to come; the robot's own by default.
    """

    def __init__(
        self,
        robot: Robot,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        joint_names: Sequence[str] | None = None,
    ) -> None:
        self._feet = FootKinematics(robot, device, dtype)
        self._columns: Tensor | None = None  # Of the given joints, in the robot's order.
        if joint_names is not None:
            _, self._columns = match_joints(joint_names, robot.joint_names, (), torch.device(device or "cpu"))

    def __call__(self, dof_pos: Tensor, fps: float, projected_gravity: Tensor | None = None) -> RootMotion:
        """Motion of the root.

        Args:
            dof_pos: Joint angles in the order of `joint_names` [rad], (..., T, num_joints) with T >= 2.
            fps: Frames a second.
            projected_gravity: Gravity in the base frame where it is known, (..., T, 3); told by the soles if not given.

        Returns:
            Height, tilt, velocities and world pose of every frame.

        Raises:
            ValueError: There are fewer than two frames, or joints of another number than the robot's.
        """
        if dof_pos.shape[-2] < 2:
            raise ValueError(f"the stance foot tells a velocity from at least 2 frames, got {dof_pos.shape[-2]}")
        if self._columns is not None:
            dof_pos = dof_pos[..., self._columns]
        leading = dof_pos.shape[:-2]
        points_b = self._feet(dof_pos.reshape(-1, *dof_pos.shape[-2:]))  # (N, T, 2, 4, 3)
        if projected_gravity is None:
            gravity = _gravity_from_flat_soles(points_b, fps)
        else:
            gravity = functional.normalize(projected_gravity.reshape(-1, *projected_gravity.shape[-2:]), dim=-1)
        level = torch.zeros_like(gravity[..., 0])  # (N, T)
        tilt = quat_from_gravity_and_yaw(gravity, level)[:, :, None, :]
        points_h = quat_rotate(tilt.expand(-1, -1, 8, -1), points_b.flatten(2, 3))  # (N, T, 8, 3)
        height = self._feet.radius - points_h[..., 2].amin(dim=-1)  # (N, T)

        step, turn = _steps_between_frames(
            points_h, fps
        )  # (N, T - 1, 2) in the first frame's heading frame, (N, T - 1)
        yaw = functional.pad(torch.cumsum(turn, dim=-1), (1, 0))
        path = functional.pad(torch.cumsum(_turned(step, yaw[:, :-1]), dim=1), (0, 0, 1, 0))  # (N, T, 2)
        position = torch.cat((path, height.unsqueeze(-1)), dim=-1)
        velocity = _turned(_time_derivative(position, fps)[..., :2], -yaw)
        vertical = _time_derivative(height.unsqueeze(-1), fps)
        yaw_rate = _time_derivative(yaw.unsqueeze(-1), fps)
        orientation = quat_from_gravity_and_yaw(gravity, yaw)
        parts = (
            height.unsqueeze(-1),
            gravity,
            torch.cat((velocity, vertical), dim=-1),
            yaw_rate,
            position,
            orientation,
        )
        return RootMotion(*(part.reshape(*leading, *part.shape[1:]) for part in parts))

    def complete(self, states: Tensor, layout: StateLayout, fps: float) -> Tensor:
        """Motion states with root channels from states that lack them.

        Args:
            states: States in the joint order of `joint_names`, (..., T, layout.size).
            layout: Channels of the states; root channels that are there are replaced, but for `projected_gravity`.
            fps: Frames a second.

        Returns:
            States in the order of `StateLayout.with_root`, (..., T, size).
        """
        parts = layout.split(states)
        root = self(parts["dof_pos"], fps, parts.get("projected_gravity"))
        parts.update(
            root_height=root.root_height,
            projected_gravity=root.projected_gravity,
            root_lin_vel_h=root.root_lin_vel_h,
            root_yaw_rate=root.root_yaw_rate,
        )
        return torch.cat([parts[name] for name in StateLayout.with_root(layout.num_joints)], dim=-1)


def _gravity_from_flat_soles(points_b: Tensor, fps: float) -> Tensor:
    """Gravity in the base frame (N, T, 3) from sole points in the base frame (N, T, 2, 4, 3).

    A sole counts the more the lower it lies and the slower it turns; the average over TILT_TIME then bridges the times
    in which both feet roll.
    """
    heel_left, heel_right, toe_left, toe_right = points_b.unbind(dim=-2)
    forward = toe_left + toe_right - heel_left - heel_right
    leftward = heel_left + toe_left - heel_right - toe_right
    normals = functional.normalize(torch.linalg.cross(forward, leftward, dim=-1), dim=-1)  # (N, T, 2, 3)
    turn_rate = _time_derivative(normals.flatten(-2), fps).unflatten(-1, (2, 3)).norm(dim=-1)
    flatness = torch.exp(-((turn_rate / SOLE_TURN_RATE) ** 2))  # (N, T, 2)
    base_up = points_b.new_tensor([0.0, 0.0, 1.0])
    up = base_up.expand(*points_b.shape[:2], 3)
    for _ in range(2):  # Which foot is lower depends on the tilt: first of an upright base, then of the found one.
        lowest = (points_b * up[:, :, None, None, :]).sum(dim=-1).amin(dim=-1)  # (N, T, 2)
        weight = torch.softmax(-lowest / LOWER_FOOT_DEPTH, dim=-1) * flatness
        total = (weight.unsqueeze(-1) * normals).sum(dim=2) + UPRIGHT_WEIGHT * base_up
        up = functional.normalize(_gaussian_average(total, TILT_TIME * fps), dim=-1)
    return -up


def _steps_between_frames(points_h: Tensor, fps: float) -> tuple[Tensor, Tensor]:
    """Horizontal motion of the root from each frame to the next for which the contacts stay where they are.

    With p and p' the contacts relative to the root in two frames, step and turn minimise
    sum w |p - (step + R(turn) p')|^2, the rigid motion of two weighted point sets in the plane (B. K. P. Horn,
    "Closed-form solution of absolute orientation", J. Opt. Soc. Am. A 1987, in two dimensions).

    Args:
        points_h: Sole points relative to the root in the heading frame [m], (N, T, num_points, 3).
        fps: Frames a second.

    Returns:
        Step in the heading frame of the earlier frame [m], (N, T - 1, 2), and turn [rad], (N, T - 1).
    """
    before, after = points_h[:, :-1], points_h[:, 1:]
    height = points_h[..., 2] - points_h[..., 2].amin(dim=-1, keepdim=True)
    height_of_step = torch.maximum(height[:, :-1], height[:, 1:])
    vertical_speed = torch.diff(height, dim=1) * fps
    contact = torch.exp(-((height_of_step / CONTACT_DEPTH) ** 2) - (vertical_speed / CONTACT_VERTICAL_SPEED) ** 2)
    motion, carried, confidence = _carried_motion(before, after, contact, SLIDING[0][1] * fps)
    for slip, time in SLIDING:
        # Points that slide under the carried motion are no contacts: a toe that swings low, a foot about to land.
        unmoved = carried[..., None, :2] + _turned(after[..., :2], carried[..., 2:])
        slide = (before[..., :2] - unmoved).norm(dim=-1) * fps  # (N, T - 1, num_points)
        weight = contact / (1.0 + (slide / slip) ** 2) ** 2
        motion, carried, confidence = _carried_motion(before, after, weight, time * fps)
    share = confidence**2 / (confidence**2 + CARRIED_CONTACT**2)
    motion = share * motion + (1.0 - share) * carried
    return motion[..., :2], motion[..., 2]


def _carried_motion(before: Tensor, after: Tensor, weight: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Step and turn (N, T, 3) of each pair of frames, their average over `sigma` frames, and the contact (N, T, 1)."""
    motion = _rigid_step(before, after, weight)
    confidence = weight.sum(dim=-1, keepdim=True)
    total = _gaussian_average(torch.cat((confidence * motion, confidence), dim=-1), sigma)
    return motion, total[..., :3] / total[..., 3:].clamp(min=1e-9), confidence


def _rigid_step(before: Tensor, after: Tensor, weight: Tensor) -> Tensor:
    """Step x, y and turn (N, T, 3) that bring weighted points `after` onto `before`, (N, T, num_points, 3)."""
    share = (weight / weight.sum(dim=-1, keepdim=True).clamp(min=1e-9)).unsqueeze(-1)
    centre_before, centre_after = ((share * points[..., :2]).sum(dim=2) for points in (before, after))
    a = before[..., :2] - centre_before.unsqueeze(2)
    b = after[..., :2] - centre_after.unsqueeze(2)
    cross = (share.squeeze(-1) * (b[..., 0] * a[..., 1] - b[..., 1] * a[..., 0])).sum(dim=-1)
    dot = (share.squeeze(-1) * (b * a).sum(dim=-1)).sum(dim=-1)
    turn = torch.atan2(cross, dot.clamp(min=1e-9))
    return torch.cat((centre_before - _turned(centre_after, turn), turn.unsqueeze(-1)), dim=-1)


def _turned(vectors: Tensor, angle: Tensor) -> Tensor:
    """Horizontal vectors (..., 2) turned by angles that broadcast to (...)."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = vectors.unbind(dim=-1)
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1)


def _time_derivative(values: Tensor, fps: float) -> Tensor:
    """Central differences along the frames of (N, T, C), one-sided at the two ends."""
    inner = 0.5 * fps * (values[:, 2:] - values[:, :-2])
    ends = [fps * (values[:, 1:2] - values[:, :1]), fps * (values[:, -1:] - values[:, -2:-1])]
    return torch.cat((ends[0], inner, ends[1]), dim=1)


def _gaussian_average(values: Tensor, sigma: float) -> Tensor:
    """Values (N, T, C) averaged over frames by a Gaussian of `sigma` frames; the ends count for what is beyond them."""
    reach = max(1, math.ceil(3.0 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
    kernel = torch.softmax(-0.5 * (offsets / sigma) ** 2, dim=0)
    num_clips, num_frames, num_columns = values.shape
    rows = functional.pad(values.transpose(1, 2), (reach, reach), mode="replicate").reshape(
        -1, 1, num_frames + 2 * reach
    )
    averaged = functional.conv1d(rows, kernel[None, None])
    return averaged.reshape(num_clips, num_columns, num_frames).transpose(1, 2)
