"""What the CMG is trained for: a free-running roll-out and the losses on it.

A batch has three kinds of rows. *Recorded* rows start in a recorded state, get its command and are compared with the
recording. *Matched* rows start from wherever the model itself has got to and are compared with the recording that is
most like it under a wanted command: so the model learns to come back to recorded motion from its own errors, however
long it has been running free. *Still* rows start in a standing pose with zero command and must not move.
"""

from __future__ import annotations

from typing import Mapping

import torch
from torch import nn
from torch.nn import functional

from cmg_ref.core.devices import bfloat16_pays
from cmg_ref.network.model import CMG
from cmg_ref.robots.robot import Robot
from cmg_ref.training.loss_terms import TERMS
from cmg_ref.training.rolled_out import Batch, Instruments, RolledOut

GUARD_MARGIN = 0.02  # [rad] joints are kept this far inside the guard range, where the guard need not act
# Share of the gradient that goes from a frame to the one before. Undamped, gradients grow exponentially where the
# motion is unstable, as it is where the model has gone astray by itself, and one step can ruin the model.
GRADIENT_DAMPING = {"recorded": 0.97, "matched": 0.9}


class RollOutObjective(nn.Module):
    """Rolls the model out and adds up the losses.

    Args:
        model: the CMG in training; its joints are in the robot's order.
        robot: robot description.
        weights: weight of each term of :data:`TERMS`; what has none, or 0, is not computed.
        channel_weights: weight of each column in the comparison with the recording, (state_dim,).
        acceleration_limit: joint acceleration from which on it costs, (num_joints,) [rad/s^2].
        mixed_precision: bfloat16 matrix products, where the device is faster with them.
    """

    guard_margin: torch.Tensor

    def __init__(
        self,
        model: CMG,
        robot: Robot,
        weights: Mapping[str, float],
        channel_weights: torch.Tensor,
        acceleration_limit: torch.Tensor,
        mixed_precision: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.weights = {name: weight for name, weight in weights.items() if weight != 0.0}
        self.mixed_precision = mixed_precision
        margin = torch.zeros_like(model.motion_std)
        margin[model.layout["dof_pos"]] = GUARD_MARGIN
        self.register_buffer("guard_margin", margin)
        self.instruments = Instruments(model, robot, channel_weights, acceleration_limit)

    def roll_out(
        self, initial: torch.Tensor, commands: torch.Tensor, damping: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States (num_rows, horizon, state_dim) and by how many standard deviations each came too near the guard.

        Args:
            initial: states to start from, (num_rows, state_dim).
            commands: command of every frame, (num_rows, horizon, command_dim).
            damping: share of the gradient that goes from a frame to the one before, (num_rows, 1).
        """
        state, states, excess = initial, [], []
        low, high = self.model.state_min + self.guard_margin, self.model.state_max - self.guard_margin
        half = self.model.half_weights() if self.mixed_precision and bfloat16_pays(initial.device) else None
        for command in commands.unbind(dim=1):
            predicted = self.model(state, command, half)
            guarded = self.model.guard(predicted)
            excess.append(functional.relu(low - predicted) + functional.relu(predicted - high))
            states.append(guarded)
            state = torch.lerp(guarded.detach(), guarded, damping)
        return torch.stack(states, dim=1), torch.stack(excess, dim=1) / self.model.motion_std

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Loss, states of the roll-out (num_rows, horizon, state_dim) and the unweighted terms."""
        damping = torch.full((len(batch.initial), 1), GRADIENT_DAMPING["recorded"], device=batch.initial.device)
        damping[batch.matched] = GRADIENT_DAMPING["matched"]
        states, excess = self.roll_out(batch.initial, batch.commands, damping)
        rolled = RolledOut(states, excess, batch, self.instruments)
        terms = {name: TERMS[name].compute(rolled) for name in self.weights}
        loss = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        return loss, states, {name: value.detach() for name, value in terms.items()}
