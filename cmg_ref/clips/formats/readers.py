"""Readers of the clip formats that are in use: `read_clip` finds out which one a file is.

| format | reader |
|---|---|
| LAFAN1 for the G1 (Unitree): CSV of root x y z, root quaternion and joint angles | `read_lafan1_csv` |
| AMASS for the G1: npz with `dof_names`, `dof_positions`, `body_positions`, ... | `read_amass_npz` |
| GMR and TWIST: pickle with `fps`, `root_pos`, `root_rot`, `dof_pos`, ... | `read_twist_pickle` |
| BeyondMimic and mjlab: npz with `joint_pos`, `body_pos_w`, `body_quat_w`, ... | `read_mjlab_npz` |
| this project: npz with `dof_pos`, `root_quat_xyzw`, ... | `read_cmg_npz` |

No reader runs code from a file. Whatever is wrong with a file is a one-line `ClipError` that names file, field and row.
What a file leaves unsaid (joint names, order of quaternions, frame rate) is told from the motion where that can be, and
never assumed without a `ClipWarning`: see `Unsaid`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Mapping, Sequence, Union

import numpy as np

from cmg_ref.clips.formats.clip_files import CLIP_SUFFIXES, find_clips
from cmg_ref.clips.formats.joint_order import check_number, known_numbers, order_of_bodies
from cmg_ref.clips.formats.npz_file import npz_fields, read_npz
from cmg_ref.clips.formats.pickled_arrays import load_pickled_arrays
from cmg_ref.clips.formats.quaternion_order import ORDERS
from cmg_ref.clips.formats.recorded_bodies import RecordedBodies
from cmg_ref.clips.formats.unsaid import ClipNumbers, OpenClipError, Unsaid, checked_clip
from cmg_ref.clips.motion_clip import ClipError, ClipWarning, MotionClip
from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.shorten import listed, reason, shortened
from cmg_ref.files.input_file import MEBIBYTE, check_input_file
from cmg_ref.files.json_text import parse_json
from cmg_ref.files.plain_arrays import kind_of, names_of
from cmg_ref.robots.robot import Robot, load_robot

__all__ = [
    "CLIP_SUFFIXES",
    "ROOT_COLUMNS",
    "OpenClipError",
    "Unsaid",
    "find_clips",
    "read_amass_npz",
    "read_clip",
    "read_cmg_npz",
    "read_lafan1_csv",
    "read_mjlab_npz",
    "read_twist_pickle",
    "read_unsaid_clip",
]

PathLike = Union[str, Path]

ROOT_COLUMNS = ("root_x", "root_y", "root_z", "root_qx", "root_qy", "root_qz", "root_qw")


def read_clip(
    path: PathLike,
    fps: float | None = None,
    robot: Robot | str | Path = "g1",
    quat_order: str | None = None,
    joint_names: Sequence[str] | None = None,
) -> MotionClip:
    """Reads a clip of any known format, told by its content.

    What was assumed, because neither file nor caller tells it, is said in a `ClipWarning`.

    Args:
        path: The file.
        fps: Frame rate of a file that does not carry its own (CSV); that of the robot's clips if not given.
        robot: Robot whose joints the clip must have, or its name or description as `load_robot` takes it.
        quat_order: "xyzw" or "wxyz", for formats that have both (CSV, pickles); told from the motion if not given.
        joint_names: Names of the columns of a file that does not name its joints; told from the motion if not given.

    Returns:
        The checked clip in the robot's joint order.

    Raises:
        OpenClipError: Neither file nor motion tells what the numbers mean.
        ClipError: The format is unknown, or something in the file is wrong.
        RobotError: There is no such robot.
    """
    robot = robot if isinstance(robot, Robot) else load_robot(robot)
    unsaid = Unsaid(fps, quat_order, None if joint_names is None else tuple(joint_names))
    clip = read_unsaid_clip(path, robot, unsaid)
    for notice in unsaid.notices:
        warnings.warn(f"{path}: {notice}", ClipWarning, stacklevel=2)
    return clip


def read_unsaid_clip(path: PathLike, robot: Robot, unsaid: Unsaid) -> MotionClip:
    """Reads a clip as `read_clip` does; what the file leaves unsaid is taken from `unsaid` and put down there."""
    path = Path(path)
    check_input_file(path, ClipError)
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(b"PK") or suffix == ".npz":
        fields = npz_fields(path)
        if "joint_pos" in fields:
            return read_mjlab_npz(path, robot, unsaid)
        if "dof_positions" in fields:
            return read_amass_npz(path, robot, unsaid)
        if "root_quat_xyzw" in fields:
            return read_cmg_npz(path, robot, unsaid)
        raise ClipError(
            f"{path}: unknown npz with the fields {listed(fields) or '(none)'}; needs 'joint_pos' (BeyondMimic and "
            "mjlab), 'dof_positions' (AMASS for the G1) or 'root_quat_xyzw' (cmg_ref)"
        )
    if head.startswith(b"\x80") or suffix == ".pkl":
        return read_twist_pickle(path, robot, unsaid)
    if suffix == ".csv":
        return read_lafan1_csv(path, robot, unsaid)
    raise ClipError(f"{path}: unknown format; known are {', '.join(CLIP_SUFFIXES)}")


def read_lafan1_csv(path: PathLike, robot: Robot, unsaid: Unsaid | None = None) -> MotionClip:
    """Reads a CSV without header: root x y z [m], root quaternion, joint angles [rad] in one of the orders in use.

    A byte-order mark, any line ends, and semicolons or tabs in place of commas are taken.

    Raises:
        ClipError: Names file, row and column of what is wrong.
    """
    path, unsaid = Path(path), unsaid or Unsaid()
    names = ROOT_COLUMNS + robot.joint_names
    check_input_file(path, ClipError, 1024 * MEBIBYTE)
    delimiter = _delimiter(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # An empty file is but a warning to numpy.
            table = np.loadtxt(
                path, delimiter=delimiter, comments=None, ndmin=2, dtype=np.float64, encoding="utf-8-sig"
            )
    except (ValueError, OSError, UserWarning) as error:
        raise ClipError(_first_csv_problem(path, names, delimiter) or f"{path}: {reason(error)}") from error
    if table.shape[1] - len(ROOT_COLUMNS) not in known_numbers(robot):
        raise ClipError(
            f"{path}: {table.shape[1]} columns, needs {len(names)}: root x y z, qx qy qz qw, then the joints"
        )
    numbers = ClipNumbers(
        path,
        dof_pos=table[:, 7:],
        root_pos=table[:, :3],
        root_quat=table[:, 3:7],
        fps=None,
        joint_names=None,
        quat_order_by="custom",
    )
    return checked_clip(numbers, robot, unsaid)


def read_amass_npz(path: PathLike, robot: Robot, unsaid: Unsaid | None = None) -> MotionClip:
    """Reads an npz of AMASS_Retargeted_for_G1; its `fps` counts, not the rate of the human source in the file's name.

    Raises:
        ClipError: Names file, field and row of what is wrong.
    """
    path = Path(path)
    fields = _Fields(path, read_npz(path))
    bodies = fields.names("body_names")
    joint_names = fields.names("dof_names")
    dof_pos = fields.array("dof_positions", None, None)
    positions = fields.array("body_positions", len(dof_pos), len(bodies), 3)
    rotations = fields.array("body_rotations", len(dof_pos), len(bodies), 4)  # wxyz
    recorded = RecordedBodies(path, robot, dof_pos, positions, rotations, "dof_positions", "body_positions")
    found = recorded.findings(joint_names, bodies)
    numbers = ClipNumbers(
        path,
        dof_pos=dof_pos,
        root_pos=positions[:, found.root],
        root_quat=rotations[:, found.root],
        fps=fields.scalar("fps"),
        joint_names=found.joint_names,
        quat_order=found.quat_order,
        quat_order_by="bodies",
        dof_vel=fields.array("dof_velocities", *dof_pos.shape),
        quat_field="body_rotations",
    )
    unsaid = unsaid or Unsaid()
    unsaid.notices.extend(found.notices)
    return checked_clip(numbers, robot, unsaid)


def read_twist_pickle(path: PathLike, robot: Robot, unsaid: Unsaid | None = None) -> MotionClip:
    """Reads a GMR or TWIST pickle of all joints, or of those of a smaller model of the robot; others are zero.

    Joints are told by a field `joint_names` or `dof_names`, by `local_body_pos` and `link_body_list`, or by the angles;
    the order of quaternions by a field `quat_order` or by the motion.

    Raises:
        ClipError: Names file, field and row of what is wrong, or what a pickle wanted to load that is not data.
    """
    path = Path(path)
    fields = _Fields(path, load_pickled_arrays(path))
    dof_pos = fields.array("dof_pos", None, None)
    unsaid = Unsaid() if unsaid is None else unsaid
    if "quat_order" in fields:
        unsaid.quat_order = fields.choice("quat_order", ORDERS)
    numbers = ClipNumbers(
        path,
        dof_pos=dof_pos,
        root_pos=fields.array("root_pos", len(dof_pos), 3),
        root_quat=fields.array("root_rot", len(dof_pos), 4),
        fps=fields.scalar("fps"),
        joint_names=_names_in_pickle(fields, robot, dof_pos),
        quat_order_by="custom",
        quat_field="root_rot",
    )
    return checked_clip(numbers, robot, unsaid)


def read_mjlab_npz(path: PathLike, robot: Robot, unsaid: Unsaid | None = None) -> MotionClip:
    """Reads a BeyondMimic or mjlab npz; quaternions in the file are wxyz, unnamed bodies begin with the root.

    Such files seldom name their joints: BeyondMimic writes Isaac Lab's order (breadth first), mjlab the MJCF's (depth
    first). The order, named or not, must be one for which the joint angles explain the file's own body positions.

    Raises:
        ClipError: Names file, field and row of what is wrong; also if no order fits.
    """
    path = Path(path)
    fields = _Fields(path, read_npz(path))
    joint_pos = fields.array("joint_pos", None, None)
    joint_names = fields.names("joint_names") if "joint_names" in fields else None
    if joint_names is None:
        check_number(robot, f"{path}: field 'joint_pos'", joint_pos.shape[1])
    body_pos = fields.array("body_pos_w", len(joint_pos), None, 3)
    body_quat = fields.array("body_quat_w", len(joint_pos), body_pos.shape[1], 4)  # wxyz
    body_names = fields.names("body_names") if "body_names" in fields else None
    recorded = RecordedBodies(path, robot, joint_pos, body_pos, body_quat, "joint_pos", "body_pos_w")
    found = recorded.findings(joint_names, body_names)
    numbers = ClipNumbers(
        path,
        dof_pos=joint_pos,
        root_pos=body_pos[:, found.root],
        root_quat=body_quat[:, found.root],
        fps=fields.scalar("fps"),
        joint_names=found.joint_names,
        quat_order=found.quat_order,
        quat_order_by="bodies",
        dof_vel=fields.array("joint_vel", *joint_pos.shape),
        quat_field="body_quat_w",
    )
    unsaid = unsaid or Unsaid()
    unsaid.notices.extend(found.notices)
    return checked_clip(numbers, robot, unsaid)


def read_cmg_npz(path: PathLike, robot: Robot, unsaid: Unsaid | None = None) -> MotionClip:
    """Reads this project's npz (see `clip_writers.write_npz`); `dof_vel` and `command` may be absent.

    Raises:
        ClipError: Names file, field and row of what is wrong.
    """
    path = Path(path)
    fields = _Fields(path, read_npz(path))
    dof_pos, command_layout = fields.array("dof_pos", None, None), fields.command_layout()
    numbers = ClipNumbers(
        path,
        dof_pos=dof_pos,
        root_pos=fields.array("root_pos", len(dof_pos), 3),
        root_quat=fields.array("root_quat_xyzw", len(dof_pos), 4),
        fps=fields.scalar("fps"),
        joint_names=fields.names("joint_names"),
        dof_vel=fields.array("dof_vel", *dof_pos.shape) if "dof_vel" in fields else None,
        command=fields.array("command", len(dof_pos), command_layout.size) if "command" in fields else None,
        command_layout=command_layout,
        quat_field="root_quat_xyzw",
    )
    return checked_clip(numbers, robot, unsaid or Unsaid())


class _Fields:
    """The fields of one file, with errors that name file and field."""

    def __init__(self, path: Path, content: Mapping[Any, Any]) -> None:
        self.path = path
        self.content = content

    def __contains__(self, field: str) -> bool:
        return field in self.content

    def array(self, field: str, *shape: int | None) -> np.ndarray:
        """A field as float64 of the given shape, in which None stands for any length."""
        values = self._get(field)
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
            raise ClipError(f"{self.path}: field '{field}': holds {kind_of(values)}, needs an array of numbers")
        wrong = len(shape) != values.ndim or any(
            want is not None and have != want for have, want in zip(values.shape, shape)
        )
        if wrong:
            want_text = ", ".join("any" if length is None else str(length) for length in shape)
            raise ClipError(f"{self.path}: field '{field}': shape {values.shape}, needs ({want_text})")
        finite = np.isfinite(values)
        if not finite.all():
            first = np.unravel_index(int(finite.argmin()), finite.shape)
            where = f"row {first[0]}" + "".join(f", column {column}" for column in first[1:])
            raise ClipError(f"{self.path}: field '{field}', {where}: {values[first]} is not a finite number")
        return values.astype(np.float64)

    def scalar(self, field: str) -> float:
        """A number that may come as a Python number or as an array or list of one element."""
        value = self._get(field)
        while isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        try:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
        except OverflowError:  # An integer of hundreds of digits.
            pass
        raise ClipError(f"{self.path}: field '{field}': holds {kind_of(value)}, needs one number")

    def names(self, field: str) -> tuple[str, ...]:
        """A list of names."""
        values = self._get(field)
        names = names_of(values)
        if not names:
            raise ClipError(f"{self.path}: field '{field}': holds {kind_of(values)}, needs a list of names")
        return names

    def command_layout(self) -> CommandLayout:
        """Channels of the commands: those of the velocity where the file names none."""
        if "command_layout" not in self:
            return CommandLayout()
        try:
            return CommandLayout.from_json(parse_json(str(np.asarray(self._get("command_layout")))))
        except ValueError as error:
            raise ClipError(f"{self.path}: field 'command_layout': {reason(error)}") from error

    def choice(self, field: str, choices: Sequence[str]) -> str:
        """One of some words."""
        value = np.asarray(self._get(field))
        if value.shape != () or value.dtype.kind != "U" or str(value) not in choices:
            raise ClipError(f"{self.path}: field '{field}': needs {' or '.join(choices)}")
        return str(value)

    def _get(self, field: str) -> Any:
        if field not in self.content:
            raise ClipError(f"{self.path}: field '{field}' is missing; there are {listed(self.content)}")
        return self.content[field]


def _names_in_pickle(fields: _Fields, robot: Robot, dof_pos: np.ndarray) -> tuple[str, ...] | None:
    """Names of the joint columns by a field of names or by the bodies of the pickle; None if neither tells."""
    named = next((fields.names(field) for field in ("joint_names", "dof_names") if field in fields), None)
    positions = fields.content.get("local_body_pos")
    if positions is None or fields.content.get("link_body_list") is None or len(dof_pos) == 0:
        return named
    bodies = fields.names("link_body_list")
    positions = fields.array("local_body_pos", len(dof_pos), len(bodies), 3)
    bodies_b = dict(zip(bodies, positions.swapaxes(0, 1)))
    found = order_of_bodies(robot, dof_pos, bodies_b)
    if found is None:  # Bodies of another model, or of another frame than the root's: they cannot tell.
        return named
    if named is not None and len(named) == dof_pos.shape[1] and set(named) == set(found) and named != found:
        raise ClipError(
            f"{fields.path}: field 'joint_names': contradicts 'local_body_pos', whose bodies lie as in the order "
            f"{', '.join(found[:4])}, ..."
        )
    return named or found


def _delimiter(path: Path) -> str:
    """What stands between the numbers of the first line."""
    with path.open("rb") as file:
        line = file.readline(10000)
    return next((mark.decode() for mark in (b",", b";", b"\t") if mark in line), ",")


def _first_csv_problem(path: Path, names: Sequence[str], delimiter: str) -> str:
    """Finds the first row of a CSV that is not as many numbers as there are columns; "" if there is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return f"{path}: not a text file ({reason(error)})"
    for row, line in enumerate(lines):
        cells = line.split(delimiter)
        if len(cells) != len(names):
            return f"{path}: row {row}: {len(cells)} columns, needs {len(names)}"
        for name, cell in zip(names, cells):
            try:
                float(cell)
            except ValueError:
                return f"{path}: field '{name}', row {row}: {shortened(cell.strip(), 24)} is not a number"
    return ""
