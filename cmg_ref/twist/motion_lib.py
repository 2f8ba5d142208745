"""`CMGMotionLib`: motion generated from velocity commands behind the interface of TWIST's motion library."""

from __future__ import annotations

import math
from typing import Callable, NoReturn, Sequence

import numpy as np
import torch
from torch import Tensor

from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg
from cmg_ref.core.devices import checked_device
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.evaluation.command_following import motions_follow_commands
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.robots.kinematic_tree import KinematicTree, RobotError
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories.argument_checks import (
    EnvIds,
    Values,
    checked_commands,
    checked_env_ids,
    checked_indices,
    checked_tensor,
    checked_whole,
)
from cmg_ref.trajectories.buffer import MotionBuffer
from cmg_ref.trajectories.memory import MemoryPlan, check_room, plan_memory
from cmg_ref.trajectories.pool import TrajectoryPool, TrajectoryPoolCfg
from cmg_ref.trajectories.settings import CMGMotionGeneratorCfg
from cmg_ref.trajectories.start_states import InitialStates
from cmg_ref.twist.feeds import LiveFeed, PoolFeed
from cmg_ref.twist.motion_lib_cfg import CMGMotionLibCfg
from cmg_ref.twist.motion_view import MotionView

__all__ = ["CMGMotionLib", "CMGMotionLibCfg"]

_SPARE_FRAMES = 12  # that a generator keeps beyond those it is asked for


