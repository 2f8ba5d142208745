"""Blows on links, joints that somebody else drives, and what rewards make of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("mujoco.batch")

from cmg_ref.core.rotations import yaw_from_quat
from configs.base_config import ConfigError
from configs.legged_robot_config import LeggedRobotCfg
from envs.base.disturbances import MOTIONS, Punches

LINKS = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 1.0])
PUNCHED = (
    "domain_rand.punch_robots=True",
    "domain_rand.punch_interval_s=(0.2, 0.2)",
    "domain_rand.long_push_share=0.0",
)
DRIVEN = ("driven_joints.share=1.0", "driven_joints.change_time=0.1")


def test_blows_are_as_long_and_as_hard_as_configured() -> None:
    cfg = LeggedRobotCfg().domain_rand
    cfg.punch_robots, cfg.punch_interval_s, cfg.long_push_share = True, (1.0, 1.0), 0.5
    undisturbed = torch.arange(400) < 100
    punches = Punches(cfg, undisturbed, LINKS, 3, 0.02, torch.Generator().manual_seed(1))
    punches.reset(torch.arange(400))
    assert punches.step(0.0) is None
    steps = [punches.step(0.5) for _ in range(150)]
    forces = torch.stack([step for step in steps if step is not None])  # (150, 400, 6, 3)
    strength = forces.norm(dim=-1)
    assert strength[:49].max() == 0.0 and strength[:, undisturbed].max() == 0.0
    assert strength[:, :, 0].max() == 0.0 and ((strength > 0.0).sum(dim=2) <= 1).all()
    first = strength[49, 100:].amax(dim=1)  # all begin now
    short = first > 0.5 * 55.0 + 1e-3
    assert 0.35 < short.float().mean() < 0.65
    assert first[short].min() >= 41.5 and first[short].max() <= 250.0
    assert first[~short].min() >= 7.5 and first[~short].max() <= 27.5
    # Four steps of the short ones; the long ones push the one link, level.
    assert (strength[49:53, 100:][:, short].sum(dim=2) > 0.0).all() and strength[53, 100:][short].max() == 0.0
    long = forces[49, 100:][~short]
    assert (long[:, 3].norm(dim=-1) > 0.0).all() and long[..., 2].abs().max() == 0.0
    assert (strength[49 + 29, 100:][~short].sum(dim=1) > 0.0).all()
    assert set(strength[49, 100:][short].argmax(dim=1).tolist()) == {1, 2, 3, 4, 5}


def test_links_are_hit_as_often_as_configured(make: Callable[..., Any]) -> None:
    links = "domain_rand.punch_links={'': 1.0, 'ankle_roll': 5.0, 'wrist': 0.0}"
    env = make("g1", 200, links, *PUNCHED)
    hits = torch.zeros(env.num_bodies)
    for _ in range(60):
        forces = env.punches.step(1.0)
        hits += (env.punches.hit.unsqueeze(1) & (forces.norm(dim=-1) > 0.0)).sum(dim=0)
    counts = dict(zip(env.body_names, hits.tolist(), strict=True))
    ankles = [counts.pop(name) for name in ("left_ankle_roll_link", "right_ankle_roll_link")]
    assert counts.pop("pelvis") == 0 and all(counts.pop(name) == 0 for name in list(counts) if "wrist" in name)
    assert min(counts.values()) > 0.0
    assert sum(ankles) / 2.0 == pytest.approx(5.0 * sum(counts.values()) / len(counts), rel=0.2)
    with pytest.raises(ConfigError, match=r"domain_rand\.punch_links: no link is ever hit"):
        make("g1", 1, "domain_rand.punch_links={'': 0.0}", *PUNCHED)
    with pytest.raises(ConfigError, match=r"domain_rand\.punch_links: no link has 'ankel'"):
        make("g1", 1, "domain_rand.punch_links={'': 1.0, 'ankel': 2.0}", *PUNCHED)


def test_what_is_to_come_is_known_before(make: Callable[..., Any]) -> None:
    cfg = LeggedRobotCfg().domain_rand
    cfg.punch_robots, cfg.punch_interval_s, cfg.long_push_share = True, (0.5, 1.0), 0.3
    cfg.long_push_time_range = (0.1, 0.3)
    undisturbed = torch.arange(60) < 20
    punches = Punches(cfg, undisturbed, LINKS, 3, 0.02, torch.Generator().manual_seed(1))
    punches.reset(torch.arange(60))
    assert punches.ahead()[0].isinf().tolist() == undisturbed.tolist()
    told, found = [], []
    for _ in range(200):
        told.append(punches.ahead())
        forces = punches.step(1.0)
        assert forces is not None
        found.append(forces)
    seconds, impulses, bodies = (torch.stack(values) for values in zip(*told, strict=True))
    acting = torch.stack(found)  # (200, 60, 6, 3)
    hit = acting.square().sum(dim=(2, 3)) > 0.0
    begins = hit & ~torch.cat((torch.zeros(1, 60, dtype=torch.bool), hit[:-1]))
    assert begins.sum() > 150
    for step, robot in begins.nonzero().tolist():
        if step < 20 or step > 100:
            continue
        end = step + int((~hit[step:, robot]).nonzero()[0])
        impulse = 0.02 * acting[step:end, robot].sum(dim=(0, 1))
        for before in range(5):
            torch.testing.assert_close(seconds[step - before, robot].item(), 0.02 * (before + 1), rtol=0.0, atol=1e-6)
            torch.testing.assert_close(impulses[step - before, robot], impulse)
            assert acting[step, robot, bodies[step - before, robot]].norm() > 0.0
        torch.testing.assert_close(impulses[step + 1, robot], 0.02 * acting[step + 1 : end, robot].sum(dim=(0, 1)))
        assert seconds[step + 1, robot] == 0.0
    env = make("g1", 3, "observations.privileged=('next_punch',)", *PUNCHED)
    env.punches._vector[:] = torch.tensor([0.0, 250.0, 0.0])
    env.root_states[:, 3:7] = torch.tensor([0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)])  # faces the world's y axis
    seen = env._observe_next_punch()
    torch.testing.assert_close(seen[:, :4], torch.tensor([[0.8, 2.0, 0.0, 0.0]]).expand(3, 4), rtol=0.0, atol=1e-5)
    ankle = env.body_names.index("left_ankle_roll_link")
    env.punches._body[:] = ankle
    assert env._observe_next_punch()[0, 4:].tolist() == pytest.approx([0.0, 0.12, -0.75], abs=0.06)
    mirrored = env.mirror_observations(env.privileged_obs_buf, "critic")[:, env.num_obs :]
    assert (mirrored != env.privileged_obs_buf[:, env.num_obs :]).any(dim=0).nonzero().flatten().tolist() == [2, 5]


def test_a_critic_may_know_the_next_push(make: Callable[..., Any]) -> None:
    switches = (
        "domain_rand.push_robots=True",
        "domain_rand.push_interval_s=(0.3, 0.6)",
        "domain_rand.max_push_ang_vel=0.2",
    )
    env = make("g1", 40, "observations.privileged=('next_push',)", "domain_rand.undisturbed_share=0.5", *switches)
    env.reset()
    undisturbed, pushed = env.randomisation.undisturbed, 0
    for _ in range(60):
        seen = env.privileged_obs_buf[:, env.num_obs :].clone()
        heading = yaw_from_quat(env.root_states[:, 3:7])
        seconds, velocity = (values.clone() for values in env.pushes.ahead())
        assert torch.equal(seconds.isinf(), undisturbed) and not seen[undisturbed].any()
        torch.testing.assert_close(seen[:, 0], (1.0 - seconds).clamp(min=0.0))
        pushes: list[Any] = []
        env.push = lambda env_ids, change, pushes=pushes: pushes.extend(zip(env_ids.tolist(), change, strict=True))
        env.step(torch.zeros(40, 29))
        del env.push
        pushed += len(pushes)
        due = (seconds < 0.021).nonzero().flatten().tolist()
        assert [robot for robot, _ in pushes if robot in due] == [robot for robot, _ in pushes]
        for robot, change in pushes:
            torch.testing.assert_close(change, velocity[robot])
            ahead = torch.tensor([heading[robot].cos(), heading[robot].sin()]) @ change[:2]
            assert seen[robot, 1].item() == pytest.approx(float(ahead), abs=1e-4)
            assert change[:3].norm() <= 1.0 and change[3:].abs().max() <= 0.2
    assert pushed > 30
    mirrored = env.mirror_observations(env.privileged_obs_buf, "critic")[:, env.num_obs :]
    changed = (mirrored != env.privileged_obs_buf[:, env.num_obs :]).any(dim=0)
    assert changed.nonzero().flatten().tolist() == [2, 4, 6]


def test_a_blow_moves_the_robot_and_leaves_the_next_episode_alone(make: Callable[..., Any]) -> None:
    for mode in ("position", "effort"):
        env, calm = make("g1", 2, *PUNCHED, f"control.drive_mode={mode}"), make("g1", 2, f"control.drive_mode={mode}")
        moved = []
        for robots in (env, calm):
            robots.reset()
            robots.root_states[:, 3:7] = torch.tensor([0.0, 0.0, 0.0, 1.0])
            robots._root_changed[:] = True
            for _ in range(11):
                robots.step(torch.zeros(2, 29))
            moved.append(robots.dof_vel.clone())
        assert (moved[0] - moved[1]).abs().amax(dim=1).min() > 0.5
        assert bool(env.punches.hit.all())
        env.reset_idx(torch.tensor([0]))
        env.step(torch.zeros(2, 29))
        assert env.punches.hit.tolist() == [False, True]


def test_rewards_are_forgiven_for_a_while(make: Callable[..., Any]) -> None:
    env = make("g1", 2, "rewards.forgiving_times={'alive': 0.06, 'torques': 0.03}")
    names = [env.reward_names.index(name) for name in ("alive", "torques", "ang_vel_xy")]
    env.push([0], [[0.2, 0.0]])
    earned = []
    for _ in range(4):
        before = env.episode_sums.clone()
        env.step(torch.zeros(2, 29))
        hit, other = (env.episode_sums - before)[names].ne(0.0).T.tolist()
        assert all(other)
        earned.append(hit)
    assert earned == [[False, False, True], [False, True, True], [True, True, True], [True, True, True]]
    with pytest.raises(ConfigError, match=r"rewards\.forgiving_times: .* no reward 'alife'; did you mean 'alive'"):
        make("g1", 1, "rewards.forgiving_times={'alife': 1.0}")
    with pytest.raises(ConfigError, match=r"rewards\.forgiving_times"):
        make("g1", 1, "rewards.forgiving_times={'alive': -1.0}")


def test_arms_go_where_somebody_else_drives_them(make: Callable[..., Any]) -> None:
    lying = ("termination.tilt=4.0", "termination.base_height=-1.0", "termination.reference_tilt=None")
    env = make("g1_cmg", 60, *DRIVEN, *lying, "driven_joints.motions={'walk': 1, 'wander': 1, 'hold': 1}")
    arms = torch.tensor([any(part in name for part in ("shoulder", "elbow", "wrist")) for name in env.dof_names])
    motions = env.driven_joints._motion
    assert set(motions.tolist()) == {0, 1, 2} and (env.driven_joints.driven == arms).all()
    nominal = (env.p_gains / env.nominal_p_gains)[:, arms]
    assert nominal.min() >= 0.35 and nominal.max() <= 1.4 and len(set(nominal[:, 0].tolist())) == 60
    torch.testing.assert_close(env.p_gains[:, ~arms], env.nominal_p_gains[~arms].repeat(60, 1))
    start = env.dof_pos.clone()
    targets = []
    for step in range(25):
        actions = torch.full((60, 29), 0.1 if step % 2 else -0.1)
        sent = env._joint_targets(actions)
        env._joint_targets = lambda actions, sent=sent: sent.clone()
        env.step(actions)
        del env._joint_targets
        # The policy has the others, and none of these.
        torch.testing.assert_close(env.dof_pos_target[:, ~arms], sent[:, ~arms])
        targets.append(env.driven_joints._to.clone())
        if step == 0:
            expected = torch.lerp(start, targets[0], 0.2)
            torch.testing.assert_close(env.dof_pos_target[:, arms], expected[:, arms])
    path = torch.stack(targets)[:, :, arms]
    index, sign = env.mirror_joint_index, env.mirror_joint_sign
    walk, wander, hold = (motions == MOTIONS.index(name) for name in MOTIONS)
    mirrored = torch.stack(targets)[:, :, index] * sign
    torch.testing.assert_close(path[:, walk], mirrored[:, walk][:, :, arms])
    assert (path[:, wander] - mirrored[:, wander][:, :, arms]).abs().max() > 0.3
    assert (path[10] - path[4])[walk].abs().amax(dim=1).min() > 0.05 and (path[-1] - path[0])[hold].abs().max() == 0.0
    assert ((path - env.default_dof_pos[:, arms]).abs() <= 1.0 + 1e-5).all()


def test_rewards_of_the_reference_leave_driven_joints_out(make: Callable[..., Any]) -> None:
    env, own = make("g1_cmg", 2, *DRIVEN), make("g1_cmg", 2)
    elbow, knee = (env.dof_names.index(name) for name in ("left_elbow_joint", "left_knee_joint"))
    for robots, changes in ((env, False), (own, True)):
        before = robots._reward_reference_dof_pos(), robots._reward_reference_dof_vel()
        robots.dof_pos[:, elbow] += 0.5
        robots.dof_vel[:, elbow] += 3.0
        after = robots._reward_reference_dof_pos(), robots._reward_reference_dof_vel()
        for now, earlier in zip(after, before, strict=True):
            assert bool((now < earlier).all()) == changes and bool((now == earlier).all()) != changes
        robots.dof_pos[:, knee] += 0.5
        assert (robots._reward_reference_dof_pos() < before[0]).all()
    env.told_to_stand = torch.ones(2, dtype=torch.bool)
    env.dof_vel[:] = 0.0
    env.dof_vel[:, elbow] = 1.0
    assert env._reward_stand_still().max() == 0.0
    # What is observed is the arm as it is.
    torch.testing.assert_close(env._observe_dof_pos_error(), env.dof_pos - env.reference.dof_pos)


def test_what_cannot_be_driven_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="motions: no motion 'wlak'; did you mean 'walk'"):
        make("g1", 1, "driven_joints.motions={'wlak': 1.0}")
    with pytest.raises(ConfigError, match=r"driven_joints\.joints: no joint has 'tail' in its name"):
        make("g1", 1, "driven_joints.joints=('tail',)")


def test_robots_begin_in_the_standing_pose_on_the_ground(make: Callable[..., Any]) -> None:
    env = make("g1_cmg", 8, "init_state.default_pose_share=1.0")
    torch.testing.assert_close(env.dof_pos, env.default_dof_pos.repeat(8, 1))
    _, soles = env.feet.places(env.dof_pos, env.root_states[:, :3], env.root_states[:, 3:7])
    assert soles.amin(dim=1).abs().max() < 1e-4
    torch.testing.assert_close(env.projected_gravity, torch.tensor([[0.0, 0.0, -1.0]]).repeat(8, 1))
    mixed = make("g1_cmg", 40, "init_state.default_pose_share=0.5")
    share = (mixed.dof_pos == mixed.default_dof_pos).all(dim=1).float().mean()
    assert 0.2 < share < 0.8
    env = make("g1_cmg", 4)
    env.start_in_default_pose(torch.tensor([2]))
    assert (env.dof_pos == env.default_dof_pos).all(dim=1).tolist() == [False, False, True, False]


def test_contacts_of_the_reference_are_rewarded(make: Callable[..., Any]) -> None:
    env = make("g1_cmg", 16, "rewards.scales.reference_contacts=1.0")
    heights = env.reference_feet_heights()
    wanted = env.reference_contacts()
    assert wanted.any(dim=1).all() and not wanted.all()  # robots walk: one foot at least is on the ground
    lower = heights.amin(dim=1, keepdim=True)
    assert not wanted[heights > 0.03].any()
    assert wanted[(heights == lower) & (heights < 0.02)].all() and not wanted[heights > lower + 0.01].any()
    env.feet.contact = wanted.clone()
    assert env._reward_reference_contacts().tolist() == [1.0] * 16
    env.feet.contact[:, 0] = ~wanted[:, 0]
    assert env._reward_reference_contacts().tolist() == [0.5] * 16


@pytest.mark.parametrize(("early_landing", "landed_early"), [(1.0, 1.0), (0.25, 0.625)])
def test_a_foot_that_lands_before_the_references_is_to_stay_there(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, early_landing: float, landed_early: float
) -> None:
    """To lift once more until the reference's lands would be a hop."""
    env = make("g1_cmg", 2, "rewards.scales.reference_contacts=1.0", f"rewards.early_landing={early_landing}")
    lifted = torch.tensor([[False, True], [True, True]])
    monkeypatch.setattr(env, "reference_contacts", lambda: lifted)

    def pays(left_contact: bool, landed_after: float = 0.0) -> float:
        env.feet.contact = torch.tensor([[left_contact, True], [True, True]])
        env.feet._first_contact = env.feet.contact & (torch.tensor([[landed_after, 0.0], [0.0, 0.0]]) > 0.0)
        env.feet._air_time = torch.tensor([[landed_after, 0.0], [0.0, 0.0]])
        return float(env._reward_reference_contacts()[0])

    assert pays(left_contact=False) == 1.0 and pays(left_contact=True) == 0.5  # it drags
    assert pays(left_contact=True, landed_after=0.05) == 0.5  # a touch in passing
    assert pays(left_contact=False) == 1.0
    assert pays(left_contact=True, landed_after=0.3) == pays(left_contact=True) == landed_early
    assert pays(left_contact=False) == 0.5
    lifted[0, 0] = True
    assert pays(left_contact=True) == 1.0
    lifted[0, 0] = False  # the next step
    assert pays(left_contact=False) == 1.0
