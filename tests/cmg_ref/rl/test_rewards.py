"""Rewards and penalties on values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cmg_ref.rl import rewards as rewards

E = math.exp
T = torch.tensor
WALK = [0.8, 0.0, 0.0]

# Function, arguments for two environments, results.
CASES: list[tuple[Callable[..., torch.Tensor], tuple[Any, ...], list[float]]] = [
    # Weighted mean of 0.1^2 and 0.2^2 by 3 to 1: (0.03 + 0.04) / 4 = 0.0175.
    (
        rewards.joint_position_tracking,
        (T([[0.1, 0.5], [0.0, 0.3]]), T([[0.0, 0.3], [0.0, 0.3]]), T([3.0, 1.0]), 0.025),
        [E(-0.7), 1.0],
    ),
    (
        rewards.joint_velocity_tracking,
        (T([[1.0, 2.0], [0.0, 0.0]]), T([[0.0, 0.0], [0.0, 3.0]]), T([1.0, 1.0]), 5.0),
        [E(-0.5), E(-0.9)],
    ),
    (
        rewards.root_position_tracking,
        (T([[1.0, 2.0, 0.8], [0.0, 0.0, 0.0]]), T([[1.3, 2.4, 0.8], [0.0, 0.0, 0.0]]), 0.5),
        [E(-0.5), 1.0],
    ),
    (rewards.root_height_tracking, (T([0.75, 0.7]), T([0.75, 0.8]), 0.01), [1.0, E(-1.0)]),
    # A quarter turn about z, and the same rotation with the other sign.
    (
        rewards.root_orientation_tracking,
        (
            T([[0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)], [0.0, 0.0, 0.0, 1.0]]),
            T([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, -1.0]]),
            2.0,
        ),
        [E(-((math.pi / 2) ** 2) / 2.0), 1.0],
    ),
    (
        rewards.tilt_tracking,
        (T([[0.0, 0.0, -1.0], [0.6, 0.0, -0.8]]), T([[0.0, 0.0, -1.0], [0.0, 0.0, -1.0]]), 0.4),
        [1.0, E(-1.0)],
    ),
    (
        rewards.velocity_tracking,
        (T([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), T([[0.4, 0.0, 0.8], [0.0, 0.0, 0.0]]), 2.0),
        [E(-0.5), 1.0],
    ),
    # Distances 0 and 0.3 m with weights 1 and 2: 2 * 0.09 / 3 = 0.06.
    (
        rewards.key_body_tracking,
        (
            T([[[0.0, 0.0, 0.0], [0.1, 0.2, 0.2]], [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]]),
            T([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]]),
            T([1.0, 2.0]),
            0.03,
        ),
        [E(-2.0), 1.0],
    ),
    # Two bodies, 5 cm and 10 cm off; none.
    (
        rewards.key_body_error,
        (
            T([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]),
            T([[[0.03, 0.0, 0.04], [1.0, 0.1, 0.0]], [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]),
        ),
        [0.075, 0.0],
    ),
    (
        rewards.feet_height_tracking,
        (T([[0.05, 0.15], [0.0, 0.0]]), T([[0.05, 0.05], [0.0, 0.0]]), 0.005),
        [E(-1.0), 1.0],
    ),
    (
        rewards.command_velocity_tracking,
        (T([[0.5, 0.1, 9.0], [0.8, 0.0, 0.0]]), T([[0.8, 0.5, 1.0], WALK]), 0.25),
        [E(-1.0), 1.0],
    ),
    (rewards.command_yaw_rate_tracking, (T([0.5, 0.0]), T([[0.0, 0.0, 1.0], WALK]), 0.25), [E(-1.0), 1.0]),
    # The sliding foot in contact counts, the swinging one and vertical motion do not.
    (
        rewards.feet_slip,
        (
            T([[0.5, 5.0], [0.1, 0.2]]),
            T([[True, False], [True, True]]),
        ),
        [0.25, 0.05],
    ),
    (
        rewards.contact_tracking,
        (T([[True, False], [True, True]]), T([[True, True], [True, True]])),
        [0.5, 1.0],
    ),
    # Landing after 0.3 s against 0.4 s wanted; after 2 s, which counts as no more than 0.8 s.
    (
        rewards.feet_air_time,
        (T([[0.3, 0.2], [2.0, 0.0]]), T([[True, False], [True, False]]), T([False, False]), 0.4),
        [-0.1, 0.4],
    ),
    (
        rewards.feet_air_time,
        (T([[0.3, 0.2], [2.0, 0.0]]), T([[True, True], [True, False]]), T([True, True]), 0.4),
        [0.0, 0.0],
    ),
    # Landing after 0.05 s and after 0.1 s where a swing takes 0.2 s; a long swing, and one that goes on.
    (
        rewards.feet_bouncing,
        (T([[0.05, 0.1], [0.3, 0.02]]), T([[True, True], [True, False]]), 0.2),
        [1.25, 0.0],
    ),
    (
        rewards.feet_clearance,
        (
            T([[0.01, 0.05], [0.0, 0.0]]),
            T([[0.5, 1.0], [0.0, 0.1]]),
            0.03,
        ),
        [0.01, 0.003],
    ),
    # Crossed by 0.02 m, and far apart.
    (
        rewards.feet_closeness,
        (T([[[0.3, -0.01, 0.0], [0.0, 0.01, 0.0]], [[0.0, 0.1, 0.0], [0.0, -0.1, 0.0]]]), 0.14),
        [0.16, 0.0],
    ),
    (rewards.stand_still, (T([[1.0, 2.0], [1.0, 3.0]]), T([False, True])), [0.0, 5.0]),
    (rewards.stepping_in_place, (T([[False, True], [False, False]]), T([False, True])), [0.0, 2.0]),
    (
        rewards.creeping_in_place,
        (
            T([[0.5, 0.1], [0.5, 0.1]]),
            T([[True, True], [True, False]]),
            T([False, True]),
        ),
        [0.0, 0.5],
    ),
    (rewards.tilt, (T([[0.0, 0.0, -1.0], [0.0, 0.6, -0.8]]),), [0.0, 0.36]),
    (rewards.action_rate, (T([[1.0, 2.0], [0.0, 0.0]]), T([[0.0, 4.0], [0.0, 0.0]])), [5.0, 0.0]),
    (rewards.residual_size, (T([[1.0, -2.0], [0.0, 0.5]]),), [5.0, 0.25]),
    (rewards.torque_share, (T([[44.0, 0.0], [88.0, 5.0]]), T([88.0, 5.0])), [0.125, 1.0]),
    (rewards.joint_acceleration, (T([[1.0, 0.0], [0.0, 0.0]]), T([[0.8, 0.4], [0.0, 0.0]]), 0.02), [500.0, 0.0]),
    (
        rewards.joint_limits,
        (T([[1.2, -0.7], [0.0, 0.5]]), T([-1.0, -0.5]), T([1.0, 0.5])),
        [0.4, 0.0],
    ),
]
IDS = [case[0].__name__ for case in CASES]


@pytest.mark.parametrize(("function", "arguments", "expected"), CASES, ids=IDS)
def test_value(function: Callable[..., torch.Tensor], arguments: tuple[Any, ...], expected: list[float]) -> None:
    result = function(*arguments)
    assert result.shape == (2,)
    torch.testing.assert_close(result, T(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("function", "arguments", "expected"), CASES, ids=IDS)
def test_compiled(function: Callable[..., torch.Tensor], arguments: tuple[Any, ...], expected: list[float]) -> None:
    torch.testing.assert_close(torch.jit.script(function)(*arguments), T(expected), atol=1e-5, rtol=1e-5)


def test_every_public_function_is_tested() -> None:
    public = {name for name, item in vars(rewards).items() if callable(item) and name[0].islower()}
    assert public - {"standing"} == set(IDS)


def test_a_command_below_the_threshold_is_to_stand() -> None:
    commands = T([[0.09, -0.09, 0.09], [0.0, 0.0, 0.11], [-0.2, 0.0, 0.0]])
    assert rewards.standing(commands).tolist() == [True, False, False]
    assert rewards.standing(commands, 0.15).tolist() == [True, True, False]
