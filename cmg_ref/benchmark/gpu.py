"""What a GPU is judged by: frames of all environments by precision, steps with changes, reads, a baseline."""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from functools import partial
from typing import Callable, Iterator

import torch

from cmg_ref.benchmark.figures import Figure, Stopwatch
from cmg_ref.benchmark.generator import CHANGED_SHARE, make_generator, random_commands, reads
from cmg_ref.benchmark.limits import MachineLimits, compute_dtypes
from cmg_ref.benchmark.network import (
    ERROR_MOTIONS,
    ERROR_SECONDS,
    against_per_sample_weights,
    joint_errors,
    sample_states,
)
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.rollout.rollout import Rollout

# Type, torch's precision of float32 products, most time of a frame of 4096 environments, most of 500 of them [ms].
PRECISIONS = (
    ("float32", torch.float32, "highest", 0.30, None),
    ("TF32", torch.float32, "high", 0.12, 60.0),
    ("bfloat16", torch.bfloat16, "highest", 0.08, 40.0),
)
LONG_RUN = 500  # frames
READS = (1.2, 1.3)  # most time of get_motion() and of a window, in gathers of as many bytes
WARM_UP_STEPS = 30


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Let torch multiply float32 matrices in that precision."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def frames(checkpoint: Checkpoint, device: torch.device, num_envs: int) -> Iterator[Figure]:
    """Time of a frame one after the other, and of a long trajectory at once, in every precision, with its error."""
    watch = Stopwatch(device)
    judged = num_envs == 4096
    for name, dtype, precision, most, most_of_run in PRECISIONS:
        if dtype not in compute_dtypes(device):
            continue
        with products_in(precision):
            generator = CMGMotionGenerator(
                checkpoint,
                num_envs,
                device,
                preload_duration=LONG_RUN + 4,
                compute_dtype=dtype,
                control_dt=1.0 / checkpoint.fps,
            )
            generator.reset(commands=random_commands(checkpoint, num_envs, device))
            generator.future(1)
            extend = partial(generator.buffer.extend, slice(None))
            single = watch.median(partial(repeat, partial(extend, 1), 100), repeats=5) / 100
            run = watch.median(partial(extend, LONG_RUN), repeats=3)
        note = "" if name == "float32" else precision_errors(checkpoint, device, dtype, precision)
        yield Figure("a frame", num_envs, name, 1e3 * single, "ms", at_most=most if judged else None, note=note)
        yield Figure(f"{LONG_RUN} frames", num_envs, name, 1e3 * run, "ms", at_most=most_of_run if judged else None)


def repeat(action: Callable[[], object], times: int) -> None:
    """Call an action so many times."""
    for _ in range(times):
        action()


def precision_errors(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, precision: str) -> str:
    """In words, what a precision costs in accuracy over a long roll-out."""
    states, commands = sample_states(checkpoint, ERROR_MOTIONS, device)
    schedule = commands.unsqueeze(1).expand(-1, round(ERROR_SECONDS * checkpoint.fps), -1)
    exact = Rollout(checkpoint.model, device).generate(states, schedule)
    with products_in(precision):
        rounded = Rollout(checkpoint.model, device, dtype=dtype).generate(states, schedule)
    return joint_errors(checkpoint, rounded, exact)


def steps(
    checkpoint: Checkpoint, device: torch.device, num_envs: int, mode: str, num_steps: int, window: int = 0
) -> Iterator[Figure]:
    """Control steps with resets and new commands, drawn beforehand, against the frame alone; and their evenness."""
    generator = make_generator(checkpoint, num_envs, device, mode)
    alone = make_generator(checkpoint, num_envs, device, "realtime")
    watch, count = Stopwatch(device), max(1, round(CHANGED_SHARE * num_envs))
    taken, of_frame, by_part = [], [], torch.zeros(4, dtype=torch.float64)
    for step in range(num_steps + WARM_UP_STEPS):
        begun, changed = (torch.randint(num_envs, (count,), device=device) for _ in range(2))
        commands = [random_commands(checkpoint, count, device) for _ in range(2)]
        if step % 4 == 0:
            of_frame.append(watch.seconds(partial(alone.buffer.extend, slice(None), 1)))
        watch.wait()
        stamps = [time.perf_counter()]
        if mode == "pool":
            generator.reset(begun, start_frames="random")
            stamps.append(time.perf_counter())
        else:
            generator.reset(begun, commands=commands[0])
            stamps.append(time.perf_counter())
            generator.update_commands(commands[1], changed)
        stamps.append(time.perf_counter())
        generator.future(window) if window else generator.get_motion()
        stamps.append(time.perf_counter())
        generator.advance()
        stamps.append(time.perf_counter())
        watch.wait()
        if step >= WARM_UP_STEPS:
            taken.append(time.perf_counter() - stamps[0])
            by_part += torch.tensor(stamps, dtype=torch.float64).diff()
    times = torch.tensor(taken, dtype=torch.float64) * 1e3
    median, late, frame = float(times.median()), float(times.quantile(0.99)), 1e3 * statistics.median(of_frame)
    host = ", ".join(
        f"{part} {1e6 * float(seconds) / num_steps:.0f}"
        for part, seconds in zip(("reset", "new commands", "reading", "advancing"), by_part)
    )
    judged = mode == "realtime" and not window and num_envs == 4096
    label = f"{mode} step" + (f" with a window of {window}" if window else "")
    yield Figure(
        f"{label}: median against a frame alone",
        num_envs,
        "float32",
        median,
        "ms",
        frame,
        at_most=1.3 if judged else None,
        note=f"{num_steps} steps, {CHANGED_SHARE:.0%} resets and commands; of the host [us]: {host}",
    )
    yield Figure(
        f"{label}: 99th percentile against the median",
        num_envs,
        "float32",
        late,
        "ms",
        median,
        at_most=1.3 if judged else None,
        note=f"worst {float(times.max()):.2f} ms",
    )


def measurements(
    checkpoint: Checkpoint, limits: MachineLimits, num_envs: int
) -> Iterator[tuple[str, Callable[[], Iterator[Figure]]]]:
    """All of them, in the order of what matters most."""
    device = limits.device
    small = device.type != "cuda"  # There it is only tried whether it runs.
    yield "frames", partial(frames, checkpoint, device, num_envs)
    for mode, window, num_steps in (("realtime", 0, 400), ("realtime", 20, 60), ("pool", 0, 200)):
        num_steps = 4 if small else num_steps
        yield f"{mode} steps, window {window}", partial(steps, checkpoint, device, num_envs, mode, num_steps, window)
    yield "reading", partial(reads, checkpoint, limits, num_envs, 10 if small else 200, READS)
    yield (
        "per-sample weights",
        partial(
            against_per_sample_weights, checkpoint, device, (min(1024, num_envs),), 3 if small else 400, {1024: 30.0}
        ),
    )
