"""Figures of a running generator: reads, steps, scaling, memory."""

from __future__ import annotations

import gc
import multiprocessing
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator

import torch

from cmg_ref.benchmark.baselines import DequeBuffer
from cmg_ref.benchmark.figures import Figure, Stopwatch
from cmg_ref.benchmark.limits import MachineLimits, gather_like
from cmg_ref.benchmark.network import sample_states
from cmg_ref.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.trajectory_pool import TrajectoryPoolCfg

WINDOW = 20  # control steps of the future window
CHANGED_SHARE = 0.01  # share of environments that are reset, and of those whose command changes, in every step


def reads(checkpoint: Checkpoint, limits: MachineLimits, num_envs: int, repeats: int) -> Iterator[Figure]:
    """``get_motion`` and the future window against one gather of as many bytes, nothing of them in a cache before."""
    device = limits.device
    generator = make_generator(checkpoint, num_envs, device, "realtime")
    generator.future(WINDOW)
    watch, reader, store = Stopwatch(device), generator._reader, generator._buffer.store
    num_rows = len(store.table)

    def get_motion() -> object:
        reader._current = None  # Asked for a second time in a step, it would not even be a gather.
        return generator.get_motion()

    now = store.rows(reader.shown, slice(None))
    ahead = store.rows(reader.shown.unsqueeze(1) + torch.arange(1, WINDOW + 1, device=device), slice(None)).flatten()
    window = generator.future(WINDOW)
    fields = [window.dof_pos, window.dof_vel, window.root_pos_w, window.root_quat_w]
    fields += [window.root_lin_vel_w, window.root_ang_vel_w]
    cases: list[tuple[str, Callable[[], object], torch.Tensor, list[torch.Tensor], float]] = [
        ("get_motion()", get_motion, now, list(generator.get_motion()), 1.25),
        (f"future({WINDOW})", lambda: generator.future(WINDOW), ahead, fields, 1.5),
    ]
    for name, action, rows, result, bound in cases:
        num_bytes = sum(field.numel() * field.element_size() for field in result)
        table = gather_like(num_rows, rows, num_bytes, torch.float32)
        ours, gather = watch.median(
            action,
            partial(table.index_select, 0, rows),
            repeats=repeats,
            before=limits.forget_data,
        )
        yield Figure(
            f"{name} against a gather",
            num_envs,
            "float32",
            1e3 * ours,
            "ms",
            1e3 * gather,
            at_most=bound,
            note=f"{num_bytes / 1e6:.1f} MB, {2.0 * num_bytes / ours / limits.copy_rate():.0%} of the copy rate",
        )


def make_generator(
    checkpoint: Checkpoint, num_envs: int, device: torch.device, mode: str, **settings: Any
) -> CMGMotionGenerator:
    """A generator of ``mode`` "realtime", "pregenerated" or "pool", with a random command for every environment."""
    if mode == "pool":
        settings = {"pool": TrajectoryPoolCfg(), "preload_duration": 300, **settings}
    generator = CMGMotionGenerator(
        checkpoint,
        num_envs,
        device,
        mode="realtime" if mode == "realtime" else "pregenerated",
        control_dt=1.0 / checkpoint.fps,
        **{"buffer_size": 64, **settings},
    )
    generator.reset(commands=None if mode == "pool" else random_commands(checkpoint, num_envs, device))
    return generator


def random_commands(checkpoint: Checkpoint, num: int, device: torch.device) -> torch.Tensor:
    """Commands (num, 3) out of the whole trained range."""
    low, high = checkpoint.command_min.to(device), checkpoint.command_max.to(device)
    return low + (high - low) * torch.rand(num, 3, device=device)


def training_step(generator: CMGMotionGenerator, mode: str, window: int = 0) -> None:
    """What an environment asks of the generator in a control step: some resets, new commands, reading, advancing."""
    num_envs, device = generator.num_envs, generator.device
    count = max(1, round(CHANGED_SHARE * num_envs))
    draws = [torch.randint(num_envs, (count,), device=device) for _ in range(2)]
    if mode == "pool":
        generator.reset(draws[0], start_frames="random")
    else:
        generator.reset(draws[0], commands=random_commands(generator.checkpoint, count, device))
        generator.update_commands(random_commands(generator.checkpoint, count, device), draws[1])
    generator.get_motion()
    if window > 0:
        generator.future(window)
    generator.advance()


def steps(
    checkpoint: Checkpoint, device: torch.device, num_envs: int, mode: str, num_steps: int, window: int = 0
) -> Iterator[Figure]:
    """Time of control steps with resets and new commands: evenness, and the mean against one forward pass."""
    generator = make_generator(checkpoint, num_envs, device, mode)
    watch = Stopwatch(device)
    states, commands = sample_states(checkpoint, num_envs, device)
    taken, passes = [], []
    for step in range(num_steps + 10):
        if step % 10 == 0:  # Measured in between, so that whatever else the machine does meets both alike.
            passes.append(watch.seconds(lambda: generator.rollout.advance(states, commands)))
        seconds = watch.seconds(lambda: training_step(generator, mode, window))
        if step >= 10:
            taken.append(seconds)
    times, forward = torch.tensor(taken, dtype=torch.float64), float(torch.tensor(passes).median())
    label = f"{mode} step" + (f" with a window of {window}" if window else "")
    mean, median, late = float(times.mean()), float(times.median()), float(times.quantile(0.99))
    unread = window == 0
    yield Figure(
        f"{label}: mean against a forward pass",
        num_envs,
        "float32",
        1e3 * mean,
        "ms",
        1e3 * forward,
        at_most=1.1 if unread else None,
        note=f"{num_steps} steps, {CHANGED_SHARE:.0%} resets" + ("" if mode == "pool" else " and new commands"),
    )
    bound = 2.0 if mode == "pool" else 1.5
    yield Figure(
        f"{label}: 99th percentile against the median",
        num_envs,
        "float32",
        1e3 * late,
        "ms",
        1e3 * median,
        at_most=bound if unread else None,
        note=f"worst {1e3 * float(times.max()):.1f} ms",
    )


