"""What a generator is asked to make, checked and turned into sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import torch

from cmg_ref.core.backends import BACKENDS
from cmg_ref.core.command_layout import check_acceleration
from cmg_ref.trajectories.argument_checks import checked_whole
from cmg_ref.trajectories.pool import SamplesCommands, TrajectoryPoolCfg

MODES = ("pregenerated", "realtime")
AT_END = ("regenerate", "hold")
STANDS = ("neutral", "as_it_comes")


@dataclass(frozen=True)
class CMGMotionGeneratorCfg:
    """What a :class:`cmg_ref.generator.CMGMotionGenerator` makes, beside the network, the robot and the device.

    Attributes:
        num_envs: Number of environments.
        mode: ``"pregenerated"`` or ``"realtime"``.
        preload_duration: Frames generated at a reset in pregenerated mode, or of each trajectory of a pool.
        buffer_size: Frames held per environment in realtime mode, and by environments that have left the pool.
        control_dt: Time of a control step [s].
        refill_frames: In realtime mode, frames generated at a time; None takes half of the buffer. Where not every
            step brings a frame, environments take turns, so that every step does the same work.
        interpolation_steps: Frames over which a command ramps to a new one, or more if that is far off; 0 switches at
            once.
        acceleration: What vx, vy [m/s^2] and yaw rate [rad/s^2] of a command change by at most while they ramp; None
            takes :data:`cmg_ref.core.command_layout.ACCELERATIONS`.
        at_end: In pregenerated mode, what environments do past their last frame: ``"regenerate"`` goes on from there,
            ``"hold"`` stands in the last pose with zero velocity.
        stand: How motions told to stand do so: ``"neutral"``, feet side by side and both sides alike, two seconds after
            a stop at the latest, or ``"as_it_comes"``, in any pose in which people rest.
        joint_names: Joints and their order in everything returned; the checkpoint's by default.
        drop_joints: Joints of the checkpoint that ``joint_names`` leaves out on purpose.
        storage_dtype: Type of the stored frames; float16 halves the memory, at an error of 1e-3 rad in the joints and
            1e-3 m/s in the root's velocity.
        compute_dtype: Type the network computes in; bfloat16 takes about half the time (float16 only on a GPU), at an
            error of a few milliradians in the joints after ten seconds. A CPU without instructions for it computes in
            float32, with a warning.
        backend: What makes and reads the frames: ``"torch"``, its operations one by one; ``"numba"``, Numba loops
            on a CPU; ``"cuda_graph"``, captured launches on a GPU; ``"auto"`` takes the fastest there is.
        compiled: Where graphs are captured without Triton, let ``torch.compile`` fuse what a frame of all environments
            takes, where that is measured to be faster (on an H100 by a third); takes some ten seconds at the first
            frame.
        seed: Seed for the choice of initial states, trajectories and start frames.
        first_env: Number of the first environment among all that share the seed, where other processes hold the rest
            (see :mod:`cmg_ref.core.sharding`): each is shown the motion it would be shown by one generator of them
            all. A pool belongs to one process; those of several differ.
        pool: Pregenerated mode is served from a pool of this kind; None generates at each reset.
    """

    num_envs: int = 4096
    mode: str = "pregenerated"
    preload_duration: int = 500
    buffer_size: int = 100
    control_dt: float = 0.02
    refill_frames: int | None = 1
    interpolation_steps: int = 25
    acceleration: tuple[float, float, float] | None = None
    at_end: str = "regenerate"
    stand: str = "neutral"
    joint_names: Sequence[str] | None = None
    drop_joints: Sequence[str] = ()
    storage_dtype: torch.dtype = torch.float32
    compute_dtype: torch.dtype = torch.float32
    backend: str = "auto"
    compiled: bool = False
    seed: int = 0
    first_env: int = 0
    pool: TrajectoryPoolCfg | None = None

    def validate(self) -> None:
        """Raise a ValueError that names the first impossible setting."""
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got '{self.mode}'")
        if self.backend not in ("auto", *BACKENDS):
            raise ValueError(f"backend must be 'auto' or one of {BACKENDS}, got '{self.backend}'")
        if self.at_end not in AT_END:
            raise ValueError(f"at_end must be one of {AT_END}, got '{self.at_end}'")
        if self.stand not in STANDS:
            raise ValueError(f"stand must be one of {STANDS}, got '{self.stand}'")
        for name, least in (("num_envs", 1), ("preload_duration", 12), ("buffer_size", 8), ("interpolation_steps", 0)):
            checked_whole(getattr(self, name), name, least)
        check_acceleration(self.acceleration, "acceleration")
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
