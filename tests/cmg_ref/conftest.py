"""Clips made by formula, whose velocities are known exactly."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, Callable, Protocol

import pytest
import torch

from cmg_ref import recorded_frames
from cmg_ref.motion_clip import MotionClip
from cmg_ref.robot import Robot, load_g1
from cmg_ref.rotations import quat_from_euler_xyz


class ClipFactory(Protocol):
    """Makes the same motion at any frame rate."""

    def __call__(self, fps: float = 50.0, seconds: float = 4.0, name: str = "swing") -> MotionClip: ...


@pytest.fixture(scope="session")
def make_clip() -> ClipFactory:
    """A robot that swings every joint at 1 Hz while it drives a circle at 0.9 m/s and 0.5 rad/s and sways a little."""
    robot: Robot = load_g1()

    def make(fps: float = 50.0, seconds: float = 4.0, name: str = "swing") -> MotionClip:
        time = torch.arange(round(seconds * fps) + 1, dtype=torch.float64) / fps
        phase = 2.0 * math.pi * time
        yaw = 3.0 + 0.5 * time  # Passes pi.
        swing = 0.15 * torch.sin(phase[:, None] + torch.arange(robot.num_joints, dtype=torch.float64))
        height = 0.78 + 0.01 * torch.sin(2.0 * phase)
        return MotionClip(
            name=name,
            fps=fps,
            joint_names=robot.joint_names,
            dof_pos=robot.default_dof_pos.double() + swing,
            root_pos=torch.stack([1.8 * torch.sin(yaw), -1.8 * torch.cos(yaw), height], dim=-1),
            root_quat=quat_from_euler_xyz(0.05 * torch.sin(phase), 0.05 * torch.cos(phase), yaw),
        )

    return make


@pytest.fixture
def without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what would be recorded as a CUDA graph, which takes a GPU, where the graph would be replayed."""

    def record(warm_up: Callable[[], object], action: Callable[[], object], device: torch.device) -> Any:
        warm_up()
        return SimpleNamespace(replay=action), None

    monkeypatch.setattr(recorded_frames, "record", record)
