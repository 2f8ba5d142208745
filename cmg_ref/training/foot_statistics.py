"""How people step, by the kind of motion: what a roll-out is held against, whenever in its stride it does it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from cmg_ref.core.command_layout import VELOCITY
from cmg_ref.core.state_layout import GAIT_PHASE
from cmg_ref.evaluation.foot_contact import FootContact, FootMotion
from cmg_ref.evaluation.gait import height_over_floor, stance_slip
from cmg_ref.evaluation.gait_track import FEWEST_SWINGS, LIFTED, SHORTEST_SWING, lifted, swings
from cmg_ref.training.window_sampler import WindowSampler

STEADY = 0.3
"""A command that changes by more than this within a row [m/s] is of no kind: the motion goes from one to another."""
STANDING, ON_THE_SPOT = 0.05, 0.15
"""Fastest that counts as standing, and as on the spot of who turns [m/s]."""
STRAIGHT = (0.2, 0.4)
"""Motion ahead or backward that goes to the side [m/s] and turns [rad/s] by less is straight on."""
AHEAD = (-0.45, -0.3, 0.0, 0.25, 0.35, 0.45, 0.55, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1, 2.3, 2.5, 2.7)
"""Speeds straight on between one kind and the next [m/s]: feet step otherwise at every speed."""
BENT = (0.0, 0.35, 0.8, 1.4)
"""The same where the way is not straight."""
SIDEWAYS = (0.15, 0.25, 0.35, 0.45)
"""The same to a side."""
TURNING = (0.2, 0.6, 0.9)
"""Yaw rate from which on somebody turns [rad/s], and those between one kind of it and the next."""
STAND, TURN, SIDE, BACK, SLOW, WALK, FAST, RUN = range(8)
"""Families of kinds that are much alike."""
MOST_WINDOWS, NUM_WINDOWS, FEWEST = 200_000, 1500, 20
"""Among so many windows kinds are sought, as many of a kind are measured, and fewer tell nothing."""
NUM_QUANTILES = 256
NUM_PHASES = 24
LARGEST_RAISE = 2.0
"""A sway that is averaged over strides of many people is made larger by this at most, where they sway apart."""


class StepFigures(NamedTuple):
    """The feet of one kind of motion, and the root over them.

    Attributes:
        heights: Quantiles of the height of a foot's lowest point over the floor [m], (NUM_QUANTILES,).
        speeds: Of the speed of a foot over the floor [m/s], (NUM_QUANTILES,).
        slips: Of the speed of the foot that stands [m/s], (NUM_QUANTILES,), see :func:`stance_slip`.
        swing: Height of a foot's lowest point [m] at NUM_PHASES phases of its own stride, which begins where it lifts
            off, (NUM_PHASES,).
        pace: How fast the phase of the stride goes on, median [rad/s].
        sway: By how much the root's velocity ahead and to the left is more than its command [m/s] at NUM_PHASES phases
            of the stride, of who goes or turns to the left, (NUM_PHASES, 2).
    """

    heights: torch.Tensor
    speeds: torch.Tensor
    slips: torch.Tensor
    swing: torch.Tensor
    pace: torch.Tensor
    sway: torch.Tensor


def kinds(commands: torch.Tensor) -> torch.Tensor:
    """The kind of motion that commands (num_rows, frames, command_dim) are about, (num_rows,); -1 is none.

    Kind 0 is standing; others are numbered by direction and speed. To the left and to the right are the same kind.
    """
    velocity = commands[..., VELOCITY]
    vx, vy, yaw_rate = velocity.mean(dim=1).unbind(dim=-1)
    side, turn = vy.abs(), yaw_rate.abs()
    speed = torch.maximum(vx.abs(), side)
    turning = (speed < ON_THE_SPOT) & (turn >= TURNING[0])
    moving = ~turning & (speed >= STANDING)
    to_the_side = moving & (side > vx.abs())
    ahead = moving & ~to_the_side
    straight = (side < STRAIGHT[0]) & (turn < STRAIGHT[1])
    first, found = 1, torch.zeros_like(vx, dtype=torch.long)
    for chosen, values, borders in (
        (turning, turn, TURNING[1:]),
        (to_the_side, side, SIDEWAYS),
        (ahead & straight, vx, AHEAD),
        (ahead & ~straight, vx, BENT),
    ):
        place = torch.bucketize(values.contiguous(), torch.tensor(borders, device=values.device))
        found = torch.where(chosen, first + place, found)
        first += len(borders) + 1
    change = (velocity.amax(dim=1) - velocity.amin(dim=1))[:, :2].amax(dim=1)
    return torch.where(change > STEADY, -1, found)


def to_the_right(commands: torch.Tensor) -> torch.Tensor:
    """Whether commands (num_rows, frames, command_dim) are those of who is a mirror image of his kind, (num_rows,)."""
    vx, vy, yaw_rate = commands[..., VELOCITY].mean(dim=1).unbind(dim=-1)
    moving = torch.maximum(vx.abs(), vy.abs()) >= ON_THE_SPOT
    aside = moving & (vy.abs() > vx.abs())
    straight = moving & (vy.abs() < STRAIGHT[0]) & (yaw_rate.abs() < STRAIGHT[1])
    return torch.where(aside, vy, yaw_rate).lt(0.0) & (aside | ~straight)


FAMILIES = (
    *(STAND, *3 * (TURN,), *5 * (SIDE,)),
    *(*3 * (BACK,), *2 * (SLOW,), *4 * (WALK,), *3 * (FAST,), *7 * (RUN,)),
    *(BACK, SLOW, WALK, FAST, RUN),
)
"""What family each kind belongs to."""
NUM_KINDS = len(FAMILIES)


def paces(phase: torch.Tensor, fps: float) -> torch.Tensor:
    """Mean rate of the phase of the stride [rad/s], (num_rows,), from its cosine and sine (num_rows, frames, 2)."""
    (before_x, before_y), (x, y) = phase[:, :-1].unbind(dim=-1), phase[:, 1:].unbind(dim=-1)
    return fps * torch.atan2(before_x * y - before_y * x, before_x * x + before_y * y).mean(dim=1)


def foot_speed(feet: FootMotion) -> torch.Tensor:
    """Speed of each foot over the floor [m/s], (num_rows, frames - 1, 2)."""
    return torch.sqrt((feet.velocity_h.mean(dim=-2) ** 2).sum(dim=-1) + 1e-6)


def quantiles(ordered: torch.Tensor, number: int) -> torch.Tensor:
    """Values at the middles of ``number`` equal shares of what is in order, (n,), interpolated."""
    place = (torch.arange(number, device=ordered.device) + 0.5) / number * len(ordered) - 0.5
    place = place.clamp(0.0, len(ordered) - 1.0)
    below = place.long()
    above = (below + 1).clamp(max=len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], place - below)


def recorded_kinds(
    sampler: WindowSampler, feet: FootContact, generator: torch.Generator, device: torch.device
) -> dict[int, StepFigures]:
    """Figures of the kinds of motion that enough recorded windows are of, each window as often as another.

    Feet do at any height of the body what they do at the natural one, which is what windows are taken of.
    """
    starts = sampler.starts[torch.randperm(len(sampler.starts), generator=generator)[:MOST_WINDOWS]]
    frames = starts.unsqueeze(1) + torch.arange(sampler.length)  # (num_windows, length)
    commands = sampler.commands[frames]
    alone = sampler.command_layout.velocity_alone(commands).all(dim=1)
    phase, velocity = sampler.layout[GAIT_PHASE], sampler.layout["root_lin_vel_h"]
    kind, found = torch.where(alone, kinds(commands), -1), {}
    for one in range(NUM_KINDS):
        rows = (kind == one).nonzero().squeeze(1)
        if len(rows) >= FEWEST:
            rows = rows[:NUM_WINDOWS]
            states = sampler.states[frames[rows]].to(device)
            told, strides = commands[rows].to(device), feet_phases(states[..., phase])
            excess = states[..., velocity][..., :2] - told[..., VELOCITY][..., :2]
            sway = sway_by_phase(excess, strides, to_the_right(told))
            found[one] = figures_of(feet(states), states[..., phase], feet.fps, sway)
    return found


def figures_of(feet: FootMotion, phase: torch.Tensor, fps: float, sway: torch.Tensor) -> StepFigures:
    """The figures of some motions' feet, and of the phases of their strides, (num_motions, frames, 2).

    The floor is where feet stand, as for their lift-offs: recordings have theirs a centimetre or two from it.
    """
    speed, stance = stance_slip(feet, fps)
    height = height_over_floor(feet, fps)
    heights, speeds, slips = (
        quantiles(values.flatten().sort().values, NUM_QUANTILES) for values in (height, foot_speed(feet), speed[stance])
    )
    swing = _swing(feet_phases(phase), height, fps)
    return StepFigures(heights, speeds, slips, swing, paces(phase, fps).median(), sway)


def feet_phases(phase: torch.Tensor) -> torch.Tensor:
    """Where in its own stride each foot is, in NUM_PHASES-ths of it, (..., 2 feet), from cosine and sine (..., 2)."""
    turned = torch.atan2(phase[..., 1], phase[..., 0]) / (2.0 * math.pi)
    return NUM_PHASES * torch.remainder(torch.stack((turned, turned + 0.5), dim=-1), 1.0)


def at_phase(profile: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Values of a profile (NUM_PHASES,) at places of :func:`feet_phases`, interpolated."""
    below = place.long()
    return torch.lerp(profile[below % NUM_PHASES], profile[(below + 1) % NUM_PHASES], place - below)


