"""Clips made by formula, whose velocities are known exactly."""

from __future__ import annotations

import dataclasses
import math
import resource
from pathlib import Path
from typing import Callable, Iterator, Protocol

import pytest
import torch

from cmg_ref.clips.formats.collection import read_clips
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.rotations import quat_from_euler_xyz
from cmg_ref.cuda_graph import triton_frame, triton_reader
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import SHIPPED_CHECKPOINT, load_checkpoint
from cmg_ref.robots.robot import Robot, load_g1
from cmg_ref.rollout.clip_generation import generate_clips
from cmg_ref.trajectories import environment_changes


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


@pytest.fixture(scope="session")
def gaits() -> dict[str, MotionClip]:
    """Six seconds of the shipped model's motion under each of a few commands: feet stand where they stand."""
    commands = {
        "standing": (0.0, 0.0, 0.0),
        "forward": (1.0, 0.0, 0.0),
        "backward": (-0.4, 0.0, 0.0),
        "sideways": (0.0, 0.3, 0.0),
        "turning": (0.5, 0.0, 0.6),
    }
    table = torch.tensor(list(commands.values())).unsqueeze(1).expand(-1, 300, -1)
    clips = generate_clips(load_checkpoint(SHIPPED_CHECKPOINT), table, names=list(commands))
    return {name: dataclasses.replace(clip, command=None) for name, clip in zip(commands, clips)}


@pytest.fixture(scope="session")
def real_clips(motion_folder: Path) -> list[MotionClip]:
    """The real clips, as the readers have them."""
    return read_clips([motion_folder], load_g1(), say=lambda line: None)


@pytest.fixture()
def assert_refused() -> Iterator[Callable[..., None]]:
    """Checks that a read fails with an error of exactly this kind: one short line that begins with the file's name.

    The whole test may take 500 MiB more than the process ever had.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def check(read: Callable[[], object], kind: type[Exception], path: Path, *parts: str) -> None:
        with pytest.raises(kind) as error:
            read()
        assert type(error.value) is kind
        message = str(error.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert len(message) <= len(str(path)) + 400
        for part in parts:
            assert part in message

    yield check
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 500 * 1024


@pytest.fixture
def large_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's time goes by programs."""
    monkeypatch.setattr(triton_frame, "SHAPES", {name: (16, 1) for name in triton_frame.SHAPES})
    monkeypatch.setattr(triton_reader, "ROWS", 32)
    monkeypatch.setattr(environment_changes, "SHOWN", 16)


@pytest.fixture(scope="session")
def make_equal() -> Callable[[CMGMotionGenerator, CMGMotionGenerator], None]:
    """Lets a generator go on from where another one is."""

    def make(generator: CMGMotionGenerator, other: CMGMotionGenerator) -> None:
        for ours, theirs, names in (
            (generator._shown.clock, other._shown.clock, ("shown", "share")),
            (generator._shown.reader, other._shown.reader, ("origin",)),
            (generator.buffer, other.buffer, ("written", "guarded", "_tail_state", "_tail_pose")),
            (generator.buffer.commands, other.buffer.commands, ("first_frames", "starts", "targets")),
            (generator.buffer.store, other.buffer.store, ("table",)),
            (generator._shown.draws, other._shown.draws, ("drawn",)),
        ):
            for name in names:
                getattr(ours, name).copy_(getattr(theirs, name))
        generator._shown.reader.forget()

    return make
