"""What the machine can do: its best matrix product, copy and gather."""

from __future__ import annotations

from functools import partial
from typing import Iterator

import torch

from cmg_ref.benchmark.figures import Figure, Stopwatch, dtype_name

# (rows, inner, columns): two plain squares and the shape of the largest layer.
GEMM_SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (1024, 2048, 512))
CACHE_FLOATS = 1 << 24  # more than any cache of a CPU holds


class MachineLimits:
    """Limits of a device.

    Args:
        device: the device.
        repeats: times each thing is tried; the best counts.
    """

    def __init__(self, device: torch.device, repeats: int = 10) -> None:
        self.device, self._repeats = device, repeats
        self._watch = Stopwatch(device)
        self._flush = torch.empty(CACHE_FLOATS, device=device)

    def gemm_rate(self, dtype: torch.dtype = torch.float32) -> float:
        """Highest rate of matrix products [operations/s], measured anew at each call."""
        best = 0.0
        for rows, inner, columns in GEMM_SHAPES:
            a = torch.randn(rows, inner, device=self.device).to(dtype)
            b = torch.randn(inner, columns, device=self.device).to(dtype)
            out = torch.empty(rows, columns, dtype=dtype, device=self.device)
            product = partial(torch.mm, a, b, out=out)
            product()
            shortest = min(self._watch.seconds(product) for _ in range(self._repeats))
            best = max(best, 2.0 * rows * inner * columns / shortest)
        return best

    def copy_rate(self) -> float:
        """Highest rate of a copy, reading and writing [bytes/s]."""
        source = torch.ones(2 * CACHE_FLOATS, device=self.device)
        target = torch.empty_like(source)
        target.copy_(source)
        shortest = min(self._watch.seconds(lambda: target.copy_(source)) for _ in range(self._repeats))
        return 2.0 * 4.0 * source.numel() / shortest

    def forget_data(self) -> None:
        """Leave no other data in a cache, as the forward passes of a step do."""
        self._flush.fill_(0.0)

    def figures(self) -> Iterator[Figure]:
        """The limits themselves."""
        for dtype in (torch.float32, torch.bfloat16):
            rate = self.gemm_rate(dtype) / 1e9
            yield Figure("machine: best matrix product", 0, dtype_name(dtype), rate, "GFLOP/s")
        yield Figure("machine: copy, read and written", 0, "float32", self.copy_rate() / 1e9, "GB/s")


def gather_like(num_rows: int, rows: torch.Tensor, num_bytes: int, dtype: torch.dtype) -> torch.Tensor:
    """A table (num_rows, columns) whose gather of ``rows`` moves ``num_bytes``."""
    columns = max(1, round(num_bytes / (rows.numel() * torch.finfo(dtype).bits // 8)))
    return torch.zeros(num_rows, columns, dtype=dtype, device=rows.device).normal_()
