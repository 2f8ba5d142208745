"""Which clips, or parts of clips, are kept out of training to judge it by."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from typing import Sequence

from cmg_ref.clips.motion_clip import ClipError, MotionClip
from cmg_ref.core.shorten import listed, shortened

RECOMMENDED = (
    "walk1_subject1",
    "run1_subject2[60:90]",
    "run2_subject4[100:150]",
    "sprint1_subject2[200:230]",
    "0807_yanjie_walk_003",
    "0807_yanjie_walk_007",
    "cmu_06_01_poses_120_jpos",
)
"""For the LAFAN1, TWIST2 and AMASS clips: about a tenth of every kind of motion, standing to sprinting.

Parts rather than whole takes, because each take holds speeds of which there is little elsewhere.
"""
TAIL_SHARE = 0.1
"""Share held out at the end of each clip of an unknown collection."""
MIN_TAIL_CLIP = 30.0
"""Clips shorter than this are not cut for it [s]."""

_ENTRY = re.compile(r"(?P<name>.+?)(\[(?P<start>\d*\.?\d*):(?P<end>\d*\.?\d*)\])?")


def default_held_out(clips: Sequence[MotionClip]) -> list[str]:
    """The recommended parts that are among the clips; if there are none, the last tenth of every longer clip."""
    durations = {clip.name: clip.duration for clip in clips}
    known = [entry for entry in RECOMMENDED if _parse(entry)[1] < durations.get(_parse(entry)[0], 0.0)]
    if known:
        return known
    return [
        f"{name}[{math.floor(duration * (1.0 - TAIL_SHARE))}:]"
        for name, duration in durations.items()
        if duration >= MIN_TAIL_CLIP
    ]


def split_held_out(clips: Sequence[MotionClip], held_out: Sequence[str]) -> list[tuple[MotionClip, bool]]:
    """Cuts clips where a part of them is held out.

    Args:
        clips: The clips, with unique names.
        held_out: Names, or `name[start:end]` in seconds for a part.

    Returns:
        Clips and parts of clips, each with whether it is held out. A part is called `name[start:end]`.

    Raises:
        ClipError: An entry is malformed, names no clip, lies beyond it or overlaps another.
    """
    ranges: dict[str, list[tuple[float, float]]] = {}
    for entry in held_out:
        name, start, end = _parse(entry)
        ranges.setdefault(name, []).append((start, end))
    known = [clip.name for clip in clips]
    for name in ranges:
        if name not in known:
            similar = listed(difflib.get_close_matches(name, known, n=5, cutoff=0.3)) or "none"
            raise ClipError(
                f"held-out {shortened(name)}: none of the {len(known)} clips is called so; similar: {similar}"
            )

    parts: list[tuple[MotionClip, bool]] = []
    for clip in clips:
        cuts = [0]
        for start, end in sorted(ranges.get(clip.name, [])):
            first = round(start * clip.fps)
            last = clip.num_frames if end >= clip.duration else round(end * clip.fps)
            if not cuts[-1] <= first < last:
                part = f"{clip.name}[{start:g}:{end:g}]"
                raise ClipError(f"held-out {shortened(part)}: empty, beyond the clip, or overlapping another part")
            cuts += [first, last]
        cuts.append(clip.num_frames)
        # Pieces between cuts are in turn kept for training and held out; the first or last may be empty.
        for index, (first, last) in enumerate(zip(cuts[:-1], cuts[1:])):
            if last == first:
                continue
            whole = last - first == clip.num_frames
            name = clip.name if whole else f"{clip.name}[{first / clip.fps:.1f}:{last / clip.fps:.1f}]"
            parts.append((dataclasses.replace(clip.slice(first, last), name=name), index % 2 == 1))
    return parts


def _parse(entry: str) -> tuple[str, float, float]:
    """Name, start and end [s] of a held-out entry."""
    match = _ENTRY.fullmatch(entry)
    if match is None or match["start"] == "." or match["end"] == ".":
        raise ClipError(f"held-out {shortened(entry)}: needs the name of a clip or name[start:end] in seconds")
    return match["name"], float(match["start"] or 0.0), float(match["end"] or math.inf)
