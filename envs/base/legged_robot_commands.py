"""Commands of a legged robot: drawn, ramped, given from outside, and how well they are obeyed."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from cmg_ref.commands.sampler import CommandSampler
from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.rl.rewards import standing
from cmg_ref.trajectories.argument_checks import EnvIds, Values, checked_commands, checked_env_ids
from envs.base.legged_robot_state import LeggedRobotState
from envs.terms.commands import (
    CommandBuffer,
    CommandSource,
    SampledCommands,
    command_sampler_cfg,
    configured_layout,
)


class LeggedRobotCommands(LeggedRobotState):
    """What robots are told.

    Attributes:
        command_source: Gives the commands.
        lin_vel_error: Distance of the averaged horizontal velocity from the command in m/s, (num_envs,).
        yaw_rate_error: Distance of the averaged yaw rate from the command in rad/s, (num_envs,).
        told_to_stand: Whether the command is to stand, (num_envs,) bool.
        asked_distance: How far the commands of the episode went in metres, (num_envs,); on rough ground only.
    """

    common_step_counter: int
    lin_vel_error: Tensor
    yaw_rate_error: Tensor
    told_to_stand: Tensor

    def _init_commands(self) -> None:
        """Make what gives commands, and the buffer of those in force."""
        self.asked_distance = torch.zeros(self.num_envs, device=self.device)
        self._commands_changed = False  # since the last observation
        self.command_source = self._make_command_source()
        self._command_buffer = CommandBuffer(self.num_envs, self.command_layout, self.device)
        self._show_commands()

    @property
    def commands(self) -> Tensor:
        """Commands in force, (num_envs, command_dim): vx, vy [m/s], yaw rate [rad/s] and what else there is.

        The same tensor always. What is written into it, or put in its place, between two steps is approached from the
        next step, reset or `get_observations` on as if `set_commands` had been given it, and stays until the next
        reset; numbers that are not written to keep theirs: ``env.commands[:, 0] = 1.0``.
        """
        return self._command_buffer.values

    @commands.setter
    def commands(self, values: Values) -> None:
        self._command_buffer.values.copy_(checked_commands(values, self.num_envs, self.command_layout, self.device))

    def _make_command_source(self) -> CommandSource:
        """What gives commands; a task may have one of its own."""
        cfg = command_sampler_cfg(self.cfg.commands)
        how = self.cfg.commands.ramp_time, self.dt, self.device, self.cfg.seed
        return SampledCommands(self.num_envs, cfg, *how, self.command_layout, self.cfg.commands.acceleration)

    @property
    def command_sampler(self) -> CommandSampler:
        """What draws the commands."""
        return self.command_source.sampler

    @cached_property
    def command_layout(self) -> CommandLayout:
        """Channels of a command: the velocity, and those that `commands.ranges.further` names."""
        return configured_layout(self.cfg.commands)

    def _show_commands(self) -> None:
        """Take over the commands that are in force now."""
        self._command_buffer.show(self.command_source.commands)

    def _reset_commands(self, env_ids: Tensor) -> None:
        """Draw commands for environments (n,) that begin an episode."""
        self.command_source.reset(env_ids)
        self._show_commands()

    def _update_commands(self) -> None:
        """Let a control step pass for the commands."""
        self.command_source.step()
        self._show_commands()
        if self.terrain is not None:
            self.asked_distance += self.commands[:, :2].norm(dim=1) * self.dt

    @with_torch_defaults
    def set_commands(self, commands: Values, env_ids: EnvIds | None = None) -> None:
        """Give commands that are approached from now on and stay until the next reset of their environments.

        Args:
            commands: vx, vy [m/s], yaw rate [rad/s] and what else there is, (n, command_dim); what is not given is at
                rest, (n, 3).
            env_ids: Environments as indices (n,) or as a mask (num_envs,); all by default.

        Raises:
            ValueError: If the shape does not fit, or a value is not finite.
        """
        rows = checked_env_ids(env_ids, self.num_envs, self.device)
        commands = checked_commands(commands, len(rows), self.command_layout, self.device)
        self._take_written_commands()
        self._approach_commands(commands, rows)

    def _take_written_commands(self) -> None:
        """Approach what others have written into `commands`."""
        written = self._command_buffer.take_written(self.command_source.targets)
        if written is not None:
            self._approach_commands(*written)

    def _approach_commands(self, commands: Tensor, env_ids: Tensor) -> None:
        """Let environments (n,) approach commands (n, command_dim) until their next reset."""
        self.command_source.approach(commands, env_ids)
        self._commands_changed = True

    def _measure_obedience(self) -> None:
        """Set `lin_vel_error`, `yaw_rate_error` and `told_to_stand`."""
        self.lin_vel_error = (self.average_velocity[:, :2] - self.commands[:, :2]).square().sum(dim=1).sqrt()
        self.yaw_rate_error = (self.average_velocity[:, 3] - self.commands[:, 2]).abs()
        self.told_to_stand = standing(self.commands, self.cfg.rewards.standing_speed)

    def _report_obedience(self) -> None:
        """Once a second: report to what gives commands which robots do not do as they are told."""
        if self.common_step_counter % round(1.0 / self.dt) != 0:
            return
        lin_vel, yaw_rate = self.cfg.commands.obeyed_within
        failed = (self.lin_vel_error > lin_vel) | (self.yaw_rate_error > yaw_rate)
        # A robot that has just begun, or whose command is changing, has not had the time.
        failed &= (self.episode_length_buf * self.dt > 1.0) & (self.commands == self.command_source.targets).all(dim=1)
        self.command_source.report_successes()
        self.command_source.report_failures(failed.nonzero().squeeze(1))
