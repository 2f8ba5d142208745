from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch

from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.core.rotations import yaw_from_quat
from configs.base_config import ConfigError

pytestmark = pytest.mark.slow


def no_actions(env: Any) -> torch.Tensor:
    return torch.zeros(env.num_envs, env.num_actions)


def test_episodes_begin_on_the_reference(calm_g1_cmg: Any) -> None:
    env = calm_g1_cmg
    env.reset()
    torch.testing.assert_close(env.dof_pos, env.term.dof_pos)
    torch.testing.assert_close(env.dof_vel, env.term.dof_vel)
    torch.testing.assert_close(env.root_states[:, 3:], env.term.root_states[:, 3:])
    torch.testing.assert_close(env.root_states[:, :2], env.term.root_states[:, :2])
    torch.testing.assert_close(env.root_states[:, :2], env.env_origins[:, :2])
    # No foot begins inside the floor, and nobody begins higher than that takes.
    heights = [
        env.feet.places(env.dof_pos, root[:, :3], root[:, 3:7])[1].amin(dim=1)
        for root in (env.root_states, env.term.root_states)
    ]
    torch.testing.assert_close(heights[0], heights[1].clamp(min=0.0), atol=1e-5, rtol=0.0)
    error = env.observation_groups()["policy"][:, columns_of(env, "dof_pos_error")]
    assert error.abs().max() < 1e-6
    assert len(set(yaw_from_quat(env.root_states[:, 3:7]).tolist())) == 4


def test_the_action_zero_follows_the_reference(calm_g1_cmg: Any) -> None:
    env = calm_g1_cmg
    env.reset()
    coming = env.term.future((1,))
    target = env._joint_targets(no_actions(env))
    lead = env.nominal_d_gains / env.nominal_p_gains
    torch.testing.assert_close(target, coming.dof_pos[:, 0] + lead * coming.dof_vel[:, 0])
    # At the reference itself the drive's torque is that of the damping alone, which the lead takes out.
    torque = env.nominal_p_gains * (target - coming.dof_pos[:, 0]) - env.nominal_d_gains * coming.dof_vel[:, 0]
    assert torque.abs().max() < 1e-3
    for _ in range(10):
        env.step(no_actions(env))
    assert (env.dof_pos - env.term.dof_pos).square().mean().sqrt() < 0.15


def test_what_was_the_next_step_of_the_reference_is_shown_in_the_next_step(calm_g1_cmg: Any) -> None:
    env = calm_g1_cmg
    env.reset()
    coming, further = env._next_dof_pos.clone(), env.term.future_dof_pos[:, -1].clone()
    env.step(no_actions(env))
    torch.testing.assert_close(env.term.dof_pos, coming, atol=1e-4, rtol=0.0)
    for _ in range(env._future_steps[-1] - 1):
        env.term.step()
    assert (env.term.dof_pos - further).abs().max() < 1e-3


def test_an_action_adds_to_the_reference(calm_g1_cmg: Any) -> None:
    env = calm_g1_cmg
    env.reset()
    difference = env._joint_targets(no_actions(env) + 1.0) - env._joint_targets(no_actions(env))
    by_name = dict(zip(env.dof_names, difference[0].tolist(), strict=True))
    for part, scale in (("knee", 0.5), ("hip_roll", 0.5), ("waist_yaw", 0.25), ("elbow", 0.25), ("wrist_yaw", 0.1)):
        assert {round(value, 5) for name, value in by_name.items() if part in name} == {scale}


def test_gains_are_those_of_the_configuration(calm_g1_cmg: Any) -> None:
    gains = dict(zip(calm_g1_cmg.dof_names, calm_g1_cmg.p_gains[0].tolist(), strict=True))
    damping = dict(zip(calm_g1_cmg.dof_names, calm_g1_cmg.d_gains[0].tolist(), strict=True))
    assert (gains["left_hip_yaw_joint"], gains["right_knee_joint"], gains["waist_yaw_joint"]) == (100.0, 150.0, 100.0)
    assert (gains["waist_roll_joint"], gains["left_wrist_roll_joint"]) == (80.0, 20.0)
    assert (damping["waist_yaw_joint"], damping["waist_pitch_joint"], damping["left_elbow_joint"]) == (4.0, 3.0, 1.5)


