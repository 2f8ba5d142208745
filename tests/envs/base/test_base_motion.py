from __future__ import annotations

import torch

from cmg_ref.core.rotations import (
    matrix_from_quat,
    projected_gravity,
    quat_from_yaw,
    quat_rotate_inverse,
    yaw_from_quat,
)
from envs.base.base_motion import BaseMotion


def test_motion_is_that_of_the_rotations() -> None:
    random = torch.Generator().manual_seed(0)
    root_states = torch.randn(200, 13, generator=random)
    quat = root_states[:, 3:7] = torch.nn.functional.normalize(root_states[:, 3:7], dim=1)
    velocity_h, ang_vel_b, gravity_b, rotation = BaseMotion("cpu")(root_states)
    heading = quat_from_yaw(yaw_from_quat(quat))
    torch.testing.assert_close(
        velocity_h[:, :3], quat_rotate_inverse(heading, root_states[:, 7:10]), atol=1e-4, rtol=0.0
    )
    torch.testing.assert_close(velocity_h[:, 3], root_states[:, 12])
    torch.testing.assert_close(ang_vel_b, quat_rotate_inverse(quat, root_states[:, 10:13]), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(gravity_b, projected_gravity(quat), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(rotation, matrix_from_quat(quat), atol=1e-5, rtol=0.0)


def test_a_base_that_points_straight_up_gives_finite_numbers() -> None:
    half = 0.5**0.5
    root_states = torch.tensor([[0.0, 0.0, 1.0, 0.0, -half, 0.0, half, 1.0, 2.0, 3.0, 0.1, 0.2, 0.3]])
    assert all(torch.isfinite(value).all() for value in BaseMotion("cpu")(root_states))
