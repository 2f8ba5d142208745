"""The rows of a batch that go on from the model's own states, towards commands that may change at any time."""

from __future__ import annotations

import torch

from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY, told_to_stand
from cmg_ref.network.model import CMG
from cmg_ref.training.window_sampler import WindowSampler

RESTART_SHARE, CHANGE_SHARE = 0.05, 0.15  # rows that restart from a recording or get a new command in a step
STANDING_SHARE = 0.08  # rows that restart from standing, with a slow command along one axis, in a step
FURTHER_SHARE = 0.7  # rows of a made-up velocity that are told the further channels of a recording of like speed
LIKE_SPEED = 0.5  # [m/s] forward
LOST_DISTANCE = 2.5  # rows further than this from recorded state and wanted command (or not finite) restart too


class MatchedRows:
    """Motions that run free from one training step to the next, each compared with what recordings have nearest to it.

    Args:
        count: Number of rows.
        sampler: Recorded windows.
        model: The CMG in training.
        unit: What counts as one in the comparison of states, (state_dim,).
        generator: Source of random numbers.

    Attributes:
        states: Where the rows have got to, (count, state_dim).
        wanted: Commands wanted of them, (count, command_dim).
        drift: How far commands have been missed since they were given, (count, 3) [m, m, rad].
        waiting: For how long they have been told to stand, (count,) [s].
    """

    def __init__(
        self, count: int, sampler: WindowSampler, model: CMG, unit: torch.Tensor, generator: torch.Generator
    ) -> None:
        self.sampler, self.model, self.unit, self.generator = sampler, model, unit, generator
        self.states = sampler.sample(count, generator)[0][:, 0]
        self.wanted = model.command_layout.rest(count)
        self.drift, self.waiting = torch.zeros(count, NUM_VELOCITIES), torch.zeros(count)

    def __len__(self) -> int:
        return len(self.states)

    def follow(self, states: torch.Tensor, commands: torch.Tensor) -> None:
        """Note where the rows have got to.

        Args:
            states: What they did, (count, horizon, state_dim).
            commands: What they were told, (count, horizon, command_dim).
        """
        self.states = states[:, -1].cpu()
        layout, time = self.model.layout, states.shape[1] / self.model.fps
        velocity = torch.cat((states[..., layout["root_lin_vel_h"]][..., :2], states[..., layout["root_yaw_rate"]]), -1)
        self.drift = self.drift + time * (velocity - commands[..., VELOCITY]).mean(dim=1).cpu()
        self.waiting = torch.where(told_to_stand(self.wanted), self.waiting + time, 0.0 * self.waiting)

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Recorded windows most like the model's own states, and the commands to give, (count, length, ...) each."""
        generator, count = self.generator, len(self)
        restart = torch.rand(count, 1, generator=generator) < RESTART_SHARE
        self.states = torch.where(restart, self.sampler.sample(count, generator)[0][:, 0], self.states)
        # In recordings few motions begin from standing, and roll-outs mostly do.
        stand = torch.rand(count, 1, generator=generator) < STANDING_SHARE
        self.states = torch.where(stand, self.sampler.sample_still(count, generator)[0], self.states)
        change = torch.rand(count, 1, generator=generator) < CHANGE_SHARE
        self.wanted = torch.where(change, self.random_commands(count), self.wanted)
        self.wanted = torch.where(stand, self.slow_commands(count), self.wanted)
        anew = (restart | stand | change).squeeze(1)
        self.drift[anew], self.waiting[anew] = 0.0, 0.0
        states, commands, distance = self.sampler.match(self.states, self.wanted, self.unit, generator)
        lost = ~(distance <= LOST_DISTANCE)
        self.states = torch.where(lost.unsqueeze(1), states[:, 0], self.states)
        self.drift[lost] = 0.0
        # Half of the rows get the recorded command of each frame, the others the one command that was wanted.
        plain = torch.rand(count, 1, 1, generator=generator) < 0.5
        return states, torch.where(plain, self.wanted.unsqueeze(1), commands)

    def random_commands(self, count: int) -> torch.Tensor:
        """Commands (count, command_dim): recorded, standing, along one or two axes, or anywhere in their range.

        Where the velocity is made up, channels besides are at rest, or those of a recording nearly as fast: people
        crouch slowly, and a CMG is not asked for what nobody has shown.
        """
        generator = self.generator
        low, high = self.model.command_min.cpu(), self.model.command_max.cpu()
        recorded = torch.minimum(torch.maximum(self.sampler.sample_commands(count, generator), low), high)
        anywhere = low + (high - low) * torch.rand(count, len(low), generator=generator)
        axes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
        along = anywhere[:, VELOCITY] * axes[torch.randint(len(axes), (count,), generator=generator)]
        kind = torch.rand(count, 1, generator=generator)
        velocity = torch.where(kind < 0.75, along, anywhere[:, VELOCITY])
        velocity = torch.where(kind < 0.4, recorded[:, VELOCITY], velocity)
        velocity = torch.where(kind > 0.87, torch.zeros_like(velocity), velocity)
        further = recorded[:, NUM_VELOCITIES:]
        rest = self.model.command_layout.rest(count)[:, NUM_VELOCITIES:]
        like = (recorded[:, :1] - velocity[:, :1]).abs() < LIKE_SPEED
        asked = like & (torch.rand(count, 1, generator=generator) < FURTHER_SHARE)
        return torch.cat((velocity, torch.where(asked | (kind < 0.4), further, rest)), dim=1)

    def slow_commands(self, count: int) -> torch.Tensor:
        """Commands (count, command_dim) along one axis, as often one way as the other: few starts go backwards."""
        low, high = self.model.command_min.cpu()[VELOCITY], self.model.command_max.cpu()[VELOCITY]
        largest = torch.minimum(-low, high).clamp(min=0.0)
        axis = torch.eye(NUM_VELOCITIES)[torch.randint(NUM_VELOCITIES, (count,), generator=self.generator)]
        along = axis * largest * (2.0 * torch.rand(count, 1, generator=self.generator) - 1.0)
        return self.model.command_layout.complete(along)

    def restore(
        self,
        states: torch.Tensor,
        wanted: torch.Tensor,
        drift: torch.Tensor | None = None,
        waiting: torch.Tensor | None = None,
    ) -> None:
        """Go on from rows that were saved, of any number; runs of before began without the last two.

        Raises:
            ValueError: They are of other states or commands.
        """
        if states.shape[1:] != self.states.shape[1:] or wanted.shape != (len(states), self.wanted.shape[1]):
            raise ValueError("'own_states' and 'wanted' do not fit the dataset")
        if len(states) == 0:
            return
        rows = torch.arange(len(self)) % len(states)  # Another batch size has another number of them.
        self.states, self.wanted = states[rows], wanted[rows]
        if drift is not None and waiting is not None:
            self.drift, self.waiting = drift[rows], waiting[rows]
