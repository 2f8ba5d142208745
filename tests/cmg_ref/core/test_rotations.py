"""Rotations against their definitions, in both precisions, with gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cmg_ref.core import rotations

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def random_quats(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, 4, dtype=dtype, generator=generator), dim=-1)


def random_vectors(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(*shape, 3, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# Errors of torch's own matrix exponential in float64: 1.x takes too short a series at some angles.
EXPONENTIAL_TOLERANCE = 1e-9 if torch.__version__.startswith("1.") else 0.0


def rodrigues(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotation matrices by the matrix exponential: independent of every formula under test."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))
    return torch.matrix_exp(cross * angle[..., None, None])


def same_rotation(a: Tensor, b: Tensor) -> float:
    """Largest difference of two sets of quaternions, whatever their signs."""
    return float(torch.minimum((a - b).abs().amax(-1), (a + b).abs().amax(-1)).max())


def test_matrix_of_a_turn_is_the_matrix_exponential(dtype: torch.dtype) -> None:
    axis = torch.nn.functional.normalize(random_vectors(200, dtype=dtype), dim=-1)
    angle = torch.linspace(-6.0, 6.0, 200, dtype=dtype)
    quat = rotations.quat_from_axis_angle(axis, angle)
    assert quat.dtype == dtype
    expected = rodrigues(axis.double(), angle.double())
    assert (rotations.matrix_from_quat(quat).double() - expected).abs().max() < 5 * TOLERANCE[
        dtype
    ] + EXPONENTIAL_TOLERANCE


def test_products_rotations_and_inverses_agree_with_matrices(dtype: torch.dtype) -> None:
    a, b = random_quats(300, dtype=dtype), random_quats(300, dtype=dtype, seed=5)
    v = random_vectors(300, dtype=dtype)
    matrix_a, matrix_b = rotations.matrix_from_quat(a), rotations.matrix_from_quat(b)
    product = rotations.matrix_from_quat(rotations.quat_multiply(a, b))
    turned = (matrix_a @ v.unsqueeze(-1)).squeeze(-1)
    assert (product - matrix_a @ matrix_b).abs().max() < TOLERANCE[dtype]
    assert (rotations.quat_rotate(a, v) - turned).abs().max() < 4 * TOLERANCE[dtype]
    assert (rotations.quat_rotate_inverse(a, turned) - v).abs().max() < 4 * TOLERANCE[dtype]


def test_leading_dimensions_broadcast() -> None:
    quat, vector = random_quats(7, 1), random_vectors(5)
    assert rotations.quat_rotate(quat, vector).shape == (7, 5, 3)
    assert rotations.quat_multiply(quat, random_quats(5)).shape == (7, 5, 4)
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert rotations.quat_from_axis_angle(axis, torch.zeros(2, 3, dtype=torch.float64)).shape == (2, 3, 4)


def test_quat_from_matrix_inverts_also_at_half_turns(dtype: torch.dtype) -> None:
    half_turns = torch.eye(4, dtype=dtype)
    near_half_turns = torch.nn.functional.normalize(half_turns + 1e-4, dim=-1)
    quat = torch.cat((random_quats(500, dtype=dtype), half_turns, near_half_turns))
    found = rotations.quat_from_matrix(rotations.matrix_from_quat(quat))
    assert same_rotation(found, quat) < 3 * TOLERANCE[dtype]
    assert (found[:, 3] >= 0).all()


def test_euler_angles_are_turns_about_fixed_axes() -> None:
    roll, pitch, yaw = random_vectors(100).unbind(-1)
    x, y, z = torch.eye(3, dtype=torch.float64).unbind(0)
    expected = rodrigues(z.expand(100, 3), yaw) @ rodrigues(y.expand(100, 3), pitch) @ rodrigues(x.expand(100, 3), roll)
    found = rotations.matrix_from_quat(rotations.quat_from_euler_xyz(roll, pitch, yaw))
    assert (found - expected).abs().max() < 1e-14 + EXPONENTIAL_TOLERANCE


def test_upright_gravity_points_down_and_headings_follow_the_x_axis() -> None:
    yaw = torch.linspace(-3.1, 3.1, 20, dtype=torch.float64)
    quat = rotations.quat_from_yaw(yaw)
    down = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    assert (rotations.projected_gravity(quat) - down).abs().max() < 1e-15
    assert (rotations.yaw_from_quat(quat) - yaw).abs().max() < 1e-14
    quat = random_quats(200)
    assert (rotations.projected_gravity(quat) - rotations.quat_rotate_inverse(quat, down)).abs().max() < 1e-14
    forward = rotations.quat_rotate(quat, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    assert (rotations.yaw_from_quat(quat) - torch.atan2(forward[:, 1], forward[:, 0])).abs().max() < 1e-12


def test_leaning_forward_brings_gravity_to_the_front() -> None:
    pitch = torch.tensor(0.3)
    quat = rotations.quat_from_euler_xyz(torch.tensor(0.0), pitch, torch.tensor(1.0))
    expected = torch.stack((torch.sin(pitch), torch.tensor(0.0), -torch.cos(pitch)))
    assert torch.allclose(rotations.projected_gravity(quat), expected, atol=1e-6)


def test_gravity_and_heading_give_the_orientation_back(dtype: torch.dtype) -> None:
    quat = random_quats(500, dtype=dtype)
    gravity = 9.81 * rotations.projected_gravity(quat)
    found = rotations.quat_from_gravity_and_yaw(gravity, rotations.yaw_from_quat(quat))
    # Heading is ill-defined as the x axis nears the vertical, which costs digits there.
    assert same_rotation(found, quat) < (1e-3 if dtype == torch.float32 else 1e-11)


def test_rotation_vectors_invert_turns_up_to_half_a_turn(dtype: torch.dtype) -> None:
    axis = torch.nn.functional.normalize(random_vectors(8, dtype=dtype), dim=-1)
    angle = torch.tensor([0.0, 1e-9, 1e-5, 3e-4, 1e-2, 1.0, 2.0, 3.14], dtype=dtype)
    quat = -rotations.quat_from_axis_angle(axis, angle)
    expected = axis * angle.unsqueeze(-1)
    assert (rotations.rotation_vector_from_quat(quat) - expected).abs().max() < 5 * TOLERANCE[dtype]


def test_angular_velocity_of_a_steady_turn_whatever_the_signs() -> None:
    rate = torch.tensor([0.5, -2.0, 4.0], dtype=torch.float64)
    time = 0.02 * torch.arange(40, dtype=torch.float64)
    speed = torch.linalg.vector_norm(rate)
    quat = rotations.quat_multiply(
        rotations.quat_from_axis_angle(rate / speed, speed * time), random_quats(1).expand(40, 4)
    )
    quat[::3] *= -1.0
    found = rotations.angular_velocity(torch.stack((quat, quat)), 0.02)
    assert found.shape == (2, 40, 3)
    assert (found - rate).abs().max() < 1e-10


def test_angular_velocity_is_in_the_world_frame_and_of_second_order() -> None:
    time = 0.01 * torch.arange(101, dtype=torch.float64)
    zero = torch.zeros_like(time)
    tilted = torch.tensor([0.5, 0.0, 0.0, 0.75**0.5], dtype=torch.float64)
    quat = rotations.quat_multiply(rotations.quat_from_yaw(torch.sin(3.0 * time)), tilted)
    expected = torch.stack((zero, zero, 3.0 * torch.cos(3.0 * time)), dim=-1)
    found = rotations.angular_velocity(quat, 0.01)
    assert (found - expected)[1:-1].abs().max() < 1e-4 * 27 / 6 * 1.01  # dt^2 |x'''| / 6
    with pytest.raises(ValueError, match="at least 2 frames"):
        rotations.angular_velocity(quat[:1], 0.01)


def test_unwrapped_signs_are_continuous_and_keep_the_rotations() -> None:
    smooth = rotations.quat_from_yaw(torch.linspace(0.0, 12.0, 100, dtype=torch.float64))
    flips = torch.where(torch.rand(100, 1, generator=torch.Generator().manual_seed(2)) < 0.5, -1.0, 1.0)
    flips[0] = 1.0
    assert torch.equal(rotations.unwrap_quat_signs(smooth * flips), smooth)


@pytest.mark.parametrize(
    "function",
    [
        lambda q: rotations.quat_from_matrix(rotations.matrix_from_quat(q)),
        rotations.rotation_vector_from_quat,
        rotations.yaw_from_quat,
        lambda q: rotations.quat_from_gravity_and_yaw(rotations.projected_gravity(q), rotations.yaw_from_quat(q)),
        lambda q: rotations.angular_velocity(q.expand(5, 4), 0.02),
    ],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_at_the_identity(
    function: Callable[[Tensor], Tensor], sign: float, dtype: torch.dtype
) -> None:
    quat = torch.tensor([0.0, 0.0, 0.0, sign], dtype=dtype, requires_grad=True)
    weights = torch.arange(1.0, function(quat).numel() + 1.0, dtype=dtype)
    (function(quat).reshape(-1) * weights).sum().backward()
    assert quat.grad is not None
    assert torch.isfinite(quat.grad).all()


def test_gradients_are_right_away_from_the_identity() -> None:
    quats = random_quats(6).requires_grad_()
    vectors = random_vectors(6).requires_grad_()
    yaw = torch.rand(6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    assert torch.autograd.gradcheck(rotations.quat_rotate, (quats, vectors))
    assert torch.autograd.gradcheck(rotations.rotation_vector_from_quat, (quats,))
    assert torch.autograd.gradcheck(lambda q: rotations.quat_from_matrix(rotations.matrix_from_quat(q)), (quats,))
    assert torch.autograd.gradcheck(rotations.quat_from_gravity_and_yaw, (vectors, yaw))


def test_vectors_in_the_heading_frame() -> None:
    quarter_left = rotations.quat_from_yaw(torch.tensor([torch.pi / 2], dtype=torch.float64))
    pitched = rotations.quat_multiply(
        quarter_left, rotations.quat_from_euler_xyz(*torch.tensor([[0.0], [1.2], [0.0]], dtype=torch.float64))
    )
    vectors = torch.tensor([[[0.0, 2.0, 0.5], [1.0, 0.0, 0.0]]], dtype=torch.float64)  # the robot faces y
    expected = torch.tensor([[[2.0, 0.0, 0.5], [0.0, -1.0, 0.0]]], dtype=torch.float64)
    for quat in (quarter_left, pitched):
        torch.testing.assert_close(rotations.in_heading(quat.unsqueeze(1), vectors), expected)
    quats, vectors = random_quats(50), random_vectors(50)
    turned = rotations.quat_rotate(rotations.quat_from_yaw(-rotations.yaw_from_quat(quats)), vectors)
    torch.testing.assert_close(rotations.in_heading(quats, vectors), turned)
    across, about = torch.tensor([1.0, -1.0, 1.0]), torch.tensor([-1.0, 1.0, -1.0, 1.0])  # in a mirror
    torch.testing.assert_close(rotations.in_heading(quats * about, vectors * across), turned * across)
