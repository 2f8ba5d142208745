"""What to tell a controller so that its robot does what it is told: offsets on commands, measured beforehand."""

from __future__ import annotations

import math
from typing import Any, Mapping, Sequence

import torch
from torch import Tensor, nn

from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY_CHANNELS
from cmg_ref.core.shorten import shortened

MAX_NODES = 64  # of a channel
STEPS = 10_000  # of an offset to a m/s or rad/s


class CommandCalibration(nn.Module):
    """Offsets on the velocities of a command, linear between the nodes of a grid; beyond it those of its border.

    A controller that learnt to stay up under blows and on slippery ground errs in a way that depends on the command
    alone: it walks to the side by two thirds of what it is told, say. What it must be told instead is measured once.

    Args:
        nodes: Values of vx, vy [m/s] and yaw rate [rad/s] that the grid has, each rising and with 0 among them.
        offsets: What is added to a command at each node, (num_vx, num_vy, num_wz, 3); none at 0, 0, 0.

    Raises:
        ValueError: The nodes are no grid, or the offsets do not fit them.
    """

    offsets: Tensor

    def __init__(self, nodes: Sequence[Sequence[float]], offsets: Tensor) -> None:
        super().__init__()
        if len(nodes) != NUM_VELOCITIES:
            raise ValueError(f"a calibration has nodes for {NUM_VELOCITIES} velocities, got {len(nodes)}")
        for channel, values in zip(VELOCITY_CHANNELS, nodes):
            rising = all(low < high for low, high in zip(values, values[1:]))
            if not 2 <= len(values) <= MAX_NODES or not rising or 0.0 not in values:
                raise ValueError(f"nodes of {channel.name} must rise and have 0 among them, got {shortened(values)}")
        shape = (*map(len, nodes), NUM_VELOCITIES)
        if tuple(offsets.shape) != shape:
            raise ValueError(f"a calibration of {shape[:-1]} nodes has offsets {shape}, got {tuple(offsets.shape)}")
        if not bool(offsets.isfinite().all()):
            raise ValueError("an offset of a calibration is not a finite number")
        if bool(offsets[tuple(list(values).index(0.0) for values in nodes)].any()):
            raise ValueError("a calibration must leave the command to stand as it is")
        self.nodes = tuple(tuple(float(value) for value in values) for values in nodes)
        self.register_buffer("offsets", offsets.float())
        for column, values in enumerate(self.nodes):
            grid = torch.tensor(values)
            self.register_buffer(f"_start_{column}", grid[:-1], persistent=False)
            self.register_buffer(f"_width_{column}", grid[1:] - grid[:-1], persistent=False)

    def forward(self, commands: Tensor) -> Tensor:
        """What to tell the controller, (n, command_dim), for commands (n, command_dim) that a robot shall obey."""
        weights = torch.ones_like(commands[:, :1])
        for column in range(NUM_VELOCITIES):
            start, width = getattr(self, f"_start_{column}"), getattr(self, f"_width_{column}")
            passed = ((commands[:, column : column + 1] - start) / width).clamp(0.0, 1.0)
            # The share of a node: how far the way to it has been gone, less how far the way on from it.
            ends = torch.ones_like(passed[:, :1])
            shares = torch.cat((ends, passed), dim=1) - torch.cat((passed, torch.zeros_like(ends)), dim=1)
            weights = (weights.unsqueeze(2) * shares.unsqueeze(1)).flatten(1)
        # Whole ten-thousandths, so that a command that stays is the same to the last digit whoever works it out.
        offset = (STEPS * (weights @ self.offsets.flatten(0, NUM_VELOCITIES - 1))).round() / STEPS
        return commands + nn.functional.pad(offset, (0, commands.shape[1] - NUM_VELOCITIES))

    def to_json(self) -> dict[str, Any]:
        """As JSON has it, which `from_json` takes."""
        return {
            **{channel.name: list(values) for channel, values in zip(VELOCITY_CHANNELS, self.nodes)},
            "offsets": [[round(value, 4) for value in row] for row in self.offsets.flatten(0, -2).tolist()],
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> CommandCalibration:
        """The calibration that `to_json` gave; raises ValueError if it is none."""
        try:
            nodes = [[float(value) for value in fields[channel.name]] for channel in VELOCITY_CHANNELS]
            shape = tuple(map(len, nodes))
            if max(shape) > MAX_NODES:
                raise ValueError(f"a calibration of {shape} nodes")
            offsets = torch.tensor(fields["offsets"], dtype=torch.float32)
            if offsets.shape != (math.prod(shape), NUM_VELOCITIES):
                raise ValueError(f"it has {shape} nodes and offsets {tuple(offsets.shape)}")
            return cls(nodes, offsets.reshape(*shape, NUM_VELOCITIES))
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"no calibration: {shortened(str(error))}") from error
