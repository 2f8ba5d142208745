"""Clip files in folders: which there are, and what to call each."""

from __future__ import annotations

import collections
import warnings
from pathlib import Path
from typing import Sequence

from cmg_ref.clips.motion_clip import ClipError, ClipWarning

CLIP_SUFFIXES = (".csv", ".npz", ".pkl")
NUM_LISTED = 5
"""Names that a message lists before it says how many more there are."""


def find_clips(paths: Sequence[str | Path]) -> list[Path]:
    """All clip files among files and, searched to any depth, folders; sorted within each folder, none twice.

    Endings count in any case. Files and folders whose names begin with a dot are left alone: they are an editor's, an
    operating system's or a writer's own. A `ClipWarning` lists the other files of a folder that are no clips.

    Raises:
        ClipError: A path does not exist or holds no clip.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        inside = [path]
        if path.is_dir():
            files = [
                file
                for file in sorted(path.rglob("*"))
                if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
            ]
            inside = [file for file in files if file.suffix.lower() in CLIP_SUFFIXES]
            if not inside:
                raise ClipError(f"{path}: no clip ({', '.join(CLIP_SUFFIXES)}) in this folder")
            others = [str(file.relative_to(path)) for file in files if file.suffix.lower() not in CLIP_SUFFIXES]
            if others:
                warnings.warn(f"{path}: not read, since no clips: {listed(others)}", ClipWarning, stacklevel=2)
        elif not path.is_file():
            raise ClipError(f"{path}: no such file or folder")
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def clip_names(paths: Sequence[Path]) -> list[str]:
    """A name of its own for every file: its stem, with as many folders before it as it takes.

    The ending is part of the name where a file differs from another in nothing else.
    """
    places = [path.absolute() for path in paths]
    files_at = collections.Counter(place.with_suffix("") for place in places)
    tails = collections.Counter(tail for place in files_at for tail in _tails(place))
    names = []
    for place in places:
        bare = place.with_suffix("")
        name = next((tail for tail in _tails(bare) if tails[tail] == 1), str(bare))
        names.append(name + place.suffix if files_at[bare] > 1 else name)
    return names


def _tails(place: Path) -> list[str]:
    """The last one, two, ... parts of a path."""
    parts = place.parts[1:]
    return ["/".join(parts[-length:]) for length in range(1, len(parts) + 1)]


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NUM_LISTED
    return ", ".join(names[:NUM_LISTED]) + (f" and {more} more" if more > 0 else "")
