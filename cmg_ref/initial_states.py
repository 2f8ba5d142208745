"""The states that motions begin from, chosen to suit their commands."""

from __future__ import annotations

import torch

from cmg_ref.checkpoint import Checkpoint
from cmg_ref.rollout import Rollout

NUM_NEAREST = 8  # a motion draws among this many initial states that did what its command asks for
_MASK = (1 << 32) - 1


class InitialStates:
    """Chooses among the initial states of a checkpoint.

    Args:
        checkpoint: the CMG.
        rollout: advances its states.
    """

    def __init__(self, checkpoint: Checkpoint, rollout: Rollout) -> None:
        device = rollout.device
        low, high = checkpoint.command_min.to(device), checkpoint.command_max.to(device)
        self._states = checkpoint.initial_states.to(device)
        self._commands = torch.minimum(torch.maximum(checkpoint.initial_commands.to(device), low), high)
        self._following = rollout.advance(self._states, self._commands)
        self._scale = 2.0 / (high - low)

    def choose(self, commands: torch.Tensor, draw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States to begin from and what they were doing.

        Args:
            commands: what the motions shall do, (n, 3).
            draw: integers that choose among the states that did nearly that, (n,); not negative.

        Returns:
            States (n, state_dim), each one of the few that did nearly that; their own commands (n, 3); and the states
            a frame later, had they gone on, (n, state_dim).
        """
        # By a matrix product the distances of one motion would depend, in the last digit, on how many are asked for.
        exactly = "donot_use_mm_for_euclid_dist"
        distance = torch.cdist(commands * self._scale, self._commands * self._scale, compute_mode=exactly)
        # distance: (n, num_initial_states)
        nearest = distance.topk(min(NUM_NEAREST, distance.shape[1]), largest=False).indices
        picks = nearest.gather(1, (draw % nearest.shape[1]).unsqueeze(1)).squeeze(1)
        return self._states[picks], self._commands[picks], self._following[picks]


class EnvironmentDraws:
    """Random integers for each environment, which depend on the seed, its number and how often it has drawn before.

    So an environment draws the same whichever others are reset with it, and in whichever process it is.

    Args:
        num_envs: number of environments here.
        first_env: number of the first of them.
        seed: seed of the draws.
        device: device of the draws.
    """

    def __init__(self, num_envs: int, first_env: int, seed: int, device: torch.device) -> None:
        self._drawn = torch.zeros(num_envs, dtype=torch.long, device=device)
        self._first, self._seed = first_env, seed & _MASK

    def __call__(self, env_ids: torch.Tensor) -> torch.Tensor:
        """An integer from 0 to 2**32 - 1 for each of environments (n,), (n,)."""
        self._drawn[env_ids] += 1
        mixed = _mixed(self._first + env_ids + _mixed(torch.full_like(env_ids, self._seed)))
        return _mixed(mixed + self._drawn[env_ids])


def _mixed(values: torch.Tensor) -> torch.Tensor:
    """Integers whose bits all depend on all lower 32 bits of ``values``: the finaliser of MurmurHash3 (A. Appleby)."""
    values = values & _MASK
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        values = ((values ^ (values >> shift)) * factor) & _MASK  # Products wrap around in 64 bits; these do no harm.
    return values ^ (values >> 16)
