"""Readers of the clip formats that are in use for the G1: `read_clip` finds out which one a file is.

| format | reader |
|---|---|
| LAFAN1 for the G1 (Unitree): CSV of root x y z, root quaternion xyzw and joint angles | `read_lafan1_csv` |
| AMASS for the G1: npz with `dof_names`, `dof_positions`, `body_positions`, ... | `read_amass_npz` |
| GMR and TWIST: pickle with `fps`, `root_pos`, `root_rot`, `dof_pos`, ... | `read_twist_pickle` |
| BeyondMimic and mjlab: npz with `joint_pos`, `body_pos_w`, `body_quat_w`, ... | `read_mjlab_npz` |
| this project: npz with `dof_pos`, `root_quat_xyzw`, ... | `read_cmg_npz` |

No reader runs code from a file. Whatever is wrong with a file is a one-line `ClipError` that names file, field and row.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Mapping, Sequence, Union

import numpy as np
import torch

from cmg_ref.input_file import MEBIBYTE, check_input_file
from cmg_ref.kinematics import ForwardKinematics
from cmg_ref.motion_clip import ClipError, MotionClip
from cmg_ref.npz_file import npz_fields, read_npz
from cmg_ref.pickled_arrays import load_pickled_arrays
from cmg_ref.plain_arrays import kind_of, names_of
from cmg_ref.robot import Robot, load_g1
from cmg_ref.shorten import listed, reason, shortened

PathLike = Union[str, Path]

CLIP_SUFFIXES = (".csv", ".npz", ".pkl")
LAFAN1_FPS = 30.0
"""The LAFAN1 CSV files do not tell their frame rate; all were made at this one."""
ROOT_COLUMNS = ("root_x", "root_y", "root_z", "root_qx", "root_qy", "root_qz", "root_qw")
MAX_BODY_MISMATCH = 0.02
"""Largest mean distance [m] at which a file's body positions count as those of its joint angles."""