def scaling(
    checkpoint: Checkpoint, device: torch.device, sizes: tuple[int, ...], num_steps: int, mode: str
) -> Iterator[Figure]:
    """Cost per environment and frame for several numbers of environments, against that of 4096 or the nearest."""
    costs: dict[int, float] = {}
    watch = Stopwatch(device)
    for num_envs in sizes:
        if mode == "realtime":
            step = partial(training_step, make_generator(checkpoint, num_envs, device, mode), mode)
            taken = torch.tensor([watch.seconds(step) for _ in range(num_steps)])
            costs[num_envs] = float(taken.median()) / num_envs
        else:
            generator = make_generator(checkpoint, num_envs, device, mode, preload_duration=num_steps + 3)
            costs[num_envs] = watch.seconds(partial(generator.future, 1)) / num_envs / num_steps
    reference = costs[min(sizes, key=lambda size: abs(size - 4096))]
    for num_envs, cost in costs.items():
        yield Figure(
            f"{mode}: cost per environment and frame",
            num_envs,
            "float32",
            1e6 * cost,
            "us",
            1e6 * reference,
            at_least=1.0 / 1.2,
            at_most=1.2,
        )


def against_deques(checkpoint: Checkpoint, device: torch.device, num_envs: int, num_steps: int) -> Iterator[Figure]:
    """Realtime steps against a deque per environment that is refilled for all of them at once."""
    states, commands = sample_states(checkpoint, num_envs, device)
    model = CMGMotionGenerator(checkpoint, 1, device, mode="realtime", buffer_size=8).rollout.model
    plain = DequeBuffer(model, states, commands, size=100)
    generator = make_generator(checkpoint, num_envs, device, "realtime")
    count, watch, ours, theirs = max(1, round(CHANGED_SHARE * num_envs)), Stopwatch(device), [], []

    def plain_step() -> None:
        env_ids = torch.randint(num_envs, (count,)).tolist()
        plain.reset(env_ids, states[env_ids])
        plain.step()

    for _ in range(num_steps):
        ours.append(watch.seconds(lambda: training_step(generator, "realtime")))
        theirs.append(watch.seconds(plain_step))
    for name, pick in (("mean", torch.mean), ("worst", torch.max)):
        value, other = float(pick(torch.tensor(ours))), float(pick(torch.tensor(theirs)))
        label = f"realtime step against deques: {name}"
        yield Figure(label, num_envs, "float32", 1e3 * value, "ms", 1e3 * other)


def resident_bytes(device: torch.device) -> int:
    """Memory in use: of the process, or on the GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return int(torch.cuda.memory_allocated(device))
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _measure_memory(settings: dict[str, Any], device_name: str, pipe: Any) -> None:
    """In a process of its own, where nothing freed earlier hides what is taken: send measured and announced bytes."""
    device = torch.device(device_name)
    checkpoint = load_checkpoint()
    CMGMotionGenerator(checkpoint, 2, device, mode="realtime", buffer_size=8).future(1)  # Libraries are loaded by now.
    before = resident_bytes(device)
    generator = CMGMotionGenerator(checkpoint, device=device, **settings)
    generator._buffer.store.table.fill_(0.0)  # Memory counts as taken when it is first written to.
    for _ in range(2):
        generator.get_motion()
        generator.rollout.advance(*sample_states(checkpoint, generator.num_envs, device))
    required = CMGMotionGenerator.memory_required(checkpoint, device, **settings)
    pipe.send((resident_bytes(device) - before, required.total, required.joints))


def memory(device: torch.device, num_envs: int, frames: int, dtype: torch.dtype) -> Figure:
    """Memory in use against what ``memory_required`` says."""
    settings = {"num_envs": num_envs, "preload_duration": frames, "storage_dtype": dtype}
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure_memory, args=(settings, str(device), theirs))
    process.start()
    measured, announced, joints = ours.recv()
    process.join()
    return Figure(
        f"memory of {frames} frames against memory_required",
        num_envs,
        str(dtype).split(".")[-1],
        measured / 1e6,
        "MB",
        announced / 1e6,
        at_least=0.95,
        at_most=1.05,
        note=f"{joints / 1e6:.0f} MB of it are joints",
    )


def memory_growth(checkpoint: Checkpoint, device: torch.device, num_envs: int, num_steps: int) -> Figure:
    """Growth of memory over many steps with random resets and commands."""
    generator = make_generator(checkpoint, num_envs, device, "realtime", buffer_size=32)
    before = 0
    for step in range(num_steps):
        training_step(generator, "realtime", window=4 if step % 3 == 0 else 0)
        if step == num_steps // 10:
            before = resident_bytes(device)
    growth = (resident_bytes(device) - before) / 1e6
    return Figure(f"growth of memory in {num_steps} steps", num_envs, "float32", growth, "MB", at_most=5.0)
