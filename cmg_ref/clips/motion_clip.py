"""A motion clip: root and joint positions of one take, at its own frame rate.

Everything is float64 on the CPU: clips are read, checked and resampled once, and only the dataset made from them is
float32.
World frame: z up, metres, floor at z = 0. Quaternions are xyzw.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence

import torch

from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.rotations import in_heading, projected_gravity, unwrap_quat_signs, yaw_from_quat
from cmg_ref.core.shorten import listed, shortened

if TYPE_CHECKING:
    from cmg_ref.robots.robot import Robot

MAX_QUAT_NORM_ERROR = 1e-2
"""Quaternions further than this from unit length are an error; closer ones are normalised by the readers."""
MAX_JOINT_ANGLE = 2.0 * math.pi
"""No G1 joint turns further [rad]; larger numbers are degrees or another column."""
MAX_ROOT_HEIGHT = 5.0
"""A pelvis further than this from the floor [m] is a wrong unit or a wrong axis."""
MIN_RESAMPLED_FRAMES = 4
"""A not-a-knot cubic spline needs four points."""


class ClipError(ValueError):
    """A clip that cannot be used: the message is one line that names file, field and row."""


class ClipWarning(UserWarning):
    """Something that was assumed about a clip, or left out: the message is one line that names the file."""


@dataclass
class MotionClip:
    """Root and joint trajectory of one take.

    Attributes:
        name: Short name, e.g. the file's stem.
        fps: Frames per second.
        joint_names: Names of the columns of `dof_pos`.
        dof_pos: Joint angles [rad], (num_frames, num_joints).
        root_pos: Position of the root body's origin, world [m], (num_frames, 3).
        root_quat: Orientation of the root body, world, xyzw, (num_frames, 4).
        dof_vel: Joint velocities [rad/s], (num_frames, num_joints); None to take them from `dof_pos`.
        command: What it was told, (num_frames, command_layout.size); None where it was told nothing.
        source: File it was read from.
        command_layout: Channels of the command.
    """

    name: str
    fps: float
    joint_names: tuple[str, ...]
    dof_pos: torch.Tensor
    root_pos: torch.Tensor
    root_quat: torch.Tensor
    dof_vel: torch.Tensor | None = None
    command: torch.Tensor | None = None
    source: str = ""
    command_layout: CommandLayout = dataclasses.field(default_factory=CommandLayout)

    def __post_init__(self) -> None:
        """Brings every tensor to float64 on the CPU."""
        self.joint_names = tuple(self.joint_names)
        for field in ("dof_pos", "root_pos", "root_quat", "dof_vel", "command"):
            value = getattr(self, field)
            if value is not None:
                setattr(self, field, torch.as_tensor(value, dtype=torch.float64, device="cpu"))

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.dof_pos.shape[0]

    @property
    def duration(self) -> float:
        """Time from the first to the last frame [s]."""
        return (self.num_frames - 1) / self.fps

    def validate(self, robot: Robot | None = None) -> None:
        """Checks shapes, finite and plausible values, quaternion norms, joint names and fps.

        Args:
            robot: If given, the clip must have exactly this robot's joints (in any order).

        Raises:
            ClipError: Names file, field and row of the first thing that is wrong.
        """
        origin = self.source or self.name
        if not (math.isfinite(self.fps) and 1.0 <= self.fps <= 1000.0):
            raise ClipError(f"{origin}: field 'fps': {self.fps} is not a frame rate between 1 and 1000")
        if len(set(self.joint_names)) != len(self.joint_names):
            twice = next(name for name in self.joint_names if self.joint_names.count(name) > 1)
            raise ClipError(f"{origin}: field 'joint_names': {shortened(twice)} is there twice")
        if robot is not None:
            _check_same_joints(origin, self.joint_names, robot.joint_names)
        self._check_shapes(origin)
        for field in ("root_pos", "root_quat", "dof_pos", "dof_vel", "command"):
            self._check_rows(origin, field, ~torch.isfinite(_values(self, field)), "not a finite number")
        norm_error = (self.root_quat.norm(dim=-1, keepdim=True) - 1.0).abs()
        self._check_rows(origin, "root_quat", norm_error > MAX_QUAT_NORM_ERROR, "not a unit quaternion")
        self._check_rows(
            origin, "dof_pos", self.dof_pos.abs() > MAX_JOINT_ANGLE, "beyond 2 pi: are these degrees, or other columns?"
        )
        too_far = self.root_pos[:, 2:].abs() > MAX_ROOT_HEIGHT
        self._check_rows(origin, "root_pos", too_far, "not a place of a robot in metres, z up")

    def _check_shapes(self, origin: str) -> None:
        if self.dof_pos.ndim != 2 or self.num_frames < 2:
            raise ClipError(
                f"{origin}: field 'dof_pos': shape {tuple(self.dof_pos.shape)}, needs (num_frames >= 2, num_joints)"
            )
        columns = {
            "dof_pos": len(self.joint_names),
            "root_pos": 3,
            "root_quat": 4,
            "dof_vel": len(self.joint_names),
            "command": self.command_layout.size,
        }
        for field, num_columns in columns.items():
            value = getattr(self, field)
            if value is not None and value.shape != (self.num_frames, num_columns):
                raise ClipError(
                    f"{origin}: field '{field}': shape {tuple(value.shape)}, needs {(self.num_frames, num_columns)}"
                )

    def _check_rows(self, origin: str, field: str, bad: torch.Tensor, problem: str) -> None:
        """Raises with the first bad row (0-based) of a field; `bad` is (num_frames, num_columns or 1)."""
        if not bad.any():
            return
        row, column = (int(index) for index in bad.nonzero()[0])
        where, value = f"row {row}", _values(self, field)[row]
        if bad.shape[-1] > 1:
            where += f" ({self.joint_names[column]})" if field.startswith("dof_") else f", column {column}"
            value = value[column]
        raise ClipError(f"{origin}: field '{field}', {where}: {value.tolist()} is {problem}")

    # --- Motion in the heading frame ---------------------------------------------------------------------------------

    def velocities(self) -> torch.Tensor:
        """Joint velocities [rad/s], (num_frames, num_joints): `dof_vel`, or central differences of `dof_pos`."""
        return time_derivative(self.dof_pos, self.fps) if self.dof_vel is None else self.dof_vel

    def root_lin_vel_h(self) -> torch.Tensor:
        """Velocity of the root's origin in the heading (yaw-only) frame of the same instant [m/s], (num_frames, 3)."""
        return in_heading(self.root_quat, time_derivative(self.root_pos, self.fps))

    def root_yaw_rate(self) -> torch.Tensor:
        """Rate of change of the heading [rad/s], (num_frames,)."""
        yaw = yaw_from_quat(self.root_quat)
        steps = torch.diff(yaw)
        steps = torch.atan2(torch.sin(steps), torch.cos(steps))  # The shorter way round: heading is continuous.
        unwrapped = torch.cat([yaw[:1], yaw[0] + torch.cumsum(steps, dim=0)])
        return time_derivative(unwrapped, self.fps)

    def root_height(self) -> torch.Tensor:
        """Height of the root's origin above the floor [m], (num_frames,)."""
        return self.root_pos[:, 2]

    def projected_gravity(self) -> torch.Tensor:
        """Unit gravity direction in the base frame, (num_frames, 3); upright gives (0, 0, -1)."""
        return projected_gravity(self.root_quat)

    # --- New clips from old ------------------------------------------------------------------------------------------

    def resample(self, fps: float) -> MotionClip:
        """The same motion at another frame rate.

        Joints, root position and sign-continuous, re-normalised root quaternion all follow the not-a-knot cubic spline
        through the frames. Its second derivative is continuous (slerp's angular velocity is a staircase that jumps at
        every frame, a local C1 cubic's acceleration jumps), and it reproduces cubics and itself: through a clip that
        was resampled to a multiple of its rate goes the same curve. Velocities are left to be taken from the new
        positions; a command is interpolated linearly.

        Args:
            fps: New frame rate. The same rate gives an equal clip.

        Returns:
            A clip of floor(duration * fps) + 1 frames that starts with the same frame.

        Raises:
            ClipError: The clip has fewer than four frames.
        """
        if fps == self.fps:
            return dataclasses.replace(self)
        if self.num_frames < MIN_RESAMPLED_FRAMES:
            origin = self.source or self.name
            raise ClipError(f"{origin}: {self.num_frames} frames are too few to resample, needs {MIN_RESAMPLED_FRAMES}")
        # The small allowance keeps the last frame of e.g. exactly 2 s from being lost to rounding.
        num_frames = math.floor(self.duration * fps + 1e-6) + 1
        positions = torch.arange(num_frames, dtype=torch.float64) * (self.fps / fps)  # In units of old frames.
        root_quat = sample_spline(unwrap_quat_signs(self.root_quat), positions)
        return dataclasses.replace(
            self,
            fps=fps,
            dof_pos=sample_spline(self.dof_pos, positions),
            root_pos=sample_spline(self.root_pos, positions),
            root_quat=root_quat / root_quat.norm(dim=-1, keepdim=True),
            dof_vel=None,
            command=None if self.command is None else _sample_linear(self.command, positions),
        )

    def slice(self, start: int, end: int) -> MotionClip:
        """Frames [start, end) as a clip of their own."""
        return dataclasses.replace(
            self,
            dof_pos=self.dof_pos[start:end],
            root_pos=self.root_pos[start:end],
            root_quat=self.root_quat[start:end],
            dof_vel=None if self.dof_vel is None else self.dof_vel[start:end],
            command=None if self.command is None else self.command[start:end],
        )

    def reordered(self, joints: Robot | Sequence[str]) -> MotionClip:
        """The clip with its joint columns in another order, matched by name.

        Args:
            joints: A robot, or the joint names in the wanted order: the same joints as the clip's.

        Raises:
            ClipError: Names a missing or unknown joint.
        """
        names = tuple(joints) if isinstance(joints, Sequence) else joints.joint_names
        _check_same_joints(self.source or self.name, self.joint_names, names)
        columns = [self.joint_names.index(name) for name in names]
        return dataclasses.replace(
            self,
            joint_names=names,
            dof_pos=self.dof_pos[:, columns],
            dof_vel=None if self.dof_vel is None else self.dof_vel[:, columns],
        )

    def mirrored(self, robot: Robot) -> MotionClip:
        """The clip as seen in a mirror (the world's x-z plane), in the robot's joint order."""
        clip = self.reordered(robot)
        signs = torch.tensor(clip.command_layout.mirror, dtype=torch.float64)
        return dataclasses.replace(
            clip,
            dof_pos=robot.mirrored(clip.dof_pos),
            root_pos=clip.root_pos * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64),
            root_quat=clip.root_quat * torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64),
            dof_vel=None if clip.dof_vel is None else robot.mirrored(clip.dof_vel),
            command=None if clip.command is None else clip.command * signs,
        )


