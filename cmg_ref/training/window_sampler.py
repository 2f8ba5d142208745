"""Training windows drawn so that rare velocities are seen as often as common ones."""

from __future__ import annotations

from typing import Sequence

import torch

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.clips.mirror import mirror_commands, mirror_states
from cmg_ref.core.command_layout import VELOCITY, CommandLayout
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.robots.robot import Robot

NUM_CANDIDATES = 8000  # windows among which a match is sought
RANGE_MARGIN = 0.15  # windows this share of the command range outside of it are still used
FURTHER_SHARE = 0.4  # of the windows drawn are told more than a velocity, where the data have such
STILL_SPEED = 0.08  # [m/s] and [rad/s]: below this a frame may serve as a pose to stand still in
STILL_JOINT_SPEED = 0.15  # [rad/s] rms, likewise


class WindowSampler:
    """Windows of states and commands from the training clips, each as recorded or mirrored.

    Windows fall into bins of the command and of its change within the window, so that starts and stops count as kinds
    of motion of their own. A bin is drawn with probability proportional to its number of windows to the power
    ``balance``: 1 follows the data, 0 gives each occupied bin the same share. Those that are told more than a velocity
    together make up FURTHER_SHARE. Windows far outside the command range are
    left out: they would take the place of what the model is asked to do.

    Args:
        dataset: motion data.
        robot: robot whose mirroring is used.
        length: frames of a window, the first one being the initial state.
        command_min: smallest command of interest, one number a channel.
        command_max: largest one.
        balance: exponent of the number of windows in a bin.
        held_out: draw from the clips kept out of training instead.

    Attributes:
        states: every frame, recorded then mirrored, (2 * num_frames, state_dim).
        commands: command of every frame, (2 * num_frames, command_dim).
        valid: whether a frame may be used, (2 * num_frames,) bool.

    Raises:
        ValueError: no window of that length exists.
    """

    def __init__(
        self,
        dataset: MotionDataset,
        robot: Robot,
        length: int,
        command_min: Sequence[float],
        command_max: Sequence[float],
        balance: float = 0.5,
        held_out: bool = False,
    ) -> None:
        self.layout: StateLayout = dataset.layout
        self.command_layout: CommandLayout = dataset.command_layout
        self.length = length
        starts = dataset.windows(length, held_out=held_out)
        if len(starts) == 0:
            raise ValueError(f"the dataset has no {'held-out' if held_out else 'training'} window of {length} frames")
        num_frames = len(dataset.states)
        self.states = torch.cat((dataset.states, mirror_states(dataset.states, self.layout, robot)))
        self.commands = torch.cat((dataset.commands, mirror_commands(dataset.commands, self.command_layout)))
        self.valid = (dataset.valid & (dataset.frame_held_out == held_out)).repeat(2)
        self.starts = torch.cat((starts, starts + num_frames))
        low, high = torch.tensor(command_min), torch.tensor(command_max)
        margin = RANGE_MARGIN * (high - low)
        middle = self.commands[self.starts + length // 2]
        inside = ((middle > low - margin) & (middle < high + margin)).all(dim=1)
        self.starts, middle = self.starts[inside], middle[inside]
        if len(self.starts) == 0:
            raise ValueError(
                f"no window of the dataset has a command between {tuple(command_min)} and {tuple(command_max)}"
            )
        change = self.commands[self.starts + length - 1] - self.commands[self.starts]
        widths = torch.tensor([channel.bins for channel in self.command_layout])
        bins = torch.cat((middle / widths[:, 0], change / widths[:, 1]), dim=1).round()
        _, inverse, counts = torch.unique(bins, dim=0, return_inverse=True, return_counts=True)
        self.probabilities = counts[inverse].to(torch.float64) ** (balance - 1.0)
        more = ~self.command_layout.velocity_alone(middle)  # Such bins are many, and each is like motion without it.
        if bool(more.any()) and not bool(more.all()):
            alone = (1.0 - FURTHER_SHARE) / FURTHER_SHARE * self.probabilities[more].sum()
            self.probabilities[~more] *= alone / self.probabilities[~more].sum()
        speed = self.states[self.starts][:, self.layout["dof_vel"]].pow(2).mean(dim=1).sqrt()
        still = (speed < STILL_JOINT_SPEED) & (self.commands[self.starts][:, VELOCITY].abs().amax(dim=1) < STILL_SPEED)
        self.still_starts = self.starts[still]

    def sample(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw windows.

        Returns:
            States (count, length, state_dim) and commands (count, length, command_dim).
        """
        picks = self._draw(count, generator)
        frames = self.starts[picks].unsqueeze(1) + torch.arange(self.length)  # (count, length)
        return self.states[frames], self.commands[frames]

    def sample_still(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw poses of people who stand, every velocity set to zero.

        Returns:
            States (count, state_dim) and commands (count, command_dim) to stay like that.
        """
        starts = self.still_starts if len(self.still_starts) else self.starts
        frames = starts[torch.randint(len(starts), (count,), generator=generator)]
        states, commands = self.states[frames].clone(), self.commands[frames].clone()
        for channel in ("dof_vel", "root_lin_vel_h", "root_yaw_rate"):
            states[:, self.layout[channel]] = 0.0
        commands[:, VELOCITY] = 0.0
        return states, commands

    def sample_commands(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Draw commands that somebody followed, (count, command_dim)."""
        picks = self._draw(count, generator)
        return self.commands[self.starts[picks] + self.length // 2]

    def match(
        self, states: torch.Tensor, wanted: torch.Tensor, unit: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Windows whose first frame is most like given states and whose command is most like a wanted one.

        The nearest of a fresh draw of windows is taken, so that a state is not always answered by the same one.

        Args:
            states: (count, state_dim).
            wanted: commands, (count, command_dim).
            unit: difference in each column that counts as one, (state_dim,).
            generator: random numbers.

        Returns:
            States (count, length, state_dim), their commands and how far the given states are from them,
            (count,): recorded states that are not among the candidates are 0.5 to 1.6 away.
        """
        starts = self.starts[self._draw(NUM_CANDIDATES, generator)]
        command_unit = torch.tensor([channel.difference for channel in self.command_layout])
        features = (self.states[starts] / unit, self.commands[starts + self.length // 2] / command_unit)
        weight = len(unit) ** -0.5  # The state counts by its mean square.
        own = torch.cat((states / unit * weight, wanted / command_unit), dim=1)
        distance, nearest = torch.cdist(own, torch.cat((features[0] * weight, features[1]), dim=1)).min(dim=1)
        frames = starts[nearest].unsqueeze(1) + torch.arange(self.length)  # (count, length)
        return self.states[frames], self.commands[frames], distance

    def _draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Indices into ``starts`` by the probabilities of the windows, (count,)."""
        if count == 0:
            return torch.zeros(0, dtype=torch.long)
        return torch.multinomial(self.probabilities, count, replacement=True, generator=generator)
