"""Whether kernels can be written for a GPU."""

from __future__ import annotations

import importlib.util


def triton_available() -> bool:
    """Whether Triton is installed, which comes with torch for GPUs; without it they run torch's own operations."""
    return importlib.util.find_spec("triton") is not None
