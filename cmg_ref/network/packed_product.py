"""A matrix product with a weight that never changes, laid out once as the CPU's library wants it."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import torch

# Rows from which the packed product is the faster one; below, looking up how to run it takes too long.
_FEWEST_ROWS = {torch.float32: 4, torch.bfloat16: 1}
# oneDNN compiles a product anew for each number of rows, in milliseconds, and keeps up to a thousand of them. So who
# has room for it multiplies a few rows too many, and all numbers of rows come down to these and multiples of the last.
ROUND_NUMBERS = (4, 8, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256)
COMPILED_BYTES = 640_000  # that oneDNN keeps of a product of one number of rows


class PackedProduct:
    """Multiplies by one weight, on a CPU.

    `torch.mm` lays out a large weight anew at each call, which takes up to a fifth of its time. oneDNN can be handed
    one that is laid out already, by operators that torch has for its compiler since 2.0. Without, this is `torch.mm`.

    Args:
        weight: (inputs, outputs).

    Attributes:
        weight: The weight, in the order of numbers in memory that `torch.mm` is fastest with.
        packed: Whether it is laid out for oneDNN too.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        # By a few percent in a product as large as this, a transposed weight is the faster one in float32.
        self.weight = weight.t().contiguous().t() if weight.dtype == torch.float32 else weight
        self._fewest = _FEWEST_ROWS[weight.dtype]
        # In bfloat16 `torch.mm` compiles for each number of rows too.
        self._any_number = weight.dtype != torch.float32
        self._laid_out = _laid_out(weight)
        self.packed = self._laid_out is not None

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """The product of x (n, inputs), written to ``out`` (n, outputs) and returned."""
        num = len(x)
        worthwhile = num >= self._fewest and (self._any_number or round_number(num) == num)
        if self._laid_out is None or not worthwhile:
            return torch.mm(x, self.weight, out=out)
        return out.copy_(_product(x, self._laid_out))


def round_number(num: int) -> int:
    """The least of the numbers of rows to multiply that is not below ``num``."""
    largest = ROUND_NUMBERS[-1]
    return -(-num // largest) * largest if num > largest else ROUND_NUMBERS[bisect_left(ROUND_NUMBERS, num)]


def _laid_out(weight: torch.Tensor) -> Any:
    """The weight as oneDNN wants it; None where that is not to be had."""
    if not torch.backends.mkldnn.is_available():
        return None
    try:
        laid_out = torch.ops.mkldnn._reorder_linear_weight(weight.t().contiguous(), None)
        probe = torch.eye(1, len(weight), dtype=weight.dtype)
        worked = torch.equal(_product(probe, laid_out), weight[:1])
    except (AttributeError, RuntimeError, TypeError):  # an older torch, or a processor that oneDNN does not know
        return None
    return laid_out if worked else None


def _product(x: torch.Tensor, laid_out: Any) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, laid_out, None, "none", [], "")
