"""Figures of the network and of whole trajectories: rates, errors, latency, baselines."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Callable, Iterator, Mapping

import torch

from cmg_ref.benchmark.baselines import PerSampleCMG
from cmg_ref.benchmark.figures import Figure, Stopwatch, asked_from, dtype_name
from cmg_ref.benchmark.limits import MachineLimits, compute_dtypes
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.rollout.numba_step import BLOCK
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories.memory import available_bytes

ERROR_SECONDS = 10.0  # length of the roll-outs whose errors are told
ERROR_MOTIONS = 64
WARM_UP = 50  # frames before those whose time is told
SPEEDUPS = {1: 8.0, 64: 60.0, 256: 100.0, 1024: 150.0}  # over the per-sample baseline, by number of environments
BATCH_FRAMES = 100


def sample_states(checkpoint: Checkpoint, num: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Initial states (num, state_dim) and what they were doing (num, command_dim), the same ones each time."""
    picks = torch.randint(len(checkpoint.initial_states), (num,), generator=torch.Generator().manual_seed(0))
    commands = checkpoint.model.clamp_command(checkpoint.initial_commands[picks])
    return checkpoint.initial_states[picks].to(device), commands.to(device)


def pregeneration(
    checkpoint: Checkpoint,
    limits: MachineLimits,
    num_envs: int,
    frames: int,
    dtype: torch.dtype = torch.float32,
    compiled: bool = False,
) -> Iterator[Figure]:
    """Rate of the matrix products while whole trajectories are generated, against the machine's best."""
    device = limits.device
    generator = CMGMotionGenerator(
        checkpoint,
        num_envs,
        device,
        preload_duration=frames + 3,
        compute_dtype=dtype,
        compiled=compiled,
        control_dt=1.0 / checkpoint.fps,
    )
    _, commands = sample_states(checkpoint, num_envs, device)
    if device.type == "cuda":  # A graph is captured once in a generator's life, not for each trajectory.
        generator.reset(commands=commands)
        generator.future(1)
    generator.reset(commands=commands)
    watch = Stopwatch(device)
    rates = [limits.gemm_rates(dtype)]
    before = generator.rollout.frame_count
    seconds = watch.seconds(lambda: generator.future(1))
    done = generator.rollout.frame_count - before
    rates.append(limits.gemm_rates(dtype))
    packed = limits.packed_gemm_rate(dtype)
    rate = done * generator.rollout.network.num_operations / seconds
    note = f"{seconds:.2f} s, {done / seconds / 1e3:.1f} thousand frames/s"
    best, sustained = map(max, zip(*rates))
    asked = asked_from(1024, num_envs, 0.85) if dtype == torch.float32 else None
    cases = [("the best single product", best, asked), ("products kept up for a second", sustained, asked)]
    if packed is not None:  # which `torch.mm`, what users would write, does not reach
        cases.append(("the best product with a packed weight", packed, None))
    for name, peak, bound in cases:
        yield Figure(
            f"pregenerating {frames} frames{', compiled,' if compiled else ''} against {name}",
            num_envs,
            dtype_name(dtype),
            rate / 1e9,
            "GFLOP/s",
            peak / 1e9,
            at_least=bound,
            note=note,
        )


def low_precision(checkpoint: Checkpoint, device: torch.device, num_envs: int, repeats: int) -> Iterator[Figure]:
    """Speed of each type against float32, and what it costs in accuracy over a long roll-out."""
    states, commands = sample_states(checkpoint, num_envs, device)
    dtypes = compute_dtypes(device)
    if len(dtypes) == 1:
        return
    rollouts = [Rollout(checkpoint.model, device, dtype=dtype) for dtype in dtypes]
    steps = [partial(rollout.advance, states, commands) for rollout in rollouts]
    seconds = Stopwatch(device).median(*steps, repeats=repeats)
    frames = round(ERROR_SECONDS * checkpoint.fps)
    states, commands = sample_states(checkpoint, ERROR_MOTIONS, device)
    schedule = commands.unsqueeze(1).expand(-1, frames, -1)
    exact = rollouts[0].generate(states, schedule)
    for dtype, rollout, taken in list(zip(dtypes, rollouts, seconds))[1:]:
        yield Figure(
            "throughput against float32",
            num_envs,
            dtype_name(dtype),
            1e-3 * num_envs / taken,
            "thousand frames/s",
            1e-3 * num_envs / seconds[0],
            at_least=asked_from(1024, num_envs, 1.6),
            note=joint_errors(checkpoint, rollout.generate(states, schedule), exact),
        )


