"""Normalisation, units of change and guard range, measured on the training windows."""

from __future__ import annotations

from typing import Sequence

import torch

from cmg_ref.core.state_layout import StateLayout
from cmg_ref.network.model import CMG
from cmg_ref.robots.robot import Robot
from cmg_ref.training.window_sampler import WindowSampler

# Joints that hardly move (wrists, waist roll) would otherwise weigh as much as the knees.
SMALLEST_STD: dict[str, float] = {
    "dof_pos": 0.05,
    "dof_vel": 0.3,
    "root_height": 0.01,
    "projected_gravity": 0.02,
    "root_lin_vel_h": 0.05,
    "root_yaw_rate": 0.1,
    "gait_phase": 0.1,
}
CHANNEL_WEIGHT: dict[str, float] = {
    "dof_pos": 1.0,
    "dof_vel": 0.35,
    "root_height": 2.0,
    "projected_gravity": 1.5,
    "root_lin_vel_h": 2.0,
    "root_yaw_rate": 1.0,
    "gait_phase": 4.0,
}
ACCELERATION_QUANTILE = 0.995
NUM_SAMPLES = 100_000


def set_statistics(
    model: CMG,
    sampler: WindowSampler,
    robot: Robot,
    command_min: Sequence[float],
    command_max: Sequence[float],
) -> torch.Tensor:
    """Fill the model's buffers from the sampler's windows, velocity-balanced and mirrored.

    The guard range is the range of all usable frames of the training clips, cut at the joint limits.

    Returns:
        Joint acceleration that 99.5 % of the frames stay below, (num_joints,) [rad/s^2].
    """
    layout = model.layout
    generator = torch.Generator().manual_seed(0)
    picks = torch.multinomial(sampler.probabilities, NUM_SAMPLES, replacement=True, generator=generator)
    offsets = torch.randint(sampler.length - 1, (len(picks),), generator=generator)
    frames = sampler.starts[picks] + offsets
    states, change = sampler.states[frames], sampler.states[frames + 1] - sampler.states[frames]
    smallest = per_column(layout, SMALLEST_STD)
    model.motion_mean.copy_(states.mean(dim=0))
    model.motion_std.copy_(torch.maximum(states.std(dim=0), smallest))
    model.change_std.copy_(torch.maximum(change.std(dim=0), 0.05 * smallest))
    model.command_min.copy_(torch.tensor(command_min))
    model.command_max.copy_(torch.tensor(command_max))
    model.state_min.copy_(sampler.states[sampler.valid].amin(dim=0))
    model.state_max.copy_(sampler.states[sampler.valid].amax(dim=0))
    dof_pos = layout["dof_pos"]
    model.state_min[dof_pos] = torch.maximum(model.state_min[dof_pos], robot.joint_lower.float())
    model.state_max[dof_pos] = torch.minimum(model.state_max[dof_pos], robot.joint_upper.float())
    acceleration = change[:, layout["dof_vel"]].abs() * model.fps
    return torch.quantile(acceleration, ACCELERATION_QUANTILE, dim=0)


def channel_weights(layout: StateLayout) -> torch.Tensor:
    """Weight of each column in the comparison with the recording, (state_dim,)."""
    return per_column(layout, CHANNEL_WEIGHT)


def per_column(layout: StateLayout, values: dict[str, float]) -> torch.Tensor:
    """A value per channel spread over its columns, (state_dim,)."""
    return torch.cat([torch.full((layout.sizes[name],), values[name]) for name in layout])