def find_clips(paths: Sequence[PathLike]) -> list[Path]:
    """All clip files among files and, searched to any depth, folders; sorted within each folder.

    Raises:
        ClipError: A path does not exist or holds no clip.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                file
                for file in path.rglob("*")
                # What is hidden is no clip: a file that a killed program did not finish, another system's notes on one.
                if file.suffix in CLIP_SUFFIXES and file.is_file() and not _is_hidden(file.relative_to(path))
            )
            if not inside:
                raise ClipError(f"{path}: no clip ({', '.join(CLIP_SUFFIXES)}) in this folder")
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise ClipError(f"{path}: no such file or folder")
    return found


def _is_hidden(path: Path) -> bool:
    """Whether a file, or a folder on the way to it, has a name that listings leave out."""
    return any(part.startswith(".") for part in path.parts)


def read_clip(path: PathLike, fps: float | None = None, robot: Robot | None = None) -> MotionClip:
    """Reads a clip of any known format, told by its content.

    Args:
        path: The file.
        fps: Frame rate of a file that does not carry its own (CSV); 30 if not given.
        robot: Robot whose joints the clip must have; the G1 if not given.

    Returns:
        The checked clip in the robot's joint order.

    Raises:
        ClipError: The format is unknown, or something in the file is wrong.
    """
    path = Path(path)
    check_input_file(path, ClipError)
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(b"PK") or path.suffix == ".npz":
        fields = npz_fields(path)
        if "joint_pos" in fields:
            return read_mjlab_npz(path, robot)
        if "dof_positions" in fields:
            return read_amass_npz(path, robot)
        if "root_quat_xyzw" in fields:
            return read_cmg_npz(path, robot)
        raise ClipError(
            f"{path}: unknown npz with the fields {listed(fields) or '(none)'}; needs 'joint_pos' (BeyondMimic and "
            "mjlab), 'dof_positions' (AMASS for the G1) or 'root_quat_xyzw' (cmg_ref)"
        )
    if head.startswith(b"\x80") or path.suffix == ".pkl":
        return read_twist_pickle(path, robot)
    if path.suffix == ".csv":
        return read_lafan1_csv(path, LAFAN1_FPS if fps is None else fps, robot)
    raise ClipError(f"{path}: unknown format; known are {', '.join(CLIP_SUFFIXES)}")


def read_lafan1_csv(path: PathLike, fps: float = LAFAN1_FPS, robot: Robot | None = None) -> MotionClip:
    """Reads a CSV without header: root x y z [m], root quaternion xyzw, joint angles [rad] in the robot's order.

    Raises:
        ClipError: Names file, row and column of what is wrong.
    """
    path, robot = Path(path), robot or load_g1()
    names = ROOT_COLUMNS + robot.joint_names
    check_input_file(path, ClipError, 1024 * MEBIBYTE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # An empty file is but a warning to numpy.
            table = np.loadtxt(path, delimiter=",", comments=None, ndmin=2, dtype=np.float64)
    except (ValueError, OSError, UserWarning) as error:
        raise ClipError(_first_csv_problem(path, names) or f"{path}: {reason(error)}") from error
    if table.shape[1] != len(names):
        raise ClipError(
            f"{path}: {table.shape[1]} columns, needs {len(names)}: root x y z, qx qy qz qw, then the joints"
        )
    return _checked_clip(
        path, fps, robot, robot.joint_names, dof_pos=table[:, 7:], root_pos=table[:, :3], root_quat=table[:, 3:7]
    )


def read_amass_npz(path: PathLike, robot: Robot | None = None) -> MotionClip:
    """Reads an npz of AMASS_Retargeted_for_G1; its `fps` counts, not the rate of the human source in the file's name.

    Raises:
        ClipError: Names file, field and row of what is wrong.
    """
    path, robot = Path(path), robot or load_g1()
    fields = _Fields(path, read_npz(path))
    bodies = fields.names("body_names")
    root = robot.body_names[0]
    if root not in bodies:
        raise ClipError(f"{path}: field 'body_names': no '{root}' among {len(bodies)} bodies")
    dof_pos = fields.array("dof_positions", None, None)
    positions = fields.array("body_positions", len(dof_pos), len(bodies), 3)
    rotations = fields.array("body_rotations", len(dof_pos), len(bodies), 4)  # wxyz
    return _checked_clip(
        path,
        fields.scalar("fps"),
        robot,
        fields.names("dof_names"),
        dof_pos=dof_pos,
        root_pos=positions[:, bodies.index(root)],
        root_quat=np.roll(rotations[:, bodies.index(root)], -1, axis=-1),
        dof_vel=fields.array("dof_velocities", *dof_pos.shape),
    )


def read_twist_pickle(path: PathLike, robot: Robot | None = None) -> MotionClip:
    """Reads a GMR or TWIST pickle of all joints, or of TWIST's 23 without wrists, which are then set to zero.

    Raises:
        ClipError: Names file, field and row of what is wrong, or what a pickle wanted to load that is not data.
    """
    path, robot = Path(path), robot or load_g1()
    fields = _Fields(path, load_pickled_arrays(path))
    dof_pos = fields.array("dof_pos", None, None)
    without_wrists = tuple(name for name in robot.joint_names if "wrist" not in name)
    if dof_pos.shape[1] == len(without_wrists):
        shortened, dof_pos = dof_pos, np.zeros((len(dof_pos), robot.num_joints))
        dof_pos[:, [robot.joint_names.index(name) for name in without_wrists]] = shortened
    elif dof_pos.shape[1] != robot.num_joints:
        raise ClipError(
            f"{path}: field 'dof_pos': {dof_pos.shape[1]} joints, needs {robot.num_joints} or, without wrists, "
            f"{len(without_wrists)}"
        )
    return _checked_clip(
        path,
        fields.scalar("fps"),
        robot,
        robot.joint_names,
        dof_pos=dof_pos,
        root_pos=fields.array("root_pos", len(dof_pos), 3),
        root_quat=fields.array("root_rot", len(dof_pos), 4),
    )


def read_mjlab_npz(path: PathLike, robot: Robot | None = None) -> MotionClip:
    """Reads a BeyondMimic or mjlab npz; quaternions in the file are wxyz, body 0 is the root.

    Such files seldom name their joints: BeyondMimic writes Isaac Lab's order (breadth first), mjlab the MJCF's (depth
    first). Without names the order is the one for which the joint angles explain the file's own body positions.

    Raises:
        ClipError: Names file, field and row of what is wrong; also if neither order fits.
    """
    path, robot = Path(path), robot or load_g1()
    fields = _Fields(path, read_npz(path))
    joint_pos = fields.array("joint_pos", None, None)
    body_pos = fields.array("body_pos_w", len(joint_pos), None, 3)
    body_quat = fields.array("body_quat_w", len(joint_pos), body_pos.shape[1], 4)  # wxyz
    root_pos, root_quat = body_pos[:, 0], np.roll(body_quat[:, 0], -1, axis=-1)
    if "joint_names" in fields:
        joint_names = fields.names("joint_names")
    else:
        joint_names = _joint_order_of_bodies(path, robot, joint_pos, body_pos, root_quat)
    return _checked_clip(
        path,
        fields.scalar("fps"),
        robot,
        joint_names,
        dof_pos=joint_pos,
        root_pos=root_pos,
        root_quat=root_quat,
        dof_vel=fields.array("joint_vel", *joint_pos.shape),
    )


def read_cmg_npz(path: PathLike, robot: Robot | None = None) -> MotionClip:
    """Reads this project's npz (see `clip_writers.write_npz`); `dof_vel` and `command` may be absent.

    Raises:
        ClipError: Names file, field and row of what is wrong.
    """
    path, robot = Path(path), robot or load_g1()
    fields = _Fields(path, read_npz(path))
    dof_pos = fields.array("dof_pos", None, None)
    return _checked_clip(
        path,
        fields.scalar("fps"),
        robot,
        fields.names("joint_names"),
        dof_pos=dof_pos,
        root_pos=fields.array("root_pos", len(dof_pos), 3),
        root_quat=fields.array("root_quat_xyzw", len(dof_pos), 4),
        dof_vel=fields.array("dof_vel", *dof_pos.shape) if "dof_vel" in fields else None,
        command=fields.array("command", len(dof_pos), 3) if "command" in fields else None,
    )


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

    def _get(self, field: str) -> Any:
        if field not in self.content:
            raise ClipError(f"{self.path}: field '{field}' is missing; there are {listed(self.content)}")
        return self.content[field]


def _checked_clip(
    path: Path,
    fps: float,
    robot: Robot,
    joint_names: Sequence[str],
    dof_pos: np.ndarray,
    root_pos: np.ndarray,
    root_quat: np.ndarray,
    dof_vel: np.ndarray | None = None,
    command: np.ndarray | None = None,
) -> MotionClip:
    """A validated clip in the robot's joint order with quaternions of exactly unit length."""
    clip = MotionClip(
        name=path.stem,
        fps=fps,
        joint_names=tuple(joint_names),
        dof_pos=torch.from_numpy(dof_pos),
        root_pos=torch.from_numpy(root_pos),
        root_quat=torch.from_numpy(root_quat.copy()),
        dof_vel=None if dof_vel is None else torch.from_numpy(dof_vel),
        command=None if command is None else torch.from_numpy(command),
        source=str(path),
    )
    clip.validate(robot)
    clip.root_quat = clip.root_quat / clip.root_quat.norm(dim=-1, keepdim=True)
    return clip.reordered(robot)


