"""What to tell a controller so that its robot does what it is told: offsets on commands, measured beforehand."""

from __future__ import annotations

import math
from typing import Any, Mapping, Sequence

import torch
from torch import Tensor, nn

from cmg_ref.core.command_layout import FURTHER_CHANNELS, HEIGHT, NUM_VELOCITIES, VELOCITY, VELOCITY_CHANNELS
from cmg_ref.core.shorten import shortened

MAX_NODES = 64  # of a channel
STEPS = 10_000  # of an offset to a m/s or rad/s or m
NATURAL_HEIGHT = FURTHER_CHANNELS[HEIGHT].rest


class HeightCalibration(nn.Module):
    """Offsets on the height of the base that a command asks for, linear between the nodes of a grid.

    They depend on the height and on the speed, the largest of the amounts of vx, vy [m/s] and yaw rate [rad/s]: a robot
    that stands errs by something else than one that walks or turns.

    Args:
        heights: Heights that the grid has [m], rising; `NATURAL_HEIGHT`, which asks for none, is among them.
        speeds: Speeds that it has, rising, with 0 among them.
        offsets: What is added to the height at each node [m], (num_heights, num_speeds); none at `NATURAL_HEIGHT`.

    Raises:
        ValueError: The nodes are no grid, or the offsets do not fit them.
    """

    offsets: Tensor
    _heights: Tensor
    _speeds: Tensor

    def __init__(self, heights: Sequence[float], speeds: Sequence[float], offsets: Tensor) -> None:
        super().__init__()
        _check_nodes(HEIGHT, heights, NATURAL_HEIGHT)
        _check_nodes("speeds", speeds, 0.0)
        if tuple(offsets.shape) != (len(heights), len(speeds)):
            raise ValueError(
                f"{len(heights)} heights and {len(speeds)} speeds have as many offsets, got {tuple(offsets.shape)}"
            )
        if not bool(offsets.isfinite().all()):
            raise ValueError("an offset of a height is not a finite number")
        if bool(offsets[list(heights).index(NATURAL_HEIGHT)].any()):
            raise ValueError("a calibration must leave the natural height as it is")
        self.heights, self.speeds = (tuple(map(float, values)) for values in (heights, speeds))
        self.register_buffer("offsets", offsets.float())
        self.register_buffer("_heights", torch.tensor(self.heights), persistent=False)
        self.register_buffer("_speeds", torch.tensor(self.speeds), persistent=False)

    def forward(self, commands: Tensor) -> Tensor:
        """What to add to the heights of commands (n, command_dim) [m], (n, 1)."""
        speed = commands[:, VELOCITY].abs().amax(dim=1, keepdim=True)
        at_speeds = _node_shares(commands[:, NUM_VELOCITIES : NUM_VELOCITIES + 1], self._heights) @ self.offsets
        return _rounded((at_speeds * _node_shares(speed, self._speeds)).sum(dim=1, keepdim=True))

    def to_json(self) -> dict[str, Any]:
        """As JSON has it, which `from_json` takes."""
        return {"heights": list(self.heights), "speeds": list(self.speeds), "offsets": _written(self.offsets)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> HeightCalibration:
        """The calibration that `to_json` gave; raises an error if it is none."""
        heights, speeds = ([float(value) for value in fields[name]] for name in ("heights", "speeds"))
        return cls(heights, speeds, torch.tensor(fields["offsets"], dtype=torch.float32))


class CommandCalibration(nn.Module):
    """Offsets on the velocities of a command, linear between the nodes of a grid; beyond it those of its border.

    A controller that learnt to stay up under blows and on slippery ground errs in a way that depends on the command
    alone: it walks to the side by two thirds of what it is told, say. What it must be told instead is measured once.

    Args:
        nodes: Values of vx, vy [m/s] and yaw rate [rad/s] that the grid has, each rising and with 0 among them.
        offsets: What is added to a command at each node, (num_vx, num_vy, num_wz, 3); none at 0, 0, 0.
        height: Offsets on the height of commands that have one; None leaves it as it is.

    Raises:
        ValueError: The nodes are no grid, or the offsets do not fit them.
    """

    offsets: Tensor

    def __init__(
        self, nodes: Sequence[Sequence[float]], offsets: Tensor, height: HeightCalibration | None = None
    ) -> None:
        super().__init__()
        self.height = height
        if len(nodes) != NUM_VELOCITIES:
            raise ValueError(f"a calibration has nodes for {NUM_VELOCITIES} velocities, got {len(nodes)}")
        for channel, values in zip(VELOCITY_CHANNELS, nodes):
            _check_nodes(channel.name, values, 0.0)
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
            self.register_buffer(f"_grid_{column}", grid, persistent=False)

    def forward(self, commands: Tensor) -> Tensor:
        """What to tell the controller, (n, command_dim), for commands (n, command_dim) that a robot shall obey."""
        weights = torch.ones_like(commands[:, :1])
        for column in range(NUM_VELOCITIES):
            shares = _node_shares(commands[:, column : column + 1], getattr(self, f"_grid_{column}"))
            weights = (weights.unsqueeze(2) * shares.unsqueeze(1)).flatten(1)
        offset = _rounded(weights @ self.offsets.flatten(0, NUM_VELOCITIES - 1))
        num_further = commands.shape[1] - NUM_VELOCITIES
        if self.height is not None and num_further > 0:
            offset, num_further = torch.cat((offset, self.height(commands)), dim=1), num_further - 1
        return commands + nn.functional.pad(offset, (0, num_further))

    def to_json(self) -> dict[str, Any]:
        """As JSON has it, which `from_json` takes."""
        return {
            **{channel.name: list(values) for channel, values in zip(VELOCITY_CHANNELS, self.nodes)},
            "offsets": _written(self.offsets.flatten(0, -2)),
            **({} if self.height is None else {HEIGHT: self.height.to_json()}),
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
            height = HeightCalibration.from_json(fields[HEIGHT]) if HEIGHT in fields else None
            return cls(nodes, offsets.reshape(*shape, NUM_VELOCITIES), height)
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"no calibration: {shortened(str(error))}") from error


def _check_nodes(name: str, values: Sequence[float], neutral: float) -> None:
    """Raise a ValueError unless values are a few that rise, with the one that asks for nothing among them."""
    rising = all(low < high for low, high in zip(values, values[1:]))
    if not 2 <= len(values) <= MAX_NODES or not rising or neutral not in values:
        raise ValueError(f"nodes of {name} must rise and have {neutral:g} among them, got {shortened(values)}")


def _node_shares(values: Tensor, grid: Tensor) -> Tensor:
    """Shares of nodes (num_nodes,) in what is linear between them, (n, num_nodes), for values (n, 1)."""
    passed = ((values - grid[:-1]) / (grid[1:] - grid[:-1])).clamp(0.0, 1.0)
    # The share of a node: how far the way to it has been gone, less how far the way on from it.
    ends = torch.ones_like(passed[:, :1])
    return torch.cat((ends, passed), dim=1) - torch.cat((passed, torch.zeros_like(ends)), dim=1)


def _rounded(offsets: Tensor) -> Tensor:
    """Whole ten-thousandths, so that a command that stays is the same to the last digit whoever works it out."""
    return (STEPS * offsets).round() / STEPS


def _written(offsets: Tensor) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in offsets.tolist()]
