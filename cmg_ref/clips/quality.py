"""Which frames of a clip are fit for a walking and running reference, found from the motion alone.

Standing, side-steps, walking backward and turning are kept; crouching, bending over, climbing, lying, arms held out,
jumps of the retargeting and anything that leaves the floor for longer than a running stride are not. The thresholds
were chosen on mocap retargeted to the G1 so that ordinary gaits of any speed pass; a robot's description has those that
depend on its build.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from cmg_ref.clips.motion_clip import MotionClip, moving_average, time_derivative
from cmg_ref.core.rotations import quat_rotate
from cmg_ref.robots.kinematics import FootKinematics
from cmg_ref.robots.robot import Robot

MAX_TILT = 0.6
"""Angle between the pelvis and upright [rad]."""
MAX_SOLE_HEIGHT = 0.12
"""Height of the lowest sole point in the flight phase of running [m]."""
MAX_STANCE_HEIGHT = 0.05
"""The lowest sole point comes at least this near to the floor [m] once in every stride of FLIGHT_TIME."""
MAX_PENETRATION = 0.05
"""Depth of the lowest sole point below the floor [m]."""
FLIGHT_TIME = 0.6
"""[s]"""
MAX_ROOT_SPEED = 8.0
"""[m/s]"""
MAX_ROOT_ACCELERATION = 60.0
"""[m/s^2]; sprints stay under 50."""
MAX_JOINT_SPEED = 22.0
"""[rad/s]; sprints stay under 19."""
MAX_JOINT_ACCELERATION = 600.0
"""[rad/s^2]; sprints stay under 530."""
JUMP_MARGIN = 0.1
"""Time cut off on both sides of a jump [s]."""
JOINT_LIMIT_MARGIN = 0.02
"""Joint angles further than this beyond a limit are an error of the retargeting [rad]."""
MAX_TORSO_LEAN = (0.40, 0.60)
"""Forward or backward lean of the torso in walking and in running [rad]."""
RUNNING_SPEED = 1.4
"""Horizontal speed above which the torso may lean as in running [m/s]."""
MAX_SPREAD = 0.8
"""Arms held out further than this to the side are a pose, not a gait [rad]."""
POSTURE_TIME = 0.4
"""Postures are judged on averages over this time, so that the swing of a stride does not cut it up [s]."""
MIN_FRAGMENT = 1.0
"""Stretches of good frames shorter than this are dropped [s]."""
STANCE_SPEED = 0.3
"""A lowest sole point slower than this stands on the floor [m/s]."""


def quality_mask(report: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Frames fit for use, (num_frames,) bool, by a `quality_report`."""
    return ~torch.stack(list(report.values())).any(dim=0)


def quality_report(clip: MotionClip, robot: Robot) -> dict[str, torch.Tensor]:
    """Why frames are rejected.

    Args:
        clip: Clip with its floor at z = 0.
        robot: Robot whose joints the clip has.

    Returns:
        Cause to rejected frames, (num_frames,) bool each. A frame may have several causes. `fragment` are the otherwise
        good frames in stretches too short to use.
    """
    clip = clip.reordered(robot)
    low, _ = lowest_sole_point(clip, robot)
    height, (lowest, highest) = clip.root_height(), robot.spec.walking_height
    report = {
        "tilted": -clip.projected_gravity()[:, 2] < torch.cos(torch.tensor(MAX_TILT, dtype=torch.float64)),
        "root height": (height < lowest) | (height > highest),
        "off the floor": _off_the_floor(low, clip.fps),
        "jump": _jumps(clip),
        "joint limits": _beyond_limits(clip, robot),
        "posture": _odd_posture(clip, robot),
    }
    good = quality_mask(report)
    report["fragment"] = good & (run_lengths(good) < MIN_FRAGMENT * clip.fps)
    return report


def lowest_sole_point(clip: MotionClip, robot: Robot) -> tuple[torch.Tensor, torch.Tensor]:
    """Height above the floor [m] and horizontal speed [m/s] of the sole point that is lowest, (num_frames,) each."""
    foot_kinematics = FootKinematics(robot, dtype=torch.float64)
    points_b = foot_kinematics(clip.reordered(robot).dof_pos).flatten(1, 2)  # (num_frames, num_points, 3)
    points_w = clip.root_pos[:, None] + quat_rotate(clip.root_quat[:, None].expand(-1, points_b.shape[1], -1), points_b)
    height, index = (points_w[..., 2] - robot.foot_radius).min(dim=1)
    speed = time_derivative(points_w[..., :2], clip.fps).norm(dim=-1)
    return height, speed.gather(1, index[:, None]).squeeze(1)