def columns_of(env: Any, name: str) -> slice:
    """Columns of the newest of what the actor sees."""
    start = env.num_obs - env.num_obs // env.cfg.env.history_length
    for term in env.observation_layout["policy"]:
        if term.name == name:
            return slice(start, start + term.size)
        start += term.size
    raise KeyError(name)


def test_the_actor_sees_the_reference_and_what_comes(calm_g1_cmg: Any) -> None:
    env = calm_g1_cmg
    obs, _ = env.reset()
    obs = env.step(no_actions(env) + 0.1)[0]
    coming = env.term.future((1, 6)).dof_pos
    for name, expected in (
        ("base_ang_vel", 0.25 * env.base_ang_vel),
        ("projected_gravity", env.projected_gravity),
        ("commands", env.term.commands),
        ("dof_pos_error", env.dof_pos - env.term.dof_pos),
        ("reference_dof_pos", coming[:, 0] - env.default_dof_pos),
        ("reference_dof_change", coming[:, 1] - coming[:, 0]),
        ("last_action", torch.full((4, 29), 0.1)),
    ):
        torch.testing.assert_close(obs[:, columns_of(env, name)], expected)


def test_the_mirror_of_an_observation_is_the_observation_of_the_mirrored_motion(make: Callable[..., Any]) -> None:
    env = make("g1_cmg", 2, "env.history_length=1")
    for _ in range(3):
        env.step(no_actions(env))
    flip = torch.tensor([1.0, -1.0, 1.0])
    signs = {"root_pos_w": flip, "root_quat_w": torch.tensor([-1.0, 1.0, -1.0, 1.0])}
    signs.update({"root_lin_vel_w": flip, "root_ang_vel_w": -flip})
    # Environment 1 shows what environment 0 shows, seen in a mirror, and so do the robots.
    window, ahead = env.term._read()
    ahead = torch.stack((ahead[0], env.mirror_actions(ahead[0])))
    mirrored = {}
    for field in fields(MotionFrames):
        values = getattr(window, field.name).clone()
        values[1] = env.mirror_actions(values[0]) if field.name.startswith("dof") else values[0] * signs[field.name]
        mirrored[field.name] = values
    env.term._window = MotionFrames(**mirrored), ahead
    env._read_reference()
    env._command_buffer.show(torch.stack((env.commands[0], env.commands[0] * torch.tensor([1.0, -1.0, -1.0]))))
    root = env.root_states[0]
    parts = (root[:3] * flip, root[3:7] * signs["root_quat_w"], root[7:10] * flip, -root[10:13] * flip)
    env.root_states[1] = torch.cat(parts)
    for values in (env.dof_pos, env.dof_vel, env.actions):
        values[1] = env.mirror_actions(values[0])
    env._update_base_state(None)
    env.average_velocity[1] = env.average_velocity[0] * torch.tensor([1.0, -1.0, 1.0, -1.0])
    env.feet.contact = torch.stack((env.feet.contact[0], env.feet.contact[0].flip(0)))
    env.compute_observations()
    for group, values in env.observation_groups().items():
        torch.testing.assert_close(env.mirror_observations(values, group)[0], values[1], atol=1e-5, rtol=0.0)
        assert (values[0] - values[1]).abs().max() > 0.01


def test_commands_given_change_the_reference_without_a_jump(calm_g1_cmg: Any) -> None:
    env = calm_g1_cmg
    env.reset()
    before = env.term.dof_pos.clone()
    env.set_commands(torch.tensor([[1.0, 0.0, 0.0]] * 2), torch.tensor([0, 2]))
    torch.testing.assert_close(env.term.dof_pos, before)
    for _ in range(40):
        env._update_commands()
    torch.testing.assert_close(env.commands[[0, 2]], torch.tensor([[1.0, 0.0, 0.0]] * 2))


