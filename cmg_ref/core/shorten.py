"""Values and messages as users see them: on one line, and short however long they are."""

from __future__ import annotations

import os
import reprlib
from typing import Any, Iterable

_PER_CONTAINER, _LEVELS = 12, 3


def shortened(value: Any, limit: int = 80) -> str:
    """The ``repr`` of a value on one line, with the middle of what is too long left out.

    Little more than what is shown is ever built, whatever the size and depth of the value.

    Args:
        value: Anything; a path is shown without quotes.
        limit: Characters at most, at least 8.
    """
    short = reprlib.Repr()
    for kind in ("tuple", "list", "array", "dict", "set", "frozenset", "deque"):
        setattr(short, f"max{kind}", _PER_CONTAINER)
    short.maxlevel, short.maxstring, short.maxlong, short.maxother = _LEVELS, limit, limit, limit
    if isinstance(value, os.PathLike):
        short.maxstring += 2
        text = short.repr(str(value))[1:-1]
    else:
        try:
            text = short.repr(value[:limit] if isinstance(value, (bytes, bytearray)) else value)
        except (RecursionError, ValueError):  # Python writes no integer of more than 4300 digits.
            text = f"<{type(value).__name__}>"
    return one_line(text, limit)


def one_line(text: str, limit: int = 500) -> str:
    """A text without line breaks, and with the middle left out where it has more than ``limit`` characters."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    end = (limit - 3) // 2
    return f"{text[: limit - 3 - end]}...{text[-end:]}"


def listed(names: Iterable[Any], limit: int = 300) -> str:
    """Names on one line of at most about `limit` characters; empty if there are none."""
    texts: list[str] = []
    length = 0
    for name in names:
        text = shortened(name, 60)
        texts.append(text[1:-1] if text[0] in "'\"" else text)
        length += len(text)
        if length > limit:
            return ", ".join([*texts[:-1], "..."])
    return ", ".join(texts)


def reason(error: BaseException, limit: int = 200) -> str:
    """What an exception says, on one line of at most `limit` characters; its kind if it says nothing."""
    text = " ".join(str(error)[: 4 * limit].split())
    return (text if len(text) <= limit else text[: limit - 3] + "...") or type(error).__name__
