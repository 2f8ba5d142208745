"""How people's feet move, by the kind of motion: what a roll-out's feet are held against, whenever they do it."""

from __future__ import annotations

from typing import NamedTuple

import torch

from cmg_ref.core.command_layout import VELOCITY
from cmg_ref.evaluation.foot_contact import FootContact, FootMotion
from cmg_ref.training.window_sampler import WindowSampler

STANDING, SLOW, WALKING, RUNNING = 0.05, 0.35, 0.8, 1.4
"""Fastest that counts as standing [m/s], as slow and as walking; from the last on it is a run."""
LIFTED, LIFTED_WITHIN = 0.02, 0.006
"""A foot has left the floor above the first [m], give or take the second."""
NUM_WINDOWS, NUM_QUANTILES = 3000, 256
FEWEST = 20
"""Fewer windows of a kind than this tell nothing."""


class FootFigures(NamedTuple):
    """The feet of one kind of motion.

    Attributes:
        heights: Quantiles of the height of a foot's lowest point [m], (NUM_QUANTILES,).
        speeds: Of the speed of a foot over the floor [m/s], (NUM_QUANTILES,).
        turns: How often a foot leaves the floor or comes down in a frame, on average.
    """

    heights: torch.Tensor
    speeds: torch.Tensor
    turns: torch.Tensor


def kinds(commands: torch.Tensor) -> torch.Tensor:
    """The kind of motion that commands (num_rows, frames, command_dim) are about, (num_rows,).

    Standing, backward, slow, walking, walking fast, running, to the side, turning on the spot: 0 to 7.
    """
    vx, vy, yaw_rate = commands[..., VELOCITY].mean(dim=1).unbind(dim=-1)
    kind = torch.bucketize(vx.contiguous(), torch.tensor([0.0, SLOW, WALKING, RUNNING], device=vx.device)) + 1
    kind = torch.where((vy.abs() > vx.abs()) & (vy.abs() > STANDING), 6, kind)
    turning = torch.where(yaw_rate.abs() < 2.0 * STANDING, 0, 7)
    return torch.where(torch.maximum(vx.abs(), vy.abs()) < STANDING, turning, kind)


def heights_and_speeds(feet: FootMotion) -> tuple[torch.Tensor, torch.Tensor]:
    """Height of each foot's lowest point [m] and speed of the foot [m/s], (num_rows, frames, 2) each."""
    speed = torch.sqrt((feet.velocity_h.mean(dim=-2) ** 2).sum(dim=-1) + 1e-6)
    return feet.height.amin(dim=-1), speed


def turns(height: torch.Tensor) -> torch.Tensor:
    """How often feet leave the floor or come down in a frame, (num_rows, 2), from heights (num_rows, frames, 2)."""
    up = torch.sigmoid((height - LIFTED) / LIFTED_WITHIN)
    return up.diff(dim=1).abs().mean(dim=1)


def quantiles(ordered: torch.Tensor, number: int) -> torch.Tensor:
    """Values at the middles of ``number`` equal shares of what is in order, (n,), interpolated."""
    place = (torch.arange(number, device=ordered.device) + 0.5) / number * len(ordered) - 0.5
    place = place.clamp(0.0, len(ordered) - 1.0)
    below = place.long()
    above = (below + 1).clamp(max=len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], place - below)


def recorded_figures(
    sampler: WindowSampler, feet: FootContact, generator: torch.Generator, device: torch.device
) -> dict[int, FootFigures]:
    """Figures of the recorded windows of each kind.

    Windows are drawn as training draws them, those of rare velocities as often as others.
    """
    states, commands = sampler.sample(NUM_WINDOWS, generator)
    kind, figures = kinds(commands), {}
    for one in range(8):
        rows = (kind == one).nonzero().squeeze(1)
        if len(rows) < FEWEST:
            continue
        figures[one] = figures_of(feet(states[rows].to(device)))
    return figures


def figures_of(feet: FootMotion) -> FootFigures:
    """The figures of some motions' feet."""
    height, speed = heights_and_speeds(feet)
    heights, speeds = (quantiles(values.flatten().sort().values, NUM_QUANTILES) for values in (height, speed))
    return FootFigures(heights, speeds, turns(height).mean())
