"""Recorded motions: files of all kinds, and real clips spoilt on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.clips.dataset import MotionDataset, build_dataset
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.motion_clip import ClipError, MotionClip
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.clip_evaluation import constant_stretches, evaluate_motion
from cmg_ref.evaluation.evaluated_motion import EvaluatedMotion, read_motion
from cmg_ref.evaluation.mocap_statistics import figures_of, mocap_figures
from cmg_ref.evaluation.requirements import Measure
from cmg_ref.robots.robot import Robot, load_g1


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_g1()


@pytest.fixture(scope="module")
def walk(robot: Robot, motion_folder: Path) -> MotionClip:
    """Eight seconds of a real walk straight ahead at about 0.7 m/s, at the recorded 30 fps."""
    clip = read_clip(motion_folder / "lafan1_g1" / "walk1_subject1.csv")
    velocity = clip.root_lin_vel_h()
    wrong = (velocity[:, 0] - 0.7).abs() + velocity[:, 1].abs() + clip.root_yaw_rate().abs()
    length = round(8 * clip.fps)
    starts = range(0, clip.num_frames - length, 30)
    start = min(starts, key=lambda index: float(wrong[index : index + length].mean()))
    return clip.slice(start, start + length)


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def figures(
    motion: EvaluatedMotion, robot: Robot, command: tuple[float, float, float] | None = None
) -> dict[tuple[str, str], Measure]:
    evaluation = evaluate_motion(motion, robot, None, command)
    return {(measure.name, measure.command): measure for measure in evaluation.measures}


def test_joint_angles_alone_give_the_recorded_speed(robot: Robot, walk: MotionClip, tmp_path: Path) -> None:
    path = save(tmp_path / "walk.npz", dof_pos=walk.dof_pos.numpy(), fps=walk.fps)
    motion = read_motion(path, robot)
    assert motion.root_source == "estimated from the stance foot"
    measured = figures(motion, robot)["mean forward speed", "whole motion"].value
    recorded = float(walk.root_lin_vel_h()[:, 0].mean())
    assert recorded > 0.4
    assert measured == pytest.approx(recorded, abs=0.06)


def test_a_clip_played_too_fast_misses_speed_and_velocities(robot: Robot, walk: MotionClip, tmp_path: Path) -> None:
    speed = float(walk.root_lin_vel_h()[:, 0].mean())
    velocities = np.gradient(walk.dof_pos.numpy(), 1.0 / walk.fps, axis=0)
    path = save(tmp_path / "walk.npz", dof_pos=walk.dof_pos.numpy(), dof_vel=velocities, fps=walk.fps)
    command = (round(speed, 2), 0.0, 0.0)
    honest = figures(read_motion(path, robot), robot, command)
    fast = figures(read_motion(path, robot, fps=walk.fps * 50 / 30), robot, command)
    name = "root speed error"
    label = next(label for row, label in honest if row == name)
    assert honest[name, label].passed
    assert fast[name, label].passed is False
    assert fast[name, label].value == pytest.approx(speed * (50 / 30 - 1), abs=0.2)
    assert honest["velocity mismatch", "whole motion"].value < 0.02
    assert fast["velocity mismatch", "whole motion"].value == pytest.approx(50 / 30 - 1, rel=0.05)
    ratio = fast["step frequency", "whole motion"].value / honest["step frequency", "whole motion"].value
    assert ratio == pytest.approx(50 / 30, rel=1e-3)


def test_a_clip_whose_root_runs_ahead_of_its_feet_slips(robot: Robot, walk: MotionClip, tmp_path: Path) -> None:
    arrays = {
        "fps": walk.fps,
        "joint_names": np.array(walk.joint_names),
        "dof_pos": walk.dof_pos.numpy(),
        "root_quat_xyzw": walk.root_quat.numpy(),
    }
    root_pos = walk.root_pos.numpy()
    honest = figures(read_motion(save(tmp_path / "a.npz", root_pos=root_pos, **arrays), robot), robot)
    doubled = root_pos * np.array([2.0, 2.0, 1.0])
    skating = figures(read_motion(save(tmp_path / "b.npz", root_pos=doubled, **arrays), robot), robot)
    speed = honest["mean forward speed", "whole motion"].value
    assert skating["mean forward speed", "whole motion"].value == pytest.approx(2 * speed, rel=1e-3)
    slip = ("foot slip", "whole motion")
    assert honest[slip].value < 0.25
    assert skating[slip].value > honest[slip].value + 0.5 * speed


def test_a_joint_beyond_its_limit_is_flagged(robot: Robot, walk: MotionClip, tmp_path: Path) -> None:
    dof_pos = walk.dof_pos.clone()
    knee = int(robot.joint_index(["left_knee_joint"]))
    dof_pos[20:44, knee] = robot.joint_upper[knee] + 0.7
    row = figures(read_motion(save(tmp_path / "walk.npz", dof_pos=dof_pos.numpy(), fps=walk.fps), robot), robot)
    assert row["joint limits exceeded", "whole motion"].value == pytest.approx(0.7, abs=1e-4)
    assert row["joint limits exceeded", "whole motion"].passed is False
    assert row["frames beyond joint limits", "whole motion"].value == pytest.approx(24 / walk.num_frames)


def test_stretches_of_constant_command_are_judged_apart(robot: Robot) -> None:
    fps = 50.0
    layout = StateLayout.with_root(robot.num_joints)
    commands = torch.tensor([[0.0, 0.0, 0.0]] * 200 + [[0.6, 0.0, 0.0]] * 200 + [[1.0, 0.0, 0.0]] * 60)
    assert constant_stretches(commands, fps) == [(75, 200), (275, 400)]
    states = torch.zeros(len(commands), layout.size)
    states[:, layout["dof_pos"]] = robot.default_dof_pos.float()
    states[:, layout["projected_gravity"]] = torch.tensor([0.0, 0.0, -1.0])
    states[200:, layout["root_lin_vel_h"].start] = 0.5
    rows = figures(EvaluatedMotion("made", fps, states, commands, "recorded"), robot)
    assert rows["root speed error", "stand"].value == pytest.approx(0.0, abs=1e-6)
    assert rows["root speed error", "vx 0.6"].value == pytest.approx(0.1, abs=1e-6)
    assert rows["foot slip", "vx 0.6"].passed is False
    assert ("root speed error", "vx 1.0") not in rows


def test_joint_columns_are_matched_by_name(robot: Robot, walk: MotionClip, tmp_path: Path) -> None:
    dof_pos = walk.dof_pos.numpy()
    straight = read_motion(save(tmp_path / "a.npz", dof_pos=dof_pos, fps=30.0), robot)
    names = np.array(robot.joint_names[::-1])
    reversed_ = read_motion(save(tmp_path / "b.npz", dof_pos=dof_pos[:, ::-1], fps=30.0, joint_names=names), robot)
    torch.testing.assert_close(straight.states, reversed_.states)
    placeholders = np.array([f"joint_{index}" for index in range(robot.num_joints)])
    unnamed = read_motion(save(tmp_path / "c.npz", dof_positions=dof_pos, fps=30.0, dof_names=placeholders), robot)
    torch.testing.assert_close(straight.states, unnamed.states)


def test_real_clips_of_every_format_are_read(robot: Robot, motion_folder: Path) -> None:
    for path in (
        motion_folder / "amass_g1" / "cmu_06_01_poses_120_jpos.npz",
        motion_folder / "twist2_g1" / "0807_yanjie_walk_002.pkl",
    ):
        motion = read_motion(path, robot)
        assert motion.root_source == "recorded"
        assert 0.1 < figures(motion, robot)["mean forward speed", "whole motion"].value < 2.0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"angles": np.zeros((9, 29))}, "no joint angles"),
        ({"dof_pos": np.zeros((9, 29))}, "'fps' is missing"),
        ({"dof_pos": np.zeros((9, 22)), "fps": 30.0}, "22 joints, needs 29 or, of smaller robots, 27, 25, 23, 21"),
        ({"dof_pos": np.zeros((9, 29, 1)), "fps": 30.0}, "'dof_pos'"),
        ({"dof_pos": np.full((9, 29), np.nan), "fps": 30.0}, "'dof_pos'.*row 0"),
        ({"dof_pos": np.zeros((9, 29)), "dof_vel": np.zeros((8, 29)), "fps": 30.0}, "'dof_vel'"),
        ({"dof_pos": np.zeros((9, 2)), "fps": 30.0, "joint_names": np.array(["left_knee_joint", "tail"])}, "tail"),
        ({"dof_pos": np.zeros((9, 29)), "fps": -5.0}, "fps"),
        ({"dof_pos": np.zeros((1, 29)), "fps": 30.0}, "num_frames >= 2"),
        ({"dof_pos": np.array([{}], dtype=object), "fps": 30.0}, "pickled objects, needs an array of numbers"),
    ],
)
def test_bad_files_are_one_line_that_names_them(robot: Robot, tmp_path: Path, arrays: Any, message: str) -> None:
    path = save(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ClipError, match=rf"bad\.npz.*{message}") as caught:
        read_motion(path, robot)
    assert "\n" not in str(caught.value)


def test_a_truncated_or_missing_file_is_named(robot: Robot, tmp_path: Path) -> None:
    path = save(tmp_path / "cut.npz", dof_pos=np.zeros((9, 29)), fps=30.0)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ClipError, match=r"cut\.npz"):
        read_motion(path, robot)
    with pytest.raises(ClipError, match=r"absent\.npz: cannot be read \(No such file"):
        read_motion(tmp_path / "absent.npz", robot)


def standing_dataset(robot: Robot, speeds: list[float], held_out: list[bool]) -> MotionDataset:
    """Clips of ten seconds in which a still robot's root drives at a speed: it skates just as fast."""
    layout = StateLayout.with_root(robot.num_joints)
    frames = 500
    states = torch.zeros(len(speeds) * frames, layout.size)
    states[:, layout["dof_pos"]] = robot.default_dof_pos.float()
    states[:, layout["projected_gravity"]] = torch.tensor([0.0, 0.0, -1.0])
    commands = torch.zeros(len(states), 3)
    commands[:, 0] = torch.tensor(speeds).repeat_interleave(frames)
    states[:, layout["root_lin_vel_h"].start] = commands[:, 0]
    return MotionDataset(
        states=states,
        commands=commands,
        valid=torch.ones(len(states), dtype=torch.bool),
        clip_index=torch.arange(len(speeds)).repeat_interleave(frames),
        clip_names=tuple(f"clip_{index}" for index in range(len(speeds))),
        held_out=tuple(held_out),
        licences=("",) * len(speeds),
        fps=50.0,
        joint_names=robot.joint_names,
    )


