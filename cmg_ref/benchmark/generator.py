"""Figures of a running generator: reads, steps, scaling, memory."""

from __future__ import annotations

import gc
import multiprocessing
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator

import torch
from tqdm import trange

from cmg_ref.benchmark.baselines import DequeBuffer
from cmg_ref.benchmark.figures import Figure, Stopwatch, asked_from, dtype_name
from cmg_ref.benchmark.limits import MachineLimits, gather_like
from cmg_ref.benchmark.network import sample_states
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.trajectories.buffer import MotionBuffer
from cmg_ref.trajectories.pool import TrajectoryPoolCfg
from cmg_ref.trajectories.settings import CMGMotionGeneratorCfg
from cmg_ref.trajectories.supply.preloaded import END_MARGIN

PRELOADED = 20  # frames of the trajectories whose cost is compared
WINDOW = 20  # control steps of the future window
JUDGED_FROM = 4096  # environments from which reads, steps and memory are held against what is asked for
WARM_UP_STEPS = 10
CHANGED_SHARE = 0.01  # share of environments that are reset, and of those whose command changes, in every step


def reads(
    checkpoint: Checkpoint,
    limits: MachineLimits,
    num_envs: int,
    repeats: int,
    bounds: tuple[float, float] = (1.25, 1.5),
) -> Iterator[Figure]:
    """``get_motion`` and the future window against one gather of as many bytes, nothing of them in a cache before."""
    device = limits.device
    generator = make_generator(checkpoint, num_envs, device, "realtime")
    generator.future(WINDOW)
    watch, reader, store = Stopwatch(device), generator._shown.reader, generator.buffer.store
    shown = generator._shown.clock.shown
    num_rows = len(store.table)

    def get_motion() -> object:
        reader._current = None  # Asked for a second time in a step, it would not even be a gather.
        return generator.get_motion()

    now = store.rows(shown, slice(None))
    ahead = store.rows(shown.unsqueeze(1) + torch.arange(1, WINDOW + 1, device=device), slice(None)).flatten()
    window = generator.future(WINDOW)
    fields = [window.dof_pos, window.dof_vel, window.root_pos_w, window.root_quat_w]
    fields += [window.root_lin_vel_w, window.root_ang_vel_w]
    cases: list[tuple[str, Callable[[], object], torch.Tensor, list[torch.Tensor], float]] = [
        ("get_motion()", get_motion, now, list(generator.get_motion()), bounds[0]),
        (f"future({WINDOW})", lambda: generator.future(WINDOW), ahead, fields, bounds[1]),
    ]
    for name, action, rows, result, bound in cases:
        num_bytes = sum(field.numel() * field.element_size() for field in result)
        table = gather_like(num_rows, rows, num_bytes, torch.float32)
        ours, gather = watch.median(
            action, partial(table.index_select, 0, rows), repeats=repeats, before=limits.forget_data
        )
        yield Figure(
            f"{name} against a gather",
            num_envs,
            "float32",
            1e3 * ours,
            "ms",
            1e3 * gather,
            at_most=asked_from(JUDGED_FROM, num_envs, bound),
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
    if mode == "pool":  # Not all at their first frame, or all would come to their end together.
        generator.reset(start_frames="random")
    else:
        generator.reset(commands=random_commands(checkpoint, num_envs, device))
    return generator


def random_commands(checkpoint: Checkpoint, num: int, device: torch.device) -> torch.Tensor:
    """Commands (num, command_dim) out of the whole trained range."""
    low, high = checkpoint.command_min.to(device), checkpoint.command_max.to(device)
    return low + (high - low) * torch.rand(num, len(low), device=device)


def training_step(generator: CMGMotionGenerator, mode: str, window: int = 0) -> None:
    """What an environment asks of the generator in a control step: some resets, new commands, reading, advancing."""
    num_envs, device = generator.num_envs, generator.device
    count = max(1, round(CHANGED_SHARE * num_envs))
    draws = [torch.randperm(num_envs, device=device)[:count] for _ in range(2)]
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
    checkpoint: Checkpoint,
    device: torch.device,
    num_envs: int,
    mode: str,
    num_steps: int,
    window: int = 0,
    **settings: Any,
) -> Iterator[Figure]:
    """Time of control steps with resets and new commands: evenness, and the mean against what cannot be saved.

    That is one forward pass of all environments; for a pool, one frame for all of them generated in large batches,
    stored and all. Both are measured between the steps, so that whatever else the machine does meets them alike.
    """
    generator = make_generator(checkpoint, num_envs, device, mode, **settings)
    watch = Stopwatch(device)
    states, commands = sample_states(checkpoint, num_envs, device)
    least: Callable[[], object] = partial(generator.rollout.advance, states, commands)
    if mode == "pool":
        spare = MotionBuffer(checkpoint, generator.rollout, [(num_envs, 8)])
        spare.restart(torch.arange(num_envs, device=device), states, states)
        least = partial(spare.extend, slice(None), 1)
    taken, passes = [], []
    frames = 0
    for step in trange(num_steps + WARM_UP_STEPS, desc=f"{mode} steps", unit="step", leave=False, disable=None):
        if step % 10 == 0:
            passes.append(watch.seconds(least))
        before = generator.rollout.frame_count
        seconds = watch.seconds(lambda: training_step(generator, mode, window))
        if step >= WARM_UP_STEPS:
            taken.append(seconds)
            frames += generator.rollout.frame_count - before
    times, alone = torch.tensor(taken, dtype=torch.float64), torch.tensor(passes, dtype=torch.float64)
    limit, unevenness = float(alone.mean()), float(alone.quantile(0.99) / alone.median())
    label = f"{mode} step" + (f" with a window of {window}" if window else "")
    mean, median, late = float(times.mean()), float(times.median()), float(times.quantile(0.99))
    note = f"{num_steps} steps, {CHANGED_SHARE:.0%} resets" + ("" if mode == "pool" else " and new commands")
    note += f", {frames / num_steps / num_envs:.2f} frames generated per environment and step"
    if mode == "pool":
        stats = generator.get_performance_stats()
        again = stats["trajectories_handed_out_again"] / max(1, stats["trajectories_handed_out"])
        note += f", {again:.0%} of the trajectories handed out were seen before"
    unread = window == 0  # A window read by all has to be generated anew after a reset: more than one pass.
    yield Figure(
        f"{label}: mean against " + ("generating the frames consumed" if mode == "pool" else "a forward pass"),
        num_envs,
        "float32",
        1e3 * mean,
        "ms",
        1e3 * limit,
        at_most=asked_from(JUDGED_FROM, num_envs, 1.1) if unread else None,
        note=note,
    )
    yield Figure(
        f"{label}: 99th percentile against the median",
        num_envs,
        "float32",
        1e3 * late,
        "ms",
        1e3 * median,
        at_most=asked_from(JUDGED_FROM, num_envs, 2.0 if mode == "pool" else 1.5),
        note=f"worst {1e3 * float(times.max()):.1f} ms; of what the mean is held against: {unevenness:.2f}",
    )


