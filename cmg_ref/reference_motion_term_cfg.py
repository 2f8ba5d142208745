"""What a :class:`cmg_ref.reference_motion_term.ReferenceMotionTerm` is asked to show."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Sequence

import torch

from cmg_ref.commands.sampler import CommandSamplerCfg
from cmg_ref.commands.strata import BALANCED_STRATA
from cmg_ref.core.command_layout import check_acceleration
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.trajectories.argument_checks import checked_whole
from cmg_ref.trajectories.pool import TrajectoryPoolCfg
from cmg_ref.trajectories.settings import CMGMotionGeneratorCfg

MODES = ("pool", "pregenerated", "realtime")
# What a pool gets per environment unless its configuration says so: trajectories, and frames generated each step.
POOL_TRAJECTORIES, POOL_FRAMES = 0.5, 0.0625
SMALLEST_POOL = 64
SMALLEST_BUFFER = 32  # frames held per environment in realtime mode, if the future steps need no more
NEVER = 1e6  # [s] beyond the end of any trajectory


@dataclass(frozen=True)
class ReferenceMotionTermCfg:
    """What a :class:`~cmg_ref.reference_motion_term.ReferenceMotionTerm` shows.

    Attributes:
        checkpoint: The CMG or its file; None for the one shipped with the package.
        mode: ``"pool"`` shows ready trajectories with changing commands, so that a reset generates nothing (for
            training); ``"realtime"`` generates as time passes (for playing, or where every step counts the same);
            ``"pregenerated"`` generates a whole trajectory at each reset and each change of command.
        pool: Size and renewal of the pool; by default it has a trajectory for every other environment, and renews them
            by a sixteenth of a frame per environment and step. What ``standing_starts`` and ``resample_commands`` ask
            of its trajectories it must not deny.
        future_steps: Control steps ahead that the environment reads at every step, rising from 1 on. They are read
            together with the present frame, and ``ReferenceMotionTerm.future`` costs nothing for them.
        future_joint_steps: Control steps ahead of which the joint angles alone are read at every step, rising from 1
            on, for a third of the cost: ``ReferenceMotionTerm.future_dof_pos``.
        key_bodies: Bodies whose positions are given; the robot's own choice by default.
        drop_joints: Joints of the checkpoint that the environment's robot does not have (the wrists of a G1 with 23).
        command_sampler: Which commands environments are given, and when they change.
        resample_commands: Whether commands change within an episode.
        resampling_interval: In modes other than ``"pool"``, control steps between the times at which changes take
            effect. Environments that change together share their forward passes.
        ramp_time: Time in which a command passes linearly to a new one [s], or more if that is far off.
        acceleration: What vx, vy [m/s^2] and yaw rate [rad/s^2] change by at most meanwhile, see
            :class:`CMGMotionGeneratorCfg`.
        standing_starts: Share of resets that begin from standing, with which all trajectories of a pool begin unless
            this is 0.
        stand: How they stand, ``"neutral"`` or ``"as_it_comes"``, see :class:`CMGMotionGeneratorCfg`.
        latest_start: In a pool, latest time of its trajectory that a reset begins at [s]. Where an episode comes to the
            end of its trajectory it goes on by itself, which costs a forward pass per frame; trajectories longer than
            ``latest_start`` and an episode together are never left.
        preload_duration: Frames of a trajectory in the modes ``"pool"`` and ``"pregenerated"``.
        buffer_size: Frames held per environment in realtime mode, and by those that have left the pool; as many as
            ``future_steps`` need by default.
        storage_dtype: Type of the stored frames, see :class:`CMGMotionGenerator`.
        compute_dtype: Type the network computes in, see there.
        backend: What makes and reads the frames, see there.
        compiled: On a GPU, compile the frames, see there.
    """

    checkpoint: str | Path | Checkpoint | None = None
    mode: str = "pool"
    pool: TrajectoryPoolCfg = field(default_factory=TrajectoryPoolCfg)
    future_steps: tuple[int, ...] = (1,)
    future_joint_steps: tuple[int, ...] = ()
    key_bodies: tuple[str, ...] | None = None
    drop_joints: tuple[str, ...] = ()
    command_sampler: CommandSamplerCfg = field(default_factory=lambda: CommandSamplerCfg(strata=BALANCED_STRATA))
    resample_commands: bool = True
    resampling_interval: int = 10
    ramp_time: float = 0.5
    acceleration: tuple[float, float, float] | None = None
    standing_starts: float = 0.1
    stand: str = "neutral"
    latest_start: float = 10.0
    preload_duration: int = 1500
    buffer_size: int | None = None
    storage_dtype: torch.dtype = torch.float32
    compute_dtype: torch.dtype = torch.float32
    backend: str = "auto"
    compiled: bool = False

    def validate(self) -> None:
        """Raise a ValueError that names the first impossible field."""
        name = type(self).__name__
        if self.mode not in MODES:
            raise ValueError(f"{name}.mode must be one of {MODES}, got '{self.mode}'")
        for field_name in ("future_steps", "future_joint_steps"):
            steps = list(getattr(self, field_name))
            if any(int(step) != step or step < 1 for step in steps) or steps != sorted(set(steps)):
                raise ValueError(f"{name}.{field_name} must be rising whole numbers from 1 on, got {tuple(steps)}")
        for field_name, least in (("resampling_interval", 1), ("preload_duration", 12), ("buffer_size", 8)):
            if getattr(self, field_name) is not None:
                checked_whole(getattr(self, field_name), f"{name}.{field_name}", least)
        for field_name in ("ramp_time", "latest_start"):
            if not 0.0 <= getattr(self, field_name) < math.inf:
                raise ValueError(f"{name}.{field_name} must not be negative, got {getattr(self, field_name)}")
        check_acceleration(self.acceleration, f"{name}.acceleration")
        if not 0.0 <= self.standing_starts <= 1.0:
            raise ValueError(f"{name}.standing_starts must be in [0, 1], got {self.standing_starts}")
        self.command_sampler.validate()
        self.pool.validate()
        if self.standing_starts > 0.0 and self.pool.from_standing is False:
            raise ValueError(
                f"{name}.standing_starts={self.standing_starts} needs trajectories that begin from standing: leave "
                "pool.from_standing open, or set standing_starts to 0"
            )
        if not self.resample_commands and self.pool.resampling_time is not None:
            raise ValueError(
                f"{name}.pool.resampling_time says when commands change, and resample_commands=False that they do not: "
                "leave one of them at its default"
            )

    def generator_cfg(
        self, num_envs: int, control_dt: float, joint_names: Sequence[str], fps: float, seed: int = 0
    ) -> CMGMotionGeneratorCfg:
        """What the term asks of its generator. Fields that both have by one name mean the same.

        Args:
            num_envs: Number of environments.
            control_dt: Time of a control step [s].
            joint_names: Joints and their order.
            fps: Frames of the checkpoint a second.
            seed: Seed of the choice of states and trajectories.
        """
        known = {item.name for item in fields(CMGMotionGeneratorCfg)}
        shared = {item.name: getattr(self, item.name) for item in fields(self) if item.name in known}
        reach = math.ceil(max(0, *self.future_steps, *self.future_joint_steps) * fps * control_dt)
        own: dict[str, Any] = {
            "num_envs": checked_whole(num_envs, "num_envs", 1),
            "mode": "realtime" if self.mode == "realtime" else "pregenerated",
            "buffer_size": self.buffer_size or max(SMALLEST_BUFFER, reach + 16),
            "control_dt": control_dt,
            "interpolation_steps": round(self.ramp_time * fps),
            "joint_names": joint_names,
            "seed": seed,
            "pool": self.pool_cfg(num_envs) if self.mode == "pool" else None,
        }
        return CMGMotionGeneratorCfg(**{**shared, **own})

    def pool_cfg(self, num_envs: int) -> TrajectoryPoolCfg:
        """The pool's configuration with what it leaves open filled in, for so many environments."""
        cfg = self.pool
        if cfg.num_trajectories is None:
            cfg = replace(cfg, num_trajectories=max(SMALLEST_POOL, math.ceil(POOL_TRAJECTORIES * num_envs)))
        if cfg.regenerate_frames_per_step is None:
            cfg = replace(cfg, regenerate_frames_per_step=math.ceil(POOL_FRAMES * num_envs))
        if cfg.from_standing is None:
            cfg = replace(cfg, from_standing=self.standing_starts > 0.0)
        return cfg if self.resample_commands else replace(cfg, resampling_time=(NEVER, NEVER))
