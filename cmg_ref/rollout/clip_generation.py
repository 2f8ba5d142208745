"""Whole motions from command schedules, for files, pictures and measurements."""

from __future__ import annotations

from typing import Sequence

import torch

from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.commands.sampler import CommandSmoother
from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.rollout import Rollout, integrate_root
from cmg_ref.rollout.stance_root import StanceRoot


def generate_clips(
    checkpoint: Checkpoint,
    commands: torch.Tensor,
    initial_states: torch.Tensor | None = None,
    names: Sequence[str] | None = None,
    interpolation_steps: int = 25,
    device: str | torch.device = "cpu",
    robot: Robot | None = None,
    progress: bool = False,
) -> list[MotionClip]:
    """Roll out one clip per row of commands.

    Args:
        checkpoint: The CMG.
        commands: What each is told at every frame, at the checkpoint's rate, (num_clips, T, command_dim), or the
            velocities alone, (num_clips, T, 3).
        initial_states: States to start from, (num_clips, state_dim), with or without the phase of the stride; standing
            by default.
        names: Names of the clips; ``generated_0`` and so on by default.
        interpolation_steps: Frames over which a change of command is ramped, or more, as environments do it; 0 takes
            the commands as they are.
        device: Where to run.
        robot: Robot description, needed by checkpoints without root channels; the one they name by default.
        progress: Show a progress bar.

    Returns:
        Clips at the checkpoint's rate that start at the origin with heading 0; ``command`` holds the commands as given.
    """
    num_clips, commands = len(commands), checkpoint.command_layout.complete(commands)
    if initial_states is None:
        initial_states = checkpoint.standing_state(robot).expand(num_clips, -1)
    rollout = Rollout(checkpoint.model, device, stance=checkpoint.standing_state(robot))
    smoothed = smooth_commands(commands.float(), interpolation_steps, checkpoint.command_layout, checkpoint.fps)
    states = rollout.generate(initial_states, smoothed, progress=progress)
    layout = checkpoint.layout
    if layout.has_root:
        root_pos, root_quat = integrate_root(states, layout, checkpoint.fps)
    else:
        root = StanceRoot(checkpoint.robot(robot), device, joint_names=checkpoint.joint_names)(
            states[..., layout["dof_pos"]], checkpoint.fps
        )
        root_pos, root_quat = root.root_pos_w, root.root_quat_w
    names = names or [f"generated_{index}" for index in range(num_clips)]
    return [
        MotionClip(
            name=names[index],
            fps=checkpoint.fps,
            joint_names=checkpoint.joint_names,
            dof_pos=states[index, :, layout["dof_pos"]].cpu().double(),
            dof_vel=states[index, :, layout["dof_vel"]].cpu().double(),
            root_pos=root_pos[index].cpu().double(),
            root_quat=root_quat[index].cpu().double(),
            command=commands[index].cpu().double(),
            command_layout=checkpoint.command_layout,
        )
        for index in range(num_clips)
    ]


def smooth_commands(
    commands: torch.Tensor, interpolation_steps: int, layout: CommandLayout | None = None, fps: float = 50.0
) -> torch.Tensor:
    """Commands (num_clips, num_frames, command_dim) with every change ramped; the first one ramps from standing."""
    smoother = CommandSmoother(len(commands), interpolation_steps, commands.device, layout, 1.0 / fps)
    smoothed = torch.empty_like(commands)
    for frame, target in enumerate(commands.unbind(dim=1)):
        changed = (target != smoother.target).any(dim=1).nonzero().squeeze(1)
        if len(changed) > 0:
            smoother.set_target(target[changed], changed)
        smoothed[:, frame] = smoother.step()
    return smoothed
