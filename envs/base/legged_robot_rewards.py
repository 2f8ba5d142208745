"""Rewards of a legged robot: a method `_reward_<name>` each, switched and weighed by `rewards.scales`."""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from cmg_ref.rl import rewards
from cmg_ref.rl.observations import body_positions_in_heading, foot_contacts
from configs.base_config import ConfigError, suggestion
from envs.base.feet import Feet
from envs.base.legged_robot_commands import LeggedRobotCommands


class LeggedRobotRewards(LeggedRobotCommands):
    """Sums the rewards whose scales are not zero; mixed into the environment, whose state the methods read.

    Attributes:
        reward_names: Rewards in use.
        reward_scales: Their scales, times the time of a control step, (num_rewards, 1).
        episode_sums: Their sums since each episode began, (num_rewards, num_envs).
        told_to_stand: Whether the command is to stand, (num_envs,) bool.
    """

    rew_buf: Tensor
    diverged: Tensor
    fallen: Tensor
    actions: Tensor
    last_actions: Tensor
    dof_pos: Tensor
    dof_vel: Tensor
    last_dof_vel: Tensor
    torques: Tensor
    torque_limits: Tensor
    soft_dof_pos_limits: Tensor
    contact_forces: Tensor
    root_states: Tensor
    penalised_indices: Tensor
    base_lin_vel_h: Tensor
    base_ang_vel: Tensor
    base_height: Tensor
    projected_gravity: Tensor
    feet: Feet
    told_to_stand: Tensor
    _feet_heights: Callable[[], Tensor]

    def _prepare_reward_function(self) -> None:
        """Look up the methods of the scales that are not zero.

        Raises:
            ConfigError: If a scale or a refinement belongs to no method.
        """
        prefix = "_reward_"
        known = [name[len(prefix) :] for name in dir(self) if name.startswith(prefix)]
        scales = {name: value for name, value in vars(self.cfg.rewards.scales).items() if not name.startswith("_")}
        for name in scales:
            if name not in known:
                raise ConfigError(f"rewards.scales: there is no reward '{name}'{suggestion(name, known)}")
        for name in self.cfg.rewards.refinements:
            if name not in known:
                raise ConfigError(f"rewards.refinements: there is no reward '{name}'{suggestion(name, known)}")
        self.reward_names = [name for name, scale in scales.items() if scale != 0.0]
        self.reward_functions: list[Callable[[], Tensor]] = [getattr(self, prefix + name) for name in self.reward_names]
        self.episode_sums = torch.zeros(len(self.reward_names), self.num_envs, device=self.device)

    def set_refinement(self, share: float) -> None:
        """Let the rewards in `rewards.refinements` count by a share of their scales."""
        refined, scales = self.cfg.rewards.refinements, self.cfg.rewards.scales
        self.reward_scales = self.dt * torch.tensor(
            [float(getattr(scales, name)) * (share if name in refined else 1.0) for name in self.reward_names],
            device=self.device,
        ).unsqueeze(1)

    def compute_reward(self) -> None:
        """Set `rew_buf` to the sum of all rewards and add them to the sums of the episodes."""
        # Several rewards are made of these.
        self._measure_obedience()
        self.told_to_stand = rewards.standing(self.commands, self.cfg.rewards.standing_speed)
        if not self.reward_functions:
            self.rew_buf = torch.zeros(self.num_envs, device=self.device)
            return
        terms = torch.stack([function() for function in self.reward_functions])  # (num_rewards, num_envs)
        # The state of a diverged simulation means nothing.
        terms.mul_(self.reward_scales).masked_fill_(self.diverged, 0.0)
        self.episode_sums += terms
        self.rew_buf = terms.sum(dim=0)
        if self.cfg.rewards.only_positive_rewards:
            self.rew_buf = self.rew_buf.clamp(min=0.0)

    # Each returns (num_envs,).

    def _reward_alive(self) -> Tensor:
        """One."""
        return torch.ones(self.num_envs, device=self.device)

    def _reward_termination(self) -> Tensor:
        """Whether the robot fell."""
        return self.fallen.float()

    def _reward_tracking_lin_vel(self) -> Tensor:
        """Averaged horizontal velocity against the command."""
        return torch.exp(self.lin_vel_error.square() / -self.cfg.rewards.lin_vel_sigma)

    def _reward_tracking_ang_vel(self) -> Tensor:
        """Averaged yaw rate against the command."""
        return torch.exp(self.yaw_rate_error.square() / -self.cfg.rewards.ang_vel_sigma)

    def _reward_lin_vel_error(self) -> Tensor:
        """Averaged horizontal velocity's distance from the command [m/s]: a pull that far from it does not fade."""
        return self.lin_vel_error

    def _reward_yaw_rate_error(self) -> Tensor:
        """Averaged yaw rate's distance from the command [rad/s]."""
        return self.yaw_rate_error

    def _reward_orientation(self) -> Tensor:
        """Tilt of the base."""
        return rewards.tilt(self.projected_gravity)

    def _reward_base_height(self) -> Tensor:
        """Squared deviation from the height wanted [m^2]."""
        return (self.base_height - self.cfg.rewards.base_height_target).square()

    def _reward_lin_vel_z(self) -> Tensor:
        """Squared vertical velocity [m^2/s^2]."""
        return self.base_lin_vel_h[:, 2].square()

    def _reward_ang_vel_xy(self) -> Tensor:
        """Squared roll and pitch rates [rad^2/s^2]."""
        return self.base_ang_vel[:, :2].square().sum(dim=1)

    def _reward_torques(self) -> Tensor:
        """Mean square of the torques as shares of their limits."""
        return rewards.torque_share(self.torques, self.torque_limits)

    def _reward_dof_vel(self) -> Tensor:
        """Squared joint velocities [rad^2/s^2]."""
        return self.dof_vel.square().sum(dim=1)

    def _reward_dof_acc(self) -> Tensor:
        """Squared joint accelerations [rad^2/s^4]."""
        return rewards.joint_acceleration(self.dof_vel, self.last_dof_vel, self.dt)

    def _reward_dof_pos_limits(self) -> Tensor:
        """Angles beyond the soft limits [rad]."""
        lower, upper = self.soft_dof_pos_limits.unbind(dim=1)
        return rewards.joint_limits(self.dof_pos, lower, upper)

    def _reward_action_rate(self) -> Tensor:
        """Squared change of the actions."""
        return rewards.action_rate(self.actions, self.last_actions)

    def _reward_action_size(self) -> Tensor:
        """Squared actions."""
        return rewards.residual_size(self.actions)

    def _reward_feet_slip(self) -> Tensor:
        """Squared speed of feet on the ground [m^2/s^2]."""
        return rewards.feet_slip(self.feet.speed, self.feet.sliding_contact)

    def _reward_feet_air_time(self) -> Tensor:
        """Time in the air of landing feet, beyond the time wanted [s]."""
        return rewards.feet_air_time(
            self.feet.air_time, self.feet.first_contact, self.told_to_stand, self.cfg.rewards.air_time_target
        )

    def _reward_feet_clearance(self) -> Tensor:
        """Height that moving feet lack, times their speed [m^2/s]."""
        return rewards.feet_clearance(self._feet_heights(), self.feet.speed, self.cfg.rewards.feet_clearance_target)

    def _reward_feet_closeness(self) -> Tensor:
        """Sideways distance that the feet lack [m]."""
        places = body_positions_in_heading(self.root_states[:, :3], self.root_states[:, 3:7], self.feet.pos_w)
        return rewards.feet_closeness(places, self.cfg.rewards.feet_distance_target)

    def _reward_collision(self) -> Tensor:
        """Number of the bodies in `asset.penalize_contacts_on` that touch something."""
        touching = foot_contacts(self.contact_forces[:, self.penalised_indices])
        return touching.float().sum(dim=1)

    def _reward_stand_still(self) -> Tensor:
        """Mean squared joint velocity where the command is to stand [rad^2/s^2]."""
        return rewards.stand_still(self.dof_vel, self.told_to_stand)

    def _reward_stepping_in_place(self) -> Tensor:
        """Number of feet off the ground where the command is to stand."""
        return rewards.stepping_in_place(self.feet.contact, self.told_to_stand)

    def _reward_creeping_in_place(self) -> Tensor:
        """Horizontal speeds of feet on the ground where the command is to stand [m/s]."""
        return rewards.creeping_in_place(self.feet.speed, self.feet.sliding_contact, self.told_to_stand)
