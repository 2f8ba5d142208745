"""On a GPU the motion is what it is on a CPU, in every mode; no step waits for the device where it need not."""

from __future__ import annotations

import gc
import os
from dataclasses import fields
from typing import Any, Callable, Iterator

import pytest
import torch

from cmg_ref.commands.sampler import CommandSamplerCfg
from cmg_ref.core.sharding import Shard, leave_processes
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.reference_motion_term import ReferenceMotionTerm, ReferenceMotionTermCfg
from cmg_ref.robots.robot import load_g1
from cmg_ref.rollout.clip_generation import generate_clips
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories.pool import TrajectoryPoolCfg

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")
NUM_ENVS = 96
POOL = TrajectoryPoolCfg(num_trajectories=64)
MODES: dict[str, dict[str, Any]] = {
    "pregenerated": {"mode": "pregenerated", "preload_duration": 120},
    "realtime": {"mode": "realtime", "buffer_size": 40},
    "pool": {"mode": "pregenerated", "preload_duration": 150, "buffer_size": 40, "pool": POOL},
}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def draw_commands(num: int, seed: int = 0) -> torch.Tensor:
    low, high = torch.tensor([-0.5, -0.4, -1.0]), torch.tensor([2.0, 0.4, 1.0])
    return low + (high - low) * torch.rand(num, 3, generator=torch.Generator().manual_seed(seed))


def states(checkpoint: Checkpoint, num: int) -> torch.Tensor:
    picks = torch.randint(len(checkpoint.initial_states), (num,), generator=torch.Generator().manual_seed(1))
    return checkpoint.initial_states[picks]


