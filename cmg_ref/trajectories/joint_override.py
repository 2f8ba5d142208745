"""Joints that somebody else drives, such as the arms of a teleoperated robot, in place of the generated motion."""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

import torch
from torch import Tensor

from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.core.shorten import shortened
from cmg_ref.robots.robot import Robot


class JointOverride:
    """Angles and velocities that are shown instead of those generated.

    Args:
        num_envs: Number of environments.
        joint_names: Joints in the order of what is shown.
        robot: Robot description, which tells limits and which joints carry the feet.
        device: Device of everything.
    """

    def __init__(self, num_envs: int, joint_names: Sequence[str], robot: Robot, device: torch.device) -> None:
        self._joint_names, self._robot, self._device = tuple(joint_names), robot, device
        self._driven = torch.zeros(num_envs, len(joint_names), dtype=torch.bool, device=device)
        self._dof_pos = torch.zeros(num_envs, len(joint_names), device=device)
        self._dof_vel = torch.zeros_like(self._dof_pos)

    def columns(self, names: Sequence[str]) -> Tensor:
        """Columns of joints, (len(names),).

        Raises:
            ValueError: A joint is unknown, is named twice, or is one of a leg.
        """
        legs = self._robot.joints_towards(self._robot.foot_bodies)
        for number, name in enumerate(names):
            if name not in self._joint_names:
                raise ValueError(f"override: there is no joint {shortened(name)}")
            if name in legs:
                raise ValueError(f"override: the joint '{name}' carries a foot; the legs are the generator's")
            if name in names[:number]:
                raise ValueError(f"override: the joint '{name}' is named twice")
        return torch.tensor([self._joint_names.index(name) for name in names], dtype=torch.long, device=self._device)

    def drive(self, rows: Tensor, columns: Tensor, positions: Tensor, velocities: Tensor) -> None:
        """Show these angles and velocities, (n, num_columns) each, of environments (n,); angles are held in limits."""
        limits = self._robot.joint_index([self._joint_names[column] for column in columns.tolist()])
        lower, upper = (ends[limits].to(positions) for ends in (self._robot.joint_lower, self._robot.joint_upper))
        at = rows.unsqueeze(1), columns
        self._driven[at] = True
        self._dof_pos[at] = torch.minimum(torch.maximum(positions, lower), upper)
        self._dof_vel[at] = velocities

    def release(self, rows: Tensor) -> None:
        """Show what is generated again in environments (n,)."""
        self._driven[rows] = False

    def joints(self, dof_pos: Tensor, dof_vel: Tensor) -> tuple[Tensor, Tensor]:
        """Joint angles and velocities (num_envs, ..., num_joints) as they are shown."""
        return self.positions(dof_pos), self._put(self._dof_vel, dof_vel)

    def positions(self, dof_pos: Tensor) -> Tensor:
        """Joint angles (num_envs, ..., num_joints) as they are shown."""
        return self._put(self._dof_pos, dof_pos)

    def frames(self, frames: MotionFrames) -> MotionFrames:
        """Frames (num_envs, ...) as they are shown."""
        dof_pos, dof_vel = self.joints(frames.dof_pos, frames.dof_vel)
        return replace(frames, dof_pos=dof_pos, dof_vel=dof_vel)

    def _put(self, values: Tensor, generated: Tensor) -> Tensor:
        shape = (len(values), *[1] * (generated.ndim - 2), values.shape[1])
        return torch.where(self._driven.view(shape), values.view(shape), generated)
