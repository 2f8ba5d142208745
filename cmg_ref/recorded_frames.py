"""Generates frames on a GPU by recorded CUDA graphs: one launch a frame instead of some two hundred."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Callable, Tuple

import torch

from cmg_ref.fastest_step import measure, record
from cmg_ref.folded_network import FoldedNetwork

SMALLEST_SIZE = 64  # motions; a graph of fewer takes no less time

# Of motions (n,), states (n, state_dim), poses (n, 3) and frames (n,): stores those frames, and returns the next
# states, their poses, and in which the guard had to act (n,).
Frame = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], Tuple[torch.Tensor, torch.Tensor, torch.Tensor]
]


class RecordedFrames:
    """Frames for any number of motions, by a graph for each power of two and for the usual and the largest number.

    A batch is filled up to the next size by repeating its last motion: what is stored twice is the same twice. A graph
    keeps what torch was told before it was recorded, such as the precision of matrix products.

    Args:
        frame: makes a frame; must work on memory that stays where it is, and depend on nothing but its arguments and
            that memory. It is run a few times with the same arguments before it is recorded.
        network: whose memory the frame works in; a recording must keep it.
        largest: largest number of motions.
        usual: number of motions that most frames are made for.
        compiled: whether ``torch.compile`` is tried for the usual number, and kept where it is faster; takes some ten
            seconds at the first frame.
    """

    def __init__(self, frame: Frame, network: FoldedNetwork, largest: int, usual: int, compiled: bool = False) -> None:
        self._frame, self._network, self._usual, self._compiled = frame, network, usual, compiled
        powers = [1 << exponent for exponent in range(largest.bit_length())]
        self._sizes = sorted({largest, usual, *(power for power in powers if SMALLEST_SIZE <= power < largest)})
        self._recordings: dict[int, Recording] = {}
        self._usable = True

    def __call__(
        self, motions: torch.Tensor, states: torch.Tensor, poses: torch.Tensor, frames: torch.Tensor, count: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Make ``count`` frames from ``frames`` (n,) on, each from the one before.

        Args:
            motions: motions concerned, (n,).
            states: their states a frame before, (n, state_dim).
            poses: x, y and heading then, (n, 3).
            frames: number of the first frame of each, (n,).
            count: how many frames.

        Returns:
            The last states (n, state_dim) and poses (n, 3), and in how many frames the guard had to act (n,), valid
            until the next call; None where the driver or torch cannot record, which is warned of once.
        """
        if not self._usable:
            return None
        num = len(motions)
        size = next(size for size in self._sizes if size >= num)
        if size not in self._recordings:
            try:
                with torch.inference_mode(False):  # What is made in that mode cannot be worked in outside of it.
                    self._recordings[size] = self._fastest(size, motions, states, poses, frames)
            except Exception as error:  # Drivers fail in ways of their own; the plain loop remains.
                warnings.warn(f"frames cannot be recorded as a CUDA graph ({error})", stacklevel=2)
                self._usable = False
                return None
        return self._recordings[size].run(motions, states, poses, frames, count)

    def _fastest(
        self, size: int, motions: torch.Tensor, states: torch.Tensor, poses: torch.Tensor, frames: torch.Tensor
    ) -> Recording:
        """The frame recorded for a number of motions, compiled where that is wanted and faster."""
        arguments = (motions, states, poses, frames)
        held = [_filled_up(given, size) for given in arguments]
        plain = Recording(self._frame, self._network, *held)
        if not self._compiled or size != self._usual:
            return plain
        try:
            compiled = Recording(torch.compile(self._frame, dynamic=False), self._network, *map(torch.clone, held))
            durations = [measure(partial(way.run, *arguments, 1), states.device) for way in (plain, compiled)]
        except Exception as error:  # So do compilers.
            warnings.warn(f"frames cannot be compiled ({error})", stacklevel=2)
            return plain
        return compiled if durations[1] < durations[0] else plain


def _filled_up(given: torch.Tensor, size: int) -> torch.Tensor:
    """A copy of (n, ...) whose last row is repeated up to (size, ...)."""
    return torch.cat((given, given[-1:].expand(size - len(given), *given.shape[1:])))


class Recording:
    """A frame recorded for one number of motions; the arguments are those of :data:`Frame`."""

    def __init__(
        self,
        frame: Frame,
        network: FoldedNetwork,
        motions: torch.Tensor,
        states: torch.Tensor,
        poses: torch.Tensor,
        frames: torch.Tensor,
    ) -> None:
        self._motions, self._states, self._poses, self._frames = motions, states, poses, frames
        self._guarded = torch.zeros_like(frames)

        def advance() -> None:
            following, following_poses, guarded = frame(motions, states, poses, frames)
            states.copy_(following)
            poses.copy_(following_poses)
            frames.add_(1)
            self._guarded.add_(guarded)

        # The same frame is stored again and again until the recording is replayed.
        self._graph, _ = record(partial(frame, motions, states, poses, frames), advance, states.device)
        self._workspace = network.workspace  # The recording writes there even if the network takes larger memory.

    def run(
        self, motions: torch.Tensor, states: torch.Tensor, poses: torch.Tensor, frames: torch.Tensor, count: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Make frames; see :meth:`RecordedFrames.__call__`."""
        num = len(motions)
        for held, given in (
            (self._motions, motions),
            (self._states, states),
            (self._poses, poses),
            (self._frames, frames),
        ):
            held[:num] = given
            if num < len(held):
                held[num:] = given[-1]
        self._guarded.zero_()
        for _ in range(count):
            self._graph.replay()
        return self._states[:num], self._poses[:num], self._guarded[:num]