def time_derivative(values: torch.Tensor, fps: float) -> torch.Tensor:
    """Second-order derivative by time along the first dimension: central differences, one-sided at the two ends."""
    edge_order = 2 if values.shape[0] > 2 else 1
    return torch.gradient(values, spacing=1.0 / fps, dim=0, edge_order=edge_order)[0]


def sample_spline(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Samples the not-a-knot cubic spline through equally spaced values.

    The second derivatives M of a cubic spline with unit spacing obey
    M[i-1] + 4 M[i] + M[i+1] = 6 (x[i-1] - 2 x[i] + x[i+1]) (C. de Boor, A Practical Guide to Splines, ch. IV). The
    inverse of the filter (1, 4, 1) is z^|k| / (2 sqrt 3) with z = sqrt(3) - 2, so that a short convolution solves the
    equations; what is left are the two homogeneous solutions z^i and z^(n-1-i), whose weights make the third derivative
    continuous at the second and the second last value.

    Args:
        values: Values at the positions 0, 1, 2, ..., (num_values >= 4, num_columns).
        positions: Where to sample, in units of the spacing, (num_positions,).

    Returns:
        Samples, (num_positions, num_columns).
    """
    num_values = values.shape[0]
    root = math.sqrt(3.0) - 2.0
    reach = 32  # |root|^32 = 5e-19: nothing is lost in float64.
    offsets = torch.arange(-reach, reach + 1)
    kernel = root ** offsets.abs().to(values.dtype) / (2.0 * math.sqrt(3.0))
    right_side = torch.zeros_like(values)
    right_side[1:-1] = 6.0 * (values[:-2] - 2.0 * values[1:-1] + values[2:])
    second = torch.nn.functional.conv1d(right_side.T.unsqueeze(1), kernel[None, None], padding=reach).squeeze(1).T

    steps = torch.arange(num_values, dtype=values.dtype)
    homogeneous = torch.stack([root**steps, root ** (num_values - 1 - steps)], dim=-1)  # (num_values, 2)
    bend = torch.tensor([1.0, -2.0, 1.0], dtype=values.dtype)
    ends = torch.stack([bend @ homogeneous[:3], bend @ homogeneous[-3:]])  # (2, 2)
    weights = torch.linalg.solve(ends, -torch.stack([bend @ second[:3], bend @ second[-3:]]))  # (2, num_columns)
    second = second + homogeneous @ weights

    index = positions.floor().long().clamp(0, num_values - 2)
    after = (positions - index).unsqueeze(-1)
    before = 1.0 - after
    curvature = (before**3 - before) * second[index] + (after**3 - after) * second[index + 1]
    return before * values[index] + after * values[index + 1] + curvature / 6.0


def moving_average(values: torch.Tensor, reach: int, runs: torch.Tensor | None = None) -> torch.Tensor:
    """Centred average over up to 2 * reach + 1 frames, over fewer where the clip or a run of frames ends.

    Args:
        values: What to average, (num_frames, num_columns).
        reach: Frames on either side that take part.
        runs: Frames whose labels change are not averaged over the change, (num_frames,); None for one run.

    Returns:
        Averages, (num_frames, num_columns).
    """
    frame = torch.arange(len(values))
    labels = torch.zeros_like(frame) if runs is None else runs
    _, run_of_frame, counts = torch.unique_consecutive(labels, return_inverse=True, return_counts=True)
    run_end = counts.cumsum(dim=0)
    start = torch.maximum(frame - reach, (run_end - counts)[run_of_frame])
    end = torch.minimum(frame + reach + 1, run_end[run_of_frame])
    total = torch.cat([torch.zeros_like(values[:1]), values.cumsum(dim=0)])
    return (total[end] - total[start]) / (end - start).unsqueeze(-1)


def _sample_linear(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    index = positions.floor().long().clamp(0, values.shape[0] - 2)
    return torch.lerp(values[index], values[index + 1], (positions - index).unsqueeze(-1))


def _values(clip: MotionClip, field: str) -> torch.Tensor:
    """A field's values, an empty table for an optional one that is not there."""
    value = getattr(clip, field)
    return torch.zeros(0, 1, dtype=torch.float64) if value is None else value


def _check_same_joints(origin: str, have: Sequence[str], want: Sequence[str]) -> None:
    missing: list[str] = [name for name in want if name not in have]
    unknown: list[str] = [name for name in have if name not in want]
    if missing or unknown:
        problems = [f"{what} {listed(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
        raise ClipError(f"{origin}: field 'joint_names': {'; '.join(problems)}")
