"""Commands corrected by what has been missed of them, so that a motion gets to where it is sent.

A CMG misses a velocity by a few centimetres or hundredths of a radian a second, mostly to the same side. Within a
stride nobody sees that; within a minute of walking straight on it is a quarter of a turn. What has been missed since a
command is in force is therefore summed up and told along with it, as the integral part of a controller does.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from cmg_ref.core.command_layout import NUM_VELOCITIES, told_to_stand
from cmg_ref.network.model import CMG

GAIN = (0.5, 0.7, 1.0)
"""What is told additionally of a drift in vx, vy and yaw rate [1/s]."""
LARGEST_DRIFT = (0.15, 0.15, 0.3)
"""Drift beyond this is forgotten [m, m, rad]: somebody who has started late need not catch up."""


class DriftFeedback(nn.Module):
    """Tells a CMG along with each command what it has missed of it.

    What it remembers of a motion are the command of the last frame and how far the motion has drifted from what it was
    told, (num_motions, command_dim + 3): in its heading since it began or stood, in its place since the command came
    into force. Where a motion is told to stand there is no drift.

    Args:
        model: The CMG, with root channels.
    """

    command_range: torch.Tensor
    gain: torch.Tensor
    largest: torch.Tensor

    def __init__(self, model: CMG) -> None:
        super().__init__()
        layout = model.layout
        self.register_buffer("command_range", torch.stack((model.command_min, model.command_max)))
        self.register_buffer("gain", torch.tensor(GAIN, device=model.command_min.device))
        self.register_buffer("largest", torch.tensor(LARGEST_DRIFT, device=model.command_min.device))
        self.dt = 1.0 / model.fps
        forward = layout["root_lin_vel_h"].start
        self.columns = (forward, forward + 1, layout["root_yaw_rate"].start)
        self.command_dim = model.command_layout.size
        self.memory_dim = self.command_dim + NUM_VELOCITIES

    def memory(self, num: int) -> torch.Tensor:
        """What is remembered of motions that begin, (num, memory_dim)."""
        return self.gain.new_zeros(num, self.memory_dim)

    def told_otherwise(self, drift: torch.Tensor) -> torch.Tensor:
        """What is remembered of motions with a drift (n, 3) that are told something else from now on."""
        return torch.cat((drift.new_full((len(drift), self.command_dim), math.nan), drift), dim=1)

    def correct(self, command: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What to tell the CMG.

        Args:
            command: Command in force, (n, command_dim).
            memory: What is remembered, (n, memory_dim).

        Returns:
            Commands to tell, inside the trained range, (n, command_dim), and what is remembered now.
        """
        low, high = self.command_range.unbind(dim=0)
        command = torch.minimum(torch.maximum(command, low), high)
        last, drift = memory.split((self.command_dim, NUM_VELOCITIES), dim=1)
        goes, holds = ~told_to_stand(command), (command == last).all(dim=1)
        counts = torch.stack((goes & holds, goes & holds, goes), dim=1)
        drift = torch.where(counts, drift, torch.zeros_like(drift))
        corrected = command[:, :NUM_VELOCITIES] - self.gain * drift
        told = torch.cat((corrected, command[:, NUM_VELOCITIES:]), dim=1)
        return torch.minimum(torch.maximum(told, low), high), torch.cat((command, drift), dim=1)

    def follow(self, following: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """What is remembered after a frame.

        Args:
            following: The states that were made, (n, state_dim).
            memory: What :meth:`correct` gave, (n, memory_dim).
        """
        command, drift = memory.split((self.command_dim, NUM_VELOCITIES), dim=1)
        velocity = torch.stack([following[:, column] for column in self.columns], dim=1)
        drift = drift + self.dt * (velocity - command[:, :NUM_VELOCITIES])
        drift[:, 1] += self.dt * memory[:, -1] * velocity[:, 0]  # Who faces elsewhere by now goes elsewhere, too.
        return torch.cat((command, torch.minimum(torch.maximum(drift, -self.largest), self.largest)), dim=1)
