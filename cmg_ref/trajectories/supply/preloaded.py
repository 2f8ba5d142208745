"""Whole trajectories, generated at a reset or at a new command."""

from __future__ import annotations

import math

import torch

from cmg_ref.trajectories.buffer import MotionBuffer
from cmg_ref.trajectories.clock import FrameClock
from cmg_ref.trajectories.frame_supply import FrameSupply

END_MARGIN = 3  # frames between the furthest one that is read and the end of a trajectory


class PreloadedSupply(FrameSupply):
    """Generates a whole trajectory for environments that are reset or get a new command; a step only reads.

    Args:
        buffer: The motions, one per environment.
        clock: Which frame every environment is shown.
        capacity: Frames kept of each motion.
        hold: Whether environments stand in their last pose; otherwise the motion is extended before its end.
    """

    def __init__(self, buffer: MotionBuffer, clock: FrameClock, capacity: int, hold: bool) -> None:
        self.buffer, self.motions = buffer, slice(None)
        self._clock, self._whole_step = clock, math.ceil(clock.frames_per_step - 1e-6)
        self._hold = hold
        # The shown frame, its successor and one more for clocks between frames must not be overwritten.
        self._full = capacity - END_MARGIN
        self._longest = 2
        self._pending: list[torch.Tensor] = []
        self._frames_to_end = self._full

    @property
    def max_demand(self) -> int:
        """Largest number of frames beyond the shown one that can be kept ready."""
        return self._full - END_MARGIN

    def last_frames(self) -> torch.Tensor | None:
        """Frames (num_envs,) that motions end at; None where they never end."""
        return self.buffer.written - 1

    def refresh(self, env_ids: torch.Tensor) -> None:
        """Remember that environments (n,) hold no frame beyond the last that they are shown something of."""
        if len(env_ids) == len(self._clock.shown):
            self._pending.clear()
        self._pending.append(env_ids.clone())  # A caller may change its own before they are looked at.

    def need(self, frames: int) -> None:
        """Make sure that this many frames beyond the shown one are there, now and after every coming step."""
        self._longest = max(self._longest, frames)
        if frames > 0 or self._hold:  # What is held shows no velocity, so it must be known whether it goes on.
            self._serve_pending()
            self._serve_ends()

    def advance(self) -> None:
        """Extend what comes to its end; the clock has moved."""
        self._serve_pending()
        self._frames_to_end -= self._whole_step
        self._serve_ends()

    def _serve_pending(self) -> None:
        """Extend environments that hold nothing beyond the shown frame."""
        if self._pending:
            # An environment may have been begun and given a command since.
            env_ids = torch.cat(self._pending).unique() if len(self._pending) > 1 else self._pending[0]
            self._pending.clear()
            everyone = len(env_ids) == len(self._clock.shown)
            self.buffer.extend(slice(None) if everyone else env_ids, self._full)
            self._frames_to_end = self._full if everyone else min(self._frames_to_end, self._full)

    def _serve_ends(self) -> None:
        """Extend environments that come to the end of their frames. Rarely acts; only then it waits for the device."""
        if self._hold or self._frames_to_end > self._longest:
            return
        remaining = self.buffer.written - 1 - self._clock.shown
        due = (remaining <= self._longest + 1).nonzero().squeeze(1)
        if len(due) > 0:
            self.buffer.extend(due, self._full - self._longest - 2)
            remaining = self.buffer.written - 1 - self._clock.shown
        self._frames_to_end = int(remaining.min())
