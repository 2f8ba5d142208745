from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cmg_ref.core.rotations import quat_from_yaw
from configs.base_config import ConfigError

pytestmark = pytest.mark.slow


def no_actions(env: Any) -> torch.Tensor:
    return torch.zeros(env.num_envs, env.num_actions)


def test_shapes_and_names_are_those_of_legged_gym(calm_g1: Any) -> None:
    obs, privileged = calm_g1.reset()
    assert obs.shape == (4, calm_g1.num_obs) and privileged.shape == (4, calm_g1.num_privileged_obs)
    obs, privileged, rewards, resets, extras = calm_g1.step(no_actions(calm_g1))
    assert rewards.shape == resets.shape == extras["time_outs"].shape == (4,)
    assert extras["observations"]["policy"] is obs and extras["observations"]["critic"] is privileged
    assert calm_g1.get_observations() is obs and calm_g1.get_privileged_observations() is privileged
    assert calm_g1.dt == pytest.approx(0.02) and calm_g1.max_episode_length == 1000
    assert calm_g1.episode_length_buf.tolist() == [1, 1, 1, 1]


def test_what_a_step_returns_is_left_alone_by_the_next(calm_g1: Any) -> None:
    calm_g1.reset()
    returned = calm_g1.step(no_actions(calm_g1))[:4]
    copies = [value.clone() for value in returned]
    calm_g1.step(no_actions(calm_g1) + 1.0)
    for value, copy in zip(returned, copies, strict=True):
        torch.testing.assert_close(value, copy, rtol=0.0, atol=0.0)


