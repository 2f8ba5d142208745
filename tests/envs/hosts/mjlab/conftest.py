"""mjlab's own simulation with few robots; without mjlab, which has an environment of its own, these tests skip."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

os.environ.setdefault("MJLAB_WARP_QUIET", "1")


@pytest.fixture(scope="session")
def mjlab_env() -> Callable[..., Any]:
    """Makes an environment of a configuration on the CPU, reset once."""
    pytest.importorskip("mjlab", reason="mjlab is not installed: make test-mjlab")
    from mjlab.envs import ManagerBasedRlEnv

    def make(cfg: Any, num_envs: int = 3) -> Any:
        cfg.scene.num_envs, cfg.seed = num_envs, 5
        env = ManagerBasedRlEnv(cfg, device="cpu")
        env.reset()
        return env

    return make
