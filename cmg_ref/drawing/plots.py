"""One picture of a motion clip: what was commanded and done, the feet, the joints and their limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import torch

from cmg_ref.clips.command_measures import measured_commands
from cmg_ref.clips.dataset import COMMAND_TIME, average_command
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.command_layout import VELOCITY_CHANNELS, CommandLayout
from cmg_ref.files.atomic_file import atomic_file
from cmg_ref.robots.kinematics import FootKinematics
from cmg_ref.robots.robot import Robot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOT_SUFFIXES = (".png", ".pdf", ".svg")
CONTACT_HEIGHT = 0.02  # [m] a foot whose lowest point is lower than this is shown as touching the floor
MEASURED, COMMANDED = "#1f5fa8", "#d1495b"
SIDES = {"left": "#2f6fb7", "right": "#e2832b", "middle": "#4d9078"}
NUM_PANELS = 9  # of joints


def save_clip_plot(clip: MotionClip, path: str | Path, robot: Robot) -> None:
    """Draws `clip_figure` into a file.

    Args:
        clip: The motion.
        path: A file that ends in .png, .pdf or .svg.
        robot: Whose joints the clip has.

    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: The file's ending is another one.
        ClipError: The clip has other joints than the robot.
    """
    if Path(path).suffix not in PLOT_SUFFIXES:
        raise ValueError(f"{path}: a plot ends in {', '.join(PLOT_SUFFIXES)}")
    figure = clip_figure(clip, robot)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def clip_figure(clip: MotionClip, robot: Robot) -> Figure:
    """A matplotlib figure of a clip, which needs no screen.

    Args:
        clip: The motion.
        robot: Whose joints the clip has.

    Raises:
        ImportError: Matplotlib is not installed.
        ClipError: The clip has other joints than the robot.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'cmg_ref[viz]'") from error
    clip = clip.reordered(robot)
    time = (torch.arange(clip.num_frames) / clip.fps).numpy()
    figure = Figure(figsize=(16.0, 11.0), layout="constrained")
    figure.suptitle(f"{clip.name}: {clip.num_frames} frames at {clip.fps:g} per second", fontsize=13)
    grid = figure.add_gridspec(6, 5, width_ratios=(1.35, 1.0, 1.0, 1.0, 1.0))
    velocity = [figure.add_subplot(grid[row, 0]) for row in range(3)]
    _plot_velocity(velocity, time, clip)
    path_axes, height_axes, feet_axes = (figure.add_subplot(grid[row, 0]) for row in (3, 4, 5))
    _plot_path(path_axes, clip)
    _plot_height(height_axes, time, clip, robot)
    _plot_feet(feet_axes, time, clip, robot)
    for index, (title, parts) in enumerate(_joint_panels(robot).items()):
        row, column = divmod(index, 3)
        axes = figure.add_subplot(grid[2 * row : 2 * row + 2, 1 + column])
        _plot_joints(axes, time, clip, title, parts, robot)
    _plot_limits(figure.add_subplot(grid[:, 4]), clip, robot)
    for axes in figure.axes:
        axes.grid(True, color="#e4e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure


def _plot_velocity(panels: list[Axes], time: Any, clip: MotionClip) -> None:
    """Heading-frame vx, vy and yaw rate: as they are, averaged over a stride, and as commanded."""
    measured = measured_commands(clip, CommandLayout())
    average = average_command(clip, torch.ones(clip.num_frames, dtype=torch.bool))
    for column, (axes, channel) in enumerate(zip(panels, VELOCITY_CHANNELS)):
        axes.plot(time, measured[:, column], color=MEASURED, alpha=0.30, linewidth=0.8, label="root")
        axes.plot(time, average[:, column], color=MEASURED, linewidth=1.8, label=f"average over {COMMAND_TIME:g} s")
        shown = [average[:, column]]
        if clip.command is not None:
            command = clip.command[:, column]
            axes.plot(time, command, color=COMMANDED, linewidth=1.4, linestyle="--", label="command")
            shown.append(command)
        # The sway within a step must not hide a small difference, nor a flat line look like a wave.
        low, high = float(torch.cat(shown).min()), float(torch.cat(shown).max())
        middle, half = 0.5 * (low + high), max(0.65 * (high - low), 0.6)
        axes.set_ylim(middle - half, middle + half)
        axes.set_title(channel.title, fontsize=10, loc="left")
        axes.set_xlim(time[0], time[-1])
    panels[0].legend(fontsize=6, ncols=3, loc="lower right", framealpha=0.8)


def _plot_path(axes: Axes, clip: MotionClip) -> None:
    """The way of the root, seen from above."""
    axes.plot(clip.root_pos[:, 0], clip.root_pos[:, 1], color=MEASURED, linewidth=1.6)
    axes.plot(*clip.root_pos[0, :2].tolist(), "o", color="#4d9078", markersize=6, label="start")
    axes.plot(*clip.root_pos[-1, :2].tolist(), "s", color=COMMANDED, markersize=6, label="end")
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.15)
    axes.set_title("path of the root, from above [m]", fontsize=10, loc="left")
    axes.legend(fontsize=7, ncols=2, loc="best", framealpha=0.8)


