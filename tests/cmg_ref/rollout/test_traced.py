"""Recordings of a function give what the function gives, and are made only where they help."""

from __future__ import annotations

import pytest
import torch

from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.rollout import rollout as rollout_module
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.rollout.traced import FEW, WARM_UP, TracedWhereFew


def test_few_motions_are_recorded_and_many_are_not() -> None:
    runs = []

    def double(values: torch.Tensor) -> torch.Tensor:
        runs.append(len(values))
        return 2.0 * values

    traced = TracedWhereFew(double, torch.device("cpu"))
    for _ in range(WARM_UP + 1):
        traced(torch.ones(2))
    runs.clear()
    for value in (3.0, -4.0):
        assert torch.equal(traced(torch.full((2,), value)), torch.full((2,), 2.0 * value))
    assert not runs, "the recording has to run instead"
    assert torch.equal(traced(torch.ones(3)), torch.full((3,), 2.0)), "another number is another recording"
    runs.clear()
    for _ in range(2 * WARM_UP):
        traced(torch.ones(FEW + 1))
    assert len(runs) == 2 * WARM_UP


def test_a_recorded_step_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_module, "numba_available", lambda: False)
    checkpoint = load_checkpoint()
    rollout = Rollout(checkpoint.model)
    state = checkpoint.initial_states[:2]
    for step in range(2 * WARM_UP):
        command = torch.tensor([[0.05 * step, 0.0, 0.2], [0.0, 0.0, 0.0]])
        if step % 7 == 0:  # Larger batches take new memory to work in; recordings keep theirs.
            many = step + FEW + 1
            rollout.advance(state[:1].expand(many, -1), command[:1].expand(many, -1))
        following = rollout.advance(state, command)
        expected, guarded = rollout.step(state, command)
        assert torch.equal(following, expected)
        assert torch.equal(rollout.guarded, guarded)
        state = following
    assert isinstance(rollout._run, TracedWhereFew)
    assert set(rollout._run._recorded) == {2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_of_every_small_number_are_recorded(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_module, "numba_available", lambda: False)
    checkpoint = load_checkpoint()
    rollout = Rollout(checkpoint.model, dtype=dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for num in range(1, FEW + 1):
        states, commands = checkpoint.initial_states[:num], checkpoint.initial_commands[:num]
        for _ in range(WARM_UP + 2):
            following = rollout.advance(states, commands)
        torch.testing.assert_close(following, rollout.step(states, commands)[0], atol=tolerance, rtol=tolerance)
    assert isinstance(rollout._run, TracedWhereFew)
    assert set(rollout._run._recorded) == set(range(1, FEW + 1))
