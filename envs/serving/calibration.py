"""What to tell the generator so that a low level, which follows a little slowly, does what is commanded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmg_ref.core.shorten import reason, shortened
from cmg_ref.files.atomic_file import write_file
from cmg_ref.files.input_file import MEBIBYTE, check_input_file
from cmg_ref.files.json_text import parse_json

KIND = "cmg_ref command calibration"
AXES = ("vx", "vy", "wz")


class CalibrationError(ValueError):
    """A calibration that cannot be used; the message is one line that names the file."""


@dataclass(frozen=True)
class Calibration:
    """Corrections along each axis of the command; those of a mixed command add up.

    Attributes:
        commands: For each axis, commands along it that were learnt, rising, (num_points,) [m/s or rad/s].
        corrections: What is added to the whole command there, (num_points, 3).
        about: What it was learnt with.
    """

    commands: tuple[np.ndarray, ...]
    corrections: tuple[np.ndarray, ...]
    about: dict[str, Any]

    def told(self, command: np.ndarray) -> np.ndarray:
        """What to tell the generator for a command, (3,) each; beyond the last point its correction holds."""
        result = np.array(command, dtype=float)
        for value, points, corrections in zip(command, self.commands, self.corrections):
            result += [np.interp(value, points, corrections[:, column]) for column in range(3)]
        return result

    def write(self, path: str | Path) -> None:
        """Write it as JSON."""
        axes = {
            name: {"command": points.round(4).tolist(), "correction": corrections.round(4).tolist()}
            for name, points, corrections in zip(AXES, self.commands, self.corrections)
        }
        write_file(path, json.dumps({"kind": KIND, "about": self.about, "axes": axes}, indent=1) + "\n")


def load_calibration(path: str | Path) -> Calibration:
    """Read a calibration.

    Raises:
        CalibrationError: The file is missing or is no calibration.
    """
    path = Path(path)
    check_input_file(path, CalibrationError, MEBIBYTE)
    try:
        text = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: is not valid JSON: {reason(error)}") from error
    if not isinstance(text, dict) or text.get("kind") != KIND:
        raise CalibrationError(f"{path}: holds no calibration; --calibrate writes one")
    commands, corrections = [], []
    for name in AXES:
        try:
            points = np.array(text["axes"][name]["command"], dtype=float)
            added = np.array(text["axes"][name]["correction"], dtype=float)
        except (KeyError, TypeError, ValueError) as error:
            raise CalibrationError(f"{path}: {name}: needs lists of numbers ({shortened(error)})") from error
        sound = points.ndim == 1 and len(points) > 1 and added.shape == (len(points), 3)
        if not sound or not np.isfinite(points).all() or not np.isfinite(added).all() or np.diff(points).min() <= 0.0:
            raise CalibrationError(f"{path}: {name}: needs rising commands and three finite numbers for each")
        commands.append(points)
        corrections.append(added)
    return Calibration(tuple(commands), tuple(corrections), dict(text.get("about") or {}))
