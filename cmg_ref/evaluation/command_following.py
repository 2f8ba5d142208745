"""Whether motions go as they are told: the check that motions of a pool have to pass before they are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from cmg_ref.core import rotations
from cmg_ref.core.command_layout import VELOCITY
from cmg_ref.evaluation.requirements import YAW_TOLERANCE, speed_tolerances
from cmg_ref.frames.root_motion import frames_in_world
from cmg_ref.trajectories.buffer import MotionBuffer

SETTLING_TIME = 1.5  # [s] after a change of the command before it has to be met
WINDOW = 2.0  # [s] over which velocities are averaged; a stride takes half as long
CHECKED_TOGETHER = 64  # motions, so that looking at them takes little memory


def motions_follow_commands(buffer: MotionBuffer, motions: Tensor, num_frames: int) -> Tensor:
    """Which stored motions (n,) follow their commands, by :func:`follows_commands`, (n,) bool.

    Args:
        buffer: holds the motions and their commands.
        motions: motions to look at.
        num_frames: frames of each, from frame 0 on.
    """
    store, fit = buffer.store, [torch.zeros(0, dtype=torch.bool, device=buffer.device)]
    for some in motions.split(CHECKED_TOGETHER):
        frames = torch.arange(num_frames, device=buffer.device).expand(len(some), -1)
        shown = frames_in_world(*store.read(store.rows(frames, some)), None)
        velocities = velocities_h(shown.root_quat_w, shown.root_lin_vel_w, shown.root_ang_vel_w)
        fit.append(follows_commands(velocities, buffer.commands.value(frames, some), 1.0 / store.fps))
    return torch.cat(fit)


def velocities_h(root_quat_w: Tensor, root_lin_vel_w: Tensor, root_ang_vel_w: Tensor) -> Tensor:
    """Velocities of roots in the sense of a command.

    Args:
        root_quat_w: orientations xyzw, (..., 4).
        root_lin_vel_w: velocities in the world (..., 3) [m/s].
        root_ang_vel_w: angular velocities in the world (..., 3) [rad/s].

    Returns:
        vx, vy in the heading frame [m/s] and yaw rate [rad/s], (..., 3).
    """
    return torch.cat((rotations.in_heading(root_quat_w, root_lin_vel_w)[..., :2], root_ang_vel_w[..., 2:]), dim=-1)


def follows_commands(velocities: Tensor, commands: Tensor, dt: float) -> Tensor:
    """Which motions follow their commands wherever these have been the same for long enough.

    Args:
        velocities: vx, vy in the heading frame [m/s] and yaw rate [rad/s], (n, num_frames, 3).
        commands: commands in force, (n, num_frames, command_dim), of which the velocity is looked at.
        dt: time between frames [s].

    Returns:
        (n,) bool: true where the mean velocity of every 2 s that begin 1.5 s or later after a change of the command
        is the command's within the tolerances of the evaluation; true for motions without such a stretch.
    """
    settling, window = round(SETTLING_TIME / dt), round(WINDOW / dt)
    if commands.shape[1] <= settling + window:
        return torch.ones(len(commands), dtype=torch.bool, device=commands.device)
    changes = torch.zeros_like(commands[..., 0])
    changes[:, 1:] = (commands.diff(dim=1).abs().amax(dim=2) > 1e-5).to(changes.dtype)
    changes = changes.cumsum(dim=1)
    steady = changes[:, settling + window :] == changes[:, : -settling - window]  # (n, num_windows)
    sums = (velocities - commands[..., VELOCITY]).cumsum(dim=1)
    errors = (sums[:, settling + window :] - sums[:, settling:-window]) / window
    allowed = speed_tolerances(commands[:, settling + window :])
    # A sum with NaN in it compares as false, so that a motion that is not finite does not follow.
    met = (errors[..., :2].norm(dim=-1) <= allowed) & (errors[..., 2].abs() <= YAW_TOLERANCE)
    return (met | ~steady).all(dim=1) & sums[:, -1].isfinite().all(dim=1)
