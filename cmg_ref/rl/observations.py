"""What a policy is told of a robot and of its reference motion.

Pure functions of tensors whose first dimension is the environments'. Positions and velocities are given in the robot's
own frames, so that nothing depends on where in the world it stands or which way it faces: ``_b`` is the frame of the
base, ``_h`` the heading frame, which has the base's heading and stands upright. Quaternions are xyzw, lengths in m,
angles in rad. What is no more than a difference of two tensors is left to the caller; the direction of gravity and
vectors in the two frames are in `cmg_ref.core.rotations`: `projected_gravity`, `quat_rotate_inverse`, `in_heading`.

The constants ``..._SIGNS`` tell how an encoding changes in a mirror: ``mirrored = signs * encoding``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cmg_ref.core.rotations import in_heading, projected_gravity, yaw_from_quat

VECTOR_SIGNS = (1.0, -1.0, 1.0)
"""Positions, velocities and gravity: the component across the mirror changes its sign."""
ANGULAR_SIGNS = (-1.0, 1.0, -1.0)
"""Angular velocities, the other way round."""
ROOT_RESIDUAL_SIGNS = (*VECTOR_SIGNS, -1.0, *VECTOR_SIGNS)
"""Of :func:`root_residual`."""
REFERENCE_ROOT_SIGNS = (*VECTOR_SIGNS, -1.0, 1.0, *VECTOR_SIGNS, *VECTOR_SIGNS, -1.0)
"""Of each step of :func:`reference_root`."""
CONTACT_FORCE = 1.0
"""Force on a foot that touches the ground [N]; what is less is taken for noise."""


def body_positions_in_heading(root_pos_w: Tensor, root_quat_w: Tensor, body_pos_w: Tensor) -> Tensor:
    """Places of bodies seen from the root, in the heading frame.

    Args:
        root_pos_w: Position of the root, (num_envs, 3).
        root_quat_w: Orientation of the root, xyzw, (num_envs, 4).
        body_pos_w: Positions of the bodies, (num_envs, num_bodies, 3).

    Returns:
        (num_envs, num_bodies, 3).
    """
    return in_heading(root_quat_w.unsqueeze(1), body_pos_w - root_pos_w.unsqueeze(1))


def running_average(average: Tensor, value: Tensor, share: float) -> Tensor:
    """An average that forgets: each step it moves by ``share`` towards the value, both (num_envs, ...).

    A share of 0.1 at 50 Hz averages over about 0.2 s.
    """
    return torch.lerp(average, value, share)


def foot_contacts(contact_forces: Tensor, threshold: float = CONTACT_FORCE) -> Tensor:
    """Whether feet touch the ground: forces (num_envs, num_feet, 3) longer than ``threshold`` [N], bool."""
    return contact_forces.square().sum(dim=-1) > threshold * threshold


def root_residual(root_pos_w: Tensor, root_quat_w: Tensor, ref_root_pos_w: Tensor, ref_root_quat_w: Tensor) -> Tensor:
    """How far the reference's root is from the robot's own.

    Args:
        root_pos_w: Position of the robot's root, (num_envs, 3).
        root_quat_w: Its orientation, xyzw, (num_envs, 4).
        ref_root_pos_w: Position of the reference's root, (num_envs, 3).
        ref_root_quat_w: Its orientation, xyzw, (num_envs, 4).

    Returns:
        Offset in the robot's heading frame [m] (3), turn of the heading within [-pi, pi] [rad] (1), difference of the
        projected gravity (3); (num_envs, 7).
    """
    heading = yaw_from_quat(root_quat_w)
    offset = in_heading(root_quat_w, ref_root_pos_w - root_pos_w)
    turn = yaw_from_quat(ref_root_quat_w) - heading
    turn = torch.atan2(torch.sin(turn), torch.cos(turn)).unsqueeze(1)
    return torch.cat((offset, turn, projected_gravity(ref_root_quat_w) - projected_gravity(root_quat_w)), dim=1)


def reference_root(
    root_pos_w: Tensor,
    root_quat_w: Tensor,
    ref_root_pos_w: Tensor,
    ref_root_quat_w: Tensor,
    ref_root_lin_vel_w: Tensor,
    ref_root_ang_vel_w: Tensor,
) -> Tensor:
    """The reference's root at several times, seen from the robot's place and heading now.

    Args:
        root_pos_w: Position of the robot's root now, (num_envs, 3).
        root_quat_w: Its orientation now, xyzw, (num_envs, 4).
        ref_root_pos_w: Positions of the reference's root, (num_envs, num_steps, 3).
        ref_root_quat_w: Its orientations, xyzw, (num_envs, num_steps, 4).
        ref_root_lin_vel_w: Its velocities, (num_envs, num_steps, 3).
        ref_root_ang_vel_w: Its angular velocities, (num_envs, num_steps, 3).

    Returns:
        Each step after the other, (num_envs, num_steps * 12): horizontal offset in the robot's heading frame (2) and
        height above the floor (1) [m], sine and cosine of the turn (2), projected gravity (3), velocity in the robot's
        heading frame (3) [m/s], yaw rate (1) [rad/s].
    """
    heading = yaw_from_quat(root_quat_w)
    offset = in_heading(root_quat_w.unsqueeze(1), ref_root_pos_w - root_pos_w.unsqueeze(1))
    turn = yaw_from_quat(ref_root_quat_w) - heading.unsqueeze(1)
    encoding = torch.cat(
        (
            offset[..., :2],
            ref_root_pos_w[..., 2:],
            torch.sin(turn).unsqueeze(-1),
            torch.cos(turn).unsqueeze(-1),
            projected_gravity(ref_root_quat_w),
            in_heading(root_quat_w.unsqueeze(1), ref_root_lin_vel_w),
            ref_root_ang_vel_w[..., 2:],
        ),
        dim=-1,
    )  # (num_envs, num_steps, 12)
    return encoding.flatten(1)


def joint_changes(dof_pos: Tensor, future_dof_pos: Tensor) -> Tensor:
    """Change of the reference's joint angles from one time to later ones, each step after the other.

    Args:
        dof_pos: Joint angles to count from, (num_envs, num_joints).
        future_dof_pos: Later joint angles, (num_envs, num_steps, num_joints).

    Returns:
        (num_envs, num_steps * num_joints).
    """
    return (future_dof_pos - dof_pos.unsqueeze(1)).flatten(1)


def append_history(history: Tensor, observation: Tensor, begins: Tensor) -> Tensor:
    """The latest observations, the newest last.

    Args:
        history: Earlier observations, (num_envs, length, size).
        observation: The new one, (num_envs, size).
        begins: Environments that begin an episode, (num_envs,) bool; their history is the new observation repeated.

    Returns:
        (num_envs, length, size).
    """
    newest = observation.unsqueeze(1)
    return torch.where(begins.view(-1, 1, 1), newest, torch.cat((history[:, 1:], newest), dim=1))
