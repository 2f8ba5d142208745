"""The losses of the training, one row of :data:`TERMS` each; their weights are settings of a run."""

from __future__ import annotations

from typing import Callable, NamedTuple

import torch
from torch.nn import functional

from cmg_ref.core.command_layout import HEIGHT, VELOCITY, told_to_stand
from cmg_ref.core.state_layout import GAIT_PHASE
from cmg_ref.evaluation.gait import stance_slip
from cmg_ref.training.foot_statistics import at_phase, feet_phases, foot_speed, paces, quantiles
from cmg_ref.training.rolled_out import RolledOut

SLIP_FRAMES = 5  # a foot that slips is one that moves on average over this many frames
WALKING_CLEARANCE = 0.03  # [m] the lowest sole point does not rise further in a walk
RUNNING_CLEARANCE = 0.09  # [m] nor further than this in the flight phase of a run
MEAN_CLEARANCE = 0.02  # [m] on average it stays below this at any recorded speed
STRAIGHT_SLIP = 2.0  # additional weight of slip where somebody walks straight on, and a foot should be planted
APART = 0.005  # [m] from here on parts of the robot are too near to each other
APART_STRIDE = 4  # they are looked at in every so many-th frame
STOPPING_TIME = 1.0  # [s] who has been told to stand for this long should do so
FOOT_SPEED = 0.1  # [1 / (m/s) per 1 / m] what a foot's speed counts beside its height
LARGEST_DRIFT = 0.3  # [m, rad] drift beyond this pulls no harder


class LossTerm(NamedTuple):
    """A loss: its usual weight, and the function that gives it, a scalar tensor, for a roll-out."""

    weight: float
    compute: Callable[[RolledOut], torch.Tensor]


def state(rolled: RolledOut) -> torch.Tensor:
    """Deviation from the recording [standard deviations], the root's mean velocity left out in matched rows."""
    difference = rolled.compared - rolled.batch.targets
    matched = rolled.batch.matched
    mean = rolled.mean_velocity(difference)[matched]
    difference = difference.clone()
    difference[matched, :, rolled.velocity] = difference[matched, :, rolled.velocity] - mean
    deviation = (difference / rolled.instruments.model.motion_std).abs() * rolled.instruments.channel_weights
    return (deviation.mean(dim=-1) * rolled.frame_weight).mean()


def key_bodies(rolled: RolledOut) -> torch.Tensor:
    """Distance of the key bodies from where they are in the recording [m]."""
    key_bodies = rolled.instruments.key_bodies
    difference = key_bodies(rolled.compared) - key_bodies(rolled.batch.targets)
    return (difference.abs().mean(dim=(-2, -1)) * rolled.frame_weight).mean()


def mean_velocity(rolled: RolledOut) -> torch.Tensor:
    """Error of the mean velocity [m/s, rad/s]."""
    return rolled.velocity_error.abs().mean()


def height(rolled: RolledOut) -> torch.Tensor:
    """Distance of the root's height from what matched rows are told, where they are told one [m]."""
    layout = rolled.instruments.model.command_layout
    if HEIGHT not in layout.names:
        return rolled.states.new_zeros(())
    column, matched = layout.column(HEIGHT), rolled.batch.matched
    wanted = rolled.batch.commands[matched, :, column]
    asked = (wanted != layout.channels[column].rest).float() * rolled.frame_weight[matched]
    distance = (rolled.states[matched, :, rolled.layout["root_height"]].squeeze(-1) - wanted).abs()
    return (asked * distance).sum() / max(1, asked.numel())


def drift(rolled: RolledOut) -> torch.Tensor:
    """Velocity away from where matched rows should be by now: small where every error makes up for those before it.

    An error of the mean velocity within a stride says little. Summed up for as long as a row runs free, what is left is
    what turns a straight path into a curve; this drives it to zero as the integral part of a controller does.
    """
    pull = (rolled.batch.drift / LARGEST_DRIFT).clamp(-1.0, 1.0)
    if len(pull) == 0:
        return rolled.states.new_zeros(())
    return (pull * rolled.velocity_error[rolled.batch.matched][:, [0, 1, 3]]).mean()


def activity(rolled: RolledOut) -> torch.Tensor:
    """By how much joints move less than in the recording [rad/s].

    Where many motions could follow, their mean hardly moves: a body that turns on the spot without a step, say. It is
    nearest to all of them and natural in none, so each joint must move as much as it does in the recording.
    """
    columns = rolled.layout["dof_vel"]
    return functional.relu(_speed(rolled.batch.targets[..., columns]) - _speed(rolled.compared[..., columns])).mean()


