"""Velocity commands of a legged robot: drawn, ramped, given from outside, and how well they are obeyed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cmg_ref.commands import CommandSampler, CommandSamplerCfg, CommandSmoother
from envs.base.terrain import Terrain


class LeggedRobotCommands:
    """Gives every robot a command; mixed into the environment, which overrides what draws them where a task needs it.

    Attributes:
        commands: Velocity commands in force: vx, vy [m/s], yaw rate [rad/s], (num_envs, 3).
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
        return CommandSamplerCfg(
            lin_vel_x=tuple(cfg.ranges.lin_vel_x),
            lin_vel_y=tuple(cfg.ranges.lin_vel_y),
            ang_vel_yaw=tuple(cfg.ranges.ang_vel_yaw),
            strata=dict(cfg.strata) or None,
            failure_weight=cfg.failure_weight,
            resampling_time=tuple(cfg.resampling_time),
            curriculum_start=0.0,
        )

    def _prepare_commands(self) -> None:
        """Make what draws commands."""
        self.command_sampler = CommandSampler(
            self.num_envs, self.command_sampler_cfg(), self.dt, self.device, self.cfg.seed
        )
        ramp_steps = round(self.cfg.commands.ramp_time / self.dt)
        self._smoother = CommandSmoother(self.num_envs, ramp_steps, self.device)
        self.commands = torch.zeros(self.num_envs, 3, device=self.device)

    def _reset_commands(self, env_ids: Tensor) -> None:
        """Draw commands for environments (n,) that begin an episode."""
        self._smoother.reset(self.command_sampler.reset(env_ids), env_ids)
        self.commands = self._smoother.value()

    def _update_commands(self) -> None:
        """Let a control step pass for the commands."""
        targets, changed = self.command_sampler.step(self._smoother.target)
        self.commands = self._smoother.step()
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
        """Commands that those in force ramp to, (num_envs, 3)."""
        return self._smoother.target

    def _report_successes(self) -> None:
        """Tell what draws commands that every robot has got through another second of its own."""
        survived = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        self.command_sampler.report(self._smoother.target, survived)

    def set_commands(self, commands: Tensor, env_ids: Tensor | None = None) -> None:
        """Give commands that stay in force until the next reset of their environments.

        Args:
            commands: vx, vy [m/s], yaw rate [rad/s], (n, 3).
            env_ids: Environments, (n,); all by default.
        """
        rows = torch.arange(self.num_envs, device=self.device) if env_ids is None else env_ids
        self._smoother.set_target(commands.to(self.device), rows)
        self.command_sampler.hold(rows)

    def _measure_obedience(self) -> None:
        """Set `lin_vel_error` and `yaw_rate_error`."""
        self.lin_vel_error = (self.average_velocity[:, :2] - self.commands[:, :2]).square().sum(dim=1).sqrt()
        self.yaw_rate_error = (self.average_velocity[:, 3] - self.commands[:, 2]).abs()
