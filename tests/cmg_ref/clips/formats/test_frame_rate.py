"""A frame rate that a file does not tell is said, and held against gravity."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats.frame_rate import frame_rate_bounds
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.formats.unsaid import RATE_MARGIN
from cmg_ref.clips.motion_clip import ClipError, ClipWarning, MotionClip
from cmg_ref.core.rotations import quat_rotate
from cmg_ref.robots.kinematics import FootKinematics, ForwardKinematics
from cmg_ref.robots.robot import load_g1


def write_csv(clip: MotionClip, path: Path) -> Path:
    np.savetxt(path, torch.cat([clip.root_pos, clip.root_quat, clip.dof_pos], dim=-1).numpy(), delimiter=",")
    return path


def test_assumed_rate_is_said_and_a_given_one_is_not(gaits: dict[str, MotionClip], tmp_path: Path) -> None:
    file = write_csv(gaits["standing"], tmp_path / "stand.csv")
    with pytest.warns(ClipWarning, match=r"stand\.csv: no frame rate inside, 30 per second assumed; another: .*--fps"):
        assert read_clip(file).fps == 30.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", ClipWarning)
        assert read_clip(file, fps=50.0).fps == 50.0


def test_pendulum_of_known_period_is_measured() -> None:
    """A robot that falls over its left foot exactly as an inverted pendulum does."""
    robot, fps, num_frames = load_g1(), 80.0, 240
    time = torch.arange(num_frames, dtype=torch.float64) / fps
    dof_pos = robot.default_dof_pos.repeat(num_frames, 1)
    dof_pos[:, robot.joint_index(["right_hip_pitch_joint"])] -= 0.5
    dof_pos[:, robot.joint_index(["right_knee_joint"])] += 1.0
    upright = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64).expand(num_frames, 4)

    def clip(place: torch.Tensor) -> MotionClip:
        return MotionClip("fall", 30.0, robot.joint_names, dof_pos, place, upright)

    # The rigid body hovers over a foot that moves with it, so the lever arm is constant: it must accelerate evenly.
    lever, height = _lever(clip(torch.zeros(num_frames, 3, dtype=torch.float64)))
    place = 0.5 * (9.81 / height) * lever * time[:, None] ** 2
    bounds = frame_rate_bounds(clip(torch.cat((place, 0.0 * time[:, None]), dim=-1)), robot)
    assert bounds is not None
    assert bounds == pytest.approx((fps, fps), rel=1e-6)


def _lever(clip: MotionClip) -> tuple[torch.Tensor, torch.Tensor]:
    """Horizontal and vertical distance of the mass centre from the middle of the left sole [m]."""
    robot = load_g1()
    position, quat = ForwardKinematics(robot, dtype=torch.float64)(clip.dof_pos[0])
    mass_centre = ((position + quat_rotate(quat, robot.body_com)) * robot.body_mass[:, None]).sum(dim=0)
    mass_centre = mass_centre / robot.body_mass.sum()
    offset = mass_centre - FootKinematics(robot, dtype=torch.float64)(clip.dof_pos[0])[0].mean(dim=0)
    return offset[:2], offset[2]


def test_real_clips_move_at_their_own_rate(real_clips: list[MotionClip]) -> None:
    robot, told, caught = load_g1(), 0, 0
    for clip in real_clips:
        bounds = frame_rate_bounds(clip, robot)
        if bounds is not None:
            told += 1
            assert bounds[0] / RATE_MARGIN < clip.fps < bounds[1] * RATE_MARGIN
        bounds = frame_rate_bounds(clip.slice(0, 3000).resample(60.0), robot)
        caught += bounds is not None and bounds[0] / RATE_MARGIN > 30.0
    # The others walk too little, or not as bodies fall: nothing can be told of them.
    assert told >= 9
    assert caught >= 5


def test_clip_recorded_at_another_rate_than_assumed_is_refused(motion_folder: Path, tmp_path: Path) -> None:
    clip = read_clip(motion_folder / "lafan1_g1" / "run2_subject1.csv", fps=30.0)
    refused = [write_csv(clip.slice(0, 3000).resample(60.0), tmp_path / "run.csv")]
    with pytest.raises(ClipError, match=r"no frame rate inside, and at 30 frames per second .* gravity .*--fps"):
        read_clip(refused[0])
    assert read_clip(refused[0], fps=60.0).fps == 60.0
    with pytest.warns(ClipWarning, match="at 30 frames per second the body does not fall"):
        assert read_clip(refused[0], fps=30.0).fps == 30.0
