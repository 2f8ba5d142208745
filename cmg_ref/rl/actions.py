"""What joints are driven towards where actions are corrections to a reference motion.

The PD control damps the joint velocity itself, so a target leads the reference by damping / stiffness times its
velocity: without a correction the torque is that of stiffness and damping on the errors of position and velocity.
"""

from __future__ import annotations

import torch
from torch import Tensor

ACTION_MEANING = (
    "joint target = reference at the next step + damping / stiffness * its velocity + action_scale * action"
)
"""In files of policies; those that say something else cannot run here."""


def velocity_lead(stiffness: Tensor, damping: Tensor) -> Tensor:
    """Time by which targets lead [s], from the gains of the joints [N m/rad, N m s/rad], all (..., num_joints)."""
    return damping / stiffness.clamp(min=1e-6)


def reference_targets(next_dof_pos: Tensor, next_dof_vel: Tensor, lead: Tensor) -> Tensor:
    """Joint targets that follow the reference; a correction is added to them.

    Args:
        next_dof_pos: Joint angles of the reference at the next control step [rad], (num_envs, num_joints).
        next_dof_vel: Its joint velocities then [rad/s], (num_envs, num_joints).
        lead: What `velocity_lead` gives, (num_joints,) or (num_envs, num_joints).

    Returns:
        A new tensor [rad], (num_envs, num_joints).
    """
    return torch.addcmul(next_dof_pos, next_dof_vel, lead)
