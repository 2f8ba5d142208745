"""How near generated motion is to recorded motion as a whole: Fréchet distances of one-second windows.

A window is the joint angles and velocities of WINDOW_TIME at RATE, each joint over its spread, in the principal
components of the training clips of the same speed band. Two sets of windows are as far apart as two normal
distributions with their means and covariances. The ratio sets the distance of generated motion from held-out clips
against that of the training clips from the same held-out clips: 1 is as near as other people are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cmg_ref.clips.dataset import MotionDataset, speed_bands
from cmg_ref.core.command_layout import VELOCITY
from cmg_ref.robots.robot import Robot

WINDOW_TIME = 1.0
RATE = 10.0
"""Frames a second that are looked at."""
WINDOW_STEP = 0.1
"""Windows begin so long after one another [s]."""
NUM_COMPONENTS = 16
SMALLEST_SPREAD = {"dof_pos": 0.05, "dof_vel": 0.3}
"""Joints that hardly move in a band are compared as if they did by this much [rad], [rad/s]."""
FEWEST_WINDOWS = 50
"""A band with less than 5 s of held-out or training motion has no figure."""


class _Band(NamedTuple):
    """Held-out motion of a speed band, and how to look at it."""

    held_out: Tensor
    commands: Tensor
    mean: Tensor
    components: Tensor
    distance: float


class MotionDistribution:
    """The recorded motion of a dataset, band by band.

    Args:
        dataset: Motion in the robot's joint order, with held-out clips.
        robot: The robot, whose mirror doubles the motion.
    """

    def __init__(self, dataset: MotionDataset, robot: Robot) -> None:
        self.fps, self.layout, self.robot = dataset.fps, dataset.layout, robot
        self._step = round(WINDOW_STEP * self.fps)
        self._reach = torch.arange(0, round(WINDOW_TIME * self.fps), round(self.fps / RATE))
        self._bands: dict[str, _Band] = {}
        sets = [self._recorded(dataset, held_out) for held_out in (False, True)]
        bands = [speed_bands(commands) for _, commands in sets]
        for name in bands[0]:
            (training, _), (held_out, commands) = (
                (windows[own[name]], velocities[own[name]]) for (windows, velocities), own in zip(sets, bands)
            )
            if name == "standing" or min(len(training), len(held_out)) < FEWEST_WINDOWS:
                continue
            training, held_out = self._with_mirror(training).flatten(1), self._with_mirror(held_out).flatten(1)
            smallest = torch.cat([torch.full((robot.num_joints,), value) for value in SMALLEST_SPREAD.values()])
            num_frames = training.shape[1] // len(smallest)
            spread = training.reshape(len(training), num_frames, -1).flatten(0, 1).std(dim=0)
            scale = torch.maximum(spread, smallest).repeat(num_frames)
            mean = training.mean(dim=0)
            _, vectors = torch.linalg.eigh(torch.cov(((training - mean) / scale).T.double()))
            components = (vectors[:, -NUM_COMPONENTS:] / scale[:, None].double()).float()
            near = frechet_distance((training - mean) @ components, (held_out - mean) @ components)
            self._bands[name] = _Band((held_out - mean) @ components, commands, mean, components, near)

    @property
    def commands(self) -> dict[str, Tensor]:
        """Measured velocities of each band's held-out windows, (num_windows, NUM_VELOCITIES)."""
        return {name: band.commands for name, band in self._bands.items()}

    def ratio(self, name: str, states: Tensor) -> float:
        """Distance of motions from a band's held-out clips over that of the training clips.

        Args:
            name: The band.
            states: Motion of that band in the order of the dataset's layout, (num_motions, num_frames, state_dim).
        """
        band = self._bands[name]
        firsts = torch.arange(0, states.shape[1] - int(self._reach[-1]), self._step)
        windows = self._with_mirror(self._joints(states[:, firsts[:, None] + self._reach].flatten(0, 1))).flatten(1)
        return frechet_distance((windows - band.mean) @ band.components, band.held_out) / band.distance

    def _recorded(self, dataset: MotionDataset, held_out: bool) -> tuple[Tensor, Tensor]:
        """Windows (num_windows, num_frames, 2 * num_joints) of training or held-out clips and their velocities.

        Motion that is told more than a velocity, such as a crouch, is left out.
        """
        starts = dataset.windows(round(WINDOW_TIME * self.fps), held_out)
        frames = starts[starts % self._step == 0][:, None] + self._reach
        frames = frames[dataset.command_layout.velocity_alone(dataset.commands)[frames].all(dim=1)]
        return self._joints(dataset.states[frames]), dataset.commands[:, VELOCITY][frames].mean(dim=1)

    def _joints(self, windows: Tensor) -> Tensor:
        return torch.cat((windows[..., self.layout["dof_pos"]], windows[..., self.layout["dof_vel"]]), dim=-1)

    def _with_mirror(self, windows: Tensor) -> Tensor:
        positions, velocities = windows.chunk(2, dim=-1)
        mirrored = torch.cat((self.robot.mirrored(positions), self.robot.mirrored(velocities)), dim=-1)
        return torch.cat((windows, mirrored))


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Fréchet distance of the normal distributions of two samples, (n, num_columns) and (m, num_columns)."""
    first, second = first.double(), second.double()
    apart = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    one, other = torch.cov(first.T), torch.cov(second.T)
    values, vectors = torch.linalg.eigh(one)
    root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
    # trace of (one other)^(1/2), which has the eigenvalues of the symmetric root other root.
    shared = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0.0).sqrt().sum()
    return float(apart + one.trace() + other.trace() - 2.0 * shared)
