"""CUDA graphs: what an action launches, captured once and replayed in one launch."""

from __future__ import annotations

from functools import lru_cache
from typing import Callable

import torch

WARM_UP = 3  # times that an action is tried out before it is captured
REPEATS = 20  # actions per measurement


def capture(warm_up: Callable[[], object], action: Callable[[], object], device: torch.device) -> torch.cuda.CUDAGraph:
    """Capture the kernels that an action launches.

    Args:
        warm_up: Run a few times before, so that kernels are loaded outside of the capture.
        action: What to capture; is not carried out.
        device: The GPU.
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
            action()
    return graph


@lru_cache(maxsize=None)
def _warm_up_stream(device: int) -> torch.cuda.Stream:
    """One stream for all captures: a library's products keep up to 32 MB for each stream that they have run on."""
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