def test_mocap_figures_are_those_of_held_out_motion_of_like_speed(robot: Robot) -> None:
    dataset = standing_dataset(robot, [0.6, 0.66, 1.0, 1.06], [True, False, False, False])
    mocap = mocap_figures(dataset, robot, [(0.6, 0.0, 0.0), (1.0, 0.0, 0.0), (-0.6, 0.0, 0.0)])
    assert mocap["clips"] == ["clip_0"]
    held_out = figures_of(mocap, (0.6, 0.0, 0.0))
    assert held_out["held_out"] is True
    assert held_out["seconds"] == pytest.approx(10.0)
    assert held_out["slip"] == pytest.approx(0.6, abs=1e-4)
    assert held_out["stance_share"] == 1.0
    # No held-out motion is as fast as this: both other clips stand in.
    fallback = figures_of(mocap, (1.0, 0.0, 0.0))
    assert fallback["held_out"] is False
    assert fallback["slip"] == pytest.approx(1.03, abs=1e-3)
    assert "slip" not in figures_of(mocap, (-0.6, 0.0, 0.0))
    assert figures_of(mocap, (0.1, 0.0, 0.0)) == figures_of(None, (0.6, 0.0, 0.0)) == {}


def test_a_dataset_without_sound_motion_is_refused(robot: Robot) -> None:
    dataset = standing_dataset(robot, [0.6], [False])
    dataset.valid[:] = False
    with pytest.raises(ValueError, match="quality checks"):
        mocap_figures(dataset, robot, [(0.6, 0.0, 0.0)])


def test_mocap_figures_of_real_walking(robot: Robot, motion_folder: Path) -> None:
    dataset = build_dataset([read_clip(motion_folder / "lafan1_g1" / "walk1_subject1.csv")], robot)
    mocap = mocap_figures(dataset, robot, [(0.6, 0.0, 0.0)])
    walking = figures_of(mocap, (0.6, 0.0, 0.0))
    assert 0.03 < walking["slip"] < 0.3
    assert walking["mismatch"] < 1e-3
    assert 1.0 < walking["step_frequency"] < 2.0
    assert all(5.0 < value < 600.0 for value in mocap["joint_acceleration"].values())
