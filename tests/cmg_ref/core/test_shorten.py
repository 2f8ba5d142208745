from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cmg_ref.core.shorten import listed, reason, shortened


def test_short_values_are_shown_as_python_writes_them() -> None:
    for value in ("walk", 'it\'s "so"', 3, -0.5, None, True, [1, 2.0, "c"], {"a": (1,)}, b"ab", {1}, float("nan")):
        assert shortened(value) == repr(value)
    assert shortened(Path("a b/c.npz")) == "a b/c.npz"


def test_the_ends_of_a_long_text_are_kept() -> None:
    text = shortened("/data/" + 300_000 * "x" + ".npz")
    assert len(text) <= 80
    assert text.startswith("'/data/xxx") and text.endswith("xxx.npz'") and "..." in text
    assert len(shortened(Path("/data/" + 300_000 * "x" + ".npz"))) <= 80
    assert shortened(Path("/data/" + 70 * "x")) == "/data/" + 70 * "x"


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    "value",
    [
        300_000 * "\n",
        10**400,
        10**5000,
        b"\x00" * 10**6,
        list(range(10**6)),
        {number: "x" * 10_000 for number in range(1000)},
        nested(30),  # 10^30 lists, could one write them out.
        nested(100_000),
        np.zeros((100, 100)),
        torch.zeros(1000, 3),
        Path("a\nb" * 1000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_the_value_one_short_line(value: object) -> None:
    for limit in (20, 80):
        text = shortened(value, limit)
        assert 0 < len(text) <= limit
        assert "\n" not in text


def test_names_are_listed_up_to_a_length() -> None:
    assert listed([]) == ""
    assert listed(["left knee", 3]) == "left knee, 3"
    assert len(listed(f"joint_{number}" for number in range(10**6))) < 400
    assert len(listed(["x" * 10**6] * 3)) < 400


def test_the_reason_of_an_error_is_one_short_line() -> None:
    assert reason(ValueError("first\n  second")) == "first second"
    assert reason(KeyError()) == "KeyError"
    assert len(reason(ValueError("x" * 10**6))) == 200
