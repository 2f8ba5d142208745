"""What fills a :class:`MotionTable`: a pool of ready motions, or one live motion for each environment.

Both take motion at the control rate from a :class:`CMGMotionGenerator` in realtime mode.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Mapping, Sequence

import torch
from torch import Tensor

from cmg_ref.commands.sampler import CommandSampler
from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.robots.kinematic_tree import KinematicTree, RobotError
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.twist.motion_table import MotionTable

FILL_ATTEMPTS = 4  # times that motions of a new pool are made until they are fit
UNFIT_WEIGHT = 1e-6  # beside the 1 of fit motions


class FrameWriter:
    """Completes frames of a generator for a robot and writes them into a table.

    Args:
        table: where to write.
        tree: the robot.
        body_names: bodies whose positions are stored.
        joint_names: joints of the table, in order: all of the robot's.
        generated: the joints that the generator gives, in order; the others stay where ``held_joints`` says.
        held_joints: joint angles by name [rad].
        device: device of the frames.

    Raises:
        RobotError: a joint or body is not the robot's, or the robot has one that is not named.
    """

    def __init__(
        self,
        table: MotionTable,
        tree: KinematicTree,
        body_names: Sequence[str],
        joint_names: Sequence[str],
        generated: Sequence[str],
        held_joints: Mapping[str, float],
        device: torch.device,
    ) -> None:
        if sorted(joint_names) != sorted(tree.joint_names):
            odd = sorted(set(joint_names) ^ set(tree.joint_names))
            raise RobotError(f"{tree.name}: the joints asked for and the robot's differ by {', '.join(odd)}")
        self._table = table
        self._kinematics = ForwardKinematics(tree, body_names, device)
        self._tree_columns = torch.tensor([list(joint_names).index(name) for name in tree.joint_names], device=device)
        self._columns = torch.tensor([list(joint_names).index(name) for name in generated], device=device)
        self._held = torch.tensor([float(held_joints.get(name, 0.0)) for name in joint_names], device=device)

    def __call__(self, motion_ids: Tensor, frames: Tensor, motion: MotionFrames, commands: Tensor) -> None:
        """Write frames (n,) of motions (n,): what they show, fields of (n, ...), and their commands."""
        if len(self._columns) < len(self._held):
            dof_pos = self._held.repeat(len(frames), 1)
            dof_vel = torch.zeros_like(dof_pos)
            dof_pos[:, self._columns] = motion.dof_pos
            dof_vel[:, self._columns] = motion.dof_vel
            motion = replace(motion, dof_pos=dof_pos, dof_vel=dof_vel)
        body_pos_b = self._kinematics.positions(motion.dof_pos[:, self._tree_columns])
        self._table.write(motion_ids, frames, motion, body_pos_b, commands)


class MotionRecorder:
    """Writes the motions that a generator shows under commands drawn for them, one frame at a time.

    Args:
        writer: writes them.
        generator: makes as many motions at once as it has environments.
        sampler: draws their commands, for as many.
    """

    def __init__(self, writer: FrameWriter, generator: CMGMotionGenerator, sampler: CommandSampler) -> None:
        self._writer, self._generator, self.sampler = writer, generator, sampler
        self._members = torch.arange(generator.num_envs, device=generator.device)

    def begin(self) -> None:
        """Begin new motions under new commands."""
        self._targets = self.sampler.reset(self._members)
        self._generator.reset(commands=self._targets)

    def record(self, motion_ids: Tensor, frame: int, is_last: bool) -> None:
        """Write what is shown as a frame of motions (n,), at rest if it is the last one, and go on by a step."""
        members = self._members[: len(motion_ids)]
        motion = self._generator.get_frames(members)
        if is_last:  # whoever reads beyond the end stands still
            rest = {name: torch.zeros_like(getattr(motion, name)) for name in _VELOCITIES}
            motion = replace(motion, **rest)
        self._writer(motion_ids, torch.full_like(motion_ids, frame), motion, self._generator.commands[members])
        self._targets, _ = self.sampler.step(self._targets)
        self._generator.update_commands(self._targets)
        self._generator.advance()


class PoolFeed:
    """Fills the table with ready motions, each with commands of its own, and renews them a block at a time.

    A motion that is to be renewed is first retired: its weight turns zero, so that no environment begins it any more.
    When every environment that may still be in it has ended its episode, it is overwritten, one frame a step.

    Args:
        table: what to fill; all of it is filled here.
        make_recorder: makes a recorder of a number of motions.
        num_blocks: blocks in which motions are renewed; 0 never renews.
        retirement: steps from the retirement of a motion until no environment is in it.
        is_fit: which of the motions (n,) of the table may be shown, (n,) bool. Those of the beginning that are not fit
            are made anew a few times, later ones are left out until their block is renewed again.

    Attributes:
        weights: weights at which motions are drawn, (num_motions,): 1, 0 where they are retired, and where they are not
            fit so little that they are drawn only if there are no others.
        recorder: makes the motions that renew a block; None without renewal.

    Raises:
        ValueError: more than half of the motions are not fit.
    """

    def __init__(
        self,
        table: MotionTable,
        make_recorder: Callable[[int], MotionRecorder],
        num_blocks: int,
        retirement: int,
        is_fit: Callable[[Tensor], Tensor],
    ) -> None:
        self._num_frames, self._retirement, self._is_fit = table.capacity, retirement, is_fit
        everyone = torch.arange(table.num_motions, device=table.last.device)
        table.last.fill_(self._num_frames - 1)
        unfit = everyone
        for _ in range(FILL_ATTEMPTS):
            recorder = make_recorder(len(unfit))
            recorder.begin()
            for frame in range(self._num_frames):
                recorder.record(unfit, frame, is_last=frame == self._num_frames - 1)
            unfit = unfit[~is_fit(unfit)]
            if len(unfit) == 0:
                break
        if 2 * len(unfit) > len(everyone):
            raise ValueError(
                f"{len(unfit)} of {len(everyone)} motions do not follow their commands, tried {FILL_ATTEMPTS} times: "
                "ask for other commands, take another CMG, or let them pass with check_commands=False"
            )
        self.weights = torch.ones(table.num_motions, device=table.last.device)
        self.weights[unfit] = UNFIT_WEIGHT
        self._blocks = everyone.chunk(num_blocks) if num_blocks > 0 else ()
        self.recorder = make_recorder(len(self._blocks[0])) if self._blocks else None
        self._block, self._step = 0, 0

    def step(self) -> Tensor | None:
        """Let a control step pass; returns the motions (n,) that have just been renewed, if any."""
        if self.recorder is None:
            return None
        block = self._blocks[self._block]
        if self._step == 0:
            self.weights[block] = 0.0
        frame = self._step - self._retirement
        if frame == 0:
            self.recorder.begin()
        if frame >= 0:
            self.recorder.record(block, frame, is_last=frame == self._num_frames - 1)
        self._step += 1
        if self._step < self._retirement + self._num_frames:
            return None
        self.weights[block] = self._is_fit(block).to(self.weights.dtype).clamp(min=UNFIT_WEIGHT)
        self._block, self._step = (self._block + 1) % len(self._blocks), 0
        return block


class LiveFeed:
    """Keeps the coming frames of one motion for each environment in the table; commands may change at any step.

    Args:
        table: what to fill; motion i belongs to environment i.
        writer: writes into it.
        generator: one environment for each motion, with a buffer that reaches as far as the table.
        sampler: draws commands at resets and from time to time; None leaves them to :meth:`set_commands`.

    Attributes:
        clock: frame being shown of each motion, (num_motions,).
        targets: command being approached by each, (num_motions, command_dim).

    Raises:
        ValueError: the generator's buffer is too small.
    """

    def __init__(
        self, table: MotionTable, writer: FrameWriter, generator: CMGMotionGenerator, sampler: CommandSampler | None
    ) -> None:
        self._table, self._writer, self._generator, self._sampler = table, writer, generator, sampler
        self._ahead = table.capacity - 1
        if generator.max_future_steps < self._ahead:
            raise ValueError(f"the generator sees {generator.max_future_steps} steps ahead, the table {self._ahead}")
        self._members = torch.arange(generator.num_envs, device=generator.device)
        self.clock = torch.zeros_like(self._members)
        self.targets = generator.command_layout.rest(generator.num_envs, device=generator.device)
        self.reset(self._members)

    @property
    def commands(self) -> Tensor:
        """Commands in force, (num_motions, command_dim)."""
        return self._generator.commands

    def reset(self, env_ids: Tensor, commands: Tensor | None = None) -> None:
        """Begin new motions in environments (n,), under commands (n, command_dim) where they are given."""
        if commands is None:
            commands = self.targets[env_ids] if self._sampler is None else self._sampler.reset(env_ids)
        self._generator.reset(env_ids, commands=commands)
        self.targets[env_ids] = self._generator.target_commands[env_ids]
        self.clock[env_ids] = 0
        self._write(env_ids, list(range(self._ahead + 1)))

    def set_commands(self, commands: Tensor, env_ids: Tensor) -> None:
        """Approach commands (n, command_dim), held inside their range, in environments (n,), from the present frame."""
        self._generator.update_commands(commands, env_ids)
        self.targets[env_ids] = self._generator.target_commands[env_ids]
        self._write(env_ids, list(range(self._ahead + 1)))

    def step(self) -> None:
        """Let a control step pass."""
        self._generator.advance()
        self.clock += 1
        self._write(self._members, [self._ahead])
        if self._sampler is not None:
            targets, changed = self._sampler.step(self.targets)
            env_ids = changed.nonzero().squeeze(1)
            if len(env_ids) > 0:
                self.set_commands(targets[env_ids], env_ids)

    def _write(self, env_ids: Tensor, steps: Sequence[int]) -> None:
        """Write the frames that will be shown in some steps, in environments (n,)."""
        coming = self._generator.future(steps).select(env_ids)  # fields of (n, len(steps), ...)
        motion = MotionFrames(**{name: value.flatten(0, 1) for name, value in vars(coming).items()})
        offsets = torch.tensor(steps, device=self.clock.device)
        frames = (self.clock[env_ids].unsqueeze(1) + offsets).flatten()
        commands = self.targets[env_ids].repeat_interleave(len(steps), dim=0)
        self._writer(env_ids.repeat_interleave(len(steps)), frames, motion, commands)
        self._table.first.copy_(self.clock)
        self._table.last.copy_(self.clock + self._ahead)


_VELOCITIES = ("dof_vel", "root_lin_vel_w", "root_ang_vel_w")
