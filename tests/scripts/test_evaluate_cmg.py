"""The evaluation script, run as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.core.state_layout import StateLayout
from cmg_ref.network.checkpoint import Checkpoint, save_checkpoint
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.robots.robot import load_g1

pytestmark = pytest.mark.slow


Runner = Callable[..., Any]


@pytest.fixture
def run(run_script: Runner) -> Runner:
    return lambda *arguments: run_script("evaluate_cmg.py", *arguments)


@pytest.fixture
def standing_npz(tmp_path: Path) -> Path:
    dof_pos = load_g1().default_dof_pos.repeat(200, 1).numpy()
    np.savez(tmp_path / "standing.npz", dof_pos=dof_pos, fps=50.0)
    return tmp_path / "standing.npz"


def test_joint_angles_that_stand_when_told_to(standing_npz: Path, tmp_path: Path, run: Runner) -> None:
    result = run(standing_npz, "--command", 0, 0, 0, "--output", tmp_path / "report", "--strict")
    assert result.returncode == 0, result.stderr
    assert "missed" not in result.stdout
    content = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert content["settings"]["root"] == "estimated from the stance foot"
    assert all(row["passed"] is not False for row in content["measures"])
    assert (tmp_path / "report" / "evaluation.md").read_text().startswith("# Evaluation of standing")


def test_a_missed_requirement_fails_only_when_strict(standing_npz: Path, tmp_path: Path, run: Runner) -> None:
    arguments = (standing_npz, "--command", 1.0, 0, 0, "--output", tmp_path / "report")
    lenient, strict = run(*arguments), run(*arguments, "--strict")
    assert (lenient.returncode, strict.returncode) == (0, 1)
    assert "root speed error  " in lenient.stdout and "NO" in lenient.stdout


def test_a_checkpoint_is_rolled_out(tmp_path: Path, run: Runner) -> None:
    robot = load_g1()
    layout = StateLayout.with_root(robot.num_joints)
    state = torch.zeros(1, layout.size)
    state[:, layout["dof_pos"]] = robot.default_dof_pos.float()
    state[:, layout["root_height"]] = 0.78
    state[:, layout["projected_gravity"]] = torch.tensor([0.0, 0.0, -1.0])
    model = CMG(CMGConfig(1, 2, 2, 2, prediction="next_state"), layout, 50.0)
    model.motion_mean.copy_(state[0])
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    save_checkpoint(Checkpoint(model, robot.joint_names, state, torch.zeros(1, 3)), tmp_path / "statue.safetensors")
    result = run(tmp_path / "statue.safetensors", "--quick", "--output", tmp_path / "report", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "report" / "evaluation.json").read_text())["measures"]
    passed = {(row["name"], row["command"]): row["passed"] for row in rows}
    assert passed["rms joint speed", "stand 20 s"] is True
    assert passed["root speed error", "vx 1.0"] is False
    assert "random commands" in result.stderr  # the progress bar


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".csv", ".pkl"])
def test_a_bad_file_is_one_line_and_writes_nothing(tmp_path: Path, suffix: str, run: Runner) -> None:
    bad = tmp_path / f"bad{suffix}"
    bad.write_bytes(b"nothing of use")
    result = run(bad, "--output", tmp_path / "report")
    assert result.returncode == 1
    assert result.stderr.startswith("evaluate_cmg: ") and bad.name in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_a_missing_file_and_a_wrong_rate_are_said(standing_npz: Path, tmp_path: Path, run: Runner) -> None:
    assert "absent.npz" in run(tmp_path / "absent.npz").stderr
    assert "--fps: '-3' is not a number from 1 to 1000" in run(standing_npz, "--fps", -3).stderr


def test_help_explains(run: Runner) -> None:
    text = run("--help").stdout
    for word in ("--quick", "--strict", "--dataset", "--ignore-root", "stance foot"):
        assert word in text
