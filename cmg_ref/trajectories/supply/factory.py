"""Makes the motions and the supply of frames that a generator's settings ask for."""

from __future__ import annotations

import torch

from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories.buffer import MotionBuffer
from cmg_ref.trajectories.clock import FrameClock
from cmg_ref.trajectories.frame_supply import FrameSupply
from cmg_ref.trajectories.pool import FollowsCommands, SamplesCommands, TrajectoryPool
from cmg_ref.trajectories.settings import CMGMotionGeneratorCfg
from cmg_ref.trajectories.start_states import InitialStates
from cmg_ref.trajectories.supply.pooled import PooledSupply
from cmg_ref.trajectories.supply.preloaded import PreloadedSupply
from cmg_ref.trajectories.supply.realtime import RealtimeSupply


def make_supply(
    settings: CMGMotionGeneratorCfg,
    checkpoint: Checkpoint,
    rollout: Rollout,
    clock: FrameClock,
    initial_states: InitialStates,
    random: torch.Generator,
    sampler: SamplesCommands,
    robot: Robot | None,
    follows_commands: FollowsCommands = None,
) -> tuple[MotionBuffer, FrameSupply]:
    """Allocate the motions of all environments and who extends them.

    Args:
        settings: Sizes, and when frames are made.
        checkpoint: The CMG.
        rollout: Advances its states.
        clock: Which frame every environment is shown.
        initial_states: Where the trajectories of a pool begin.
        random: Draws which, and what else a pool leaves to chance.
        sampler: Draws their commands.
        robot: Robot description, for checkpoints without root channels.
        follows_commands: Tells which trajectories of a pool do what they are told.
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
        settings.acceleration,
    )
    hold = settings.at_end == "hold"
    if settings.mode == "realtime":
        refill = settings.refill_frames or settings.buffer_size // 2
        return buffer, RealtimeSupply(buffer, clock, settings.buffer_size, refill)
    if settings.pool is None:
        return buffer, PreloadedSupply(buffer, clock, settings.preload_duration, hold)
    num_envs, budget = settings.num_envs, settings.pool.regenerate_frames_per_step
    pool = TrajectoryPool(
        settings.pool,
        buffer,
        settings.pool.size(num_envs),
        settings.preload_duration,
        initial_states,
        sampler,
        random,
        follows_commands,
    )
    budget = num_envs if budget is None else budget
    return buffer, PooledSupply(pool, buffer, clock, settings.buffer_size, budget, hold)