@pytest.mark.parametrize("mode", ["pregenerated", "realtime"])
@pytest.mark.parametrize("control_dt", [0.02, 0.013])
def test_a_gpu_shows_what_a_cpu_shows(checkpoint: Checkpoint, mode: str, control_dt: float) -> None:
    on_cpu, on_gpu = (
        CMGMotionGenerator(checkpoint, NUM_ENVS, device, control_dt=control_dt, **MODES[mode])
        for device in ("cpu", GPU)
    )
    initial, wanted = states(checkpoint, NUM_ENVS), draw_commands(NUM_ENVS)
    for step in range(60):
        for generator in (on_cpu, on_gpu):
            device = generator.device
            if step == 0:
                generator.reset(init_motion=initial.to(device), commands=wanted.to(device))
            if step == 20:
                generator.update_commands(wanted[:7].flip(0).to(device), torch.arange(7, device=device))
            if step == 40:
                rows = torch.tensor([3, 90], device=device)
                generator.reset(rows, init_motion=initial[:2].to(device), commands=wanted[5:7].to(device))
        expected, shown = on_cpu.get_frames(), on_gpu.get_frames()
        ahead, ahead_on_gpu = on_cpu.future([1, 9]), on_gpu.future([1, 9])
        for field in fields(expected):
            for one, other in ((expected, shown), (ahead, ahead_on_gpu)):
                # Rounding grows as the roll-out goes on, and velocities are several rad/s.
                value = getattr(other, field.name)
                assert value.device.type == "cuda"
                torch.testing.assert_close(value.cpu(), getattr(one, field.name), atol=2e-2, rtol=0.0)
        on_cpu.advance()
        on_gpu.advance()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_stays_close_over_ten_seconds(checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    initial = states(checkpoint, 32).to(GPU)
    schedule = draw_commands(32).to(GPU).unsqueeze(1).expand(-1, 500, -1)
    exact = Rollout(checkpoint.model, GPU).generate(initial, schedule)
    rounded = Rollout(checkpoint.model, GPU, dtype=dtype).generate(initial, schedule)
    velocity = checkpoint.layout["root_lin_vel_h"]
    assert not torch.equal(exact, rounded)
    assert float((exact - rounded)[..., velocity].mean(dim=1).abs().max()) < 0.15


def test_a_recorded_graph_is_what_runs(checkpoint: Checkpoint) -> None:
    rollout = Rollout(checkpoint.model, GPU)
    state, command = states(checkpoint, 512).to(GPU), draw_commands(512).to(GPU)
    initial, plain = state, Rollout(checkpoint.model)
    for _ in range(8):
        state = rollout.advance(state, command)
    assert rollout.captured is not None and rollout.captured.sizes == [512]
    expected = plain.advance(initial.cpu(), command.cpu())
    torch.testing.assert_close(rollout.advance(initial, command).cpu(), expected, atol=1e-4, rtol=0.0)
    assert rollout.frame_count == 9 * 512


@pytest.mark.parametrize("mode", list(MODES))
def test_the_term_in_every_mode(checkpoint: Checkpoint, mode: str) -> None:
    term = make_term(checkpoint, mode)
    random = torch.Generator().manual_seed(3)
    for step in range(120):
        term.step()
        if step % 5 == 4:
            term.reset(torch.randperm(NUM_ENVS, generator=random)[:6].to(GPU))
    frames = term.future()
    for name in ("dof_pos", "dof_vel", "root_pos_w", "root_quat_w", "root_lin_vel_w", "root_ang_vel_w"):
        now, ahead = getattr(term, name), getattr(frames, name)
        assert now.device.type == ahead.device.type == "cuda"
        assert bool(torch.isfinite(now).all()) and bool(torch.isfinite(ahead).all())
    assert bool(((term.root_pos_w[:, 2] > 0.5) & (term.root_pos_w[:, 2] < 0.95)).all())
    assert term.key_body_pos_b.device.type == "cuda"


@pytest.mark.parametrize("mode", ["pregenerated", "realtime"])
def test_a_step_does_not_wait_for_the_device(checkpoint: Checkpoint, mode: str) -> None:
    generator = CMGMotionGenerator(checkpoint, NUM_ENVS, GPU, control_dt=1.0 / checkpoint.fps, **MODES[mode])
    generator.reset(commands=draw_commands(NUM_ENVS).to(GPU))
    for _ in range(20):  # Graphs are captured, and frames made, in the first steps.
        generator.get_frames()
        generator.future(4)
        generator.advance()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            generator.get_motion()
            generator.get_frames()
            generator.future(4)
            generator.advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("window", [0, 4])
def test_a_step_with_resets_and_commands_does_not_wait(checkpoint: Checkpoint, window: int) -> None:
    generator = CMGMotionGenerator(checkpoint, NUM_ENVS, GPU, control_dt=1.0 / checkpoint.fps, **MODES["realtime"])
    begun, told = torch.tensor([3, 9, 80], device=GPU), torch.tensor([9, 11], device=GPU)
    commands = draw_commands(3).to(GPU)

    def step() -> None:
        generator.reset(begun, commands=commands)
        generator.update_commands(commands[:2], told)
        generator.get_motion()
        if window:
            generator.future(window)
        generator.advance()

    for _ in range(5):
        step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bool(torch.isfinite(generator.get_motion()[0]).all())


def random_states(checkpoint: Checkpoint, num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States of all kinds, of which some rest and some the guard must hold, and commands partly out of range."""
    initial, commands = states(checkpoint, num).to(GPU), 2.0 * draw_commands(num).to(GPU)
    draw = torch.Generator().manual_seed(2)
    noise = torch.randn(initial[1::3].shape, generator=draw).to(GPU)
    initial[1::3] += 0.5 * checkpoint.model.motion_std.to(GPU) * noise
    commands[::4] = 0.0
    return initial, commands


@pytest.mark.parametrize("num", [1, 7, 500, 4096])
def test_kernels_predict_what_torch_predicts(checkpoint: Checkpoint, num: int) -> None:
    pytest.importorskip("triton")
    fused = Rollout(checkpoint.model, GPU)
    plain = Rollout(checkpoint.model, GPU, backend="torch")
    assert fused.kernels is not None and plain.kernels is None
    initial, commands = random_states(checkpoint, num)
    following, guarded = fused.advance(initial, commands), fused.guarded
    expected, expected_guarded = plain.step(initial, commands)
    torch.testing.assert_close(following, expected, atol=3e-5, rtol=1e-5)
    assert torch.equal(guarded, expected_guarded)


@pytest.mark.parametrize("storage", [torch.float32, torch.float16])
@pytest.mark.parametrize("mode", list(MODES))
def test_kernels_show_what_torch_shows(checkpoint: Checkpoint, mode: str, storage: torch.dtype) -> None:
    """With random resets, commands and places; from every reset on rounding begins anew."""
    pytest.importorskip("triton")
    settings = {"control_dt": 1.0 / checkpoint.fps, "storage_dtype": storage, **MODES[mode]}
    fused = CMGMotionGenerator(checkpoint, NUM_ENVS, GPU, **settings)
    plain = CMGMotionGenerator(checkpoint, NUM_ENVS, GPU, backend="torch", **settings)
    assert fused.rollout.kernels is not None and plain.rollout.kernels is None
    assert (fused._shown.changes is not None) is (mode == "realtime")
    draw, largest, typical = torch.Generator().manual_seed(5), 0.0, 0.0
    for step in range(100):
        begun, told = ((torch.rand(NUM_ENVS, generator=draw) < 0.02).nonzero().squeeze(1).to(GPU) for _ in range(2))
        commands, places = torch.randn(2, NUM_ENVS, 3, generator=draw).to(GPU)
        for generator in (fused, plain):
            if mode == "pool":
                generator.reset(begun)
            else:
                given = commands[begun] if step % 4 else None
                generator.reset(begun, commands=given, root_pose=places[begun] if step % 3 else None)
            generator.update_commands(commands.flip(0)[told], told)
            if step % 50 == 20:
                generator.set_root_pose(places[told], told)
        shown = [fused.get_frames(), plain.get_frames()]
        if step > 20:
            shown += [fused.future([0, 3]), plain.future([0, 3])]
        for one, other in zip(shown[::2], shown[1::2]):
            for field in fields(one):
                error = (getattr(one, field.name) - getattr(other, field.name)).abs()
                largest, typical = max(largest, float(error.max())), max(typical, float(error.median()))
        fused.advance()
        plain.advance()
    print(f"{mode}, {storage}: largest difference {largest:.2g}, largest median {typical:.2g}")
    assert largest < 5e-2 and typical < 1e-3  # a few steps of long trajectories differ by rounding that grew


def largest_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative where numbers are large."""
    return float(((found - expected).abs() / (1.0 + expected.abs())).max())


def test_a_thousand_steps_with_random_changes(checkpoint: Checkpoint, make_equal: Callable[..., None]) -> None:
    """From equal states a step of the kernels is that of torch's operations; how far both drift apart is printed."""
    pytest.importorskip("triton")
    settings = {"control_dt": 1.0 / checkpoint.fps, **MODES["realtime"]}
    fused = CMGMotionGenerator(checkpoint, NUM_ENVS, GPU, **settings)
    plain, apart = (CMGMotionGenerator(checkpoint, NUM_ENVS, GPU, backend="torch", **settings) for _ in range(2))
    assert fused._shown.changes is not None and plain._shown.changes is None
    draw, of_state, of_frames, drift = torch.Generator().manual_seed(7), 0.0, 0.0, []
    for step in range(1000):
        make_equal(plain, fused)
        begun, told = ((torch.rand(NUM_ENVS, generator=draw) < 0.01).nonzero().squeeze(1).to(GPU) for _ in range(2))
        commands, places = torch.randn(2, NUM_ENVS, 3, generator=draw).to(GPU)
        for generator in (fused, plain, apart):
            given = commands[begun] if step % 4 else None
            generator.reset(begun, commands=given, root_pose=places[begun] if step % 3 else None)
            generator.update_commands(commands.flip(0)[told], told)
            if step % 50 == 20:
                generator.set_root_pose(places[told], told)
        shown, expected, far = (generator.get_frames() for generator in (fused, plain, apart))
        of_frames = max(
            of_frames,
            *(largest_error(getattr(shown, field.name), getattr(expected, field.name)) for field in fields(shown)),
        )
        assert torch.equal(fused.get_motion()[0], shown.dof_pos)
        drift.append((shown.dof_pos - far.dof_pos).abs())
        for generator in (fused, plain, apart):
            generator.advance()
        of_state = max(
            of_state, *(largest_error(*pair) for pair in zip(fused.buffer.motions[2:4], plain.buffer.motions[2:4]))
        )
    assert torch.equal(fused.buffer.written, apart.buffer.written)
    print(f"a step from equal states: state and place within {of_state:.2g}, what is seen of them {of_frames:.2g}")
    for last in (100, 1000):
        error = drift[last - 1]
        print(
            f"joint angles after {last} steps: median {float(error.median()):.2g}, largest {float(error.max()):.2g} rad"
        )
    assert of_state < 1e-5
    assert of_frames < 1e-4  # Some velocities are differences between frames times their number in a second.


@pytest.mark.parametrize("pool", [None, TrajectoryPoolCfg()])
def test_memory_is_what_was_planned(checkpoint: Checkpoint, pool: TrajectoryPoolCfg | None) -> None:
    settings: dict[str, Any] = {"num_envs": 1800, "mode": "pregenerated", "preload_duration": 300, "pool": pool}
    planned = CMGMotionGenerator.memory_required(checkpoint, device=GPU, **settings).total
    # By now libraries have taken what they keep for themselves.
    CMGMotionGenerator(checkpoint, 2, GPU, mode="realtime", buffer_size=8).future(1)
    gc.collect()
    before = torch.cuda.memory_allocated()
    generator = CMGMotionGenerator(checkpoint, device=GPU, **settings)
    generator.reset(commands=draw_commands(1800).to(GPU))
    generator.future(1)
    taken = torch.cuda.memory_allocated() - before
    assert taken == pytest.approx(planned, rel=0.05)


def test_clips_and_a_checkpoint_without_a_root(checkpoint: Checkpoint) -> None:
    clips = generate_clips(checkpoint, draw_commands(3).unsqueeze(1).expand(-1, 60, -1), device=GPU)
    assert all(bool(torch.isfinite(clip.dof_pos).all()) for clip in clips)
    torch.manual_seed(0)
    model = CMG(CMGConfig(), StateLayout.joints_only(29), 30.0)
    rollout = Rollout(model, GPU)
    state = torch.zeros(4, model.layout.size, device=GPU)
    assert bool(torch.isfinite(rollout.advance(state, torch.zeros(4, 3, device=GPU))).all())


@pytest.fixture
def alone() -> Iterator[None]:
    names = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29541"}
    os.environ.update(names)
    yield
    leave_processes()
    for name in names:
        del os.environ[name]


@pytest.mark.usefixtures("alone")
def test_a_shard_gathers_through_nccl() -> None:
    shard = Shard.of_process(num_envs=8)
    assert shard.device == torch.device("cuda:0")
    assert torch.distributed.get_backend() == "nccl"
    values = torch.arange(16.0, device=shard.device).view(8, 2)
    assert torch.equal(shard.gather(values), values)


def make_term(checkpoint: Checkpoint, mode: str) -> ReferenceMotionTerm:
    settings: dict[str, Any] = {
        "checkpoint": checkpoint,
        "mode": mode,
        "preload_duration": 200,
        "future_steps": (1, 5),
        "command_sampler": CommandSamplerCfg(resampling_time=(0.5, 1.0)),
        "pool": POOL,
    }
    term = ReferenceMotionTerm(
        ReferenceMotionTermCfg(**settings), NUM_ENVS, 0.02, load_g1().joint_names, seed=0, device=GPU
    )
    term.reset()
    return term


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("mode", list(MODES))
def test_frames_are_recorded(checkpoint: Checkpoint, mode: str, compiled: bool) -> None:
    generator = CMGMotionGenerator(checkpoint, NUM_ENVS, GPU, compiled=compiled, **MODES[mode])
    generator.reset()
    for step in range(10):
        generator.future(4)
        generator.advance()
        if step % 3 == 0:
            generator.update_commands(draw_commands(5, seed=step).to(GPU), torch.arange(5, device=GPU))
    assert generator.buffer._captured is not None
    assert generator.buffer._captured._usable
    assert generator.buffer._captured.captures
    plain = CMGMotionGenerator(checkpoint, NUM_ENVS, "cpu", **MODES["realtime"])
    initial, wanted = states(checkpoint, NUM_ENVS), draw_commands(NUM_ENVS)
    for other in (generator, plain):
        other.reset(init_motion=initial.to(other.device), commands=wanted.to(other.device))
        for _ in range(25):
            other.advance()
    torch.testing.assert_close(generator.get_motion()[0].cpu(), plain.get_motion()[0], atol=1e-2, rtol=0.0)


@pytest.mark.parametrize("mode", list(MODES))
def test_what_was_recorded_in_inference_mode_works_outside_of_it(checkpoint: Checkpoint, mode: str) -> None:
    generator = CMGMotionGenerator(checkpoint, NUM_ENVS, GPU, **MODES[mode])
    with torch.inference_mode():
        generator.reset(torch.arange(70, device=GPU))
        for _ in range(5):
            generator.future(4)
            generator.advance()
    generator.reset(torch.arange(70, device=GPU))
    for _ in range(5):
        generator.future(4)
        generator.advance()
    assert bool(torch.isfinite(generator.get_motion()[0]).all())