def joint_errors(checkpoint: Checkpoint, states: torch.Tensor, exact: torch.Tensor) -> str:
    """In words, by how much the joints of roll-outs (n, frames, state_dim) differ."""
    error = 1e3 * (states - exact)[..., checkpoint.layout["dof_pos"]].abs()
    return (
        f"joints differ by {float(error.mean()):.1f} mrad on average over {ERROR_SECONDS:g} s and by "
        f"{float(error[:, -1].mean()):.1f} mrad at the end"
    )


def half_precision_storage(checkpoint: Checkpoint, device: torch.device, num_steps: int) -> Iterator[Figure]:
    """Largest differences between what is shown from frames stored in float16 and in float32."""
    exact, rounded = (
        CMGMotionGenerator(
            checkpoint,
            ERROR_MOTIONS,
            device,
            mode="realtime",
            buffer_size=8,
            control_dt=1.0 / checkpoint.fps,
            storage_dtype=dtype,
        )
        for dtype in (torch.float32, torch.float16)
    )
    _, commands = sample_states(checkpoint, ERROR_MOTIONS, device)
    worst = {"joint angles": 0.0, "joint velocities": 0.0, "root position": 0.0, "root velocity": 0.0}
    for generator in (exact, rounded):
        generator.reset(commands=commands)
    for _ in range(num_steps):
        ours, theirs = rounded.get_frames(), exact.get_frames()
        differences = (
            ours.dof_pos - theirs.dof_pos,
            ours.dof_vel - theirs.dof_vel,
            ours.root_pos_w - theirs.root_pos_w,
            ours.root_lin_vel_w - theirs.root_lin_vel_w,
        )
        for name, difference in zip(worst, differences):
            worst[name] = max(worst[name], float(difference.abs().max()))
        exact.advance()
        rounded.advance()
    for (name, value), unit in zip(worst.items(), ("mrad", "mrad/s", "mm", "mm/s")):
        yield Figure(f"storage in float16: worst error of {name}", ERROR_MOTIONS, "float16", 1e3 * value, unit)


