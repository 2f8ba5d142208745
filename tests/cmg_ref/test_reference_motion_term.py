"""The term keeps its contract with an environment in every mode."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Callable

import numpy as np
import pytest
import torch

from cmg_ref.commands.sampler import CommandSamplerCfg
from cmg_ref.commands.strata import STRATA
from cmg_ref.core.command_layout import VELOCITY, told_to_stand
from cmg_ref.core.rotations import quat_rotate, yaw_from_quat
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.reference_motion_term import ReferenceMotionTerm, ReferenceMotionTermCfg
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import load_g1
from cmg_ref.trajectories.pool import TrajectoryPoolCfg

MODES = ("pool", "pregenerated", "realtime")
NUM_ENVS = 12
DT = 0.02
FIELDS = ("dof_pos", "dof_vel", "root_pos_w", "root_quat_w", "root_lin_vel_w", "root_ang_vel_w")
JOINTS = load_g1().joint_names
WRISTS = tuple(name for name in JOINTS if "wrist_pitch" in name or "wrist_yaw" in name or "wrist_roll" in name)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def make_term(checkpoint: Checkpoint, mode: str = "realtime", **overrides: Any) -> ReferenceMotionTerm:
    joint_names, num_envs = overrides.pop("joint_names", JOINTS), overrides.pop("num_envs", NUM_ENVS)
    seed, control_dt = overrides.pop("seed", 0), overrides.pop("control_dt", DT)
    settings: dict[str, Any] = {
        "checkpoint": checkpoint,
        "mode": mode,
        "preload_duration": 200 if mode == "pool" else 60,
        "latest_start": 2.0,
        "future_steps": (1, 5),
        "pool": TrajectoryPoolCfg(num_trajectories=16),
        **overrides,
    }
    term = ReferenceMotionTerm(ReferenceMotionTermCfg(**settings), num_envs, control_dt, joint_names, seed=seed)
    term.reset()
    return term


def shown(term: ReferenceMotionTerm) -> dict[str, torch.Tensor]:
    return {name: getattr(term, name).clone() for name in (*FIELDS, "key_body_pos_b", "commands")}


@pytest.mark.parametrize("mode", MODES)
def test_shapes_and_values(checkpoint: Checkpoint, mode: str) -> None:
    term = make_term(checkpoint, mode)
    for _ in range(30):
        term.step()
    shapes = {"dof_pos": 29, "dof_vel": 29, "root_pos_w": 3, "root_quat_w": 4, "root_lin_vel_w": 3, "root_ang_vel_w": 3}
    frames = term.generator.get_frames()
    for name, size in shapes.items():
        assert getattr(term, name).shape == (NUM_ENVS, size)
        torch.testing.assert_close(getattr(term, name), getattr(frames, name))
    assert term.commands.shape == term.target_commands.shape == (NUM_ENVS, 3)
    torch.testing.assert_close(term.root_states, term.generator.root_states)
    torch.testing.assert_close(term.root_quat_w.norm(dim=1), torch.ones(NUM_ENVS))
    assert bool(((term.root_pos_w[:, 2] > 0.5) & (term.root_pos_w[:, 2] < 0.95)).all())


@pytest.mark.parametrize("mode", MODES)
def test_future_comes_true(checkpoint: Checkpoint, mode: str) -> None:
    term = make_term(checkpoint, mode, resample_commands=False)
    planned, further = term.future(), term.future((7, 0))
    assert planned.dof_pos.shape == (NUM_ENVS, 2, 29)
    for name in FIELDS:
        torch.testing.assert_close(getattr(further, name)[:, 1], getattr(term, name))
    for step in range(1, 8):
        term.step()
        frames, column = (planned, {1: 0, 5: 1}.get(step)) if step != 7 else (further, 0)
        for name in FIELDS if column is not None else ():
            torch.testing.assert_close(getattr(term, name), getattr(frames, name)[:, column], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("control_dt", [0.02, 0.013])
@pytest.mark.parametrize("mode", MODES)
def test_joint_angles_are_read_further_ahead(
    checkpoint: Checkpoint, mode: str, control_dt: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"control_dt": control_dt, "future_steps": (1,), "future_joint_steps": (1, 6, 24)}
    term = make_term(checkpoint, mode, resample_commands=False, **settings)
    ahead = term.future_dof_pos
    assert ahead.shape == (NUM_ENVS, 3, 29)
    torch.testing.assert_close(ahead, term.generator.future((1, 6, 24)).dof_pos)
    monkeypatch.setattr(term.generator.buffer.store, "by_numba", False)
    term.generator._shown.reader.forget()
    torch.testing.assert_close(ahead, term.generator.window((0,), (1, 6, 24))[1], atol=1e-6, rtol=0.0)
    for _ in range(24):
        term.step()
    torch.testing.assert_close(term.dof_pos, ahead[:, 2], atol=1e-4, rtol=0.0)
    assert not torch.allclose(term.future_dof_pos, ahead, atol=1e-3)


def test_configured_future_steps_in_any_order(checkpoint: Checkpoint) -> None:
    term = make_term(checkpoint, future_steps=(1, 2, 4))
    for steps in ((1, 2, 4), (2, 4), (0, 1), (4, 1), (2, 2)):
        frames, expected = term.future(steps), term.generator.future(steps)
        for name in FIELDS:
            torch.testing.assert_close(getattr(frames, name), getattr(expected, name))


@pytest.mark.parametrize("mode", MODES)
def test_reset_of_a_subset_leaves_the_others_bit_identical(checkpoint: Checkpoint, mode: str) -> None:
    # Without resampling, for the draws of all environments come from one stream.
    terms = [make_term(checkpoint, mode, resample_commands=False) for _ in range(2)]
    subset, others = torch.tensor([1, 4, 5]), torch.tensor([0, 2, 3, 6, 7, 8, 9, 10, 11])
    for step in range(40):
        if step in (7, 20):
            terms[0].reset(subset, root_pose=torch.ones(3, 3))
        first, second = shown(terms[0]), shown(terms[1])
        for name in first:
            assert torch.equal(first[name][others], second[name][others]), (step, name)
        for term in terms:
            term.step()
    assert not torch.equal(terms[0].dof_pos[subset], terms[1].dof_pos[subset])


@pytest.mark.parametrize("mode", MODES)
def test_standing_starts_of_half_leave_the_others_alone(checkpoint: Checkpoint, mode: str) -> None:
    terms = [make_term(checkpoint, mode, resample_commands=False) for _ in range(2)]
    half = NUM_ENVS // 2
    for step in range(40):
        if step in (7, 20):
            terms[0].reset(torch.arange(half), standing=True)
        torch.testing.assert_close(terms[0].dof_pos[half:], terms[1].dof_pos[half:], atol=1e-5, rtol=0.0)
        for term in terms:
            term.step()


@pytest.mark.parametrize("mode", MODES)
def test_motion_begins_at_its_place_in_the_world(checkpoint: Checkpoint, mode: str) -> None:
    term = make_term(checkpoint, mode)
    mask = torch.arange(NUM_ENVS) % 3 == 1
    place = torch.stack((torch.arange(4.0), -torch.arange(4.0), torch.linspace(-3.0, 3.0, 4)), dim=1)
    term.reset(mask, root_pose=place)
    dof_pos, dof_vel, root_states = term.initial_state(mask)
    assert dof_pos.shape == dof_vel.shape == (4, 29)
    assert root_states.shape == (4, 13)
    torch.testing.assert_close(root_states[:, :2], place[:, :2], atol=1e-4, rtol=0.0)
    torch.testing.assert_close(yaw_from_quat(root_states[:, 3:7]), place[:, 2], atol=1e-4, rtol=0.0)
    torch.testing.assert_close(dof_pos, term.dof_pos[mask])


@pytest.mark.parametrize("mode", MODES)
def test_moved_motion_goes_on_the_same(checkpoint: Checkpoint, mode: str) -> None:
    term, unmoved = (make_term(checkpoint, mode) for _ in range(2))
    for _ in range(10):
        term.step()
        unmoved.step()
    env_ids = torch.tensor([2, 3])
    term.set_root_pose(env_ids, torch.tensor([[5.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    torch.testing.assert_close(term.root_pos_w[2, :2], torch.tensor([5.0, 1.0]))
    turn = term.root_quat_w[2], unmoved.root_quat_w[2]
    angle = yaw_from_quat(turn[0]) - yaw_from_quat(turn[1])
    for _ in range(10):
        term.step()
        unmoved.step()
    torch.testing.assert_close(term.dof_pos, unmoved.dof_pos)
    torch.testing.assert_close(term.root_pos_w[4:], unmoved.root_pos_w[4:])
    vx, vy = unmoved.root_lin_vel_w[2, 0], unmoved.root_lin_vel_w[2, 1]
    expected = torch.stack((vx * angle.cos() - vy * angle.sin(), vx * angle.sin() + vy * angle.cos()))
    torch.testing.assert_close(term.root_lin_vel_w[2, :2], expected, atol=1e-4, rtol=0.0)


def test_key_bodies_by_exact_kinematics(checkpoint: Checkpoint) -> None:
    bodies = ("left_ankle_roll_link", "torso_link", "right_wrist_yaw_link")
    term = make_term(checkpoint, joint_names=tuple(reversed(JOINTS)), key_bodies=bodies)
    in_order = term.dof_pos.flip(1)
    kinematics = ForwardKinematics(load_g1(), bodies)
    torch.testing.assert_close(term.key_body_pos_b, kinematics.positions(in_order))
    expected = kinematics.positions(in_order, term.root_pos_w, term.root_quat_w)
    torch.testing.assert_close(term.key_body_pos_w, expected)
    future = term.future()
    assert term.key_body_positions(future.dof_pos).shape == (NUM_ENVS, 2, 3, 3)
    term.step()
    torch.testing.assert_close(term.key_body_pos_b, kinematics.positions(term.dof_pos.flip(1)))


def test_robot_without_wrists(checkpoint: Checkpoint) -> None:
    assert len(WRISTS) == 6
    names = tuple(name for name in JOINTS if name not in WRISTS)
    term = make_term(checkpoint, joint_names=names, drop_joints=WRISTS)
    assert term.dof_pos.shape == (NUM_ENVS, 23)
    whole = make_term(checkpoint)
    columns = [JOINTS.index(name) for name in names]
    torch.testing.assert_close(term.dof_pos, whole.dof_pos[:, columns])
    straight = whole.dof_pos.clone()
    straight[:, [JOINTS.index(name) for name in WRISTS]] = 0.0
    torch.testing.assert_close(term.key_body_pos_b, whole.key_body_positions(straight))


def test_a_pool_generates_nothing_at_a_reset(checkpoint: Checkpoint) -> None:
    term = make_term(checkpoint, "pool", pool=TrajectoryPoolCfg(num_trajectories=16, regenerate_frames_per_step=0))
    before = term.generator.get_performance_stats()["frames_generated"]
    for _ in range(20):
        term.reset(torch.tensor([0, 3, 8]))
        term.step()
        assert bool(torch.isfinite(term.dof_pos).all())
    assert term.generator.get_performance_stats()["frames_generated"] == before


def test_a_pool_begins_at_random_times(checkpoint: Checkpoint) -> None:
    term = make_term(checkpoint, "pool", num_envs=64)
    moving = term.dof_pos[term.dof_vel.abs().amax(dim=1) > 0.0]
    assert len(moving) > 40
    assert len(torch.unique(moving, dim=0)) > 0.9 * len(moving)  # of 16 trajectories


@pytest.mark.parametrize("mode", MODES)
def test_given_commands_stay_until_the_next_reset(checkpoint: Checkpoint, mode: str) -> None:
    quick = CommandSamplerCfg(resampling_time=(0.2, 0.4), standing_share=0.0)
    term = make_term(checkpoint, mode, command_sampler=quick, resampling_interval=5)
    given = torch.tensor([[0.7, 0.1, 0.2], [0.0, 0.0, 0.9]])
    term.set_commands(given, torch.tensor([1, 2]))
    term.reset(torch.tensor([3, 4]), commands=given)
    changed = torch.zeros(NUM_ENVS, dtype=torch.bool)
    before = term.target_commands.clone()
    for _ in range(60):
        term.step()
        changed |= (term.target_commands != before).any(dim=1)
        torch.testing.assert_close(term.target_commands[1:5], given.repeat(2, 1))
    torch.testing.assert_close(term.commands[1:5], given.repeat(2, 1))
    assert bool(changed[5:].all())
    term.reset(torch.tensor([1, 3]))
    for _ in range(60):
        term.step()
    assert not torch.equal(term.target_commands[[1, 3]], given)


@pytest.mark.parametrize("mode", MODES)
def test_no_resampling_keeps_the_commands(checkpoint: Checkpoint, mode: str) -> None:
    term = make_term(checkpoint, mode, resample_commands=False)
    before = term.target_commands.clone()
    for _ in range(150):
        term.step()
    assert torch.equal(term.target_commands, before)


@pytest.mark.parametrize("mode", MODES)
def test_motion_goes_on_smoothly_through_changes_of_command(checkpoint: Checkpoint, mode: str) -> None:
    quick = CommandSamplerCfg(resampling_time=(0.3, 0.6))
    term = make_term(checkpoint, mode, command_sampler=quick)
    dof_pos, dof_vel, places, commands = [], [], [], []
    for step in range(120):
        if step in (30, 75):
            term.set_commands(torch.tensor([[1.0, 0.0, 0.0], [-0.4, 0.0, 0.0]]), torch.tensor([step % 7, 9]))
        dof_pos.append(term.dof_pos.clone())
        dof_vel.append(term.dof_vel.clone())
        places.append(term.root_pos_w.clone())
        commands.append(term.commands.clone())
        term.step()
    position, velocity = torch.stack(dof_pos), torch.stack(dof_vel)
    error = (position[1:] - position[:-1]) / DT - 0.5 * (velocity[1:] + velocity[:-1])
    lowest, highest = (
        limit[checkpoint.layout["dof_pos"]] for limit in (checkpoint.model.state_min, checkpoint.model.state_max)
    )
    held = (position[1:] <= lowest + 1e-5) | (position[1:] >= highest - 1e-5)  # by the guard, whatever the velocity
    assert held.float().mean() < 0.01
    assert error[~held].abs().max() < 0.6  # [rad/s]: a jump of the pose would be tens of rad/s
    assert torch.stack(places).diff(dim=0).norm(dim=-1).max() / DT < 4.0
    # A command ramps for half a second, from what an initial state was doing at first, so that it moves by at most a
    # 25th of the trained range in a step.
    largest = torch.stack(commands).diff(dim=0).abs().amax(dim=(0, 1))
    assert largest.le((checkpoint.command_max - checkpoint.command_min)[VELOCITY] / 25 + 1e-5).all()


@pytest.mark.parametrize("mode", MODES)
def test_start_from_standing(checkpoint: Checkpoint, mode: str) -> None:
    term = make_term(checkpoint, mode, resample_commands=False)
    env_ids, walk = torch.tensor([2, 7]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.3, 0.0]])
    term.reset(env_ids, commands=walk, standing=True)
    assert float(term.dof_vel[env_ids].abs().max()) == 0.0
    assert float(term.root_lin_vel_w[env_ids].abs().max()) < 0.1
    path = []
    for _ in range(30):
        path.append(term.commands[env_ids].clone())
        term.step()
    share = (torch.arange(30.0) / 25).clamp(max=1.0)
    torch.testing.assert_close(torch.stack(path), share.view(-1, 1, 1) * walk, atol=1e-5, rtol=0.0)
    for _ in range(70):
        term.step()
    assert float(forward_speed(term, env_ids[0])) > 0.6  # [m/s] under way by then


def forward_speed(term: ReferenceMotionTerm, env_id: torch.Tensor) -> torch.Tensor:
    """Forward speed of an environment's reference."""
    ahead = quat_rotate(term.root_quat_w[env_id], torch.tensor([1.0, 0.0, 0.0]))
    return (term.root_lin_vel_w[env_id] * ahead).sum()


