"""When frames are generated: as time passes (realtime), or a whole trajectory at each reset (pregenerated)."""

from __future__ import annotations

import math

import torch

from cmg_ref.trajectories.buffer import MotionBuffer

NUM_PHASES = 8  # groups of environments whose frames fall due at different steps, where not every step brings one
SMALLEST_GROUP = 64  # environments; smaller batches cost more than their share
END_MARGIN = 3  # frames between the furthest one that is read and the end of a trajectory


class RealtimePlanner:
    """Keeps every environment as many frames ahead as anyone reads, by the same work at every step.

    Environments that were reset or got a new command hold no frame beyond the shown one. What they lack is generated
    when a frame beyond it is read, for all of them together; until then nothing is generated for them.

    Args:
        buffer: the motions; that of environment i is number ``first_motion + i``.
        shown: frame shown now, (num_envs,); changed in place by who owns the clock.
        frames_per_step: frames that pass in a control step.
        capacity: frames kept of each motion.
        refill_frames: frames generated at a time.
        first_motion: number of the first environment's motion.
        active: environments concerned, (n,); None for all. May be replaced at any time.

    Attributes:
        demand: frames beyond the shown one that are kept ready.
    """

    def __init__(
        self,
        buffer: MotionBuffer,
        shown: torch.Tensor,
        frames_per_step: float,
        capacity: int,
        refill_frames: int = 1,
        first_motion: int = 0,
        active: torch.Tensor | None = None,
    ) -> None:
        self.buffer, self.shown, self.active = buffer, shown, active
        self.motions: slice | torch.Tensor = slice(first_motion, first_motion + len(shown))
        self.demand = 0
        self._frames_per_step, self._refill, self._first = frames_per_step, refill_frames, first_motion
        self._limit = capacity - refill_frames - 4
        self._pending: list[torch.Tensor] = []
        # With one frame due per step the motions of all environments are extended at each step, whatever their state.
        self._in_step = refill_frames == 1 and frames_per_step == 1.0
        phases = 1 if self._in_step else NUM_PHASES if refill_frames == 1 else round(refill_frames / frames_per_step)
        phases = 1 if active is not None else max(1, min(phases, len(shown) // SMALLEST_GROUP))
        ends = [len(shown) * (phase + 1) // phases for phase in range(phases)]
        self._groups = list(zip([0, *ends[:-1]], ends))
        self._owed = [refill_frames * phase / phases for phase in range(phases)]

    @property
    def max_demand(self) -> int:
        """Largest number of frames beyond the shown one that can be kept ready."""
        return self._limit

    @property
    def in_step(self) -> bool:
        """Whether every step brings one frame of every environment."""
        return self._in_step and self.active is None

    def take_over(self, env_ids: torch.Tensor, last: torch.Tensor | None = None) -> torch.Tensor:
        """Numbers (n,) of the motions of environments (n,), to be begun anew or to be changed after frame ``last``."""
        return env_ids + self._first

    def last_frames(self) -> torch.Tensor | None:
        """Frames (num_envs,) that motions end at; None where they never end."""
        return None

    def refresh(self, env_ids: torch.Tensor) -> None:
        """Remember that environments (n,) hold no frame beyond the shown one (or the next, between two of them)."""
        if self._in_step and self.demand == 0:
            return  # Nothing beyond the shown frame is read.
        self._pending.append(env_ids.clone())  # A caller may change its own before they are looked at.

    def need(self, frames: int) -> None:
        """Make sure that this many frames beyond the shown one are there, now and after every coming step."""
        if frames > 0 and self._pending:
            self._serve_pending()
        if frames > self.demand:
            more, self.demand = frames - self.demand, frames
            self.buffer.extend(self.motions if self.active is None else self.active + self._first, more)

    def advance(self) -> None:
        """Generate the frames of a step; the clock has moved or moves next."""
        self.catch_up()
        for group, (first, end) in enumerate(self._groups):
            self._owed[group] += self._frames_per_step
            # A sum that should be a whole number may fall short of it by rounding.
            count = int((self._owed[group] + 1e-9) / self._refill) * self._refill
            if count > 0:
                self._owed[group] -= count
                self.buffer.extend(
                    slice(self._first + first, self._first + end) if self.active is None else self.active + self._first,
                    count,
                )

    def catch_up(self) -> None:
        """Extend environments that hold no frame beyond the shown one before all are extended, where that is due."""
        if self._pending and not (self._in_step and sum(map(len, self._pending)) < len(self.shown)):
            self._serve_pending()

    def _serve_pending(self) -> None:
        """Extend environments that hold no frame beyond the shown one, up to what is kept ready."""
        # An environment may have been begun and given a command since.
        env_ids = torch.cat(self._pending) if len(self._pending) > 1 else self._pending[0]
        lacking = self.buffer.rollout.kernels is not None and self.in_step and len(env_ids) <= len(self.shown)
        if len(self._pending) > 1 and not lacking:
            env_ids = env_ids.unique()
        self._pending.clear()
        if lacking:
            # Kernels take a motion twice and leave out what is none: which commands changed, the host need not know.
            motions = env_ids + self._first
            beyond = self.buffer.written.index_select(0, motions) - self.shown.index_select(0, env_ids)
            self.buffer.extend(motions.masked_fill_(beyond > 1, -1), self.demand)
            return
        if self._refill == 1:
            self._extend_pending(env_ids, self.demand + (0 if self._in_step else 1))
            return
        for (first, end), owed in zip(self._groups, self._owed):
            members = env_ids[(env_ids >= first) & (env_ids < end)]
            self._extend_pending(members, self.demand + self._refill - int(owed))

    def _extend_pending(self, env_ids: torch.Tensor, count: int) -> None:
        if len(env_ids) > 0 and count > 0:
            self.buffer.extend(env_ids + self._first, count)


class PreloadPlanner:
    """Generates a whole trajectory for environments that are reset or get a new command; a step only reads.

    Args:
        buffer: the motions, one per environment.
        shown: frame shown now, (num_envs,); changed in place by who owns the clock.
        frames_per_step: frames that pass in a control step.
        capacity: frames kept of each motion.
        hold: whether environments stand in their last pose; otherwise the motion is extended before its end.
    """

    def __init__(
        self, buffer: MotionBuffer, shown: torch.Tensor, frames_per_step: float, capacity: int, hold: bool
    ) -> None:
        self.buffer, self.shown = buffer, shown
        self.motions: slice | torch.Tensor = slice(None)
        self._whole_step = math.ceil(frames_per_step - 1e-6)
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

    def take_over(self, env_ids: torch.Tensor, last: torch.Tensor | None = None) -> torch.Tensor:
        """Numbers (n,) of the motions of environments (n,), to be begun anew or to be changed after frame ``last``."""
        return env_ids

    def last_frames(self) -> torch.Tensor | None:
        """Frames (num_envs,) that motions end at; None where they never end."""
        return self.buffer.written - 1

    def refresh(self, env_ids: torch.Tensor) -> None:
        """Remember that environments (n,) hold nothing beyond the shown frame (or the next, between two of them)."""
        if len(env_ids) == len(self.shown):
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
            everyone = len(env_ids) == len(self.shown)
            self.buffer.extend(slice(None) if everyone else env_ids, self._full)
            self._frames_to_end = self._full if everyone else min(self._frames_to_end, self._full)

    def _serve_ends(self) -> None:
        """Extend environments that come to the end of their frames. Rarely acts; only then it waits for the device."""
        if self._hold or self._frames_to_end > self._longest:
            return
        remaining = self.buffer.written - 1 - self.shown
        due = (remaining <= self._longest + 1).nonzero().squeeze(1)
        if len(due) > 0:
            self.buffer.extend(due, self._full - self._longest - 2)
            remaining = self.buffer.written - 1 - self.shown
        self._frames_to_end = int(remaining.min())
