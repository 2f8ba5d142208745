"""From the root channels of a state to the root's orientation and velocities.

They are worked out once, when a frame is generated, in the frame that its motion lives in. Where that frame lies
elsewhere in the world (motions of a pool are shown in many places), readers turn and shift what they read.
"""

from __future__ import annotations

import torch

from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.core.rotations import quat_from_gravity_and_yaw, quat_rotate
from cmg_ref.core.state_layout import StateLayout

NUM_SEEN = 12
NUM_VELOCITIES = 8  # of them, which come first
# The model's own upward velocity and yaw rate, needed to go on from a frame, fill the gaps between what begins at even
# columns, as complex numbers must.
_LIN_VEL, _ANG_VEL, _QUAT = slice(0, 3), slice(4, 7), slice(8, 12)


def seen_columns(
    layout: StateLayout, states: torch.Tensor, others: torch.Tensor, seconds: float, heading: torch.Tensor
) -> torch.Tensor:
    """What is stored of the root beside gravity and place, (..., NUM_SEEN).

    Linear velocity and the model's upward one, angular velocity and the model's yaw rate, orientation xyzw.

    Args:
        layout: Channels of the states, root channels included.
        states: States to describe, (..., state_dim).
        others: States some time away, whose differences give the rates, (..., state_dim).
        seconds: How much later those are; negative for earlier ones [s].
        heading: Heading of the root, (...).
    """
    gravity, other_gravity = states[..., layout["projected_gravity"]], others[..., layout["projected_gravity"]]
    heights = layout["root_height"]
    climb = (others[..., heights] - states[..., heights]) / seconds
    quat = quat_from_gravity_and_yaw(gravity, heading)
    rate = (other_gravity - gravity) / seconds
    yaw_rate, velocity = states[..., layout["root_yaw_rate"]], states[..., layout["root_lin_vel_h"]]
    ang_vel = _angular_velocity(quat, gravity, rate, yaw_rate)
    return torch.cat((rotate_xy(velocity, heading), climb, velocity[..., 2:], ang_vel, yaw_rate, quat), dim=-1)


def root_channels(seen: torch.Tensor, places: torch.Tensor, gravity: torch.Tensor) -> dict[str, torch.Tensor]:
    """The root channels of states, by name, from the columns they were stored as."""
    return {
        "root_height": places[..., 2:3],
        "projected_gravity": gravity,
        "root_lin_vel_h": torch.cat((rotate_xy(seen, -places[..., 3]), seen[..., 3:4]), dim=-1),
        "root_yaw_rate": seen[..., 7:8],
    }


def frames_in_world(
    joints: torch.Tensor, seen: torch.Tensor, places: torch.Tensor, origin: torch.Tensor | None
) -> MotionFrames:
    """What a reader sees.

    Args:
        joints: Joint angles and velocities, (..., 2 * num_joints).
        seen: The seen columns of the root, (..., NUM_SEEN); worked on in place.
        places: x, y, height and heading in the motion's own frame, (..., 4); worked on in place.
        origin: x, y and heading of that frame in the world, of a shape that goes with ``places``; None if it is the
            world.
    """
    lin_vel, ang_vel, quat = seen[..., _LIN_VEL], seen[..., _ANG_VEL], seen[..., _QUAT]
    if origin is not None:
        # A turn about the vertical by an angle a is a product with the complex number exp(i a); of a quaternion it
        # multiplies x + i y and z - i w by exp(i a / 2).
        half_turn = _turn(0.5 * origin[..., 2])
        turn = half_turn * half_turn
        shift = torch.complex(origin[..., 0], origin[..., 1])
        torch.view_as_complex(places[..., :2]).mul_(turn).add_(shift)
        torch.view_as_complex(quat[..., :2]).mul_(half_turn)
        torch.view_as_complex(quat[..., 2:]).mul_(torch.conj_physical(half_turn))
        for velocity in (lin_vel, ang_vel):
            torch.view_as_complex(velocity[..., :2]).mul_(turn)
    dof_pos, dof_vel = joints.chunk(2, dim=-1)
    return MotionFrames(dof_pos, dof_vel, places[..., :3], quat, lin_vel, ang_vel)


def rotate_xy(vectors: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """The horizontal part of vectors (..., >= 2) turned about the vertical by an angle (...), (..., 2)."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = vectors[..., 0], vectors[..., 1]
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1)


def _turn(angle: torch.Tensor) -> torch.Tensor:
    """exp(i angle), (...)."""
    return torch.complex(torch.cos(angle), torch.sin(angle))


def _angular_velocity(
    quat: torch.Tensor, gravity: torch.Tensor, gravity_rate: torch.Tensor, yaw_rate: torch.Tensor
) -> torch.Tensor:
    """Angular velocity (..., 3) in the world of ``quat`` from the rates of gravity in the base and of yaw (..., 1).

    A vector fixed in the world changes by dg/dt = g x w in the base frame, so with |g| = 1 the part of w across g is
    -(g x dg/dt). Along the vertical w is the yaw rate less the roll rate times the sine of the pitch, which is g_x.
    """
    across = quat_rotate(quat, -torch.cross(gravity, gravity_rate, dim=-1))
    y, z = gravity[..., 1], gravity[..., 2]
    roll_rate = (z * gravity_rate[..., 1] - y * gravity_rate[..., 2]) / (y**2 + z**2).clamp(min=1e-6)
    vertical = yaw_rate.squeeze(-1) - gravity[..., 0] * roll_rate
    return torch.cat((across[..., :2], vertical.unsqueeze(-1)), dim=-1)
