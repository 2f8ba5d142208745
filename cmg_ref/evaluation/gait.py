"""What is measured on a motion: speed, foot slip, steps, joint limits, agreement of positions and velocities.

Motions are motion states (num_motions, num_frames, state_dim) in the order of `StateLayout.with_root` and of the
robot's joints, as a roll-out or a dataset has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.foot_contact import FootContact, FootMotion
from cmg_ref.robots.robot import Robot

STANCE_HEIGHT = 0.02
"""A sole point this much above the lowest one of the time around it [m] no longer stands."""
STANCE_VERTICAL_SPEED = 0.15
"""A sole point that rises or sinks faster [m/s] is landing or leaving, not standing."""
STANCE_TIME = 0.5
"""The time around a frame, to each side [s]: at least one step, so that it holds a stance."""
SMALLEST_STEP = 0.2
"""Swaps of the leading foot smaller than this share of the largest are no steps."""


def mean_velocity(states: Tensor, layout: StateLayout) -> Tensor:
    """Mean heading-frame vx, vy [m/s] and yaw rate [rad/s] of each motion, (num_motions, 3)."""
    parts = layout.split(states)
    return torch.cat((parts["root_lin_vel_h"][..., :2], parts["root_yaw_rate"]), dim=-1).mean(dim=-2)


def tilt_angle(projected_gravity: Tensor) -> Tensor:
    """Angle between the base's z axis and the vertical [rad], (..., 3) -> (...)."""
    return torch.atan2(projected_gravity[..., :2].norm(dim=-1), -projected_gravity[..., 2])


def joint_limit_excess(dof_pos: Tensor, robot: Robot) -> Tensor:
    """How far joints are beyond their limits [rad], 0 inside; (..., num_joints) -> (..., num_joints)."""
    lower, upper = robot.joint_lower.to(dof_pos), robot.joint_upper.to(dof_pos)
    return torch.maximum(lower - dof_pos, dof_pos - upper).clamp(min=0.0)


def velocity_mismatch(dof_pos: Tensor, dof_vel: Tensor, fps: float) -> Tensor:
    """rms(dof_vel - central difference of dof_pos) / rms(dof_vel) of each motion, (num_motions,).

    The two agree at 0; 1 means that the velocities tell nothing of the positions. A motion without any velocity gives 0
    if its positions rest, else infinity.
    """
    difference = 0.5 * fps * (dof_pos[:, 2:] - dof_pos[:, :-2])
    velocity = dof_vel[:, 1:-1]
    error = (velocity - difference).pow(2).mean(dim=(1, 2)).sqrt()
    size = velocity.pow(2).mean(dim=(1, 2)).sqrt()
    return torch.where(error > 0.0, error / size, torch.zeros_like(error))


def joint_acceleration(dof_pos: Tensor, fps: float) -> Tensor:
    """Joint accelerations by second differences [rad/s^2], (..., T, num_joints) -> (..., T - 2, num_joints)."""
    return (dof_pos[..., 2:, :] - 2.0 * dof_pos[..., 1:-1, :] + dof_pos[..., :-2, :]) * fps**2


def joint_speed(dof_pos: Tensor, dof_vel: Tensor, fps: float) -> Tensor:
    """Root mean square of the joint speeds [rad/s], of positions' differences or velocities, whichever is larger."""
    difference = torch.diff(dof_pos, dim=1) * fps
    return torch.maximum(difference.pow(2).mean(dim=(1, 2)), dof_vel.pow(2).mean(dim=(1, 2))).sqrt()


def stance_slip(feet: FootMotion, fps: float) -> tuple[Tensor, Tensor]:
    """Speed of the stance foot over the floor in each interval between frames, and whether there is a stance.

    The stance foot is the lower one. Its points stand that are less than STANCE_HEIGHT above the lowest sole point
    within STANCE_TIME, and that rise or sink slower than STANCE_VERTICAL_SPEED; a foot none of whose points stands
    is in flight, landing or leaving. The speed is the mean over the points that stand, horizontally in the world,
    with the root moving as it says it does: a foot that skates, and a root faster than its feet, both show.

    Returns:
        Speed [m/s], and the mask of intervals with a stance, (num_motions, num_frames - 1) each.
    """
    height = feet.height  # (num_motions, num_frames, 2, 4)
    higher = torch.maximum(height[:, :-1], height[:, 1:])
    floor = _lowest_around(higher, fps)
    sinking = torch.diff(height, dim=1).abs() * fps
    stands = (higher - floor[..., None, None] < STANCE_HEIGHT) & (sinking < STANCE_VERTICAL_SPEED)
    speed = (feet.velocity_h.norm(dim=-1) * stands).sum(dim=-1) / stands.sum(dim=-1).clamp(min=1)
    lower_foot = higher.amin(dim=-1).argmin(dim=-1, keepdim=True)  # (num_motions, num_frames - 1, 1)
    stance = stands.any(dim=-1).gather(-1, lower_foot).squeeze(-1)
    return speed.gather(-1, lower_foot).squeeze(-1), stance


