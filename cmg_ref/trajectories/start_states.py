"""The states that motions begin from, chosen to suit their commands."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from cmg_ref.core.backends import call_loop
from cmg_ref.core.command_layout import told_to_stand
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.robots.kinematics import FootKinematics, ForwardKinematics
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.rollout import Rollout

NUM_NEAREST = 8  # a motion draws among this many initial states that did what its command asks for
_Integers = TypeVar("_Integers", torch.Tensor, np.ndarray)  # of 64 bits
_MASK = (1 << 32) - 1
_EVEN_LOAD = 0.05  # of the weight may be on one foot rather than on the other, beyond a half


class InitialStates:
    """Chooses among the initial states of a checkpoint.

    Whoever stands does so in the checkpoint's neutral stance, or as it comes: people also rest with most of their
    weight on one leg, but a robot can hardly hold still like that, so only those that load both feet alike are used.

    Args:
        checkpoint: The CMG.
        rollout: Advances its states.
        robot: Robot description.
        stand: ``"neutral"`` or ``"as_it_comes"``.

    Attributes:
        states: The states that are used, (num_states, state_dim).
        commands: What they were doing, (num_states, command_dim).
        following: The states a frame later, had they gone on, (num_states, state_dim).
        scale: Of commands where their distance counts, (command_dim,).
        scaled_commands: Commands times that, (num_states, command_dim).
        at_rest: Numbers of the states at rest, (num_standing,).
        standing: The states at rest, (num_standing, state_dim).
    """

    def __init__(self, checkpoint: Checkpoint, rollout: Rollout, robot: Robot, stand: str = "neutral") -> None:
        device = rollout.device
        low, high = checkpoint.command_min.to(device), checkpoint.command_max.to(device)
        rests, uneven = checkpoint.at_rest, (load_on_left_foot(checkpoint, robot) - 0.5).abs()
        # Where hardly any is even, those that come nearest to it.
        fewest = uneven[rests].sort().values[:NUM_NEAREST][-1]
        used = ~rests | (uneven <= max(_EVEN_LOAD, float(fewest)))
        states = checkpoint.initial_states[used]
        if stand == "neutral":
            states[rests[used]] = checkpoint.standing_state(robot)
        self.states = states.to(device)
        self.commands = torch.minimum(torch.maximum(checkpoint.initial_commands[used].to(device), low), high)
        self.following = rollout.advance(self.states, self.commands)
        self.scale = 2.0 / (high - low)
        self.scaled_commands = self.commands * self.scale
        self.at_rest = rests[used].nonzero().squeeze(1).to(device)
        self.standing = self.states[self.at_rest]
        self._numba = rollout.backend == "numba"
        if self._numba:
            from cmg_ref.frames import numba_frames

            self._loops = numba_frames

    def choose(self, commands: torch.Tensor, draw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States to begin from and what they were doing.

        Args:
            commands: What the motions shall do, (n, command_dim).
            draw: Integers that choose among the states that did nearly that, (n,); not negative.

        Returns:
            States (n, state_dim), each one of the few that did nearly that; their own commands; and the states
            a frame later, had they gone on, (n, state_dim).
        """
        picks = self._nearest(commands, draw)
        # All that rest are equally near to the command to stand.
        rests = told_to_stand(commands)
        picks = torch.where(rests, self.at_rest[draw % len(self.at_rest)], picks)
        return self.states[picks], self.commands[picks], self.following[picks]

    def _nearest(self, commands: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
        """Number of one of the states that did nearly what commands ask for, chosen by ``draw`` (n,), (n,)."""
        wanted, known = commands * self.scale, self.scaled_commands
        count = min(NUM_NEAREST, len(known))
        if self._numba:
            picks = torch.empty_like(draw)
            call_loop(self._loops.nearest, wanted, known, count, draw, picks)
            return picks
        # Axis by axis, so that a motion's distances do not depend on how many motions are asked for.
        distance = torch.zeros(len(wanted), len(known), device=wanted.device)
        for one, own in zip(wanted.unbind(dim=1), known.unbind(dim=1)):
            distance += (one.unsqueeze(1) - own).square()
        nearest = distance.topk(count, largest=False).indices
        return nearest.gather(1, (draw % count).unsqueeze(1)).squeeze(1)


def load_on_left_foot(checkpoint: Checkpoint, robot: Robot) -> torch.Tensor:
    """Share of the weight that the left foot bears in each initial state, if nothing moves.

    That is how far the centre of mass, seen from above, has come from the right sole (0) to the left one (1). Joints
    are matched by name; those of the robot that the checkpoint does not know are at zero.

    Args:
        checkpoint: The CMG.
        robot: Robot description.

    Returns:
        (num_initial_states,); one half for a robot without masses.
    """
    layout, states = checkpoint.layout, checkpoint.initial_states
    dof_pos = states.new_zeros(len(states), robot.num_joints)
    for column, name in enumerate(robot.joint_names):
        if name in checkpoint.joint_names:
            dof_pos[:, column] = states[:, layout["dof_pos"]][:, checkpoint.joint_names.index(name)]
    position, rotation = ForwardKinematics(robot).matrices(dof_pos)  # (n, B, 3), (n, B, 3, 3)
    mass = robot.body_mass.to(position).unsqueeze(-1)  # (B, 1)
    if float(mass.sum()) == 0.0:
        return states.new_full((len(states),), 0.5)
    centres = position + (rotation @ robot.body_com.to(position).unsqueeze(-1)).squeeze(-1)
    left, right = FootKinematics(robot)(dof_pos).mean(dim=2).unbind(dim=1)  # (n, 3) each
    across, offset = left - right, (mass * centres).sum(dim=1) / mass.sum() - right
    down = across.new_tensor([0.0, 0.0, -1.0]).expand_as(across)
    if "projected_gravity" in layout:
        down = torch.nn.functional.normalize(states[:, layout["projected_gravity"]], dim=1)
    across = across - (across * down).sum(dim=1, keepdim=True) * down
    return (offset * across).sum(dim=1) / across.square().sum(dim=1).clamp(min=1e-6)


class EnvironmentDraws:
    """Random integers for each environment, which depend on the seed, its number and how often it has drawn before.

    So an environment draws the same whichever others are reset with it, and in whichever process it is.

    Args:
        num_envs: Number of environments here.
        first_env: Number of the first of them.
        seed: Seed of the draws.
        device: Device of the draws.

    Attributes:
        drawn: How often each environment has drawn, (num_envs,).
        first: Number of the first environment.
        mixed_seed: What the seed adds to the numbers.
    """

    def __init__(self, num_envs: int, first_env: int, seed: int, device: torch.device) -> None:
        self.drawn = torch.zeros(num_envs, dtype=torch.long, device=device)
        self.first, self.mixed_seed = first_env, int(_mixed(torch.tensor(seed & _MASK)))

    def __call__(self, env_ids: torch.Tensor) -> torch.Tensor:
        """An integer from 0 to 2**32 - 1 for each of environments (n,), (n,)."""
        if env_ids.device.type == "cpu":  # For few numbers NumPy takes a tenth of torch's time.
            return torch.from_numpy(self._draw(self.drawn.numpy(), env_ids.numpy()))
        return self._draw(self.drawn, env_ids)

    def _draw(self, drawn: _Integers, env_ids: _Integers) -> _Integers:
        drawn[env_ids] += 1
        return _mixed(_mixed(self.first + env_ids + self.mixed_seed) + drawn[env_ids])


def _mixed(values: _Integers) -> _Integers:
    """Integers whose bits all depend on all lower 32 bits of ``values``: the finaliser of MurmurHash3 (A. Appleby)."""
    values = values & _MASK
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        values = ((values ^ (values >> shift)) * factor) & _MASK  # Products wrap around in 64 bits; these do no harm.
    return values ^ (values >> 16)
