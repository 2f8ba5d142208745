"""The shipped policy as an exported file, and models of the robot to run it on."""

from __future__ import annotations

from pathlib import Path

import pytest

import cmg_ref

SHARED = Path(__file__).parents[4] / "shared"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped policy with its reference, as one file."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from envs.deployment.controller_export import export_controller
    from envs.learning.policy import SHIPPED_POLICY, load_policy

    path = tmp_path_factory.mktemp("exported") / "policy.onnx"
    assert export_controller(load_policy(), path, policy_file=SHIPPED_POLICY) <= 1e-4
    return path


@pytest.fixture(scope="session")
def g1_mjcf() -> Path:
    """The G1 of the package, without a floor."""
    return Path(cmg_ref.__file__).parent / "assets" / "g1_29dof.xml"


@pytest.fixture(scope="session")
def unitree_mjcf() -> Path:
    """Unitree's own scene of the G1, `../shared/unitree_g1` beside the repository; skips without it."""
    return _beside("unitree_g1/scene_29dof.xml")


@pytest.fixture(scope="session")
def twist2_folder() -> Path:
    """TWIST2's policy and model, `../shared/twist2` beside the repository; skips without them."""
    return _beside("twist2/twist2_1017_20k.onnx").parent


def _beside(name: str) -> Path:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path
