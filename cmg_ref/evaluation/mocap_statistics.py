"""The figures of recorded motion at the speeds that a generator is measured at, to stand beside its own."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.clips.quality import run_lengths
from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY, CommandLayout
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.gait import Gait, joint_acceleration, joint_speed, velocity_mismatch
from cmg_ref.evaluation.gait_track import GaitTrack
from cmg_ref.robots.robot import Robot

LIKE_SPEED = 0.15
"""Frames whose average velocity is this near to a command, along x and along y [m/s], are motion of like speed."""
LIKE_YAW_RATE = 0.3
"""The same for the yaw rate [rad/s]."""
STILL = 1.0 / 3.0
"""Standing is sought this much nearer to its command of zero than other motion: it must not contain slow walking."""
SHORTEST_SAMPLE = 3.0
"""Less motion of like speed than this [s] gives no figures."""
ENOUGH = 10.0
"""Where less of a speed than this [s] is held out, all clips are measured: a few strides of one person say little."""
SHORTEST_RUN = 2.5
"""Steps are counted in runs of like speed at least this long [s]."""
ACCELERATION_QUANTILE = 0.999


def mocap_figures(
    dataset: MotionDataset, robot: Robot, commands: Sequence[tuple[float, float, float]]
) -> dict[str, Any]:
    """Measures the recorded motion of a dataset at each command.

    Motion that a command would have to ask for by more than a velocity, such as a crouch, is left out. Held-out clips
    are measured, or all clips where there is too little of a speed among them. Joint accelerations are those of all
    clips.

    Args:
        dataset: Motion in the robot's joint order.
        robot: The robot.
        commands: vx [m/s], vy [m/s] and yaw rate [rad/s] to look for.

    Returns:
        JSON-ready: `clips` (the held-out ones, all if none is), `joint_acceleration` (99.9th percentile of each joint
        [rad/s^2], by name) and `like`, a list of dictionaries: `command`, `seconds`, `held_out`, and where there is
        enough of it the known figures of `GaitFigures`, and where there are long enough runs `mismatch`, `joint_speed`
        [rad/s], `highest_foot` [m], `step_frequency` [Hz], `length_asymmetry` and `time_asymmetry`.

    Raises:
        ValueError: The joints of dataset and robot differ, or no motion in it is sound.
    """
    if tuple(dataset.joint_names) != tuple(robot.joint_names):
        raise ValueError(
            f"the joints of the dataset, of the robot {dataset.robot}, are not those of the robot {robot.spec.name}, "
            "in its order"
        )
    clips = [_Clip(dataset, clip, robot) for clip in range(len(dataset.clip_names))]
    held_out = [clip for clip in clips if clip.held_out]
    recordings = [(some, GaitTrack.join([clip.track for clip in some])) for some in (held_out, clips) if some]
    like = []
    for command in dict.fromkeys((vx, vy, yaw_rate) for vx, vy, yaw_rate in commands):
        figures = [_like_command(*some, command, dataset, robot) for some in recordings]
        like.append({"command": list(command), **next((f for f in figures if f["seconds"] >= ENOUGH), figures[-1])})
    return {
        "clips": [clip.name for clip in held_out or clips],
        "joint_acceleration": dict(zip(robot.joint_names, _acceleration_limits(dataset).tolist())),
        "like": like,
    }


def figures_of(mocap: dict[str, Any] | None, command: Sequence[float]) -> dict[str, Any]:
    """The entry of `mocap_figures` for a command, empty if there is none."""
    entries = [] if mocap is None else mocap["like"]
    near = [entry for entry in entries if all(abs(a - b) < 1e-6 for a, b in zip(entry["command"], command))]
    return near[0] if near else {}


class _Clip:
    """One clip of a dataset and how it steps."""

    def __init__(self, dataset: MotionDataset, clip: int, robot: Robot) -> None:
        frames = dataset.clip_index == clip
        self.name, self.held_out = dataset.clip_names[clip], dataset.held_out[clip]
        root = StateLayout.with_root(len(dataset.joint_names)).size  # the phase of a stride, if there, comes after it
        self.states, self.commands = dataset.states[frames][:, :root], dataset.commands[frames]
        self.valid = (dataset.valid & dataset.command_layout.velocity_alone(dataset.commands))[frames]
        self.track = GaitTrack.of(self.states[None], robot, dataset.fps)

    def like(self, command: tuple[float, float, float]) -> Tensor:
        """Valid frames of like speed, also to the other side, whose mirror image it is; (num_frames,) bool."""
        reach = torch.tensor([LIKE_SPEED, LIKE_SPEED, LIKE_YAW_RATE]) * (1.0 if any(command) else STILL)
        both_sides = torch.tensor([[1.0] * NUM_VELOCITIES, CommandLayout().mirror]) * torch.tensor(command)
        near = (self.commands[:, None, VELOCITY] - both_sides).abs() < reach  # (num_frames, 2 sides, NUM_VELOCITIES)
        return self.valid & near.all(dim=-1).any(dim=-1)


def _like_command(
    clips: list[_Clip],
    track: GaitTrack,
    command: tuple[float, float, float],
    dataset: MotionDataset,
    robot: Robot,
) -> dict[str, float]:
    """Figures of all motion of like speed in some clips, whose track is given."""
    masks = [clip.like(command) for clip in clips]
    chosen = torch.cat(masks)
    figures: dict[str, float] = {
        "seconds": float(chosen.sum()) / dataset.fps,
        "held_out": all(clip.held_out for clip in clips),
    }
    if figures["seconds"] < SHORTEST_SAMPLE:
        return figures
    figures.update(track.figures(chosen).known())
    runs = [run for clip, mask in zip(clips, masks) for run in _runs(clip.states, mask, dataset.fps)]
    if runs:
        figures.update(_run_figures(runs, dataset, robot))
    return figures


def _runs(states: Tensor, mask: Tensor, fps: float) -> list[Tensor]:
    """Stretches of at least SHORTEST_RUN in which the mask holds, (num_frames, state_dim) each."""
    long_enough = mask & (run_lengths(mask) >= SHORTEST_RUN * fps)
    frames = long_enough.nonzero().squeeze(1)
    if len(frames) == 0:
        return []
    cuts = ((frames[1:] - frames[:-1]) > 1).nonzero().squeeze(1) + 1
    return [states[part] for part in torch.tensor_split(frames, cuts)]


def _run_figures(runs: list[Tensor], dataset: MotionDataset, robot: Robot) -> dict[str, float]:
    """Figures of whole runs, averaged by their length."""
    weights = torch.tensor([float(len(run)) for run in runs])
    layout, fps = StateLayout.with_root(len(dataset.joint_names)), dataset.fps
    values: dict[str, list[float]] = {}
    for run in runs:
        parts = layout.split(run[None])
        gait = Gait(run[None], robot, fps)
        steps = gait.steps(0)
        row = {
            "mismatch": float(velocity_mismatch(parts["dof_pos"], parts["dof_vel"], fps)),
            "joint_speed": float(joint_speed(parts["dof_pos"], parts["dof_vel"], fps)),
            "highest_foot": float(gait.highest_foot()),
            "step_frequency": steps.frequency,
            "length_asymmetry": steps.length_asymmetry,
            "time_asymmetry": steps.time_asymmetry,
        }
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    figures = {}
    for name, column in values.items():
        column_values = torch.tensor(column)
        known = torch.isfinite(column_values)
        if bool(known.any()):
            figures[name] = float((column_values[known] * weights[known]).sum() / weights[known].sum())
    return figures


def _acceleration_limits(dataset: MotionDataset) -> Tensor:
    """Joint acceleration that 99.9 % of the frames stay below, (num_joints,) [rad/s^2]."""
    dof_pos = dataset.states[:, dataset.layout["dof_pos"]]
    valid, clip = dataset.valid, dataset.clip_index
    inner = valid[:-2] & valid[1:-1] & valid[2:] & (clip[:-2] == clip[2:])
    acceleration = joint_acceleration(dof_pos, dataset.fps)[inner].abs()
    if len(acceleration) == 0:
        raise ValueError("no three frames in a row of the recorded motion pass the quality checks")
    rank = min(len(acceleration) - 1, int(ACCELERATION_QUANTILE * len(acceleration)))
    return acceleration.sort(dim=0).values[rank]
