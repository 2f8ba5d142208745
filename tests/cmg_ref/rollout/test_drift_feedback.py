"""What commands have been missed by is told along with them: motions get to where they are sent."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cmg_ref import Checkpoint, CMGMotionGenerator, load_checkpoint
from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY
from cmg_ref.rollout.clip_generation import smooth_commands
from cmg_ref.rollout.drift_feedback import GAIN, LARGEST_DRIFT, DriftFeedback
from cmg_ref.rollout.rollout import Rollout, integrate_root

MINUTE = 3000  # frames


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def test_a_motion_goes_where_it_is_sent(checkpoint: Checkpoint) -> None:
    rows = [[1.0, 0.0, 0.0], [0.5, 0.0, 0.0], [-0.4, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, -0.3, 0.0], [2.0, 0.0, 0.0]]
    commands = torch.tensor(rows)
    stance = checkpoint.standing_state()
    rollout = Rollout(checkpoint.model, stance=stance)
    told = smooth_commands(commands.unsqueeze(1).expand(-1, MINUTE, -1), 25)
    states = rollout.generate(stance.expand(len(rows), -1), told)
    place, quat = integrate_root(states, checkpoint.layout, checkpoint.fps)
    heading = 2.0 * torch.atan2(quat[:, -1, 2], quat[:, -1, 3])
    assert float(heading.abs().max()) < math.radians(10.0)
    direction = commands[:, :2] / commands[:, :2].norm(dim=1, keepdim=True)
    x, y = place[:, -1, 0], place[:, -1, 1]
    off_line = (direction[:, 0] * y - direction[:, 1] * x).abs()
    assert float(off_line.max()) < 1.0  # [m]
    along = (direction * place[:, -1, :2]).sum(dim=1) / (commands[:, :2].norm(dim=1) * MINUTE / checkpoint.fps)
    assert float((along - 1.0).abs().max()) < 0.03


@pytest.mark.parametrize("axis", range(NUM_VELOCITIES))
def test_slow_commands_are_obeyed_on_average(checkpoint: Checkpoint, axis: int) -> None:
    commands = torch.zeros(2, MINUTE, 3)
    commands[0, :, axis], commands[1, :, axis] = 0.1, -0.1
    stance = checkpoint.standing_state()
    states = Rollout(checkpoint.model, stance=stance).generate(stance.expand(2, -1), smooth_commands(commands, 25))
    feedback = DriftFeedback(checkpoint.model)
    mean = states[:, 150:, feedback.columns[axis]].mean(dim=1)
    torch.testing.assert_close(mean, torch.tensor([0.1, -0.1]), atol=0.02, rtol=0.0)


def test_place_counts_while_a_command_holds_and_heading_until_a_motion_stands(checkpoint: Checkpoint) -> None:
    feedback = DriftFeedback(checkpoint.model)
    complete = checkpoint.command_layout.complete
    before = complete(torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    memory = torch.cat((before, torch.full((3, 3), 0.1)), 1)
    command = complete(torch.tensor([[1.0, 0.0, 0.0], [1.01, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    told, remembered = feedback.correct(command, memory)
    counted = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(told[:, VELOCITY], command[:, VELOCITY] - 0.1 * counted * torch.tensor(GAIN))
    torch.testing.assert_close(remembered, torch.cat((command, 0.1 * counted), dim=1))


def test_drift_is_what_was_missed_and_bounded(checkpoint: Checkpoint) -> None:
    feedback = DriftFeedback(checkpoint.model)
    states = torch.zeros(1, checkpoint.layout.size)
    states[0, list(feedback.columns)] = torch.tensor([1.5, -0.1, 0.2])
    _, memory = feedback.correct(
        checkpoint.command_layout.complete(torch.tensor([[1.0, 0.0, 0.0]])), feedback.memory(1)
    )
    for _ in range(10):
        memory = feedback.follow(states, memory)
    # The heading that is 0.004 rad off after each frame takes 1.5 m/s aside.
    aside = sum(0.004 * frame * 1.5 * 0.02 for frame in range(10))
    torch.testing.assert_close(memory[0, -3:], torch.tensor([0.1, -0.02 + aside, 0.04]))
    for _ in range(1000):
        memory = feedback.follow(states, memory)
    torch.testing.assert_close(memory[0, -3:].abs(), torch.tensor(LARGEST_DRIFT))
    # A command at the end of the trained range is not told beyond it.
    told, _ = feedback.correct(checkpoint.command_max[None], torch.cat((checkpoint.command_max, -memory[0, -3:]))[None])
    assert bool((told <= checkpoint.command_max).all())


def test_loops_do_the_same(checkpoint: Checkpoint) -> None:
    pytest.importorskip("numba")
    rollout = Rollout(checkpoint.model, backend="numba")
    feedback, step, draw = rollout.feedback, rollout.numba_step, torch.Generator().manual_seed(2)
    assert feedback is not None and step is not None
    memory = feedback.memory(200)
    by_loops, drift, numbers = memory.clone().numpy(), np.zeros((200, 3), np.float32), np.arange(200)[::-1].copy()
    command = checkpoint.initial_commands[torch.randint(len(checkpoint.initial_commands), (200,), generator=draw)]
    for _ in range(60):
        changed = torch.rand(200, 1, generator=draw) < 0.05
        command = torch.where(changed, 1.5 * command[torch.randperm(200, generator=draw)], command)
        states = torch.randn(200, checkpoint.layout.size, generator=draw) + 0.3
        told, memory = feedback.correct(command, memory)
        memory = feedback.follow(states, memory)
        told_by_loops = step.correct(command.numpy(), by_loops)
        step.follow(states.numpy(), by_loops, numbers, drift)
        torch.testing.assert_close(torch.from_numpy(told_by_loops), told, atol=1e-6, rtol=0.0)
        torch.testing.assert_close(torch.from_numpy(by_loops), memory, atol=1e-6, rtol=0.0)
        assert np.array_equal(drift[::-1], by_loops[:, -3:])


@pytest.mark.parametrize("mode", ["realtime", "pregenerated"])
def test_the_generator_does_as_the_roll_out_does(checkpoint: Checkpoint, mode: str) -> None:
    commands = torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.2, 0.4], [0.0, 0.0, 0.0]])
    stance = checkpoint.standing_state().expand(3, -1)
    generator = CMGMotionGenerator(checkpoint, num_envs=3, mode=mode, preload_duration=400, interpolation_steps=0)
    generator.reset(init_motion=stance, commands=commands)
    states = Rollout(checkpoint.model, stance=stance[0]).generate(stance, commands.unsqueeze(1).expand(-1, 300, -1))
    for _ in range(300):
        generator.advance()
    dof_pos, dof_vel = generator.get_motion()
    torch.testing.assert_close(
        torch.cat((dof_pos, dof_vel), dim=1), states[:, -1, : dof_pos.shape[1] * 2], atol=2e-3, rtol=0.0
    )
