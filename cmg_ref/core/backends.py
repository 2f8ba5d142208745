"""What makes and reads frames: torch's operations, Numba's loops, or captured CUDA graphs. The choice is made here."""

from __future__ import annotations

import importlib.util
import os
from typing import Any, Callable

import torch

# Torch's operations are the reference: whatever another backend has no code of its own for, they do.
BACKENDS = ("torch", "numba", "cuda_graph")


def chosen_backend(wanted: str, device: torch.device) -> str:
    """The backend to use on a device.

    Args:
        wanted: One of ``BACKENDS``, or ``"auto"`` for the fastest there is.
        device: Where frames are made.

    Raises:
        ValueError: There is no such backend, or it cannot work there.
    """
    if wanted == "auto":
        if device.type == "cpu":
            return "numba" if numba_available() else "torch"
        return "cuda_graph" if device.type == "cuda" else "torch"
    if wanted not in BACKENDS:
        raise ValueError(f"backend must be 'auto' or one of {BACKENDS}, got '{wanted}'")
    if wanted == "numba" and device.type != "cpu":
        raise ValueError(f"backend 'numba' works on a CPU, not on {device}: take 'auto'")
    if wanted == "numba" and not numba_available():
        raise ValueError("backend 'numba' needs Numba: pip install 'cmg_ref[fast]'")
    if wanted == "cuda_graph" and device.type != "cuda" and not triton_interprets():
        raise ValueError(f"backend 'cuda_graph' needs a GPU, got {device}: take 'auto'")
    return wanted


def numba_available() -> bool:
    """Whether Numba, the extra `fast`, is installed; importing it takes half a second, so it is imported lazily."""
    return importlib.util.find_spec("numba") is not None


def call_loop(loop: Callable[..., object], *arguments: Any) -> None:
    """Call a loop that Numba compiled, with tensors as the arrays that they are."""
    loop(*(value.numpy() if isinstance(value, torch.Tensor) else value for value in arguments))


def triton_available() -> bool:
    """Whether Triton is installed, which comes with torch for GPUs; without it graphs hold torch's own operations."""
    return importlib.util.find_spec("triton") is not None


def triton_interprets() -> bool:
    """Whether Triton's kernels are run by its interpreter, on the CPU and slowly, which is for tests alone."""
    return os.environ.get("TRITON_INTERPRET") == "1" and triton_available()
