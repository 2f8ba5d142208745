"""The tasks that mjlab finds: the shipped policy walks in them, and they train and export."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from cmg_ref.rl.actions import reference_targets, velocity_lead

pytestmark = pytest.mark.slow
COMMANDS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.8]])


@pytest.fixture(scope="module")
def flat(mjlab_env: Callable[..., Any]) -> Any:
    """The task on flat ground as it is played."""
    from envs.hosts.mjlab.tasks import make_env_cfg

    cfg = make_env_cfg(rough=False, play=True)
    cfg.events = {}
    return mjlab_env(cfg, len(COMMANDS))


def test_mjlab_finds_the_tasks() -> None:
    pytest.importorskip("mjlab", reason="mjlab is not installed: make test-mjlab")
    import mjlab.tasks
    from mjlab.tasks.registry import list_tasks

    assert mjlab.tasks and {f"Mjlab-CMG-{ground}-Unitree-G1" for ground in ("Flat", "Rough")} <= set(list_tasks())


def test_the_example_of_the_page_makes_a_task() -> None:
    pytest.importorskip("mjlab", reason="mjlab is not installed: make test-mjlab")
    from mjlab.tasks.registry import load_env_cfg

    from envs.hosts.mjlab.reference_command import CMGReferenceCommandCfg

    page = (Path(__file__).parents[4] / "docs" / "mjlab.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example, "docs/mjlab.md", "exec"), {})
    assert isinstance(load_env_cfg("My-Tracking-G1").commands["motion"], CMGReferenceCommandCfg)


def test_the_shipped_policy_fits_and_obeys(flat: Any) -> None:
    from envs.hosts.mjlab.runner import describe_policy
    from envs.learning.policy import load_policy

    policy = load_policy()
    assert policy.description.mismatch(describe_policy(flat)) == ""
    assert describe_policy(flat).stiffness == pytest.approx(policy.description.stiffness)
    term = flat.command_manager.get_term("twist")
    observations, _ = flat.reset()
    term.set_commands(COMMANDS)
    start = flat.scene["robot"].data.root_link_pos_w.clone()
    with torch.no_grad():
        for _ in range(150):
            observations, *_ = flat.step(policy(observations["actor"]).clamp(-6.0, 6.0))
            assert not flat.reset_terminated.any()
    way = (flat.scene["robot"].data.root_link_pos_w - start)[:, :2].norm(dim=1)
    assert way[0] < 0.1 and 2.0 < way[1] < 3.2 and way[2] < 0.6  # 3 s, of which a part to get going


def test_past_observations_come_first_the_newest_last(mjlab_env: Callable[..., Any]) -> None:
    from configs.g1_cmg_config import G1CMGCfg
    from envs.hosts.mjlab.runner import describe_policy
    from envs.hosts.mjlab.tasks import make_env_cfg

    seen, parts = [], []
    for length in (1, 3):
        cfg = G1CMGCfg()
        cfg.env.history_length = length
        env = mjlab_env(make_env_cfg(rough=False, play=True, cfg=cfg), 2)
        parts.append(describe_policy(env).observations)
        groups = [env.reset()[0]]
        groups += [env.step(torch.full((2, 29), 0.1))[0] for _ in range(4)]
        seen.append([group["actor"].clone() for group in groups])
        critic = groups[0]["critic"].shape
        env.close()
    assert parts[1] == 3 * parts[0]
    assert critic[1] < 3 * seen[0][0].shape[1]
    now, past = seen
    for step, whole in enumerate(past):
        expected = [now[max(0, step - late)] for late in (2, 1, 0)]
        torch.testing.assert_close(whole, torch.cat(expected, dim=1), atol=1e-4, rtol=1e-4)


def test_an_action_corrects_the_reference_led_by_its_velocity(flat: Any) -> None:
    from envs.learning.policy import load_policy

    told = load_policy().description
    term, action = flat.command_manager.get_term("twist"), flat.action_manager.get_term("joint_pos")
    lead = velocity_lead(torch.tensor(told.stiffness), torch.tensor(told.damping))
    wanted = reference_targets(term.joint_pos, term.joint_vel, lead)
    action.process_actions(torch.ones(flat.num_envs, len(told.joint_names)))
    assert torch.allclose(action._processed_actions, wanted + torch.tensor(told.action_scale), atol=1e-5)


def test_a_training_writes_what_robots_run(mjlab_env: Callable[..., Any], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from mjlab.rl import RslRlVecEnvWrapper

    from envs.deployment.exported_controller import ExportedController
    from envs.hosts.mjlab.runner import ReferenceFollowerRunner
    from envs.hosts.mjlab.tasks import make_env_cfg, make_rl_cfg
    from envs.learning.policy import load_policy

    rl = make_rl_cfg()
    rl.num_steps_per_env, rl.algorithm.num_mini_batches = 4, 2
    env = RslRlVecEnvWrapper(mjlab_env(make_env_cfg(rough=False)), rl.clip_actions)
    runner = ReferenceFollowerRunner(env, asdict(rl), str(tmp_path), "cpu")
    runner.learn(1)
    policy, file = load_policy(tmp_path / "policy.safetensors"), tmp_path / f"{tmp_path.name}.onnx"
    observations = env.get_observations()
    with torch.no_grad():
        assert torch.allclose(
            policy(observations["actor"]), runner.get_inference_policy("cpu")(observations), atol=1e-5
        )
    entries = {entry.key: entry.value for entry in onnx.load(str(file)).metadata_props}
    assert {"joint_names", "joint_stiffness", "action_scale", "observation_names"} <= set(entries)
    drive = ExportedController(file).description["training"]
    assert "MuJoCo Warp" in drive["physics"] and "position actuator" in drive["drive"]


def test_a_policy_becomes_a_checkpoint_that_play_loads(flat: Any, tmp_path: Path) -> None:
    from mjlab.rl import RslRlVecEnvWrapper

    from envs.hosts.mjlab.checkpoint import write_checkpoint
    from envs.hosts.mjlab.runner import ReferenceFollowerRunner
    from envs.hosts.mjlab.tasks import make_rl_cfg
    from envs.learning.policy import load_policy

    policy = load_policy()
    write_checkpoint(policy, tmp_path / "run" / "model_0.pt")
    rl = make_rl_cfg()
    env = RslRlVecEnvWrapper(flat, rl.clip_actions)
    runner = ReferenceFollowerRunner(env, asdict(rl), None, "cpu")
    runner.load(str(tmp_path / "run" / "model_0.pt"), load_cfg={"actor": True}, strict=True)
    observations = env.get_observations()
    with torch.no_grad():
        assert torch.allclose(
            policy(observations["actor"]), runner.get_inference_policy("cpu")(observations), atol=1e-4
        )
