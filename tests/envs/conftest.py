"""Small environments on the real simulator, and foreign models of the robot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).parents[3] / "shared"
# All of what a curriculum holds back at first.
LAST_STAGE = "curriculum.stages=((1.0, 1.0, 1.0, 1.0),)"
# Nothing at random but where robots stand, so that states are known.
CALM = (
    "noise.add_noise=False",
    "domain_rand.push_robots=False",
    "domain_rand.randomize_friction=False",
    "domain_rand.randomize_base_mass=False",
    "domain_rand.randomize_link_mass=False",
    "domain_rand.randomize_com=False",
    "domain_rand.randomize_gains=False",
    "domain_rand.randomize_delay=False",
    "init_state.dof_pos_noise=0",
    "init_state.dof_vel_noise=0",
    "init_state.lin_vel_noise=0",
    "init_state.ang_vel_noise=0",
)
REALTIME = ("reference.mode=realtime",)


def build(task: str, num_envs: int, *overrides: str, calm: bool = True) -> Any:
    """An environment of a task, calm unless told otherwise; a reference is generated as time passes."""
    pytest.importorskip("mujoco.batch")
    from configs.base_config import apply_overrides
    from envs.tasks.task_registry import task_registry

    cfg, _ = task_registry.get_cfgs(task)
    apply_overrides(cfg, (LAST_STAGE, *(CALM if calm else ()), *(REALTIME if task == "g1_cmg" else ()), *overrides))
    return task_registry.make_env(task, env_cfg=cfg, num_envs=num_envs)[0]


@pytest.fixture(scope="session")
def make() -> Callable[..., Any]:
    return build


@pytest.fixture(scope="module")
def calm_g1() -> Any:
    return build("g1", 4)


@pytest.fixture(scope="module")
def calm_g1_cmg() -> Any:
    return build("g1_cmg", 4)


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