def _joint_order_of_bodies(
    path: Path, robot: Robot, joint_pos: np.ndarray, body_pos: np.ndarray, root_quat: np.ndarray
) -> tuple[str, ...]:
    """The joint order, depth or breadth first, for which forward kinematics gives the file's body positions."""
    if joint_pos.shape[1] != robot.num_joints or body_pos.shape[1] != robot.num_bodies:
        raise ClipError(
            f"{path}: fields 'joint_pos', 'body_pos_w': {joint_pos.shape[1]} joints and {body_pos.shape[1]} bodies "
            f"without names, needs {robot.num_joints} and {robot.num_bodies}"
        )
    depths: list[int] = []
    for parent in robot.body_parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    depth_first = list(range(robot.num_bodies))
    orders = {"depth first": depth_first, "breadth first": sorted(depth_first, key=depths.__getitem__)}

    kinematics = ForwardKinematics(robot, dtype=torch.float64)
    rows = np.linspace(0, len(joint_pos) - 1, num=min(len(joint_pos), 32)).astype(int)
    joint_of_body = {body: joint for joint, body in enumerate(robot.joint_bodies)}
    mismatch: dict[str, float] = {}
    names: dict[str, tuple[str, ...]] = {}
    for order, bodies in orders.items():
        joints = [joint_of_body[body] for body in bodies if body in joint_of_body]
        dof_pos = np.empty((len(rows), robot.num_joints))
        dof_pos[:, joints] = joint_pos[rows]
        expected, _ = kinematics(
            torch.from_numpy(dof_pos), torch.from_numpy(body_pos[rows, 0]), torch.from_numpy(root_quat[rows].copy())
        )
        distances = np.linalg.norm(expected.numpy()[:, bodies] - body_pos[rows], axis=-1)
        mismatch[order] = float(distances.mean()) if np.isfinite(distances).all() else float("inf")
        names[order] = tuple(robot.joint_names[joint] for joint in joints)
    best = min(mismatch, key=mismatch.__getitem__)
    if mismatch[best] > MAX_BODY_MISMATCH:
        found = ", ".join(f"{order} {distance:.3f} m" for order, distance in mismatch.items())
        raise ClipError(f"{path}: field 'joint_pos': no known joint order explains 'body_pos_w' (mean error: {found})")
    return names[best]


def _first_csv_problem(path: Path, names: Sequence[str]) -> str:
    """Finds the first row of a CSV that is not as many numbers as there are columns; "" if there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return f"{path}: not a text file ({reason(error)})"
    for row, line in enumerate(lines):
        cells = line.split(",")
        if len(cells) != len(names):
            return f"{path}: row {row}: {len(cells)} columns, needs {len(names)}"
        for name, cell in zip(names, cells):
            try:
                float(cell)
            except ValueError:
                return f"{path}: field '{name}', row {row}: {shortened(cell.strip(), 24)} is not a number"
    return ""
