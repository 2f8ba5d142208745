"""How evenly frames come is measured as it was."""

from __future__ import annotations

import pytest

from envs.serving.clocks import Punctuality

PERIOD = 0.02


def test_jitter_is_that_of_the_frames() -> None:
    punctuality, now = Punctuality(PERIOD), 100.0
    for frame in range(1001):
        punctuality.sent(now)
        now += PERIOD + (0.005 if frame % 20 == 19 else 0.0003)  # every twentieth interval is 5 ms too long
    assert punctuality.frames == 1001
    assert punctuality.jitter(0.5) == pytest.approx(0.0003, abs=1.01e-4)
    assert punctuality.jitter(0.99) == pytest.approx(0.005, abs=1.01e-4)
    assert str(punctuality).startswith("1,001 frames in 20.5 s, 27 lost; jitter of 99 % at most 5.")
    assert "worst 5.0 ms" in str(punctuality)


def test_an_interval_beyond_the_histogram_counts() -> None:
    punctuality = Punctuality(PERIOD)
    for now in (0.0, PERIOD, 30.0):
        punctuality.sent(now)
    assert punctuality.jitter(1.0) == pytest.approx(0.1, abs=2e-4)
    assert "worst 29960.0 ms" in str(punctuality)


def test_too_few_frames_have_no_jitter() -> None:
    punctuality = Punctuality(PERIOD)
    assert str(punctuality) == "0 frames"
    punctuality.sent(1.0)
    assert str(punctuality) == "1 frames"


def test_frames_that_a_low_level_asks_for_are_not_late() -> None:
    punctuality = Punctuality(PERIOD, on_time=False)
    for now in (0.0, 0.1, 0.2):
        punctuality.sent(now)
    assert str(punctuality).startswith("3 frames in 0.2 s, when the low level's clock asked for them; ")
