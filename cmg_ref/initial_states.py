"""The states that motions begin from, chosen to suit their commands."""

from __future__ import annotations

import torch

from cmg_ref.checkpoint import Checkpoint
from cmg_ref.rollout import Rollout

NUM_NEAREST = 8  # a motion draws among this many initial states that did what its command asks for


class InitialStates:
    """Chooses among the initial states of a checkpoint.

    Args:
        checkpoint: the CMG.
        rollout: advances its states.
        seed: seed of the choice.
    """

    def __init__(self, checkpoint: Checkpoint, rollout: Rollout, seed: int = 0) -> None:
        device = rollout.device
        low, high = checkpoint.command_min.to(device), checkpoint.command_max.to(device)
        self._states = checkpoint.initial_states.to(device)
        self._commands = torch.minimum(torch.maximum(checkpoint.initial_commands.to(device), low), high)
        self._following = rollout.advance(self._states, self._commands)
        self._scale = 2.0 / (high - low)
        self.generator = torch.Generator(device=device).manual_seed(seed)

    def choose(self, commands: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States to begin from and what they were doing.

        Args:
            commands: what the motions shall do, (n, 3).

        Returns:
            States (n, state_dim), each one of the few that did nearly that; their own commands (n, 3); and the states
            a frame later, had they gone on, (n, state_dim).
        """
        distance = torch.cdist(commands * self._scale, self._commands * self._scale)  # (n, num_initial_states)
        nearest = distance.topk(min(NUM_NEAREST, distance.shape[1]), largest=False).indices
        draw = torch.randint(nearest.shape[1], (len(nearest), 1), generator=self.generator, device=nearest.device)
        picks = nearest.gather(1, draw).squeeze(1)
        return self._states[picks], self._commands[picks], self._following[picks]
