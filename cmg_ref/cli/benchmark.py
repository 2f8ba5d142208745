"""Measure the motion generator beside what the machine allows, and write the figures down.

  --mode quick     a minute or two: the essentials
  --mode full      everything that docs/performance.md lists (a quarter of an hour on two cores)
  --mode scaling   cost, throughput and memory from 512 to 16384 environments, both modes
  --mode preload   generating whole trajectories: rates, types, latency, baselines
  --mode buffer    reading, realtime and pool steps, memory
  --mode gpu       a minute: frames by precision, steps and reads of 4096 environments, as a GPU is judged by
  --mode profile   trace and table of torch.profiler
  --mode diagnose  slow initialisation, memory growth, idle device: which applies

Each figure stands beside its limit, measured in the same run: the best matrix product of the same type, a gather or a
forward pass of the same size. Figures only mean something on a machine that does nothing else.
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, as_typed, command, whole_number  # isort: split

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Callable, Iterable, Iterator, Tuple

# Threads of torch go on looking for work for milliseconds after each operation, and hold the cores meanwhile, unless
# told to sleep before torch is imported. As in training; both ours and what it is held against run like that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch

from cmg_ref.benchmark import generator as of_generator
from cmg_ref.benchmark import gpu as of_gpu
from cmg_ref.benchmark import network as of_network
from cmg_ref.benchmark.diagnosis import diagnose, profile_steps
from cmg_ref.benchmark.figures import Figure
from cmg_ref.benchmark.limits import MachineLimits, compute_dtypes
from cmg_ref.benchmark.report import machine_name, markdown, save, write_into
from cmg_ref.core.devices import checked_device
from cmg_ref.core.progress import ProgressBar
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from configs.bounds import MAX_NUM_ENVS

MODES = ("quick", "full", "scaling", "preload", "buffer", "gpu", "profile", "diagnose")
SIZES = (512, 1024, 2048, 4096, 8192, 16384)
PRELOAD_SIZES = (1024, 4096, 8192)
DEFAULT_FOLDER = Path("outputs/benchmark")

Measurement = Tuple[str, Callable[[], Iterable[Figure]]]


def parse_arguments() -> argparse.Namespace:
    """Command line of the program."""
    parser = Parser(__doc__)
    parser.add_argument("--mode", choices=MODES, default="quick", help="what to measure (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument(
        "--num-envs",
        type=whole_number(1, MAX_NUM_ENVS),
        nargs="+",
        help="numbers of environments instead of the usual ones",
    )
    parser.add_argument("--checkpoint", type=Path, help="a .safetensors file (default: the one that is shipped)")
    parser.add_argument("--compare", action="store_true", help="with the per-sample and the deque baseline")
    parser.add_argument(
        "--save",
        type=Path,
        nargs="?",
        metavar="DIR",
        const=DEFAULT_FOLDER,
        help="write JSON, Markdown and a plot (default: %(const)s)",
    )
    parser.add_argument(
        "--document",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="write the tables into these documents too, between their marks <!-- benchmark: table -->",
    )
    return parser.parse_args()


class Plan:
    """What each mode measures.

    Args:
        arguments: The command line.
        checkpoint: The CMG.
        limits: Limits of the device.
    """

    def __init__(self, arguments: argparse.Namespace, checkpoint: Checkpoint, limits: MachineLimits) -> None:
        self.checkpoint, self.limits, self.device = checkpoint, limits, limits.device
        self.mode, self.full = arguments.mode, arguments.mode != "quick"
        self.compare = arguments.compare or self.mode in ("full", "preload")
        self.sizes = tuple(arguments.num_envs) if arguments.num_envs else None

    def measurements(self) -> Iterator[Measurement]:
        """What is measured, and how."""
        if self.mode == "gpu":
            yield from of_gpu.measurements(self.checkpoint, self.limits, (self.sizes or (4096,))[0])
            return
        yield "limits of the machine", self.limits.figures
        if self.mode in ("quick", "full"):
            yield "initialisation", self.initialisation
        if self.mode in ("quick", "full", "preload"):
            yield from self.preload()
        if self.mode in ("quick", "full", "buffer"):
            yield from self.buffer()
        if self.mode in ("full", "scaling"):
            scaling = partial(of_generator.scaling, self.checkpoint, self.device, self.sizes or SIZES)
            yield "realtime, all sizes", partial(scaling, 20, "realtime")
            yield "pregenerated, all sizes", partial(scaling, 3, "pregenerated")
        if self.compare:
            sizes = (1, 64, 256, 1024) if self.full else (1, 64)
            repeats, num_steps = (40, 200) if self.full else (10, 60)
            yield (
                "per-sample weights",
                partial(of_network.against_per_sample_weights, self.checkpoint, self.device, sizes, repeats),
            )
            num_envs = min(256, (self.sizes or (256,))[0])
            yield "deques", partial(of_generator.against_deques, self.checkpoint, self.device, num_envs, num_steps)
        if self.mode == "full":
            yield "growth of memory", self.growth

    def initialisation(self) -> Iterator[Figure]:
        """Both modes."""
        num_envs = (self.sizes or (1024,))[0]
        for mode in ("pregenerated", "realtime"):
            yield of_network.initialisation(self.device, num_envs, mode, frames=500 if self.full else 20)

    def preload(self) -> Iterator[Measurement]:
        """Generating whole trajectories."""
        frames, sizes = (500 if self.full else 20), self.sizes or (PRELOAD_SIZES if self.full else PRELOAD_SIZES[:1])
        cases = [(num_envs, torch.float32, False) for num_envs in sizes]
        if torch.bfloat16 in compute_dtypes(self.device):
            cases.append((sizes[0], torch.bfloat16, False))
        if self.device.type == "cuda":
            cases += [(sizes[-1], torch.bfloat16, False), (sizes[-1], torch.float32, True)]
            cases += [(sizes[-1], torch.bfloat16, True)]
        for num_envs, dtype, compiled in cases:
            yield (
                f"pregenerating for {num_envs}",
                partial(of_network.pregeneration, self.checkpoint, self.limits, num_envs, frames, dtype, compiled),
            )
        repeats, num_envs = (30 if self.full else 8), min(1024, sizes[0])
        yield "low precision", partial(of_network.low_precision, self.checkpoint, self.device, num_envs, repeats)
        yield ("float16 storage", partial(of_network.half_precision_storage, self.checkpoint, self.device, frames))
        yield "batch inference", self.batches
        if self.device.type == "cpu":
            yield "products alone", partial(of_network.products_alone, self.checkpoint, 40)
        yield "latency", partial(of_network.latency, self.checkpoint, self.device, 2000 if self.full else 300)

    def batches(self) -> Iterator[Figure]:
        """100 frames at once."""
        yield of_network.batch_inference(self.checkpoint, self.device, (self.sizes or PRELOAD_SIZES)[0])

    def buffer(self) -> Iterator[Measurement]:
        """Reading and stepping."""
        num_envs, num_steps = (self.sizes or (4096,))[0], 2000 if self.full else 30
        steps = partial(of_generator.steps, self.checkpoint, self.device, num_envs)
        repeats = 200 if self.full else 30
        yield "reading", partial(of_generator.reads, self.checkpoint, self.limits, num_envs, repeats)
        yield "realtime steps", partial(steps, "realtime", num_steps)
        yield (
            f"realtime steps with a window of {of_generator.WINDOW}",
            partial(steps, "realtime", max(10, num_steps // 20), of_generator.WINDOW),
        )
        if self.full:  # Only when hundreds of steps have worn a pool does it do the work that it is judged by.
            yield "pool steps", partial(steps, "pool", num_steps // 2)
        yield "memory", partial(self.memory, num_envs)

    def memory(self, num_envs: int) -> Iterator[Figure]:
        """Both types that frames can be stored in."""
        for dtype in (torch.float32, torch.float16):
            yield of_generator.memory(self.device, num_envs, 500, dtype)

    def growth(self) -> Iterator[Figure]:
        """Over many steps."""
        yield of_generator.memory_growth(self.checkpoint, self.device, 6, 100_000)


def run(plan: Plan) -> list[Figure]:
    """Measure, and print each figure as it comes."""
    figures: list[Figure] = []
    measurements = list(plan.measurements())
    with ProgressBar(measurements, unit="measurement", disable=None) as bar:
        for name, measure in bar:
            bar.set_postfix_str(name)
            for figure in measure():
                figures.append(figure)
                ProgressBar.write(markdown([figure], "").splitlines()[-1], file=sys.stdout)
                sys.stdout.flush()
    failed = [figure for figure in figures if figure.meets is False]
    judged = [figure for figure in figures if figure.meets is not None]
    print(f"\n{len(figures)} figures; of {len(judged)} that something is asked of, {len(failed)} fall short")
    return figures


@command()
def main() -> None:
    """Parse, measure, print, write."""
    arguments = parse_arguments()
    device = checked_device(arguments.device, "--device")
    checkpoint = load_checkpoint(arguments.checkpoint)
    title = f"{machine_name(device)}; `{as_typed()}`"
    print(title, flush=True)
    limits = MachineLimits(device)
    num_envs = (arguments.num_envs or [1024])[0]
    if arguments.mode == "profile":
        folder = arguments.save or DEFAULT_FOLDER
        for mode in ("realtime", "pool"):
            table = profile_steps(checkpoint, device, num_envs, mode, folder / mode)
            print(f"\n{mode}, {num_envs} environments; trace: {folder / mode / 'trace.json'}\n{table}")
        return
    if arguments.mode == "diagnose":
        for finding in diagnose(checkpoint, limits, num_envs, num_steps=1000):
            print(f"\n{finding.trouble}: {'APPLIES' if finding.applies else 'does not apply'}\n  {finding.measured}")
            if finding.applies:
                print(f"  {finding.advice}")
        return
    figures = run(Plan(arguments, checkpoint, limits))
    if arguments.save is not None:
        print("wrote " + ", ".join(str(path) for path in save(figures, arguments.save, title)))
    for document in arguments.document:
        write_into(document, figures, title)
        print(f"wrote the tables of {document}")
