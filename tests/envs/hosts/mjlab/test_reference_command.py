"""The reference in mjlab's own tracking task, under the name and among the terms of its motion command."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cmg_ref.reference_motion_term import ReferenceMotionTerm, ReferenceMotionTermCfg

REFERENCE = ReferenceMotionTermCfg(mode="realtime")
MAXIMUM = 1e-3  # that a reward may be off one


@pytest.fixture(scope="module")
def tracking(mjlab_env: Callable[..., Any]) -> Any:
    """The tracking task of the G1 as it is, but for the motion."""
    from mjlab.tasks.tracking.config.g1.env_cfgs import unitree_g1_flat_tracking_env_cfg

    from envs.hosts.mjlab.reference_command import CMGReferenceCommandCfg

    cfg = unitree_g1_flat_tracking_env_cfg()
    cfg.commands["motion"] = CMGReferenceCommandCfg(reference=REFERENCE, random_heading=False)
    return mjlab_env(cfg)


def test_the_term_is_the_reference_alone_under_the_same_calls(tracking: Any) -> None:
    env, term = tracking, tracking.command_manager.get_term("motion")
    alone = ReferenceMotionTerm(REFERENCE, env.num_envs, env.step_dt, term.robot.joint_names, seed=env.cfg.seed)
    origins = env.scene.env_origins
    places = torch.cat((origins[:, :2], torch.zeros(env.num_envs, 1)), dim=1)
    alone.reset()  # as the term when it was made
    alone.reset(root_pose=places)

    def check() -> None:
        for name in ("dof_pos", "dof_vel", "root_states", "commands", "target_commands"):
            assert torch.equal(getattr(term.reference, name), getattr(alone, name)), name

    check()
    still = torch.zeros(env.num_envs, env.action_manager.total_action_dim)
    for step in range(8):
        if step == 3:  # time is up for one
            env.episode_length_buf[1] = env.max_episode_length
        env.step(still)
        alone.step()
        ended = env.reset_buf.nonzero().squeeze(1)
        assert (1 in ended) or step != 3
        alone.report_failures(env.reset_terminated.nonzero().squeeze(1))
        alone.reset(ended, root_pose=places[ended])
        check()
    before = [value.clone() for value in (term.reference.root_states, term.command, term.body_pos_w)]
    measured = {name: value[:2].clone() for name, value in term.metrics.items()}
    env.reset(env_ids=torch.tensor([2]))
    alone.reset([2], root_pose=places[2:])
    check()
    for was, now in zip(before, (term.reference.root_states, term.command, term.body_pos_w), strict=True):
        assert torch.equal(was[:2], now[:2]) and not torch.equal(was[2], now[2])
    assert all(torch.equal(term.metrics[name][:2], value) for name, value in measured.items())


def test_a_robot_on_the_reference_has_every_tracking_reward_at_its_maximum(tracking: Any) -> None:
    env, term = tracking, tracking.command_manager.get_term("motion")
    still = torch.zeros(env.num_envs, env.action_manager.total_action_dim)
    for _ in range(5):
        env.step(still)
    term.robot.write_joint_state_to_sim(term.joint_pos, term.joint_vel)
    root = (term.body_pos_w, term.body_quat_w, term.body_lin_vel_w, term.body_ang_vel_w)
    term.robot.write_root_state_to_sim(torch.cat([part[:, 0] for part in root], dim=1))
    env.sim.forward()
    found = []
    for name in env.reward_manager.active_terms:
        cfg = env.reward_manager.get_term_cfg(name)
        if "command_name" in cfg.params:
            found.append(name)
            assert float((cfg.func(env, **cfg.params) - 1.0).abs().max()) < MAXIMUM, name
    assert len(found) == 6
    for name in env.termination_manager.active_terms:
        cfg = env.termination_manager.get_term_cfg(name)
        assert name == "time_out" or not cfg.func(env, **cfg.params).any(), name


def test_relative_poses_stand_over_the_robot(tracking: Any) -> None:
    term, anchor = tracking.command_manager.get_term("motion"), 7
    assert torch.allclose(term.body_pos_relative_w[:, anchor, :2], term.robot_anchor_pos_w[:, :2], atol=1e-5)
    assert torch.allclose(term.body_pos_relative_w[:, anchor, 2], term.anchor_pos_w[:, 2], atol=1e-5)


def test_the_ghost_takes_the_references_pose_over_the_robot(tracking: Any) -> None:
    term = tracking.command_manager.get_term("motion")
    drawn: dict[str, torch.Tensor] = {}

    class Visualizer:
        def get_env_indices(self, num_envs: int) -> list[int]:
            return [2]

        def add_ghost_mesh(self, qpos: Any, model: Any, label: str) -> None:
            drawn[label] = torch.tensor(qpos, dtype=torch.float32)

    term._debug_vis_impl(Visualizer())
    assert list(drawn) == ["reference_2"]
    assert torch.equal(drawn["reference_2"][:3], term.body_pos_relative_w[2, 0])
    assert torch.equal(drawn["reference_2"][7:], term.joint_pos[2])
    assert float(term._ghost.geom_rgba[:, 3].max()) == 0.5


def test_the_sliders_steer_the_robot_that_is_viewed(tracking: Any) -> None:
    viser = pytest.importorskip("viser")
    term = tracking.command_manager.get_term("motion")
    server = viser.ViserServer(port=0, verbose=False)
    try:
        term.create_gui("motion", server, lambda: 1)
        for slider, value in zip(term._sliders, (0.75, 0.0, 0.25), strict=True):
            slider.value = value
        others = term.reference.target_commands[[0, 2]].clone()
        tracking.command_manager.compute(dt=0.0, env_ids=torch.tensor([], dtype=torch.long))
        assert torch.equal(term.reference.target_commands[[0, 2]], others)
        term._steered.value = True
        tracking.command_manager.compute(dt=0.0, env_ids=torch.tensor([], dtype=torch.long))
        assert torch.allclose(term.reference.target_commands[1], torch.tensor([0.75, 0.0, 0.25]))
        assert torch.equal(term.reference.target_commands[[0, 2]], others)
    finally:
        term._steered = None
        server.stop()


def test_a_configuration_can_be_written_and_copied() -> None:
    """As a training and the list of tasks do."""
    pytest.importorskip("mjlab", reason="mjlab is not installed: make test-mjlab")
    import yaml

    from envs.hosts.mjlab.reference_command import CMGReferenceCommandCfg

    cfg = CMGReferenceCommandCfg(reference=REFERENCE)
    assert copy.deepcopy(cfg) == cfg
    assert "mode: realtime" in yaml.dump(dataclasses.asdict(cfg))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shows": "speed"}, "shows must be one of"),
        ({"anchor_body_name": "head"}, "anchor_body_name 'head' is none of body_names"),
        ({"standing": True}, "standing=True needs reference.mode 'realtime'"),
    ],
)
def test_an_impossible_field_is_named(change: dict[str, Any], message: str) -> None:
    pytest.importorskip("mjlab", reason="mjlab is not installed: make test-mjlab")
    from envs.hosts.mjlab.reference_command import CMGReferenceCommandCfg

    with pytest.raises(ValueError, match=message):
        CMGReferenceCommandCfg(**change).check()


@pytest.mark.slow
def test_the_tracking_task_trains_with_the_term(tracking: Any, tmp_path: Path) -> None:
    from mjlab.rl import MjlabOnPolicyRunner, RslRlVecEnvWrapper
    from mjlab.tasks.tracking.config.g1.rl_cfg import unitree_g1_tracking_ppo_runner_cfg

    rl = unitree_g1_tracking_ppo_runner_cfg()
    rl.num_steps_per_env, rl.logger = 4, "tensorboard"
    runner = MjlabOnPolicyRunner(RslRlVecEnvWrapper(tracking), dataclasses.asdict(rl), str(tmp_path), "cpu")
    before = {name: value.clone() for name, value in runner.alg.get_policy().state_dict().items()}
    runner.learn(3)
    after = runner.alg.get_policy().state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert not torch.equal(before["mlp.0.weight"], after["mlp.0.weight"])
    assert (tmp_path / "model_2.pt").is_file()
