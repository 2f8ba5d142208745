"""From the root channels of a state to the root's orientation and velocities, in two steps.

What takes the next frame or trigonometry is worked out once, when a frame is generated: the *tilt columns*, free of
heading. To turn them by a heading, whenever a frame is read, takes a few multiplications: a turn about the vertical by
an angle a is a product with the complex number exp(i a).
"""

from __future__ import annotations

import torch

from cmg_ref.layout import StateLayout
from cmg_ref.rotations import quat_from_gravity_and_yaw, quat_rotate
from cmg_ref.trajectory_store import MotionFrames, place

# Orientation at heading 0 as x, y, z and -w of a quaternion; angular velocity in the heading frame; climb [m/s].
TILT_COLUMNS = 8
_QUAT, _ANG_VEL, _CLIMB = slice(0, 4), slice(4, 7), 7
# Turning a quaternion x, y, z, w by an angle a about the vertical, exp(i a / 2) multiplies x + i y and z - i w alike.
_QUAT_SIGNS = (1.0, 1.0, 1.0, -1.0)


def tilt_columns(layout: StateLayout, states: torch.Tensor, others: torch.Tensor, seconds: float) -> torch.Tensor:
    """What is stored of the root beside its channels, (..., TILT_COLUMNS).

    Args:
        layout: channels of the states, root channels included.
        states: states to describe, (..., state_dim).
        others: states some time away, whose differences give the rates, (..., state_dim).
        seconds: how much later those are; negative for earlier ones [s].
    """
    gravity, other_gravity = states[..., layout["projected_gravity"]], others[..., layout["projected_gravity"]]
    heights = layout["root_height"]
    climb = (others[..., heights] - states[..., heights]) / seconds
    quat = quat_from_gravity_and_yaw(gravity, torch.zeros_like(gravity[..., 0]))
    rate = (other_gravity - gravity) / seconds
    ang_vel = _angular_velocity(quat, gravity, rate, states[..., layout["root_yaw_rate"]])
    return torch.cat((quat * quat.new_tensor(_QUAT_SIGNS), ang_vel, climb), dim=-1)


def frames_in_world(
    layout: StateLayout, joints: torch.Tensor, root: torch.Tensor, poses: torch.Tensor, origin: torch.Tensor
) -> MotionFrames:
    """What a reader sees.

    Args:
        layout: channels of a state, root channels included.
        joints: joint angles and velocities, (..., 2 * num_joints).
        root: root channels and tilt columns, (..., number of root channels + TILT_COLUMNS).
        poses: x, y and heading in the frame of ``origin``, (..., 3).
        origin: x, y and heading of that frame in the world, of a shape that goes with ``poses``.
    """
    num_joints, num_channels = layout.num_joints, layout.size - 2 * layout.num_joints
    tilt = root[..., num_channels:]
    first = 2 * num_joints
    velocity, height = layout["root_lin_vel_h"].start - first, layout["root_height"].start - first
    poses = place(poses, origin)
    angle = 0.5 * poses[..., 2]
    half_turn = torch.complex(torch.cos(angle), torch.sin(angle))
    turn = half_turn * half_turn
    quat = torch.view_as_real(_pairs(tilt[..., _QUAT]) * half_turn.unsqueeze(-1)).flatten(-2)
    quat[..., 3].neg_()
    lin_vel = torch.view_as_real(torch.view_as_complex(root[..., velocity : velocity + 2]) * turn)
    ang_vel = torch.view_as_real(torch.view_as_complex(tilt[..., _ANG_VEL][..., :2]) * turn)
    return MotionFrames(
        dof_pos=joints[..., :num_joints],
        dof_vel=joints[..., num_joints:],
        root_pos_w=torch.cat((poses[..., :2], root[..., height : height + 1]), dim=-1),
        root_quat_w=quat,
        root_lin_vel_w=torch.cat((lin_vel, tilt[..., _CLIMB:]), dim=-1),
        root_ang_vel_w=torch.cat((ang_vel, tilt[..., _ANG_VEL][..., 2:]), dim=-1),
    )


def _pairs(values: torch.Tensor) -> torch.Tensor:
    """Columns (..., 2 n) as complex numbers (..., n)."""
    return torch.view_as_complex(values.view(*values.shape[:-1], values.shape[-1] // 2, 2))


def _angular_velocity(
    quat: torch.Tensor, gravity: torch.Tensor, gravity_rate: torch.Tensor, yaw_rate: torch.Tensor
) -> torch.Tensor:
    """Angular velocity in the heading frame (..., 3) from the rates of gravity in the base frame and of yaw (..., 1).

    A vector fixed in the world changes by dg/dt = g x w in the base frame, so with |g| = 1 the part of w across g is
    -(g x dg/dt). Along the vertical w is the yaw rate less the roll rate times the sine of the pitch, which is g_x.
    """
    across = quat_rotate(quat, -torch.cross(gravity, gravity_rate, dim=-1))
    y, z = gravity[..., 1], gravity[..., 2]
    roll_rate = (z * gravity_rate[..., 1] - y * gravity_rate[..., 2]) / (y**2 + z**2).clamp(min=1e-6)
    vertical = yaw_rate.squeeze(-1) - gravity[..., 0] * roll_rate
    return torch.cat((across[..., :2], vertical.unsqueeze(-1)), dim=-1)
