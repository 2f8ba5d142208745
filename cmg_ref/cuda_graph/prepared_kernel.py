"""Launches one of Triton's kernels without looking it up each time, which takes several times as long as a launch."""

from __future__ import annotations

from typing import Any

import torch


class PreparedKernel:
    """A kernel that is launched again and again with arguments of the same kind.

    Tensors must begin at multiples of 16 bytes, as those that torch allocates do, and have the types of the first call.

    Args:
        kernel: compiled by Triton at the first call.
        device: where it runs, whichever device is the current one.
        num_warps: warps of a program.
        sizes: the arguments that are constants of the program, the last ones, in the order of the kernel.
    """

    def __init__(self, kernel: Any, device: torch.device, num_warps: int = 4, **sizes: Any) -> None:
        self._kernel, self._num_warps, self._sizes = kernel, num_warps, sizes
        self._constants = tuple(sizes.values())
        self._compiled: Any = None
        # With one device there is none to change to, and looking costs as much as the launch.
        self._device: torch.device | None = device if torch.cuda.device_count() > 1 else None

    def __call__(self, programs: int, *arguments: Any) -> None:
        """Launch so many programs."""
        if self._device is None:
            self._launch(programs, arguments)
        else:
            with torch.cuda.device(self._device):
                self._launch(programs, arguments)

    def _launch(self, programs: int, arguments: tuple[Any, ...]) -> None:
        if self._compiled is not None:
            self._compiled[(programs, 1, 1)](*arguments, *self._constants)
            return
        compiled = self._kernel[(programs,)](*arguments, **self._sizes, num_warps=self._num_warps)
        names = getattr(self._kernel, "arg_names", None)
        # Triton's interpreter compiles nothing; and before Triton 3.3 a compiled kernel takes its constants no more.
        if hasattr(compiled, "run") and names is not None and _takes_constants():
            assert list(names[-len(self._sizes) :]) == list(self._sizes), f"{names} end in other constants"
            self._compiled = compiled


def _takes_constants() -> bool:
    """Whether a compiled kernel is launched with all arguments, as it is since Triton 3.3."""
    import triton

    major, minor = triton.__version__.split(".")[:2]
    return (int(major), int(minor)) >= (3, 3)
