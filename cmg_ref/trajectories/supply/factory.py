"""Makes the motions and the planner that a generator's settings ask for."""

from __future__ import annotations

from typing import Union

import torch

from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories.buffer import MotionBuffer
from cmg_ref.trajectories.pool import SamplesCommands, TrajectoryPool
from cmg_ref.trajectories.settings import GeneratorSettings
from cmg_ref.trajectories.start_states import InitialStates
from cmg_ref.trajectories.supply.planners import PreloadPlanner, RealtimePlanner
from cmg_ref.trajectories.supply.pooled import PooledPlanner

Planner = Union[RealtimePlanner, PreloadPlanner, PooledPlanner]


def make_planner(
    settings: GeneratorSettings,
    checkpoint: Checkpoint,
    rollout: Rollout,
    shown: torch.Tensor,
    frames_per_step: float,
    initial_states: InitialStates,
    random: torch.Generator,
    sampler: SamplesCommands,
    robot: Robot | None,
) -> tuple[MotionBuffer, Planner]:
    """Allocate the motions of all environments and who extends them.

    Args:
        settings: sizes and kind of planning.
        checkpoint: the CMG.
        rollout: advances its states.
        shown: frame shown now, (num_envs,); changed in place by who owns the clock.
        frames_per_step: frames that pass in a control step.
        initial_states: where the trajectories of a pool begin.
        random: draws which, and what else a pool leaves to chance.
        sampler: draws their commands.
        robot: robot description, for checkpoints without root channels.
    """
    buffer = MotionBuffer(
        checkpoint,
        rollout,
        settings.sizes(),
        settings.interpolation_steps,
        settings.num_segments(sampler, checkpoint.fps),
        settings.storage_dtype,
        robot,
        settings.usual_batch,
        settings.compiled,
    )
    hold = settings.at_end == "hold"
    if settings.mode == "realtime":
        refill = settings.refill_frames or settings.buffer_size // 2
        return buffer, RealtimePlanner(buffer, shown, frames_per_step, settings.buffer_size, refill)
    if settings.pool is None:
        return buffer, PreloadPlanner(buffer, shown, frames_per_step, settings.preload_duration, hold)
    num_envs, budget = settings.num_envs, settings.pool.regenerate_frames_per_step
    pool = TrajectoryPool(
        settings.pool,
        buffer,
        settings.pool.size(num_envs),
        settings.preload_duration,
        initial_states,
        sampler,
        random,
    )
    budget = num_envs if budget is None else budget
    return buffer, PooledPlanner(pool, buffer, shown, frames_per_step, settings.buffer_size, budget, hold)
