"""`torch_utils` computes what its names say, scripts with its callers, and brings the names they count on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cmg_ref.core import rotations
from envs.mujoco_gym import torch_utils


def random_quats(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch_utils.normalize(torch.randn(count, 4, generator=generator, dtype=torch.float64))


def test_star_import_brings_what_callers_use() -> None:
    names: dict[str, object] = {}
    exec("from envs.mujoco_gym.torch_utils import *", names)
    expected = """torch np Tensor Tuple to_torch get_axis_params torch_rand_float normalize normalize_angle quat_mul
        quat_conjugate quat_apply quat_rotate quat_rotate_inverse quat_unit quat_from_angle_axis quat_from_euler_xyz
        get_euler_xyz copysign tensor_clamp"""
    assert set(expected.split()) <= set(names)


def test_quarter_turn_about_z_takes_x_to_y() -> None:
    quat = torch_utils.quat_from_angle_axis(torch.tensor([math.pi / 2]), torch.tensor([[0.0, 0.0, 2.0]]))
    torch.testing.assert_close(quat, torch.tensor([[0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)]]))
    x = torch.tensor([[1.0, 0.0, 0.0]])
    y = torch.tensor([[0.0, 1.0, 0.0]])
    for turn in (torch_utils.quat_rotate, torch_utils.quat_apply):
        torch.testing.assert_close(turn(quat, x), y)
    torch.testing.assert_close(torch_utils.quat_rotate_inverse(quat, y), x)
    torch.testing.assert_close(torch_utils.quat_rotate(torch_utils.quat_conjugate(quat), y), x)
    half_turn = torch_utils.quat_mul(quat, quat)
    torch.testing.assert_close(torch_utils.quat_apply(half_turn, x), -x)


def test_product_turns_by_the_second_factor_first() -> None:
    a, b = random_quats(5), random_quats(10)[5:]
    product = rotations.matrix_from_quat(torch_utils.quat_mul(a, b))
    torch.testing.assert_close(product, rotations.matrix_from_quat(a) @ rotations.matrix_from_quat(b))


def test_quat_apply_takes_quaternions_repeated_in_one_row() -> None:
    """legged_gym repeats the base's quaternion along its row for every height point."""
    quats = random_quats(3)
    points = torch.randn(3, 7, 3, dtype=torch.float64)
    turned = torch_utils.quat_apply(quats.repeat(1, 7), points)
    expected = points @ rotations.matrix_from_quat(quats).transpose(-1, -2)
    torch.testing.assert_close(turned, expected)


def test_euler_angles_come_back_between_zero_and_one_turn() -> None:
    angles = torch.tensor([[0.3, -0.4, 2.0], [-2.0, 1.2, -3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    found = torch.stack(torch_utils.get_euler_xyz(torch_utils.quat_from_euler_xyz(*angles.unbind(-1))), dim=-1)
    torch.testing.assert_close(found, angles % (2.0 * math.pi))


def test_normalize_and_angles() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(torch_utils.normalize(vectors), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    angles = torch.tensor([0.5, 4.0, -4.0, 7.0])
    expected = torch.tensor([0.5, 4.0 - 2 * math.pi, 2 * math.pi - 4.0, 7.0 - 2 * math.pi])
    torch.testing.assert_close(torch_utils.normalize_angle(angles), expected)
    quat = torch_utils.quat_unit(torch.tensor([[0.0, 0.0, 3.0, 4.0]]))
    torch.testing.assert_close(quat, torch.tensor([[0.0, 0.0, 0.6, 0.8]]))


def test_small_functions() -> None:
    assert torch_utils.get_axis_params(-1.0, 2) == [0.0, 0.0, -1.0]
    assert torch_utils.get_axis_params(1, 1, x_value=5, dtype=int, n_dims=4) == [5, 1, 0, 0]
    tensor = torch_utils.to_torch([1, 2], device="cpu")
    assert tensor.dtype == torch.float32 and not tensor.requires_grad
    signed = torch_utils.copysign(-2.0, torch.tensor([-0.5, 3.0]))
    torch.testing.assert_close(signed, torch.tensor([-2.0, 2.0]))
    clamped = torch_utils.tensor_clamp(
        torch.tensor([-3.0, 0.5, 3.0]), torch.tensor([-1.0] * 3), torch.tensor([1.0] * 3)
    )
    torch.testing.assert_close(clamped, torch.tensor([-1.0, 0.5, 1.0]))


def test_random_numbers_fill_their_range() -> None:
    torch.manual_seed(0)
    values = torch_utils.torch_rand_float(-2.0, 3.0, (500, 4), device="cpu")
    assert values.shape == (500, 4) and values.dtype == torch.float32
    assert -2.0 <= values.min() < -1.9 and 2.9 < values.max() < 3.0
    assert abs(values.mean().item() - 0.5) < 0.1


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_functions_are_scripted_with_their_callers() -> None:
    scripted = torch.jit.script(heading_of_turned_base)
    quats = random_quats(4)
    torch.testing.assert_close(scripted(quats), heading_of_turned_base(quats))
    assert torch.jit.script(random_pair)().shape == (2, 3)


def heading_of_turned_base(q: Tensor) -> Tensor:
    """Uses each function that a caller may script."""
    roll, pitch, yaw = torch_utils.get_euler_xyz(torch_utils.quat_unit(q))
    again = torch_utils.quat_from_euler_xyz(roll, pitch, torch_utils.normalize_angle(yaw))
    turn = torch_utils.quat_mul(again, torch_utils.quat_conjugate(q))
    forward = torch_utils.quat_rotate_inverse(turn, torch_utils.quat_rotate(q, q[:, :3]))
    axis = torch_utils.normalize(torch_utils.quat_apply(turn, forward))
    return torch_utils.quat_from_angle_axis(torch_utils.copysign(0.5, yaw), axis)


def random_pair() -> Tensor:
    """Uses the random numbers as a caller may script them."""
    return torch_utils.torch_rand_float(0.0, 1.0, (2, 3), "cpu")
