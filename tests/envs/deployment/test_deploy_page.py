"""docs/deploy.md: its runner runs as it stands there, and its options exist."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")
pytest.importorskip("onnxruntime")

import mujoco

from envs.cli.sim import parse_arguments
from envs.deployment.exported_controller import ExportedController

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text(encoding="utf-8")


def test_the_runner_of_the_page_walks(
    exported: Path, g1_mjcf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 42
    (tmp_path / "policy.onnx").symlink_to(exported)
    scene = mujoco.MjSpec.from_file(str(g1_mjcf))
    scene.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0.0, 0.0, 0.05])
    scene.compile()
    (tmp_path / "scene.xml").write_text(scene.to_xml())
    monkeypatch.chdir(tmp_path)
    page: dict[str, Any] = {}
    exec(compile(code, "docs/deploy.md", "exec"), page)
    assert capsys.readouterr().out.startswith("walked")
    assert page["data"].qpos[2] > 0.65 and np.linalg.norm(page["data"].qpos[:2]) > 1.0

    # Its control step is that of the longer runner.
    controller, random = ExportedController(exported), np.random.default_rng(0)
    page["state"] = np.zeros_like(page["state"])
    for _ in range(50):
        measured = [0.1 * random.normal(size=size) for size in (3, 3, 3, 29, 29)]
        np.testing.assert_allclose(page["control_step"](*measured), controller.step(*measured), atol=1e-6)


def test_commands_of_the_page_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = re.findall(r"^python scripts/sim\.py (.*)$", PAGE, re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["sim.py", *command.split()])
        parse_arguments()


def test_the_page_says_what_gravity_is() -> None:
    """The formula of the page is the rotation of (0, 0, -1) into the base's frame."""
    quat = np.array([0.9, 0.1, -0.2, 0.3])
    quat /= np.linalg.norm(quat)
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quat)
    w, x, y, z = quat
    formula = np.array([2 * (w * y - x * z), -2 * (w * x + y * z), 2 * (x * x + y * y) - 1])
    np.testing.assert_allclose(formula, matrix.reshape(3, 3).T @ [0.0, 0.0, -1.0], atol=1e-12)
    assert "`(2 (w y - x z), -2 (w x + y z), 2 (x² + y²) - 1)`" in PAGE