def scaling(
    checkpoint: Checkpoint, device: torch.device, sizes: tuple[int, ...], num_steps: int, mode: str
) -> Iterator[Figure]:
    """Cost per environment and frame for several numbers of environments, against that of 4096 or the nearest."""
    watch, generators = Stopwatch(device), {}
    taken = torch.zeros(num_steps, len(sizes), dtype=torch.float64)

    def build(num_envs: int) -> None:
        generators[num_envs] = make_generator(
            checkpoint, num_envs, device, mode, preload_duration=PRELOADED + END_MARGIN
        )

    def work(num_envs: int) -> None:
        if mode == "realtime":
            training_step(generators[num_envs], mode)
        else:
            generators[num_envs].reset()
            generators[num_envs].future(1)

    set_up = {num_envs: watch.seconds(partial(build, num_envs)) for num_envs in sizes}
    for num_envs in sizes:
        work(num_envs)
    # In turn, so that whatever else the machine does meets all sizes alike.
    for step in trange(num_steps, desc=f"{mode}, all sizes", leave=False, disable=None):
        for column, num_envs in enumerate(sizes):
            taken[step, column] = watch.seconds(partial(work, num_envs))
    frames = 1 if mode == "realtime" else PRELOADED
    costs = dict(zip(sizes, (taken.median(dim=0).values / torch.tensor(sizes) / frames).tolist()))
    reference = costs[min(sizes, key=lambda size: abs(size - 4096))]
    for column, (num_envs, cost) in enumerate(costs.items()):
        times = 1e3 * taken[:, column]
        memory_held = generators[num_envs].get_performance_stats()["memory_bytes"]
        what = "step" if mode == "realtime" else f"{frames} frames"
        note = (
            f"{1e-3 / cost:.1f} thousand frames/s; {what} {float(times.median()):.3g} ms, 99th percentile "
            f"{float(times.quantile(0.99)):.3g} ms, worst {float(times.max()):.3g} ms; {memory_held / 1e6:.0f} MB; "
            f"set up in {set_up[num_envs]:.2f} s"
        )
        yield Figure(
            f"{mode}: cost per environment and frame",
            num_envs,
            "float32",
            1e6 * cost,
            "us",
            1e6 * reference,
            at_least=asked_from(512, num_envs, 1.0 / 1.2),
            at_most=asked_from(512, num_envs, 1.2),
            note=note,
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


def _measure_memory(cfg: CMGMotionGeneratorCfg, device_name: str, pipe: Any) -> None:
    """In a process of its own, where nothing freed earlier hides what is taken: send measured and announced bytes."""
    device = torch.device(device_name)
    CMGMotionGenerator(None, 2, device, mode="realtime", buffer_size=8).future(1)  # Libraries are loaded by now.
    before = resident_bytes(device)
    generator = CMGMotionGenerator(device=device, cfg=cfg)
    generator.buffer.store.table.fill_(0.0)  # Memory counts as taken when it is first written to.
    for _ in range(2):
        generator.get_motion()
        generator.rollout.advance(*sample_states(generator.checkpoint, generator.num_envs, device))
    required = CMGMotionGenerator.memory_required(device=device, cfg=cfg)
    # Everything is generated in one batch, so hardly a product is compiled.
    pipe.send((resident_bytes(device) - before, required.total - required.compiled, required.joints))


def memory(device: torch.device, num_envs: int, frames: int, dtype: torch.dtype) -> Figure:
    """Memory in use against what ``memory_required`` says."""
    cfg = CMGMotionGeneratorCfg(num_envs, preload_duration=frames, storage_dtype=dtype)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure_memory, args=(cfg, str(device), theirs))
    process.start()
    measured, announced, joints = ours.recv()
    process.join()
    return Figure(
        f"memory of {frames} frames against memory_required",
        num_envs,
        dtype_name(dtype),
        measured / 1e6,
        "MB",
        announced / 1e6,
        at_least=asked_from(JUDGED_FROM, num_envs, 0.95),
        at_most=asked_from(JUDGED_FROM, num_envs, 1.05),
        note=f"{joints / 1e6:.0f} MB of it are joints",
    )


def memory_growth(checkpoint: Checkpoint, device: torch.device, num_envs: int, num_steps: int) -> Figure:
    """Growth of memory over many steps with random resets and commands."""
    generator = make_generator(checkpoint, num_envs, device, "realtime", buffer_size=32)
    before = 0
    for step in trange(num_steps, desc="memory growth", unit="step", leave=False, disable=None):
        training_step(generator, "realtime", window=4 if step % 10 == 0 else 0)
        if step == num_steps // 10:
            before = resident_bytes(device)
    growth = (resident_bytes(device) - before) / 1e6
    return Figure(f"growth of memory in {num_steps} steps", num_envs, "float32", growth, "MB", at_most=5.0)
