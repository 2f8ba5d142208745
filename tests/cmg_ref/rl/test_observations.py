"""Observations on values worked out by hand, in any place of the world, and in a mirror."""

from __future__ import annotations

import math

import torch

from cmg_ref.core.rotations import quat_from_euler_xyz, quat_from_yaw, quat_multiply, quat_rotate
from cmg_ref.rl import observations as observations

T = torch.tensor
QUARTER_LEFT = quat_from_yaw(T([math.pi / 2]))


def random_root(count: int, steps: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Position, orientation, velocity and angular velocity of roots that lean and turn."""
    shape = (count,) if steps is None else (count, steps)
    angles = torch.randn(*shape, 3) * T([0.3, 0.3, 2.0])
    quat = quat_from_euler_xyz(*angles.unbind(-1))
    return torch.randn(*shape, 3), quat, torch.randn(*shape, 3), torch.randn(*shape, 3)


def mirrored_quat(quat: torch.Tensor) -> torch.Tensor:
    """A rotation seen in the x-z plane: its axis is a pseudovector."""
    return quat * T([-1.0, 1.0, -1.0, 1.0])


def test_bodies_seen_from_the_root() -> None:
    bodies = T([[[1.0, 3.0, 0.1], [0.0, 2.0, 0.8]]])
    seen = observations.body_positions_in_heading(T([[1.0, 2.0, 0.8]]), QUARTER_LEFT, bodies)
    torch.testing.assert_close(seen, T([[[1.0, 0.0, -0.7], [0.0, 1.0, 0.0]]]), atol=1e-6, rtol=0.0)


def test_root_residual() -> None:
    residual = observations.root_residual(
        T([[1.0, 2.0, 0.8]]), QUARTER_LEFT, T([[1.0, 3.0, 0.7]]), quat_from_yaw(T([-3.0]))
    )
    turn = -3.0 - math.pi / 2 + 2 * math.pi  # the shorter way round
    torch.testing.assert_close(residual, T([[1.0, 0.0, -0.1, turn, 0.0, 0.0, 0.0]]), atol=1e-5, rtol=0.0)


def test_reference_root() -> None:
    # Two steps: where the robot is, and 2 m to its left, facing the world's x axis and pitched forward by 0.1 rad.
    quats = torch.stack((QUARTER_LEFT, quat_from_euler_xyz(T([0.0]), T([0.1]), T([0.0]))), dim=1)
    encoding = observations.reference_root(
        T([[1.0, 2.0, 0.8]]),
        QUARTER_LEFT,
        T([[[1.0, 2.0, 0.75], [-1.0, 2.0, 0.7]]]),
        quats,
        T([[[0.0, 1.0, 0.2], [1.0, 0.0, 0.0]]]),
        T([[[9.0, 9.0, 0.5], [9.0, 9.0, -0.5]]]),
    )
    first = [0.0, 0.0, 0.75, 0.0, 1.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.2, 0.5]
    second = [0.0, 2.0, 0.7, -1.0, 0.0, math.sin(0.1), 0.0, -math.cos(0.1), 0.0, -1.0, 0.0, -0.5]
    torch.testing.assert_close(encoding, T([first + second]), atol=1e-5, rtol=0.0)


def test_encodings_do_not_depend_on_the_place_in_the_world() -> None:
    torch.manual_seed(0)
    (pos, quat, _, _), (ref_pos, ref_quat, ref_vel, ref_rate) = random_root(50), random_root(50, 4)
    turn = quat_from_yaw(torch.randn(50))
    shift = torch.cat((torch.randn(50, 2) * 100.0, torch.zeros(50, 1)), dim=1)

    def moved(points: torch.Tensor) -> torch.Tensor:
        return quat_rotate(turn, points) + shift

    steps = turn.unsqueeze(1)
    there = observations.reference_root(
        moved(pos),
        quat_multiply(turn, quat),
        quat_rotate(steps, ref_pos) + shift.unsqueeze(1),
        quat_multiply(steps, ref_quat),
        quat_rotate(steps, ref_vel),
        quat_rotate(steps, ref_rate),
    )
    here = observations.reference_root(pos, quat, ref_pos, ref_quat, ref_vel, ref_rate)
    torch.testing.assert_close(there, here, atol=1e-4, rtol=0.0)
    there = observations.root_residual(
        moved(pos), quat_multiply(turn, quat), moved(ref_pos[:, 0]), quat_multiply(turn, ref_quat[:, 0])
    )
    here = observations.root_residual(pos, quat, ref_pos[:, 0], ref_quat[:, 0])
    torch.testing.assert_close(there, here, atol=1e-4, rtol=0.0)


def test_encodings_in_a_mirror() -> None:
    torch.manual_seed(1)
    (pos, quat, _, _), (ref_pos, ref_quat, ref_vel, ref_rate) = random_root(50), random_root(50, 3)
    vector, angular = T(observations.VECTOR_SIGNS), T(observations.ANGULAR_SIGNS)
    mirrored = observations.reference_root(
        pos * vector,
        mirrored_quat(quat),
        ref_pos * vector,
        mirrored_quat(ref_quat),
        ref_vel * vector,
        ref_rate * angular,
    )
    signs = T(observations.REFERENCE_ROOT_SIGNS).repeat(3)
    seen = observations.reference_root(pos, quat, ref_pos, ref_quat, ref_vel, ref_rate)
    torch.testing.assert_close(mirrored, seen * signs, atol=1e-5, rtol=0.0)
    mirrored = observations.root_residual(
        pos * vector, mirrored_quat(quat), ref_pos[:, 0] * vector, mirrored_quat(ref_quat[:, 0])
    )
    seen = observations.root_residual(pos, quat, ref_pos[:, 0], ref_quat[:, 0])
    torch.testing.assert_close(mirrored, seen * T(observations.ROOT_RESIDUAL_SIGNS), atol=1e-5, rtol=0.0)


def test_running_average_forgets() -> None:
    average = T([[0.0], [1.0]])
    for _ in range(2):
        average = observations.running_average(average, T([[1.0], [1.0]]), 0.1)
    torch.testing.assert_close(average, T([[0.19], [1.0]]))


def test_foot_contacts_by_the_length_of_the_force() -> None:
    forces = T([[[0.0, 0.0, 0.5], [0.8, 0.0, 0.8]], [[0.0, 0.0, -2.0], [0.0, 0.0, 0.0]]])
    assert observations.foot_contacts(forces).tolist() == [[False, True], [True, False]]


def test_joint_changes() -> None:
    changes = observations.joint_changes(T([[1.0, 2.0]]), T([[[1.5, 2.0], [0.0, 4.0]]]))
    assert changes.tolist() == [[0.5, 0.0, -1.0, 2.0]]


def test_history_moves_on_and_begins_anew() -> None:
    history = torch.zeros(2, 3, 1)
    for value in (1.0, 2.0):
        history = observations.append_history(history, T([[value], [value]]), T([False, False]))
    history = observations.append_history(history, T([[3.0], [3.0]]), T([False, True]))
    assert history.squeeze(2).tolist() == [[1.0, 2.0, 3.0], [3.0, 3.0, 3.0]]
