"""What docs/performance.md tells: its example runs, its files exist, and the benchmark finds where to write."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from cmg_ref import load_checkpoint
from cmg_ref.benchmark.figures import Figure
from cmg_ref.benchmark.report import write_into
from cmg_ref.network.inference_network import InferenceNetwork

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(example, "docs/performance.md", "exec"), {})


def test_files_exist() -> None:
    for path in set(re.findall(r"(?:tests/)?(?:scripts|cmg_ref)/[\w/]+\.py", PAGE)):
        assert (ROOT / path).is_file(), path


def test_operations_are_counted_right() -> None:
    operations = InferenceNetwork(load_checkpoint().model).num_operations
    assert f"{operations / 1e6:.2f} million operations" in PAGE
    assert f"{4096 * operations / 1e9:.1f} GFLOP of matrix products" in PAGE


def test_the_benchmark_finds_where_to_write(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    shutil.copy(str(ROOT / "docs" / "performance.md"), str(document))
    write_into(document, [Figure("robot", 1, "float32", 0.2, "ms", at_most=0.3)], "a machine")
    text = document.read_text(encoding="utf-8")
    assert "| robot | 1 | float32 |" in text and "## Where the rest of the time goes" in text
