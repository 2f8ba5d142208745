"""The phase of the stride of recorded motion: a clock that tells when a foot lifts off."""

from __future__ import annotations

import dataclasses
import math

import torch

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.gait_track import GaitTrack
from cmg_ref.robots.robot import Robot

SHORTEST_STEP, SHORTEST_STRIDE = 0.15, 0.5
"""Lift-offs nearer to one another [s], of any foot and of the same, are no steps: a foot shifts or bounces, say."""
HALF_STEP = 0.4
"""A step takes at most twice as long [s]: what is longer is a pause in the middle of it, in which the clock stands."""


def with_gait_phase(dataset: MotionDataset, robot: Robot) -> MotionDataset:
    """A dataset whose states have the phase of the stride as their last channel."""
    if dataset.layout == StateLayout.with_phase(len(dataset.joint_names)):
        return dataset
    phase = torch.zeros(dataset.num_frames, dtype=torch.float64)
    for clip in range(len(dataset.clip_names)):
        frames = dataset.clip_index == clip
        track = GaitTrack.of(dataset.states[frames][None], robot, dataset.fps)
        phase[frames] = stride_phase(track.lift_offs, track.feet, int(frames.sum()), dataset.fps)
    channel = torch.stack((phase.cos(), phase.sin()), dim=1).float()
    return dataclasses.replace(dataset, states=torch.cat((dataset.states, channel), dim=1))


def stride_phase(lift_offs: torch.Tensor, feet: torch.Tensor, num_frames: int, fps: float) -> torch.Tensor:
    """Phase of each frame [rad], unwrapped, (num_frames,) float64.

    Args:
        lift_offs: Frames at which a foot lifts off, (num_swings,).
        feet: Which one, 0 left, 1 right, (num_swings,).
        num_frames: Length of the motion.
        fps: Frames a second.
    """
    events: list[tuple[float, int]] = []
    for frame, foot in sorted(zip(lift_offs.tolist(), feet.tolist())):
        time = frame / fps
        if not events or time - events[-1][0] >= (SHORTEST_STRIDE if foot == events[-1][1] else SHORTEST_STEP):
            events.append((time, foot))
    times, own = [time for time, _ in events], [foot for _, foot in events]
    now = torch.arange(num_frames, dtype=torch.float64) / fps
    if not times:
        return torch.full((num_frames,), 0.5 * math.pi, dtype=torch.float64)
    value = math.pi * own[0]
    points = [(times[0] - HALF_STEP, value - 0.5 * math.pi), (times[0], value)]
    for (start, foot), (end, other) in zip(zip(times[:-1], own[:-1]), zip(times[1:], own[1:])):
        step = math.pi if foot != other else 2.0 * math.pi
        if end - start > 2.0 * HALF_STEP:
            points += [(start + HALF_STEP, value + 0.5 * step), (end - HALF_STEP, value + 0.5 * step)]
        value += step
        points.append((end, value))
    points.append((times[-1] + HALF_STEP, value + 0.5 * math.pi))
    known, phases = (torch.tensor(column, dtype=torch.float64) for column in zip(*points))
    after = torch.searchsorted(known, now).clamp(1, len(known) - 1)
    share = ((now - known[after - 1]) / (known[after] - known[after - 1]).clamp(min=1e-9)).clamp(0.0, 1.0)
    return torch.lerp(phases[after - 1], phases[after], share)
