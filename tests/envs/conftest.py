"""Small environments on the real simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

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