def test_observations_follow_a_command_at_once(make: Callable[..., Any]) -> None:
    env = make("g1_cmg", 2, "env.history_length=2", "reference.start=standing", "commands.strata={'stand': 1.0}")
    env.step(no_actions(env))
    before = env.get_observations().clone()
    env.set_commands(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0]))
    after, coming = env.get_observations(), env.term.future((1, 6)).dof_pos
    column, newest = columns_of(env, "reference_dof_change"), slice(env.num_obs // 2, None)
    torch.testing.assert_close(after[:, column], coming[:, 1] - coming[:, 0])
    assert (after[0, newest] - before[0, newest]).abs().max() > 1e-4
    # What was seen earlier stays, and so does what others see.
    torch.testing.assert_close(after[0, : env.num_obs // 2], before[0, : env.num_obs // 2], rtol=0.0, atol=0.0)
    torch.testing.assert_close(after[1], before[1], rtol=0.0, atol=0.0)


def test_a_reset_touches_only_its_rows(calm_g1_cmg: Any) -> None:
    env = calm_g1_cmg
    env.reset()
    for _ in range(3):
        env.step(no_actions(env))
    shown, root, target = env.term.dof_pos.clone(), env.root_states.clone(), env._joint_targets(no_actions(env))
    env.reset_idx(torch.tensor([1]))
    others = [0, 2, 3]
    torch.testing.assert_close(env.term.dof_pos[others], shown[others], rtol=0.0, atol=0.0)
    torch.testing.assert_close(env.root_states[others], root[others], rtol=0.0, atol=0.0)
    torch.testing.assert_close(env._joint_targets(no_actions(env))[others], target[others], rtol=0.0, atol=0.0)
    assert (env.term.dof_pos[1] != shown[1]).any()


def test_standing_starts_stand(make: Callable[..., Any]) -> None:
    env = make("g1_cmg", 3, "reference.start=standing", "commands.strata={'stand': 1.0}")
    assert env.dof_vel.abs().max() < 0.1
    for _ in range(50):
        env.step(no_actions(env))
    assert env.commands.abs().max() == 0.0
    with pytest.raises(ConfigError, match=r"reference\.start: there is no 'stand'"):
        make("g1_cmg", 1, "reference.start=stand")


def test_a_seed_determines_what_happens_with_a_pool(make: Callable[..., Any]) -> None:
    def run(seed: int) -> list[torch.Tensor]:
        env = make("g1_cmg", 4, f"seed={seed}", "reference.mode=pool", "reference.num_trajectories=4", calm=False)
        random = torch.Generator().manual_seed(3)
        results = []
        for _ in range(100):
            results += [value.clone() for value in env.step(torch.randn(4, 29, generator=random))[:4]]
        return results

    first, second, third = run(5), run(5), run(6)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=0.0)
    assert any(not torch.equal(a, b) for a, b in zip(first, third, strict=True))


def test_falls_are_reported_to_what_draws_the_commands(calm_g1_cmg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    env = calm_g1_cmg
    env.reset()
    reported = []
    monkeypatch.setattr(env.term, "report_failures", lambda env_ids: reported.append(env_ids.tolist()))
    env.common_step_counter = 0
    env.root_states[2, 3:7] = torch.tensor([math.sin(0.6), 0.0, 0.0, math.cos(0.6)])
    env._root_changed[2] = True
    env.episode_length_buf[1] = env.max_episode_length
    resets = env.step(no_actions(env))[3]
    assert resets.tolist() == [False, True, True, False]
    assert reported == [[2]]


def test_once_a_second_who_does_not_obey_is_reported(calm_g1_cmg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    env = calm_g1_cmg
    env.reset()
    reported = []
    monkeypatch.setattr(env.term, "report_failures", lambda env_ids: reported.append(env_ids.tolist()))
    monkeypatch.setattr(type(env.command_source), "targets", property(lambda source: env.commands))
    env.average_velocity[:, :2], env.average_velocity[:, 3] = env.commands[:, :2], env.commands[:, 2]
    env.average_velocity[0, 1] += 0.4
    env.average_velocity[1, 3] -= 0.5
    env.average_velocity[2, 0] += 0.1
    env.average_velocity[3, 0] += 0.9
    env._measure_obedience()
    env.episode_length_buf = torch.tensor([60, 60, 60, 10])
    for counter in range(1, 101):
        env.common_step_counter = counter
        env._report_obedience()
    assert reported == [[0, 1], [0, 1]]


def test_rewards_are_highest_on_the_reference(calm_g1_cmg: Any) -> None:
    env = calm_g1_cmg
    env.reset()
    env.root_states[:, 2] = env.term.root_pos_w[:, 2]
    env._update_base_state(None)
    env._update_feet()
    for name in ("dof_pos", "dof_vel", "lin_vel", "gravity", "height"):
        reward = getattr(env, f"_reward_reference_{name}")
        torch.testing.assert_close(reward(), torch.ones(4), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(env._reward_reference_key_bodies(), torch.ones(4), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(env._reward_feet_height(), torch.ones(4), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(env._reward_reference_feet(), torch.zeros(4), atol=1e-4, rtol=0.0)
    env.root_states[:, 2] += 0.03  # the base alone
    torch.testing.assert_close(env._reward_reference_feet(), torch.full((4,), 0.03), atol=1e-4, rtol=0.0)
    env.root_states[:, 2] -= 0.03
    env.dof_pos += 0.1
    env.root_states[:, 2] += 0.1
    env._update_base_state(None)
    env._update_feet()
    for name in ("reference_dof_pos", "reference_height", "reference_key_bodies", "feet_height"):
        assert getattr(env, f"_reward_{name}")().max() < 0.9, name
    assert env._reward_reference_feet().min() > 0.03


def test_resuming_restores_the_draws_of_commands(make: Callable[..., Any]) -> None:
    env, other = make("g1_cmg", 3), make("g1_cmg", 3, "seed=8")
    env.step(no_actions(env))
    state = env.state_dict()
    for each in (env, other):
        each.load_state_dict(state)
    torch.testing.assert_close(other.term.target_commands, env.term.target_commands)


@pytest.mark.parametrize(("limit", "ended"), [(0.3, True), (0.5, False), (None, False)])
def test_episodes_end_far_off_the_reference(make: Callable[..., Any], limit: float | None, ended: bool) -> None:
    """A robot that leans 0.4 rad further than its reference, less than any fall."""
    env = make("g1_cmg", 2, "reference.start=standing", f"termination.reference_tilt={limit}")
    env.reset()
    env.reference_gravity = torch.tensor([[0.0, 0.0, -1.0]]).repeat(2, 1)
    env.projected_gravity = torch.tensor([[math.sin(0.4), 0.0, -math.cos(0.4)], [0.0, 0.0, -1.0]])
    env.check_termination()
    assert env.reset_buf.tolist() == [ended, False]
    if limit is not None:
        assert env.termination_causes["reference_tilt"].tolist() == [ended, False]


def test_noise_grows_with_the_curriculum(make: Callable[..., Any]) -> None:
    stages = "curriculum.stages=((1.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.5, 1.0), (1.0, 0.0, 1.0, 1.0))"
    env = make("g1_cmg", 200, stages, "noise.add_noise=True", "env.history_length=1")
    deviations = []
    for stage in range(3):
        env.curriculum.stage = stage
        env.compute_observations()
        clean = env.privileged_obs_buf[:, : env.num_obs]
        deviations.append(float((env.obs_buf - clean).abs().max()))
    assert deviations[0] == 0.0
    assert deviations[1] == pytest.approx(0.5 * deviations[2], rel=0.02) and deviations[2] > 0.0


def test_commands_change_no_faster_than_the_configuration_lets_them() -> None:
    from configs.g1_cmg_config import G1CMGCfg
    from envs.tasks.task_registry import task_registry

    cfg = G1CMGCfg()
    cfg.commands.acceleration = (0.5, 0.25, 1.0)
    env: Any = task_registry.make_env("g1_cmg", env_cfg=cfg, num_envs=2)[0]
    env.reset()
    told = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.2, 0.8]])
    env.set_commands(told)
    before = env.commands.clone()
    for step in range(20):
        env.step(no_actions(env))
        assert bool(((env.commands - before).abs() <= torch.tensor([0.01, 0.005, 0.02]) + 1e-6).all()), step
        before = env.commands.clone()
