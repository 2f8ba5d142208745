"""Profile of a running generator, and whether it has one of the three classic troubles."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from cmg_ref.benchmark.generator import make_generator, memory_growth, training_step
from cmg_ref.benchmark.limits import MachineLimits
from cmg_ref.benchmark.network import setup_seconds
from cmg_ref.files.atomic_file import atomic_file
from cmg_ref.network.checkpoint import Checkpoint

PROFILED_STEPS = 10
SLOW_SETUP_SECONDS = 2.0  # beyond the generation of frames, which no setting can avoid
IDLE_SHARE = 0.5  # of its peak rate, below which a device waits for something else


@dataclass(frozen=True)
class Finding:
    """One trouble, whether it applies, what was measured, and what helps."""

    trouble: str
    applies: bool
    measured: str
    advice: str


def profile_steps(checkpoint: Checkpoint, device: torch.device, num_envs: int, mode: str, folder: Path) -> str:
    """Write a trace of some control steps, ``trace.json``, for chrome://tracing or Perfetto; returns a table."""
    generator = make_generator(checkpoint, num_envs, device, mode)
    for _ in range(5):
        training_step(generator, mode)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities) as recorded:
        for _ in range(PROFILED_STEPS):
            training_step(generator, mode)
    with atomic_file(folder / "trace.json") as temporary:
        recorded.export_chrome_trace(str(temporary))
    key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return str(recorded.key_averages().table(sort_by=key, row_limit=20, max_name_column_width=40))


def diagnose(checkpoint: Checkpoint, limits: MachineLimits, num_envs: int, num_steps: int) -> list[Finding]:
    """Look for slow initialisation, growing memory and an idle device."""
    device = limits.device
    setup, generating = setup_seconds(device, num_envs, "pregenerated", frames=100)
    spare = setup - generating
    growth = memory_growth(checkpoint, device, min(num_envs, 256), num_steps)
    generator = make_generator(checkpoint, num_envs, device, "realtime")
    for _ in range(5):
        training_step(generator, "realtime")
    limits.forget_data()
    frames, started = generator.rollout.frame_count, time.perf_counter()
    for _ in range(PROFILED_STEPS):
        training_step(generator, "realtime")
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    operations = (generator.rollout.frame_count - frames) * generator.rollout.network.num_operations
    share = operations / seconds / limits.gemm_rates()[1]
    return [
        Finding(
            "slow initialisation",
            spare > SLOW_SETUP_SECONDS,
            f"{setup:.2f} s for {num_envs} environments, {generating:.2f} s of it generate frames",
            "mode='realtime' or a pool with fewer trajectories generates less at the start; a slow disk shows in spare",
        ),
        Finding(
            "memory growth",
            growth.meets is False,
            f"{growth.value:+.1f} MB in {num_steps} steps with random resets and commands",
            "look for results that are kept: frames returned by the generator hold their memory while referenced",
        ),
        Finding(
            "idle device",
            share < IDLE_SHARE,
            f"realtime steps run at {share:.0%} of the peak rate of matrix products",
            "more environments per step, fewer threads that spin beside it (OMP_NUM_THREADS, OMP_WAIT_POLICY=PASSIVE), "
            "on a GPU fewer small resets between steps; --mode profile shows where the time goes",
        ),
    ]
