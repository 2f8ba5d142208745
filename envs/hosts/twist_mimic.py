"""What turns TWIST's `G1MimicDistill` into an environment whose reference follows velocity commands.

:class:`CMGMimic` stands before TWIST's class among the bases of the new one (`envs.hosts.twist` puts them together) and
overrides the hooks that deal with the motion library. Everything else, observations included, is TWIST's own.
"""

from __future__ import annotations

import sys
from typing import Any, Sequence

import torch
from torch import Tensor

from cmg_ref.commands.sampler import CommandSamplerCfg, ranges_of
from cmg_ref.core import rotations
from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY, take_written
from cmg_ref.rl.actions import reference_targets, velocity_lead
from cmg_ref.rl.rewards import command_velocity_tracking, command_yaw_rate_tracking
from cmg_ref.robots.urdf import read_urdf
from cmg_ref.twist.motion_lib import CMGMotionLib, CMGMotionLibCfg


def motion_lib_cfg(cfg: Any, control_dt: float, joint_names: Sequence[str]) -> CMGMotionLibCfg:
    """What the sections `cmg` and `commands` of an environment's configuration say about the motion library.

    Args:
        cfg: Configuration of the environment.
        control_dt: Time of a control step [s].
        joint_names: Joints of the robot; those it has are not dropped from the motion.
    """
    ranges, cmg = cfg.commands.ranges, cfg.cmg
    commands = CommandSamplerCfg.over(
        ranges_of(ranges),
        strata=cmg.strata,
        failure_weight=cmg.failure_weight,
        resampling_time=tuple(cmg.resampling_time),
    )
    return CMGMotionLibCfg(
        checkpoint=cmg.checkpoint or None,
        mode=cmg.mode,
        num_motions=cmg.num_motions,
        motion_length=cmg.motion_length,
        lookahead=(max(cfg.env.tar_obs_steps) + 1) * control_dt,
        num_blocks=cmg.num_blocks,
        check_commands=cmg.check_commands,
        ramp_time=cmg.ramp_time,
        commands=commands if cmg.mode == "pool" else None,
        drop_joints=tuple(name for name in cmg.drop_joints if name not in joint_names),
        held_joints=dict(cmg.held_joints),
        seed=cmg.seed,
    )


def robot_file(cfg: Any) -> str:
    """File of an environment's robot, with legged_gym's placeholder for its own folder filled in."""
    root = getattr(sys.modules.get("legged_gym"), "LEGGED_GYM_ROOT_DIR", "")
    return str(cfg.asset.file).format(LEGGED_GYM_ROOT_DIR=root)


