"""The generator: both modes, command changes, resets, rates, ends, joints, memory."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg
from cmg_ref.core.command_layout import ACCELERATIONS, VELOCITY
from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.core.rotations import angular_velocity
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.reference_motion_term import ReferenceMotionTerm, ReferenceMotionTermCfg
from cmg_ref.robots.robot import load_g1
from cmg_ref.rollout.clip_generation import generate_clips
from cmg_ref.trajectories.pool import TrajectoryPoolCfg
from cmg_ref.trajectories.settings import CMGMotionGeneratorCfg
from cmg_ref.trajectories.supply.realtime import RealtimeSupply
from cmg_ref.twist.motion_lib import CMGMotionLib, CMGMotionLibCfg

COMMANDS = torch.tensor(
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 1.0], [-0.5, 0.0, 0.0]]
)
NUM_ENVS = len(COMMANDS)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def make(checkpoint: Checkpoint, **overrides: Any) -> CMGMotionGenerator:
    settings: dict[str, Any] = {"num_envs": NUM_ENVS, "buffer_size": 40, "seed": 3, **overrides}
    generator = CMGMotionGenerator(checkpoint, **settings)
    generator.reset(commands=COMMANDS)
    return generator


def difference(a: MotionFrames, b: MotionFrames) -> float:
    return max(float((getattr(a, field.name) - getattr(b, field.name)).abs().max()) for field in fields(a))


def record(generator: CMGMotionGenerator, steps: int) -> list[MotionFrames]:
    frames = []
    for _ in range(steps):
        frames.append(generator.get_frames())
        generator.advance()
    return frames


@pytest.mark.slow
@pytest.mark.parametrize("control_dt", [0.02, 0.013, 0.05])
def test_both_modes_give_the_same_motion(checkpoint: Checkpoint, control_dt: float) -> None:
    furthest = 20 if control_dt <= 0.02 else 8
    generators = [
        make(checkpoint, mode="pregenerated", preload_duration=250, control_dt=control_dt),
        make(checkpoint, mode="pregenerated", preload_duration=50, control_dt=control_dt),  # regenerates often
        make(checkpoint, mode="realtime", control_dt=control_dt),
        make(checkpoint, mode="realtime", control_dt=control_dt, refill_frames=None, buffer_size=60),
    ]
    for step in range(150):
        for generator in generators:
            if step == 60:
                generator.update_commands(torch.tensor([[1.2, 0.0, 0.3]]), torch.tensor([0]))
            if step == 90:
                generator.reset(torch.tensor([2, 4]))
            if step == 120:
                generator.update_commands(COMMANDS.roll(1, dims=0))
        shown = [generator.get_frames() for generator in generators]
        planned = [generator.future([1, 7, furthest]) for generator in generators]
        # Products of other numbers of rows differ in the last digit, which grows: velocities are several rad/s.
        assert max(difference(shown[0], other) for other in shown[1:]) < 5e-4
        assert max(difference(planned[0], other) for other in planned[1:]) < 5e-4
        for generator in generators:
            generator.advance()


@pytest.mark.parametrize("mode", ["pregenerated", "realtime"])
def test_future_comes_true(checkpoint: Checkpoint, mode: str) -> None:
    generator = make(checkpoint, mode=mode)
    generator.update_commands(COMMANDS.flip(0))
    planned = generator.future(20)
    for step in range(20):
        generator.advance()
        now = generator.get_frames()
        for field in fields(now):
            torch.testing.assert_close(
                getattr(planned, field.name)[:, step], getattr(now, field.name), atol=1e-6, rtol=0.0
            )


@pytest.mark.parametrize("mode", ["pregenerated", "realtime"])
@pytest.mark.parametrize("change", ["reset", "command"])
def test_change_of_a_subset_leaves_the_others_bit_identical(checkpoint: Checkpoint, mode: str, change: str) -> None:
    generator, undisturbed = make(checkpoint, mode=mode), make(checkpoint, mode=mode)
    subset, others = torch.tensor([1, 4]), torch.tensor([0, 2, 3, 5])
    for step in range(60):
        if step in (13, 40):
            if change == "reset":
                generator.reset(subset, commands=torch.tensor([[0.3, 0.0, 0.0], [1.5, 0.0, 0.0]]))
            else:
                generator.update_commands(torch.tensor([[0.3, 0.0, step / 100], [1.5, 0.0, step / 100]]), subset)
        a, b = generator.get_frames(), undisturbed.get_frames()
        for field in fields(a):
            assert torch.equal(getattr(a, field.name)[others], getattr(b, field.name)[others]), (step, field.name)
        generator.advance()
        undisturbed.advance()
    assert not torch.equal(generator.get_motion()[0][subset], undisturbed.get_motion()[0][subset])


@pytest.mark.parametrize("mode", ["pregenerated", "realtime"])
@pytest.mark.parametrize("control_dt", [0.02, 0.013])
def test_motion_goes_on_smoothly_through_a_command_change(checkpoint: Checkpoint, mode: str, control_dt: float) -> None:
    generator = make(checkpoint, mode=mode, control_dt=control_dt)
    frames = record(generator, 30)
    generator.update_commands(COMMANDS.flip(0))
    frames += record(generator, 60)
    dof_pos = torch.stack([frame.dof_pos for frame in frames])
    dof_vel = torch.stack([frame.dof_vel for frame in frames])
    step = (dof_pos[1:] - dof_pos[:-1]) / control_dt - 0.5 * (dof_vel[1:] + dof_vel[:-1])
    # A joint that swings against its limit is held there, whatever its velocity.
    model = checkpoint.model
    limits = torch.stack((model.state_min, model.state_max))[:, checkpoint.layout["dof_pos"]]
    at_limit = ((dof_pos.unsqueeze(-2) - limits).abs() < 0.02).any(dim=-2).float()  # (num_steps, num_envs, num_joints)
    # What is shown between frames is bent by a stop in either of them.
    near = torch.nn.functional.max_pool1d(at_limit.flatten(1).T, 7, stride=1, padding=3).T.view_as(at_limit) > 0.0
    free = ~(near[1:] | near[:-1])
    assert free.float().mean() > 0.95
    # [rad/s]: a jump of the pose would be tens of rad/s. Between frames velocities do not change linearly.
    assert (step * free).abs().max() < (0.6 if control_dt == 0.02 else 1.5)
    root = torch.stack([frame.root_pos_w for frame in frames])
    assert ((root[1:] - root[:-1]).norm(dim=-1) / control_dt).max() < 4.0


def test_other_control_rates_show_the_same_motion(checkpoint: Checkpoint) -> None:
    slow, fast = make(checkpoint, mode="realtime"), make(checkpoint, mode="realtime", control_dt=0.005)
    for _ in range(60):
        assert difference(slow.get_frames(), fast.get_frames()) < 1e-4
        slow.advance()
        for _ in range(4):
            fast.advance()


@pytest.mark.parametrize("control_dt", [0.02, 1 / 30, 0.008])
def test_velocities_are_the_derivatives_of_positions(checkpoint: Checkpoint, control_dt: float) -> None:
    frames = record(make(checkpoint, mode="realtime", control_dt=control_dt), 150)
    stacked = {
        field.name: torch.stack([getattr(frame, field.name) for frame in frames], dim=1) for field in fields(frames[0])
    }

    def error(position: str, velocity: str) -> float:
        central = (stacked[position][:, 2:] - stacked[position][:, :-2]) / (2 * control_dt)
        before, now, after = (stacked[velocity][:, first : first - 2 or None] for first in range(3))
        expected = (before + 4.0 * now + after) / 6.0  # Simpson's rule: joints turn noticeably within two steps.
        return float((central - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt())

    assert error("dof_pos", "dof_vel") < 0.1
    assert error("root_pos_w", "root_lin_vel_w") < 0.1
    turning = angular_velocity(stacked["root_quat_w"].double(), control_dt).float()
    miss = (turning - stacked["root_ang_vel_w"])[:, 1:-1].pow(2).mean().sqrt() / turning.pow(2).mean().sqrt()
    assert miss < 0.2


def test_held_environments_stand_in_their_last_pose(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint, preload_duration=30, at_end="hold")
    frames = record(generator, 60)
    last = frames[35]
    assert float(last.dof_vel.abs().max()) == 0.0
    assert float(last.root_lin_vel_w[:, :2].abs().max()) == 0.0
    assert difference(frames[35], frames[59]) == 0.0
    steps = torch.stack([frame.dof_pos for frame in frames]).diff(dim=0).abs()
    assert steps[25:].max() <= steps[:25].max()


@pytest.mark.parametrize("change", ["command", "mode"])
def test_held_environments_go_on_from_where_they_are_held(checkpoint: Checkpoint, change: str) -> None:
    generator = make(checkpoint, preload_duration=30, at_end="hold")
    record(generator, 45)
    held = generator.get_frames()
    if change == "command":
        generator.update_commands(COMMANDS.flip(0))
    else:
        generator.switch_mode("realtime")
    after = generator.get_frames()
    assert torch.equal(after.dof_pos, held.dof_pos)
    assert torch.equal(after.root_pos_w, held.root_pos_w)
    generator.advance()
    assert (generator.get_frames().root_pos_w - held.root_pos_w).norm(dim=1).max() < 0.1


@pytest.mark.parametrize("mode", ["pregenerated", "realtime"])
@pytest.mark.parametrize("control_dt", [0.02, 0.013])
def test_furthest_future_can_be_asked_for_forever(checkpoint: Checkpoint, mode: str, control_dt: float) -> None:
    small = make(checkpoint, mode=mode, preload_duration=30, buffer_size=30, control_dt=control_dt)
    large = make(checkpoint, mode="pregenerated", preload_duration=300, control_dt=control_dt)
    furthest = small.max_future_steps
    assert furthest >= 20
    for _ in range(70):
        assert difference(small.future([furthest]), large.future([furthest])) < 1e-4
        assert difference(small.get_frames(), large.get_frames()) < 1e-4
        small.advance()
        large.advance()


@pytest.mark.parametrize("refill_frames", [1, None])
def test_environments_that_take_turns_see_the_same_motion(checkpoint: Checkpoint, refill_frames: int | None) -> None:
    commands = COMMANDS.repeat(43, 1)
    settings: dict[str, Any] = {"num_envs": len(commands), "control_dt": 0.013, "buffer_size": 30, "mode": "realtime"}
    turns = CMGMotionGenerator(checkpoint, refill_frames=refill_frames, **settings)
    together = CMGMotionGenerator(checkpoint, **{**settings, "mode": "pregenerated", "preload_duration": 60})
    subset = torch.arange(0, len(commands), 7)
    work = []
    for generator in (turns, together):
        generator.reset(init_motion=checkpoint.standing_state().expand(len(commands), -1), commands=commands)
    for step in range(50):
        for generator in (turns, together):
            if step == 20:
                generator.update_commands(torch.ones(len(subset), 3), subset)
        assert difference(turns.future([0, 5]), together.future([0, 5])) < 1e-3
        before = turns.rollout.frame_count
        turns.advance()
        together.advance()
        work.append(turns.rollout.frame_count - before)
    # 0.65 frames fall due per step and environment: 4 groups bring them in turn.
    supply = turns._shown.supply
    assert isinstance(supply, RealtimeSupply)
    assert len(supply._groups) == 4
    assert max(work[22:]) <= (0.75 if refill_frames == 1 else 15 / 4) * len(commands) + 15


def test_a_mask_names_the_same_environments_as_indices(checkpoint: Checkpoint) -> None:
    by_mask, by_index = make(checkpoint), make(checkpoint)
    mask = torch.tensor([False, False, True, False, True, False])
    by_mask.update_commands(torch.ones(2, 3), mask)
    by_index.update_commands(torch.ones(2, 3), torch.tensor([2, 4]))
    record(by_mask, 10)
    record(by_index, 10)
    assert torch.equal(by_mask.get_motion()[0], by_index.get_motion()[0])
    assert torch.equal(by_mask.get_motion(mask)[0], by_index.get_motion(torch.tensor([2, 4]))[0])
    with pytest.raises(ValueError, match="6 entries"):
        by_mask.reset(mask[:3])
    with pytest.raises(ValueError, match="env_ids"):
        by_mask.reset(torch.tensor([0.0]))


def test_command_in_force_never_leaves_the_straight_line(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint, mode="realtime", control_dt=0.013)
    generator.reset(init_motion=checkpoint.standing_state().expand(NUM_ENVS, -1), commands=torch.zeros(NUM_ENVS, 3))
    generator.advance()
    generator.update_commands(torch.tensor([[3.0, 0.0, 0.0]]).expand(NUM_ENVS, -1))
    for _ in range(50):
        assert generator.commands[:, 0].min() >= 0.0
        assert generator.commands[:, 0].max() <= 3.0
        generator.advance()


@pytest.mark.parametrize("mode", ["pregenerated", "realtime"])
def test_joints_only_checkpoint_gets_its_root_from_the_stance_foot(checkpoint: Checkpoint, mode: str) -> None:
    joints_only, reversed_order = without_root(checkpoint), without_root(checkpoint, reverse=True)
    generator, other = make(joints_only, mode=mode), make(reversed_order, mode=mode, joint_names=checkpoint.joint_names)
    for step in range(30):
        shown, same = generator.get_frames(), other.get_frames()
        torch.testing.assert_close(shown.dof_pos, same.dof_pos, atol=1e-4, rtol=0.0)
        if step > 0:
            assert (shown.root_pos_w[:, 2] - 0.7).abs().max() < 0.2  # one begins amid a run, its knees bent
            torch.testing.assert_close(shown.root_pos_w, same.root_pos_w, atol=1e-3, rtol=0.0)
        generator.advance()
        other.advance()


def without_root(checkpoint: Checkpoint, reverse: bool = False) -> Checkpoint:
    """A checkpoint of untrained weights whose state has joints only, close to standing still."""
    torch.manual_seed(5)
    layout = StateLayout.joints_only(checkpoint.layout.num_joints)
    order = torch.arange(layout.num_joints)
    order = order.flip(0) if reverse else order
    columns = torch.cat((order, layout.num_joints + order))
    model = CMG(CMGConfig(hidden=16, gate_hidden=8), layout, checkpoint.fps, checkpoint.command_layout)
    for parameter in model.parameters():
        parameter.data.zero_()
    model.motion_mean.copy_(checkpoint.model.motion_mean[columns])
    model.motion_std.copy_(checkpoint.model.motion_std[columns])
    model.change_std.copy_(checkpoint.model.change_std[columns])
    model.command_min.copy_(checkpoint.command_min)
    model.command_max.copy_(checkpoint.command_max)
    names = tuple(checkpoint.joint_names[index] for index in order)
    states = checkpoint.initial_states[:, : layout.size][:, columns].clone()
    states[:, layout["dof_vel"]] *= 0.1
    return Checkpoint(model.eval(), names, states, checkpoint.initial_commands)


def test_mode_switch_does_not_show(checkpoint: Checkpoint) -> None:
    generator, undisturbed = make(checkpoint, mode="realtime"), make(checkpoint, mode="realtime")
    for step in range(90):
        if step == 30:
            generator.switch_mode("pregenerated")
        if step == 60:
            generator.switch_mode("realtime")
        assert difference(generator.get_frames(), undisturbed.get_frames()) < 1e-4
        generator.advance()
        undisturbed.advance()


def test_generator_and_clips_agree(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint, preload_duration=150)
    states = checkpoint.standing_state().expand(NUM_ENVS, -1)
    generator.reset(init_motion=states, commands=torch.zeros(NUM_ENVS, 3))
    generator.update_commands(COMMANDS)
    clips = generate_clips(checkpoint, COMMANDS[:, None].expand(-1, 100, -1))
    for frame in range(100):
        generator.advance()
        shown = torch.stack([clip.dof_pos[frame] for clip in clips]).float()
        torch.testing.assert_close(generator.get_motion()[0], shown, atol=1e-4, rtol=0.0)


def test_a_pool_takes_commands_from_a_sampler_of_velocities(checkpoint: Checkpoint) -> None:
    sampler = CommandSampler(NUM_ENVS, CommandSamplerCfg(), seed=1)
    generator = make(checkpoint, pool=TrajectoryPoolCfg(num_trajectories=8), command_sampler=sampler)
    generator.reset(start_frames="random")
    assert generator.commands.shape == (NUM_ENVS, checkpoint.command_layout.size)


def test_commands_outside_the_trained_range_are_clamped_and_told(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint)
    generator.update_commands(torch.tensor([[99.0, 0.0, -99.0]]), torch.tensor([3]))
    expected = torch.tensor([99.0 - checkpoint.command_max[0], 0.0, 99.0 + checkpoint.command_min[2]])
    torch.testing.assert_close(generator.command_excess[3, VELOCITY], expected)
    begun = float(generator.commands[3, 0])
    for _ in range(25):
        generator.advance()
    assert float(generator.commands[3, 0]) == pytest.approx(begun + 25 * 0.02 * ACCELERATIONS["lin_vel_x"], abs=0.05)
    for _ in range(80):
        generator.advance()
    torch.testing.assert_close(generator.commands[3, 0], checkpoint.command_max[0])
    assert generator.get_performance_stats()["commands_clamped_share"] == pytest.approx(1 / NUM_ENVS)


def test_joints_are_matched_by_name(checkpoint: Checkpoint) -> None:
    wrists = [name for name in checkpoint.joint_names if "wrist" in name]
    wanted = [name for name in reversed(checkpoint.joint_names) if "wrist" not in name]
    plain, picked = make(checkpoint), make(checkpoint, joint_names=wanted, drop_joints=wrists)
    columns = [checkpoint.joint_names.index(name) for name in wanted]
    assert torch.equal(plain.get_motion()[0][:, columns], picked.get_motion()[0])
    assert torch.equal(plain.future(3).dof_vel[..., columns], picked.future(3).dof_vel)
    with pytest.raises(ValueError, match="left_wrist_roll_joint"):
        make(checkpoint, joint_names=wanted)
    with pytest.raises(ValueError, match="tail_joint"):
        make(checkpoint, joint_names=[*checkpoint.joint_names, "tail_joint"])


def test_half_precision_storage_is_half_the_memory(checkpoint: Checkpoint) -> None:
    single, half = make(checkpoint), make(checkpoint, storage_dtype=torch.float16)
    assert half.get_performance_stats()["memory_bytes"] < 0.56 * single.get_performance_stats()["memory_bytes"]
    for _ in range(50):
        assert (single.get_motion()[0] - half.get_motion()[0]).abs().max() < 2e-3
        single.advance()
        half.advance()


def test_initial_motion_is_shown_first(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint)
    states = checkpoint.initial_states[100 : 100 + NUM_ENVS]
    generator.reset(init_motion=states, root_pose=torch.tensor([[1.0, 2.0, 0.5]]).expand(NUM_ENVS, -1))
    frames = generator.get_frames()
    torch.testing.assert_close(frames.dof_pos, checkpoint.model.guard(states)[:, checkpoint.layout["dof_pos"]])
    torch.testing.assert_close(frames.root_pos_w[:, :2], torch.tensor([[1.0, 2.0]]).expand(NUM_ENVS, -1))
    dof_pos, dof_vel = torch.zeros(2, 29), torch.full((2, 29), 0.1)
    generator.reset(torch.tensor([0, 5]), init_motion=(dof_pos, dof_vel))
    assert float(generator.get_motion(torch.tensor([5]))[1].max()) == pytest.approx(0.1)


@pytest.mark.slow
def test_ten_thousand_steps_do_not_grow(checkpoint: Checkpoint) -> None:
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc to read the memory in use")
    generator = make(checkpoint, mode="realtime", buffer_size=8)
    draw = torch.Generator().manual_seed(0)
    low, high = checkpoint.command_min, checkpoint.command_max
    for step in range(10_000):
        if step % 20 == 0:
            generator.reset(torch.randint(NUM_ENVS, (1,), generator=draw))
        if step % 20 == 10:
            command = low + (high - low) * torch.rand(1, len(low), generator=draw)
            generator.update_commands(command, torch.randint(NUM_ENVS, (1,), generator=draw))
        generator.get_motion()
        generator.advance()
        if step == 1_000:
            before = resident_bytes()
    assert resident_bytes() - before < 5_000_000
    assert bool(torch.isfinite(generator.get_motion()[0]).all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "offline"}, "mode must be one of"),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"num_envs": 2.5}, "num_envs must be a whole number of at least 1, got 2.5"),
        ({"preload_duration": 40.0}, "preload_duration must be a whole number"),
        ({"buffer_size": 2}, "buffer_size"),
        ({"control_dt": 0.0}, "control_dt"),
        ({"refill_frames": 90}, "refill_frames"),
        ({"at_end": "loop"}, "at_end"),
    ],
)
def test_impossible_arguments_are_named(checkpoint: Checkpoint, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(checkpoint, **arguments)


def test_bad_input_is_named(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint)
    with pytest.raises(ValueError, match=r"commands must have shape \(6, 3\)"):
        generator.update_commands(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="commands holds NaN or infinite values, first in row 1"):
        generator.update_commands(torch.tensor([[0.0, 0.0, 0.0], [float("nan"), 0.0, 0.0]]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="init_motion"):
        generator.reset(init_motion=torch.zeros(NUM_ENVS, 3))
    with pytest.raises(ValueError, match="buffer_size"):
        make(checkpoint, mode="realtime").future(1000)


def test_lists_and_arrays_are_taken_for_tensors(checkpoint: Checkpoint) -> None:
    plain, other = make(checkpoint, mode="realtime"), make(checkpoint, mode="realtime")
    plain.reset(torch.tensor([1, 4]), commands=COMMANDS[:2], root_pose=torch.tensor([[1.0, 2.0, 0.5]] * 2))
    other.reset([1, 4], commands=COMMANDS[:2].tolist(), root_pose=np.array([[1, 2, 0.5]] * 2))
    plain.update_commands(COMMANDS[:1], torch.tensor([2]))
    other.update_commands(COMMANDS[:1].numpy().astype(np.float64), np.array([False, False, True, False, False, False]))
    assert torch.equal(plain.future(5).dof_pos, other.future(np.int64(5)).dof_pos)
    assert torch.equal(plain.future([0, 3]).dof_pos, other.future(np.array([0, 3])).dof_pos)  # type: ignore[arg-type]
    assert torch.equal(plain.root_states, other.root_states)


def test_a_mask_of_bytes_resets_what_it_marks(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint, mode="realtime")
    generator.reset(commands=COMMANDS)
    for _ in range(5):
        generator.advance()
    before = generator.get_motion()[0].clone()
    generator.reset(torch.tensor([0, 0, 0, 1, 0, 0], dtype=torch.uint8))
    changed = (generator.get_motion()[0] != before).any(dim=1)
    assert changed.tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env_ids": [1.7]}, "env_ids must be whole numbers"),
        ({"env_ids": [True, False]}, "env_ids: a mask must have 6 entries"),
        ({"env_ids": [-1]}, "env_ids must lie in 0 to 5, got -1"),
        ({"env_ids": [6]}, "env_ids must lie in 0 to 5, got 6"),
        ({"env_ids": [1, 1]}, "env_ids holds 1 more than once"),
        ({"env_ids": [1], "commands": [[0.0, float("nan"), 0.0]]}, "commands holds NaN"),
        ({"env_ids": [1], "commands": [[0.0, float("inf"), 0.0]]}, "commands holds NaN or infinite"),
        ({"env_ids": [1], "commands": [1.0, 0.0, 0.0]}, r"commands must have shape \(1, 3\)"),
        ({"env_ids": [1], "root_pose": [[0.0, 0.0]]}, r"root_pose must have shape \(1, 3\)"),
        ({"env_ids": [1], "init_motion": (torch.zeros(1, 29),)}, "init_motion must be .* a pair .*, got 1 parts"),
        ({"env_ids": [1], "init_motion": (torch.zeros(1, 29),) * 3}, "got 3 parts"),
        ({"env_ids": [1], "init_motion": (torch.zeros(1, 29), torch.zeros(1, 28))}, "init_motion dof_vel must have"),
        ({"env_ids": [1], "start_frames": [3]}, "start_frames needs a pool"),
    ],
)
def test_a_refused_reset_changes_nothing(checkpoint: Checkpoint, arguments: dict[str, Any], message: str) -> None:
    generator, untouched = make(checkpoint, mode="realtime"), make(checkpoint, mode="realtime")
    for each in (generator, untouched):
        each.reset(commands=COMMANDS)
        each.advance()
    if arguments.get("start_frames") is not None:
        message = "start_frames"
    with pytest.raises(ValueError, match=message):
        generator.reset(**arguments)
    for each in (generator, untouched):
        each.advance()
    assert torch.equal(generator.get_motion()[0], untouched.get_motion()[0])
    assert torch.equal(generator.command_excess, untouched.command_excess)


def test_commands_beyond_the_trained_range_are_held_and_told(checkpoint: Checkpoint) -> None:
    generator = make(checkpoint, mode="realtime")
    generator.update_commands([[99, 0, 0]], [2])
    held = [float(checkpoint.command_max[0]), 0.0, 0.0]
    assert generator.target_commands[2, VELOCITY].tolist() == pytest.approx(held)
    assert float(generator.command_excess[2, 0]) == pytest.approx(99.0 - float(checkpoint.command_max[0]))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_named() -> None:
    term_cfg = ReferenceMotionTermCfg(mode="realtime")
    for make_on in (
        lambda device: CMGMotionGenerator(num_envs=2, device=device),
        lambda device: CMGMotionGenerator.memory_required(device=device, num_envs=2),
        lambda device: ReferenceMotionTerm(term_cfg, 2, 0.02, load_g1().joint_names, device),
        lambda device: CMGMotionLib(CMGMotionLibCfg(), 2, 0.02, load_g1(), ("torso_link",), device=device),
    ):
        with pytest.raises(ValueError, match=r"^device 'cuda'.*torch finds no CUDA GPU here; use 'cpu'$"):
            make_on("cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_began_in_inference_mode_goes_on_outside_of_it(checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    """As in a training, which collects in inference mode and evaluates outside of it."""
    generator = make(checkpoint, mode="realtime", compute_dtype=dtype)
    with torch.inference_mode():
        generator.reset(torch.arange(NUM_ENVS), commands=COMMANDS.flip(0))
        for _ in range(3):
            generator.future(4)
            generator.advance()
    for _ in range(3):
        generator.reset(torch.tensor([1, 4]))
        generator.future(4)
        generator.advance()
    assert bool(torch.isfinite(generator.get_motion()[0]).all())


@pytest.mark.parametrize("mode", ["realtime", "pregenerated"])
def test_what_callers_do_to_their_indices_later_does_not_matter(mode: str) -> None:
    shown = []
    for changed in (False, True):
        generator = CMGMotionGenerator(num_envs=4, mode=mode, preload_duration=60, buffer_size=16)
        generator.future(5)
        env_ids, commands = torch.tensor([3]), torch.tensor([[0.9, 0.0, 0.0]])
        generator.reset(env_ids, commands=commands)
        generator.update_commands(-commands, env_ids)
        if changed:
            env_ids.zero_()
        for _ in range(5):
            generator.advance()
        shown.append(generator.future(5).dof_pos)
    assert torch.equal(*shown)


@pytest.mark.parametrize("mode", ["pregenerated", "realtime", "pool"])
@pytest.mark.parametrize("control_dt", [0.02, 0.013])
@pytest.mark.parametrize("storage", [torch.float32, torch.float16])
def test_nobody_can_be_asked_for(checkpoint: Checkpoint, mode: str, control_dt: float, storage: torch.dtype) -> None:
    """Masks of who is reset or moved are often empty."""
    pool = TrajectoryPoolCfg(num_trajectories=8) if mode == "pool" else None
    kind = "pregenerated" if mode == "pool" else mode
    generator = make(
        checkpoint, mode=kind, pool=pool, control_dt=control_dt, preload_duration=80, storage_dtype=storage
    )
    before, nobody = generator.get_frames(), torch.zeros(NUM_ENVS, dtype=torch.bool)
    nobodies: list[list[int] | torch.Tensor] = [[], nobody]
    for env_ids in nobodies:
        generator.reset(env_ids)
        generator.reset(env_ids, commands=torch.zeros(0, 3), root_pose=torch.zeros(0, 3))
        generator.update_commands(torch.zeros(0, 3), env_ids)
        generator.set_root_pose(torch.zeros(0, 3), env_ids)
        assert all(tuple(joints.shape) == (0, 29) for joints in generator.get_motion(env_ids))
        assert tuple(generator.get_frames(env_ids).root_pos_w.shape) == (0, 3)
    for field in fields(before):
        torch.testing.assert_close(getattr(generator.get_frames(), field.name), getattr(before, field.name))


def test_settings_are_given_as_one_object_or_by_name(checkpoint: Checkpoint) -> None:
    cfg = CMGMotionGeneratorCfg(num_envs=5, mode="realtime", buffer_size=20, seed=4)
    made = CMGMotionGenerator(checkpoint, cfg=cfg)
    named = CMGMotionGenerator(checkpoint, 5, mode="realtime", buffer_size=20, seed=4)
    changed = CMGMotionGenerator(checkpoint, 5, cfg=CMGMotionGeneratorCfg(mode="realtime", seed=4), buffer_size=20)
    assert made.settings == named.settings == changed.settings == cfg
    assert torch.equal(made.get_motion()[0], named.get_motion()[0])
    assert CMGMotionGenerator.memory_required(checkpoint, cfg=cfg) == CMGMotionGenerator.memory_required(
        checkpoint, num_envs=5, mode="realtime", buffer_size=20
    )
    with pytest.raises(TypeError, match="bufer_size"):
        CMGMotionGenerator(checkpoint, bufer_size=20)
    with pytest.raises(ValueError, match="mode must be one of"):
        CMGMotionGenerator(checkpoint, cfg=CMGMotionGeneratorCfg(mode="live"))


def test_a_motion_that_has_begun_goes_on_where_it_is_put(checkpoint: Checkpoint) -> None:
    """Where ends are held, whether a motion that was just begun has come to its end must not be told too early."""
    generator = make(checkpoint, mode="pregenerated", preload_duration=80, at_end="hold")
    generator.reset(commands=torch.tensor([[1.0, 0.0, 0.0]]).repeat(NUM_ENVS, 1))
    generator.set_root_pose(torch.ones(NUM_ENVS, 3))
    assert bool((generator.get_motion()[1] != 0.0).any(dim=1).all())
