"""The shipped policy as an exported file, and the model of the package to run it on."""

from __future__ import annotations

from pathlib import Path

import pytest

import cmg_ref


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped policy with its reference, as one file."""
    pytest.importorskip("onnxruntime")
    from envs.deployment.controller_export import export_controller
    from envs.learning.policy import SHIPPED_POLICY, load_policy

    path = tmp_path_factory.mktemp("exported") / "policy.onnx"
    assert export_controller(load_policy(), path, policy_file=SHIPPED_POLICY) <= 1e-4
    return path


@pytest.fixture(scope="session")
def g1_mjcf() -> Path:
    """The G1 of the package, without a floor."""
    return Path(cmg_ref.__file__).parent / "assets" / "g1_29dof.xml"
