from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from configs.base_config import ConfigError
from configs.legged_robot_config import LeggedRobotCfg
from envs.base.domain_randomisation import DomainRandomisation

SWITCHES = ("friction", "base_mass", "link_mass", "com", "gains", "delay", "strength")
BODIES = ["pelvis", *(f"link_{index}" for index in range(28)), "torso_link"]


def randomised(env: Any) -> dict[str, list[list[float]]]:
    """What the simulator itself says about every robot."""
    values: dict[str, list[list[float]]] = {name: [] for name in ("friction", "mass", "com", "stiffness", "damping")}
    for env_handle, actor in zip(env.envs, env.actor_handles, strict=True):
        bodies = env.gym.get_actor_rigid_body_properties(env_handle, actor)
        dofs = env.gym.get_actor_dof_properties(env_handle, actor)
        shapes = env.gym.get_actor_rigid_shape_properties(env_handle, actor)
        values["friction"].append([shape.friction for shape in shapes])
        values["mass"].append([body.mass for body in bodies])
        values["com"].append([bodies[0].com.x, bodies[0].com.y, bodies[0].com.z])
        values["stiffness"].append(dofs["stiffness"].tolist())
        values["damping"].append(dofs["damping"].tolist())
    return values


def test_every_robot_is_different_in_the_simulator(make: Callable[..., Any]) -> None:
    env = make("g1", 5, calm=False)
    plain = make("g1", 1)
    base = randomised(plain)
    for name, rows in randomised(env).items():
        distinct = {tuple(row) for row in rows}
        assert len(distinct) == 5, name
        assert tuple(base[name][0]) not in distinct, name
    friction = [row[0] for row in randomised(env)["friction"]]
    assert 0.4 <= min(friction) < max(friction) <= 1.2
    assert len(set(env.delay_share.flatten().tolist())) == 5
    # What rewards and torques are computed with is what the simulator has.
    torch.testing.assert_close(torch.tensor(randomised(env)["stiffness"]), env.p_gains, rtol=1e-6, atol=0.0)


def test_switched_off_every_robot_is_the_same(make: Callable[..., Any]) -> None:
    for name, rows in randomised(make("g1", 3)).items():
        assert len({tuple(row) for row in rows}) == 1, name


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_acts_by_itself(make: Callable[..., Any], switch: str) -> None:
    """A robot that is randomised in one way behaves differently from one that is not."""
    moved = []
    for value in (False, True):
        env = make("g1", 3, f"domain_rand.randomize_{switch}={value}", "domain_rand.delay_range=(0.005, 0.015)")
        env.reset()
        env.root_states[:, 3:7] = torch.tensor([0.0, 0.0, 0.0, 1.0])
        env.root_states[:, 7] = 1.0
        env._root_changed[:] = True
        for _ in range(10):
            env.step(torch.full((3, 29), 0.5))
        moved.append(env.dof_pos.clone())
    assert (moved[0] - moved[0][:1]).abs().max() < 1e-5
    assert (moved[1] - moved[1][:1]).abs().max() > 1e-4
    assert (moved[1] - moved[0]).abs().max() > 1e-4


def test_masses_are_scaled_and_added(make: Callable[..., Any]) -> None:
    overrides = ("domain_rand.link_mass_scale_range=(1.1, 1.1)", "domain_rand.added_mass_range=(2.0, 2.0)")
    switches = ("domain_rand.randomize_link_mass=True", "domain_rand.randomize_base_mass=True")
    heavy, plain = make("g1", 1, *overrides, *switches), make("g1", 1)
    heavy_mass, mass = (torch.tensor(randomised(env)["mass"][0]) for env in (heavy, plain))
    expected = 1.1 * mass
    expected[0] += 2.0
    torch.testing.assert_close(heavy_mass, expected)
    # The feet carry it.
    for env in (heavy, plain):
        for _ in range(25):
            env.step(torch.zeros(1, 29))
    weights = [9.81 * float(values.sum()) for values in (heavy_mass, mass)]
    carried = [float(env.contact_forces[0, env.feet_indices, 2].sum()) for env in (heavy, plain)]
    assert carried[0] - carried[1] == pytest.approx(weights[0] - weights[1], rel=0.3)


def test_a_curriculum_begins_with_equal_robots_and_ends_with_those_drawn(make: Callable[..., Any]) -> None:
    stages = "curriculum.stages=((1.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.5, 1.0), (1.0, 0.0, 1.0, 1.0))"
    env, whole = make("g1", 3, stages, calm=False), randomised(make("g1", 3, calm=False))
    first = randomised(env)
    for name, rows in first.items():
        assert len({tuple(row) for row in rows}) == 1, name
    assert env.delay_share.abs().max() == 0.0
    env.curriculum.stage = 1
    env._apply_curriculum()
    for name, rows in randomised(env).items():
        middle = 0.5 * (torch.tensor(first[name]) + torch.tensor(whole[name]))
        torch.testing.assert_close(torch.tensor(rows), middle, rtol=1e-5, atol=1e-6)
    env.curriculum.stage = 2
    env._apply_curriculum()
    for name, rows in randomised(env).items():
        torch.testing.assert_close(torch.tensor(rows), torch.tensor(whole[name]), rtol=1e-5, atol=1e-6)
    # The simulator steps with what it was told.
    env.step(torch.zeros(3, 29))
    stiffness = torch.from_numpy(env.sim.batch.expand("actuator_gainprm")[:, :, 0].copy()).float()
    torch.testing.assert_close(stiffness, env.p_gains, rtol=1e-6, atol=0.0)