@pytest.mark.parametrize("mode", MODES)
def test_share_of_standing_starts(checkpoint: Checkpoint, mode: str) -> None:
    runs = CommandSamplerCfg(strata={"run": 1.0})
    overrides: dict[str, Any] = {"command_sampler": runs, "num_envs": 60, "pool": TrajectoryPoolCfg(40)}
    everyone = make_term(checkpoint, mode, standing_starts=1.0, **overrides)
    assert float((everyone.commands.abs().sum(dim=1) < 0.5).float().mean()) > 0.99
    assert float((everyone.target_commands[:, 0] > 1.0).float().mean()) > 0.99
    nobody = make_term(checkpoint, mode, standing_starts=0.0, **overrides)
    assert float((nobody.target_commands[:, 0] > 1.0).float().mean()) > (0.3 if mode == "pool" else 0.99)


def test_what_fails_is_drawn_more_often(checkpoint: Checkpoint) -> None:
    term = make_term(checkpoint, resample_commands=False)
    strata = term.sampler.strata
    assert strata is not None
    before = strata.chances().sum(dim=1)
    term.set_commands(torch.tensor([[-0.4, 0.0, 0.0]]).repeat(NUM_ENVS, 1))
    for _ in range(20):
        term.report_failures(torch.arange(NUM_ENVS))
    term.set_commands(torch.tensor([[0.8, 0.0, 0.0]]).repeat(NUM_ENVS, 1))
    for _ in range(120):  # two reports of survival
        term.step()
    rates = strata.failure_rates()
    assert float(strata.reports[STRATA.index("forward")].sum()) == pytest.approx(2 * NUM_ENVS, rel=0.02)
    assert float(rates[STRATA.index("forward")].min()) == pytest.approx(2 / (2 + 2 * NUM_ENVS), rel=0.02)
    after = strata.chances().sum(dim=1)
    assert float(after[STRATA.index("backward")]) > float(before[STRATA.index("backward")])
    assert float(after[STRATA.index("forward")]) < float(before[STRATA.index("forward")])


