"""Measure the motion generator beside what the machine allows, and write the figures down.

  --mode quick     a minute: the essentials at one size
  --mode full      everything that docs/performance.md lists (about a quarter of an hour on two cores)
  --mode scaling   cost per environment and frame from 512 to 16384 environments, both modes
  --mode preload   generating whole trajectories: rates, types, baselines
  --mode buffer    reading, realtime and pool steps, memory
  --mode profile   trace and table of torch.profiler
  --mode diagnose  slow initialisation, memory growth, idle device: which applies

Each figure stands beside its limit, measured in the same run: the best matrix product of the same type, a gather or a
forward pass of the same size. Figures only mean something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from cmg_ref.benchmark import generator as of_generator
from cmg_ref.benchmark import network as of_network
from cmg_ref.benchmark.diagnosis import diagnose, profile_steps
from cmg_ref.benchmark.figures import Figure
from cmg_ref.benchmark.limits import MachineLimits
from cmg_ref.benchmark.report import machine_name, markdown, save
from cmg_ref.checkpoint import Checkpoint, load_checkpoint

MODES = ("quick", "full", "scaling", "preload", "buffer", "profile", "diagnose")
SIZES = (512, 1024, 2048, 4096, 8192, 16384)
DEFAULT_FOLDER = Path("outputs/benchmark")


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=MODES, default="quick")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument("--num-envs", type=int, nargs="+", help="numbers of environments instead of the usual ones")
    parser.add_argument("--checkpoint", type=Path, help="a .safetensors file (default: the one that is shipped)")
    parser.add_argument("--compare", action="store_true", help="with the per-sample and the deque baseline")
    parser.add_argument(
        "--save",
        type=Path,
        nargs="?",
        const=DEFAULT_FOLDER,
        help="write JSON, Markdown and a plot (default: %(const)s)",
    )
    return parser.parse_args()


def preload(checkpoint: Checkpoint, limits: MachineLimits, sizes: tuple[int, ...], full: bool) -> Iterator[Figure]:
    """Generating whole trajectories."""
    frames = 500 if full else 20
    for num_envs in sizes:
        yield of_network.pregeneration(checkpoint, limits, num_envs, frames)
    yield of_network.pregeneration(checkpoint, limits, sizes[0], frames, torch.bfloat16)
    yield from of_network.low_precision(checkpoint, limits.device, 1024, repeats=30 if full else 8)
    yield of_network.batch_inference(checkpoint, limits.device, sizes[0])
    yield from of_network.latency(checkpoint, limits.device, frames=2000 if full else 300)


def buffer(checkpoint: Checkpoint, limits: MachineLimits, num_envs: int, full: bool) -> Iterator[Figure]:
    """Reading and stepping."""
    device, num_steps = limits.device, 2000 if full else 30
    yield from of_generator.reads(checkpoint, limits, num_envs, repeats=200 if full else 30)
    yield from of_generator.steps(checkpoint, device, num_envs, "realtime", num_steps)
    yield from of_generator.steps(checkpoint, device, num_envs, "realtime", num_steps // 10, of_generator.WINDOW)
    pool_envs = num_envs if full else min(num_envs, 512)
    yield from of_generator.steps(checkpoint, device, pool_envs, "pool", num_steps)
    frames = 500 if full else 100
    for dtype in (torch.float32, torch.float16):
        yield of_generator.memory(device, num_envs, frames, dtype)


def baselines(checkpoint: Checkpoint, device: torch.device, full: bool) -> Iterator[Figure]:
    """The plain implementations."""
    sizes = (1, 64, 256, 1024) if full else (1, 64)
    yield from of_network.against_per_sample_weights(checkpoint, device, sizes, repeats=40 if full else 10)
    yield from of_generator.against_deques(checkpoint, device, 256, num_steps=200 if full else 60)


def measure(arguments: argparse.Namespace, checkpoint: Checkpoint, limits: MachineLimits) -> Iterator[Figure]:
    """Figures of the mode asked for."""
    mode, full, device = arguments.mode, arguments.mode != "quick", limits.device
    sizes = tuple(arguments.num_envs) if arguments.num_envs else None
    if mode in ("quick", "full"):
        for kind in ("pregenerated", "realtime"):
            yield of_network.initialisation(device, (sizes or (1024,))[0], kind)
    if mode in ("quick", "full", "preload"):
        yield from preload(checkpoint, limits, sizes or ((1024, 4096, 8192) if full else (1024,)), full)
    if mode in ("quick", "full", "buffer"):
        yield from buffer(checkpoint, limits, sizes[0] if sizes else 4096 if full else 1024, full)
    if mode in ("full", "scaling"):
        for kind in ("realtime", "pregenerated"):
            yield from of_generator.scaling(checkpoint, device, sizes or SIZES, 20, kind)
    if mode in ("full", "preload") or arguments.compare:
        yield from baselines(checkpoint, device, full)
    if mode == "full":
        yield of_generator.memory_growth(checkpoint, device, 6, 100_000)


def main() -> None:
    """Parse, measure, print, write."""
    arguments = parse_arguments()
    try:
        device = torch.device(arguments.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            sys.exit("benchmark_performance: torch finds no GPU here; take --device cpu")
        checkpoint = load_checkpoint(arguments.checkpoint)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"benchmark_performance: {error}")
    title = f"{machine_name(device)}; `python {' '.join(['scripts/benchmark_performance.py', *sys.argv[1:]])}`"
    print(title, flush=True)
    limits = MachineLimits(device)
    folder = arguments.save or DEFAULT_FOLDER
    if arguments.mode == "profile":
        for mode in ("realtime", "pool"):
            num_envs = (arguments.num_envs or [1024])[0]
            print(f"\n{mode}, {num_envs} environments; trace: {folder / mode / 'trace.json'}")
            print(profile_steps(checkpoint, device, num_envs, mode, folder / mode))
        return
    if arguments.mode == "diagnose":
        for finding in diagnose(checkpoint, limits, (arguments.num_envs or [1024])[0], num_steps=1000):
            print(f"\n{finding.trouble}: {'APPLIES' if finding.applies else 'does not apply'}\n  {finding.measured}")
            if finding.applies:
                print(f"  {finding.advice}")
        return
    figures: list[Figure] = []
    for figure in measure(arguments, checkpoint, limits):
        figures.append(figure)
        print(markdown([figure], "").splitlines()[-1], flush=True)
    failed = [figure for figure in figures if figure.meets is False]
    print(f"\n{len(figures)} figures, {len(failed)} of them short of what is asked for")
    if arguments.save is not None:
        print("wrote " + ", ".join(str(path) for path in save(figures, folder, title)))


if __name__ == "__main__":
    main()
