"""Rewards and penalties of a robot that follows a reference motion and a velocity command.

Pure functions of tensors whose first dimension is the environments'; each returns one number per environment,
(num_envs,). Those called ``..._tracking`` are rewards in (0, 1], ``exp(-error / sigma)`` of a squared error, so that
sigma is the squared error at which 1/e is left (the kernel of DeepMimic, Peng et al. 2018; legged_gym calls sigma
``tracking_sigma``). The others are penalties that grow from 0, to be given a negative scale; only `feet_air_time` may
have either sign. All of them can be compiled with `torch.jit.script`.

Frames: ``_w`` world, ``_b`` base, ``_h`` heading, which is the base turned upright.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cmg_ref.core.command_layout import VELOCITY

# Tracking of the reference ------------------------------------------------------------------------------------------


def joint_position_tracking(dof_pos: Tensor, ref_dof_pos: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """Joint angles against the reference.

    Args:
        dof_pos: Joint angles [rad], (num_envs, num_joints).
        ref_dof_pos: Those of the reference [rad], (num_envs, num_joints).
        weights: How much each joint counts, of any sum, (num_joints,) or (num_envs, num_joints).
        sigma: Weighted mean squared error at which 1/e is left [rad^2].
    """
    return torch.exp(_weighted_mean((dof_pos - ref_dof_pos).square(), weights) / -sigma)


def joint_velocity_tracking(dof_vel: Tensor, ref_dof_vel: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """Joint velocities against the reference; arguments as of `joint_position_tracking`, in rad/s."""
    return torch.exp(_weighted_mean((dof_vel - ref_dof_vel).square(), weights) / -sigma)


def root_position_tracking(root_pos_w: Tensor, ref_root_pos_w: Tensor, sigma: float) -> Tensor:
    """Position of the root against the reference, both (num_envs, 3) or horizontal, (num_envs, 2) [m]."""
    return torch.exp((root_pos_w - ref_root_pos_w).square().sum(dim=-1) / -sigma)


def root_height_tracking(root_height: Tensor, ref_root_height: Tensor, sigma: float) -> Tensor:
    """Height of the root above the ground against the reference, both (num_envs,) [m]."""
    return torch.exp((root_height - ref_root_height).square() / -sigma)


def root_orientation_tracking(root_quat_w: Tensor, ref_root_quat_w: Tensor, sigma: float) -> Tensor:
    """Orientation of the root against the reference.

    Args:
        root_quat_w: Unit quaternions xyzw, (num_envs, 4).
        ref_root_quat_w: Those of the reference, of either sign, (num_envs, 4).
        sigma: Square of the angle between them at which 1/e is left [rad^2].
    """
    # The dot product is the cosine of half the angle of the rotation between them.
    cosine = (root_quat_w * ref_root_quat_w).sum(dim=-1).abs().clamp(max=1.0)
    angle = 2.0 * torch.acos(cosine)
    return torch.exp(angle.square() / -sigma)


def tilt_tracking(projected_gravity: Tensor, ref_projected_gravity: Tensor, sigma: float) -> Tensor:
    """Direction of gravity in the base frame against the reference, both unit vectors (num_envs, 3)."""
    return torch.exp((projected_gravity - ref_projected_gravity).square().sum(dim=-1) / -sigma)


def velocity_tracking(velocity: Tensor, ref_velocity: Tensor, sigma: float) -> Tensor:
    """Linear or angular velocity of the root against the reference, both in one frame, (num_envs, 2 or 3)."""
    return torch.exp((velocity - ref_velocity).square().sum(dim=-1) / -sigma)


def key_body_tracking(key_body_pos: Tensor, ref_key_body_pos: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """Places of key bodies against the reference.

    Args:
        key_body_pos: Positions in any frame [m], (num_envs, num_bodies, 3).
        ref_key_body_pos: Those of the reference in the same frame [m], (num_envs, num_bodies, 3).
        weights: How much each body counts, of any sum, (num_bodies,).
        sigma: Weighted mean squared distance at which 1/e is left [m^2].
    """
    distance = (key_body_pos - ref_key_body_pos).square().sum(dim=-1)  # (num_envs, num_bodies)
    return torch.exp(_weighted_mean(distance, weights) / -sigma)


def key_body_error(key_body_pos: Tensor, ref_key_body_pos: Tensor) -> Tensor:
    """Mean distance of key bodies from the reference's [m]; arguments as of `key_body_tracking`."""
    return (key_body_pos - ref_key_body_pos).square().sum(dim=-1).sqrt().mean(dim=-1)