def test_switching_one_off_leaves_the_others_as_they_are() -> None:
    cfg, other = LeggedRobotCfg().domain_rand, LeggedRobotCfg().domain_rand
    other.randomize_base_mass = False
    drawn, fewer = (DomainRandomisation(each, 6, BODIES, 29, torch.Generator().manual_seed(3)) for each in (cfg, other))
    assert drawn.added_mass.abs().min() > 0.0 and fewer.added_mass.abs().max() == 0.0
    for name in ("friction", "link_mass_scale", "com_displacement", "stiffness_scale", "damping_scale", "delay"):
        torch.testing.assert_close(getattr(drawn, name), getattr(fewer, name), rtol=0.0, atol=0.0)


def test_mild_robots_differ_by_a_part_of_what_others_do() -> None:
    cfg, other = LeggedRobotCfg().domain_rand, LeggedRobotCfg().domain_rand
    other.mild_share, other.mild_level = 0.5, 0.25
    whole, some = (DomainRandomisation(each, 40, BODIES, 29, torch.Generator().manual_seed(3)) for each in (cfg, other))
    neutral = {"friction": sum(cfg.friction_range) / 2.0, "delay": 0.0, "stiffness_scale": 1.0, "added_mass": 0.0}
    mild = some.added_mass != whole.added_mass
    assert 10 < int(mild.sum()) < 30
    for name, middle in neutral.items():
        drawn, found = whole.drawn(name), some.drawn(name)
        torch.testing.assert_close(found[~mild], drawn[~mild], rtol=0.0, atol=0.0)
        torch.testing.assert_close(found[mild], middle + 0.25 * (drawn[mild] - middle))


def test_impossible_ranges_are_refused() -> None:
    cfg = LeggedRobotCfg().domain_rand
    cfg.friction_range = (1.0, 0.5)
    with pytest.raises(ValueError, match=r"friction_range: 1\.0 is above 0\.5"):
        DomainRandomisation(cfg, 1, BODIES, 1, torch.Generator())
    cfg = LeggedRobotCfg().domain_rand
    cfg.delay_range = (-0.01, 0.03)
    with pytest.raises(ValueError, match=r"delay_range: a delay cannot be negative, got -0\.01 s"):
        DomainRandomisation(cfg, 1, BODIES, 1, torch.Generator())
    cfg = LeggedRobotCfg().domain_rand
    cfg.payloads = {"torso": (0.0, 1.0)}
    with pytest.raises(ConfigError, match="payloads: no body 'torso'; did you mean 'torso_link'"):
        DomainRandomisation(cfg, 1, BODIES, 1, torch.Generator())


def test_a_payload_a_weak_motor_and_an_environment_changed_by_hand(make: Callable[..., Any]) -> None:
    payloads = "domain_rand.payloads={'torso_link': (2.0, 2.0), 'left_wrist_yaw_link': (0.5, 0.5)}"
    weak = ("domain_rand.randomize_strength=True", "domain_rand.strength_range=(0.5, 0.5)")
    env, plain = make("g1", 2, payloads, *weak), make("g1", 2)
    added = torch.tensor(randomised(env)["mass"]) - torch.tensor(randomised(plain)["mass"])
    expected = torch.zeros(env.num_bodies)
    expected[env.body_names.index("torso_link")], expected[env.body_names.index("left_wrist_yaw_link")] = 2.0, 0.5
    torch.testing.assert_close(added, expected.repeat(2, 1), rtol=0.0, atol=1e-5)
    for name in ("stiffness", "damping"):
        torch.testing.assert_close(
            torch.tensor(randomised(env)[name]), 0.5 * torch.tensor(randomised(plain)[name]), rtol=1e-6, atol=0.0
        )
    effort = env.gym.get_actor_dof_properties(env.envs[0], env.actor_handles[0])["effort"]
    torch.testing.assert_close(torch.tensor(effort.copy()), 0.5 * plain.torque_limits)

    own = {name: env.randomisation.drawn(name)[1:] for name in ("payload", "strength", "delay")}
    changed = {
        "payload": torch.zeros(1, env.num_bodies),
        "strength": torch.ones(1, 1),
        "delay": torch.full((1, 1), 0.04),
        "gravity_bias": torch.full((1, 3), 0.03),
    }
    env.change_robots(torch.tensor([1]), **changed)
    masses = torch.tensor(randomised(env)["mass"])
    torch.testing.assert_close(masses[1], torch.tensor(randomised(plain)["mass"][1]))
    torch.testing.assert_close(masses[0] - masses[1], expected, rtol=0.0, atol=1e-5)
    assert env.delay_share.flatten().tolist() == [0.0, 2.0]
    env.step(torch.zeros(2, 29))
    columns = slice(3, 6)  # gravity, after the angular velocity
    torch.testing.assert_close(env.obs_buf[1, columns] - env.privileged_obs_buf[1, columns], torch.full((3,), 0.03))
    torch.testing.assert_close(env.obs_buf[0], env.privileged_obs_buf[0, : env.num_obs])
    env.change_robots(torch.tensor([1]), **own)
    torch.testing.assert_close(torch.tensor(randomised(env)["mass"])[1], masses[0])