class CMGMimic:
    """Bases before TWIST's environment: a reference from a :class:`CMGMotionLib`, commands, rewards on them.

    In mode "pool" the commands in force, ``commands[:, :3]``, come with the motions. In mode "live" they are set by
    :meth:`set_commands`, by writing into ``commands`` or by the viewer's keys, and are approached smoothly;
    ``commands`` then shows how far they have got.
    """

    # Set by TWIST's classes.
    cfg: Any
    num_envs: int
    dt: float
    device: str
    dof_names: list[str]
    body_names: list[str]
    feet_indices: Tensor
    commands: Tensor
    root_states: Tensor
    episode_length_buf: Tensor
    episode_init_origin: Tensor
    time_out_buf: Tensor
    motion_difficulty: Tensor
    _rand_reset: bool
    _motion_ids: Tensor
    _motion_time_offsets: Tensor
    _ref_root_pos: Tensor
    _ref_root_rot: Tensor
    _ref_root_vel: Tensor
    _ref_root_ang_vel: Tensor
    _ref_dof_pos: Tensor
    _ref_dof_vel: Tensor
    _ref_body_pos: Tensor
    default_dof_pos_all: Tensor
    p_gains: Tensor
    d_gains: Tensor

    def _load_motions(self) -> None:
        feet = [self.body_names[index] for index in self.feet_indices.tolist()]
        bodies = list(dict.fromkeys([*self.cfg.motion.key_bodies, *feet]))
        self._motion_lib = CMGMotionLib(
            motion_lib_cfg(self.cfg, self.dt, self.dof_names),
            self.num_envs,
            self.dt,
            read_urdf(robot_file(self.cfg)),
            bodies,
            joint_names=self.dof_names,
            device=self.device,
        )
        self._reference_body_ids = torch.tensor([self.body_names.index(name) for name in bodies], device=self.device)
        self._everyone = torch.arange(self.num_envs, device=self.device)
        self._shown_commands = torch.zeros(self.num_envs, NUM_VELOCITIES, device=self.device)

    # Time ---------------------------------------------------------------------------------------------------------

    def _get_motion_times(self, env_ids: Tensor | None = None) -> Tensor:
        if self._motion_lib.is_live:
            return self._motion_lib.elapsed_times(env_ids)
        return super()._get_motion_times(env_ids)  # type: ignore[misc]

    def _post_physics_step_callback(self) -> None:
        if self._motion_lib.is_live:
            self._take_written_commands()
        renewed = self._motion_lib.step()
        if renewed is not None:
            self.motion_difficulty[renewed] = self.motion_difficulty.max()
        super()._post_physics_step_callback()  # type: ignore[misc]

    def reset_idx(self, env_ids: Tensor, motion_ids: Tensor | None = None) -> None:
        """Reset environments (n,), into motions (n,) if they are given; failures are reported to the library."""
        ended = env_ids[self.episode_length_buf[env_ids] > 0]
        self._motion_lib.report(self.commands[ended, VELOCITY], ~self.time_out_buf[ended])
        super().reset_idx(env_ids, motion_ids)  # type: ignore[misc]

    # The reference ------------------------------------------------------------------------------------------------

    def _reset_ref_motion(self, env_ids: Tensor, motion_ids: Tensor | None = None) -> None:
        library = self._motion_lib
        if library.is_live:
            library.reset(env_ids)
            motion_ids = env_ids
        elif motion_ids is None:
            motion_ids = library.sample_motions(
                len(env_ids), motion_difficulty=getattr(self, "motion_difficulty", None)
            )
        times = library.sample_time(motion_ids) if self._rand_reset else torch.zeros_like(motion_ids, dtype=torch.float)
        self._motion_ids[env_ids] = motion_ids
        self._motion_time_offsets[env_ids] = times
        self._show(env_ids, motion_ids, times, at_origin=True)

    def _update_ref_motion(self) -> None:
        self._show(self._everyone, self._motion_ids, self._get_motion_times())

    def _show(self, env_ids: Tensor, motion_ids: Tensor, times: Tensor, at_origin: bool = False) -> None:
        """Put the frames of motions (n,) at times (n,) [s] into TWIST's buffers, for environments (n,).

        At a reset TWIST wants positions relative to where the environment starts, afterwards in the world.
        """
        pos, quat, lin_vel, ang_vel, dof_pos, dof_vel, body_pos = self._motion_lib.calc_motion_frame(motion_ids, times)
        pos[:, 2] += self.cfg.motion.height_offset
        if not at_origin:
            pos[:, :2] += self.episode_init_origin[env_ids, :2]
        body_pos_w = pos.unsqueeze(1) + rotations.quat_rotate(quat.unsqueeze(1), body_pos)  # (n, num_bodies, 3)
        self._ref_root_pos[env_ids] = pos
        self._ref_root_rot[env_ids] = quat
        self._ref_root_vel[env_ids] = lin_vel
        self._ref_root_ang_vel[env_ids] = ang_vel
        self._ref_dof_pos[env_ids] = dof_pos
        self._ref_dof_vel[env_ids] = dof_vel
        self._ref_body_pos[env_ids.unsqueeze(1), self._reference_body_ids] = body_pos_w
        commands = self._motion_lib.calc_commands(motion_ids, times)[:, VELOCITY]
        self.commands[env_ids, VELOCITY] = commands
        self._shown_commands[env_ids] = commands

    # Commands -----------------------------------------------------------------------------------------------------

    def set_commands(self, commands: Tensor, env_ids: Tensor | None = None) -> None:
        """Approach commands (n, command_dim) in environments (n,) or in all.

        Raises:
            ValueError: In mode "pool", whose commands are made beforehand.
        """
        self._motion_lib.set_commands(commands, env_ids)

    def render(self, sync_frame_time: bool = True) -> Any:
        """Draw, if there is a viewer; what its keys add to ``commands`` adds to the commands approached."""
        if getattr(self, "viewer", None) is None or not self._motion_lib.is_live:
            return super().render(sync_frame_time)  # type: ignore[misc]
        before = self.commands[:, VELOCITY].clone()
        result = super().render(sync_frame_time)  # type: ignore[misc]
        pressed = self.commands[:, VELOCITY] - before
        env_ids = (pressed != 0.0).any(dim=1).nonzero().squeeze(1)
        if len(env_ids) > 0:
            targets = self._motion_lib.target_commands[env_ids]
            targets[:, VELOCITY] += pressed[env_ids]
            self.set_commands(targets, env_ids)
            self.commands[:, VELOCITY] = before
        return result

    def _take_written_commands(self) -> None:
        """Approach what has been written into ``commands`` since the last step."""
        env_ids, targets = take_written(self.commands, self._shown_commands, self._motion_lib.target_commands)
        if len(env_ids) > 0:
            self.set_commands(targets, env_ids)

    def _resample_commands(self, env_ids: Tensor) -> None:
        """Nothing to draw: commands come with the motions, or from outside."""

    # Residual action ----------------------------------------------------------------------------------------------

    def step(self, actions: Tensor) -> Any:
        """Let a control step pass under actions (num_envs, num_actions)."""
        if self.cfg.control.residual_action:
            coming = self._motion_lib.calc_motion_frame(self._motion_ids, self._get_motion_times() + self.dt)
            targets = reference_targets(coming[4], coming[5], velocity_lead(self.p_gains, self.d_gains))
            self._reference_action = (targets - self.default_dof_pos_all) / self.cfg.control.action_scale
        return super().step(actions)  # type: ignore[misc]

    def _compute_torques(self, actions: Tensor) -> Tensor:
        if self.cfg.control.residual_action:
            actions = actions + self._reference_action
        return super()._compute_torques(actions)  # type: ignore[misc]

    # Rewards ------------------------------------------------------------------------------------------------------

    def _reward_tracking_lin_vel(self) -> Tensor:
        """How well the root's horizontal velocity in the heading frame is the commanded one, (num_envs,)."""
        velocity_h = rotations.in_heading(self.root_states[:, 3:7], self.root_states[:, 7:10])
        return command_velocity_tracking(velocity_h, self.commands, self.cfg.rewards.tracking_sigma)

    def _reward_tracking_ang_vel(self) -> Tensor:
        """How well the yaw rate is the commanded one, (num_envs,)."""
        return command_yaw_rate_tracking(self.root_states[:, 12], self.commands, self.cfg.rewards.tracking_sigma_ang)
