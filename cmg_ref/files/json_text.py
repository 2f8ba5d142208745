"""JSON from files: whatever is wrong with it, the reason is one short line."""

from __future__ import annotations

import json
from typing import Any

from cmg_ref.core.shorten import shortened

MAX_DIGITS = 300
"""Longer integers have no place among floating-point numbers, and older Pythons take quadratic time to read them."""


def parse_json(text: str) -> Any:
    """The value that a JSON text describes.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or has an integer of more digits than any number here needs.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"{shortened(digits)} is an integer of {len(digits)} digits")
    return int(digits)