def test_the_state_of_the_base_is_in_its_frames(calm_g1: Any) -> None:
    calm_g1.reset()
    yaw = torch.tensor([0.0, 0.5 * math.pi, math.pi, -0.5 * math.pi])
    calm_g1.root_states[:, 3:7] = quat_from_yaw(yaw)
    calm_g1.root_states[:, 7:10] = torch.tensor([1.0, 0.0, 0.3])
    calm_g1.root_states[:, 10:13] = torch.tensor([0.2, 0.0, 0.7])
    calm_g1._update_base_state(None)
    expected = torch.tensor([[1.0, 0.0, 0.3], [0.0, -1.0, 0.3], [-1.0, 0.0, 0.3], [0.0, 1.0, 0.3]])
    torch.testing.assert_close(calm_g1.base_lin_vel_h, expected, atol=1e-6, rtol=0.0)
    expected = torch.tensor([[0.2, 0.0, 0.7], [0.0, -0.2, 0.7], [-0.2, 0.0, 0.7], [0.0, 0.2, 0.7]])
    torch.testing.assert_close(calm_g1.base_ang_vel, expected, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(calm_g1.projected_gravity, torch.tensor([[0.0, 0.0, -1.0]] * 4), atol=1e-6, rtol=0.0)


def test_the_standing_pose_is_held_in_both_drive_modes(make: Callable[..., Any]) -> None:
    heights = {}
    for mode in ("position", "effort"):
        env = make("g1", 2, f"control.drive_mode={mode}")
        for _ in range(15):
            _, _, _, resets, _ = env.step(no_actions(env))
        assert not resets.any()
        assert (env.dof_pos - env.default_dof_pos).abs().max() < 0.15
        assert env.contact_forces[:, env.feet_indices, 2].sum(dim=1).min() > 100.0
        heights[mode] = env.base_height.clone()
    torch.testing.assert_close(heights["position"], heights["effort"], atol=0.01, rtol=0.0)


def test_an_action_moves_its_joint(calm_g1: Any) -> None:
    calm_g1.reset()
    actions = no_actions(calm_g1)
    elbow = calm_g1.dof_names.index("left_elbow_joint")
    actions[1, elbow] = 1.0
    target = calm_g1._joint_targets(actions)
    assert target[1, elbow] - target[0, elbow] == pytest.approx(0.25)
    for _ in range(10):
        calm_g1.step(actions)
    assert calm_g1.dof_pos[1, elbow] - calm_g1.dof_pos[0, elbow] > 0.1


def test_actions_are_held_within_their_limits(calm_g1: Any) -> None:
    calm_g1.reset()
    calm_g1.step(no_actions(calm_g1) + 1e9)
    assert calm_g1.last_actions.max() <= calm_g1.cfg.normalization.clip_actions


def test_nan_in_an_action_is_an_error_that_names_it(calm_g1: Any) -> None:
    actions = no_actions(calm_g1)
    actions[2, 5] = math.nan
    joint = calm_g1.dof_names[5]
    before = calm_g1.common_step_counter
    with pytest.raises(ValueError, match=rf"NaN: environment 2, action 5 \({joint}\)"):
        calm_g1.step(actions)
    assert calm_g1.common_step_counter == before


def test_actions_of_a_wrong_shape_are_an_error(calm_g1: Any) -> None:
    with pytest.raises(ValueError, match=r"actions must have shape \(4, 29\), got \(4, 12\)"):
        calm_g1.step(torch.zeros(4, 12))


def test_a_reset_touches_only_its_rows(calm_g1: Any) -> None:
    calm_g1.reset()
    for _ in range(5):
        calm_g1.step(torch.ones(4, 29) * 0.3)
    names: tuple[str, ...] = (
        "root_states",
        "dof_pos",
        "dof_vel",
        "commands",
        "actions",
        "last_actions",
        "average_velocity",
    )
    names += ("episode_length_buf", "base_height", "projected_gravity", "dof_pos_target", "asked_distance")
    before = {name: getattr(calm_g1, name).clone() for name in names}
    sums = calm_g1.episode_sums.clone()
    chosen, others = torch.tensor([1, 3]), torch.tensor([0, 2])
    calm_g1.reset_idx(chosen)
    for name in names:
        torch.testing.assert_close(getattr(calm_g1, name)[others], before[name][others], rtol=0.0, atol=0.0)
    torch.testing.assert_close(calm_g1.episode_sums[:, others], sums[:, others], rtol=0.0, atol=0.0)
    assert calm_g1.episode_length_buf.tolist() == [5, 0, 5, 0]
    assert calm_g1.episode_sums[:, chosen].abs().sum() == 0.0
    expected = calm_g1.default_dof_pos.expand(2, -1)
    torch.testing.assert_close(calm_g1.dof_pos[chosen], expected, rtol=0.0, atol=0.0)
    # The simulator gets the new states with the next step, and only those.
    height = calm_g1.root_states[:, 2].clone()
    calm_g1.step(no_actions(calm_g1))
    assert (calm_g1.root_states[:, 2] - height).abs().max() < 0.05


def test_causes_of_termination_are_told(calm_g1: Any) -> None:
    calm_g1.reset()
    calm_g1.root_states[0, 2] = 0.3
    half = 0.5 * 1.2
    calm_g1.root_states[1, 3:7] = torch.tensor([math.sin(half), 0.0, 0.0, math.cos(half)])
    calm_g1.dof_vel[2, 4] = math.nan
    calm_g1._update_base_state(None)
    calm_g1.check_termination()
    causes = {name: value.tolist() for name, value in calm_g1.termination_causes.items()}
    assert causes["base_height"] == [True, False, False, False]
    assert causes["tilt"] == [False, True, False, False]
    assert causes["diverged"] == [False, False, True, False]
    assert calm_g1.reset_buf.tolist() == [True, True, True, False]
    assert not calm_g1.time_out_buf.any()


def test_falls_and_their_causes_are_logged(calm_g1: Any) -> None:
    calm_g1.reset()
    calm_g1.root_states[0, 3:7] = torch.tensor([math.sin(0.6), 0.0, 0.0, math.cos(0.6)])
    calm_g1._root_changed[0] = True
    _, _, rewards, resets, extras = calm_g1.step(no_actions(calm_g1))
    assert resets.tolist() == [True, False, False, False]
    assert float(extras["episode"]["ended_tilt"]) == 1.0
    assert float(extras["episode"]["ended_time_out"]) == 0.0
    assert rewards[0] < rewards[1] - 0.15  # the penalty of a fall
    assert calm_g1.projected_gravity[0, 2] < -0.999
    extras = calm_g1.step(no_actions(calm_g1))[4]
    assert "episode" not in extras


def test_an_episode_ends_in_time_and_says_so(calm_g1: Any) -> None:
    calm_g1.reset()
    calm_g1.episode_length_buf = torch.tensor([0, calm_g1.max_episode_length - 2, 0, 0])
    _, _, _, resets, extras = calm_g1.step(no_actions(calm_g1))
    assert not resets.any()
    _, _, _, resets, extras = calm_g1.step(no_actions(calm_g1))
    assert resets.tolist() == extras["time_outs"].tolist() == [False, True, False, False]
    assert float(extras["episode"]["ended_time_out"]) == 1.0
    assert calm_g1.episode_length_buf.tolist() == [2, 0, 2, 2]


@pytest.mark.filterwarnings("ignore:environment 3:RuntimeWarning")
def test_a_diverged_simulation_is_reset_and_harms_nobody(calm_g1: Any) -> None:
    calm_g1.reset()
    calm_g1.dof_vel[3] = 1e12
    calm_g1._dof_changed[3] = True
    obs, privileged, rewards, resets, extras = calm_g1.step(no_actions(calm_g1))
    assert resets.tolist() == [False, False, False, True]
    assert float(extras["episode"]["ended_diverged"]) == 1.0
    for value in (obs, privileged, rewards, calm_g1.episode_sums):
        assert torch.isfinite(value).all()
    obs, _, _, resets, _ = calm_g1.step(no_actions(calm_g1))
    assert torch.isfinite(obs).all() and not resets.any()


def test_commands_given_are_ramped_to_and_held(calm_g1: Any) -> None:
    calm_g1.reset()
    wanted = torch.tensor([[0.7, 0.1, -0.4]])
    calm_g1.set_commands(wanted, torch.tensor([2]))
    others = calm_g1.command_source.targets[[0, 1, 3]].clone()
    for _ in range(30):
        calm_g1._update_commands()
    torch.testing.assert_close(calm_g1.commands[2:3], wanted)
    torch.testing.assert_close(calm_g1.command_source.targets[[0, 1, 3]], others)
    for _ in range(1000):
        calm_g1._update_commands()
    torch.testing.assert_close(calm_g1.commands[2:3], wanted)
    assert (calm_g1.command_source.targets[[0, 1, 3]] != others).any()


def test_a_push_changes_the_velocity_in_the_simulator(calm_g1: Any) -> None:
    calm_g1.reset()
    calm_g1.step(no_actions(calm_g1))
    before = calm_g1.root_states[:, 7:9].clone()
    calm_g1.push(torch.tensor([1]), torch.tensor([[0.0, 0.8]]))
    calm_g1.step(no_actions(calm_g1))
    change = calm_g1.root_states[:, 7:9] - before
    assert change[1, 1] > 0.4
    assert change[[0, 2, 3]].abs().max() < 0.2


def test_random_pushes_come_at_the_times_asked_for(make: Callable[..., Any]) -> None:
    pushes = ("push_robots=True", "push_interval_s=(0.1, 0.3)", "max_push_vel_xy=0.5")
    env = make("g1", 64, *(f"domain_rand.{push}" for push in pushes))
    seen = []
    push = env.push

    def noted_push(env_ids: torch.Tensor, velocity: torch.Tensor) -> None:
        seen.append((env_ids, velocity))
        push(env_ids, velocity)

    env.push = noted_push
    for _ in range(20):
        env._push_robots()
    count = sum(len(env_ids) for env_ids, _ in seen)
    assert 64 * 1 <= count <= 64 * 5
    speeds = torch.cat([velocity[:, :2].norm(dim=1) for _, velocity in seen])
    assert 0.3 < speeds.max() <= 0.5 and speeds.min() < 0.1


@pytest.mark.parametrize("steps", [1, 2])
def test_a_delay_holds_earlier_targets_for_its_time(make: Callable[..., Any], steps: int) -> None:
    whole = ("domain_rand.randomize_delay=True", f"domain_rand.delay_range=({0.02 * steps}, {0.02 * steps})")
    for mode in ("position", "effort"):
        late, prompt = make("g1", 1, f"control.drive_mode={mode}", *whole), make("g1", 1, f"control.drive_mode={mode}")
        elbow = late.dof_names.index("left_elbow_joint")
        actions = no_actions(late)
        actions[0, elbow] = 2.0
        moved = []
        for env in (late, prompt):
            env.reset()
            for _ in range(steps):
                env.step(actions)
            moved.append(float(env.dof_pos[0, elbow] - env.default_dof_pos[0, elbow]))
        late.step(actions)
        assert abs(moved[0]) < 0.01 < moved[1]
        assert float(late.dof_pos[0, elbow] - late.default_dof_pos[0, elbow]) > 0.01


def test_a_seed_determines_what_happens(make: Callable[..., Any]) -> None:
    def run(seed: int) -> list[torch.Tensor]:
        env = make("g1", 6, f"seed={seed}", "domain_rand.push_interval_s=(0.2, 0.5)", calm=False)
        random = torch.Generator().manual_seed(3)
        results = []
        for _ in range(100):
            actions = torch.randn(6, 29, generator=random)
            results += [value.clone() for value in env.step(actions)[:4]]
        return results

    first, second, third = run(5), run(5), run(6)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=0.0)
    assert any(not torch.equal(a, b) for a, b in zip(first, third, strict=True))


