"""`CMGMotionLib`: motion generated from velocity commands behind the interface of TWIST's motion library."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, NoReturn, Sequence

import numpy as np
import torch
from torch import Tensor

from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg
from cmg_ref.core.devices import checked_device
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.evaluation.command_following import follows_commands, velocities_h
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.robots.kinematic_tree import KinematicTree, RobotError
from cmg_ref.trajectories.argument_checks import (
    EnvIds,
    Values,
    checked_env_ids,
    checked_indices,
    checked_tensor,
    checked_whole,
)
from cmg_ref.trajectories.memory import check_room
from cmg_ref.twist.feeds import FrameWriter, LiveFeed, MotionRecorder, PoolFeed
from cmg_ref.twist.motion_table import MotionTable, TableFrames

MODES = ("pool", "live")
_SPARE_FRAMES = 12  # that a generator keeps beyond those it is asked for
_CHECKED_TOGETHER = 64  # motions of a pool


@dataclass(frozen=True)
class CMGMotionLibCfg:
    """What :class:`CMGMotionLib` is made of.

    Attributes:
        checkpoint: file of the CMG, or None for the one shipped with the package.
        mode: ``"pool"``, for training: environments begin anywhere in ready motions that change command every few
            seconds, and a reset costs nothing. ``"live"``, for playing: every environment has a motion of its own, and
            its command may be set at any step.
        num_motions: motions in the pool.
        motion_length: longest episode [s]; a pool's motions are twice as long, so that no episode reaches their end.
        lookahead: how far beyond the present the motion is known [s]; at least what observations ask for.
        num_blocks: blocks in which a pool is renewed, one after another; 0 keeps the motions it begins with.
        check_commands: whether motions of a pool that miss their command are made anew, or left out.
        ramp_time: time that the command takes from one value to the next [s].
        commands: what commands are drawn from; None, in live mode, leaves them to ``set_commands``.
        drop_joints: joints of the CMG that the robot does not have.
        held_joints: joints of the robot that the CMG does not have, and the angle at which they stay [rad].
        seed: seed of commands and initial states.
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