def sway_by_phase(excess: torch.Tensor, place: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """How a root sways as it strides, see :class:`StepFigures`, (NUM_PHASES, 2).

    People sway at slightly different phases, and their mean sways by less than any of them; so it is raised.

    Args:
        excess: Velocity ahead and to the left beyond the command [m/s], (num_motions, frames, 2).
        place: As of :func:`feet_phases`, (num_motions, frames, 2).
        right: Which motions are mirror images, (num_motions,) bool.
    """
    nearest = torch.round(torch.where(right[:, None], place[..., 1], place[..., 0])).long() % NUM_PHASES
    mirrored = torch.where(right[:, None, None], excess * excess.new_tensor([1.0, -1.0]), excess)
    # As many frames of no sway as of a single motion: phases that hardly anybody shows tell nothing.
    total = excess.new_zeros(NUM_PHASES, 2).index_add_(0, nearest.flatten(), mirrored.flatten(0, 1))
    profile = total / (torch.bincount(nearest.flatten(), minlength=NUM_PHASES) + 1.0).unsqueeze(1)
    profile = profile - profile.mean(dim=0)
    own = (mirrored - mirrored.mean(dim=1, keepdim=True)).square().mean(dim=(0, 1)).sqrt()
    return profile * (own / profile.square().mean(dim=0).sqrt().clamp(min=1e-6)).clamp(max=LARGEST_RAISE)


def sway_at(profile: torch.Tensor, place: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """What :func:`sway_by_phase` says of one motion at places (frames, 2 feet), (frames, 2)."""
    own = place[:, 1] if bool(right) else place[:, 0]
    ahead, left = at_phase(profile[:, 0], own), at_phase(profile[:, 1], own)
    return torch.stack((ahead, -left if bool(right) else left), dim=-1)


def _swing(place: torch.Tensor, height: torch.Tensor, fps: float) -> torch.Tensor:
    """How high feet (num_motions, frames, 2) are at the phases nearest to a place, (NUM_PHASES,).

    As high as those that are lifted where most are, elsewhere as high as the others; where there are none, as before.
    Swings end at many phases, and who followed the mean would scuff the floor for as long as they vary. Each is highest
    at a phase of its own, too: at its highest the profile is as high as they are then, in the middle of them.
    """
    nearest, up = torch.round(place).long() % NUM_PHASES, lifted(height)
    profile = torch.full((NUM_PHASES,), math.nan, device=height.device)
    for one in range(NUM_PHASES):
        here = nearest == one
        if here.any():
            most = up[here].float().mean() >= 0.5
            profile[one] = height[here & (up == most)].median()
    for one in [*range(NUM_PHASES), *range(NUM_PHASES)]:
        if torch.isnan(profile[one]):
            profile[one] = profile[one - 1]
    peaks = swings(height, round(SHORTEST_SWING * fps))[-1]
    if len(peaks) >= FEWEST_SWINGS:
        raised = profile > LIFTED
        profile[raised] *= float(peaks.median()) / float(profile.max())
    return profile
