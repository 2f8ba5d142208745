"""Checks, heading-frame velocities, resampling and mirroring of clips."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Callable

import pytest
import torch

from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.motion_clip import ClipError, MotionClip, moving_average, sample_spline, time_derivative
from cmg_ref.core.rotations import angular_velocity, quat_from_yaw
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import load_g1

MakeClip = Callable[..., MotionClip]


def test_velocities_in_the_heading_frame_are_those_of_the_formula(make_clip: MakeClip) -> None:
    clip = make_clip(fps=200.0)
    inner = slice(1, -1)
    velocity = clip.root_lin_vel_h()[inner]
    assert (velocity[:, :2] - torch.tensor([0.9, 0.0], dtype=torch.float64)).abs().max() < 1e-2
    time = torch.arange(clip.num_frames) / 200.0
    climb = 0.01 * 4.0 * math.pi * torch.cos(4.0 * math.pi * time)
    assert (velocity[:, 2] - climb[inner]).abs().max() < 1e-3
    assert (clip.root_yaw_rate() - 0.5).abs().max() < 1e-3
    assert clip.root_height().allclose(clip.root_pos[:, 2])
    assert (clip.projected_gravity()[:, 2] < -0.99).all()


def test_velocities_are_differences_unless_the_clip_has_its_own(make_clip: MakeClip) -> None:
    clip = make_clip()
    central = (clip.dof_pos[2:] - clip.dof_pos[:-2]) * (clip.fps / 2.0)
    assert clip.velocities()[1:-1].allclose(central)
    own = torch.ones_like(clip.dof_pos)
    assert dataclasses.replace(clip, dof_vel=own).velocities().equal(own)


def test_spline_reproduces_cubics_and_its_own_samples() -> None:
    def cubic(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([0.3 * x**3 - x**2 + 2.0, x - 0.01 * x**3], dim=-1)

    knots, between = torch.arange(9, dtype=torch.float64), torch.linspace(0, 8, 57, dtype=torch.float64)
    assert sample_spline(cubic(knots), between).allclose(cubic(between), atol=1e-10)
    values = torch.randn(300, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    at_knots = torch.arange(300, dtype=torch.float64)
    assert sample_spline(values, at_knots).allclose(values, atol=1e-12)
    finer = sample_spline(values, torch.arange(4 * 299 + 1, dtype=torch.float64) / 4)
    places = torch.linspace(0, 299, 1234, dtype=torch.float64)
    assert sample_spline(finer, 4 * places).allclose(sample_spline(values, places), atol=1e-9)


@pytest.mark.parametrize("num_values", [4, 5, 6])
def test_spline_goes_through_few_values(num_values: int) -> None:
    knots = torch.arange(num_values, dtype=torch.float64)
    values = (knots**3 - 2.0 * knots).unsqueeze(1)
    between = torch.linspace(0, num_values - 1, 20, dtype=torch.float64)
    assert sample_spline(values, between).squeeze(1).allclose(between**3 - 2.0 * between, atol=1e-10)


def test_resampling_to_the_same_rate_changes_nothing(make_clip: MakeClip) -> None:
    clip = dataclasses.replace(make_clip(), dof_vel=make_clip().velocities() + 1.0)
    again = clip.resample(clip.fps)
    for field in ("dof_pos", "root_pos", "root_quat", "dof_vel"):
        assert getattr(again, field).equal(getattr(clip, field))


@pytest.mark.parametrize(
    ("frames", "fps", "new_fps", "expected"), [(61, 30, 50, 101), (60, 30, 50, 99), (101, 50, 30, 61), (9, 120, 50, 4)]
)
def test_number_of_frames_follows_the_duration(
    make_clip: MakeClip, frames: int, fps: float, new_fps: float, expected: int
) -> None:
    assert make_clip(fps=fps).slice(0, frames).resample(new_fps).num_frames == expected


@pytest.mark.parametrize("fps", [30.0, 29.876, 120.0])
def test_resampled_motion_is_that_of_the_formula(make_clip: MakeClip, fps: float) -> None:
    resampled, expected = make_clip(fps=fps).resample(50.0), make_clip(fps=50.0)
    frames = slice(0, resampled.num_frames)
    assert (resampled.dof_pos - expected.dof_pos[frames]).abs().max() < 1e-4
    assert (resampled.root_pos - expected.root_pos[frames]).abs().max() < 1e-4
    same_side = torch.sign((resampled.root_quat * expected.root_quat[frames]).sum(dim=-1, keepdim=True))
    assert (same_side * resampled.root_quat - expected.root_quat[frames]).abs().max() < 1e-5
    assert resampled.root_quat.norm(dim=-1).allclose(torch.ones(1, dtype=torch.float64))


def test_real_clip_of_more_frames_is_the_same_motion(motion_folder: Path) -> None:
    clip = read_clip(motion_folder / "lafan1_g1" / "sprint1_subject2.csv").slice(0, 900)
    direct, by_way_of_120 = clip.resample(50.0), clip.resample(120.0).resample(50.0)
    assert (direct.dof_pos - by_way_of_120.dof_pos).abs().max() < 1e-9
    assert (direct.root_quat - by_way_of_120.root_quat).abs().max() < 1e-5


def test_root_turns_more_smoothly_than_with_slerp() -> None:
    fps, new_fps = 30.0, 150.0
    time, fine = (torch.arange(round(2 * rate) + 1, dtype=torch.float64) / rate for rate in (fps, new_fps))
    turning = MotionClip("", fps, (), torch.zeros(61, 0), torch.zeros(61, 3), quat_from_yaw(torch.sin(4.0 * time)))
    expected = 4.0 * torch.cos(4.0 * fine)
    position = fine * fps
    index = position.floor().long().clamp(max=59)
    yaw = torch.sin(4.0 * time)
    slerped = quat_from_yaw(torch.lerp(yaw[index], yaw[index + 1], position - index))  # about one axis it is linear
    errors = [
        (angular_velocity(quat, 1.0 / new_fps)[5:-5, 2] - expected[5:-5]).abs().max()
        for quat in (turning.resample(new_fps).root_quat, slerped)
    ]
    assert errors[0] < 0.01
    assert errors[1] > 20 * errors[0]


def test_command_is_interpolated_and_given_velocities_are_dropped(make_clip: MakeClip) -> None:
    clip = make_clip(fps=30.0)
    ramp = torch.arange(clip.num_frames, dtype=torch.float64)[:, None].expand(-1, 3) / 30.0
    resampled = dataclasses.replace(clip, command=ramp, dof_vel=clip.velocities()).resample(50.0)
    assert resampled.dof_vel is None
    assert resampled.command is not None
    assert resampled.command[:, 0].allclose(torch.arange(resampled.num_frames, dtype=torch.float64) / 50.0)


def test_mirrored_clip_is_a_mirror_image(make_clip: MakeClip) -> None:
    robot = load_g1()
    clip = dataclasses.replace(make_clip(), command=torch.ones(201, 3))
    mirrored = clip.mirrored(robot)
    kinematics = ForwardKinematics(robot, ["left_ankle_roll_link", "right_wrist_yaw_link"], dtype=torch.float64)
    opposite = ForwardKinematics(robot, ["right_ankle_roll_link", "left_wrist_yaw_link"], dtype=torch.float64)
    position, _ = kinematics(clip.dof_pos, clip.root_pos, clip.root_quat)
    image, _ = opposite(mirrored.dof_pos, mirrored.root_pos, mirrored.root_quat)
    assert (position * torch.tensor([1.0, -1.0, 1.0]) - image).abs().max() < 1e-5
    assert mirrored.root_yaw_rate().allclose(-clip.root_yaw_rate())
    assert mirrored.root_lin_vel_h().allclose(clip.root_lin_vel_h() * torch.tensor([1.0, -1.0, 1.0]), atol=1e-9)
    assert mirrored.command is not None
    assert mirrored.command[0].tolist() == [1.0, -1.0, -1.0]
    assert mirrored.mirrored(robot).dof_pos.allclose(clip.dof_pos)


def test_joints_are_matched_by_name(make_clip: MakeClip) -> None:
    robot, clip = load_g1(), make_clip()
    backward = clip.reordered(robot.joint_names[::-1])
    assert backward.dof_pos.equal(clip.dof_pos.flip(-1))
    assert backward.reordered(robot).dof_pos.equal(clip.dof_pos)
    with pytest.raises(ClipError, match="missing left_kneee_joint; unknown left_knee_joint"):
        clip.reordered([name.replace("left_knee", "left_kneee") for name in robot.joint_names])


def replaced(clip: MotionClip, field: str, row: int, column: int, value: float) -> MotionClip:
    values = getattr(clip, field).clone()
    values[row, column] = value
    return dataclasses.replace(clip, **{field: values})


BROKEN = {
    "field 'fps': nan": lambda clip: dataclasses.replace(clip, fps=math.nan),
    "field 'fps': 0.0": lambda clip: dataclasses.replace(clip, fps=0.0),
    "field 'dof_pos', row 7 (left_knee_joint): nan": lambda clip: replaced(clip, "dof_pos", 7, 3, math.nan),
    "field 'dof_pos', row 7 (left_knee_joint): 30.0": lambda clip: replaced(clip, "dof_pos", 7, 3, 30.0),
    "field 'root_pos', row 5, column 1: inf": lambda clip: replaced(clip, "root_pos", 5, 1, math.inf),
    "780.0] is not a place of a robot in metres": lambda clip: replaced(clip, "root_pos", 5, 2, 780.0),
    "field 'root_quat', row 9": lambda clip: replaced(clip, "root_quat", 9, 2, 3.0),
    "field 'root_quat': shape (201, 3)": lambda clip: dataclasses.replace(clip, root_quat=clip.root_quat[:, :3]),
    "field 'root_pos': shape (200, 3)": lambda clip: dataclasses.replace(clip, root_pos=clip.root_pos[1:]),
    "field 'dof_vel': shape (201, 3)": lambda clip: dataclasses.replace(clip, dof_vel=clip.root_pos),
    "field 'command', row 3, column 0": lambda clip: replaced(
        dataclasses.replace(clip, command=torch.zeros(201, 3)), "command", 3, 0, math.nan
    ),
    "field 'joint_names': 'left_knee_joint' is there twice": lambda clip: dataclasses.replace(
        clip, joint_names=("left_knee_joint", *clip.joint_names[:3], *clip.joint_names[4:], "left_knee_joint")
    ),
    "field 'joint_names': missing left_knee_joint; unknown tail_joint": lambda clip: dataclasses.replace(
        clip, joint_names=tuple(name.replace("left_knee", "tail") for name in clip.joint_names)
    ),
    "field 'dof_pos': shape (1, 29)": lambda clip: clip.slice(0, 1),
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_clip_names_file_field_and_row(make_clip: MakeClip, message: str) -> None:
    facing_x = quat_from_yaw(torch.linspace(-1.0, 1.0, 201, dtype=torch.float64))
    sound = dataclasses.replace(make_clip(), source="folder/take.npz", root_quat=facing_x)
    sound.validate(load_g1())
    with pytest.raises(ClipError, match=re.escape(message)) as error:
        BROKEN[message](sound).validate(load_g1())
    assert str(error.value).startswith("folder/take.npz: ")
    assert "\n" not in str(error.value)


def test_too_few_frames_cannot_be_resampled(make_clip: MakeClip) -> None:
    with pytest.raises(ClipError, match="3 frames are too few"):
        make_clip().slice(0, 3).resample(30.0)


def test_moving_average_stays_inside_runs() -> None:
    values = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    runs = torch.arange(40) // 13
    average = moving_average(values, 4, runs)
    for frame in range(40):
        near = [i for i in range(max(0, frame - 4), min(40, frame + 5)) if runs[i] == runs[frame]]
        assert average[frame].allclose(values[near].mean(dim=0))


def test_time_derivative_is_exact_for_parabolas() -> None:
    time = torch.arange(10, dtype=torch.float64) / 25.0
    assert time_derivative(3.0 * time**2 - time, 25.0).allclose(6.0 * time - 1.0, atol=1e-9)
