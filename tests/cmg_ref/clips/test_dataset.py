"""The dataset: states and commands of clips, windows, files, and independence of the clips' frame rate."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Callable

import pytest
import torch
from safetensors.torch import load_file, save_file

from cmg_ref.clips.dataset import MotionDataset, average_command, build_dataset, build_dataset_with_summary
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.motion_clip import ClipError, MotionClip
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.robots.robot import load_g1

MakeClip = Callable[..., MotionClip]


@pytest.fixture
def dataset(make_clip: MakeClip) -> MotionDataset:
    """Three clips, the second one held out, with a few frames marked bad."""
    clips = [make_clip(seconds=seconds, name=name) for seconds, name in ((4.0, "a"), (2.0, "b"), (3.0, "c"))]
    dataset = build_dataset(clips, load_g1(), held_out=["b"], licences={"a": "MIT"})
    dataset.valid[:] = True
    dataset.valid[[50, 51, 120, 230]] = False
    return dataset


# --- States and commands ---------------------------------------------------------------------------------------------


def test_states_are_what_the_layout_says(make_clip: MakeClip) -> None:
    robot, clip = load_g1(), make_clip()
    dataset = build_dataset([clip.reordered(clip.joint_names[::-1])], robot)
    assert dataset.layout == StateLayout.with_root(robot.num_joints)
    assert dataset.joint_names == robot.joint_names
    assert dataset.states.dtype == dataset.commands.dtype == torch.float32
    channels = dataset.layout.split(dataset.states.double())
    assert channels["dof_pos"].allclose(clip.dof_pos, atol=1e-6)
    assert channels["projected_gravity"].allclose(clip.projected_gravity(), atol=1e-6)
    assert channels["root_lin_vel_h"].allclose(clip.root_lin_vel_h(), atol=1e-5)
    assert channels["root_yaw_rate"].squeeze(1).allclose(clip.root_yaw_rate(), atol=1e-5)


@pytest.mark.parametrize("fps", [30.0, 50.0, 120.0])
def test_velocity_is_the_central_difference_of_position(make_clip: MakeClip, fps: float) -> None:
    own_velocity = dataclasses.replace(make_clip(fps=fps), dof_vel=torch.full((round(4 * fps) + 1, 29), 7.0))
    dataset = build_dataset([own_velocity], load_g1())
    channels = dataset.layout.split(dataset.states.double())
    central = (channels["dof_pos"][2:] - channels["dof_pos"][:-2]) * 25.0
    assert (channels["dof_vel"][1:-1] - central).abs().max() < 1e-4


def largest_difference(first: MotionDataset, second: MotionDataset) -> float:
    assert first.num_frames == second.num_frames
    assert first.valid.equal(second.valid)
    states = (first.states - second.states).abs().max()
    return max(states.item(), (first.commands - second.commands).abs().max().item())


@pytest.mark.parametrize("fps", [30.0, 120.0])
def test_clip_of_another_rate_gives_the_same_dataset(make_clip: MakeClip, fps: float) -> None:
    robot = load_g1()
    expected = build_dataset([make_clip(fps=50.0)], robot)
    assert largest_difference(build_dataset([make_clip(fps=fps)], robot), expected) < 1e-2


@pytest.mark.parametrize("name", ["walk1_subject2", "sprint1_subject2"])
@pytest.mark.parametrize("fps", [50.0, 120.0])
def test_real_clip_of_another_rate_gives_the_same_dataset(motion_folder: Path, name: str, fps: float) -> None:
    robot = load_g1()
    clip = read_clip(motion_folder / "lafan1_g1" / f"{name}.csv").slice(0, 1201)
    difference = largest_difference(build_dataset([clip.resample(fps)], robot), build_dataset([clip], robot))
    assert difference < 1e-3


def test_command_is_the_average_velocity_of_the_run(make_clip: MakeClip) -> None:
    clip = make_clip()
    clip.root_pos[:, 0] += 0.3 * torch.sin(torch.arange(201) / 10.0)
    valid = torch.ones(201, dtype=torch.bool)
    valid[60:64] = False
    command = average_command(clip, valid)
    velocity = torch.cat([clip.root_lin_vel_h()[:, :2], clip.root_yaw_rate()[:, None]], dim=-1)
    # 0.8 s at 50 Hz: twenty frames on either side, if they are of the same run.
    for frame, first, last in ((100, 80, 120), (0, 0, 20), (55, 35, 59), (62, 60, 63), (70, 64, 90), (200, 180, 200)):
        assert command[frame].allclose(velocity[first : last + 1].mean(dim=0)), frame


def test_clips_are_put_on_the_floor(motion_folder: Path) -> None:
    robot = load_g1()
    clip = read_clip(motion_folder / "lafan1_g1" / "walk1_subject1.csv").slice(0, 900)
    raised = dataclasses.replace(clip, root_pos=clip.root_pos + torch.tensor([0.0, 0.0, 0.03]))
    too_high = dataclasses.replace(clip, root_pos=clip.root_pos + torch.tensor([0.0, 0.0, 0.1]))
    on_the_floor = build_dataset([clip], robot)
    lowered, summaries = build_dataset_with_summary([raised], robot)
    assert (lowered.states - on_the_floor.states).abs().max() < 1e-5
    assert summaries[0].floor_offset == pytest.approx(0.03, abs=0.01)
    assert not build_dataset([too_high], robot).valid.any()


def test_summary_counts_what_was_rejected(make_clip: MakeClip) -> None:
    clip = make_clip()
    clip.dof_pos[:100, clip.joint_names.index("waist_pitch_joint")] += 0.6
    dataset, (summary,) = build_dataset_with_summary([clip], load_g1())
    assert summary.name == "swing"
    assert summary.num_frames == 201
    assert summary.num_kept == int(dataset.valid.sum())
    assert 80 <= summary.rejected["posture"] <= 120
    assert not summary.held_out


def test_two_clips_of_one_name(make_clip: MakeClip) -> None:
    clips = [dataclasses.replace(make_clip(), source=f"{folder}/swing.csv") for folder in "ab"]
    with pytest.raises(ClipError, match=r"two clips are called 'swing': a/swing\.csv and b/swing\.csv"):
        build_dataset(clips, load_g1())
    with pytest.raises(ClipError, match="no clips"):
        build_dataset([], load_g1())


def test_licences_by_clip_or_folder(make_clip: MakeClip) -> None:
    clips = [
        dataclasses.replace(make_clip(seconds=31.0, fps=10.0, name=name), source=f"data/{folder}/{name}.csv")
        for folder, name in (("mocap", "a"), ("mocap", "b"), ("other", "c"))
    ]
    dataset = build_dataset(clips, load_g1(), held_out=["a[0:10]"], licences={"mocap": "CC BY-NC-ND 4.0", "b": "MIT"})
    assert dataset.licences == ("CC BY-NC-ND 4.0", "CC BY-NC-ND 4.0", "MIT", "")
    assert dataset.clip_names == ("a[0.0:10.0]", "a[10.0:31.1]", "b", "c")
    assert dataset.held_out == (True, False, False, False)


# --- Windows and summaries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 50, 101, 150, 1000])
@pytest.mark.parametrize("held_out", [None, False, True])
def test_windows_are_runs_of_valid_frames_of_one_clip(
    dataset: MotionDataset, length: int, held_out: bool | None
) -> None:
    expected = [
        start
        for start in range(dataset.num_frames - length + 1)
        if dataset.valid[start : start + length].all()
        and dataset.clip_index[start] == dataset.clip_index[start + length - 1]
        and held_out in (None, dataset.held_out[dataset.clip_index[start]])
    ]
    assert dataset.windows(length, held_out).tolist() == expected


def test_windows_need_a_length(dataset: MotionDataset) -> None:
    with pytest.raises(ValueError, match="length of at least 1"):
        dataset.windows(0)


def test_every_valid_frame_is_in_one_band(dataset: MotionDataset) -> None:
    for held_out, frames in ((None, 449), (False, 349), (True, 100)):
        assert sum(dataset.speed_summary(held_out).values()) == pytest.approx(frames / 50.0)
    assert dataset.speed_summary()["0.2 to 1.0 m/s"] == pytest.approx(449 / 50.0)


def test_bands_of_known_commands(dataset: MotionDataset) -> None:
    commands = {
        "standing": (0.0, 0.0, 0.0),
        "turning on the spot": (0.1, 0.0, -1.0),
        "sideways": (0.1, -0.4, 0.0),
        "backward": (-0.5, 0.1, 0.0),
        "1.0 to 1.5 m/s": (1.2, 0.3, 0.5),
        "above 3.0 m/s": (3.5, 0.0, 0.0),
    }
    for band, command in commands.items():
        dataset.commands[:] = torch.tensor(command)
        assert dataset.speed_summary()[band] == pytest.approx(449 / 50.0), band


def test_description_tells_seconds_and_licences(dataset: MotionDataset) -> None:
    clips = dataset.description()["clips"]
    assert clips == [
        {"name": "a", "seconds": 3.96, "held_out": False, "licence": "MIT"},
        {"name": "b", "seconds": 2.0, "held_out": True, "licence": ""},
        {"name": "c", "seconds": 3.02, "held_out": False, "licence": ""},
    ]


# --- Files -----------------------------------------------------------------------------------------------------------


def test_save_and_load(dataset: MotionDataset, tmp_path: Path) -> None:
    dataset.save(tmp_path / "data" / "set.safetensors")
    loaded = MotionDataset.load(tmp_path / "data" / "set.safetensors")
    for field in dataclasses.fields(dataset):
        first, second = getattr(dataset, field.name), getattr(loaded, field.name)
        assert first.equal(second) if isinstance(first, torch.Tensor) else first == second
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["set.safetensors"]
    (tmp_path / "usual").touch()
    modes = [stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "usual", tmp_path / "data" / "set.safetensors")]
    assert modes[0] == modes[1]


def test_broken_files_are_named(dataset: MotionDataset, tmp_path: Path) -> None:
    file = tmp_path / "set.safetensors"
    with pytest.raises(FileNotFoundError, match=r"set\.safetensors: no such dataset file"):
        MotionDataset.load(file)
    dataset.save(file)
    content = file.read_bytes()
    for broken in (content[:-100], content[:50], b"", b"garbage" * 100):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=r"set\.safetensors: truncated, damaged or not a dataset") as error:
            MotionDataset.load(file)
        assert "\n" not in str(error.value)
    file.write_bytes(content)
    save_file(load_file(str(file)), str(file))
    with pytest.raises(ValueError, match=r"set\.safetensors: format None"):
        MotionDataset.load(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": torch.zeros(454, 5)}, "field 'states': shape"),
        ({"commands": torch.full((453, 3), float("nan"))}, "field 'commands', row 0: not a finite number"),
        ({"clip_index": torch.full((453,), 7)}, "field 'clip_index' names clips that are not there"),
        ({"held_out": (True,)}, "'clip_names', 'held_out' and 'licences' differ in length"),
    ],
)
def test_inconsistent_files_are_named(
    dataset: MotionDataset, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    assert dataset.num_frames == 453
    dataclasses.replace(dataset, **change).save(tmp_path / "set.safetensors")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"set\.safetensors: " + message):
        MotionDataset.load(tmp_path / "set.safetensors")
