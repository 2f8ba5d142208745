"""The loop that drives robots in real time: what is wanted of them, what they are told, and what they did."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple

import torch
from torch import Tensor

from cmg_ref.clips.dataset import average_command
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg
from cmg_ref.core.command_layout import NUM_VELOCITIES
from envs.driving.robots import DrivenRobots, Poses
from envs.serving.clocks import WallClock

HISTORY = 8.0  # [s] that is remembered
_FACTOR_OVER = 2.0  # [s] of the clock that the real-time factor is measured over
_RESAMPLING_TIME = (2.0, 5.0)  # [s] between commands of the random schedule


class Shown(NamedTuple):
    """What there is to see after a control step.

    Attributes:
        poses: The robots.
        reference: The reference beside them; None if there is none.
        command: In force for the first robot, (command_dim,).
        time: Since the robots began [s], of the simulation.
    """

    poses: Poses
    reference: Poses | None
    command: Tensor
    time: float


class Record(NamedTuple):
    """The last seconds of the first robot, all float64.

    Attributes:
        time: [s], (num_steps,).
        command: In force, (num_steps, command_dim).
        measured: The same channels as it did them, averaged over a stride, (num_steps, command_dim).
    """

    time: Tensor
    command: Tensor
    measured: Tensor


class Session:
    """Steps robots. One thread calls `step` or `run`, any other thread the rest.

    The command in force approaches what is wanted with limited acceleration, so that a wish that changes in every step
    is followed too. A robot that falls begins anew, with the command at rest.

    Args:
        robots: Driven to begin with.

    Attributes:
        robots: Driven now.
        wanted: The command to approach, (command_dim,).
        random: Whether `wanted` is drawn anew every few seconds.
        falls: Number of falls since the robots began.
        shown: What there is to see.
    """

    def __init__(self, robots: DrivenRobots) -> None:
        self._asked: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._ended = threading.Event()
        self.random = False
        self._commands: Tensor
        self._begin(robots)

    # From any thread --------------------------------------------------------------------------------------------------

    def want(self, command: Tensor) -> None:
        """Approach a command (command_dim,), or velocities (3,) with the rest natural, held within its range."""
        robots = self.robots
        if len(command) == NUM_VELOCITIES:
            command = robots.layout.complete(command)
        if len(command) == robots.layout.size:  # otherwise it is for robots that have just been exchanged
            self.wanted = torch.minimum(torch.maximum(command, robots.lowest), robots.highest)

    def reset(self) -> None:
        """Stand where the robots began, command at rest."""

        def begin_again() -> None:
            self.robots.reset()
            self._forget()

        self._asked.put(begin_again)

    def push(self, speed: float) -> None:
        """Push the robots, each in a random direction [m/s]."""
        self._asked.put(lambda: self.robots.push(speed))

    def set_friction(self, friction: float) -> None:
        """Set the coefficient between soles and floor."""
        self._asked.put(lambda: self.robots.set_friction(friction))

    def drive(self, robots: DrivenRobots) -> None:
        """Go on with other robots; waits until the loop has taken them."""
        taken = threading.Event()

        def take() -> None:
            self._begin(robots)
            taken.set()

        self._asked.put(take)
        while not taken.wait(0.1) and not self._ended.is_set():
            pass

    def end(self) -> None:
        """Let `run` return."""
        self._ended.set()

    def record(self) -> Record | None:
        """The last seconds of the first robot since it began; None as long as they are too few to measure."""
        rows, robots = list(self._rows), self.robots
        if len(rows) < 3 or len(rows[-1].command) != robots.layout.size:
            return None
        root_pos, root_quat, dof_pos = (torch.stack([row.poses[field][0] for row in rows]) for field in range(3))
        root_quat = root_quat / root_quat.norm(dim=1, keepdim=True)
        clip = MotionClip("driven", 1.0 / robots.dt, tuple(robots.robot.joint_names), dof_pos, root_pos, root_quat)
        measured = average_command(clip, torch.ones(len(rows), dtype=torch.bool), robots.layout)
        time_of_rows = torch.tensor([row.time for row in rows], dtype=torch.float64)
        return Record(time_of_rows, torch.stack([row.command for row in rows]).double(), measured)

    @property
    def real_time_factor(self) -> float:
        """Seconds of the simulation in a second of the clock, of late; 0 unless `run` measures it."""
        times = list(self._step_times)
        return (len(times) - 1) * self.robots.dt / (times[-1] - times[0]) if len(times) > 1 else 0.0

    # From the thread of the loop --------------------------------------------------------------------------------------

    def run(self) -> None:
        """Step in real time until somebody calls `end`."""
        clock, robots = WallClock(self.robots.dt), self.robots
        while not self._ended.is_set():
            if self.robots is not robots:
                clock, robots = WallClock(self.robots.dt), self.robots
            self.step()
            self._step_times.append(time.monotonic())
            clock.wait()

    def step(self) -> None:
        """Do what was asked for, then let a control step pass."""
        while not self._asked.empty():
            self._asked.get()()
        robots = self.robots
        if self.random:
            targets, _ = self._sampler.step(self.wanted.unsqueeze(0))
            self.want(targets[0])
        way = robots.acceleration * robots.dt
        self._commands = self._commands + torch.minimum(torch.maximum(self.wanted - self._commands, -way), way)
        fallen = robots.step(self._commands)
        if bool(fallen.any()):
            self.falls += int(fallen.sum())
            self._commands[fallen] = robots.layout.rest()
            if bool(fallen[0]):
                self._rows.clear()
        self._steps += 1
        self._show()

    # Inside -----------------------------------------------------------------------------------------------------------

    def _begin(self, robots: DrivenRobots) -> None:
        """Take robots, whatever was driven before."""
        limits = torch.stack((robots.lowest, robots.highest), dim=1).tolist()
        ranges = {name: (low, high) for name, (low, high) in zip(robots.layout.names, limits, strict=True)}
        # Presets are what robots can do; drawn uniformly, all channels would be near their ends at once.
        cfg = CommandSamplerCfg.over(ranges, preset_share=0.9, resampling_time=_RESAMPLING_TIME)
        self._sampler = CommandSampler(1, cfg, robots.dt, layout=robots.layout)
        self.robots = robots
        self._rows: deque[Shown] = deque(maxlen=round(HISTORY / robots.dt))
        self._step_times: deque[float] = deque(maxlen=round(_FACTOR_OVER / robots.dt))
        self._forget()

    def _forget(self) -> None:
        """Begin at zero with the robots as they stand."""
        self.wanted, self.falls, self._steps = self.robots.layout.rest(), 0, 0
        self._commands = self.robots.layout.rest(self.robots.num_robots)
        self._rows.clear()
        self._show()

    def _show(self) -> None:
        robots = self.robots
        self.shown = Shown(robots.poses(), robots.reference(), self._commands[0].clone(), self._steps * robots.dt)
        self._rows.append(self.shown)