def floor_offset(clip: MotionClip, robot: Robot) -> float:
    """Height [m] at which the soles stand: the median of the lowest sole point while it does not move.

    Stance frames are those of an upright robot whose lowest sole point is slower than STANCE_SPEED and no further from
    z = 0 than MAX_SOLE_HEIGHT (so that steps and falls do not count). Positive where the clip hovers. 0 without stance.
    """
    height, speed = lowest_sole_point(clip, robot)
    upright = -clip.projected_gravity()[:, 2] > 0.9
    stance = upright & (speed < STANCE_SPEED) & (height.abs() < MAX_SOLE_HEIGHT)
    return float(height[stance].median()) if stance.any() else 0.0


def run_lengths(mask: torch.Tensor) -> torch.Tensor:
    """For every frame the number of frames in its run of equal mask values, (num_frames,) long."""
    _, run_of_frame, counts = torch.unique_consecutive(mask, return_inverse=True, return_counts=True)
    return counts[run_of_frame]


def _off_the_floor(low: torch.Tensor, fps: float) -> torch.Tensor:
    reach = max(1, round(0.5 * FLIGHT_TIME * fps))
    lowest_of_stride = -torch.nn.functional.max_pool1d(-low[None, None], 2 * reach + 1, stride=1, padding=reach)[0, 0]
    return (low > MAX_SOLE_HEIGHT) | (lowest_of_stride > MAX_STANCE_HEIGHT) | (low < -MAX_PENETRATION)


def _jumps(clip: MotionClip) -> torch.Tensor:
    root_vel = time_derivative(clip.root_pos, clip.fps)
    dof_vel = time_derivative(clip.dof_pos, clip.fps)
    jump = (
        (root_vel.norm(dim=-1) > MAX_ROOT_SPEED)
        | (time_derivative(root_vel, clip.fps).norm(dim=-1) > MAX_ROOT_ACCELERATION)
        | (dof_vel.abs().amax(dim=-1) > MAX_JOINT_SPEED)
        | (time_derivative(dof_vel, clip.fps).abs().amax(dim=-1) > MAX_JOINT_ACCELERATION)
    )
    reach = max(1, round(JUMP_MARGIN * clip.fps))
    spread = torch.nn.functional.max_pool1d(jump.double()[None, None], 2 * reach + 1, stride=1, padding=reach)
    return spread[0, 0] > 0.5


def _beyond_limits(clip: MotionClip, robot: Robot) -> torch.Tensor:
    lower, upper = robot.joint_lower.to(torch.float64), robot.joint_upper.to(torch.float64)
    return ((clip.dof_pos < lower - JOINT_LIMIT_MARGIN) | (clip.dof_pos > upper + JOINT_LIMIT_MARGIN)).any(dim=-1)


def _odd_posture(clip: MotionClip, robot: Robot) -> torch.Tensor:
    """Torso leant forward or backward, or arms held out to the side."""
    gravity = clip.projected_gravity()
    pitch = torch.atan2(gravity[:, 0], -gravity[:, 2])
    if robot.spec.lean_joint is not None:
        pitch = pitch + clip.dof_pos[:, robot.joint_index([robot.spec.lean_joint])].squeeze(1)
    speed = clip.root_lin_vel_h()[:, :2].norm(dim=-1)
    outward = torch.zeros_like(speed)
    if robot.spec.spread_joints:
        sign = torch.tensor(list(robot.spec.spread_joints.values()), dtype=torch.float64)
        outward = (clip.dof_pos[:, robot.joint_index(list(robot.spec.spread_joints))] * sign).amax(dim=-1)
    momentary = torch.stack([pitch, speed, outward], dim=-1)
    lean, speed, outward = moving_average(momentary, round(0.5 * POSTURE_TIME * clip.fps)).unbind(dim=-1)
    walking, running = MAX_TORSO_LEAN
    max_lean = torch.where(speed > RUNNING_SPEED, torch.full_like(speed, running), torch.full_like(speed, walking))
    return (lean.abs() > max_lean) | (outward > MAX_SPREAD)
