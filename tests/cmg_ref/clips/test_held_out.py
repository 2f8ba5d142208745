"""Holding out clips and parts of clips."""

from __future__ import annotations

from typing import Callable

import pytest

from cmg_ref.clips.held_out import RECOMMENDED, default_held_out, split_held_out
from cmg_ref.clips.motion_clip import ClipError, MotionClip

MakeClip = Callable[..., MotionClip]


def names(clips: list[MotionClip], *entries: str) -> list[tuple[str, int, bool]]:
    return [(part.name, part.num_frames, held_out) for part, held_out in split_held_out(clips, entries)]


def test_whole_clips_and_parts(make_clip: MakeClip) -> None:
    clips = [make_clip(seconds=10.0, name=name) for name in ("a", "b", "c")]
    assert names(clips, "b", "c[2:4.5]") == [
        ("a", 501, False),
        ("b", 501, True),
        ("c[0.0:2.0]", 100, False),
        ("c[2.0:4.5]", 125, True),
        ("c[4.5:10.0]", 276, False),
    ]


def test_open_ends_and_several_parts(make_clip: MakeClip) -> None:
    clip = make_clip(seconds=10.0, name="a")
    parts = split_held_out([clip], ["a[8:]", "a[:1]"])
    assert [(part.num_frames, held_out) for part, held_out in parts] == [(50, True), (350, False), (101, True)]
    assert parts[1][0].dof_pos.equal(clip.dof_pos[50:400])
    assert [held_out for _, held_out in split_held_out([clip], ["a[0:1]", "a[1:2]"])] == [True, True, False]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("walk_2", "none of the 1 clips is called so; similar: walk_1"),
        ("walk_1[3:2]", "empty, beyond the clip, or overlapping"),
        ("walk_1[20:30]", "empty, beyond the clip, or overlapping"),
        ("walk_1[.:2]", "needs the name of a clip"),
        ("\n", "needs the name of a clip"),
        ("]" * 100_000, "the name of a clip|none of the 1 clips"),
        ("9" * 100_000, "none of the 1 clips is called so; similar: none"),
    ],
)
def test_bad_entries(make_clip: MakeClip, entry: str, message: str) -> None:
    with pytest.raises(ClipError, match=message) as error:
        split_held_out([make_clip(name="walk_1")], [entry])
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_overlapping_parts(make_clip: MakeClip) -> None:
    with pytest.raises(ClipError, match="overlapping"):
        split_held_out([make_clip(name="walk_1")], ["walk_1[0:2]", "walk_1[1:3]"])


def test_default_takes_known_parts_or_tails(make_clip: MakeClip) -> None:
    known = make_clip(fps=2.0, seconds=120.0, name="run1_subject2")
    other, short = make_clip(fps=2.0, seconds=50.0, name="mine"), make_clip(fps=2.0, seconds=20.0, name="short")
    assert default_held_out([known, other]) == ["run1_subject2[60:90]"]
    assert default_held_out([other, short]) == ["mine[45:]"]
    assert default_held_out([make_clip(fps=2.0, seconds=20.0, name="run1_subject2")]) == []
    for entry in RECOMMENDED:
        clip = make_clip(fps=2.0, seconds=300.0, name=entry.split("[")[0])
        assert any(held_out for _, held_out in split_held_out([clip], [entry]))