def test_resuming_restores_draws_and_curriculum(make: Callable[..., Any]) -> None:
    stages = "curriculum.stages=((0.5, 0.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0))"
    env, other = make("g1", 4, stages), make("g1", 4, stages, "seed=9")
    env.curriculum.stage = 1
    for _ in range(3):
        env.step(no_actions(env))
    state = env.state_dict()
    other.load_state_dict(state)
    assert (other.curriculum.stage, other.command_sampler.level, other.common_step_counter) == (1, 1.0, 3)
    env.load_state_dict(state)
    torch.testing.assert_close(other.root_states, env.root_states, rtol=0.0, atol=0.0)
    torch.testing.assert_close(other.commands, env.commands, rtol=0.0, atol=0.0)


def test_a_configuration_with_an_unknown_field_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="drive_mode: no mode 'torque'"):
        make("g1", 1, "control.drive_mode=torque")
    with pytest.raises(ConfigError, match="there is no 'base_angvel'; did you mean 'base_ang_vel'"):
        make("g1", 1, "observations.policy=('base_angvel',)")
    with pytest.raises(ConfigError, match="no body 'left_ankle_rol_link'; did you mean 'left_ankle_roll_link'"):
        make("g1", 1, "asset.foot_names=('left_ankle_rol_link', 'right_ankle_roll_link')")
    with pytest.raises(ConfigError, match="no joint 'left_knee'; did you mean 'left_knee_joint'"):
        make("g1", 1, "init_state.default_joint_angles.left_knee=0.3")
