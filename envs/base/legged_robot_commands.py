"""Commands of a legged robot: drawn, ramped, given from outside, and how well they are obeyed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg, CommandSmoother, ranges_of
from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.trajectories.argument_checks import EnvIds, Values, checked_env_ids, checked_tensor
from envs.base.terrain import Terrain


class LeggedRobotCommands:
    """Gives every robot a command; mixed into the environment, which overrides what draws them where a task needs it.

    Commands may be given by `set_commands`, or by writing into `commands` between two steps as users of legged_gym do:
    ``env.commands[:, 0] = 1.0``. What is written is approached as if `set_commands` had been given it, from the next
    step, reset or `get_observations` on, and stays until the next reset; numbers that are not written to keep theirs.

    Attributes:
        commands: Commands in force, (num_envs, command_layout.size): vx, vy [m/s], yaw rate [rad/s] and what else there
            is; the same tensor always.
        command_layout: Channels of a command.
        command_sampler: Draws them.
        lin_vel_error: Distance of the averaged horizontal velocity from the command in m/s, (num_envs,).
        yaw_rate_error: Distance of the averaged yaw rate from the command in rad/s, (num_envs,).
        asked_distance: How far the commands of the episode went in metres, (num_envs,); on rough ground only.
    """

    cfg: Any
    num_envs: int
    device: str
    dt: float
    common_step_counter: int
    episode_length_buf: Tensor
    average_velocity: Tensor
    lin_vel_error: Tensor
    yaw_rate_error: Tensor
    asked_distance: Tensor
    terrain: Terrain | None

    def command_sampler_cfg(self) -> CommandSamplerCfg:
        """What the configuration says about commands."""
        cfg = self.cfg.commands
        return CommandSamplerCfg.over(
            ranges_of(cfg.ranges),
            strata=dict(cfg.strata) or None,
            failure_weight=cfg.failure_weight,
            resampling_time=tuple(cfg.resampling_time),
            curriculum_start=0.0,
        )

    def _init_commands(self) -> None:
        """Make what gives commands, and the buffer of those in force."""
        self.command_layout = self._prepare_commands()
        self._own_commands = self.command_layout.rest(self.num_envs, device=self.device)
        self._commands_changed = False  # since the last observation
        self._show_commands(self._own_commands.clone())

    def _prepare_commands(self) -> CommandLayout:
        """Make what draws commands, and tell their channels."""
        layout = CommandLayout.of_names(list(self.cfg.commands.ranges.further))
        self.command_sampler = CommandSampler(
            self.num_envs, self.command_sampler_cfg(), self.dt, self.device, self.cfg.seed, layout
        )
        ramp_steps = round(self.cfg.commands.ramp_time / self.dt)
        self._smoother = CommandSmoother(self.num_envs, ramp_steps, self.device, layout)
        return layout

    def _reset_commands(self, env_ids: Tensor) -> None:
        """Draw commands for environments (n,) that begin an episode."""
        self._smoother.reset(self.command_sampler.reset(env_ids), env_ids)
        self._show_commands(self._smoother.value())

    def _update_commands(self) -> None:
        """Let a control step pass for the commands."""
        targets, changed = self.command_sampler.step(self._smoother.target)
        self._show_commands(self._smoother.step())
        rows = changed.nonzero().squeeze(1)
        if len(rows) > 0:
            self._smoother.set_target(targets[rows], rows)
        if self.terrain is not None:
            self.asked_distance += self.commands[:, :2].norm(dim=1) * self.dt

    def _report_failures(self, env_ids: Tensor) -> None:
        """Tell what draws commands in which environments (n,) they have just failed."""
        failed = torch.ones(len(env_ids), dtype=torch.bool, device=self.device)
        self.command_sampler.report(self._smoother.target[env_ids], failed)

    def _report_obedience(self) -> None:
        """Once a second: tell what draws commands which robots do not do what they are told."""
        if self.common_step_counter % round(1.0 / self.dt) != 0:
            return
        lin_vel, yaw_rate = self.cfg.commands.obeyed_within
        failed = (self.lin_vel_error > lin_vel) | (self.yaw_rate_error > yaw_rate)
        # Whoever has just begun, or whose command is changing, has not had the time.
        failed &= (self.episode_length_buf * self.dt > 1.0) & (self.commands == self._target_commands()).all(dim=1)
        self._report_successes()
        self._report_failures(failed.nonzero().squeeze(1))

    def _target_commands(self) -> Tensor:
        """Commands that those in force ramp to, (num_envs, command_dim)."""
        return self._smoother.target

    def _report_successes(self) -> None:
        """Tell what draws commands that every robot has got through another second of its own."""
        survived = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        self.command_sampler.report(self._smoother.target, survived)

    @with_torch_defaults
    def set_commands(self, commands: Values, env_ids: EnvIds | None = None) -> None:
        """Give commands that are approached from now on and stay until the next reset of their environments.

        Args:
            commands: vx, vy [m/s], yaw rate [rad/s] and what else there is, (n, command_dim).
            env_ids: Environments as indices (n,) or as a mask (num_envs,); all by default.

        Raises:
            ValueError: If the shape does not fit, or a value is not finite.
        """
        rows = checked_env_ids(env_ids, self.num_envs, self.device)
        commands = checked_tensor(commands, (len(rows), self.command_layout.size), "commands", self.device)
        self._take_written_commands()
        self._approach_commands(commands, rows)
        self._commands_changed = True

    def _approach_commands(self, commands: Tensor, env_ids: Tensor) -> None:
        """Let environments (n,) approach commands (n, command_dim) until their next reset."""
        changed = (commands != self._smoother.target[env_ids]).any(dim=1).nonzero().squeeze(1)
        self._smoother.set_target(commands[changed], env_ids[changed])  # Others are on their way already.
        self.command_sampler.hold(env_ids)

    # Written by others ------------------------------------------------------------------------------------------------

    def _show_commands(self, commands: Tensor) -> None:
        """Put commands in force (num_envs, command_dim), which nobody changes, into `commands`."""
        self._shown_commands = commands
        self.commands = self._own_commands.copy_(commands)
        # Torch counts the changes of a tensor and of its views, so that whether there were any costs no comparison.
        self._shown_version = self._own_commands._version

    def _take_written_commands(self) -> None:
        """Approach what others have written into `commands`."""
        if self.commands is self._own_commands and self._own_commands._version == self._shown_version:
            return
        shape = (self.num_envs, self.command_layout.size)
        written = checked_tensor(self.commands, shape, "commands", self.device).clone()
        changed = written != self._shown_commands
        targets = torch.where(changed, written, self._target_commands())
        self._show_commands(self._shown_commands)
        rows = changed.any(dim=1).nonzero().squeeze(1)
        if len(rows) > 0:
            self._approach_commands(targets[rows], rows)
            self._commands_changed = True

    def _measure_obedience(self) -> None:
        """Set `lin_vel_error` and `yaw_rate_error`."""
        self.lin_vel_error = (self.average_velocity[:, :2] - self.commands[:, :2]).square().sum(dim=1).sqrt()
        self.yaw_rate_error = (self.average_velocity[:, 3] - self.commands[:, 2]).abs()
