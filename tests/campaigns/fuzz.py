"""Feeds damaged input to every reader, loader, schedule, override and command line, and counts what should not happen.

  python tests/campaigns/fuzz.py                                    # `make fuzz`
  python tests/campaigns/fuzz.py --targets 'clip pickle' --inputs 500
  python tests/campaigns/fuzz.py --replay outputs/fuzz/clip-pickle-17

The same seed gives the same inputs. Each input is read in another process, which the kernel ends after 10 seconds of a
core and to which it gives 1 GB beyond what it had. An input that fails is kept in a folder, to be replayed by itself.
Needs Linux and the packages of `make install`.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # threads do not survive the fork; read when torch is imported

import argparse
import collections
import itertools
import json
import multiprocessing
import random
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from archive_mutators import zip_bomb
from corpus import ROOT, make_corpus
from mutators import mutated
from planted import planted_targets
from targets import Target, all_targets
from worker import ACCEPTED, FAILURES, REFUSED, Bounds, Outcome, work

PROGRESS_SECONDS = 20.0
KEPT_CASES = 3  # of failures that look alike

_FORK = multiprocessing.get_context("fork")


@dataclass
class Report:
    """What a campaign counted.

    Attributes:
        seed: Seed of the inputs.
        counts: Number of inputs by target and outcome.
        alike: Number of failures by target, kind and place.
        seconds: How long it took.
    """

    seed: int
    counts: dict[str, collections.Counter[str]] = field(default_factory=dict)
    alike: collections.Counter[str] = field(default_factory=collections.Counter)
    seconds: float = 0.0

    def total(self, kind: str | None = None) -> int:
        """Inputs of one outcome, or all."""
        return sum(counts.total() if kind is None else counts[kind] for counts in self.counts.values())

    @property
    def failures(self) -> int:
        """Inputs with an outcome that should not be."""
        return sum(self.total(kind) for kind in FAILURES)

    def text(self) -> str:
        """The totals and, under them, every kind of failure."""
        lines = [f"{self.total()} inputs to {len(self.counts)} targets in {self.seconds:.0f} s, seed {self.seed}"]
        lines += [f"  {self.total(kind):6d} {name}" for kind, name in ((ACCEPTED, "accepted"), (REFUSED, "refused"))]
        lines += [f"  {self.total(kind):6d} {name}" for kind, name in FAILURES.items()]
        lines += [f"{count:5d} x {what}" for what, count in self.alike.most_common()]
        return "\n".join(lines)


class Runner:
    """Worker processes, started anew where one was ended.

    Args:
        targets: What inputs go to.
        jobs: Number of workers.
        bounds: What an input may take.
    """

    def __init__(self, targets: Sequence[Target], jobs: int, bounds: Bounds) -> None:
        self.targets, self.bounds = targets, bounds
        self._workers: list[tuple[BaseProcess, Connection]] = [self._start() for _ in range(jobs)]

    def _start(self) -> tuple[BaseProcess, Connection]:
        ours, theirs = _FORK.Pipe()
        process = _FORK.Process(target=work, args=(theirs, self.targets, self.bounds), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def run(self, inputs: Iterator[tuple[int, int, bytes]]) -> Iterator[tuple[int, int, bytes, Outcome]]:
        """Outcomes of (index of the target, number, content), as they come."""
        busy: dict[Connection, tuple[BaseProcess, float, tuple[int, int, bytes]]] = {}
        idle = list(self._workers)
        waited: list[tuple[int, int, bytes]] = []  # once; the machine may have been busy, so they are tried again
        while True:
            while idle and (item := next(inputs, None)) is not None:
                process, connection = idle.pop()
                connection.send((item[0], item[2]))
                busy[connection] = (process, time.monotonic(), item)
            if not busy:
                break
            for ready in wait(list(busy), timeout=1.0):
                assert isinstance(ready, Connection)
                process, _, item = busy.pop(ready)
                try:
                    outcome = ready.recv()
                    idle.append((process, ready))
                except (EOFError, OSError):
                    outcome = self._ending(process)
                    idle.append(self._start())
                yield (*item, outcome)
            for connection, (process, started, item) in list(busy.items()):
                if time.monotonic() - started > self.bounds.wall_seconds:
                    process.kill()
                    process.join()
                    del busy[connection]
                    idle.append(self._start())
                    if item not in waited:
                        waited.append(item)
                        inputs = itertools.chain([item], inputs)
                        continue
                    yield (*item, Outcome("hang", f"waits for more than {self.bounds.wall_seconds} s, twice"))
        self._workers = idle

    def close(self) -> None:
        """End the workers."""
        for process, connection in self._workers:
            connection.close()
            process.join(5.0)

    def _ending(self, process: BaseProcess) -> Outcome:
        process.join()
        if process.exitcode == -signal.SIGXCPU:
            return Outcome("hang", f"takes more than {self.bounds.cpu_seconds} s of a core")
        return Outcome("crash", f"ended the process with status {process.exitcode}")


def content_of(target: Target, seed: int, number: int) -> bytes:
    """Input of a number; number 0 and on are the sound ones, which a reader must accept."""
    if number < len(target.seeds):
        return target.seeds[number]
    rng = random.Random(f"{seed}/{target.name}/{number}")
    return mutated(rng.choice(target.seeds), rng, target.mutator)


def inputs_of(targets: Sequence[Target], total: int, seed: int) -> Iterator[tuple[int, int, bytes]]:
    """So many inputs for the targets by their shares: the sound ones of each, then damaged ones, by turns."""
    shares = sum(target.share for target in targets)
    turns = [
        (number / target.share, index, number)
        for index, target in enumerate(targets)
        for number in range(max(len(target.seeds), round(total * target.share / shares)))
    ]
    for _, index, number in sorted(turns):
        yield index, number, content_of(targets[index], seed, number)


def keep_case(folder: Path, target: Target, seed: int, number: int, content: bytes, outcome: Outcome) -> Path:
    """Writes what a replay needs: the input, and what happened."""
    case = folder / f"{re.sub('[^a-z0-9]+', '-', target.name.lower())}-{number}"
    case.mkdir(parents=True, exist_ok=True)
    (case / target.filename).write_bytes(content)
    told = {"target": target.name, "seed": seed, "number": number, **asdict(outcome)}
    (case / "case.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return case


def campaign(targets: Sequence[Target], total: int, seed: int, jobs: int, bounds: Bounds, folder: Path) -> Report:
    """Runs all inputs; keeps the failures and a summary in the folder."""
    report = Report(seed, {target.name: collections.Counter() for target in targets})
    started = shown = time.monotonic()
    runner = Runner(targets, jobs, bounds)
    for index, number, content, outcome in runner.run(inputs_of(targets, total, seed)):
        target = targets[index]
        if number < len(target.seeds) and outcome.kind == REFUSED:
            outcome = Outcome("exception", f"refuses sound input: {outcome.summary}", "sound", outcome.trace)
        report.counts[target.name][outcome.kind] += 1
        if outcome.kind in FAILURES:
            what = f"{target.name}: {outcome.kind} {outcome.place}"
            report.alike[what] += 1
            if report.alike[what] <= KEPT_CASES:
                case = keep_case(folder, target, seed, number, content, outcome)
                print(f"{outcome.kind}: {target.name}: {outcome.summary}  ({case})", flush=True)
        if time.monotonic() - shown > PROGRESS_SECONDS:
            shown = time.monotonic()
            print(f"{shown - started:5.0f} s: {report.total()} inputs, {report.failures} failures", flush=True)
    runner.close()
    report.seconds = time.monotonic() - started
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(vars(report), indent=1) + "\n", encoding="utf-8")
    return report


def replay(targets: Sequence[Target], case: Path, bounds: Bounds) -> Outcome:
    """The outcome of a kept input, with its traceback printed."""
    told = json.loads((case / "case.json").read_text(encoding="utf-8"))
    index = next(index for index, target in enumerate(targets) if target.name == told["target"])
    runner = Runner(targets, 1, bounds)
    content = (case / targets[index].filename).read_bytes()
    ((*_, outcome),) = runner.run(iter([(index, told["number"], content)]))
    runner.close()
    print(f"{outcome.trace}\n{told['target']}: {outcome.kind}: {outcome.summary}")
    return outcome


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=30_000, help="how many, over all targets (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--targets", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument(
        "--cpu-seconds", type=int, default=10, help="of a core that an input may take (default: %(default)s)"
    )
    parser.add_argument(
        "--wall-seconds",
        type=int,
        default=60,
        help="that an input may wait; more, for other work may hold it up (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "fuzz", help="folder (default: %(default)s)")
    parser.add_argument("--replay", type=Path, metavar="CASE", help="run the input that is kept in this folder")
    parser.add_argument("--planted", action="store_true", help="try targets that must be caught instead")
    return parser.parse_args()


def main() -> None:
    """Run a campaign or a replay; the exit status says whether anything failed."""
    arguments = parse_arguments()
    bounds = Bounds(arguments.cpu_seconds, arguments.wall_seconds)
    targets = planted_targets() if arguments.planted else all_targets(make_corpus())
    if arguments.targets:
        unknown = set(arguments.targets) - {target.name for target in targets}
        if unknown:
            sys.exit(f"fuzz: no target '{min(unknown)}'; there are {', '.join(target.name for target in targets)}")
        targets = [target for target in targets if target.name in arguments.targets]
    if arguments.replay is not None:
        sys.exit(replay(targets, arguments.replay, bounds).kind in FAILURES)
    zip_bomb("warm-up", b"")  # made once, before the workers are forked
    print(f"{len(targets)} targets, {arguments.inputs} inputs, {bounds.text()} each", flush=True)
    report = campaign(targets, arguments.inputs, arguments.seed, arguments.jobs, bounds, arguments.output)
    print(report.text())
    sys.exit(report.failures > 0)


if __name__ == "__main__":
    main()
