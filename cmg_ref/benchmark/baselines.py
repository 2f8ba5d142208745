"""The plain way to do the same, for comparison: private weights for every sample, a deque for every environment.

Nothing else in this project uses these.
"""

from __future__ import annotations

from collections import deque

import torch
from torch.nn import functional

from cmg_ref.network.model import CMG, MixtureLinear


class PerSampleCMG:
    """Predicts as the model does, by blending a weight matrix of its own for each sample.

    Args:
        model: The CMG.
    """

    def __init__(self, model: CMG) -> None:
        self._model = model

    def bytes_needed(self, num_samples: int) -> int:
        """Memory of the largest blend [bytes]: every expert's weights, scaled, for every sample, and their sum."""
        largest = max(layer.weight.numel() for layer in self._model.layers if isinstance(layer, MixtureLinear))
        return 4 * num_samples * largest * (1 + self._model.config.num_experts) // self._model.config.num_experts

    @torch.no_grad()
    def predict(self, state: torch.Tensor, command: torch.Tensor) -> torch.Tensor:
        """Next states (n, state_dim) from states (n, state_dim) and commands (n, command_dim), in physical units."""
        model = self._model
        inputs = model.normalise(state, command)
        blend = torch.softmax(model.gate(inputs), dim=1)
        hidden = inputs
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, MixtureLinear)
            weight = (blend[:, :, None, None] * layer.weight.unsqueeze(0)).sum(dim=1)  # (n, in, out)
            bias = (blend[:, :, None] * layer.bias.unsqueeze(0)).sum(dim=1)  # (n, out)
            hidden = torch.bmm(hidden.unsqueeze(1), weight).squeeze(1) + bias
            if index < len(model.layers) - 1:
                hidden = functional.elu(hidden)
        return model.following(state, hidden)


class DequeBuffer:
    """Real-time generation with one Python deque of frames per environment, all refilled at the same time.

    Args:
        model: The CMG.
        states: States to begin from, (num_envs, state_dim).
        commands: Commands in force, (num_envs, command_dim).
        size: Frames held per environment.
    """

    def __init__(self, model: CMG, states: torch.Tensor, commands: torch.Tensor, size: int) -> None:
        self._model, self.commands, self._size = model, commands, size
        self._frames: list[deque[torch.Tensor]] = [deque(maxlen=size) for _ in range(len(states))]
        self._state = states
        self._refill()

    @torch.no_grad()
    def _refill(self) -> None:
        while len(self._frames[0]) < self._size:
            self._state = self._model(self._state, self.commands)
            for env, frames in enumerate(self._frames):
                frames.append(self._state[env].clone())

    def step(self) -> torch.Tensor:
        """The next frame of every environment, (num_envs, state_dim)."""
        shown = torch.stack([frames.popleft() for frames in self._frames])
        if len(self._frames[0]) <= self._size // 2:
            self._refill()
        return shown

    @torch.no_grad()
    def reset(self, env_ids: list[int], states: torch.Tensor) -> None:
        """Begin anew: states (n, state_dim) for some environments, whose frames are made at once."""
        own = states
        for frames in range(len(self._frames[0])):
            own = self._model(own, self.commands[env_ids])
            for row, env in enumerate(env_ids):
                if frames == 0:
                    self._frames[env].clear()
                self._frames[env].append(own[row].clone())
        self._state[env_ids] = own
