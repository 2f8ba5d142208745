"""Runs a step on a GPU in whichever way is fastest there: as it is, compiled, or recorded as a CUDA graph."""

from __future__ import annotations

import warnings
from functools import lru_cache, partial
from typing import Callable, Tuple, TypeVar, Union

import torch

from cmg_ref.network.inference_network import FoldedNetwork
from cmg_ref.network.side_by_side_network import SideBySideNetwork

WARM_UP = 3  # steps with a number of motions before it is worth a choice
MAX_CHOICES = 8  # numbers of motions that a choice is made for; each holds memory of its own
REPEATS = 20  # steps per measurement

Result = TypeVar("Result")

Network = Union[FoldedNetwork, SideBySideNetwork]
Step = Callable[[torch.Tensor, torch.Tensor], Tuple[torch.Tensor, torch.Tensor]]


class FastestStep:
    """A step that is measured once for each number of motions that keeps coming back.

    A step is some eighty small kernels. Launching them takes longer than running them, so a recorded graph of them is
    several times faster on a GPU. What a driver or an older torch cannot do is left out with a warning.

    Args:
        step: takes states and commands (n, ...), and returns next states and a flag per motion (n,).
        network: whose memory the step works in; a recorded graph must keep it.
        compiled: whether ``torch.compile`` is tried too.

    Attributes:
        choices: the way chosen for each number of motions.
    """

    def __init__(self, step: Step, network: Network, compiled: bool = False) -> None:
        self._step, self._network, self._compiled = step, network, compiled
        self._seen: dict[int, int] = {}
        self._fastest: dict[int, Step] = {}
        self.choices: dict[int, str] = {}

    def __call__(self, state: torch.Tensor, command: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the step."""
        num = len(state)
        fastest = self._fastest.get(num)
        if fastest is not None:
            return fastest(state, command)
        if len(self._fastest) < MAX_CHOICES:
            self._seen[num] = self._seen.get(num, 0) + 1
            if self._seen[num] > WARM_UP:
                with torch.inference_mode(False):  # What is made in that mode cannot be worked in outside of it.
                    self.choices[num], self._fastest[num] = self._choose(state, command)
            elif len(self._seen) > 16 * MAX_CHOICES:
                self._seen.clear()
        return self._step(state, command)

    def _choose(self, state: torch.Tensor, command: torch.Tensor) -> tuple[str, Step]:
        """Name of the fastest way and the way itself."""
        candidates: dict[str, Callable[[], Step]] = {
            "eager": lambda: self._step,
            "graph": lambda: _RecordedStep(self._step, self._network, state, command),
        }
        if self._compiled and hasattr(torch, "compile"):
            candidates["compiled graph"] = lambda: _RecordedStep(
                torch.compile(self._step, dynamic=False), self._network, state, command
            )
        fastest, name, shortest = self._step, "eager", float("inf")
        for candidate, build in candidates.items():
            try:
                way = build()
                duration = measure(partial(way, state, command), state.device)
            except Exception as error:  # Compilers and drivers fail in ways of their own; the plain step remains.
                warnings.warn(f"roll-out: cannot run as {candidate} with {len(state)} motions ({error})", stacklevel=2)
                continue
            if duration < shortest:
                fastest, name, shortest = way, candidate, duration
        return name, fastest


class _RecordedStep:
    """A step recorded as a CUDA graph for one number of motions."""

    def __init__(self, step: Step, network: Network, state: torch.Tensor, command: torch.Tensor) -> None:
        self._state, self._command = state.clone(), command.clone()
        run = partial(step, self._state, self._command)
        self._graph, (self._following, self._guarded) = record(run, run, state.device)
        self._workspace = network.workspace  # The recording writes there even if the network takes larger memory.

    def __call__(self, state: torch.Tensor, command: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._state.copy_(state)
        self._command.copy_(command)
        self._graph.replay()
        return self._following.clone(), self._guarded.clone()


def record(
    warm_up: Callable[[], object], action: Callable[[], Result], device: torch.device
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Record the kernels that an action launches.

    Args:
        warm_up: run a few times before, so that kernels are loaded outside of the recording.
        action: what to record; is not carried out.
        device: the GPU.

    Returns:
        The graph, and what the action returned, whose memory each replay writes to.
    """
    with torch.cuda.device(device):
        stream = _warm_up_stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                warm_up()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = action()
    return graph, result


@lru_cache(maxsize=None)
def _warm_up_stream(device: int) -> torch.cuda.Stream:
    """One stream for all recordings: a library's products keep up to 32 MB for each stream that they have run on."""
    return torch.cuda.Stream(device)


def measure(action: Callable[[], object], device: torch.device) -> float:
    """Time on the GPU that an action takes when it is repeated [ms]."""
    with torch.cuda.device(device):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        action()
        torch.cuda.synchronize()
        start.record()
        for _ in range(REPEATS):
            action()
        end.record()
        torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / REPEATS
