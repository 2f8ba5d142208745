"""A measured figure, its limit, and how time is taken."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any, Callable

import torch

now = time.perf_counter  # [s]


@dataclass(frozen=True)
class Figure:
    """One line of a benchmark.

    Attributes:
        name: What was measured.
        num_envs: Number of environments.
        dtype: Type that was computed or stored in.
        value: The figure.
        unit: Its unit.
        limit: What the machine allows, or what it is compared with, measured in the same run and unit; None if nothing.
        at_least: Smallest good ratio of value and limit (or value, without a limit); None if any will do.
        at_most: Largest good one.
        note: What else there is to say.
    """

    name: str
    num_envs: int
    dtype: str
    value: float
    unit: str
    limit: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Value over limit."""
        return None if self.limit is None else self.value / self.limit

    @property
    def meets(self) -> bool | None:
        """Whether the figure is good enough; None if nothing is asked of it."""
        if self.at_least is None and self.at_most is None:
            return None
        judged = self.value if self.ratio is None else self.ratio
        low = self.at_least if self.at_least is not None else -float("inf")
        high = self.at_most if self.at_most is not None else float("inf")
        return low <= judged <= high

    def to_json(self) -> dict[str, Any]:
        """JSON-ready entries."""
        return {**asdict(self), "ratio": self.ratio, "meets": self.meets}


def asked_from(smallest: int, num_envs: int, bound: float) -> float | None:
    """The bound where there are so many environments that it is asked for; smaller batches cannot fill the machine."""
    return bound if num_envs >= smallest else None


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` rather than ``torch.float32``."""
    return str(dtype).split(".")[-1]


class Stopwatch:
    """Takes time on a device, waiting for what was begun there.

    Args:
        device: Where the work runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, action: Callable[[], object]) -> float:
        """Time that an action takes [s]."""
        self.wait()
        started = now()
        action()
        self.wait()
        return now() - started

    def median(
        self, *actions: Callable[[], object], repeats: int, before: Callable[[], object] | None = None, warm_up: int = 1
    ) -> Any:
        """Median time of actions [s], a number or a tuple of them.

        Actions are run in turn, so that whatever else the machine does meets all of them alike.

        Args:
            actions: What to time.
            repeats: Times that each runs.
            before: Run before each of them and not timed, to leave none of their data in a cache, say.
            warm_up: Times that each runs at first without being timed.
        """
        times: list[list[float]] = [[] for _ in actions]
        for action in actions:
            for _ in range(warm_up):
                action()
        for _ in range(repeats):
            for action, taken in zip(actions, times):
                if before is not None:
                    before()
                taken.append(self.seconds(action))
        medians = tuple(statistics.median(taken) for taken in times)
        return medians[0] if len(medians) == 1 else medians