class CMGMotionLib:
    """Motion from velocity commands, asked for by motion and time as TWIST asks its own library.

    All quantities of a frame, the positions of bodies included, are computed once, when the frame is made;
    ``calc_motion_frame`` only gathers and blends them. The root starts at x = y = 0 with heading 0 in every motion and
    never jumps, neither where the command changes nor at the end of a motion, where it stands still.

    Motions and environments are named by indices (n,), environments also by a mask (num_envs,) and each once; these and
    all numbers may be tensors, arrays or lists, and what does not fit is refused with the argument's name. A library
    cannot be copied or pickled.

    Args:
        cfg: What to make.
        num_envs: Number of environments: the motions of live mode.
        control_dt: Time of a control step [s].
        tree: The robot, as the simulator loads it.
        body_names: Bodies whose positions are given, in order: TWIST's key bodies and feet.
        joint_names: Joints and their order in everything returned; the robot's by default.
        device: Device of everything.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        MemoryError: There is not as much memory as it takes; nothing has been allocated.
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
        checkpoint = load_checkpoint(cfg.checkpoint)
        _check_joints(checkpoint.joint_names, self.joint_names, tree, cfg)
        kinematics = ForwardKinematics(tree, self.body_names, self.device)
        self._checkpoint_layout = checkpoint.command_layout
        ranged = () if cfg.commands is None else tuple(cfg.commands.further)
        self.command_layout = checkpoint.command_layout.up_to(ranged)
        self._told = slice(self.command_layout.size)
        self._fps, self._steps_ahead = checkpoint.fps, math.ceil(cfg.lookahead / control_dt)
        self._random = torch.Generator(device=self.device).manual_seed(cfg.seed)
        self._pool: PoolFeed | None = None
        self._live: LiveFeed | None = None
        self._sampler: CommandSampler | None = None

        def view_of(buffer: MotionBuffer) -> MotionView:
            return MotionView(
                buffer.store, checkpoint.joint_names, kinematics, tree.joint_names, self.joint_names, cfg.held_joints
            )

        if cfg.mode == "live":
            self._live = self._live_feed_of(checkpoint, num_envs, view_of)
        else:
            self._pool = self._pool_feed_of(checkpoint, view_of)
        self._lengths = torch.full((len(self._feed.first),), float(cfg.motion_length), device=self.device)

    def _live_feed_of(
        self, checkpoint: Checkpoint, num_envs: int, view_of: Callable[[MotionBuffer], MotionView]
    ) -> LiveFeed:
        cfg, reach = self.cfg, math.ceil(self._steps_ahead * self._fps * self.control_dt)
        asked = CMGMotionGeneratorCfg(
            num_envs=num_envs,
            mode="realtime",
            buffer_size=reach + _SPARE_FRAMES,
            control_dt=self.control_dt,
            interpolation_steps=round(cfg.ramp_time * self._fps),
            seed=cfg.seed + 1,
        )
        planned = plan_memory(asked, checkpoint, CommandSampler(1), self.device)
        self._check_room(planned, asked, f"num_envs={num_envs}")
        generator = CMGMotionGenerator(checkpoint, device=self.device, cfg=asked)
        if cfg.commands is not None:
            self._sampler = self._sampler_of(num_envs, cfg.commands)
        self._view = view_of(generator.buffer)
        return LiveFeed(generator, self._view, self._sampler, self._steps_ahead)

    def _pool_feed_of(self, checkpoint: Checkpoint, view_of: Callable[[MotionBuffer], MotionView]) -> PoolFeed:
        cfg = self.cfg
        seconds = 2 * cfg.motion_length + self._steps_ahead * self.control_dt
        batch = math.ceil(cfg.num_motions / max(1, cfg.num_blocks))
        pool_cfg = TrajectoryPoolCfg(cfg.num_motions, batch=batch, check_commands=cfg.check_commands)
        asked = CMGMotionGeneratorCfg(
            num_envs=1,
            preload_duration=math.ceil(seconds * self._fps - 1e-6) + 1,
            buffer_size=8,
            control_dt=self.control_dt,
            interpolation_steps=round(cfg.ramp_time * self._fps),
            pool=pool_cfg,
        )
        asked.validate()
        planned = plan_memory(asked, checkpoint, self._sampler_of(1, cfg.commands), self.device)
        self._check_room(planned, asked, f"CMGMotionLibCfg.num_motions={cfg.num_motions}")
        sampler = self._sampler_of(cfg.num_motions, cfg.commands)
        rollout = Rollout(checkpoint.model, self.device, stance=checkpoint.stances())
        length = asked.preload_duration
        buffer = MotionBuffer(
            checkpoint,
            rollout,
            [(cfg.num_motions, length)],
            asked.interpolation_steps,
            asked.num_segments(sampler, self._fps),
            usual_batch=batch,
        )
        self._view, self._sampler, self._commands = view_of(buffer), sampler, buffer.commands
        pool = TrajectoryPool(
            pool_cfg,
            buffer,
            cfg.num_motions,
            length,
            InitialStates(checkpoint, rollout, checkpoint.robot(dropped=cfg.drop_joints)),
            sampler,
            self._random,
            motions_follow_commands,
        )
        retirement = math.ceil(cfg.motion_length / self.control_dt) + 2
        budget = batch * self._fps * self.control_dt if cfg.num_blocks > 0 else 0.0
        return PoolFeed(pool, self._view, retirement, budget)

    def _sampler_of(self, num_motions: int, cfg: CommandSamplerCfg | None) -> CommandSampler:
        return CommandSampler(num_motions, cfg, self.control_dt, self.device, self.cfg.seed, self._checkpoint_layout)

    def _check_room(self, planned: MemoryPlan, asked: CMGMotionGeneratorCfg, what: str) -> None:
        rows = sum(number * frames for number, frames in asked.sizes())
        required = planned.total + 4 * 3 * len(self.body_names) * rows
        check_room(required, self.device, f"{asked.sizes()[0][1]} frames for {what}")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: make another with the same arguments")

    # TWIST's interface ------------------------------------------------------------------------------------------------

    def num_motions(self) -> int:
        """Number of motions: those of the pool, or one for each environment."""
        return len(self._feed.first)

    @property
    def num_frames(self) -> int:
        """Frames of the CMG that are known of each motion."""
        return int(self._feed.last[0] - self._feed.first[0]) + 1

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
            return self._pool.draw(n, weights, self._random)
        return torch.multinomial(weights, n, replacement=True, generator=self._random)

    @with_torch_defaults
    def sample_time(self, motion_ids: Values) -> Tensor:
        """Times to begin motions (n,) at [s], (n,): whole control steps; 0 in live mode."""
        motion_ids = self._motions(motion_ids)
        if self._pool is None:
            return torch.zeros(motion_ids.shape, device=self.device)
        self._pool.begin(motion_ids)
        steps = self._lengths[motion_ids] / self.control_dt
        drawn = torch.rand(motion_ids.shape, generator=self._random, device=self.device)
        return (drawn * steps).floor() * self.control_dt

    def get_key_body_idx(self, key_body_names: Sequence[str]) -> list[int]:
        """Places of bodies in the ``body_pos`` of :meth:`calc_motion_frame`.

        Raises:
            RobotError: If a body was not named when the library was made.
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
            motion_ids: Motions, (n,).
            motion_times: Times since the beginning of each motion [s], (n,).

        Returns:
            Root position (n, 3), orientation xyzw (n, 4), linear and angular velocity (n, 3) in the world; joint angles
            and velocities (n, num_joints); positions of the bodies in the root's frame (n, num_bodies, 3).
        """
        motions, times = self._asked(motion_ids, motion_times)
        frames, body_pos_b = self._view.read(motions, times, self._feed.first, self._feed.last)
        return (
            frames.root_pos_w,
            frames.root_quat_w,
            frames.root_lin_vel_w,
            frames.root_ang_vel_w,
            frames.dof_pos,
            frames.dof_vel,
            body_pos_b,
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
            return self._live.commands[self._motions(motion_ids), self._told]
        motions, frames = self._asked(motion_ids, motion_times)
        earlier = frames.clamp(torch.zeros_like(frames), self._feed.last[motions]).floor()
        both = torch.stack((earlier, earlier + 1.0), dim=1).long()
        before, after = self._commands.value(both, motions).unbind(dim=1)
        between = (frames - earlier).clamp(0.0, 1.0).unsqueeze(1)
        return torch.lerp(before[:, self._told], after[:, self._told], between)

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
            commands: Commands in force at the end, (n, command_dim).
            failed: Whether the robot fell, (n,) bool.
        """
        if self._pool is not None and self._sampler is not None and self.cfg.num_blocks > 0:
            self._sampler.report(self._checkpoint_layout.complete(commands), failed)

    @with_torch_defaults
    def elapsed_times(self, env_ids: EnvIds | None = None) -> Tensor:
        """Live mode: time since the reset of every environment, or of environments (n,), [s]."""
        steps = self._live_feed().steps
        return (steps if env_ids is None else steps[self._environments(env_ids)]) * self.control_dt

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
        return self._live_feed().targets[:, self._told]

    @property
    def _feed(self) -> PoolFeed | LiveFeed:
        feed = self._pool or self._live
        assert feed is not None
        return feed

    def _motions(self, motion_ids: Values) -> Tensor:
        """Numbers (n,) of motions."""
        return checked_indices(motion_ids, self.num_motions(), self.device, "motion_ids")

    def _asked(self, motion_ids: Values, motion_times: Values) -> tuple[Tensor, Tensor]:
        """Numbers of motions (n,) and frames with fractions (n,) at times [s]."""
        motions = self._motions(motion_ids)
        times = checked_tensor(motion_times, tuple(motions.shape), "motion_times", self.device)
        return motions, times * self._fps

    def _environments(self, env_ids: EnvIds | None) -> Tensor:
        """Indices (n,) of environments, which in live mode are those of their motions."""
        return checked_env_ids(env_ids, self.num_motions(), self.device)

    def _checked_commands(self, commands: Values, env_ids: Tensor) -> Tensor:
        return checked_commands(commands, len(env_ids), self._checkpoint_layout, self.device)

    def _live_feed(self) -> LiveFeed:
        if self._live is None:
            raise ValueError("the motions of a pool are made beforehand; this needs CMGMotionLibCfg(mode='live')")
        return self._live


