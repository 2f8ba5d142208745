"""The training data of a CMG: clips at one frame rate as motion states with the command that describes each frame."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Sequence

import torch
from safetensors.torch import save_file

from cmg_ref.clips.command_measures import measured_commands
from cmg_ref.clips.held_out import split_held_out
from cmg_ref.clips.lowering import lowered, random_depths
from cmg_ref.clips.motion_clip import ClipError, MotionClip, moving_average, time_derivative
from cmg_ref.clips.quality import floor_offset, quality_mask, quality_report
from cmg_ref.clips.repair import keep_apart
from cmg_ref.core.command_layout import VELOCITY, CommandLayout
from cmg_ref.core.progress import ProgressBar
from cmg_ref.core.shorten import reason, shortened
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.files.atomic_file import atomic_file
from cmg_ref.files.json_text import parse_json
from cmg_ref.files.plain_arrays import MAX_NAMES
from cmg_ref.files.tensor_file import read_tensor_file
from cmg_ref.robots.registry import FIRST_ROBOT
from cmg_ref.robots.robot import Robot

FORMAT = "cmg_ref dataset 1"
TENSORS = ("states", "commands", "valid", "clip_index")
COMMAND_TIME = 0.8
"""The command of a frame is the centred average of what it does over this time [s]: about one stride."""
LOWERED_SPEED = 1.3
"""Nobody runs in a crouch: faster motion [m/s] is not lowered."""
MAX_FLOOR_OFFSET = 0.05
"""Clips whose soles stand this near to z = 0 [m] are shifted onto the floor; others are left alone."""


@dataclass
class MotionDataset:
    """Frames of all clips, one after another.

    Attributes:
        states: Motion states in the order of `layout`, (num_frames, layout.size) float32.
        commands: What is measured of each channel on average around each frame, (num_frames, command_dim) float32.
        valid: Frames that passed the quality checks, (num_frames,) bool.
        clip_index: Clip of each frame, (num_frames,) long.
        clip_names: Names of the clips.
        held_out: For each clip whether it is kept out of training.
        licences: Licence terms of each clip, "" where unknown.
        fps: Frame rate.
        joint_names: Order of the joints in the states.
        robot: Name of the robot; files that name none are of the G1.
        command_layout: Channels of the commands.
    """

    states: torch.Tensor
    commands: torch.Tensor
    valid: torch.Tensor
    clip_index: torch.Tensor
    clip_names: tuple[str, ...]
    held_out: tuple[bool, ...]
    licences: tuple[str, ...]
    fps: float
    joint_names: tuple[str, ...]
    robot: str = FIRST_ROBOT
    command_layout: CommandLayout = field(default_factory=CommandLayout)

    @property
    def layout(self) -> StateLayout:
        """Layout of the states: joints and root channels, and the phase of the stride where they have it."""
        phase = StateLayout.with_phase(len(self.joint_names))
        return phase if self.states.shape[-1:] == (phase.size,) else StateLayout.with_root(len(self.joint_names))

    @property
    def num_frames(self) -> int:
        """Number of frames, valid or not."""
        return self.states.shape[0]

    @property
    def frame_held_out(self) -> torch.Tensor:
        """For each frame whether its clip is kept out of training, (num_frames,) bool."""
        return torch.tensor(self.held_out, dtype=torch.bool)[self.clip_index]

    def windows(self, length: int, held_out: bool | None = None) -> torch.Tensor:
        """First frames of all windows of consecutive valid frames of one clip.

        Args:
            length: Frames in a window.
            held_out: Only windows of held-out (True) or training (False) clips; None for both.

        Returns:
            Frame indices, (num_windows,) long; frames start to start + length - 1 are valid and of one clip.
        """
        if length < 1:
            raise ValueError(f"windows need a length of at least 1, got {length}")
        if self.num_frames < length:
            return torch.zeros(0, dtype=torch.long)
        usable = self.valid if held_out is None else self.valid & (self.frame_held_out == held_out)
        count = torch.cat([torch.zeros(1, dtype=torch.long), usable.long().cumsum(dim=0)])
        whole = count[length:] - count[:-length] == length
        same_clip = self.clip_index[length - 1 :] == self.clip_index[: self.num_frames - length + 1]
        return (whole & same_clip).nonzero().squeeze(1)

    def speed_summary(self, held_out: bool | None = None) -> dict[str, float]:
        """Seconds of valid frames in bands of the command, so that rare motions show.

        Args:
            held_out: Only held-out (True) or training (False) clips; None for both.

        Returns:
            Band to seconds; a frame belongs to exactly one band.
        """
        usable = self.valid if held_out is None else self.valid & (self.frame_held_out == held_out)
        bands = speed_bands(self.commands[usable])
        seconds = {band: float(members.sum()) / self.fps for band, members in bands.items()}
        seconds["between these"] = (int(usable.sum()) / self.fps) - sum(seconds.values())
        return seconds

    def description(self) -> dict[str, object]:
        """What a model card tells of the data, JSON-ready: clips with seconds and licence, and the speed coverage."""
        num_clips = len(self.clip_names)
        seconds = torch.bincount(self.clip_index[self.valid], minlength=num_clips).double() / self.fps
        clips = [
            {"name": name, "seconds": round(kept, 2), "held_out": held_out, "licence": licence}
            for name, kept, held_out, licence in zip(self.clip_names, seconds.tolist(), self.held_out, self.licences)
        ]
        return {
            "fps": self.fps,
            "clips": clips,
            "training_seconds": self.speed_summary(held_out=False),
            "held_out_seconds": self.speed_summary(held_out=True),
        }

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file; the old file stays whole until the new one is."""
        described = {
            "fps": self.fps,
            "joint_names": self.joint_names,
            "layout": self.layout.to_json(),
            "command_layout": self.command_layout.to_json(),
            "clip_names": self.clip_names,
            "held_out": self.held_out,
            "licences": self.licences,
            "robot": self.robot,
        }
        metadata = {"format": FORMAT, **{key: json.dumps(value) for key, value in described.items()}}
        tensors = {name: getattr(self, name).contiguous() for name in TENSORS}
        with atomic_file(path) as temporary:
            save_file(tensors, str(temporary), metadata)

    @classmethod
    def load(cls, path: str | Path) -> MotionDataset:
        """Reads a dataset file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: One line that names the file and what is wrong with it.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such dataset file; make one with scripts/prepare_data.py")
        metadata, tensors = read_tensor_file(Path(path), ValueError, "a dataset")
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{path}: format {shortened(metadata.get('format'))}, needs '{FORMAT}'")
        try:
            described = {key: parse_json(value) for key, value in metadata.items() if key != "format"}
            held_out = described["held_out"]
            if not isinstance(held_out, list) or not all(isinstance(one, bool) for one in held_out):
                raise ValueError("'held_out' is no list of true and false")
            dataset = cls(
                **{name: tensors[name] for name in TENSORS},
                clip_names=_texts("clip_names", described),
                held_out=tuple(held_out),
                licences=_texts("licences", described),
                fps=float(described["fps"]),
                joint_names=_texts("joint_names", described),
                robot=str(described.get("robot", FIRST_ROBOT)),
                command_layout=CommandLayout.from_json(described.get("command_layout")),
            )
            layout = described["layout"]
        except KeyError as error:
            raise ValueError(f"{path}: truncated, damaged or not a dataset (has no {reason(error)})") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path}: truncated, damaged or not a dataset ({reason(error)})") from error
        dataset._check(str(path), layout)
        return dataset

    def _check(self, path: str, layout: object) -> None:
        if not 1.0 <= self.fps <= 1000.0:
            raise ValueError(f"{path}: field 'fps': {self.fps} is not a frame rate between 1 and 1000")
        if not 0 < len(self.joint_names) <= MAX_NAMES or len(set(self.joint_names)) != len(self.joint_names):
            raise ValueError(f"{path}: field 'joint_names': needs names of joints, each once")
        if layout != self.layout.to_json():
            raise ValueError(f"{path}: field 'layout' is not that of joints and root")
        if self.states.ndim != 2:
            raise ValueError(f"{path}: field 'states': shape {tuple(self.states.shape)}, needs a table")
        shapes = {
            "states": (self.num_frames, self.layout.size),
            "commands": (self.num_frames, self.command_layout.size),
            "valid": (self.num_frames,),
            "clip_index": (self.num_frames,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{path}: field '{name}': shape {tuple(getattr(self, name).shape)}, needs {shape}")
        dtypes = {"states": torch.float32, "commands": torch.float32, "valid": torch.bool, "clip_index": torch.long}
        for name, dtype in dtypes.items():
            if getattr(self, name).dtype != dtype:
                raise ValueError(f"{path}: field '{name}': holds {getattr(self, name).dtype}, needs {dtype}")
        for name in ("states", "commands"):
            bad = (~torch.isfinite(getattr(self, name))).any(dim=-1)
            if bad.any():
                raise ValueError(f"{path}: field '{name}', row {int(bad.nonzero()[0])}: not a finite number")
        if not len(self.clip_names) == len(self.held_out) == len(self.licences):
            raise ValueError(f"{path}: 'clip_names', 'held_out' and 'licences' differ in length")
        if self.num_frames and not 0 <= int(self.clip_index.min()) <= int(self.clip_index.max()) < len(self.clip_names):
            raise ValueError(f"{path}: field 'clip_index' names clips that are not there")


def _texts(field: str, described: Mapping[str, object]) -> tuple[str, ...]:
    """A list of texts from JSON."""
    value = described[field]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"'{field}' is no list of texts")
    return tuple(value)


@dataclass
class ClipSummary:
    """What became of one clip.

    Attributes:
        name: Name of the clip.
        num_frames: Frames at the dataset's rate.
        num_kept: Frames that passed.
        rejected: Cause to number of frames; a frame may have several causes.
        floor_offset: Height at which the soles stood before the clip was put on the floor [m].
        held_out: Whether it is kept out of training.
    """

    name: str
    num_frames: int
    num_kept: int
    rejected: dict[str, int]
    floor_offset: float
    held_out: bool


def build_dataset(
    clips: Sequence[MotionClip],
    robot: Robot,
    fps: float = 50.0,
    held_out: Sequence[str] = (),
    licences: Mapping[str, str] | None = None,
    progress: bool = False,
    command_layout: CommandLayout | None = None,
) -> MotionDataset:
    """Makes a dataset of clips; see `build_dataset_with_summary`."""
    return build_dataset_with_summary(clips, robot, fps, held_out, licences, progress, command_layout)[0]


def build_dataset_with_summary(
    clips: Sequence[MotionClip],
    robot: Robot,
    fps: float = 50.0,
    held_out: Sequence[str] = (),
    licences: Mapping[str, str] | None = None,
    progress: bool = False,
    command_layout: CommandLayout | None = None,
    repair: bool = False,
    lowered_copies: int = 0,
) -> tuple[MotionDataset, list[ClipSummary]]:
    """Resamples clips, puts them on the floor, judges their frames and describes them by states and commands.

    Velocities are central differences of the resampled positions, so that the two agree by construction.

    Args:
        clips: The clips, in any joint order.
        robot: Gives the joint order, limits and soles.
        fps: Frame rate of the dataset.
        held_out: Clips to keep out of training: a name, or `name[start:end]` in seconds for a part, which then becomes
            a clip of its own.
        licences: Licence terms by clip name or by the name of a folder above the clip.
        progress: Whether to show a progress bar.
        command_layout: Channels of the commands; those of the velocity by default.
        repair: Whether arms that reach into the body are moved out of it.
        lowered_copies: Copies of each clip with the body lowered by changing depths, see `lowering`; the clips as they
            are count as motion at rest in `base_height`.

    Returns:
        The dataset and a summary of each clip.

    Raises:
        ClipError: Two clips have one name, a clip cannot be used, `held_out` names no clip, or a channel of the
            commands cannot be measured.
    """
    command_layout = command_layout or CommandLayout()
    names = [clip.name for clip in clips]
    if not names:
        raise ClipError("no clips to make a dataset of")
    for name in names:
        if names.count(name) > 1:
            sources = " and ".join(clip.source for clip in clips if clip.name == name)
            raise ClipError(f"two clips are called '{name}': {sources}")
    parts = split_held_out(clips, held_out)
    if lowered_copies and "base_height" not in command_layout.names:
        raise ClipError("lowered clips need the command channel 'base_height', which tells how low")

    generator = torch.Generator().manual_seed(0)
    kept: list[MotionClip] = []
    states, commands, valids, summaries = [], [], [], []
    for part, is_held_out in ProgressBar(parts, desc="dataset", unit="clip", disable=not progress):
        clip = part.reordered(robot).resample(fps)
        offset = floor_offset(clip, robot)
        if abs(offset) < MAX_FLOOR_OFFSET:
            on_floor = clip.root_pos - torch.tensor([0.0, 0.0, offset], dtype=torch.float64)
            clip = dataclasses.replace(clip, root_pos=on_floor)
        if repair:
            clip = keep_apart(clip, robot)
        report = quality_report(clip, robot)
        found = [(clip, quality_mask(report), report)]
        found += [_lowered_copy(clip, robot, found[0][1], number, generator) for number in range(lowered_copies)]
        for number, (clip, valid, report) in enumerate(found):
            command = average_command(clip, valid, command_layout).float()
            if lowered_copies and number == 0:  # What is as high as people walk is as high as nobody asked for.
                column = command_layout.column("base_height")
                command[:, column] = command_layout.rest()[column]
            states.append(clip_states(clip).float())
            commands.append(command)
            valids.append(valid)
            kept.append(clip)
            rejected = {cause: int(frames.sum()) for cause, frames in report.items()}
            summaries.append(ClipSummary(clip.name, clip.num_frames, int(valid.sum()), rejected, offset, is_held_out))
    dataset = MotionDataset(
        states=torch.cat(states),
        commands=torch.cat(commands),
        valid=torch.cat(valids),
        clip_index=torch.repeat_interleave(torch.tensor([len(valid) for valid in valids])),
        clip_names=tuple(clip.name for clip in kept),
        held_out=tuple(summary.held_out for summary in summaries),
        licences=tuple(_licence(clip, licences or {}) for clip in kept),
        fps=fps,
        joint_names=robot.joint_names,
        robot=robot.spec.name,
        command_layout=command_layout,
    )
    return dataset, summaries


def _lowered_copy(
    clip: MotionClip, robot: Robot, valid: torch.Tensor, number: int, generator: torch.Generator
) -> tuple[MotionClip, torch.Tensor, dict[str, torch.Tensor]]:
    """A clip with its body lowered, the frames fit for use, and why others are not."""
    copy, reached = lowered(clip, robot, random_depths(clip.num_frames, clip.fps, generator))
    copy = dataclasses.replace(copy, name=f"{clip.name} lowered {number + 1}")
    speed = moving_average(clip.root_lin_vel_h()[:, :2], round(0.5 * COMMAND_TIME * clip.fps)).norm(dim=-1)
    report = {
        "not fit before": ~valid,
        "out of reach": ~reached,
        "too fast": speed > LOWERED_SPEED,
        "jump": quality_report(copy, robot)["jump"],
    }
    return copy, quality_mask(report), report


def speed_bands(commands: torch.Tensor) -> dict[str, torch.Tensor]:
    """Kinds of motion, and which of the commands (n, command_dim) are each, (n,) bool: one at most."""
    forward, sideways, turning = commands[:, VELOCITY].unbind(dim=-1)
    slow = forward.abs() < 0.2
    bands = {
        "standing": slow & (sideways.abs() < 0.1) & (turning.abs() < 0.3),
        "turning on the spot": slow & (sideways.abs() < 0.15) & (turning.abs() >= 0.3),
        "sideways": (sideways.abs() >= 0.15) & (sideways.abs() > forward.abs()),
        "backward": forward <= -0.2,
        "0.2 to 1.0 m/s": (forward >= 0.2) & (forward < 1.0),
        "1.0 to 1.5 m/s": (forward >= 1.0) & (forward < 1.5),
        "1.5 to 2.0 m/s": (forward >= 1.5) & (forward < 2.0),
        "2.0 to 3.0 m/s": (forward >= 2.0) & (forward < 3.0),
        "above 3.0 m/s": forward >= 3.0,
    }
    left = torch.ones_like(slow)
    for band in bands:
        bands[band] = bands[band] & left
        left = left & ~bands[band]
    return bands


def clip_states(clip: MotionClip) -> torch.Tensor:
    """Motion states with root of a clip, (num_frames, layout.size) float64, in the clip's joint order."""
    channels = {
        "dof_pos": clip.dof_pos,
        "dof_vel": time_derivative(clip.dof_pos, clip.fps),
        "root_height": clip.root_height()[:, None],
        "projected_gravity": clip.projected_gravity(),
        "root_lin_vel_h": clip.root_lin_vel_h(),
        "root_yaw_rate": clip.root_yaw_rate()[:, None],
    }
    layout = StateLayout.with_root(len(clip.joint_names))
    return torch.cat([channels[name] for name in layout], dim=-1)


def average_command(clip: MotionClip, valid: torch.Tensor, layout: CommandLayout | None = None) -> torch.Tensor:
    """The command that describes each frame: what the clip does on average around it.

    Args:
        clip: The clip.
        valid: Runs of equal values are averaged apart from each other, (num_frames,) bool.
        layout: Channels of a command; those of the velocity by default.

    Returns:
        Centred averages over COMMAND_TIME, over less at the ends of a run, (num_frames, command_dim) float64.
    """
    measured = measured_commands(clip, layout or CommandLayout())
    return moving_average(measured, round(0.5 * COMMAND_TIME * clip.fps), runs=valid)


def _licence(clip: MotionClip, licences: Mapping[str, str]) -> str:
    for name in (clip.name.split("[")[0], *reversed(Path(clip.source).parts)):
        if name in licences:
            return licences[name]
    return ""
