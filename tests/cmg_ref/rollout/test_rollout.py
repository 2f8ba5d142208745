"""Roll-outs of the shipped checkpoint: ranges, rest, and the root that is integrated from them."""

from __future__ import annotations

import pytest
import torch

from cmg_ref.core.command_layout import VELOCITY
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.network.standing import REST_SPEED
from cmg_ref.rollout.clip_generation import smooth_commands
from cmg_ref.rollout.rollout import Rollout, integrate_root


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def test_rest_is_exact_and_left_on_command(checkpoint: Checkpoint) -> None:
    rollout = Rollout(checkpoint.model)
    initial = checkpoint.standing_state().unsqueeze(0)
    states = rollout.generate(initial, torch.zeros(1, 200, 3))[0]
    assert torch.equal(states[100], states[199])
    assert float(states[199, checkpoint.layout["dof_vel"]].abs().max()) == 0.0
    walking = rollout.generate(states[-1:], torch.tensor([1.0, 0.0, 0.0]).expand(1, 150, 3))[0]
    assert float(walking[100:, checkpoint.layout["root_lin_vel_h"]][:, 0].mean()) > 0.7


def test_walking_motion_is_not_put_to_rest_at_once(checkpoint: Checkpoint) -> None:
    walking = (checkpoint.initial_commands[:, VELOCITY] - torch.tensor([1.0, 0.0, 0.0])).norm(dim=1).argmin()
    initial = checkpoint.initial_states[walking : walking + 1]
    states = Rollout(checkpoint.model).generate(initial, torch.zeros(1, 5, 3))[0]
    assert float(states[0, checkpoint.layout["dof_vel"]].abs().max()) > REST_SPEED["dof_vel"]
    assert float((states[1] - states[0]).abs().max()) > 0.0


@pytest.mark.parametrize(
    "command", [(0.3, 0.0, 0.0), (-0.5, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, 0.8), (0.0, 0.0, -0.8)]
)
def test_it_steps_where_it_goes_slowly(checkpoint: Checkpoint, command: tuple[float, float, float]) -> None:
    """A body that glides, or turns about one foot, obeys as well, but moves like nobody."""
    standing = checkpoint.initial_states[checkpoint.at_rest]
    assert float(standing[:, checkpoint.layout["dof_vel"]].abs().max()) == 0.0
    states = Rollout(checkpoint.model).generate(standing, torch.tensor(command).expand(len(standing), 250, 3))
    parts = checkpoint.layout.split(states[:, 100:])
    velocity = torch.cat((parts["root_lin_vel_h"][..., :2], parts["root_yaw_rate"]), dim=-1).mean(dim=1)
    assert float((velocity - torch.tensor(command)).abs().mean()) < 0.05
    # People who turn on the spot move their joints at 0.4 to 1.4 rad/s.
    speed = parts["dof_vel"].square().mean(dim=(1, 2)).sqrt()
    assert float((speed > 0.4).float().mean()) > 0.95


def test_states_stay_inside_their_range_under_any_command(checkpoint: Checkpoint) -> None:
    rollout = Rollout(checkpoint.model)
    commands = 20.0 * torch.rand(64, 100, 3, generator=torch.Generator().manual_seed(0)) - 10.0
    states = rollout.generate(checkpoint.initial_states[:64], commands)
    assert (states >= checkpoint.model.state_min).all()
    assert (states <= checkpoint.model.state_max).all()
    assert rollout.frame_count == 6400


def test_root_is_the_integral_of_its_velocity(checkpoint: Checkpoint) -> None:
    layout, fps = checkpoint.layout, 50.0
    states = torch.zeros(1, 101, layout.size)
    states[..., layout["projected_gravity"]] = torch.tensor([0.0, 0.0, -1.0])
    states[..., layout["root_height"]] = 0.75
    states[..., layout["root_lin_vel_h"]] = torch.tensor([0.5, 0.0, 0.0])
    states[..., layout["root_yaw_rate"]] = 1.0
    position, quat = integrate_root(states, layout, fps, torch.tensor([[3.0, 4.0]]), torch.tensor([0.2]))
    # A circle of radius v / w = 0.5 m; the chord between frames is shorter than the arc by less than 1e-4.
    angle = 0.2 + torch.arange(101) / fps
    expected = torch.stack(
        (3.0 + 0.5 * (angle.sin() - angle[0].sin()), 4.0 - 0.5 * (angle.cos() - angle[0].cos())), dim=1
    )
    torch.testing.assert_close(position[0, :, :2], expected, atol=1e-4, rtol=0.0)
    torch.testing.assert_close(quat[0, :, 2], torch.sin(angle / 2), atol=1e-6, rtol=0.0)


STOPPED = [(vx, 0.0, 0.0) for vx in (-0.5, 0.3, 0.5, 1.0, 1.5)] + [(0.0, 0.3, 0.0), (0.0, 0.0, 0.8)]


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_two_seconds_after_a_stop_the_feet_are_side_by_side(checkpoint: Checkpoint, backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    layout, stance, fps = checkpoint.layout, checkpoint.standing_state(), checkpoint.fps
    rows = [(command, phase) for command in STOPPED for phase in range(3)]
    commands = torch.tensor([command for command, _ in rows])[:, None].repeat(1, round(8.0 * fps), 1)
    for number, (_, phase) in enumerate(rows):
        commands[number, round((4.0 + 0.3 * phase) * fps) :] = 0.0
    rollout = Rollout(checkpoint.model, backend=backend, stance=stance)
    states = rollout.generate(stance.expand(len(rows), -1), smooth_commands(commands, 25))
    for number, (_, phase) in enumerate(rows):
        stopped = round((6.0 + 0.3 * phase) * fps)
        assert float((states[number, stopped] - stance)[layout["dof_pos"]].abs().max()) < 0.02, rows[number]
    assert torch.allclose(states[:, -1], stance.expand(len(rows), -1), atol=1e-3)
    # Whoever walks does not notice.
    plain = Rollout(checkpoint.model, backend=backend).generate(stance.expand(len(rows), -1), commands[:, :200])
    walking = Rollout(checkpoint.model, backend=backend, stance=stance)
    assert torch.equal(walking.generate(stance.expand(len(rows), -1), commands[:, :200]), plain)