def _check_joints(
    available: Sequence[str], joint_names: Sequence[str], tree: KinematicTree, cfg: CMGMotionLibCfg
) -> None:
    """Raise a RobotError unless every joint is the robot's and moved by the CMG, or held or dropped on purpose."""
    unknown = [name for name in cfg.held_joints if name not in joint_names]
    if unknown:
        raise RobotError(f"held_joints names '{unknown[0]}', which the robot does not have")
    unknown = [name for name in cfg.drop_joints if name not in available]
    if unknown:
        raise RobotError(f"drop_joints names '{unknown[0]}', which the CMG does not move")
    generated = [name for name in joint_names if name not in cfg.held_joints]
    missing = [name for name in generated if name not in available]
    if missing:
        raise RobotError(
            f"the CMG does not move the robot's joint '{missing[0]}'; give the angle at which it stays in held_joints"
        )
    extra = [name for name in available if name not in generated and name not in cfg.drop_joints]
    if extra:
        raise RobotError(f"the robot has no joint '{extra[0]}' of the CMG; name it in drop_joints to leave it out")
    if sorted(joint_names) != sorted(tree.joint_names):
        odd = sorted(set(joint_names) ^ set(tree.joint_names))
        raise RobotError(f"{tree.name}: the joints asked for and the robot's differ by {', '.join(odd)}")
