"""Advances states on a GPU by captured CUDA graphs, one for each number of motions that keeps coming back."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Callable

import torch

from cmg_ref.cuda_graph import capture

WORTHWHILE = 3  # steps with a number of motions before it is worth a capture
MAX_SIZES = 8  # numbers of motions that are captured; each holds memory of its own

# Takes states (n, state_dim) and commands (n, command_dim); writes the next states and where the guard acted (n,).
Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], None]


class CapturedSteps:
    """A step that is launched once instead of kernel by kernel, which takes longer than running them.

    Args:
        step: Must work on its arguments and on memory that stays where it is.
        guard_count: What a step counts, (); restored after the trial runs before a capture.
        workspace: Gives the memory that passes between the operations of a step; a capture must keep it.

    Attributes:
        sizes: Numbers of motions that have been captured.
    """

    def __init__(self, step: Step, guard_count: torch.Tensor, workspace: Callable[[], object]) -> None:
        self._step, self._guard_count, self._workspace = step, guard_count, workspace
        self._seen: dict[int, int] = {}
        self._captured: dict[int, _CapturedStep] = {}
        self._usable = True

    @property
    def sizes(self) -> list[int]:
        """Numbers of motions that have been captured."""
        return list(self._captured)

    def __call__(self, state: torch.Tensor, command: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The next states (n, state_dim), and in which the guard acted (n,), valid until the next call."""
        num = len(state)
        if num not in self._captured and self._worthwhile(num):
            self._capture(state, command)
        if num in self._captured:
            return self._captured[num](state, command)
        following, guarded = torch.empty_like(state), torch.empty(num, dtype=torch.bool, device=state.device)
        self._step(state, command, following, guarded)
        return following, guarded

    def _worthwhile(self, num: int) -> bool:
        if not self._usable or len(self._captured) >= MAX_SIZES:
            return False
        self._seen[num] = self._seen.get(num, 0) + 1
        if len(self._seen) > 16 * MAX_SIZES:
            self._seen.clear()
        return self._seen.get(num, 0) > WORTHWHILE

    @torch.inference_mode(False)  # What is made in that mode cannot be worked in outside of it.
    def _capture(self, state: torch.Tensor, command: torch.Tensor) -> None:
        try:
            captured = _CapturedStep(self._step, self._guard_count, state, command, self._workspace)
        except Exception as error:  # Drivers fail in ways of their own; the plain step remains.
            warnings.warn(f"a step cannot be captured as a CUDA graph ({error})", stacklevel=3)
            self._usable = False
            return
        self._captured[len(state)] = captured


class _CapturedStep:
    """A step captured for one number of motions; the arguments are those of :class:`CapturedSteps`."""

    def __init__(
        self,
        step: Step,
        guard_count: torch.Tensor,
        state: torch.Tensor,
        command: torch.Tensor,
        workspace: Callable[[], object],
    ) -> None:
        self._state, self._command = state.clone(), command.clone()
        self._following, self._guarded = (
            torch.empty_like(self._state),
            torch.empty(len(state), dtype=torch.bool, device=state.device),
        )
        before = guard_count.clone()
        run = partial(step, self._state, self._command, self._following, self._guarded)

        def try_out() -> None:
            run()
            guard_count.copy_(before)

        self._graph = capture.capture(try_out, run, state.device)
        self._workspace = workspace()  # The capture writes there even if others take larger memory.

    def __call__(self, state: torch.Tensor, command: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._state.copy_(state)
        self._command.copy_(command)
        self._graph.replay()
        return self._following.clone(), self._guarded
