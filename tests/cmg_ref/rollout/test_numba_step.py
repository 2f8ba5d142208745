"""The Numba loops give what torch's operations give, and leave torch's threads as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cmg_ref.core.command_layout import HEIGHT, VELOCITY
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network import inference_network
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.rollout.numba_step import NumbaStep
from cmg_ref.rollout.rollout import Rollout

pytest.importorskip("numba", reason="without Numba there are no Numba loops")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def batch(checkpoint: Checkpoint, num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States of all kinds, of which some rest and some the guard must hold, and commands partly out of range."""
    draw = torch.Generator().manual_seed(num)
    picks = torch.randint(len(checkpoint.initial_states), (num,), generator=draw)
    states = checkpoint.initial_states[picks]
    states[1::3] += 0.5 * checkpoint.model.motion_std * torch.randn(states[1::3].shape, generator=draw)
    commands = checkpoint.initial_commands[picks]
    commands[:, VELOCITY] *= 2.0
    commands[::4] = checkpoint.command_layout.rest()
    commands[::8, checkpoint.command_layout.names.index(HEIGHT)] = 0.62
    return states, commands


@pytest.mark.parametrize("num", [1, 2, 31, 64, 700, 2100])
@pytest.mark.parametrize(("rest", "stands"), [(True, False), (False, False), (True, True)])
def test_a_step_is_that_of_torch(checkpoint: Checkpoint, num: int, rest: bool, stands: bool) -> None:
    stance = checkpoint.stances() if stands else None
    numba, plain = (
        Rollout(checkpoint.model, rest=rest, backend=backend, stance=stance) for backend in ("numba", "torch")
    )
    assert isinstance(numba.numba_step, NumbaStep) and plain.numba_step is None
    states, commands = batch(checkpoint, num)
    torch.testing.assert_close(numba.advance(states, commands), plain.advance(states, commands), atol=2e-5, rtol=2e-6)
    assert torch.equal(numba.guarded, plain.guarded)
    if num > 1000:
        assert 0 < int(plain.guarded.sum()) < num
        resting = (plain.advance(states, commands)[:, checkpoint.layout["dof_vel"]] == 0.0).all(dim=1)
        assert bool(resting.any()) is (rest and not stands)


def test_bfloat16_is_rounded_as_torch_rounds_it(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_network, "bfloat16_pays", lambda device: True)  # if slowly
    numba, plain = (Rollout(checkpoint.model, dtype=torch.bfloat16, backend=name) for name in ("numba", "torch"))
    assert isinstance(numba.numba_step, NumbaStep) and plain.numba_step is None
    exact = Rollout(checkpoint.model, backend="torch")
    states, commands = batch(checkpoint, 500)
    expected = exact.advance(states, commands)
    unit = checkpoint.model.change_std[checkpoint.layout.num_joints :]
    errors = [
        ((rollout.advance(states, commands) - expected)[:, checkpoint.layout.num_joints :] / unit).abs().mean()
        for rollout in (numba, plain)
    ]
    assert 0.0 < float(errors[0]) < 1.05 * float(errors[1]) < 0.1


def test_what_is_not_a_number_stays_so_and_alone(checkpoint: Checkpoint) -> None:
    states, commands = batch(checkpoint, 100)
    rollout = Rollout(checkpoint.model)
    expected = rollout.advance(states, commands)
    states[3, 40] = float("nan")
    following = rollout.advance(states, commands)
    assert bool(rollout.guarded[3])
    assert bool(following[3].isnan().all())
    others = torch.arange(100) != 3
    assert torch.equal(following[others], expected[others])


def test_it_shares_the_work_out_over_the_threads(checkpoint: Checkpoint) -> None:
    states, commands = batch(checkpoint, 400)
    number = torch.get_num_threads()
    try:
        results = []
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            rollout = Rollout(checkpoint.model)
            results.append(rollout.advance(states, commands))
            assert torch.get_num_threads() == num_threads
            assert isinstance(rollout.numba_step, NumbaStep)
            assert len(rollout.numba_step._workspaces) == num_threads
    finally:
        torch.set_num_threads(number)
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0.0)


def test_a_block_goes_from_frame_to_frame_on_its_own(checkpoint: Checkpoint) -> None:
    numba = Rollout(checkpoint.model).numba_step
    assert numba is not None
    number = torch.get_num_threads()
    made: list[tuple[int, int, int]] = []
    try:
        torch.set_num_threads(3)
        numba.share_out(700, 4, lambda workspace, rows, frame: made.append((rows.start, rows.stop, frame)))
    finally:
        torch.set_num_threads(number)
    blocks = sorted({(start, stop) for start, stop, _ in made})
    assert [start for start, _ in blocks] == [0, *(stop for _, stop in blocks[:-1])]
    assert blocks[-1][1] == 700
    for block in blocks:
        assert [frame for *rows, frame in made if tuple(rows) == block] == [0, 1, 2, 3]


@pytest.mark.parametrize("num_threads", [1, 2])
def test_motions_are_the_same_however_many_threads_extend_them(checkpoint: Checkpoint, num_threads: int) -> None:
    number = torch.get_num_threads()
    commands = torch.randn(300, 3, generator=torch.Generator().manual_seed(5))
    frames = []
    try:
        for threads in (1, num_threads):
            torch.set_num_threads(threads)
            generator = CMGMotionGenerator(checkpoint, 300, mode="pregenerated", preload_duration=40, seed=2)
            generator.reset(commands=commands)
            for _ in range(30):
                generator.advance()
            frames.append(torch.cat(generator.get_motion(), dim=1))
    finally:
        torch.set_num_threads(number)
    torch.testing.assert_close(frames[0], frames[1], atol=2e-3, rtol=0.0)


def test_an_error_of_a_thread_reaches_the_caller(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout, number = Rollout(checkpoint.model), torch.get_num_threads()

    def fail(*arguments: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(rollout.numba_step, "step", fail)
    with pytest.raises(RuntimeError, match="no room"):
        rollout.advance(*batch(checkpoint, 300))
    assert torch.get_num_threads() == number
