"""Frames generated as time passes."""

from __future__ import annotations

import torch

from cmg_ref.trajectories.buffer import MotionBuffer
from cmg_ref.trajectories.clock import FrameClock
from cmg_ref.trajectories.frame_supply import FrameSupply

NUM_PHASES = 8  # groups of environments whose frames fall due at different steps, where not every step brings one
SMALLEST_GROUP = 64  # environments; smaller batches cost more than their share


class RealtimeSupply(FrameSupply):
    """Keeps every environment as many frames ahead as anyone reads, by the same work at every step.

    Environments that were reset or got a new command hold no frame beyond the shown one. What they lack is generated
    when a frame beyond it is read, for all of them together; until then nothing is generated for them.

    Args:
        buffer: The motions; that of environment i is number ``first_motion + i``.
        clock: Which frame every environment is shown.
        capacity: Frames kept of each motion.
        refill_frames: Frames generated at a time.
        first_motion: Number of the first environment's motion.
        active: Environments concerned, (n,); None for all. May be replaced at any time.
    """

    def __init__(
        self,
        buffer: MotionBuffer,
        clock: FrameClock,
        capacity: int,
        refill_frames: int = 1,
        first_motion: int = 0,
        active: torch.Tensor | None = None,
    ) -> None:
        num, frames_per_step = len(clock.shown), clock.frames_per_step
        self.buffer, self.active = buffer, active
        self.motions = slice(first_motion, first_motion + num)
        self._clock, self._refill, self._first = clock, refill_frames, first_motion
        self._limit = capacity - refill_frames - 4
        self._pending: list[torch.Tensor] = []
        # With one frame due per step the motions of all environments are extended at each step, whatever their state.
        self._one_due = refill_frames == 1 and clock.on_frames
        self.in_step = self._one_due and active is None
        phases = 1 if self._one_due else NUM_PHASES if refill_frames == 1 else round(refill_frames / frames_per_step)
        phases = 1 if active is not None else max(1, min(phases, num // SMALLEST_GROUP))
        ends = [num * (phase + 1) // phases for phase in range(phases)]
        self._groups = list(zip([0, *ends[:-1]], ends))
        self._owed = [refill_frames * phase / phases for phase in range(phases)]

    @property
    def max_demand(self) -> int:
        """Largest number of frames beyond the shown one that can be kept ready."""
        return self._limit

    def motions_of(self, env_ids: torch.Tensor) -> torch.Tensor:
        """Motions (n,) of environments (n,)."""
        return env_ids + self._first

    def refresh(self, env_ids: torch.Tensor) -> None:
        """Remember that environments (n,) hold no frame beyond the last that they are shown something of."""
        if self._one_due and self.demand == 0:
            return  # Nothing beyond the shown frame is read.
        self._pending.append(env_ids.clone())  # A caller may change its own before they are looked at.

    def need(self, frames: int) -> None:
        """Make sure that this many frames beyond the shown one are there, now and after every coming step."""
        if frames > 0 and self._pending:
            self._serve_pending()
        if frames > self.demand:
            more, self.demand = frames - self.demand, frames
            self.buffer.extend(self.motions if self.active is None else self.motions_of(self.active), more)

    def advance(self) -> None:
        """Generate the frames of a step; the clock has moved."""
        self.catch_up()
        for group, (first, end) in enumerate(self._groups):
            self._owed[group] += self._clock.frames_per_step
            # A sum that should be a whole number may fall short of it by rounding.
            count = int((self._owed[group] + 1e-9) / self._refill) * self._refill
            if count > 0:
                self._owed[group] -= count
                self.buffer.extend(
                    slice(self._first + first, self._first + end)
                    if self.active is None
                    else self.motions_of(self.active),
                    count,
                )

    def catch_up(self) -> None:
        """Extend environments that hold no frame beyond the shown one before all are extended, where that is due."""
        if self._pending and not (self._one_due and sum(map(len, self._pending)) < len(self._clock.shown)):
            self._serve_pending()

    def _serve_pending(self) -> None:
        """Extend environments that hold no frame beyond the shown one, up to what is kept ready."""
        # An environment may have been begun and given a command since.
        env_ids = torch.cat(self._pending) if len(self._pending) > 1 else self._pending[0]
        lacking = self.buffer.rollout.kernels is not None and self.in_step and len(env_ids) <= len(self._clock.shown)
        if len(self._pending) > 1 and not lacking:
            env_ids = env_ids.unique()
        self._pending.clear()
        if lacking:
            # Kernels take a motion twice and leave out what is none: which commands changed, the host need not know.
            motions = self.motions_of(env_ids)
            beyond = self.buffer.written.index_select(0, motions) - self._clock.shown.index_select(0, env_ids)
            self.buffer.extend(motions.masked_fill_(beyond > 1, -1), self.demand)
            return
        if self._refill == 1:
            self._extend_pending(env_ids, self.demand + (0 if self._one_due else 1))
            return
        for (first, end), owed in zip(self._groups, self._owed):
            members = env_ids[(env_ids >= first) & (env_ids < end)]
            self._extend_pending(members, self.demand + self._refill - int(owed))

    def _extend_pending(self, env_ids: torch.Tensor, count: int) -> None:
        if len(env_ids) > 0 and count > 0:
            self.buffer.extend(self.motions_of(env_ids), count)
