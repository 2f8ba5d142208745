"""What the machine can do: its best matrix product, copy and gather."""

from __future__ import annotations

from functools import partial
from typing import Iterator

import torch

from cmg_ref.benchmark.figures import Figure, Stopwatch, dtype_name
from cmg_ref.core.devices import bfloat16_pays
from cmg_ref.network.packed_product import PackedProduct

# (rows, inner, columns): two plain squares and the shape of the largest layer.
GEMM_SHAPES = {
    "cpu": ((1024, 1024, 1024), (2048, 2048, 2048), (1024, 2048, 512)),
    "cuda": ((4096, 4096, 4096), (8192, 8192, 8192), (8192, 2048, 512)),
}
CACHE_FLOATS = 1 << 24  # more than any cache holds


def compute_dtypes(device: torch.device) -> list[torch.dtype]:
    """Types that a network gains by computing in, and float32."""
    half = [torch.bfloat16, torch.float16] if device.type == "cuda" else [torch.bfloat16] * bfloat16_pays(device)
    return [torch.float32, *half]


class MachineLimits:
    """Limits of a device.

    Args:
        device: The device.
        repeats: Times each thing is tried; the best counts.
        seconds: How long products of each shape are repeated.
    """

    def __init__(self, device: torch.device, repeats: int = 10, seconds: float = 1.0) -> None:
        self.device, self._repeats, self._seconds = device, repeats, seconds
        self._watch = Stopwatch(device)
        self._flush = torch.empty(CACHE_FLOATS, device=device)

    def gemm_rates(self, dtype: torch.dtype = torch.float32) -> tuple[float, float]:
        """Highest rates of matrix products [operations/s], measured anew at each call.

        What goes on for seconds is held against the second: single products profit from undisturbed moments.

        Returns:
            The rate of the best single product, and the best rate on average over a second.
        """
        best, sustained = 0.0, 0.0
        for rows, inner, columns in GEMM_SHAPES[self.device.type]:
            a = torch.randn(rows, inner, device=self.device).to(dtype)
            b = torch.randn(inner, columns, device=self.device).to(dtype)
            out = torch.empty(rows, columns, dtype=dtype, device=self.device)
            product = partial(torch.mm, a, b, out=out)
            product()
            taken = [self._watch.seconds(product) for _ in range(self._repeats)]
            while sum(taken) < self._seconds:
                taken.append(self._watch.seconds(product))
            operations = 2.0 * rows * inner * columns
            best, sustained = max(best, operations / min(taken)), max(sustained, operations * len(taken) / sum(taken))
        return best, sustained

    def packed_gemm_rate(self, dtype: torch.dtype = torch.float32) -> float | None:
        """Highest rate of products as large as the largest layer with a :class:`PackedProduct` [operations/s].

        None where there is no such thing.
        """
        rows, inner, columns = GEMM_SHAPES["cpu"][-1]
        product = PackedProduct(torch.randn(inner, columns).to(dtype)) if self.device.type == "cpu" else None
        if product is None or not product.packed:
            return None
        x, out = torch.randn(rows, inner).to(dtype), torch.empty(rows, columns, dtype=dtype)
        product(x, out)
        shortest = min(self._watch.seconds(partial(product, x, out)) for _ in range(self._repeats))
        return 2.0 * rows * inner * columns / shortest

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
        for dtype in compute_dtypes(self.device):
            best, sustained = (rate / 1e9 for rate in self.gemm_rates(dtype))
            yield Figure("machine: best matrix product", 0, dtype_name(dtype), best, "GFLOP/s")
            yield Figure("machine: matrix products for a second", 0, dtype_name(dtype), sustained, "GFLOP/s")
            packed = self.packed_gemm_rate(dtype)
            if packed is not None:
                name = "machine: best product with a packed weight"
                yield Figure(name, 0, dtype_name(dtype), packed / 1e9, "GFLOP/s")
        yield Figure("machine: copy, read and written", 0, "float32", self.copy_rate() / 1e9, "GB/s")


def gather_like(num_rows: int, rows: torch.Tensor, num_bytes: int, dtype: torch.dtype) -> torch.Tensor:
    """A table (num_rows, columns) whose gather of ``rows`` moves ``num_bytes``."""
    columns = max(1, round(num_bytes / (rows.numel() * torch.finfo(dtype).bits // 8)))
    return torch.zeros(num_rows, columns, dtype=dtype, device=rows.device).normal_()
