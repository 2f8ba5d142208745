"""Reference motion as readers see it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch


@dataclass
class MotionFrames:
    """Reference motion at one or more times; (...) is (num_envs,) or (num_envs, num_steps).

    Attributes:
        dof_pos: Joint angles (..., num_joints) [rad].
        dof_vel: Joint velocities (..., num_joints) [rad/s].
        root_pos_w: Position of the root's origin in the world (..., 3) [m].
        root_quat_w: Orientation of the root in the world, xyzw, (..., 4).
        root_lin_vel_w: Velocity of the root's origin in the world (..., 3) [m/s].
        root_ang_vel_w: Angular velocity of the root in the world (..., 3) [rad/s].
    """

    dof_pos: torch.Tensor
    dof_vel: torch.Tensor
    root_pos_w: torch.Tensor
    root_quat_w: torch.Tensor
    root_lin_vel_w: torch.Tensor
    root_ang_vel_w: torch.Tensor

    def select(self, index: Any) -> MotionFrames:
        """All fields at an index of tensors: the rows of some environments, or ``(slice(None), steps)``."""
        return MotionFrames(**{field.name: getattr(self, field.name)[index] for field in fields(self)})
