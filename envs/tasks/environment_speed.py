"""How fast an environment is, beside how fast its physics alone would be in the same states."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from cmg_ref.core.progress import ProgressBar

now = time.perf_counter  # [s]
WARM_UP_STEPS = 100  # in which the first robots fall and are put back, so that all phases of an episode are met
RESTORED = ("qpos", "qvel", "qacc_warmstart")  # what a step of the physics changes and starts from


@dataclass(frozen=True)
class EnvironmentSpeed:
    """Medians over control steps.

    Attributes:
        num_envs: Number of environments.
        physics_dt: Time step of the physics [s].
        decimation: Physics steps in a control step.
        env_steps_per_second: Control steps of single environments that `env.step` does in a second.
        bare_steps_per_second: The same if nothing but MuJoCo's step ran, from the same states with the same targets.
        term_share: Share of the time of `env.step` that goes into the reference motion, 0 without one.
    """

    num_envs: int
    physics_dt: float
    decimation: int
    env_steps_per_second: float
    bare_steps_per_second: float
    term_share: float

    @property
    def share_of_bare(self) -> float:
        """Speed of the environment over that of its physics alone."""
        return self.env_steps_per_second / self.bare_steps_per_second

    def to_json(self) -> dict[str, float]:
        """All figures by name."""
        return {**asdict(self), "share_of_bare": self.share_of_bare}


class TimedTerm:
    """Stands in for a reference term and adds up the time that is spent in it.

    Args:
        term: The term.

    Attributes:
        seconds: Time spent so far [s].
    """

    def __init__(self, term: Any) -> None:
        self._term = term
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        # Much of a term's work is done when something is first read.
        started = now()
        value = getattr(self._term, name)
        self.seconds += now() - started
        return self._timed(value) if callable(value) else value

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = now()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += now() - started

        return call


@torch.no_grad()
def measure_speed(
    env: Any, policy: Callable[[torch.Tensor], torch.Tensor], num_steps: int = 300, progress: bool = False
) -> EnvironmentSpeed:
    """Step an environment with a policy, and the bare physics from the same states in between.

    The two take turns, so that whatever else the machine does meets both alike. The policy itself is not timed.

    Args:
        env: An environment on MuJoCo whose joints are driven by position, all physics steps in one call.
        policy: Observations (num_envs, num_obs) to actions (num_envs, num_actions).
        num_steps: Control steps to take the medians of.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: The environment runs on another simulator or drives its joints by torques.
    """
    if not hasattr(env.sim, "batch") or env.cfg.control.drive_mode != "position":
        raise ValueError("the speed of bare physics is measured on MuJoCo and with control.drive_mode=position only")
    batch, decimation = env.sim.batch, env.cfg.control.decimation
    timed = None
    if env.reference is not None:
        timed = env.reference = TimedTerm(env.reference)
    whole, bare, term = [], [], []
    for step in ProgressBar(range(WARM_UP_STEPS + num_steps), unit="step", disable=not progress):
        actions = policy(env.get_observations())
        # Contacts change the cost of a step, so both run from the same states.
        states = {name: np.copy(getattr(batch, name)) for name in RESTORED}
        bare.append(_seconds(partial(batch.step, nstep=decimation)))
        for name, value in states.items():
            getattr(batch, name)[:] = value
        before = timed.seconds if timed is not None else 0.0
        whole.append(_seconds(partial(env.step, actions)))
        term.append(timed.seconds - before if timed is not None else 0.0)
        if step + 1 == WARM_UP_STEPS:
            whole, bare, term = [], [], []
    if timed is not None:
        env.reference = timed._term
    return EnvironmentSpeed(
        num_envs=env.num_envs,
        physics_dt=env.physics_dt,
        decimation=decimation,
        env_steps_per_second=env.num_envs / float(np.median(whole)),
        bare_steps_per_second=env.num_envs / float(np.median(bare)),
        term_share=float(np.sum(term) / np.sum(whole)),
    )


def _seconds(action: Callable[[], object]) -> float:
    started = now()
    action()
    return now() - started