class CMGMotionLib:
    """Motion from velocity commands, asked for by motion and time as TWIST asks its own library.

    All quantities of a frame, the positions of bodies included, are computed once, when the frame is made;
    ``calc_motion_frame`` only gathers and blends them. The root starts at x = y = 0 with heading 0 in every motion and
    never jumps, neither where the command changes nor at the end of a motion, where it stands still.

    Motions and environments are named by indices (n,), environments also by a mask (num_envs,) and each once; these and
    all numbers may be tensors, arrays or lists, and what does not fit is refused with the argument's name. A library
    cannot be copied or pickled.

    Args:
        cfg: what to make.
        num_envs: number of environments: the motions of live mode.
        control_dt: time of a control step [s].
        tree: the robot, as the simulator loads it.
        body_names: bodies whose positions are given, in order: TWIST's key bodies and feet.
        joint_names: joints and their order in everything returned; the robot's by default.
        device: device of everything.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        MemoryError: there is not as much memory as it takes; nothing has been allocated.
        RobotError: a joint or body of the robot does not fit; the message names it.
        ValueError: a field of ``cfg`` is impossible, or another argument.
    """

    @with_torch_defaults
    def __init__(
        self,
        cfg: CMGMotionLibCfg,
        num_envs: int,
        control_dt: float,
        tree: KinematicTree,
        body_names: Sequence[str],
        joint_names: Sequence[str] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        cfg.validate()
        self.cfg, self.control_dt, self.device = cfg, control_dt, checked_device(device, "device")
        checked_whole(num_envs, "num_envs", 1)
        if not 0.0 < control_dt <= 0.1:
            raise ValueError(f"control_dt must lie in (0, 0.1] s, got {control_dt}")
        self.body_names = tuple(body_names)
        self.joint_names = tuple(tree.joint_names if joint_names is None else joint_names)
        checkpoint = cfg.checkpoint if isinstance(cfg.checkpoint, Checkpoint) else load_checkpoint(cfg.checkpoint)
        generated = _generated_joints(checkpoint.joint_names, self.joint_names, cfg)
        steps_ahead = math.ceil(cfg.lookahead / control_dt)
        live = cfg.mode == "live"
        num_motions = num_envs if live else cfg.num_motions
        capacity = steps_ahead + 1 + (0 if live else 2 * round(cfg.motion_length / control_dt))
        # A pool's generator is only ever asked for the frame being shown.
        reach = math.ceil(steps_ahead * checkpoint.fps * control_dt) if live else 0
        settings: dict[str, Any] = {
            "mode": "realtime",
            "buffer_size": reach + _SPARE_FRAMES,
            "control_dt": control_dt,
            "interpolation_steps": round(cfg.ramp_time * checkpoint.fps),
        }
        self.command_layout = checkpoint.command_layout
        shape = (num_motions, capacity, len(self.joint_names), len(self.body_names), self.command_layout.size)
        plan = CMGMotionGenerator.memory_required(checkpoint, self.device, num_envs=num_motions, **settings)
        what = f"num_envs={num_envs}" if live else f"CMGMotionLibCfg.num_motions={num_motions}"
        check_room(plan.total + MotionTable.bytes_required(*shape), self.device, f"{capacity} frames for {what}")
        self.table = MotionTable(*shape, self.device)
        writer = FrameWriter(
            self.table, tree, self.body_names, self.joint_names, generated, cfg.held_joints, self.device
        )

        def make_generator(num_motions: int) -> CMGMotionGenerator:
            return CMGMotionGenerator(
                checkpoint,
                num_envs=num_motions,
                device=self.device,
                joint_names=generated,
                drop_joints=cfg.drop_joints,
                seed=next(seeds),
                **settings,
            )

        def make_sampler(num_motions: int) -> CommandSampler:
            seed = next(seeds)
            return CommandSampler(num_motions, cfg.commands, control_dt, self.device, seed, self.command_layout)

        seeds = itertools.count(cfg.seed)
        self._pool: PoolFeed | None = None
        self._live: LiveFeed | None = None
        if live:
            sampler = None if cfg.commands is None else make_sampler(num_envs)
            self._live = LiveFeed(self.table, writer, make_generator(num_envs), sampler)
        else:
            self._pool = PoolFeed(
                self.table,
                lambda number: MotionRecorder(writer, make_generator(number), make_sampler(number)),
                cfg.num_blocks,
                retirement=math.ceil(cfg.motion_length / control_dt) + 2,
                is_fit=self._is_fit,
            )
        self._lengths = torch.full((num_motions,), float(cfg.motion_length), device=self.device)
        self._random = torch.Generator(device=self.device).manual_seed(cfg.seed)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: make another with the same arguments")

    # TWIST's interface ------------------------------------------------------------------------------------------------

    def num_motions(self) -> int:
        """Number of motions: those of the pool, or one for each environment."""
        return self.table.num_motions

    def get_total_length(self) -> float:
        """Time that all motions take together [s]."""
        return self.num_motions() * self.cfg.motion_length

    def get_motion_length(self, motion_ids: Values | int) -> Tensor:
        """Longest episodes in motions (n,), or in one, [s]."""
        if isinstance(motion_ids, (int, np.integer)):
            return self._lengths[self._motions([motion_ids])[0]]
        return self._lengths[self._motions(motion_ids)]

    def get_motion_names(self) -> list[str]:
        """A name for each motion."""
        return [f"cmg_{self.cfg.mode}_{number:04d}" for number in range(self.num_motions())]

    @with_torch_defaults
    def sample_motions(self, n: int, motion_difficulty: Values | None = None) -> Tensor:
        """Draw motions, (n,), in proportion to their difficulty (num_motions,) if it is given."""
        checked_whole(n, "n", 0)
        if motion_difficulty is None:
            weights = torch.ones_like(self._lengths)
        else:
            weights = checked_tensor(motion_difficulty, tuple(self._lengths.shape), "motion_difficulty", self.device)
        if self._pool is not None:
            weights = weights * self._pool.weights
        return torch.multinomial(weights, n, replacement=True, generator=self._random)

    @with_torch_defaults
    def sample_time(self, motion_ids: Values) -> Tensor:
        """Times to begin motions (n,) at [s], (n,): whole control steps; 0 in live mode."""
        motion_ids = self._motions(motion_ids)
        if self._live is not None:
            return torch.zeros(motion_ids.shape, device=self.device)
        steps = self._lengths[motion_ids] / self.control_dt
        drawn = torch.rand(motion_ids.shape, generator=self._random, device=self.device)
        return (drawn * steps).floor() * self.control_dt

    def get_key_body_idx(self, key_body_names: Sequence[str]) -> list[int]:
        """Places of bodies in the ``body_pos`` of :meth:`calc_motion_frame`.

        Raises:
            RobotError: if a body was not named when the library was made.
        """
        missing = [name for name in key_body_names if name not in self.body_names]
        if missing:
            raise RobotError(f"the motion library was made without body '{missing[0]}'; name it in body_names")
        return [self.body_names.index(name) for name in key_body_names]

    @with_torch_defaults
    def calc_motion_frame(
        self, motion_ids: Values, motion_times: Values
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Motions at times; before the first and beyond the last known frame, that frame.

        Args:
            motion_ids: motions, (n,).
            motion_times: times since the beginning of each motion [s], (n,).

        Returns:
            Root position (n, 3), orientation xyzw (n, 4), linear and angular velocity (n, 3) in the world; joint angles
            and velocities (n, num_joints); positions of the bodies in the root's frame (n, num_bodies, 3).
        """
        frames = self._frames(motion_ids, motion_times)
        return (
            frames.root_pos_w,
            frames.root_quat_w,
            frames.root_lin_vel_w,
            frames.root_ang_vel_w,
            frames.dof_pos,
            frames.dof_vel,
            frames.body_pos_b,
        )

    # Commands and time ------------------------------------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        """Whether motions belong to environments and follow commands set from outside."""
        return self._live is not None

    @with_torch_defaults
    def calc_commands(self, motion_ids: Values, motion_times: Values) -> Tensor:
        """Commands in force (n, command_dim) in motions (n,) at times (n,) [s]; in live mode those in force now."""
        if self._live is not None:
            return self._live.commands[self._motions(motion_ids)]
        return self._frames(motion_ids, motion_times).commands

    @with_torch_defaults
    def step(self) -> Tensor | None:
        """Let a control step pass; returns the motions (n,) of a pool that have just been renewed, if any."""
        if self._pool is not None:
            return self._pool.step()
        self._live_feed().step()
        return None

    @with_torch_defaults
    def report(self, commands: Tensor, failed: Tensor) -> None:
        """Tell how episodes ended; with strata, the motions of a pool that are made anew go where commands fail.

        Args:
            commands: commands in force at the end, (n, command_dim).
            failed: whether the robot fell, (n,) bool.
        """
        if self._pool is not None and self._pool.recorder is not None:
            self._pool.recorder.sampler.report(commands, failed)

    @with_torch_defaults
    def elapsed_times(self, env_ids: EnvIds | None = None) -> Tensor:
        """Live mode: time since the reset of every environment, or of environments (n,), [s]."""
        clock = self._live_feed().clock
        return (clock if env_ids is None else clock[self._environments(env_ids)]) * self.control_dt

    @with_torch_defaults
    def reset(self, env_ids: EnvIds | None = None, commands: Values | None = None) -> None:
        """Live mode: begin new motions in environments (n,) or all, under commands (n, command_dim) if given."""
        feed, rows = self._live_feed(), self._environments(env_ids)
        feed.reset(rows, None if commands is None else self._checked_commands(commands, rows))

    @with_torch_defaults
    def set_commands(self, commands: Values, env_ids: EnvIds | None = None) -> None:
        """Live mode: approach commands (n, command_dim) in environments (n,) or all."""
        feed, rows = self._live_feed(), self._environments(env_ids)
        feed.set_commands(self._checked_commands(commands, rows), rows)

    @property
    def target_commands(self) -> Tensor:
        """Live mode: commands being approached, (num_envs, command_dim)."""
        return self._live_feed().targets

    def _is_fit(self, motion_ids: Tensor) -> Tensor:
        """Which motions (n,) of the pool follow their commands, (n,) bool."""
        if not self.cfg.check_commands:
            return torch.ones_like(motion_ids, dtype=torch.bool)
        # All but the last, which is at rest.
        frames = torch.arange(self.table.capacity - 1, dtype=torch.float32, device=self.device)
        fit = []
        for some in motion_ids.split(_CHECKED_TOGETHER):
            read = self.table.read(some.repeat_interleave(len(frames)), frames.repeat(len(some)))
            velocities = velocities_h(read.root_quat_w, read.root_lin_vel_w, read.root_ang_vel_w)
            shape = (len(some), len(frames), -1)
            fit.append(follows_commands(velocities.view(shape), read.commands.view(shape), self.control_dt))
        return torch.cat(fit)

    def _motions(self, motion_ids: Values) -> Tensor:
        """Numbers (n,) of motions."""
        return checked_indices(motion_ids, self.num_motions(), self.device, "motion_ids")

    def _frames(self, motion_ids: Values, motion_times: Values) -> TableFrames:
        """Frames (n,) of motions at times [s]."""
        motions = self._motions(motion_ids)
        times = checked_tensor(motion_times, tuple(motions.shape), "motion_times", self.device)
        return self.table.read(motions, times / self.control_dt)

    def _environments(self, env_ids: EnvIds | None) -> Tensor:
        """Indices (n,) of environments, which in live mode are those of their motions."""
        return checked_env_ids(env_ids, self.num_motions(), self.device)

    def _checked_commands(self, commands: Values, env_ids: Tensor) -> Tensor:
        return checked_tensor(commands, (len(env_ids), self.command_layout.size), "commands", self.device)

    def _live_feed(self) -> LiveFeed:
        if self._live is None:
            raise ValueError("the motions of a pool are made beforehand; this needs CMGMotionLibCfg(mode='live')")
        return self._live


def _generated_joints(available: Sequence[str], joint_names: Sequence[str], cfg: CMGMotionLibCfg) -> list[str]:
    """The joints that the CMG moves, in order; every other joint must be held on purpose."""
    unknown = [name for name in cfg.held_joints if name not in joint_names]
    if unknown:
        raise RobotError(f"held_joints names '{unknown[0]}', which the robot does not have")
    generated = [name for name in joint_names if name not in cfg.held_joints]
    missing = [name for name in generated if name not in available]
    if missing:
        raise RobotError(
            f"the CMG does not move the robot's joint '{missing[0]}'; give the angle at which it stays in held_joints"
        )
    extra = [name for name in available if name not in generated and name not in cfg.drop_joints]
    if extra:
        raise RobotError(f"the robot has no joint '{extra[0]}' of the CMG; name it in drop_joints to leave it out")
    return generated
