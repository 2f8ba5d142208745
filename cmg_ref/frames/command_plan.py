"""Commands by frame: what each stored motion is, was and will be told to do."""

from __future__ import annotations

from typing import Sequence

import torch

from cmg_ref.core.backends import call_loop, chosen_backend
from cmg_ref.core.command_layout import CommandLayout, ramp_steps

_NEVER = torch.iinfo(torch.long).max


class PlannedCommands:
    """A piecewise linear command for each of many motions.

    A motion has up to ``num_segments`` segments. From its first frame on, a segment takes the command along a straight
    line from its start to its target and then keeps it there. Before the first segment its start is in force.

    Args:
        num_motions: Number of motions.
        num_segments: Segments kept per motion.
        interpolation_frames: Frames from the beginning of a segment until its target is reached, or more if it has far
            to go; 0 switches at once.
        device: Device of the commands.
        backend: What works them out, see :mod:`cmg_ref.core.backends`.
        layout: Channels of a command; those of the velocity by default.
        dt: Time of a frame [s].
        acceleration: What vx, vy [m/s^2] and yaw rate [rad/s^2] change by at most; by default
            :data:`cmg_ref.core.command_layout.ACCELERATIONS`.

    Attributes:
        first_frames: Frame at which each segment begins, rising, (num_motions, num_segments).
        starts: Command at that frame, (num_motions, num_segments, command_dim).
        targets: Command approached, (num_motions, num_segments, command_dim).
        largest: What each channel changes by in a frame at most, (command_dim,).
    """

    def __init__(
        self,
        num_motions: int,
        num_segments: int,
        interpolation_frames: int,
        device: str | torch.device = "cpu",
        backend: str = "auto",
        layout: CommandLayout | None = None,
        dt: float = 0.02,
        acceleration: Sequence[float] | None = None,
    ) -> None:
        layout = layout or CommandLayout()
        if num_motions < 1 or num_segments < 1 or interpolation_frames < 0:
            raise ValueError(
                f"PlannedCommands: num_motions={num_motions}, num_segments={num_segments}, "
                f"interpolation_frames={interpolation_frames}"
            )
        self.num_segments, self.interpolation_frames = num_segments, interpolation_frames
        self.first_frames = torch.full((num_motions, num_segments), _NEVER, dtype=torch.long, device=device)
        self.first_frames[:, 0] = 0
        self.starts = layout.rest(num_motions, num_segments, device=device)
        self.targets = self.starts.clone()
        self.largest = layout.largest_changes(dt, device, acceleration)
        self._numbers = torch.arange(num_motions, device=device)
        self._numba = chosen_backend(backend, self.targets.device) == "numba"
        if self._numba:
            from cmg_ref.frames import numba_frames

            self._loops = numba_frames

    @property
    def num_bytes(self) -> int:
        """Memory held by the commands [bytes]."""
        return sum(held.numel() * held.element_size() for held in (self.first_frames, self.starts, self.targets))

    def value(self, frames: torch.Tensor, motions: slice | torch.Tensor) -> torch.Tensor:
        """Command in force at frames (n, ...) of motions (n,), (n, ..., command_dim)."""
        if self._numba and frames.ndim == 1:
            return self._value_in_one_pass(frames, motions)
        first_frame, start, target = self.segment(frames, motions)
        if self.interpolation_frames == 0:
            return target
        return self._on_the_way(start, target, frames - first_frame)

    def _value_in_one_pass(self, frames: torch.Tensor, motions: slice | torch.Tensor) -> torch.Tensor:
        values = torch.empty(len(frames), self.targets.shape[2])
        plan = self.first_frames, self.starts, self.targets, self._numbers[motions]
        call_loop(self._loops.commands_in_force, *plan, frames, self.interpolation_frames, self.largest, values)
        return values

    def _on_the_way(self, start: torch.Tensor, target: torch.Tensor, passed: torch.Tensor) -> torch.Tensor:
        """Command so many frames (...) after it was at ``start``, going to ``target``, all (..., command_dim)."""
        ramp = ramp_steps(start, target, self.interpolation_frames, self.largest)
        return torch.lerp(start, target, (passed.to(start.dtype) / ramp).clamp(0.0, 1.0).unsqueeze(-1))

    def target(self, frames: torch.Tensor, motions: slice | torch.Tensor) -> torch.Tensor:
        """Command being approached at frames (n, ...) of motions (n,), (n, ..., command_dim)."""
        return self.segment(frames, motions)[2]

    def set_target(self, motions: torch.Tensor, frames: torch.Tensor, targets: torch.Tensor) -> None:
        """From frames (n,) on, approach targets (n, ...) from the command then in force; forget other segments."""
        self.begin(motions, frames, self.value(frames, motions), targets)

    def begin(self, motions: torch.Tensor, frames: torch.Tensor, starts: torch.Tensor, targets: torch.Tensor) -> None:
        """From frames (n,) on, go from commands ``starts`` to ``targets`` (n, command_dim); forget other segments."""
        self.first_frames[motions] = _NEVER
        self.first_frames[motions, 0] = frames
        self.starts[motions, 0] = starts
        self.targets[motions, 0] = targets

    def plan(
        self, motions: torch.Tensor, first_frames: torch.Tensor, starts: torch.Tensor, targets: torch.Tensor
    ) -> None:
        """Replace all segments.

        Args:
            motions: Motions concerned, (n,).
            first_frames: Frame at which each segment begins, rising, (n, num_segments).
            starts: Command at the first of them, (n, command_dim).
            targets: Command that each segment approaches, (n, num_segments, command_dim).
        """
        self.first_frames[motions] = first_frames
        self.targets[motions] = targets
        self.starts[motions, 0] = starts
        for segment in range(1, self.num_segments):
            length = first_frames[:, segment] - first_frames[:, segment - 1]
            before = targets[:, segment - 1]
            starts = before if self.interpolation_frames == 0 else self._on_the_way(starts, before, length)
            self.starts[motions, segment] = starts

    def copy(self, sources: torch.Tensor, motions: torch.Tensor) -> None:
        """Give motions (n,) the commands of motions ``sources`` (n,)."""
        for held in (self.first_frames, self.starts, self.targets):
            held[motions] = held[sources]

    def segment(
        self, frames: torch.Tensor, motions: slice | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """First frame (n, ...), start and target (n, ..., command_dim) of the segments that hold at frames (n, ...)."""
        first_frames, width = self.first_frames[motions], self.targets.shape[2]  # (n, num_segments)
        if self.num_segments == 1:
            shape = (-1, *[1] * (frames.ndim - 1))
            starts, targets = self.starts[motions].view(*shape, width), self.targets[motions].view(*shape, width)
            return first_frames.view(shape), starts, targets
        flat = frames.flatten(1) if frames.ndim > 1 else frames.unsqueeze(1)  # (n, num_frames)
        begun = (first_frames.unsqueeze(1) <= flat.unsqueeze(2)).sum(dim=2)
        segment = (begun - 1).clamp(min=0)
        rows = (self._numbers[motions].unsqueeze(1) * self.num_segments + segment).flatten()
        return (
            first_frames.gather(1, segment).view(frames.shape),
            self.starts.flatten(0, 1).index_select(0, rows).view(*frames.shape, width),
            self.targets.flatten(0, 1).index_select(0, rows).view(*frames.shape, width),
        )