def feet(rolled: RolledOut) -> torch.Tensor:
    """Heights and speeds of the feet of matched rows against people's in the same kinds of motion, sorted by size [m].

    What is late in its stride is wrong everywhere when compared frame by frame, and what steps once in two windows is
    nearest to most of them without any step. All rows of a family of kinds together, feet have to stand as still and
    to rise as high as people's do, for as long.
    """
    height, speed = rolled.feet.height.amin(dim=-1), foot_speed(rolled.feet)
    total = height.new_zeros(())
    for rows, recorded in rolled.families:
        for name, values, weight in (("heights", height, 1.0), ("speeds", speed, FOOT_SPEED)):
            own = values[rows].flatten(1)  # (num_rows, frames * 2)
            wanted = torch.cat([quantiles(getattr(figures, name), own.shape[1]) for figures in recorded])
            apart = own.flatten().sort().values - wanted.sort().values
            total = total + len(rows) * weight * apart.abs().mean()
    return total / len(rolled.states)


def swing(rolled: RolledOut) -> torch.Tensor:
    """Heights of the feet of matched rows against people's at the same phase of the stride [m].

    A row that is late in its stride is wrong everywhere when compared frame by frame with another, and a foot that
    rises twice, or half as far in twice the time, is sorted into the same order as people's. Its own phase says when a
    foot is to rise, and how far.
    """
    height = rolled.feet.height.amin(dim=-1)
    place = feet_phases(rolled.states[..., rolled.layout[GAIT_PHASE]].detach())
    total = height.new_zeros(())
    for row, figures in rolled.told_kinds:
        total = total + (height[row] - at_phase(figures.swing, place[row])).abs().mean()
    return total / len(rolled.states)


def planted(rolled: RolledOut) -> torch.Tensor:
    """By how much the standing feet of each matched row move more than people's do, sorted by size [m/s].

    The mean slip hides the few frames in which a foot is dragged.
    """
    speed, stance = stance_slip(rolled.feet, rolled.instruments.fps)
    # Who stands on no foot has no slip; the others' are compared over the same number of frames.
    own = torch.where(stance, speed, torch.zeros_like(speed)).sort(dim=1).values
    total = speed.new_zeros(())
    for row, figures in rolled.told_kinds:
        total = total + functional.relu(own[row] - quantiles(figures.slips, own.shape[1])).mean()
    return total / len(rolled.states)


def pace(rolled: RolledOut) -> torch.Tensor:
    """By how much matched rows stride faster or slower than people do in the same kind of motion [rad/s]."""
    own = paces(rolled.states[..., rolled.layout[GAIT_PHASE]], rolled.instruments.fps)
    total = own.new_zeros(())
    for row, figures in rolled.told_kinds:
        total = total + (own[row] - figures.pace).abs()
    return total / len(rolled.states)


def sway(rolled: RolledOut) -> torch.Tensor:
    """Velocity of the root of matched rows, ahead and aside, against people's at the same phase of the stride [m/s].

    Told a velocity, a root that keeps it at every moment is right on average and stands over neither foot: nobody could
    walk like that. People's hips go over each foot in turn.
    """
    rows = [row for row, _ in rolled.told_kinds]
    first = rolled.batch.matched.start
    velocity = rolled.states[rows][..., rolled.layout["root_lin_vel_h"]][..., :2]
    wanted = rolled.batch.commands[rows][..., :2] + rolled.sway[[row - first for row in rows]]
    return (velocity - wanted).abs().mean(dim=(1, 2)).sum() / len(rolled.states)


def slip(rolled: RolledOut) -> torch.Tensor:
    """Mean slip of feet on the floor, straight walking counting more [m/s]."""
    value = rolled.feet.slip(SLIP_FRAMES)  # (num_rows, horizon - SLIP_FRAMES)
    vx, vy, yaw_rate = rolled.batch.commands[:, : value.shape[1], VELOCITY].abs().unbind(dim=-1)
    straight = (1.0 - vy / 0.2 - yaw_rate / 0.4).clamp(min=0.0) * (vx / 0.2).clamp(max=1.0)
    walking = 1.0 - ((vx - 1.6) / 0.4).clamp(0.0, 1.0)
    return ((1.0 + STRAIGHT_SLIP * straight * walking) * value).mean()


def penetration(rolled: RolledOut) -> torch.Tensor:
    """How far the lowest sole point is below the floor [m]."""
    return functional.relu(-rolled.feet.height - 0.005).amax(dim=(-2, -1)).mean()


