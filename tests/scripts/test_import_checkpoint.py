"""The import script, run as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.robots.robot import load_g1

Runner = Callable[..., Any]


@pytest.fixture
def run(run_script: Runner) -> Runner:
    return lambda *arguments: run_script("import_checkpoint.py", *arguments)


def legacy_content() -> dict[str, object]:
    motion_dim, hidden, experts = 2 * load_g1().num_joints, 8, 2
    widths = [motion_dim + 3, hidden, hidden, motion_dim]
    weights = {
        "gating.gating_network.0.weight": torch.randn(hidden, widths[0]),
        "gating.gating_network.0.bias": torch.randn(hidden),
        "gating.gating_network.2.weight": torch.randn(experts, hidden),
        "gating.gating_network.2.bias": torch.randn(experts),
    }
    for layer in range(3):
        for expert in range(experts):
            weights[f"layers.{layer}.expert_weights.{expert}"] = torch.randn(widths[layer], widths[layer + 1])
            weights[f"layers.{layer}.expert_biases.{expert}"] = torch.randn(widths[layer + 1])
    stats = {"motion_mean": np.zeros(motion_dim, np.float32), "motion_std": np.ones(motion_dim, np.float32)}
    stats |= {"command_min": -np.ones(3, np.float32), "command_max": np.ones(3, np.float32)}
    return {"model_state_dict": weights, "stats": stats}


def test_writes_a_checkpoint_that_loads(tmp_path: Path, run: Runner) -> None:
    torch.save(legacy_content(), tmp_path / "old.pt")
    result = run(tmp_path / "old.pt", "--output", tmp_path / "new" / "cmg.safetensors")
    assert result.returncode == 0, result.stderr
    checkpoint = load_checkpoint(tmp_path / "new" / "cmg.safetensors")
    assert checkpoint.model.config.num_experts == 2
    assert "2 experts, 30 fps" in result.stdout


def test_a_bad_file_is_a_one_line_error_and_writes_nothing(tmp_path: Path, run: Runner) -> None:
    (tmp_path / "old.pt").write_bytes(b"not a checkpoint")
    result = run(tmp_path / "old.pt")
    assert result.returncode == 1
    assert result.stderr.startswith("import_checkpoint: ") and "old.pt" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["old.pt"]