def feet_height_tracking(feet_height: Tensor, ref_feet_height: Tensor, sigma: float) -> Tensor:
    """Heights of the feet above the ground against the reference, both (num_envs, num_feet) [m]."""
    return torch.exp((feet_height - ref_feet_height).square().mean(dim=-1) / -sigma)


def contact_tracking(feet_contact: Tensor, ref_feet_contact: Tensor) -> Tensor:
    """Share of feet that are on the ground where the reference's are, and only there, of (num_envs, num_feet) bool."""
    return (feet_contact == ref_feet_contact).to(torch.float32).mean(dim=-1)


# Tracking of the command --------------------------------------------------------------------------------------------


def command_velocity_tracking(lin_vel_h: Tensor, commands: Tensor, sigma: float) -> Tensor:
    """Horizontal velocity against the command.

    Args:
        lin_vel_h: Velocity of the root in the heading frame [m/s], (num_envs, 2 or 3). Averaged over a step or so: the
            velocity of a walking pelvis swings by 0.2 m/s about its mean.
        commands: vx, vy [m/s], yaw rate [rad/s], what else there is, (num_envs, command_dim).
        sigma: Squared error at which 1/e is left [m^2/s^2].
    """
    return torch.exp((lin_vel_h[:, :2] - commands[:, :2]).square().sum(dim=-1) / -sigma)


def command_yaw_rate_tracking(yaw_rate: Tensor, commands: Tensor, sigma: float) -> Tensor:
    """Averaged yaw rate (num_envs,) [rad/s] against the command (num_envs, command_dim)."""
    return torch.exp((yaw_rate - commands[:, 2]).square() / -sigma)


# Feet ---------------------------------------------------------------------------------------------------------------


def feet_slip(feet_speed: Tensor, feet_contact: Tensor) -> Tensor:
    """Squared horizontal speed of the feet that touch the ground, summed over the feet [m^2/s^2].

    Args:
        feet_speed: Horizontal speeds of the feet [m/s], (num_envs, num_feet).
        feet_contact: Whether each touches the ground, (num_envs, num_feet) bool.
    """
    return (feet_speed.square() * feet_contact).sum(dim=-1)


def feet_air_time(air_time: Tensor, first_contact: Tensor, told_to_stand: Tensor, wanted: float) -> Tensor:
    """Time in the air of the feet that land in this step, beyond a wanted time, at most as much again [s].

    Negative for shorter steps, zero while no foot lands or the command is to stand.

    Args:
        air_time: Time since each foot left the ground [s], (num_envs, num_feet).
        first_contact: Whether it lands in this step, (num_envs, num_feet) bool.
        told_to_stand: What `standing` says of the commands, (num_envs,) bool.
        wanted: Time in the air that counts as zero [s].
    """
    gain = (air_time - wanted).clamp(max=wanted) * first_contact
    return gain.sum(dim=-1).masked_fill(told_to_stand, 0.0)


def feet_bouncing(air_time: Tensor, first_contact: Tensor, shortest: float) -> Tensor:
    """Share of the shortest swing that landing feet lack, summed over the feet: taps, scuffs and bounces on landing.

    Args:
        air_time: Time since each foot left the ground [s], (num_envs, num_feet).
        first_contact: Whether it lands in this step, (num_envs, num_feet) bool.
        shortest: Time in the air of a swing that counts as zero [s].
    """
    return ((1.0 - air_time / shortest).clamp(min=0.0) * first_contact).sum(dim=-1)


def feet_clearance(feet_height: Tensor, feet_speed: Tensor, wanted: float) -> Tensor:
    """Height that moving feet lack, times their horizontal speed, summed over the feet [m^2/s]: feet that are dragged.

    Args:
        feet_height: Heights of the soles above the ground [m], (num_envs, num_feet).
        feet_speed: Horizontal speeds of the feet [m/s], (num_envs, num_feet).
        wanted: Height from which on nothing is lacking [m].
    """
    return ((wanted - feet_height).clamp(min=0.0) * feet_speed).sum(dim=-1)