def hover(rolled: RolledOut) -> torch.Tensor:
    """How far the lowest sole point is above where gaits have it, at each time and on average [m]."""
    lowest = rolled.feet.height.amin(dim=(-2, -1))  # (num_rows, horizon)
    running = ((rolled.batch.commands[..., 0].abs() - 1.2) / 0.8).clamp(0.0, 1.0)
    above = functional.relu(lowest - (WALKING_CLEARANCE + running * (RUNNING_CLEARANCE - WALKING_CLEARANCE)))
    return above.mean() + functional.relu(lowest.mean(dim=1) - MEAN_CLEARANCE).mean()


def self_contact(rolled: RolledOut) -> torch.Tensor:
    """By how much parts of the robot come too near to each other, summed over the pairs [m]."""
    measure = rolled.instruments.self_contact
    dof_pos = rolled.states[:, APART_STRIDE - 1 :: APART_STRIDE, rolled.layout["dof_pos"]]
    return functional.relu(APART - measure.gaps(dof_pos)).sum(dim=-1).mean()


def guard(rolled: RolledOut) -> torch.Tensor:
    """How far states come too near the guard [tenths of a standard deviation]."""
    return rolled.guard_excess.mean() * 10.0


def acceleration(rolled: RolledOut) -> torch.Tensor:
    """Joint accelerations beyond nearly all that occur in the data, over those."""
    dof_vel = rolled.states[..., rolled.layout["dof_vel"]]
    value = (dof_vel[:, 1:] - dof_vel[:, :-1]).abs() * rolled.instruments.fps
    return functional.relu(value / rolled.instruments.acceleration_limit - 1.0).mean() * 10.0


def tremble(rolled: RolledOut) -> torch.Tensor:
    """Second differences of the joint velocities [rad/s]: as far as angles and velocities disagree."""
    return torch.diff(rolled.states[..., rolled.layout["dof_vel"]], n=2, dim=1).abs().mean()


def still(rolled: RolledOut) -> torch.Tensor:
    """Any motion at all of the still rows, and any departure from the pose, in physical units."""
    num = len(rolled.batch.targets)
    states, initial = rolled.states[num:], rolled.batch.initial[num:]
    if len(states) == 0:
        return rolled.states.new_zeros(())
    change = (states - initial.unsqueeze(1)) / rolled.instruments.model.motion_std
    return change.abs().mean() + _motion(rolled, states).mean()


def stop(rolled: RolledOut) -> torch.Tensor:
    """Any motion at all of matched rows that have been told to stand for long enough."""
    matched = rolled.batch.matched
    standing = told_to_stand(rolled.batch.commands[matched])  # (num_matched, horizon)
    time = (
        rolled.batch.waiting.unsqueeze(1) + torch.arange(standing.shape[1]).to(standing.device) / rolled.instruments.fps
    )
    late = (standing & (time >= STOPPING_TIME)).float()
    return (late * _motion(rolled, rolled.states[matched])).sum() / late.numel() if late.numel() else late.sum()


TERMS: dict[str, LossTerm] = {
    "state": LossTerm(1.0, state),
    "key_bodies": LossTerm(4.0, key_bodies),
    "mean_velocity": LossTerm(1.0, mean_velocity),
    "height": LossTerm(10.0, height),
    "drift": LossTerm(1.0, drift),
    "activity": LossTerm(1.0, activity),
    "feet": LossTerm(4.0, feet),
    "swing": LossTerm(20.0, swing),
    "pace": LossTerm(0.1, pace),
    "planted": LossTerm(3.0, planted),
    "sway": LossTerm(5.0, sway),
    "slip": LossTerm(0.3, slip),
    "penetration": LossTerm(4.0, penetration),
    "hover": LossTerm(10.0, hover),
    "self_contact": LossTerm(3.0, self_contact),
    "still": LossTerm(0.5, still),
    "stop": LossTerm(0.5, stop),
    "acceleration": LossTerm(0.5, acceleration),
    "tremble": LossTerm(0.5, tremble),
    "guard": LossTerm(20.0, guard),
}
"""The losses by name."""


def default_weights() -> dict[str, float]:
    """The usual weight of each loss."""
    return {name: term.weight for name, term in TERMS.items()}


def _speed(dof_vel: torch.Tensor) -> torch.Tensor:
    """Root mean square over the frames of joint velocities (num_rows, horizon, num_joints), (num_rows, num_joints)."""
    return torch.sqrt((dof_vel**2).mean(dim=1) + 1e-6)


def _motion(rolled: RolledOut, states: torch.Tensor) -> torch.Tensor:
    """Any motion at all, in physical units, (num_rows, horizon)."""
    parts = rolled.layout.split(states)
    return (
        parts["dof_vel"].abs().mean(dim=-1)
        + 3.0 * parts["root_lin_vel_h"].abs().mean(dim=-1)
        + parts["root_yaw_rate"].abs().mean(dim=-1)
    )
