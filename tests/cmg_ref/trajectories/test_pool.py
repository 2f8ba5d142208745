"""The pool of pregenerated mode: resets without forward passes, renewal within a budget, going on without a jump."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg
from cmg_ref.core.command_layout import VELOCITY
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.trajectories.pool import TrajectoryPoolCfg
from cmg_ref.trajectories.supply.pooled import PooledSupply

NUM_ENVS = 12


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def make(checkpoint: Checkpoint, num_envs: int = NUM_ENVS, **overrides: Any) -> CMGMotionGenerator:
    pool_settings: dict[str, Any] = {"num_trajectories": 16, "regenerate_frames_per_step": 0}
    pool_settings.update({name: overrides.pop(name) for name in list(overrides) if hasattr(TrajectoryPoolCfg, name)})
    settings: dict[str, Any] = {"preload_duration": 120, "buffer_size": 40, "seed": 3, **overrides}
    cfg = CommandSamplerCfg(resampling_time=(0.6, 1.2))
    sampler = CommandSampler(num_envs, cfg, settings.get("control_dt", 0.02), seed=5)
    pool = TrajectoryPoolCfg(**pool_settings)
    return CMGMotionGenerator(checkpoint, num_envs, pool=pool, command_sampler=sampler, **settings)


def supply_of(generator: CMGMotionGenerator) -> PooledSupply:
    assert isinstance(generator._shown.supply, PooledSupply)
    return generator._shown.supply


def assert_smooth(frames: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], control_dt: float) -> None:
    """Joint angles, velocities and root positions that go on without a jump."""
    dof_pos, dof_vel, root = (torch.stack(parts) for parts in zip(*frames))
    step = (dof_pos[1:] - dof_pos[:-1]) / control_dt - 0.5 * (dof_vel[1:] + dof_vel[:-1])
    assert step.abs().max() < 0.6  # [rad/s]: a jump of the pose would be tens of rad/s
    assert ((root[1:] - root[:-1]).norm(dim=-1) / control_dt).max() < 4.0


def shown(generator: CMGMotionGenerator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    now = generator.get_frames()
    return now.dof_pos, now.dof_vel, now.root_pos_w


def test_reset_generates_nothing_and_leaves_the_others_bit_identical(checkpoint: Checkpoint) -> None:
    generator, undisturbed = make(checkpoint), make(checkpoint)
    subset, others = torch.tensor([1, 4]), torch.tensor([i for i in range(NUM_ENVS) if i not in (1, 4)])
    for step in range(60):
        if step in (7, 31):
            before = generator.rollout.frame_count
            generator.reset(subset, start_frames="random")
            assert generator.rollout.frame_count == before
        a, b = generator.get_frames(), undisturbed.get_frames()
        for field in fields(a):
            assert torch.equal(getattr(a, field.name)[others], getattr(b, field.name)[others]), (step, field.name)
        generator.advance()
        undisturbed.advance()
    assert not torch.equal(generator.get_motion()[0][subset], undisturbed.get_motion()[0][subset])


@pytest.mark.parametrize("control_dt", [0.02, 0.013])
def test_end_of_a_trajectory_is_passed_without_a_jump(checkpoint: Checkpoint, control_dt: float) -> None:
    generator = make(checkpoint, control_dt=control_dt)
    frames, commands = [], []
    for _ in range(round(1.5 * 120 * 0.02 / control_dt)):
        frames.append(shown(generator))
        commands.append(generator.commands)
        generator.advance()
    assert supply_of(generator).num_private == NUM_ENVS
    assert_smooth(frames, control_dt)
    # Commands ramp to the next ones of their schedule, beyond the trajectory's end too.
    change = torch.stack(commands).diff(dim=0).abs()
    reach = (checkpoint.command_max - checkpoint.command_min) / generator.settings.interpolation_steps
    assert (change <= reach + 1e-5).all()
    assert float(change[round(0.75 * len(change)) :].max()) > 0.0


def test_going_on_gives_what_one_long_trajectory_gives(checkpoint: Checkpoint) -> None:
    short, long = make(checkpoint), make(checkpoint, preload_duration=300)
    for generator in (short, long):
        # The same state and the same commands, as if drawn for both.
        buffer = generator.buffer
        motions = torch.arange(NUM_ENVS)
        states = checkpoint.initial_states[:NUM_ENVS]
        layout = checkpoint.command_layout
        targets = layout.complete(torch.rand(NUM_ENVS, 9, 3, generator=torch.Generator().manual_seed(1)))
        num_segments = buffer.commands.num_segments
        assert num_segments >= 6
        first_frames = torch.tensor([0, 50, 100, 150, 200, *[1000 + i for i in range(num_segments - 5)]])
        targets = torch.cat((targets[:, :5], targets[:, 5:6].expand(-1, num_segments - 5, -1)), dim=1)
        buffer.commands.plan(motions, first_frames.expand(NUM_ENVS, -1), layout.rest(NUM_ENVS), targets)
        buffer.restart(motions, states, states)
        buffer.extend(motions, generator.settings.preload_duration - 1)
        supply = supply_of(generator)
        supply.motions[:] = motions
        generator._shown.clock.shown[:] = torch.arange(NUM_ENVS)
        generator._shown.reader.origin[:] = 0.0
        generator._shown.reader.forget()
    for _ in range(150):
        a, b = short.get_frames(), long.get_frames()
        torch.testing.assert_close(a.dof_pos, b.dof_pos, atol=1e-3, rtol=0.0)
        torch.testing.assert_close(a.root_pos_w, b.root_pos_w, atol=1e-3, rtol=0.0)
        torch.testing.assert_close(short.commands, long.commands)
        short.advance()
        long.advance()
    assert supply_of(short).num_private == NUM_ENVS
    assert supply_of(long).num_private == 0


@pytest.mark.parametrize("control_dt", [0.02, 0.013])
def test_command_of_ones_own_is_followed_from_the_shown_frame(checkpoint: Checkpoint, control_dt: float) -> None:
    generator = make(checkpoint, control_dt=control_dt)
    generator.reset(start_frames=torch.arange(NUM_ENVS) + 20)
    frames = []
    for step in range(120):
        if step == 9:
            generator.update_commands(torch.tensor([[1.0, 0.0, 0.0]]).expand(6, -1), torch.arange(6))
        frames.append(shown(generator))
        generator.advance()
    assert_smooth(frames, control_dt)
    torch.testing.assert_close(generator.commands[:6, VELOCITY], torch.tensor([[1.0, 0.0, 0.0]]).expand(6, -1))
    assert torch.equal(generator.target_commands[:6], generator.commands[:6])
    generator.reset(torch.arange(6))
    assert bool((supply_of(generator).motions[:6] < 16).all())


@pytest.mark.parametrize("control_dt", [0.02, 0.013])
def test_future_comes_true_across_the_end(checkpoint: Checkpoint, control_dt: float) -> None:
    generator = make(checkpoint, control_dt=control_dt)
    generator.reset(start_frames=torch.linspace(0, generator.last_start_frame, NUM_ENVS).long())
    for step in range(130):
        if step % 10 == 0:
            planned, asked = generator.future(10 if step < 60 else 20), step
        elif step - asked <= 10:
            now = generator.get_frames()
            for field in fields(now):
                torch.testing.assert_close(
                    getattr(planned, field.name)[:, step - asked - 1], getattr(now, field.name), atol=2e-4, rtol=0.0
                )
        generator.advance()


def test_root_appears_where_it_was_asked_for(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint)
    root_pose = torch.randn(NUM_ENVS, 3, generator=torch.Generator().manual_seed(0))
    generator.reset(root_pose=root_pose, start_frames="random")
    assert float(generator._shown.clock.shown.max()) > 0
    before = generator.get_frames()
    torch.testing.assert_close(before.root_pos_w[:, :2], root_pose[:, :2])
    for _ in range(5):
        generator.advance()
    moved = generator.get_frames().root_pos_w - before.root_pos_w
    mean_velocity = moved / 0.1
    assert (mean_velocity - generator.get_frames().root_lin_vel_w)[:, :2].abs().max() < 1.0
    generator.set_root_pose(torch.tensor([[5.0, 6.0, 0.0]]), torch.tensor([3]))
    torch.testing.assert_close(generator.get_frames().root_pos_w[3, :2], torch.tensor([5.0, 6.0]))
    # What moves is the frame it is seen in: the speed stays.
    speed = generator.get_frames().root_lin_vel_w.norm(dim=1)
    generator.set_root_pose(root_pose)
    torch.testing.assert_close(generator.get_frames().root_lin_vel_w.norm(dim=1), speed)


@pytest.mark.parametrize("start_frames", [None, "random"])
def test_reset_with_commands_takes_trajectories_that_do_so(checkpoint: Checkpoint, start_frames: str | None) -> None:
    generator = make(checkpoint, num_trajectories=400, num_envs=4)
    wanted = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.3, 0.0], [0.5, 0.0, -0.8]])
    for _ in range(3):
        generator.reset(commands=wanted, start_frames=start_frames)
        scale = (checkpoint.command_max - checkpoint.command_min)[VELOCITY]
        assert ((generator.target_commands[:, VELOCITY] - wanted) / scale).abs().max() < 0.3
        # Standing is a share of the trajectories and is met exactly.
        assert torch.equal(generator.target_commands[0], checkpoint.command_layout.rest())


def test_least_used_trajectories_are_handed_out_first(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint)
    pool = supply_of(generator).pool
    generator.reset()
    assert int(pool.handed.max()) == 1
    assert int(pool.handed.sum()) == NUM_ENVS
    generator.reset(torch.arange(4))
    assert bool((pool.handed == 1).all())
    assert pool.stats()["trajectories_handed_out_again"] == 0
    generator.reset()
    assert pool.stats()["trajectories_handed_out_again"] == NUM_ENVS


def test_used_trajectories_are_renewed_within_the_budget(checkpoint: Checkpoint) -> None:
    budget = 24
    generator = make(checkpoint, num_trajectories=24, regenerate_frames_per_step=budget, batch=8, uses=1)
    pool = supply_of(generator).pool
    draw = torch.Generator().manual_seed(0)
    work = []
    for _ in range(400):
        generator.reset(torch.randint(NUM_ENVS, (1,), generator=draw))
        before = generator.rollout.frame_count
        states = generator.buffer.store.table
        motions = supply_of(generator).motions.clone()
        rows = generator.buffer.store.rows(generator._shown.clock.shown, motions)
        kept = states[rows].clone()
        generator.advance()
        work.append(generator.rollout.frame_count - before)
        # What is on show is never written to.
        on_pool = motions < 24
        assert torch.equal(states[rows][on_pool], kept[on_pool])
    assert max(work) <= budget + 8
    assert sum(work) / len(work) <= budget + 1
    stats = generator.get_performance_stats()
    assert stats["trajectories_renewed"] > 24
    assert bool((pool.handed[pool.ready] < 100).all())


def test_fixed_pool_generates_nothing_while_nobody_leaves_it(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint, num_trajectories=3)
    before = generator.rollout.frame_count
    for _ in range(30):
        generator.reset(torch.tensor([0]))
        generator.get_motion()
        generator.advance()
    assert generator.rollout.frame_count == before


def test_small_pools_are_renewed_though_all_of_them_are_on_show(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint, num_envs=24, num_trajectories=6, batch=2, regenerate_frames_per_step=48)
    draw = torch.Generator().manual_seed(0)
    for _ in range(300):
        generator.reset(torch.randperm(24, generator=draw)[:2])
        generator.advance()
    assert generator.get_performance_stats()["trajectories_renewed"] >= 4


@pytest.mark.parametrize("checked", [True, False])
def test_trajectories_that_miss_their_command_are_dropped_where_that_is_asked(
    checkpoint: Checkpoint, checked: bool
) -> None:
    generator = make(checkpoint, preload_duration=250, resampling_time=(8.0, 8.0), check_commands=checked)
    pool, plan = supply_of(generator).pool, generator.buffer.commands
    everyone = torch.arange(16)
    assert bool(pool.ready.all()), "the shipped checkpoint does what it is told"
    plan.targets[3, :, 2] += 0.5  # as if it had been told to turn
    plan.starts[3] = plan.targets[3]
    pool._admit(everyone)
    assert (~pool.ready).nonzero().flatten().tolist() == ([3] if checked else [])


def test_unhealthy_trajectories_are_not_handed_out(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make(checkpoint, regenerate_frames_per_step=48, batch=4)
    supply = supply_of(generator)
    pool, buffer = supply.pool, generator.buffer
    before = int(pool.stats()["trajectories_dropped"])
    free = torch.tensor([i for i in range(16) if i not in supply.motions.tolist()])
    # As if the state had run away, and as if the guard had acted in every frame.
    buffer._tail_state[free[0], 5] = float("nan")
    buffer.guarded[free[1]] = 119
    pool._admit(free)
    assert pool.ready[free].tolist() == [False, False, *[True] * (len(free) - 2)]
    assert pool.stats()["trajectories_dropped"] == before + 2
    generator.reset()
    generator.reset()
    assert not bool(torch.isin(supply.motions, free[:2]).any())
    for _ in range(60):
        generator.advance()
    assert bool(pool.ready[free[:2]].all())
    monkeypatch.setattr(buffer, "finite", lambda motions: torch.zeros(len(motions), dtype=torch.bool))
    with pytest.raises(ValueError, match="16 of 16 trajectories were not finite"):
        pool._fill()


def test_held_environments_stand_at_the_end(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint, at_end="hold")
    for _ in range(140):
        generator.advance()
    held = generator.get_frames()
    assert float(held.dof_vel.abs().max()) == 0.0
    generator.update_commands(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([2]))
    assert torch.equal(generator.get_frames().dof_pos, held.dof_pos)
    for _ in range(30):
        generator.advance()
    assert float(generator.get_motion()[1][2].abs().max()) > 0.1
    assert float(generator.get_motion()[1][3].abs().max()) == 0.0


def test_modes_can_be_switched(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint)
    generator.reset(start_frames="random")
    frames = []
    for step in range(90):
        if step in (30, 60):
            before, command = generator.get_frames(), generator.commands
            generator.switch_mode("realtime" if step == 30 else "pregenerated")
            torch.testing.assert_close(generator.commands, command)
            torch.testing.assert_close(generator.get_frames().dof_pos, before.dof_pos)
            torch.testing.assert_close(generator.get_frames().root_pos_w, before.root_pos_w)
        frames.append(shown(generator))
        generator.advance()
    assert_smooth(frames, 0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_trajectories": 0}, "num_trajectories"),
        ({"uses": 0}, "uses"),
        ({"regenerate_frames_per_step": -1}, "regenerate_frames_per_step"),
        ({"resampling_time": (2.0, 1.0)}, "resampling_time"),
        ({"max_guard_share": 2.0}, "max_guard_share"),
        ({"preload_duration": 30}, "preload_duration must be at least buffer_size"),
    ],
)
def test_impossible_arguments_are_named(checkpoint: Checkpoint, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(checkpoint, **arguments)


def test_start_frames_are_checked(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint)
    with pytest.raises(ValueError, match="start_frames must be"):
        generator.reset(start_frames="anywhere")
    with pytest.raises(ValueError, match="needs a pool"):
        CMGMotionGenerator(checkpoint, 2, mode="realtime").reset(start_frames="random")


@pytest.mark.parametrize(
    ("start_frames", "message"),
    [
        ([-1, 0], "start_frames must lie in 0 to [0-9]+, got -1"),
        ([0, 10**6], "start_frames must lie in 0 to [0-9]+, got 1000000"),
        (torch.tensor([0.5, 1.0]), "start_frames must be whole numbers"),
        ([1], r"start_frames must have shape \(2,\)"),
        ("last", "start_frames must be frames"),
    ],
)
def test_start_frames_that_no_trajectory_has_are_refused(
    checkpoint: Checkpoint, start_frames: Any, message: str
) -> None:
    generator = make(checkpoint)
    before = generator.get_motion()[0].clone()
    with pytest.raises(ValueError, match=message):
        generator.reset([0, 1], start_frames=start_frames)
    assert torch.equal(generator.get_motion()[0], before)
    generator.reset([0, 1], start_frames=np.array([0, generator.last_start_frame]))
