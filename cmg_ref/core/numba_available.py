"""Whether loops can be compiled for the CPU."""

from __future__ import annotations

import importlib.util


def numba_available() -> bool:
    """Whether Numba, the extra `fast`, is installed; importing it takes half a second, so only who needs it does."""
    return importlib.util.find_spec("numba") is not None