def against_per_sample_weights(
    checkpoint: Checkpoint,
    device: torch.device,
    sizes: tuple[int, ...],
    repeats: int,
    asked: Mapping[int, float] = SPEEDUPS,
) -> Iterator[Figure]:
    """Speed-up over blending a private weight matrix for each sample; ours holds commands and states in range too."""
    rollout = Rollout(checkpoint.model, device)
    baseline = PerSampleCMG(rollout.model)
    for num in sizes:
        available = available_bytes(device)
        if available is not None and baseline.bytes_needed(num) > 0.8 * available:
            continue
        states, commands = sample_states(checkpoint, num, device)
        watch, count = Stopwatch(device), max(3, repeats // (1 + num // 64))
        actions = partial(baseline.predict, states, commands), partial(rollout.advance, states, commands)
        runs = 20 if num <= 8 else 1  # A few motions take less time than a clock can tell.
        # In turn, so that whatever else the machine does meets both alike, and each in vain before it is timed: whoever
        # calls one of them again and again finds its weights in the cache.
        rounds = [[watch.median(action, repeats=runs, warm_up=runs) for action in actions] for _ in range(count)]
        plain, ours = (statistics.median(times) for times in zip(*rounds))
        yield Figure(
            "against per-sample weights",
            num,
            "float32",
            1e-3 * num / ours,
            "thousand frames/s",
            1e-3 * num / plain,
            at_least=asked.get(num),
            note=f"{1e3 * ours:.3g} ms against {1e3 * plain:.3g} ms",
        )


def latency(checkpoint: Checkpoint, device: torch.device, frames: int) -> Iterator[Figure]:
    """Time of one frame of one robot on one thread: the next state alone, and the whole of a control step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = CMGMotionGenerator(
            checkpoint, 1, device, mode="realtime", buffer_size=16, control_dt=1.0 / checkpoint.fps
        )
        generator.reset(commands=checkpoint.command_layout.complete(torch.tensor([[0.8, 0.0, 0.0]], device=device)))
        watch = Stopwatch(device)
        states, commands = sample_states(checkpoint, 1, device)

        def step() -> None:
            generator.advance()
            generator.get_motion()

        cases: dict[str, Callable[[], object]] = {
            "the next state": partial(generator.rollout.advance, states, commands),
            "a whole control step with root, storing and reading": step,
        }
        for name, action in cases.items():
            for _ in range(WARM_UP):
                action()
            taken = torch.tensor([watch.seconds(action) for _ in range(frames)], dtype=torch.float64)
            late, worst = 1e3 * float(taken.quantile(0.99)), 1e3 * float(taken.max())
            yield Figure(
                f"one robot, one thread, a frame: {name}",
                1,
                "float32",
                1e3 * float(taken.median()),
                "ms",
                at_most=0.3,
                note=f"median; 99th percentile {late:.2f} ms, worst {worst:.2f} ms",
            )
    finally:
        torch.set_num_threads(threads)


def products_alone(checkpoint: Checkpoint, repeats: int) -> Iterator[Figure]:
    """Time of the matrix products in the step of a block on one thread, against that of the whole step; with Numba."""
    step = Rollout(checkpoint.model).numba_step
    if step is None:
        return
    network, workspace, threads = step._network, step.workspace(), torch.get_num_threads()
    states, commands = sample_states(checkpoint, BLOCK, torch.device("cpu"))
    following, guarded = torch.empty_like(states), torch.empty(BLOCK, dtype=torch.bool)
    whole = states.numpy(), commands.numpy(), following.numpy(), guarded.numpy()
    workspace.fit(BLOCK)

    def products() -> None:
        step._first(workspace.inputs.tensor, workspace.gate.tensor)
        for index, mixed in enumerate(workspace.mixed):
            network.multiply(index, mixed.tensor, workspace.hidden.tensor)
        step._last(workspace.hidden.tensor, workspace.outputs.tensor)

    torch.set_num_threads(1)
    try:
        step.step(workspace, *whole)  # Products of numbers that are none would take another time.
        alone, together = Stopwatch(torch.device("cpu")).median(
            products, partial(step.step, workspace, *whole), repeats=repeats
        )
    finally:
        torch.set_num_threads(threads)
    yield Figure(
        "products alone, of the next state on one thread",
        BLOCK,
        "float32",
        1e3 * alone,
        "ms",
        1e3 * together,
        note=f"{1e-9 * BLOCK * network.num_operations / alone:.0f} GFLOP/s",
    )


def batch_inference(checkpoint: Checkpoint, device: torch.device, num_envs: int) -> Figure:
    """Time of 100 frames for all environments at once, by the bare roll-out."""
    rollout = Rollout(checkpoint.model, device)
    states, commands = sample_states(checkpoint, num_envs, device)
    schedule = commands.unsqueeze(1).expand(-1, BATCH_FRAMES, -1)
    rollout.generate(states, schedule[:, :2])
    seconds = Stopwatch(device).seconds(lambda: rollout.generate(states, schedule))
    note = f"{BATCH_FRAMES * num_envs / seconds / 1e3:.1f} thousand frames/s"
    return Figure(f"batch inference of {BATCH_FRAMES} frames", num_envs, "float32", seconds, "s", note=note)


def setup_seconds(device: torch.device, num_envs: int, mode: str, frames: int) -> tuple[float, float]:
    """Time [s] from nothing to the first step, without the import of torch, and the part of it that makes frames."""
    watch, started = Stopwatch(device), time.perf_counter()
    generator = CMGMotionGenerator(num_envs=num_envs, device=device, mode=mode, preload_duration=frames)
    generator.advance()
    generator.get_frames()
    watch.wait()
    return time.perf_counter() - started, generator.get_performance_stats()["generation_seconds"]


def initialisation(device: torch.device, num_envs: int, mode: str, frames: int) -> Figure:
    """Time from nothing to the first step."""
    seconds, generating = setup_seconds(device, num_envs, mode, frames)
    name = f"initialisation, {mode}" + (f" {frames} frames" if mode == "pregenerated" else "")
    return Figure(name, num_envs, "float32", seconds, "s", note=f"{generating:.2f} s of it generate frames")
