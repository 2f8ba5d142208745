"""Motion of the soles over the floor, told from a motion state by exact kinematics."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cmg_ref.core.state_layout import StateLayout
from cmg_ref.robots.kinematics import FootKinematics
from cmg_ref.robots.robot import Robot

CONTACT_DEPTH = 0.02  # [m] points this much above the lowest one carry no weight
RISING_SPEED = 0.3  # [m/s] points that rise or sink this fast carry no weight: they land, lift off or roll
FLIGHT_HEIGHT = (0.03, 0.08)  # [m] height of the lowest point at which contact begins to be doubted and is ruled out


def tilt_matrix(projected_gravity: torch.Tensor) -> torch.Tensor:
    """Rotation from the base frame to the heading frame, (..., 3, 3), from gravity in the base frame (..., 3).

    The rotation is ``Ry(pitch) Rx(roll)``; its third row, the vertical in the base frame, is minus gravity.
    """
    up = torch.nn.functional.normalize(-projected_gravity, dim=-1)
    sin_pitch = -up[..., 0]
    cos_pitch = torch.sqrt(torch.clamp(1.0 - sin_pitch**2, min=1e-6))
    sin_roll, cos_roll = up[..., 1] / cos_pitch, up[..., 2] / cos_pitch
    zero = torch.zeros_like(sin_roll)
    row_x = torch.stack((cos_pitch, sin_pitch * sin_roll, sin_pitch * cos_roll), dim=-1)
    row_y = torch.stack((zero, cos_roll, -sin_roll), dim=-1)
    return torch.stack((row_x, row_y, up), dim=-2)


@dataclass
class FootMotion:
    """Motion of the sole points of both feet.

    Attributes:
        position_h: in the heading frame, relative to the root, (..., T, 2, 4, 3) [m].
        height: of the lowest part of each point's sphere above the floor, (..., T, 2, 4) [m].
        velocity_h: horizontal velocity over the floor between frames t and t + 1, (..., T - 1, 2, 4, 2) [m/s].
        contact: weight of each point as a contact between frames t and t + 1, (..., T - 1, 2, 4), 0 to 1; no gradient.
    """

    position_h: torch.Tensor
    height: torch.Tensor
    velocity_h: torch.Tensor
    contact: torch.Tensor

    def slip(self, average_frames: int = 1) -> torch.Tensor:
        """Speed of the points in contact over the floor; 0 where nothing touches the floor.

        Args:
            average_frames: frames over which a point must stay in contact and its velocity is averaged. As a loss, the
                velocity between two frames is stiff: it drives the motion to tremble.

        Returns:
            (..., T - average_frames) [m/s].
        """
        velocity = self.velocity_h.unfold(-4, average_frames, 1).mean(dim=-1)
        contact = self.contact.unfold(-3, average_frames, 1).amin(dim=-1)
        speed = torch.sqrt((velocity**2).sum(dim=-1) + 1e-8)
        return (speed * contact).sum(dim=(-2, -1)) / contact.sum(dim=(-2, -1)).clamp(min=1.0)


class FootContact:
    """Computes :class:`FootMotion` from motion states.

    Args:
        robot: robot description; its joints are in the order of the state's.
        layout: channels of the state, root channels included.
        fps: frames a second of the states.
        device: device of the states.
    """

    def __init__(self, robot: Robot, layout: StateLayout, fps: float, device: torch.device | None = None) -> None:
        self.layout = layout
        self.fps = fps
        self.radius = float(robot.foot_radius)
        self.foot_kinematics = FootKinematics(robot, device=device, dtype=torch.float32)

    def __call__(self, states: torch.Tensor) -> FootMotion:
        """Foot motion of ``states`` (..., T, state_dim) with T >= 2."""
        parts = self.layout.split(states)
        points_b = self.foot_kinematics(parts["dof_pos"])  # (..., T, 2, 4, 3)
        tilt = tilt_matrix(parts["projected_gravity"])[..., None, None, :, :]
        position_h = (tilt @ points_b.unsqueeze(-1)).squeeze(-1)
        height = position_h[..., 2] + parts["root_height"].unsqueeze(-1) - self.radius
        middle, step = _middle_and_step(position_h[..., :2], axis=-4)
        velocity = _middle_and_step(parts["root_lin_vel_h"][..., :2], axis=-2)[0][..., None, None, :]
        yaw_rate = _middle_and_step(parts["root_yaw_rate"], axis=-2)[0][..., None, None, :]
        turning = yaw_rate * torch.stack((-middle[..., 1], middle[..., 0]), dim=-1)
        velocity_h = step * self.fps + velocity + turning
        return FootMotion(position_h, height, velocity_h, self._contact(height.detach(), self.fps))

    @staticmethod
    def _contact(height: torch.Tensor, fps: float) -> torch.Tensor:
        """Contact weight of each point between successive frames, from heights (..., T, 2, 4)."""
        rising = (height[..., 1:, :, :] - height[..., :-1, :, :]).abs() * fps
        height = torch.maximum(height[..., 1:, :, :], height[..., :-1, :, :])
        lowest = height.amin(dim=(-2, -1), keepdim=True)
        near = (1.0 - (height - lowest) / CONTACT_DEPTH).clamp(0.0, 1.0)
        start, end = FLIGHT_HEIGHT
        near = near * (1.0 - rising / RISING_SPEED).clamp(min=0.0)
        return near * (1.0 - (lowest - start) / (end - start)).clamp(0.0, 1.0)


def _middle_and_step(values: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and difference of successive frames along the time axis."""
    count = values.shape[axis] - 1
    before, after = values.narrow(axis, 0, count), values.narrow(axis, 1, count)
    return 0.5 * (before + after), after - before
