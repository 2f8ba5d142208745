"""What the motion library is asked to make."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Sequence

from cmg_ref.commands.sampler import CommandSamplerCfg
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.trajectories.argument_checks import checked_whole

MODES = ("pool", "live")


@dataclass(frozen=True)
class CMGMotionLibCfg:
    """What a :class:`cmg_ref.twist.motion_lib.CMGMotionLib` is made of.

    Attributes:
        checkpoint: File of the CMG, or None for the one shipped with the package.
        mode: ``"pool"``, for training: environments begin anywhere in ready motions that change command every few
            seconds, and a reset costs nothing. ``"live"``, for playing: every environment has a motion of its own, and
            its command may be set at any step.
        num_motions: Motions in the pool.
        motion_length: Longest episode [s]; a pool's motions are twice as long, so that no episode reaches their end.
        lookahead: How far beyond the present the motion is known [s]; at least what observations ask for.
        num_blocks: Parts in which a pool is renewed, the most used motions first; 0 keeps those it begins with.
        check_commands: Whether motions of a pool that miss their command are made anew, or left out.
        ramp_time: Time that the command takes from one value to the next [s].
        commands: What commands are drawn from; None, in live mode, leaves them to ``set_commands``.
        drop_joints: Joints of the CMG that the robot does not have.
        held_joints: Joints of the robot that the CMG does not have, and the angle at which they stay [rad].
        seed: Seed of commands and initial states.
    """

    checkpoint: str | Path | Checkpoint | None = None
    mode: str = "pool"
    num_motions: int = 1024
    motion_length: float = 10.0
    lookahead: float = 2.0
    num_blocks: int = 4
    check_commands: bool = True
    ramp_time: float = 0.5
    commands: CommandSamplerCfg | None = field(default_factory=CommandSamplerCfg)
    drop_joints: Sequence[str] = ()
    held_joints: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def validate(self) -> None:
        """Raise a ValueError that names the first impossible field."""
        if self.mode not in MODES:
            raise ValueError(f"CMGMotionLibCfg.mode must be one of {', '.join(MODES)}, got '{self.mode}'")
        if self.mode == "pool" and self.commands is None:
            raise ValueError("CMGMotionLibCfg.commands must be given in mode 'pool': its motions are made beforehand")
        for name, least in (("num_motions", 1), ("num_blocks", 0)):
            checked_whole(getattr(self, name), f"CMGMotionLibCfg.{name}", least)
        if not 0 <= self.num_blocks <= self.num_motions:
            raise ValueError(
                f"CMGMotionLibCfg.num_blocks must lie in 0 to num_motions = {self.num_motions}, got {self.num_blocks}"
            )
        if self.num_blocks == 1:
            raise ValueError("CMGMotionLibCfg.num_blocks must not be 1: while the only block is renewed none is left")
        for name in ("motion_length", "lookahead"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"CMGMotionLibCfg.{name} must be positive, got {getattr(self, name)}")
        if not 0.0 <= self.ramp_time < math.inf:
            raise ValueError(f"CMGMotionLibCfg.ramp_time must not be negative, got {self.ramp_time}")
