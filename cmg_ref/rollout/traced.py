"""Runs a function of a few motions on a CPU without Python between its operations."""

from __future__ import annotations

import warnings
from typing import Any, Callable

import torch

FEW = 8  # motions up to which calling the operations takes longer than most of them run
WARM_UP = 20  # calls with a number of motions before it is worth a recording, which takes a tenth of a second
SETTLING = 3  # calls in which torch optimises a recording


class TracedWhereFew:
    """A function of tensors (n, ...) that is recorded by ``torch.jit.trace`` for each small n that keeps coming back.

    Recordings run the same operations and give the same numbers, in a third less time for one motion; but where a
    :class:`cmg_ref.network.packed_product.PackedProduct` would take over, they go on with the plain product.

    Args:
        function: takes and returns tensors; works on nothing but its arguments and memory that stays where it is.
        device: where it runs; elsewhere than on a CPU it is called as it is.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self._function = function
        self._few = FEW if device.type == "cpu" else 0
        self._calls: dict[int, int] = {}
        self._recorded: dict[int, Callable[..., Any]] = {}

    def __call__(self, *arguments: torch.Tensor) -> Any:
        """Call the function, the first of whose arguments is (n, ...)."""
        num = len(arguments[0])
        if num > self._few:
            return self._function(*arguments)
        recorded = self._recorded.get(num)
        if recorded is not None:
            return recorded(*arguments)
        self._calls[num] = self._calls.get(num, 0) + 1
        if self._calls[num] > WARM_UP:
            self._recorded[num] = self._record(arguments)
        return self._function(*arguments)

    def _record(self, arguments: tuple[torch.Tensor, ...]) -> Callable[..., Any]:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Sizes become constants, as they should, and newer versions prefer others.
            recorded = torch.jit.trace(self._function, arguments, check_trace=False)
            for _ in range(SETTLING):
                recorded(*arguments)
        return recorded
