"""Where the motions of the library come from: a pool of ready ones, or one live motion for each environment."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cmg_ref.commands.sampler import CommandSampler
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.trajectories.pool import TrajectoryPool
from cmg_ref.twist.motion_view import MotionView

NEVER = -(1 << 40)  # [steps] before anything was begun


class PoolFeed:
    """Ready motions, drawn by weight and renewed a batch at a time.

    The library is not told which motions environments are in. An environment that begins one may be in it for as long
    as an episode lasts; only after that time is it generated anew.

    Args:
        pool: The motions.
        view: Reads them.
        retirement: Steps from the beginning of an episode until it has ended.
        budget: Most frames generated per step; 0 never renews.

    Attributes:
        first: First frame of each motion, (num_motions,).
        last: Last frame, at rest, (num_motions,).
    """

    def __init__(self, pool: TrajectoryPool, view: MotionView, retirement: int, budget: float) -> None:
        self._pool, self._view, self._retirement, self._budget = pool, view, retirement, budget
        everyone = torch.arange(pool.num_trajectories, device=pool.device)
        self.first, self.last = torch.zeros_like(everyone), torch.full_like(everyone, pool.length - 1)
        self._begun, self._step = torch.full_like(everyone, NEVER), 0
        self._complete(everyone)

    def draw(self, num: int, weights: Tensor, random: torch.Generator) -> Tensor:
        """Motions (num,) in proportion to weights (num_motions,), of those that may be begun."""
        motions = torch.multinomial(weights * self._pool.ready, num, replacement=True, generator=random)
        self._pool.lend(motions)
        self.begin(motions)
        return motions

    def begin(self, motions: Tensor) -> None:
        """Take note that environments begin motions (n,), drawn or not, and are in them for as long as an episode."""
        self._begun[motions] = self._step

    def step(self) -> Tensor | None:
        """Let a control step pass; returns the motions (n,) that have just been renewed, if any."""
        if self._budget == 0:
            return None
        self._step += 1
        self._pool.take_back()
        in_use = (self._begun >= self._step - self._retirement).nonzero().squeeze(1)
        renewed = self._pool.renew(self._budget, in_use)
        if renewed is not None:
            self._complete(renewed)
        return renewed

    def _complete(self, motions: Tensor) -> None:
        # Reads beyond the end show it at rest.
        self._view.stop(motions, self._pool.length - 1)
        frames = torch.arange(self._pool.length, device=motions.device)
        for some in motions.split(64):
            self._view.complete(some, frames.expand(len(some), -1))


class LiveFeed:
    """One motion for each environment, known some way ahead; commands may change at any step.

    Args:
        generator: In realtime mode, with a buffer that reaches as far as is looked ahead.
        view: Reads its motions.
        sampler: Draws commands at resets and from time to time; None leaves them to :meth:`set_commands`.
        steps_ahead: Control steps that are known ahead.

    Attributes:
        steps: Control steps since the reset of each, (num_motions,).
        first: Frame being shown of each, (num_motions,).
        last: Last frame that is known, (num_motions,).
        targets: Command being approached by each, (num_motions, command_dim).
    """

    def __init__(
        self, generator: CMGMotionGenerator, view: MotionView, sampler: CommandSampler | None, steps_ahead: int
    ) -> None:
        self._generator, self._view, self._sampler, self._ahead = generator, view, sampler, steps_ahead
        self._frames_per_step = generator.checkpoint.fps * generator.control_dt
        self._members = torch.arange(generator.num_envs, device=generator.device)
        self.steps, self.first, self.last = (torch.zeros_like(self._members) for _ in range(3))
        self.targets = generator.command_layout.rest(generator.num_envs, device=generator.device)
        self.reset(self._members)

    @property
    def commands(self) -> Tensor:
        """Commands in force, (num_motions, command_dim)."""
        return self._generator.commands

    def reset(self, env_ids: Tensor, commands: Tensor | None = None) -> None:
        """Begin new motions in environments (n,), under commands (n, command_dim) where they are given."""
        if commands is None:
            commands = self.targets[env_ids] if self._sampler is None else self._sampler.reset(env_ids)
        self._generator.reset(env_ids, commands=commands)
        self.steps[env_ids] = 0
        self._renew(env_ids)

    def set_commands(self, commands: Tensor, env_ids: Tensor) -> None:
        """Approach commands (n, command_dim), held inside their range, in environments (n,), from the present frame."""
        self._generator.update_commands(commands, env_ids)
        self._renew(env_ids)

    def step(self) -> None:
        """Let a control step pass."""
        self._generator.advance()
        self.steps += 1
        self._complete(self._members, math.ceil(self._frames_per_step))
        if self._sampler is not None:
            targets, changed = self._sampler.step(self.targets)
            env_ids = changed.nonzero().squeeze(1)
            if len(env_ids) > 0:
                self.set_commands(targets[env_ids], env_ids)

    def _renew(self, env_ids: Tensor) -> None:
        """Take note that all that is known ahead of environments (n,) is new."""
        self.targets[env_ids] = self._generator.target_commands[env_ids]
        self._complete(env_ids, math.ceil(self._ahead * self._frames_per_step) + 2)

    def _complete(self, env_ids: Tensor, count: int) -> None:
        """Have everything ready that is known ahead; the last ``count`` frames of environments (n,) are new."""
        self._generator.future((self._ahead,))
        # A clock that should stand at a whole frame may fall short of it by rounding.
        self.first = (self.steps * self._frames_per_step + 1e-6).floor().long()
        self.last = self.first + math.ceil(self._ahead * self._frames_per_step - 1e-6)
        frames = self.last[env_ids].unsqueeze(1) - torch.arange(count, device=self.steps.device)
        self._view.complete(env_ids, torch.maximum(frames, self.first[env_ids].unsqueeze(1)))
