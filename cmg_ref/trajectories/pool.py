"""Ready trajectories that resets are served from, and their renewal in large batches within a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Optional, Protocol

import torch

from cmg_ref.core.command_layout import told_to_stand
from cmg_ref.trajectories.argument_checks import checked_whole
from cmg_ref.trajectories.buffer import MotionBuffer
from cmg_ref.trajectories.start_states import InitialStates

CANDIDATES = 128  # trajectories looked at for a reset with a given command
BIN_WIDTH = 0.1  # commands that differ by less than this share of the trained range count as the same
FILL_ATTEMPTS = 5  # times that unhealthy trajectories of a new pool are drawn again


# Which of motions (n,) of a buffer, of so many frames each, do what their commands say, (n,) bool; None does not ask.
FollowsCommands = Optional[Callable[[MotionBuffer, torch.Tensor, int], torch.Tensor]]


class SamplesCommands(Protocol):
    """Draws commands, as :class:`cmg_ref.commands.sampler.CommandSampler` does."""

    def sample(self, num: int) -> torch.Tensor:
        """Commands (num, command_dim)."""
        ...


@dataclass(frozen=True)
class TrajectoryPoolCfg:
    """Size and renewal of a :class:`TrajectoryPool`.

    Attributes:
        num_trajectories: Trajectories kept; None for 1.25 per environment. Fewer than environments will do: a
            trajectory serves several environments at a time.
        uses: How often a trajectory is handed out before it is generated anew. Where the budget does not suffice for
            that, trajectories are handed out more often, the least used ones first.
        regenerate_frames_per_step: Most frames (trajectories times frames) generated per control step; what
            environments consume that have left their trajectories comes out of it first. None for one frame per
            environment, what realtime mode costs; 0 never renews.
        batch: Trajectories generated together; None for a fifth of them, at most 1024.
        resampling_time: Shortest and longest time between changes of a trajectory's command [s]; None takes the
            sampler's, or 2 to 6 s.
        from_standing: Whether trajectories begin from standing, and not amid what their first command asks for; None
            leaves it to who has the pool, and they begin amid it if nobody asks otherwise.
        max_guard_share: a trajectory with a larger share of frames that the guard had to change is dropped.
        check_commands: Whether a trajectory is also dropped whose mean velocity misses its command somewhere, by the
            tolerances of :mod:`cmg_ref.evaluation.command_following`.
    """

    num_trajectories: int | None = None
    uses: int = 1
    regenerate_frames_per_step: int | None = None
    batch: int | None = None
    resampling_time: tuple[float, float] | None = None
    from_standing: bool | None = None
    max_guard_share: float = 0.1
    check_commands: bool = False

    def validate(self) -> None:
        """Raise a ValueError that names the first impossible field."""
        for name, least in (("num_trajectories", 1), ("uses", 1), ("regenerate_frames_per_step", 0), ("batch", 1)):
            value = getattr(self, name)
            if value is not None:
                checked_whole(value, f"TrajectoryPoolCfg.{name}", least)
        if self.resampling_time is not None and not 0.0 < self.resampling_time[0] <= self.resampling_time[1]:
            raise ValueError(
                f"TrajectoryPoolCfg.resampling_time must be positive and rising, got {self.resampling_time}"
            )
        if not 0.0 <= self.max_guard_share <= 1.0:
            raise ValueError(f"TrajectoryPoolCfg.max_guard_share must lie in 0 to 1, got {self.max_guard_share}")

    def size(self, num_envs: int) -> int:
        """Number of trajectories for so many environments."""
        return self.num_trajectories if self.num_trajectories is not None else math.ceil(1.25 * num_envs)

    def batch_of(self, num_trajectories: int) -> int:
        """Trajectories generated together, of so many."""
        return min(num_trajectories, self.batch or min(1024, max(1, num_trajectories // 5)))

    def times(self, sampler: SamplesCommands) -> tuple[float, float]:
        """Shortest and longest time between changes of a command [s]."""
        if self.resampling_time is not None:
            return self.resampling_time
        low, high = getattr(getattr(sampler, "cfg", None), "resampling_time", (2.0, 6.0))
        return float(low), float(high)

    def num_segments(self, sampler: SamplesCommands, length: int, fps: float) -> int:
        """Commands that a trajectory of ``length`` frames needs at most, with some to spare for what comes after it."""
        return math.ceil(length / max(1.0, self.times(sampler)[0] * fps)) + 2


class TrajectoryPool:
    """The first ``num_trajectories`` motions of a buffer, each with a schedule of commands of its own.

    Args:
        cfg: Size and renewal.
        buffer: The motions.
        num_trajectories: How many of them belong to the pool.
        length: Frames of a trajectory.
        initial_states: Where trajectories begin.
        sampler: Draws their commands.
        generator: Draws everything else.
        follows_commands: Tells which trajectories do what they are told, if ``cfg`` asks for it.

    Attributes:
        handed: How often each trajectory has been handed out since it was generated, (num_trajectories,).
        ready: Which may be handed out, (num_trajectories,) bool.

    Raises:
        ValueError: Hardly any trajectory stays inside the range that the checkpoint was trained in, or follows its
            commands.
    """

    def __init__(
        self,
        cfg: TrajectoryPoolCfg,
        buffer: MotionBuffer,
        num_trajectories: int,
        length: int,
        initial_states: InitialStates,
        sampler: SamplesCommands,
        generator: torch.Generator,
        follows_commands: FollowsCommands = None,
    ) -> None:
        self.cfg, self.buffer, self.length = cfg, buffer, length
        self.num_trajectories, self.device = num_trajectories, buffer.device
        self.handed = torch.zeros(num_trajectories, dtype=torch.long, device=self.device)
        self.ready = torch.zeros(num_trajectories, dtype=torch.bool, device=self.device)
        self._batch_size = cfg.batch_of(num_trajectories)
        self._initial_states, self._sampler = initial_states, sampler
        self._generator, self._follows_commands = generator, follows_commands if cfg.check_commands else None
        self._scale = 1.0 / (buffer.rollout.model.command_max - buffer.rollout.model.command_min)
        self._batch: torch.Tensor | None = None
        self._frames_left = 0
        self._credit = 0.0
        self._may_renew = True
        self._num_ready = 0
        self._renewed, self._dropped = 0, 0
        self._handed_out, self._handed_out_again = 0, torch.zeros((), dtype=torch.long, device=self.device)
        self._fill()

    def hand_out(
        self, commands: torch.Tensor | None, num: int, start_frames: torch.Tensor | str | None, last_start: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose trajectories; generates nothing.

        Args:
            commands: Commands that the trajectories shall follow where they are entered, (num, command_dim): those that
                do so most nearly are chosen. None takes any. Among equals the least used are chosen.
            num: How many.
            start_frames: Frames to enter at, (num,); ``"random"`` draws them, None takes the first.
            last_start: Latest frame to enter at.

        Returns:
            Trajectories (num,) and the frames (num,) to enter them at.
        """
        if commands is None:
            motions = self._least_used(num)
            frames = self._start_frames((num, 1), start_frames, last_start).squeeze(1)
        else:
            chosen = [
                self._nearest(
                    commands[first : first + 1024],
                    start_frames[first : first + 1024] if isinstance(start_frames, torch.Tensor) else start_frames,
                    last_start,
                )
                for first in range(0, num, 1024)
            ]
            motions, frames = torch.cat([pair[0] for pair in chosen]), torch.cat([pair[1] for pair in chosen])
        self.lend(motions)
        return motions, frames

    def lend(self, motions: torch.Tensor) -> None:
        """Take note that ready trajectories (n,), of which one may come several times, are handed out."""
        self._handed_out += len(motions)
        self._handed_out_again += (self.handed[motions] >= self.cfg.uses).sum()
        self.handed.index_add_(0, motions, torch.ones_like(motions))
        self._may_renew = True

    def take_back(self) -> None:
        """Take note that environments have left their trajectories."""
        self._may_renew = True

    def renew(self, frames: float, motions: torch.Tensor) -> torch.Tensor | None:
        """Generate used trajectories anew.

        Args:
            frames: Most frames to generate now; what is left over is added to the next call's.
            motions: Motions that environments are shown, (num_envs,); these are left alone.

        Returns:
            Trajectories (n,) whose last frame this was, whether they are healthy or not; None where there are none.
        """
        if self._batch is None:
            # Which trajectories are used up and shown changes only where one is handed out, left or admitted.
            if self._may_renew:
                self._batch = self._next_batch(motions)
            self._may_renew = self._batch is not None
            if self._batch is None:
                return None
            self._plan(self._batch)
            self._frames_left = self.length - 1
        self._credit = min(self._credit + frames, max(frames, 0.0) + len(self._batch))
        count = min(int(self._credit / len(self._batch)), self._frames_left)
        if count < 1:
            return None
        self._credit -= count * len(self._batch)
        self._frames_left -= count
        self.buffer.extend(self._batch, count)
        if self._frames_left > 0:
            return None
        renewed, self._batch = self._batch, None
        self._admit(renewed)
        return renewed

    def stats(self) -> dict[str, Any]:
        """Counters since construction."""
        return {
            "trajectories": self.num_trajectories,
            "trajectories_ready": self._num_ready,
            "trajectories_handed_out": self._handed_out,
            "trajectories_handed_out_again": int(self._handed_out_again),
            "trajectories_renewed": self._renewed,
            "trajectories_dropped": self._dropped,
        }

    # Inside -----------------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Generate every trajectory."""
        rows = torch.arange(self.num_trajectories, device=self.device)
        for _ in range(FILL_ATTEMPTS):
            self._plan(rows)
            self.buffer.extend(rows, self.length - 1)
            self._admit(rows)
            rows = (~self.ready).nonzero().squeeze(1)
            if len(rows) == 0:
                break
        self._renewed = 0
        if 2 * self._num_ready <= self.num_trajectories:
            raise ValueError(
                f"trajectory pool: {self.num_trajectories - self._num_ready} of {self.num_trajectories} trajectories "
                f"were not finite, had more than {self.cfg.max_guard_share:.0%} of their frames held inside the "
                "trained range or missed their commands where check_commands is set; the checkpoint does not follow "
                "these commands"
            )

    def _plan(self, motions: torch.Tensor) -> None:
        """Draw the commands and the first states of motions (n,)."""
        num, num_segments = len(motions), self.buffer.commands.num_segments
        low, high = self.cfg.times(self._sampler)
        model = self.buffer.rollout.model
        drawn = self._sampler.sample(num * num_segments).to(self.device).float()
        targets = model.clamp_command(model.command_layout.complete(drawn)).view(num, num_segments, -1)
        draw = torch.rand(num, num_segments - 1, generator=self._generator, device=self.device)
        fps = self.buffer.store.fps
        lengths = ((low + (high - low) * draw) * fps).round().long().clamp(min=1)
        first_frames = torch.cat((torch.zeros_like(lengths[:, :1]), lengths.cumsum(1)), dim=1)
        draw = torch.randint(1 << 31, (num,), generator=self._generator, device=self.device)
        rest = model.command_layout.rest(num, device=self.device)
        begun = rest if self.cfg.from_standing else targets[:, 0]
        states, own_commands, following = self._initial_states.choose(begun, draw)
        self.buffer.commands.plan(motions, first_frames, own_commands, targets)
        self.buffer.restart(motions, states, following)

    def _admit(self, motions: torch.Tensor) -> None:
        """Make generated motions (n,) ready, if they are healthy."""
        healthy = self.buffer.finite(motions)
        healthy &= self.buffer.guarded[motions] <= self.cfg.max_guard_share * self.length
        if self._follows_commands is not None:
            healthy &= self._follows_commands(self.buffer, motions, self.length)
        self.ready[motions] = healthy
        # What is dropped counts as used up, so that it is generated again first.
        self.handed[motions] = torch.where(healthy, 0, torch.iinfo(torch.int32).max)
        num_healthy = int(healthy.sum())
        self._num_ready = int(self.ready.sum())
        self._renewed += num_healthy
        self._dropped += len(motions) - num_healthy

    def _next_batch(self, motions: torch.Tensor) -> torch.Tensor | None:
        """Used-up trajectories (n,) that no environment is shown; None while there are too few."""
        shown = torch.zeros(self.num_trajectories + 1, dtype=torch.bool, device=self.device)
        shown[motions.clamp(max=self.num_trajectories)] = True
        worn = self.handed >= self.cfg.uses
        free = worn & ~shown[:-1]
        num_free = int(free.sum())
        if 2 * num_free >= self._batch_size:
            chosen = torch.where(free, self.handed, -1).topk(min(num_free, self._batch_size)).indices
        elif self._num_ready > self.num_trajectories - self._batch_size and self._num_ready > self._batch_size:
            # All are being shown: hand the most used ones out no more, and they will come free.
            chosen = torch.where(worn, self.handed, -1).topk(self._batch_size).indices
            chosen = chosen[worn[chosen]]
        else:
            chosen = motions[:0]
        self.ready[chosen] = False
        self._num_ready = int(self.ready.sum())
        return chosen if 2 * num_free >= self._batch_size else None

    def _least_used(self, num: int) -> torch.Tensor:
        """Ready trajectories (num,), the least used first and each once before any is taken twice."""
        random = torch.rand(self.num_trajectories, generator=self._generator, device=self.device)
        wear = torch.where(self.ready, self.handed + random, float("inf"))
        order = wear.topk(min(num, self._num_ready), largest=False).indices
        return order if len(order) == num else order[torch.arange(num, device=self.device) % len(order)]

    def _nearest(
        self, commands: torch.Tensor, start_frames: torch.Tensor | str | None, last_start: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ready trajectories (n,) and start frames (n,) whose commands are nearest to commands (n, command_dim)."""
        num, total = len(commands), self.num_trajectories
        if total <= CANDIDATES:
            candidates = torch.arange(total, device=self.device).expand(num, -1)
        else:
            candidates = torch.randint(total, (num, CANDIDATES), generator=self._generator, device=self.device)
        frames = self._start_frames(candidates.shape, start_frames, last_start)  # (n, candidates)
        targets = self.buffer.commands.target(frames.flatten(), candidates.flatten()).view(*frames.shape, -1)
        difference = (targets - commands.unsqueeze(1)).mul(self._scale).abs().amax(dim=2)
        # However slow a walk is, it does not pass for standing.
        difference += told_to_stand(targets) != told_to_stand(commands).unsqueeze(1)
        random = torch.rand(frames.shape, generator=self._generator, device=self.device)
        wear = self.handed[candidates].clamp(max=1000) + random
        score = (difference / BIN_WIDTH).floor() * 2000.0 + wear
        score = torch.where(self.ready[candidates], score, float("inf"))
        best = score.argmin(dim=1, keepdim=True)
        return candidates.gather(1, best).squeeze(1), frames.gather(1, best).squeeze(1)

    def _start_frames(
        self, shape: tuple[int, ...], start_frames: torch.Tensor | str | None, last_start: int
    ) -> torch.Tensor:
        """Frames (num, candidates) to enter at."""
        if isinstance(start_frames, torch.Tensor):
            return start_frames.to(self.device).long().clamp(0, last_start).unsqueeze(1).expand(shape)
        if start_frames is None:
            return torch.zeros(shape, dtype=torch.long, device=self.device)
        return torch.randint(last_start + 1, shape, generator=self._generator, device=self.device)
