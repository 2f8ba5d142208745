"""Figures are judged by their ratio, and land in JSON, Markdown, a plot and documents."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from cmg_ref.benchmark.figures import Figure, Stopwatch, asked_from, dtype_name
from cmg_ref.benchmark.limits import MachineLimits, compute_dtypes, gather_like
from cmg_ref.benchmark.report import machine_name, markdown, save, write_into
from cmg_ref.network.packed_product import PackedProduct

GOOD = Figure("gather", 4096, "float32", 1.2, "ms", 1.0, at_most=1.25, note="11 MB")
BAD = Figure("rate", 1024, "float32", 80.0, "GFLOP/s", 100.0, at_least=0.85)
PLAIN = Figure("robot", 1, "float32", 0.2, "ms", at_most=0.3)
UNJUDGED = Figure("start", 8, "float32", 1.0, "s")
FIGURES = [GOOD, BAD, PLAIN, UNJUDGED]


def test_the_ratio_is_judged_and_the_value_without_one() -> None:
    assert [figure.meets for figure in FIGURES] == [True, False, True, None]
    assert Figure("x", 1, "float32", 0.31, "ms", at_most=0.3).meets is False
    assert Figure("x", 1, "float32", 0.8, "us", 1.0, at_least=1 / 1.2, at_most=1.2).meets is False
    assert Figure("x", 1, "float32", 1.3, "us", 1.0, at_least=1 / 1.2, at_most=1.2).meets is False
    assert asked_from(4096, 4096, 1.1) == 1.1
    assert asked_from(4096, 4095, 1.1) is None


def test_median_times_in_turn_and_leaves_out_what_comes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    clock = [0.0]

    def action(name: str, seconds: float) -> None:
        order.append(name)
        clock[0] += seconds

    monkeypatch.setattr("cmg_ref.benchmark.figures.now", lambda: clock[0])
    slow, fast = Stopwatch(torch.device("cpu")).median(
        partial(action, "slow", 4.0), partial(action, "fast", 1.0), repeats=3, before=partial(action, "before", 3.0)
    )
    assert order == ["slow", "fast"] + ["before", "slow", "before", "fast"] * 3
    assert (slow, fast) == (4.0, 1.0)


def test_json_is_a_list_of_figures(tmp_path: Path) -> None:
    files = save(FIGURES, tmp_path, "machine")
    assert [path.name for path in files[:2]] == ["benchmark.json", "benchmark.md"]
    assert all(path.stat().st_size > 0 for path in files)
    written = json.loads(files[0].read_text(encoding="utf-8"))
    assert len(written) == len(FIGURES)
    for entry, figure in zip(written, FIGURES):
        assert {"name", "num_envs", "dtype", "value", "unit", "limit", "ratio"} <= set(entry)
        assert (entry["name"], entry["ratio"], entry["meets"]) == (figure.name, figure.ratio, figure.meets)


def test_tables_say_what_falls_short() -> None:
    lines = markdown(FIGURES, "machine").splitlines()
    assert lines[0] == "machine"
    assert "| >= 0.85 | **no** |" in lines[5]
    assert "| 1.20 | <= 1.25 | yes; 11 MB |" in lines[4]


def test_documents_get_their_tables_again_and_again(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmark: table -->\nold\n<!-- end of benchmark -->\nafter\n", encoding="utf-8")
    for title in ("first machine", "second \\1 machine"):
        write_into(page, FIGURES, title)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("<!-- end of benchmark -->\nafter\n")
    assert "old" not in text and "first machine" not in text and text.count("second \\1 machine") == 1
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="no marks"):
        write_into(page, FIGURES, "machine")


@pytest.mark.slow
def test_limits_are_of_this_machine() -> None:
    limits = MachineLimits(torch.device("cpu"), repeats=2, seconds=0.02)
    best, sustained = limits.gemm_rates()
    assert 1e9 < sustained <= best < 1e14
    assert 1e8 < limits.copy_rate() < 1e13
    expected = []
    for dtype in compute_dtypes(torch.device("cpu")):
        packed, rate = PackedProduct(torch.eye(32, dtype=dtype)).packed, limits.packed_gemm_rate(dtype)
        assert (rate is not None and 1e9 < rate < 1e14) if packed else rate is None
        expected += [(dtype_name(dtype), "GFLOP/s")] * (2 + packed)
    assert [(figure.dtype, figure.unit) for figure in limits.figures()] == [*expected, ("float32", "GB/s")]
    rows = torch.arange(50)
    table = gather_like(80, rows, 50 * 58 * 4, torch.float32)
    assert table.index_select(0, rows).numel() * 4 == 50 * 58 * 4
    assert "torch" in machine_name(torch.device("cpu"))
