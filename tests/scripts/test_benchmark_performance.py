"""The benchmark's command line: every mode runs, and what it writes can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cmg_ref.cli.benchmark import SIZES, Plan, parse_arguments
from cmg_ref.core.devices import bfloat16_pays

pytestmark = pytest.mark.slow

SCRIPT = "benchmark_performance.py"


def test_quick_mode_writes_figures_and_documents(run_script: Callable[..., Any], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- benchmark: table -->\n<!-- end of benchmark -->\n", encoding="utf-8")
    result = run_script(SCRIPT, "--num-envs", 16, "--compare", "--save", tmp_path / "out", "--document", page)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "out" / "benchmark.json").read_text(encoding="utf-8"))
    names = " ".join(figure["name"] for figure in figures)
    for measured in (
        "machine: best matrix product",
        "initialisation, pregenerated",
        "initialisation, realtime",
        "pregenerating 20 frames",
        *["throughput against float32"] * bfloat16_pays(torch.device("cpu")),
        "storage in float16",
        "batch inference of 100 frames",
        "one robot, one thread",
        "get_motion() against a gather",
        "future(20) against a gather",
        "realtime step: mean against a forward pass",
        "realtime step: 99th percentile against the median",
        "memory of 500 frames against memory_required",
        "against per-sample weights",
        "against deques",
    ):
        assert measured in names, measured
        assert measured in page.read_text(encoding="utf-8")
    assert all({"name", "num_envs", "dtype", "value", "unit", "limit", "ratio"} <= set(figure) for figure in figures)
    assert f"{len(figures)} figures" in result.stdout
    assert (tmp_path / "out" / "benchmark.md").is_file()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("scaling", ["realtime: cost per environment and frame", "pregenerated: cost per environment and frame"]),
        ("gpu", ["a frame", "500 frames", "median against a frame alone", "against per-sample weights"]),
        ("diagnose", ["slow initialisation", "memory growth", "idle device"]),
    ],
)
def test_other_modes_run(run_script: Callable[..., Any], mode: str, expected: list[str]) -> None:
    result = run_script(SCRIPT, "--mode", mode, "--num-envs", 8)
    assert result.returncode == 0, result.stderr
    assert all(line in result.stdout for line in expected)


def test_profile_leaves_a_trace(run_script: Callable[..., Any], tmp_path: Path) -> None:
    result = run_script(SCRIPT, "--mode", "profile", "--num-envs", 8, "--save", tmp_path)
    assert result.returncode == 0, result.stderr
    assert any(product in result.stdout for product in ("aten::mm", "mkldnn::_linear"))
    for mode in ("realtime", "pool"):
        assert "traceEvents" in json.loads((tmp_path / mode / "trace.json").read_text(encoding="utf-8"))


def test_full_mode_measures_every_requirement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without running it: what is planned for which sizes."""
    monkeypatch.setattr("sys.argv", [SCRIPT, "--mode", "full"])
    limits = SimpleNamespace(device=torch.device("cpu"), figures=None)
    plan = Plan(parse_arguments(), None, limits)  # type: ignore[arg-type]
    names = [name for name, _ in plan.measurements()]
    for needed in (
        "pregenerating for 1024",
        "pregenerating for 4096",
        "pregenerating for 8192",
        "low precision",
        "per-sample weights",
        "reading",
        "realtime steps",
        "pool steps",
        "realtime, all sizes",
        "memory",
        "latency",
        "growth of memory",
    ):
        assert needed in names, needed
    assert SIZES == (512, 1024, 2048, 4096, 8192, 16384)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "fast"], "invalid choice"),
        (["--num-envs", "0"], "is not a whole number from 1 to"),
        (["--checkpoint", "nowhere.safetensors"], "nowhere"),
        (["--device", "nonsense"], "benchmark_performance"),
    ],
)
def test_impossible_arguments_are_one_line(run_script: Callable[..., Any], arguments: list[str], message: str) -> None:
    result = run_script(SCRIPT, *arguments)
    assert result.returncode != 0
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told(run_script: Callable[..., Any]) -> None:
    result = run_script(SCRIPT, "--device", "cuda")
    assert result.returncode != 0
    assert result.stderr == "benchmark_performance: --device 'cuda': torch finds no CUDA GPU here; use 'cpu'\n"


def test_help_explains_the_modes(run_script: Callable[..., Any]) -> None:
    result = run_script(SCRIPT, "--help")
    assert result.returncode == 0
    for mode in ("quick", "full", "scaling", "preload", "buffer", "profile", "diagnose"):
        assert f"--mode {mode}" in result.stdout
