"""Which motions count as following their commands, on made-up velocities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cmg_ref.core import rotations
from cmg_ref.evaluation.command_following import follows_commands, velocities_h
from cmg_ref.evaluation.requirements import speed_tolerance, speed_tolerances

DT = 0.02


def commanded(vx: float = 0.8, seconds: float = 8.0) -> Tensor:
    """Commands (1, num_frames, 3) that go from standing to a speed after 2 s, over half a second."""
    time = torch.arange(round(seconds / DT)) * DT
    commands = torch.zeros(1, len(time), 3)
    commands[0, :, 0] = vx * ((time - 2.0) / 0.5).clamp(0.0, 1.0)
    return commands


def follows(velocities: Tensor, commands: Tensor) -> bool:
    return bool(follows_commands(velocities, commands, DT)[0])


def test_what_moves_as_commanded_follows() -> None:
    commands = commanded()
    swaying = commands.clone()
    swaying[0, :, 0] += 0.3 * torch.sin(2.0 * torch.pi * torch.arange(commands.shape[1]) * DT)  # a stride a second
    assert follows(commands, commands) and follows(swaying, commands)


def test_after_a_change_there_is_time() -> None:
    commands = commanded()
    late = commands.clone()
    late[0, 100:200, 0] = 0.0  # 2 s, of which the command itself takes 0.5 to change
    assert follows(late, commands)
    late[0, 100:250, 0] = 0.0
    assert not follows(late, commands)


@pytest.mark.parametrize(("axis", "error", "fine"), [(0, 0.09, True), (0, 0.11, False), (1, 0.11, False)])
def test_an_error_counts_by_the_tolerance_of_the_command(axis: int, error: float, fine: bool) -> None:
    commands = commanded()
    velocities = commands.clone()
    velocities[..., axis] += error
    assert follows(velocities, commands) is fine
    running = commanded(2.4)
    velocities = running.clone()
    velocities[:, 150:, axis] += error
    assert follows(velocities, running)


def test_turning_counts_always() -> None:
    commands = commanded()
    velocities = commands.clone()
    velocities[..., 2] += 0.14
    assert follows(velocities, commands)
    velocities[..., 2] += 0.02
    assert not follows(velocities, commands)


def test_motions_are_judged_one_by_one_and_short_ones_pass() -> None:
    commands = commanded().repeat(3, 1, 1)
    velocities = commands.clone()
    velocities[1] = 0.0
    velocities[2, 60, 1] = float("nan")
    assert follows_commands(velocities, commands, DT).tolist() == [True, False, False]
    assert follows_commands(velocities[:, :170], commands[:, :170], DT).tolist() == [True, True, True]


def test_velocities_are_told_in_the_heading_frame() -> None:
    yaw = torch.tensor([0.0, 1.5, -3.0])
    quat = rotations.quat_from_euler_xyz(torch.full((3,), 0.1), torch.full((3,), -0.2), yaw)
    moving = rotations.quat_rotate(rotations.quat_from_yaw(yaw), torch.tensor([[0.8, -0.2, 0.1]]).expand(3, 3))
    found = velocities_h(quat, moving, torch.tensor([[0.3, 0.2, -0.5]]).expand(3, 3))
    assert torch.allclose(found, torch.tensor([[0.8, -0.2, -0.5]]).expand(3, 3), atol=1e-5)


def test_tolerances_of_many_commands_are_those_of_each() -> None:
    commands = torch.tensor([[0.0, 0, 0], [-0.6, 0, 0], [1.5, 0, 0], [2.2, 0, 0], [3.0, 0, 0], [1.0, 0.1, 0]])
    expected = [speed_tolerance(command) for command in commands.tolist()]
    assert speed_tolerances(commands.double()).tolist() == expected == [0.1, 0.1, 0.1, 0.25, 0.4, 0.12]
