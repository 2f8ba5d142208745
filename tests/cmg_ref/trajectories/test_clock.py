"""The clock of frames: whole frames, shares between them, and what a read looks at."""

from __future__ import annotations

import pytest
import torch

from cmg_ref.trajectories.clock import FrameClock

CPU = torch.device("cpu")


@pytest.mark.parametrize("frames_per_step", [1.0, 1.0 + 1e-9, 0.65, 0.1, 1.0 / 3.0, 2.5])
def test_time_passes_evenly(frames_per_step: float) -> None:
    clock = FrameClock(3, frames_per_step, CPU)
    for step in range(1, 1001):
        clock.advance()
        assert float(clock.shown[0] + clock.share[0]) == pytest.approx(step * frames_per_step, abs=2e-6)
    assert (clock.share >= 0.0).all() and (clock.share < 1.0).all()
    assert clock.on_frames == (abs(frames_per_step - 1.0) < 1e-6)


def test_a_whole_frame_is_not_missed_by_rounding() -> None:
    clock = FrameClock(1, 0.1, CPU)
    for _ in range(10):
        clock.advance()
    assert int(clock.shown) == 1 and float(clock.share) < 1e-8


@pytest.mark.parametrize(("frames_per_step", "reaches"), [(1.0, (0, 1, 20)), (0.65, (1, 2, 14)), (2.5, (1, 4, 51))])
def test_what_a_read_looks_at_is_within_its_reach(frames_per_step: float, reaches: tuple[int, ...]) -> None:
    clock = FrameClock(2, frames_per_step, CPU)
    steps = (0, 1, 20)
    assert tuple(clock.reach(step) for step in steps) == reaches
    for _ in range(7):
        clock.advance()
        frames, share = clock.ahead(torch.tensor(steps))
        needed = frames + (0 if clock.on_frames else 1) - clock.shown.unsqueeze(1)
        assert (needed <= torch.tensor(reaches)).all()
        assert (share >= 0.0).all() and (share < 1.0).all()


def test_clocks_are_put_and_stopped_one_by_one() -> None:
    clock = FrameClock(4, 0.7, CPU)
    clock.advance()
    clock.set(torch.tensor([1, 2]), torch.tensor([5, 8]))
    assert clock.shown.tolist() == [0, 5, 8, 0] and clock.share.tolist() == [0.7, 0.0, 0.0, 0.7]
    assert clock.latest(torch.arange(4)).tolist() == [1, 5, 8, 1]
    clock.stop_at(torch.tensor([0, 9, 7, 3]))
    assert clock.shown.tolist() == [0, 5, 7, 0] and clock.share.tolist() == [0.0, 0.0, 0.0, 0.7]
    clock.count_anew()
    assert clock.shown.tolist() == [0] * 4 and clock.share.tolist() == [0.0, 0.0, 0.0, 0.7]
