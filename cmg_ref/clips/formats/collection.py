"""Reading many clips: what one leaves open, the others of its folder may tell, and users are told things once."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from pathlib import Path
from typing import Callable, Iterable, Sequence, TypeVar

from cmg_ref.clips.formats.clip_files import clip_names, find_clips, listed
from cmg_ref.clips.formats.readers import OpenClipError, Unsaid, read_unsaid_clip
from cmg_ref.clips.motion_clip import ClipError, ClipWarning, MotionClip
from cmg_ref.robots.robot import Robot

_Answer = TypeVar("_Answer")


def read_clips(
    paths: Sequence[str | Path],
    robot: Robot,
    csv_fps: float | None = None,
    quat_order: str | None = None,
    skip_broken: bool = False,
    say: Callable[[str], None] | None = None,
    progress: Callable[[list[Path]], Iterable[Path]] = iter,
) -> list[MotionClip]:
    """Reads all clips among files and folders, each under a name of its own.

    Where neither a file nor its motion tells the order of its quaternions or joints, it is that of the other clips of
    the same kind in the same folder, if those that do tell agree.

    Args:
        paths: Files, and folders that are searched to any depth.
        robot: Robot whose joints the clips must have.
        csv_fps: Frame rate of files that do not carry their own; that of the robot's clips if not given.
        quat_order: "xyzw" or "wxyz", for formats that have both.
        skip_broken: Whether clips that cannot be read are left out, which `say` tells, instead of being an error.
        say: Takes one line on what was assumed or left out; a `ClipWarning` if not given.
        progress: Wraps the list of files that are read one after another, as `tqdm` does.

    Returns:
        The clips, named by their file's stem, with its folders before it where others share that.

    Raises:
        ClipError: A path does not exist or holds no clip, or a clip cannot be read.
    """
    say = _warn if say is None else say
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ClipWarning)
        files = find_clips(paths)
    for warning in caught:
        say(str(warning.message))

    clips: dict[Path, MotionClip] = {}
    told: dict[Path, Unsaid] = {}
    unread: dict[Path, ClipError] = {}
    for file in progress(files):
        told[file] = Unsaid(csv_fps, quat_order)
        try:
            clips[file] = read_unsaid_clip(file, robot, told[file])
        except ClipError as error:
            if not (skip_broken or isinstance(error, OpenClipError)):
                raise
            unread[file] = error
    for file, problem in unread.items():
        if isinstance(problem, OpenClipError):
            others = [told[other] for other in clips if _same_kind(file, other)]
            orders = {other.quat_order for other in others} - {None}
            joints = {other.joint_names for other in others} - {None}
            told[file] = Unsaid(csv_fps, quat_order or _only(orders), _only(joints))
            with contextlib.suppress(ClipError):
                clips[file] = read_unsaid_clip(file, robot, told[file])
                told[file].notices.append("what is left open here is taken from the other clips of the folder")
                continue
        if not skip_broken:
            raise problem
        say(f"left out {problem}")

    read = [file for file in files if file in clips]
    names = dict(zip(read, clip_names(read)))
    notices: dict[str, list[str]] = {}
    for file in read:
        for notice in told[file].notices:
            notices.setdefault(notice, []).append(names[file])
    for notice, about in notices.items():
        say(f"{listed(about)}: {notice}")
    return [dataclasses.replace(clips[file], name=names[file]) for file in read]


def _same_kind(file: Path, other: Path) -> bool:
    return file.parent == other.parent and file.suffix.lower() == other.suffix.lower()


def _only(answers: set[_Answer | None]) -> _Answer | None:
    """What others told, if they agree."""
    return next(iter(answers)) if len(answers) == 1 else None


def _warn(line: str) -> None:
    warnings.warn(line, ClipWarning, stacklevel=3)