@pytest.mark.parametrize("mode", MODES)
def test_same_seed_same_motion(checkpoint: Checkpoint, mode: str) -> None:
    quick = CommandSamplerCfg(resampling_time=(0.2, 0.6))
    terms = [make_term(checkpoint, mode, seed=seed, command_sampler=quick) for seed in (3, 3, 4)]
    for step in range(50):
        if step == 20:
            for term in terms:
                term.reset(torch.tensor([1, 2]))
        for term in terms:
            term.step()
    first, second, other = (shown(term) for term in terms)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert not torch.equal(first["dof_pos"], other["dof_pos"])


def test_draws_go_on_after_a_resume(checkpoint: Checkpoint) -> None:
    term, resumed = make_term(checkpoint, seed=1), make_term(checkpoint, seed=2)
    term.report_failures(torch.arange(NUM_ENVS))
    resumed.load_state_dict(term.state_dict())
    assert torch.equal(term.sampler.sample(100), resumed.sampler.sample(100))


def test_other_control_rate(checkpoint: Checkpoint) -> None:
    term = make_term(checkpoint, control_dt=0.013, resample_commands=False)
    planned = term.future()
    for _ in range(5):
        term.step()
    torch.testing.assert_close(term.dof_pos, planned.dof_pos[:, 1], atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("from_standing", [None, True, False])
def test_the_pool_is_as_its_configuration_says(checkpoint: Checkpoint, from_standing: bool | None) -> None:
    pool = TrajectoryPoolCfg(num_trajectories=16, from_standing=from_standing, resampling_time=(0.3, 0.3))
    term = make_term(checkpoint, "pool", pool=pool, standing_starts=0.0)
    plan = term.generator.buffer.commands
    begin_from_standing = told_to_stand(plan.starts[:16, 0])
    assert bool(begin_from_standing.all()) == bool(from_standing)
    assert (plan.first_frames[:16].diff(dim=1) == 15).all()


def test_fields_of_one_name_reach_the_generator(checkpoint: Checkpoint) -> None:
    cfg = ReferenceMotionTermCfg(
        checkpoint, "pool", preload_duration=90, buffer_size=48, storage_dtype=torch.float16, drop_joints=("a",)
    )
    asked = cfg.generator_cfg(40, 0.02, ("b",), checkpoint.fps, seed=7)
    assert (asked.preload_duration, asked.buffer_size, asked.storage_dtype) == (90, 48, torch.float16)
    assert (asked.drop_joints, asked.joint_names, asked.seed, asked.num_envs) == (("a",), ("b",), 7, 40)
    assert asked.mode == "pregenerated" and asked.pool is not None and asked.pool.num_trajectories == 64
    assert replace(cfg, mode="realtime").generator_cfg(40, 0.02, (), checkpoint.fps).pool is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"mode": "real-time"}, "mode must be one of"),
        ({"future_steps": (0, 1)}, "future_steps must be rising"),
        ({"future_steps": (5, 1)}, "future_steps must be rising"),
        ({"future_steps": (1, 500), "buffer_size": 50}, "future_steps reach 500"),
        ({"future_joint_steps": (0,)}, "future_joint_steps must be rising"),
        ({"future_joint_steps": (1, 500), "buffer_size": 50}, "future_joint_steps reach 500"),
        ({"key_bodies": ("left_toe",)}, "left_toe"),
        ({"joint_names": ("left_hip_joint",)}, "left_hip_joint"),
        ({"joint_names": JOINTS[:-1]}, "right_wrist_yaw_joint"),
        ({"resampling_interval": 0}, "resampling_interval"),
        ({"ramp_time": -1.0}, "ramp_time"),
        ({"standing_starts": 1.5}, "standing_starts"),
        ({"command_sampler": CommandSamplerCfg(strata={"jump": 1.0})}, "no stratum 'jump'"),
        ({"pool": TrajectoryPoolCfg(uses=0)}, "uses"),
        ({"pool": TrajectoryPoolCfg(from_standing=False)}, "standing_starts=0.1 needs trajectories that begin from"),
        ({"pool": TrajectoryPoolCfg(resampling_time=(1.0, 2.0)), "resample_commands": False}, "resampling_time says"),
    ],
)
def test_impossible_settings_are_named(checkpoint: Checkpoint, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_term(checkpoint, **overrides)


def test_impossible_calls_are_named(checkpoint: Checkpoint) -> None:
    term = make_term(checkpoint)
    env_ids = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="commands must have shape"):
        term.set_commands(torch.zeros(3, 3), env_ids)
    with pytest.raises(ValueError, match="commands holds NaN"):
        term.reset(env_ids, commands=torch.tensor([[0.0, math.nan, 0.0]] * 2))
    with pytest.raises(ValueError, match="root_pose must have shape"):
        term.reset(env_ids, root_pose=torch.zeros(2, 2))
    with pytest.raises(ValueError, match="root_pose must have shape"):
        term.set_root_pose(env_ids, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="future: steps"):
        term.future((1000,))
    with pytest.raises(ValueError, match="dof_pos has"):
        term.key_body_positions(torch.zeros(4, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda term: term.reset([NUM_ENVS]), "env_ids must lie in"),
        (lambda term: term.reset([0, 0]), "env_ids holds 0 more than once"),
        (lambda term: term.reset([0.5]), "env_ids must be whole numbers"),
        (lambda term: term.reset([0], commands=[[0.0, 0.0]]), r"commands must have shape \(1, 3\)"),
        (lambda term: term.reset([0], root_pose=[[0.0, 0.0]]), r"root_pose must have shape \(1, 3\)"),
        (lambda term: term.set_commands([[0.0, 0.0, float("nan")]], [0]), "commands holds NaN"),
        (lambda term: term.set_root_pose([-1], [[0.0, 0.0, 0.0]]), "env_ids must lie in"),
        (lambda term: term.report_failures([True]), "env_ids: a mask must have"),
        (lambda term: term.initial_state([NUM_ENVS]), "env_ids must lie in"),
        (lambda term: term.future((1.5,)), "future: steps must be a whole number"),
    ],
)
def test_what_does_not_fit_is_named(call: Callable[[ReferenceMotionTerm], object], message: str) -> None:
    cfg = ReferenceMotionTermCfg(mode="realtime")
    term = ReferenceMotionTerm(cfg, NUM_ENVS, 0.02, load_g1().joint_names)
    before = term.root_states.clone(), term.target_commands.clone()
    with pytest.raises(ValueError, match=message):
        call(term)
    assert torch.equal(term.root_states, before[0]) and torch.equal(term.target_commands, before[1])


def test_a_term_takes_lists_arrays_and_masks_of_bytes() -> None:
    cfg = ReferenceMotionTermCfg(mode="realtime")
    term = ReferenceMotionTerm(cfg, NUM_ENVS, 0.02, load_g1().joint_names)
    term.reset(np.arange(NUM_ENVS), commands=[[0.5, 0.0, 0.0]] * NUM_ENVS)
    mask = torch.zeros(NUM_ENVS, dtype=torch.uint8)
    mask[2] = 1
    term.set_commands([[1, 0, 0]], mask)
    assert term.target_commands[:, 0].tolist() == [1.0 if env == 2 else 0.5 for env in range(NUM_ENVS)]
    assert term.future((np.int64(3),)).dof_pos.shape == (NUM_ENVS, 1, 29)
