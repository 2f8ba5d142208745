"""Steps are captured for the numbers of motions that keep coming back; where none can be, the plain step remains."""

from __future__ import annotations

import pytest
import torch

from cmg_ref.cuda_graph.captured_steps import WORTHWHILE, CapturedSteps
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.rollout.rollout import Rollout


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def captured_steps(rollout: Rollout) -> CapturedSteps:
    return CapturedSteps(rollout._counted_step, rollout.guard_count, lambda: rollout.network.workspace)


def batch(checkpoint: Checkpoint, num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States of which the guard must hold some, and commands."""
    states, commands = checkpoint.initial_states[:num].clone(), checkpoint.initial_commands[:num].clone()
    states[::2] += 3.0 * checkpoint.model.motion_std
    return states, commands


@pytest.mark.usefixtures("without_graphs")
def test_captured_steps_are_those_that_were_captured(checkpoint: Checkpoint) -> None:
    rollout = Rollout(checkpoint.model)
    steps, acted, calls = captured_steps(rollout), 0, 0
    for num in (4, 6, 4, 9):
        for _ in range(WORTHWHILE if num == 9 else WORTHWHILE + 2):
            states, commands = batch(checkpoint, num)
            states[calls % num] = states[-1]
            expected, expected_guarded = rollout.step(states, commands)
            following, guarded = steps(states, commands)
            torch.testing.assert_close(following, expected, atol=0.0, rtol=0.0)
            assert torch.equal(guarded, expected_guarded)
            acted, calls = acted + int(guarded.sum()), calls + 1
    assert steps.sizes == [4, 6]
    assert int(rollout.guard_count) == acted > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="the fallback is what is tested")
def test_the_plain_step_remains_where_nothing_can_be_recorded(checkpoint: Checkpoint) -> None:
    states, commands = batch(checkpoint, 4)
    rollout = Rollout(checkpoint.model)
    steps, expected = captured_steps(rollout), rollout.step(states, commands)[0]
    for call in range(WORTHWHILE + 3):
        if call == WORTHWHILE:
            with pytest.warns(UserWarning, match="cannot be captured as a CUDA graph"):
                following, _ = steps(states, commands)
        else:
            following, _ = steps(states, commands)
        assert torch.equal(following, expected)
    assert steps.sizes == []
