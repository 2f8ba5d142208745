"""Left-right mirroring of motion states and commands: the x-z plane of the heading frame is the mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from cmg_ref.core.command_layout import CommandLayout
    from cmg_ref.core.state_layout import StateLayout
    from cmg_ref.robots.robot import Robot

ROOT_SIGNS = {
    "root_height": (1.0,),
    "projected_gravity": (1.0, -1.0, 1.0),
    "root_lin_vel_h": (1.0, -1.0, 1.0),
    "root_yaw_rate": (-1.0,),
    "gait_phase": (-1.0, -1.0),
}


def mirror_columns(layout: StateLayout, robot: Robot) -> tuple[torch.Tensor, torch.Tensor]:
    """How to mirror a state: mirrored = sign * state[..., index].

    Args:
        layout: Layout of the state, whose joints are in the robot's order.
        robot: Tells which joints are each other's mirror image.

    Returns:
        index, long, and sign, float32, both (layout.size,).
    """
    index = torch.arange(layout.size)
    sign = torch.ones(layout.size)
    for channel in layout:
        columns = layout[channel]
        if channel in ("dof_pos", "dof_vel"):
            index[columns] = columns.start + robot.mirror_index.cpu()
            sign[columns] = robot.mirror_sign.to("cpu", torch.float32)
        else:
            sign[columns] = torch.tensor(ROOT_SIGNS[channel])
    return index, sign


def mirror_states(states: torch.Tensor, layout: StateLayout, robot: Robot) -> torch.Tensor:
    """Motion states (..., layout.size) as seen in a mirror."""
    index, sign = mirror_columns(layout, robot)
    return states[..., index.to(states.device)] * sign.to(states)


def mirror_commands(commands: torch.Tensor, layout: CommandLayout) -> torch.Tensor:
    """Commands (..., layout.size) as seen in a mirror."""
    return commands * torch.tensor(layout.mirror, dtype=commands.dtype, device=commands.device)
