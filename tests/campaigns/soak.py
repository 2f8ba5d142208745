"""Runs generators for a hundred thousand steps and tells how much memory they take on the way; `make soak`.

In each mode, and with a pool, some environments are reset and told something else in every step, and windows are read,
as in training. What a generator takes bit by bit, room for environments that leave the pool and the products that
oneDNN compiles for each number of motions, it has after the warm-up; from there on it must grow by no more than 5 MB.
Each runs in a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import torch

from cmg_ref import CMGMotionGenerator, load_checkpoint
from cmg_ref.benchmark.generator import training_step
from cmg_ref.trajectories.pool import TrajectoryPoolCfg

MODES = ("realtime", "pregenerated", "pool")
MOST_GROWTH = 5.0  # [MB] after the warm-up
WARM_UP_SHARE = 0.1  # of the steps
WINDOW, WINDOW_INTERVAL = 4, 10  # steps read ahead, every so many steps
FRAMES = {"realtime": 40, "pregenerated": 12, "pool": 40}  # of a trajectory: two are made anew in every step
COMMANDS_INTERVAL = 50  # steps between commands that take environments out of the pool


def resident_megabytes() -> float:
    """Memory that this process has taken [MB], without the pages of files, which the system drops as it likes."""
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    held = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("RssAnon:", "VmSwap:"))}
    return sum(map(int, held.values())) * 1024 / 1e6


def soak(mode: str, num_envs: int, num_steps: int, warm_up: int, frames: int) -> dict[str, float]:
    """Memory [MB] of a generator before it is made, made, warm and at the end, and as it was announced."""
    torch.manual_seed(0)
    checkpoint = load_checkpoint()
    # Libraries are loaded and loops compiled before anything is measured.
    CMGMotionGenerator(checkpoint, 2, mode="realtime", buffer_size=12).future(1)
    settings: dict[str, Any] = {
        "num_envs": num_envs,
        "mode": "realtime" if mode == "realtime" else "pregenerated",
        "buffer_size": 32,
        "preload_duration": frames,
        "pool": TrajectoryPoolCfg() if mode == "pool" else None,
    }
    seen = {"before": resident_megabytes()}
    generator = CMGMotionGenerator(checkpoint, **settings)
    seen["made"] = resident_megabytes()
    for step in range(1, num_steps + 1):
        training_step(generator, mode, window=WINDOW if step % WINDOW_INTERVAL == 0 else 0)
        if mode == "pool" and step % COMMANDS_INTERVAL == 0:
            rows = torch.rand(num_envs) < 0.2
            generator.update_commands(torch.rand(int(rows.sum()), 3) - 0.3, rows)
        if step == warm_up:
            seen["warm"] = resident_megabytes()
    if not bool(torch.isfinite(generator.get_motion()[0]).all()):
        raise RuntimeError(f"{mode}: the motion is not finite any more")
    seen["end"] = resident_megabytes()
    seen["announced"] = CMGMotionGenerator.memory_required(checkpoint, **settings).total / 1e6
    return seen


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; returns 1 if memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=MODES, nargs="+", default=list(MODES))
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--frames", type=int, help=f"of a trajectory (default: {FRAMES})")
    options = parser.parse_args(arguments)
    print("memory [MB]    announced  when made       warm     at end    growth   seconds", flush=True)
    grown = False
    for mode in options.mode:
        started = time.perf_counter()
        warm_up = max(1, round(WARM_UP_SHARE * options.steps))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seen = pool.apply(soak, (mode, options.num_envs, options.steps, warm_up, options.frames or FRAMES[mode]))
        growth = seen["end"] - seen["warm"]
        grown |= growth > MOST_GROWTH
        taken = [seen["announced"], *(seen[moment] - seen["before"] for moment in ("made", "warm", "end")), growth]
        cells = " ".join(f"{value:10.1f}" for value in taken)
        print(f"{mode:13}{cells}{time.perf_counter() - started:10.0f}", flush=True)
    print(f"memory grew by more than {MOST_GROWTH:g} MB" if grown else f"none grew by more than {MOST_GROWTH:g} MB")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