def height_over_floor(feet: FootMotion, fps: float) -> Tensor:
    """Height of each foot over the lowest sole point within STANCE_TIME [m], (num_motions, num_frames, 2)."""
    return feet.height.amin(dim=-1) - _lowest_around(feet.height, fps).unsqueeze(-1)


def _lowest_around(height: Tensor, fps: float) -> Tensor:
    reach = max(1, round(STANCE_TIME * fps))
    return -functional.max_pool1d(-height.amin(dim=(2, 3)), 2 * reach + 1, stride=1, padding=reach)


class Gait:
    """Feet of motions by exact kinematics, with the root's own tilt, height and velocity.

    Args:
        states: Motion states, (num_motions, num_frames, layout.size) with at least 2 frames.
        robot: Robot in whose joint order the states are.
        fps: Frames a second.
    """

    def __init__(self, states: Tensor, robot: Robot, fps: float) -> None:
        layout = StateLayout.with_root(robot.num_joints)
        self.fps = fps
        self.feet: FootMotion = FootContact(robot, layout, fps, states.device)(states.float())
        self.direction = functional.normalize(mean_velocity(states.float(), layout)[:, :2], dim=-1)

    def slip(self) -> tuple[Tensor, Tensor]:
        """Speed of the stance foot over the floor in each interval, and whether there is a stance: `stance_slip`."""
        return stance_slip(self.feet, self.fps)

    def mean_slip(self) -> tuple[Tensor, Tensor]:
        """Mean slip over the intervals with a stance [m/s], NaN without any, and their share; (num_motions,) each."""
        speed, stance = self.slip()
        return (speed * stance).sum(dim=1) / stance.sum(dim=1), stance.float().mean(dim=1)

    def highest_foot(self) -> Tensor:
        """Largest difference in height of the two feet's lowest points [m], (num_motions,): 0 if both stand."""
        lowest = self.feet.height.amin(dim=-1)  # (num_motions, num_frames, 2)
        return (lowest[..., 0] - lowest[..., 1]).abs().amax(dim=1)

    def steps(self, motion: int) -> Steps:
        """Steps of one motion, told by which foot leads along its mean velocity."""
        centre = self.feet.position_h[motion, ..., :2].mean(dim=-2)  # (num_frames, 2 feet, 2)
        lead = ((centre[:, 0] - centre[:, 1]) * self.direction[motion]).sum(dim=-1)
        return find_steps(lead, self.fps)


@dataclass(frozen=True)
class Steps:
    """Steps of one motion.

    Attributes:
        count: Steps found.
        frequency: Steps a second [Hz]; NaN if there are fewer than three.
        length_asymmetry: Difference of mean left and right step length over their mean; NaN as above.
        time_asymmetry: The same for the time that left and right steps take.
    """

    count: int
    frequency: float
    length_asymmetry: float
    time_asymmetry: float


def find_steps(lead: Tensor, fps: float) -> Steps:
    """Steps from the lead of the left foot over the right one.

    Each step swaps the leading foot, so that steps are the half-waves of `lead`. Its extremes tell the length of the
    left (positive) and right (negative) steps, the times between extremes how long each took.

    Args:
        lead: Left minus right foot along the direction of travel [m], (num_frames,).
        fps: Frames a second.
    """
    sign = lead >= 0.0
    edges = [0, *(torch.nonzero(sign[1:] != sign[:-1]).squeeze(1) + 1).tolist(), len(lead)]
    smallest = SMALLEST_STEP * float(lead.abs().max())
    peaks: list[tuple[int, float]] = []  # frame and value of the extreme of each half-wave
    for start, end in zip(edges[:-1], edges[1:]):
        frame = start + int(lead[start:end].abs().argmax())
        value = float(lead[frame])
        if abs(value) < smallest:
            continue
        if peaks and (peaks[-1][1] >= 0.0) == (value >= 0.0):  # a small swap in between was dropped
            if abs(value) > abs(peaks[-1][1]):
                peaks[-1] = (frame, value)
        else:
            peaks.append((frame, value))
    peaks = peaks[1:-1]  # The first and the last half-wave may be cut off by the ends of the motion.
    nan = float("nan")
    if len(peaks) < 4:
        return Steps(len(peaks), nan, nan, nan)
    lengths = {side: [abs(value) for _, value in peaks if (value >= 0.0) == side] for side in (True, False)}
    times: dict[bool, list[int]] = {True: [], False: []}
    for (before, _), (frame, value) in zip(peaks[:-1], peaks[1:]):
        times[value >= 0.0].append(frame - before)
    return Steps(
        count=len(peaks),
        frequency=(len(peaks) - 1) * fps / (peaks[-1][0] - peaks[0][0]),
        length_asymmetry=_asymmetry(lengths[True], lengths[False]),
        time_asymmetry=_asymmetry(times[True], times[False]),
    )


def _asymmetry(left: list[float] | list[int], right: list[float] | list[int]) -> float:
    mean_left, mean_right = sum(left) / len(left), sum(right) / len(right)
    return abs(mean_left - mean_right) / (0.5 * (mean_left + mean_right))