def feet_closeness(feet_pos_h: Tensor, wanted: float) -> Tensor:
    """Sideways distance that the feet lack [m]: feet in line, or crossed, leave a robot nothing to stand on sideways.

    Args:
        feet_pos_h: Positions of the left and the right foot along the axes of the heading frame [m], (num_envs, 2, 3).
        wanted: Distance from which on nothing is lacking [m].
    """
    return (wanted - (feet_pos_h[:, 0, 1] - feet_pos_h[:, 1, 1])).clamp(min=0.0)


# Standing -----------------------------------------------------------------------------------------------------------


def standing(commands: Tensor, threshold: float = 0.1) -> Tensor:
    """Whether commands tell to stand: no velocity of `threshold` [m/s, rad/s], (num_envs,) bool."""
    return commands[..., VELOCITY].abs().amax(dim=-1) < threshold


def stand_still(dof_vel: Tensor, told_to_stand: Tensor) -> Tensor:
    """Mean squared joint velocity where the command is to stand, else 0 [rad^2/s^2].

    Args:
        dof_vel: Joint velocities [rad/s], (num_envs, num_joints).
        told_to_stand: What `standing` says of the commands, (num_envs,) bool.
    """
    return dof_vel.square().mean(dim=-1) * told_to_stand


def stepping_in_place(feet_contact: Tensor, told_to_stand: Tensor) -> Tensor:
    """Number of feet off the ground where the command is to stand, else 0.

    Args:
        feet_contact: Whether each foot touches the ground, (num_envs, num_feet) bool.
        told_to_stand: What `standing` says of the commands, (num_envs,) bool.
    """
    return (~feet_contact).to(torch.float32).sum(dim=-1) * told_to_stand


def creeping_in_place(feet_speed: Tensor, feet_contact: Tensor, told_to_stand: Tensor) -> Tensor:
    """Horizontal speeds of the feet that touch the ground, summed, where the command is to stand, else 0 [m/s].

    Unlike `feet_slip` it does not fade where feet creep slowly.

    Args:
        feet_speed: Horizontal speeds of the feet [m/s], (num_envs, num_feet).
        feet_contact: Whether each touches the ground, (num_envs, num_feet) bool.
        told_to_stand: What `standing` says of the commands, (num_envs,) bool.
    """
    return (feet_speed * feet_contact).sum(dim=-1) * told_to_stand


# Effort and smoothness ----------------------------------------------------------------------------------------------


def tilt(projected_gravity: Tensor) -> Tensor:
    """Squared sine of the angle between the base and upright, from unit vectors (num_envs, 3)."""
    return projected_gravity[:, :2].square().sum(dim=-1)


def action_rate(actions: Tensor, last_actions: Tensor) -> Tensor:
    """Squared change of the actions from one step to the next, summed over (num_envs, num_actions)."""
    return (actions - last_actions).square().sum(dim=-1)


def residual_size(actions: Tensor) -> Tensor:
    """Squared actions, which are corrections to the reference, summed over (num_envs, num_actions)."""
    return actions.square().sum(dim=-1)


def torque_share(torques: Tensor, torque_limits: Tensor) -> Tensor:
    """Mean square of the torques as shares of their limits.

    Args:
        torques: Joint torques [N m], (num_envs, num_joints).
        torque_limits: Largest torques, positive [N m], (num_joints,) or (num_envs, num_joints).
    """
    return (torques / torque_limits).square().mean(dim=-1)


def joint_acceleration(dof_vel: Tensor, last_dof_vel: Tensor, dt: float) -> Tensor:
    """Squared joint accelerations summed over the joints [rad^2/s^4].

    Args:
        dof_vel: Joint velocities [rad/s], (num_envs, num_joints).
        last_dof_vel: Those of a time dt earlier [rad/s], (num_envs, num_joints).
        dt: Time between them [s].
    """
    return ((dof_vel - last_dof_vel) / dt).square().sum(dim=-1)


def joint_limits(dof_pos: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Angle by which joints are beyond their limits, summed over the joints [rad].

    Args:
        dof_pos: Joint angles [rad], (num_envs, num_joints).
        lower: Lower limits [rad], (num_joints,).
        upper: Upper limits [rad], (num_joints,).
    """
    return ((lower - dof_pos).clamp(min=0.0) + (dof_pos - upper).clamp(min=0.0)).sum(dim=-1)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean over the last dimension of values (num_envs, n) by weights (n,), or (num_envs, n)."""
    if weights.dim() == 2:
        return (values * weights).sum(dim=-1) / weights.sum(dim=-1)
    return torch.matmul(values, weights / weights.sum())
