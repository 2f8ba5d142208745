"""Generates frames on a GPU by captured CUDA graphs: one launch a frame."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Callable, Sequence

import torch

from cmg_ref.cuda_graph import capture

SMALLEST_SIZE = 64  # motions; a graph of fewer takes no less time

# Makes and stores the next frame of motions (n,), -1 for none, and lets all that is kept of them go on with it.
Frame = Callable[[torch.Tensor], None]


class CapturedFrames:
    """Frames for any number of motions, by a graph for each run of motions, each power of two and the largest number.

    A batch is filled up to the next size by no motion. A graph keeps what torch was told before it was captured, such
    as the precision of matrix products.

    Args:
        frame: Makes a frame; must work on memory that stays where it is, and depend on nothing but its argument and
            that memory.
        kept: The memory that a frame changes beside the frames that it stores. It is restored after the trial runs
            before a capture.
        workspace: Gives the memory that passes between the operations of a frame; a capture must keep it.
        largest: Largest number of motions.
        usual: Number of motions that most frames are made for.
        compiled: Whether ``torch.compile`` is tried for the usual number, and kept where it is faster; takes some ten
            seconds at the first frame.
    """

    def __init__(
        self,
        frame: Frame,
        kept: Sequence[torch.Tensor],
        workspace: Callable[[], object],
        largest: int,
        usual: int,
        compiled: bool = False,
    ) -> None:
        self._frame, self._kept, self._workspace = frame, kept, workspace
        self._usual, self._compiled = usual, compiled
        powers = [1 << exponent for exponent in range(largest.bit_length())]
        self._sizes = sorted({largest, usual, *(power for power in powers if SMALLEST_SIZE <= power < largest)})
        self._of_sizes: dict[int, CapturedFrame] = {}
        self._of_runs: dict[tuple[int, int], CapturedFrame] = {}
        self._usable = True

    @property
    def captures(self) -> list[CapturedFrame]:
        """All that has been captured."""
        return [*self._of_runs.values(), *self._of_sizes.values()]

    def __call__(self, motions: range | torch.Tensor, count: int) -> bool:
        """Make the next ``count`` frames of motions (n,).

        Returns:
            Whether it was done; not so where the driver or torch cannot capture, which is warned of once.
        """
        if not self._usable:
            return False
        try:
            captured = self._captured(motions)
        except Exception as error:  # Drivers fail in ways of their own; the plain loop remains.
            warnings.warn(f"frames cannot be captured as a CUDA graph ({error})", stacklevel=2)
            self._usable = False
            return False
        captured.run(None if isinstance(motions, range) else motions, count)
        return True

    def _captured(self, motions: range | torch.Tensor) -> CapturedFrame:
        if isinstance(motions, range):
            run = (motions.start, motions.stop)
            if run not in self._of_runs:
                self._of_runs[run] = self._fastest(torch.arange(*run, device=self._kept[0].device))
            return self._of_runs[run]
        size = next(size for size in self._sizes if size >= len(motions))
        if size not in self._of_sizes:
            filled = torch.nn.functional.pad(motions, (0, size - len(motions)), value=-1)
            self._of_sizes[size] = self._fastest(filled)
        return self._of_sizes[size]

    @torch.inference_mode(False)  # What is made in that mode cannot be worked in outside of it.
    def _fastest(self, motions: torch.Tensor) -> CapturedFrame:
        """The frame captured for motions (n,), compiled where that is wanted and faster."""
        plain = CapturedFrame(self._frame, self._kept, self._workspace, motions.clone())
        if not self._compiled or len(motions) != self._usual:
            return plain
        try:
            frame = torch.compile(self._frame, dynamic=False)
            compiled = CapturedFrame(frame, self._kept, self._workspace, motions.clone())
            durations = [capture.measure(way.replay_in_vain, motions.device) for way in (plain, compiled)]
        except Exception as error:  # So do compilers.
            warnings.warn(f"frames cannot be compiled ({error})", stacklevel=2)
            return plain
        return compiled if durations[1] < durations[0] else plain


class CapturedFrame:
    """A frame captured for one number of motions; the arguments are those of :class:`CapturedFrames`."""

    def __init__(
        self, frame: Frame, kept: Sequence[torch.Tensor], workspace: Callable[[], object], motions: torch.Tensor
    ) -> None:
        self._motions, self._kept = motions, kept
        before = [held.clone() for held in kept]

        def try_out() -> None:
            frame(motions)
            self._restore(before)

        self._graph = capture.capture(try_out, partial(frame, motions), motions.device)
        self._workspace = workspace()  # The capture writes there even if others take larger memory.

    def run(self, motions: torch.Tensor | None, count: int) -> None:
        """Make ``count`` frames of motions (n,), or of those that were captured."""
        if motions is not None:
            num = len(motions)
            self._motions[:num] = motions
            if num < len(self._motions):
                self._motions[num:] = -1
        for _ in range(count):
            self._graph.replay()

    def replay_in_vain(self) -> None:
        """Make a frame and forget it."""
        before = [held.clone() for held in self._kept]
        self._graph.replay()
        self._restore(before)

    def _restore(self, before: Sequence[torch.Tensor]) -> None:
        for held, value in zip(self._kept, before):
            held.copy_(value)
