"""Observations of a legged robot: a method `_observe_<name>` each, chosen by the configuration's `observations`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.rl.observations import append_history
from configs.base_config import ConfigError, suggestion
from envs.base.curriculum import Curriculum
from envs.base.feet import Feet
from envs.base.observation_layout import ObservationMirror, ObservationTerm

LARGEST_SHARE = 2**15  # of a number of 16 bits


class LeggedRobotObservations:
    """Builds the observations of actor and critic; mixed into the environment, whose state the methods read.

    Attributes:
        observation_layout: Terms of the groups `policy` and `critic`, in their order. The columns of the actor are
            repeated `env.history_length` times, the newest last. The critic sees first what the actor sees, without
            its noise and history.
    """

    cfg: Any
    num_envs: int
    num_dof: int
    num_obs: int
    num_privileged_obs: int
    device: str
    extras: dict[str, Any]
    _commands_changed: bool
    _take_written_commands: Callable[[], None]
    generator: torch.Generator
    obs_buf: Tensor
    privileged_obs_buf: Tensor
    feet: Feet
    curriculum: Curriculum
    actions: Tensor
    commands: Tensor
    command_layout: CommandLayout
    dof_pos: Tensor
    dof_vel: Tensor
    default_dof_pos: Tensor
    base_ang_vel: Tensor
    base_lin_vel_h: Tensor
    base_height: Tensor
    projected_gravity: Tensor
    average_velocity: Tensor
    mirror_joint_index: Tensor
    mirror_joint_sign: Tensor

    def observation_terms(self) -> list[ObservationTerm]:
        """All terms that can be observed; each is computed by `_observe_<name>`."""
        scale, noise, num_dof = self.cfg.normalization.obs_scales, self.cfg.noise.noise_scales, self.num_dof
        return [
            ObservationTerm("base_ang_vel", 3, scale.ang_vel, "axial", noise.ang_vel),
            ObservationTerm("projected_gravity", 3, scale.gravity, "polar", noise.gravity),
            ObservationTerm("commands", self.command_layout.size, scale.command, self.command_layout.mirror),
            ObservationTerm("dof_pos", num_dof, scale.dof_pos, "joints", noise.dof_pos),
            ObservationTerm("dof_vel", num_dof, scale.dof_vel, "joints", noise.dof_vel),
            ObservationTerm("last_action", num_dof, scale.action, "joints"),
            ObservationTerm("base_lin_vel", 3, scale.lin_vel, "polar"),
            ObservationTerm("average_lin_vel", 3, scale.lin_vel, "polar"),
            ObservationTerm("average_yaw_rate", 1, scale.ang_vel, "odd"),
            ObservationTerm("base_height", 1, scale.height, "scalar"),
            ObservationTerm("feet_contact", 2, 1.0, "pair"),
        ]

    def _prepare_observations(self) -> None:
        """Look up the terms of the observation groups.

        Raises:
            ConfigError: If a term is unknown.
        """
        terms = {term.name: term for term in self.observation_terms()}
        own, privileged = self.cfg.observations.policy, self.cfg.observations.privileged
        for name in (*own, *privileged):
            if name not in terms:
                raise ConfigError(f"observations: there is no '{name}'{suggestion(name, terms)}")
        self.observation_layout = {
            "policy": [terms[name] for name in own],
            "critic": [terms[name] for name in (*own, *privileged)],
        }
        sizes = {group: sum(term.size for term in layout) for group, layout in self.observation_layout.items()}
        history = self.cfg.env.history_length
        self.num_obs, self.num_privileged_obs = history * sizes["policy"], sizes["critic"]
        layout = self.observation_layout["critic"]
        self._observe = [getattr(self, f"_observe_{term.name}") for term in layout]
        self._num_clean = sizes["policy"]
        self._obs_scale = torch.cat([torch.full((term.size,), term.scale) for term in layout]).to(self.device)
        noise = torch.cat(
            [torch.full((term.size,), term.scale * term.noise) for term in self.observation_layout["policy"]]
        )
        noise = noise * (self.cfg.noise.noise_level if self.cfg.noise.add_noise else 0.0)
        # Columns from the first to the last that are noisy.
        noisy = noise.nonzero().squeeze(1)
        self._noisy = slice(int(noisy[0]), int(noisy[-1]) + 1) if len(noisy) else None
        self._obs_noise = noise.to(self.device) if self._noisy is None else noise[self._noisy].to(self.device)
        joints = (self.mirror_joint_index, self.mirror_joint_sign)
        self._mirrors = {
            "policy": ObservationMirror(self.observation_layout["policy"], *joints, history_length=history),
            "critic": ObservationMirror(layout, *joints),
        }
        self._history = torch.zeros(self.num_envs, history, sizes["policy"], device=self.device)
        # Environments whose history begins with the next observation.
        self._begins = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)

    def compute_observations(self) -> None:
        """Set `obs_buf`, `privileged_obs_buf` and `extras["observations"]` to new tensors."""
        if self._noisy is not None:
            self._noise = self._draw_shares(len(self._obs_noise)).mul(self._obs_noise)
        self._earlier, self._begun = self._history, self._begins
        self._begins = torch.zeros_like(self._begins)
        self._observe_now()

    def _observe_now(self) -> None:
        """Observe the present state; once more, with the noise and history it has been observed with already."""
        limit = self.cfg.normalization.clip_observations
        # Torch joins tensors that lie in one piece several times as fast as others, copies included.
        critic = torch.cat([observe().contiguous() for observe in self._observe], dim=1)
        critic.mul_(self._obs_scale).clamp_(-limit, limit)
        policy = critic[:, : self._num_clean].clone()
        if self._noisy is not None:
            policy[:, self._noisy].add_(self._noise, alpha=self.curriculum.randomisation_level / LARGEST_SHARE)
        if self.cfg.env.history_length > 1:
            self._history = append_history(self._earlier, policy, self._begun)
            policy = self._history.flatten(1)
        self._commands_changed = False
        self.obs_buf, self.privileged_obs_buf = policy, critic
        self.extras["observations"] = {"policy": policy, "critic": critic}

    @with_torch_defaults
    def get_observations(self) -> Tensor:
        """Observations of the actor, (num_envs, num_obs), of the commands as they are given by now."""
        self._observe_new_commands()
        return self.obs_buf

    @with_torch_defaults
    def get_privileged_observations(self) -> Tensor:
        """Observations of the critic, (num_envs, num_privileged_obs), of the commands as they are given by now."""
        self._observe_new_commands()
        return self.privileged_obs_buf

    def _observe_new_commands(self) -> None:
        """Observe anew if commands have been given since the last observation."""
        self._take_written_commands()
        if self._commands_changed:
            self._observe_now()

    def _draw_shares(self, count: int) -> Tensor:
        """Random whole numbers from -`LARGEST_SHARE` to below it, (num_envs, count)."""
        # Sixteen bits are plenty for noise, and four such numbers cost as much as one of 32 bits.
        size = self.num_envs * count
        bits = torch.empty((size + 3) // 4, dtype=torch.int64, device=self.device)
        bits.random_(-(2**63), None, generator=self.generator)
        return bits.view(torch.int16)[:size].view(self.num_envs, count)

    @with_torch_defaults
    def observation_groups(self) -> dict[str, Tensor]:
        """Observations by group: `policy` (num_envs, num_obs), `critic` (num_envs, num_privileged_obs)."""
        self._observe_new_commands()
        return {"policy": self.obs_buf, "critic": self.privileged_obs_buf}

    def mirror_observations(self, observations: Tensor, group: str) -> Tensor:
        """Observations of a group (..., size) of the robot seen in a mirror."""
        return self._mirrors[group](observations)

    def _observe_base_ang_vel(self) -> Tensor:
        return self.base_ang_vel

    def _observe_projected_gravity(self) -> Tensor:
        return self.projected_gravity

    def _observe_commands(self) -> Tensor:
        return self.commands

    def _observe_dof_pos(self) -> Tensor:
        return self.dof_pos - self.default_dof_pos

    def _observe_dof_vel(self) -> Tensor:
        return self.dof_vel

    def _observe_last_action(self) -> Tensor:
        return self.actions

    def _observe_base_lin_vel(self) -> Tensor:
        return self.base_lin_vel_h

    def _observe_average_lin_vel(self) -> Tensor:
        return self.average_velocity[:, :3]

    def _observe_average_yaw_rate(self) -> Tensor:
        return self.average_velocity[:, 3:]

    def _observe_base_height(self) -> Tensor:
        return self.base_height.unsqueeze(1)

    def _observe_feet_contact(self) -> Tensor:
        return self.feet.contact.float()