def _plot_height(axes: Axes, time: Any, clip: MotionClip, robot: Robot) -> None:
    axes.plot(time, clip.root_height(), color=MEASURED, linewidth=1.4)
    low, high = float(clip.root_height().min()), float(clip.root_height().max())
    lowest, highest = robot.spec.walking_height
    axes.set_ylim(min(low - 0.02, lowest + 0.01), max(high + 0.02, highest - 0.01))
    axes.set_xlim(time[0], time[-1])
    axes.set_title("root height [m]", fontsize=10, loc="left")


def _plot_feet(axes: Axes, time: Any, clip: MotionClip, robot: Robot) -> None:
    """Height of each foot's lowest point, and bars while it is near the floor."""
    feet = FootKinematics(robot, dtype=torch.float64)
    points = feet(clip.dof_pos, clip.root_pos, clip.root_quat)  # (num_frames, 2, 4, 3)
    lowest = points[..., 2].min(dim=-1).values - feet.radius  # (num_frames, 2)
    high = max(0.15, float(lowest.max()) * 1.1)
    for side, (name, heights) in enumerate(zip(("left", "right"), lowest.T)):
        axes.plot(time, heights, color=SIDES[name], linewidth=1.2, label=name)
        top = -high * (0.10 + 0.14 * side)
        bar = (top - 0.10 * high, top)
        axes.fill_between(time, *bar, where=(heights < CONTACT_HEIGHT).numpy(), color=SIDES[name], linewidth=0.0)
    axes.axhline(0.0, color="#8a929c", linewidth=0.8)
    axes.set_ylim(-0.40 * high, high)
    axes.set_xlim(time[0], time[-1])
    axes.set_title(
        f"lowest point of each foot [m], bars: under {1000 * CONTACT_HEIGHT:.0f} mm", fontsize=10, loc="left"
    )
    axes.set_xlabel("time [s]", fontsize=9)
    axes.legend(fontsize=7, ncols=2, loc="upper right", framealpha=0.8)


def _joint_panels(robot: Robot) -> Mapping[str, Sequence[str]]:
    """Title of each panel, and parts of the names of its joints."""
    if robot.spec.joint_panels:
        return robot.spec.joint_panels
    pairs = dict.fromkeys(tuple(sorted({name, robot.spec.mirrored_name(name)})) for name in robot.joint_names)
    groups = [list(pairs)[start::NUM_PANELS] for start in range(min(NUM_PANELS, len(pairs)))]
    return {_label(group[0][0]): [name for pair in group for name in pair] for group in groups}


def _label(joint: str) -> str:
    return joint.replace("_joint", "").replace("_", " ")


def _side(joint: str, robot: Robot) -> str:
    """Left, right or middle."""
    for left, right in robot.spec.mirror_names:
        if left in joint or right in joint:
            return "left" if left in joint else "right"
    return "middle"


def _plot_joints(axes: Axes, time: Any, clip: MotionClip, title: str, parts: Sequence[str], robot: Robot) -> None:
    """Angles of a group of joints, left and right in their colours; further joints of a side are dashed or dotted."""
    drawn = dict.fromkeys(SIDES, 0)
    for joint, name in enumerate(clip.joint_names):
        if not any(part in name for part in parts):
            continue
        side = _side(name, robot)
        style = ("-", "--", ":")[drawn[side] % 3]
        drawn[side] += 1
        axes.plot(time, clip.dof_pos[:, joint], color=SIDES[side], linestyle=style, linewidth=1.1, label=_label(name))
    axes.set_title(f"{title} [rad]", fontsize=10, loc="left")
    axes.set_xlim(time[0], time[-1])
    low, high = axes.get_ylim()
    legend_rows = (sum(drawn.values()) + 1) // 2
    axes.set_ylim(low, high + (0.05 + 0.07 * legend_rows) * (high - low))
    axes.legend(fontsize=6, ncols=2, loc="upper right", framealpha=0.8)


def _plot_limits(axes: Axes, clip: MotionClip, robot: Robot) -> None:
    """How much of its range each joint uses: 0 is the lower limit and 1 the upper one; beyond is red."""
    lower, upper = robot.joint_lower, robot.joint_upper
    used = (clip.dof_pos - lower) / (upper - lower)
    low, high = used.min(dim=0).values, used.max(dim=0).values
    rows = range(robot.num_joints)
    broken = (low < 0.0) | (high > 1.0)
    axes.barh(rows, [1.0] * robot.num_joints, color="#edf0f3", height=0.72)
    colors = [COMMANDED if bad else SIDES[_side(name, robot)] for bad, name in zip(broken, robot.joint_names)]
    axes.barh(rows, (high - low).tolist(), left=low.tolist(), color=colors, height=0.40)
    axes.set_yticks(list(rows), [_label(name) for name in robot.joint_names])
    axes.set_ylim(robot.num_joints - 0.5, -0.5)
    axes.set_xlim(min(-0.02, float(low.min()) - 0.02), max(1.02, float(high.max()) + 0.02))
    axes.set_xticks([0.0, 0.5, 1.0], ["lower", "middle", "upper"])
    verdict = f"{int(broken.sum())} joints beyond their limits" if broken.any() else "all within their limits"
    axes.set_title(f"range used: {verdict}", fontsize=10, loc="left")
