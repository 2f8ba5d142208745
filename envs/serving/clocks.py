"""When the next frame is due: by the wall's clock, or by that of a low level that does not keep to real time."""

from __future__ import annotations

import time

import numpy as np

from envs.serving.redis_link import DryLink, LinkError, RedisLink

_LOOK_EVERY = 0.001  # [s]
_BIN, _BINS = 1e-4, 1000  # [s] and number of the classes of jitter


class Punctuality:
    """How evenly frames were sent: a histogram, so that it may run for days.

    Args:
        period: Time that should lie between two frames [s].
        on_time: Whether it should; False where a low level says when frames are due.
    """

    def __init__(self, period: float, on_time: bool = True) -> None:
        self._on_time = on_time
        self._period, self._counts = period, np.zeros(_BINS + 1, dtype=np.int64)
        self._first = self._last = time.monotonic()
        self._worst, self._busy, self.frames = 0.0, time.process_time(), 0

    def sent(self, now: float) -> None:
        """Note a frame that has been sent now [s, monotonic]."""
        if self.frames:
            off = abs(now - self._last - self._period)
            self._worst = max(self._worst, off)
            self._counts[min(int(off / _BIN), _BINS)] += 1
        else:
            self._first = now
        self._last = now
        self.frames += 1

    def jitter(self, share: float) -> float:
        """Difference to the period that this share of the intervals does not exceed [s], within 0.1 ms."""
        below = np.cumsum(self._counts)
        return float(_BIN * (1 + np.searchsorted(below, share * below[-1])))

    def __str__(self) -> str:
        """Frames, rate, jitter and the share of a core that this process took, in a line."""
        time_taken = self._last - self._first
        if self.frames < 2 or time_taken <= 0.0:
            return f"{self.frames} frames"
        text = f"{self.frames:,} frames in {time_taken:.1f} s"
        busy = f"{100 * (time.process_time() - self._busy) / time_taken:.1f} % of a core"
        if not self._on_time:
            return f"{text}, when the low level's clock asked for them; {busy}"
        lost = round(time_taken / self._period) + 1 - self.frames
        jitter = f"jitter of 99 % at most {1e3 * self.jitter(0.99):.1f} ms, worst {1e3 * self._worst:.1f} ms"
        return f"{text}, {lost} lost; {jitter}; {busy}"


class WallClock:
    """Deadlines a period apart, counted from the first: being late once does not delay those that follow.

    Args:
        period: Time between two frames [s].
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._due = time.monotonic()

    def wait(self) -> None:
        """Sleep until the next frame is due."""
        now = time.monotonic()
        self._due += self._period
        if self._due < now - self._period:  # suspended: what was missed is not made up for by a burst of frames
            self._due = now
        time.sleep(max(0.0, self._due - now))


class LowLevelClock:
    """Frames are due whenever the low level has taken some steps, as its clock in Redis says.

    While that stands still, frames come a period apart, so that the robot is eased out all the same.

    Args:
        link: The connection.
        key: Where the low level writes the time, or what else changes with every step of it.
        steps: Its steps between two frames.
        period: Time between two frames where it stands still [s].
        patience: Time after which it does [s].
    """

    def __init__(self, link: RedisLink | DryLink, key: str, steps: int, period: float, patience: float) -> None:
        self._link, self._key, self._steps, self._patience = link, key, steps, patience
        self._wall = WallClock(period)
        self._seen: bytes | None = None
        self._changed_at = time.monotonic() - patience

    def wait(self) -> None:
        """Wait for the low level."""
        steps = 0
        while steps < self._steps:
            stands_still = time.monotonic() - self._changed_at > self._patience
            if stands_still:
                self._wall.wait()
            try:
                value = self._link.exchange({}, [self._key], [])[self._key]
            except LinkError:
                value = self._seen
            if value != self._seen:
                self._seen, self._changed_at, steps = value, time.monotonic(), steps + 1
            elif stands_still:
                return
            else:
                time.sleep(_LOOK_EVERY)
