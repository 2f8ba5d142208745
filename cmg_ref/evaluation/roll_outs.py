"""Free roll-outs of a checkpoint, made to be measured: from standing, in a robot's joint order, with its root."""

from __future__ import annotations

from typing import Iterator

import torch
from torch import Tensor

from cmg_ref.core.progress import ProgressBar
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.robots.joint_matching import match_joints
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.rollout.stance_root import StanceRoot

SETTLE_TIME = 3.0
"""Start of each roll-out that is left out of what is measured on even motion [s]."""
RAMP_FRAMES = 25
"""Frames over which the generator ramps a change of command unless told otherwise."""
CHUNK_TIME = 1.0
"""Roll-outs are made in pieces of this length [s], so that thousands of long ones need little memory."""


class RollOuts:
    """Rolls a checkpoint out.

    Args:
        checkpoint: The checkpoint.
        robot: Robot whose joint order the states are to have; its joints are matched by name.
        device: Where the network runs.
        progress: Whether to show progress bars.

    Attributes:
        layout: Channels of the states.
        stances: States of the checkpoint that roll-outs come to where they are told to stand, (num_stances, state_dim);
            they begin at the last.

    Raises:
        ValueError: The checkpoint has other joints than the robot.
    """

    def __init__(
        self, checkpoint: Checkpoint, robot: Robot, device: str | torch.device = "cpu", progress: bool = True
    ) -> None:
        self.checkpoint, self.progress, self.device = checkpoint, progress, torch.device(device)
        self.layout = StateLayout.with_root(robot.num_joints)
        self.stance_root = None if checkpoint.layout.has_root else StanceRoot(robot, self.device)
        # Columns of the checkpoint's state that put its joints into the robot's order.
        _, joints = match_joints(checkpoint.joint_names, robot.joint_names, (), torch.device("cpu"))
        self.stances = checkpoint.stances(robot)
        columns = torch.arange(checkpoint.layout.size)
        if joints is not None:
            columns = torch.cat((joints, robot.num_joints + joints, columns[2 * robot.num_joints :]))
        self.columns = columns.to(self.device)

    def states(self, commands: Tensor, name: str) -> Tensor:
        """States with root of roll-outs from standing.

        Args:
            commands: What each is told at every frame, (num_motions, num_frames, NUM_VELOCITIES or command_dim).
            name: Of the progress bar.

        Returns:
            In the order of `layout`, on the CPU, (num_motions, num_frames, size).
        """
        commands = self.checkpoint.command_layout.complete(commands)
        initial = self.stances[-1].expand(len(commands), -1)
        pieces = commands.split(self.chunk_lengths(commands.shape[1] / self.checkpoint.fps), dim=1)
        with self.bar(name, commands.shape[0] * commands.shape[1]) as bar:
            rollout = Rollout(self.checkpoint.model, self.device, stance=self.stances)
            states = torch.cat(list(self.chunks(rollout, initial, iter(pieces), bar)), dim=1)
        return self.with_root(states).cpu()

    def chunk_lengths(self, seconds: float) -> list[int]:
        """Frames of the pieces that a roll-out of some length is made in."""
        fps = self.checkpoint.fps
        frames, chunk = round(seconds * fps), max(1, round(CHUNK_TIME * fps))
        return [min(chunk, frames - start) for start in range(0, frames, chunk)]

    def bar(self, name: str, total: int) -> ProgressBar:
        """A progress bar over frames."""
        return ProgressBar(desc=name, total=total, unit="frame", unit_scale=True, disable=not self.progress)

    def chunks(
        self, rollout: Rollout, initial: Tensor, commands: Iterator[Tensor], bar: ProgressBar
    ) -> Iterator[Tensor]:
        """States of a roll-out piece by piece, each going on from the last state of the one before."""
        state, memory = initial, None if rollout.feedback is None else rollout.feedback.memory(len(initial))
        for piece in commands:
            states = rollout.generate(state, piece, memory=memory)
            state = states[:, -1]
            bar.update(states.shape[0] * states.shape[1])
            yield states

    def with_root(self, states: Tensor) -> Tensor:
        """States in the robot's joint order with root channels in the order of `layout`."""
        states = states[..., self.columns]
        layout = self.checkpoint.layout
        if self.stance_root is not None:
            return self.stance_root.complete(states, layout, self.checkpoint.fps)
        parts = layout.split(states)
        return torch.cat([parts[name] for name in self.layout], dim=-1)
