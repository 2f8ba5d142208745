"""docs/building_blocks.md names every building block, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from cmg_ref.commands import sampler
from cmg_ref.rl import actions, observations, rewards

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "building_blocks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", [actions, observations, rewards], ids=lambda module: module.__name__)
def test_every_function_is_on_the_page(module: ModuleType) -> None:
    own = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    assert {name for name in own if not name.startswith("_")} <= set(re.findall(r"`(\w+)`", PAGE))


def test_what_the_page_says_of_commands_is_there() -> None:
    for name in ("preset_share", "presets", "curriculum_stages"):
        assert name in PAGE and hasattr(sampler.CommandSamplerCfg(), name)
    assert hasattr(sampler.CommandSampler, "update_curriculum") and sampler.PRESETS


def test_the_example_makes_a_task() -> None:
    pytest.importorskip("mujoco.batch")
    import torch

    from envs.tasks.task_registry import task_registry

    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(example, "docs/building_blocks.md", "exec"), {"__name__": "example"})
    env, _ = task_registry.make_env("mine", num_envs=2)
    env.step(torch.zeros(2, env.num_actions))
    assert {"slow_feet", "place"} <= set(env.reward_names)
