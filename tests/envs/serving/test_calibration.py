"""Corrections of the command: kept, applied, and learnt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from envs.serving.calibration import Calibration, CalibrationError, load_calibration
from envs.serving.reference import Reference

ZEROS = np.zeros((2, 3))
MAP = Calibration(
    (np.array([-0.5, 0.0, 1.0]), np.array([-0.4, 0.4]), np.array([-1.0, 1.0])),
    (
        np.array([[-0.2, 0.0, 0.0], [0.0, 0.0, 0.0], [0.2, 0.1, 0.0]]),
        ZEROS,
        np.array([[0.0, 0.0, -0.1], [0.0, 0.0, 0.1]]),
    ),
    {"model": "a.xml"},
)


def test_corrections_are_interpolated_and_add_up() -> None:
    np.testing.assert_allclose(MAP.told(np.zeros(3)), 0.0)
    np.testing.assert_allclose(MAP.told(np.array([0.5, 0.0, 0.0])), [0.6, 0.05, 0.0])
    np.testing.assert_allclose(MAP.told(np.array([-0.5, 0.2, 1.0])), [-0.7, 0.2, 1.1])
    np.testing.assert_allclose(MAP.told(np.array([2.0, 0.0, 0.0])), [2.2, 0.1, 0.0])  # the last one holds


def test_it_is_what_was_written(tmp_path: Path) -> None:
    MAP.write(tmp_path / "map.json")
    read = load_calibration(tmp_path / "map.json")
    for ours, theirs in zip((*MAP.commands, *MAP.corrections), (*read.commands, *read.corrections), strict=True):
        np.testing.assert_allclose(ours, theirs)
    assert read.about == {"model": "a.xml"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "holds no calibration"),
        ({"axes": {}}, "vx: needs lists of numbers"),
        ({"axes": {"vx": {"command": [0, 0], "correction": [[0, 0, 0]] * 2}}}, "vx: needs rising commands"),
        ({"axes": {"vx": {"command": [0, 1], "correction": [[0, 0]] * 2}}}, "vx: needs rising commands"),
        ({"axes": {"vx": {"command": [0, 1], "correction": [[0, 0, "NaN"]] * 2}}}, "vx: needs rising commands"),
    ],
)
def test_what_is_none_is_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    MAP.write(tmp_path / "map.json")
    told = {**json.loads((tmp_path / "map.json").read_text()), **change}
    (tmp_path / "map.json").write_text(json.dumps(told))
    with pytest.raises(CalibrationError) as caught:
        load_calibration(tmp_path / "map.json")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(CalibrationError, match=r"absent\.json"):
        load_calibration(tmp_path / "absent.json")


def test_backward_is_learnt(twist2_folder: Path) -> None:
    """TWIST2's policy goes backward at half of the reference's speed: what is learnt makes up for it."""
    pytest.importorskip("mujoco")
    pytest.importorskip("onnxruntime")
    from envs.deployment.plain_simulation import Conditions, PlainSimulation
    from envs.deployment.twist2_controller import Twist2Policy
    from envs.serving.calibrate import mended
    from envs.serving.motion_frame import JOINT_NAMES

    controller = Twist2Policy(next(twist2_folder.glob("*.onnx")), JOINT_NAMES)
    simulation = PlainSimulation(twist2_folder / "g1_sim2sim_29dof.xml", controller, Conditions(physics_dt=0.001))
    command = np.array([-0.4, 0.0, 0.0])
    correction, before, after = mended(command, np.zeros(3), 6, Reference(), controller, simulation)
    assert before > 0.2 and after < 0.12 and correction[0] < -0.1
