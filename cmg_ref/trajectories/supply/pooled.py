"""Environments that are shown trajectories of a pool, and go on by themselves where those end."""

from __future__ import annotations

import math
from typing import Any

import torch

from cmg_ref.trajectories.buffer import ROOT_CONTEXT, MotionBuffer
from cmg_ref.trajectories.clock import FrameClock
from cmg_ref.trajectories.frame_supply import FrameSupply
from cmg_ref.trajectories.pool import TrajectoryPool
from cmg_ref.trajectories.supply.preloaded import END_MARGIN
from cmg_ref.trajectories.supply.realtime import RealtimeSupply

GPU_CHECK_INTERVAL = 16  # steps between looks at what has come to its end; each look waits for the device


class PooledSupply(FrameSupply):
    """Points environments at trajectories of a pool.

    An environment that comes to the end of its trajectory, gets a command of its own or begins from a state of its own
    goes on in a private ring of frames, extended as in realtime mode, until its next reset.

    Args:
        pool: The trajectories.
        buffer: The motions: those of the pool, then one private ring per environment.
        clock: Which frame every environment is shown.
        capacity: Frames of a private ring.
        budget: Most frames generated per step.
        hold: Whether environments stand in the last pose of their trajectory instead of going on.
    """

    def __init__(
        self, pool: TrajectoryPool, buffer: MotionBuffer, clock: FrameClock, capacity: int, budget: int, hold: bool
    ) -> None:
        everyone = torch.arange(len(clock.shown), device=clock.shown.device)
        self.pool, self.buffer = pool, buffer
        self._first = pool.num_trajectories
        self._ring = RealtimeSupply(buffer, clock, capacity, first_motion=self._first, active=everyone[:0])
        self.motions: torch.Tensor = self._first + everyone
        self._clock, self._capacity, self._budget, self._hold = clock, capacity, budget, hold
        self._interval = 1 if everyone.device.type == "cpu" else GPU_CHECK_INTERVAL
        self._steps_to_check = self._interval
        self._margin = END_MARGIN + math.ceil(self._interval * clock.frames_per_step)
        self.last_start = pool.length - capacity

    @property
    def max_demand(self) -> int:
        """Largest number of frames beyond the shown one that can be kept ready."""
        return self._ring.max_demand - self._margin

    @property
    def num_private(self) -> int:
        """Number of environments that have left their trajectory."""
        return 0 if self._ring.active is None else len(self._ring.active)

    def hand_out(
        self, env_ids: torch.Tensor, commands: torch.Tensor | None, start_frames: torch.Tensor | str | None
    ) -> torch.Tensor:
        """Give environments (n,) a ready trajectory each, see :meth:`TrajectoryPool.hand_out`; frames to enter at."""
        motions, frames = self.pool.hand_out(commands, len(env_ids), start_frames, self.last_start)
        self.motions[env_ids] = motions
        self._find_private()
        return frames

    def forget_use(self) -> None:
        """Let trajectories that were handed out count as unused."""
        self.pool.handed.zero_()

    def motions_of(self, env_ids: torch.Tensor) -> torch.Tensor:
        """Motions (n,) of environments (n,)."""
        return self.motions[env_ids]

    def take_over(self, env_ids: torch.Tensor, last: torch.Tensor | None = None) -> torch.Tensor:
        """Give environments (n,) motions of their own, (n,): copies up to frame ``last`` (n,), or to be begun anew."""
        if last is not None:
            self._copy(env_ids, last, ROOT_CONTEXT + 1)
        motions = self._first + env_ids
        self.motions[env_ids] = motions
        self.pool.take_back()
        self._find_private()
        return motions

    def last_frames(self) -> torch.Tensor | None:
        """Frames (num_envs,) that motions end at; None where they never end."""
        if not self._hold:
            return None
        return torch.where(self.motions < self._first, self.pool.length - 1, torch.iinfo(torch.long).max)

    def refresh(self, env_ids: torch.Tensor) -> None:
        """Remember that environments (n,) hold no frame beyond the last that they are shown something of."""
        self._ring.refresh(env_ids)

    def need(self, frames: int) -> None:
        """Make sure that this many frames beyond the shown one are there, now and after every coming step."""
        if frames > self._ring.demand and not self._hold:
            # Trajectories that now end too early are left at once, for their rest is not of one length.
            env_ids = self._ending(frames)
            last = (self._clock.shown[env_ids] + 1).clamp(max=self.pool.length - 1)
            self._ring.need(frames)
            if len(env_ids) > 0:
                self.take_over(env_ids, last)
                self.refresh(env_ids)
        self._ring.need(frames)

    def advance(self) -> None:
        """Generate what is due: frames of private rings first, then trajectories of the pool; the clock has moved."""
        self._steps_to_check -= 1
        if self._steps_to_check == 0:
            self._steps_to_check = self._interval
            self._serve_ends()
        self._ring.advance()
        if self._budget > 0:
            self.pool.renew(self._budget - self._clock.frames_per_step * self.num_private, self.motions)

    def stats(self) -> dict[str, Any]:
        """Counters of the pool, and how many environments have left it."""
        return {**self.pool.stats(), "environments_off_the_pool": self.num_private}

    def _serve_ends(self) -> None:
        """Let environments go on in their private rings whose trajectories are about to end."""
        if not self._hold:
            env_ids = self._ending(self._ring.demand)
            if len(env_ids) > 0:
                self._copy(env_ids, torch.full_like(env_ids, self.pool.length - 1), self._capacity)
                self.take_over(env_ids)

    def _ending(self, demand: int) -> torch.Tensor:
        """Environments (n,) whose trajectories end so soon that what is read would not be there at the next look."""
        late = self._clock.shown >= self.pool.length - 1 - demand - self._margin
        return (late & (self.motions < self._first)).nonzero().squeeze(1)

    def _copy(self, env_ids: torch.Tensor, last: torch.Tensor, count: int) -> None:
        self.buffer.copy(self.motions[env_ids], self._first + env_ids, last, min(count, self._capacity))

    def _find_private(self) -> None:
        self._ring.active = (self.motions >= self._first).nonzero().squeeze(1)
