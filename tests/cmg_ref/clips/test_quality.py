"""Quality checks: each cause on a clip made for it, then real clips against a published judgement of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.clips.quality import floor_offset, lowest_sole_point, quality_mask, quality_report, run_lengths
from cmg_ref.core.rotations import quat_from_euler_xyz
from cmg_ref.robots.robot import load_g1


def standing_clip(num_frames: int = 200, fps: float = 50.0) -> MotionClip:
    """The standing pose with its soles on the floor."""
    robot = load_g1()
    clip = MotionClip(
        name="stand",
        fps=fps,
        joint_names=robot.joint_names,
        dof_pos=robot.default_dof_pos.expand(num_frames, -1).clone(),
        root_pos=torch.zeros(num_frames, 3),
        root_quat=torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(num_frames, -1).clone(),
    )
    height, _ = lowest_sole_point(clip, robot)
    clip.root_pos[:, 2] = -height
    return clip


def causes(clip: MotionClip) -> set[str]:
    return {cause for cause, frames in quality_report(clip, load_g1()).items() if frames.any()}


def test_standing_is_kept() -> None:
    clip = standing_clip()
    assert causes(clip) == set()
    assert quality_mask(quality_report(clip, load_g1())).all()


def test_joint_order_does_not_matter() -> None:
    clip = standing_clip()
    assert causes(clip.reordered(clip.joint_names[::-1])) == set()


@pytest.mark.parametrize(
    ("offset", "cause"), [(0.06, "off the floor"), (-0.06, "off the floor"), (-0.14, "root height")]
)
def test_height(offset: float, cause: str) -> None:
    clip = standing_clip()
    clip.root_pos[:, 2] += offset
    assert cause in causes(clip)
    assert not quality_mask(quality_report(clip, load_g1())).any()


def test_flight_phase_is_kept_but_not_a_long_flight() -> None:
    for frames, expected in ((20, set()), (90, {"off the floor"})):
        clip = standing_clip()
        clip.root_pos[60 : 60 + frames, 2] += 0.07 * torch.sin(torch.linspace(0, torch.pi, frames))
        assert causes(clip) == expected


def test_tilt() -> None:
    clip = standing_clip()
    clip.root_quat[:] = quat_from_euler_xyz(torch.tensor(0.7), torch.tensor(0.0), torch.tensor(0.0))
    assert "tilted" in causes(clip)


@pytest.mark.parametrize("lean", [0.45, -0.45])
def test_bent_torso(lean: float) -> None:
    clip = standing_clip()
    clip.dof_pos[:, clip.joint_names.index("waist_pitch_joint")] = lean
    assert causes(clip) == {"posture"}


def test_lean_of_a_runner_is_kept() -> None:
    clip = standing_clip()
    clip.dof_pos[:, clip.joint_names.index("waist_pitch_joint")] = 0.45
    clip.root_pos[:, 0] = torch.arange(clip.num_frames) / clip.fps * 2.5
    assert causes(clip) == set()


@pytest.mark.parametrize(("joint", "angle"), [("left_shoulder_roll_joint", 1.2), ("right_shoulder_roll_joint", -1.2)])
def test_arms_held_out(joint: str, angle: float) -> None:
    clip = standing_clip()
    clip.dof_pos[:, clip.joint_names.index(joint)] = angle
    assert causes(clip) == {"posture"}


def test_joint_limit() -> None:
    robot, clip = load_g1(), standing_clip()
    elbow = clip.joint_names.index("left_elbow_joint")
    clip.dof_pos[:, elbow] = robot.joint_upper[elbow] + 0.05
    assert causes(clip) == {"joint limits"}


def test_jump_takes_its_neighbours_along() -> None:
    clip = standing_clip()
    clip.root_pos[100:, 0] += 0.5
    mask = quality_mask(quality_report(clip, load_g1()))
    assert causes(clip) == {"jump"}
    assert not mask[95:105].any()
    assert mask[:90].all()
    assert mask[110:].all()


def test_joint_flip_is_a_jump() -> None:
    clip = standing_clip()
    clip.dof_pos[100:, clip.joint_names.index("left_wrist_roll_joint")] += 1.0
    assert causes(clip) == {"jump"}


def test_short_stretches_are_dropped() -> None:
    clip = standing_clip()
    clip.root_pos[[60, 100], 0] += 0.5
    report = quality_report(clip, load_g1())
    assert report["fragment"][70:90].all()
    assert not report["fragment"][:50].any()


@pytest.mark.parametrize("velocity", [(0.0, 0.5), (-0.6, 0.0)])
def test_side_steps_and_steps_back_are_kept(velocity: tuple[float, float]) -> None:
    clip = standing_clip()
    clip.root_pos[:, :2] = torch.arange(clip.num_frames)[:, None] / clip.fps * torch.tensor(velocity)
    assert causes(clip) == set()


def test_run_lengths() -> None:
    mask = torch.tensor([True, True, False, True, False, False, False])
    assert run_lengths(mask).tolist() == [2, 2, 1, 1, 3, 3, 3]


@pytest.mark.parametrize("offset", [-0.03, 0.0, 0.04])
def test_floor_offset_is_found_while_walking(motion_folder: Path, offset: float) -> None:
    robot = load_g1()
    clip = read_clip(motion_folder / "lafan1_g1" / "walk1_subject1.csv").slice(0, 1500)
    before = floor_offset(clip, robot)
    assert abs(before) < 0.01
    raised = dataclasses.replace(clip, root_pos=clip.root_pos + torch.tensor([0.0, 0.0, offset]))
    assert floor_offset(raised, robot) == pytest.approx(before + offset, abs=1e-6)


def test_no_floor_offset_without_stance() -> None:
    clip = standing_clip()
    clip.root_pos[:, 2] += 1.0
    assert floor_offset(clip, load_g1()) == 0.0


def frames_of(segments: list[list[int]], num_frames: int) -> torch.Tensor:
    mask = torch.zeros(num_frames, dtype=torch.bool)
    for start, end in segments:
        mask[start:end] = True
    return mask


def test_real_clips_are_judged_as_their_publisher_judged_them(motion_folder: Path) -> None:
    robot = load_g1()
    same_clean, same_natural, total = 0, 0, 0
    for name, judged in json.loads((motion_folder / "segments.json").read_text()).items():
        clip = read_clip(motion_folder / name)
        report = quality_report(clip, robot)
        unclean = torch.stack([report[cause] for cause in report if cause not in ("posture", "fragment")]).any(dim=0)
        mask = quality_mask(quality_report(clip, robot))
        clean = int((~unclean == frames_of(judged["clean"], clip.num_frames)).sum())
        natural = int((mask == frames_of(judged["natural"], clip.num_frames)).sum())
        assert clean > 0.85 * clip.num_frames, name
        assert natural > 0.85 * clip.num_frames, name
        same_clean, same_natural, total = same_clean + clean, same_natural + natural, total + clip.num_frames
    print(f"agreement over {total} frames: clean {same_clean / total:.3f}, natural {same_natural / total:.3f}")
    assert same_clean > 0.97 * total
    assert same_natural > 0.94 * total


@pytest.mark.parametrize(
    "name",
    ["lafan1_g1/walk3_subject5.csv", "lafan1_g1/walk4_subject1.csv", "twist2_g1/0807_yanjie_walk_008.pkl"],
)
def test_known_junk_is_rejected(motion_folder: Path, name: str) -> None:
    assert quality_mask(quality_report(read_clip(motion_folder / name), load_g1())).double().mean() < 0.02


@pytest.mark.parametrize("number", ["004", "009", "010"])
def test_teleport_of_the_first_frames_is_cut_off(motion_folder: Path, number: str) -> None:
    clip = read_clip(motion_folder / "twist2_g1" / f"0807_yanjie_walk_{number}.pkl")
    assert not quality_mask(quality_report(clip, load_g1()))[:5].any()


def test_climbed_step_is_off_the_floor(motion_folder: Path) -> None:
    clip = read_clip(motion_folder / "lafan1_g1" / "walk3_subject3.csv")
    height, speed = lowest_sole_point(clip, load_g1())
    on_the_step = (height > 0.15) & (height < 0.25) & (speed < 0.1)
    assert on_the_step.sum() > 100
    assert not quality_mask(quality_report(clip, load_g1()))[on_the_step].any()
