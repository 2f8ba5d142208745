"""What a generator is asked to hold, checked and turned into sizes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cmg_ref.trajectories.argument_checks import checked_whole
from cmg_ref.trajectories.pool import SamplesCommands, TrajectoryPoolCfg

MODES = ("pregenerated", "realtime")
AT_END = ("regenerate", "hold")


@dataclass(frozen=True)
class GeneratorSettings:
    """Arguments of :class:`cmg_ref.generator.CMGMotionGenerator` that decide about memory and planning."""

    num_envs: int = 4096
    mode: str = "pregenerated"
    preload_duration: int = 500
    buffer_size: int = 100
    control_dt: float = 0.02
    refill_frames: int | None = 1
    interpolation_steps: int = 25
    at_end: str = "regenerate"
    storage_dtype: torch.dtype = torch.float32
    compute_dtype: torch.dtype = torch.float32
    compiled: bool = False
    pool: TrajectoryPoolCfg | None = None

    def validate(self) -> None:
        """Raise a ValueError that names the first impossible setting."""
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got '{self.mode}'")
        if self.at_end not in AT_END:
            raise ValueError(f"at_end must be one of {AT_END}, got '{self.at_end}'")
        for name, least in (
            ("num_envs", 1),
            ("preload_duration", 12),
            ("buffer_size", 8),
            ("interpolation_steps", 0),
        ):
            checked_whole(getattr(self, name), name, least)
        if not 0.0 < self.control_dt <= 0.1:
            raise ValueError(f"control_dt must lie in (0, 0.1] s, got {self.control_dt}")
        if (
            self.refill_frames is not None
            and checked_whole(self.refill_frames, "refill_frames", 1) > self.buffer_size // 2
        ):
            raise ValueError(
                f"refill_frames must lie in 1 to buffer_size / 2 = {self.buffer_size // 2}, got {self.refill_frames}"
            )
        if self.storage_dtype not in (torch.float32, torch.float16):
            raise ValueError(f"storage_dtype must be torch.float32 or torch.float16, got {self.storage_dtype}")
        if self.pool is not None:
            self.pool.validate()
            if self.preload_duration < self.buffer_size:
                raise ValueError(
                    "with a pool preload_duration must be at least buffer_size, "
                    f"got {self.preload_duration} < {self.buffer_size}"
                )

    @property
    def pooled(self) -> bool:
        """Whether resets are served from a pool."""
        return self.mode == "pregenerated" and self.pool is not None

    @property
    def usual_batch(self) -> int:
        """Motions that are mostly extended together."""
        if self.pool is None or not self.pooled:
            return self.num_envs
        return self.pool.batch_of(self.pool.size(self.num_envs))

    def sizes(self) -> list[tuple[int, int]]:
        """(Number of motions, frames kept of each) of every group of motions."""
        if self.mode == "realtime":
            return [(self.num_envs, self.buffer_size)]
        if self.pool is None:
            return [(self.num_envs, self.preload_duration)]
        return [(self.pool.size(self.num_envs), self.preload_duration), (self.num_envs, self.buffer_size)]

    def num_segments(self, sampler: SamplesCommands, fps: float) -> int:
        """Changes of command kept per motion, of which a pool's trajectories have several."""
        return (
            self.pool.num_segments(sampler, self.preload_duration, fps) if self.pool is not None and self.pooled else 1
        )
