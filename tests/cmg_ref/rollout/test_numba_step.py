"""The compiled loops give what torch's operations give, and leave torch's threads as they were."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch

from cmg_ref.frames import command_plan, store
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.rollout import rollout as rollout_module
from cmg_ref.rollout.numba_step import FusedStep
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories import start_states
from cmg_ref.trajectories.pool import TrajectoryPoolCfg

pytest.importorskip("numba", reason="without Numba there are no compiled loops")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rollout_module, store, command_plan, start_states):
        monkeypatch.setattr(module, "numba_available", lambda: False)


def batch(checkpoint: Checkpoint, num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States of all kinds, of which some rest and some the guard must hold, and commands partly out of range."""
    draw = torch.Generator().manual_seed(num)
    picks = torch.randint(len(checkpoint.initial_states), (num,), generator=draw)
    states = checkpoint.initial_states[picks]
    states[1::3] += 0.5 * checkpoint.model.motion_std * torch.randn(states[1::3].shape, generator=draw)
    commands = 2.0 * checkpoint.initial_commands[picks]
    commands[::4] = 0.0
    return states, commands


@pytest.mark.parametrize("num", [1, 2, 31, 64, 700, 2100])
@pytest.mark.parametrize("rest", [True, False])
def test_a_step_is_that_of_torch(checkpoint: Checkpoint, num: int, rest: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = Rollout(checkpoint.model, rest=rest)
    assert isinstance(fused.fused, FusedStep)
    monkeypatch.setattr(rollout_module, "numba_available", lambda: False)
    plain = Rollout(checkpoint.model, rest=rest)
    assert not isinstance(plain.fused, FusedStep)
    states, commands = batch(checkpoint, num)
    torch.testing.assert_close(fused.advance(states, commands), plain.advance(states, commands), atol=2e-5, rtol=0.0)
    assert torch.equal(fused.guarded, plain.guarded)
    if num > 1000:
        assert 0 < int(plain.guarded.sum()) < num
        resting = (plain.advance(states, commands)[:, checkpoint.layout["dof_vel"]] == 0.0).all(dim=1)
        assert bool(resting.any()) is rest


def test_bfloat16_is_rounded_as_torch_rounds_it(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = Rollout(checkpoint.model, dtype=torch.bfloat16)
    assert isinstance(fused.fused, FusedStep)
    monkeypatch.setattr(rollout_module, "numba_available", lambda: False)
    plain, exact = Rollout(checkpoint.model, dtype=torch.bfloat16), Rollout(checkpoint.model)
    states, commands = batch(checkpoint, 500)
    expected = exact.advance(states, commands)
    unit = checkpoint.model.change_std[checkpoint.layout.num_joints :]
    errors = [
        ((rollout.advance(states, commands) - expected)[:, checkpoint.layout.num_joints :] / unit).abs().mean()
        for rollout in (fused, plain)
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
            assert isinstance(rollout.fused, FusedStep)
            assert len(rollout.fused._rooms) == num_threads
    finally:
        torch.set_num_threads(number)
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0.0)


def test_a_block_goes_from_frame_to_frame_on_its_own(checkpoint: Checkpoint) -> None:
    fused = Rollout(checkpoint.model).fused
    assert fused is not None
    number = torch.get_num_threads()
    made: list[tuple[int, int, int]] = []
    try:
        torch.set_num_threads(3)
        fused.share_out(700, 4, lambda room, rows, frame: made.append((rows.start, rows.stop, frame)))
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

    monkeypatch.setattr(rollout.fused, "step", fail)
    with pytest.raises(RuntimeError, match="no room"):
        rollout.advance(*batch(checkpoint, 300))
    assert torch.get_num_threads() == number


def shown(checkpoint: Checkpoint) -> list[torch.Tensor]:
    """What 12 environments are shown over 40 steps, with commands and resets in between."""
    commands = torch.randn(12, 3, generator=torch.Generator().manual_seed(2))
    generator = CMGMotionGenerator(checkpoint, 12, mode="realtime", buffer_size=12, seed=4)
    generator.reset(commands=commands, root_pose=3.0 * commands)
    seen = []
    for step in range(40):
        if step == 20:
            generator.update_commands(commands.flip(0)[:5], torch.arange(5))
            # Poses that are no single block of memory, as callers may hand them over.
            poses = torch.tensor([1.0, -2.0, 0.7]).expand(2, 3)
            generator.reset(torch.tensor([7, 9]), commands=commands[:2], root_pose=poses)
        frames = generator.get_frames()
        seen.append(
            [frames.dof_pos, frames.root_pos_w, frames.root_quat_w, frames.root_lin_vel_w, frames.root_ang_vel_w]
        )
        generator.advance()
    return [torch.stack(values) for values in zip(*seen)]


def test_frames_are_placed_as_torch_places_them(checkpoint: Checkpoint, request: pytest.FixtureRequest) -> None:
    fused = shown(checkpoint)
    request.getfixturevalue("without_numba")
    for here, there in zip(fused, shown(checkpoint)):
        torch.testing.assert_close(here, there, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("reorder", [False, True])
@pytest.mark.parametrize("interpolation_steps", [0, 25])
@pytest.mark.parametrize("mode", ["pool", "realtime"])
def test_frames_and_commands_are_read_as_torch_reads_them(
    checkpoint: Checkpoint, mode: str, interpolation_steps: int, reorder: bool
) -> None:
    names = checkpoint.joint_names[::-1] if reorder else checkpoint.joint_names
    generator = CMGMotionGenerator(
        checkpoint,
        40,
        mode="realtime" if mode == "realtime" else "pregenerated",
        preload_duration=200,
        buffer_size=40,
        interpolation_steps=interpolation_steps,
        pool=TrajectoryPoolCfg(num_trajectories=16, resampling_time=(0.5, 1.5)) if mode == "pool" else None,
        joint_names=names,
    )
    random = torch.Generator().manual_seed(4)
    everyone = torch.arange(40)
    place = torch.randn(40, 3, generator=random)
    generator.reset(root_pose=place, start_frames="random" if mode == "pool" else None)
    reader, commands = generator._reader, generator._buffer.commands
    for step in range(30):
        generator.advance()
        if step == 10:
            generator.update_commands(torch.tensor([[1.0, 0.2, -0.5]]).repeat(3, 1), everyone[4:7])
        if step == 20:
            generator.set_root_pose(place[:5], everyone[8:13])
        if step % 6:
            continue
        assert reader._in_one_pass(40 * 4)
        ours, told = generator.future([0, 1, 6, 15]), generator.commands
        assert commands._fused
        commands._fused, generator._buffer.store.fused = False, False
        theirs, expected = generator.future([0, 1, 6, 15]), generator.commands
        commands._fused, generator._buffer.store.fused = True, True
        for field in fields(ours):
            torch.testing.assert_close(getattr(ours, field.name), getattr(theirs, field.name), atol=3e-6, rtol=0.0)
        torch.testing.assert_close(told, expected, atol=1e-6, rtol=0.0)
