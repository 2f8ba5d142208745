"""How a checkpoint, or recorded motion, moves at every speed, beside people on the same robot.

Free roll-outs from standing under steady commands, the first SETTLE_TIME left out of the gait but not of the path;
stops at several phases of the stride; and, where clips are at hand, how near the motion as a whole is to them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Sequence

import torch
from torch import Tensor

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.core.command_layout import HEIGHT, CommandLayout
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.gait import Gait, mean_velocity
from cmg_ref.evaluation.gait_track import GaitTrack
from cmg_ref.evaluation.mocap_statistics import figures_of, mocap_figures
from cmg_ref.evaluation.motion_distribution import WINDOW_TIME, MotionDistribution
from cmg_ref.evaluation.requirements import Measure
from cmg_ref.evaluation.roll_outs import RAMP_FRAMES, SETTLE_TIME, RollOuts
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.clip_generation import smooth_commands
from cmg_ref.rollout.rollout import integrate_root

Command = Sequence[float]
SMALL_COMMANDS: tuple[tuple[float, float, float], ...] = (
    (0.05, 0.0, 0.0),
    (0.1, 0.0, 0.0),
    (0.0, 0.1, 0.0),
    (0.0, 0.0, 0.1),
)
GAIT_COMMANDS: tuple[tuple[float, float, float], ...] = (
    *((vx / 10.0, 0.0, 0.0) for vx in (-6, -5, -4, -2, 2, 3, 4, 5, *range(6, 31, 2))),
    *((0.0, vy / 10.0, 0.0) for vy in (-4, -3, -2, 2, 3, 4)),
    *((0.0, 0.0, wz / 10.0) for wz in (-10, -8, -4, 4, 8, 10)),
    (0.6, 0.0, 0.8),
    (0.6, 0.0, -0.8),
)
"""vx, vy [m/s] and yaw rate [rad/s] of the table."""
LOW_HEIGHTS = (0.55, 0.62, 0.70)
"""Heights of the root [m] that a checkpoint is told that can be told one."""
LOW_COMMANDS: tuple[tuple[float, float, float], ...] = (
    (0.0, 0.0, 0.0),
    (0.5, 0.0, 0.0),
    (1.0, 0.0, 0.0),
    (0.0, 0.0, 0.8),
)
STOPPED_COMMANDS: tuple[tuple[float, float, float], ...] = (
    *((vx, 0.0, 0.0) for vx in (-0.5, 0.5, 1.0, 1.5, 2.0)),
    (0.0, 0.3, 0.0),
    (0.0, 0.0, 0.8),
)
STOP_PHASES, PHASE_TIME = 8, 0.15
"""Stops are commanded at so many moments, this far apart [s], so that they fall into all of a stride."""
LOW_TIME = 20.0
"""Length of roll-outs with the body lowered [s]."""
WALK_TIME, STOPPED_TIME = 5.0, 10.0
"""Time before the first of them, and after the last [s]."""
DISTRIBUTION_MOTIONS, DISTRIBUTION_TIME = 48, 3.0
"""Roll-outs for each speed band, and how much of each is compared after SETTLE_TIME [s]."""

LARGEST_MISS = 3.0
"""A figure that misses its limit by more than so many times counts no more in `GaitEvaluation.shortfall`."""


@dataclass(frozen=True)
class GaitRow:
    """One command.

    Attributes:
        command: vx, vy [m/s] and yaw rate [rad/s].
        ours: Figures of the motion measured, and of people at like speed beside them (empty where there are none).
        people: See `GaitFigures`.
        reached: Mean velocity under the command, as the command; None of recorded motion.
        heading: Heading at the end less what the command asked for [rad]; None of recorded motion.
        off_line: Greatest distance from the line along the first heading in the direction of the command [m]; None
            of recorded motion and where the command turns.
    """

    command: Command
    ours: dict[str, float]
    people: dict[str, float]
    reached: list[float] | None = None
    heading: float | None = None
    off_line: float | None = None


@dataclass(frozen=True)
class LowRow:
    """One command with the body lowered.

    Attributes:
        height: Height of the root that was asked for [m].
        reached_height: Its mean [m].
        row: The figures; people's are those of upright motion.
    """

    height: float
    reached_height: float
    row: GaitRow

    @property
    def label(self) -> str:
        """Such as "vx 0.5, height 0.62"."""
        return f"{gait_label(self.row.command)}, height {self.height:.2f}"

    @property
    def velocity_error(self) -> float:
        """Distance of the mean velocity from the command [m/s]."""
        assert self.row.reached is not None
        return math.hypot(self.row.reached[0] - self.row.command[0], self.row.reached[1] - self.row.command[1])


@dataclass(frozen=True)
class Stop:
    """Stopping from one command, the worst of STOP_PHASES.

    Attributes:
        command: The command before the stop.
        last_step: When a foot lands last after the command has changed to zero [s].
        feet_apart: Distance of the feet fore and aft at the end [m].
        pose_asymmetry: Root mean square of the joints' difference from the mirror image at the end [rad].
    """

    command: Command
    last_step: float
    feet_apart: float
    pose_asymmetry: float


@dataclass
class GaitEvaluation:
    """All figures.

    Attributes:
        seconds: Length of the steady roll-outs [s]; 0 of recorded motion.
        rows: One for each of GAIT_COMMANDS.
        small: One for each of SMALL_COMMANDS.
        low: One for each of LOW_COMMANDS at each of LOW_HEIGHTS, of a checkpoint that can be told a height.
        stops: One for each of STOPPED_COMMANDS.
        distribution: Ratio of Fréchet distances by speed band, see `motion_distribution`.
    """

    seconds: float
    rows: list[GaitRow] = field(default_factory=list)
    small: list[GaitRow] = field(default_factory=list)
    low: list[LowRow] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    distribution: dict[str, float] = field(default_factory=dict)

    def measures(self) -> list[Measure]:
        """Every figure with what it must be."""
        found = []
        for row in self.rows:
            found += _gait_measures(row)
            if row.heading is not None and row.command[2] == 0.0:
                label, heading = gait_label(row.command), abs(math.degrees(row.heading))
                found.append(Measure(f"heading after {self.seconds:.0f} s", label, heading, "deg", 10.0))
                must = 3.0 if tuple(row.command) == (1.0, 0.0, 0.0) else None
                found.append(Measure(f"off the line in {self.seconds:.0f} s", label, row.off_line or 0.0, "m", must))
        for row in self.small:
            if row.reached is not None:
                found.append(Measure("small command, off by", gait_label(row.command), _share_off(row), "", 0.20))
        for low in self.low:
            off = abs(low.reached_height - low.height)
            found += [
                Measure("height, off by", low.label, off, "m", 0.02),
                Measure("velocity error of low motion", low.label, low.velocity_error, "m/s", 0.08),
                *_slip_measures(low.label, low.row),
            ]
        for stop in self.stops:
            label = f"{gait_label(stop.command)} -> stand"
            must = 2.0 if abs(stop.command[0]) <= 1.5 else None
            found += [
                Measure("last step after a stop", label, stop.last_step, "s", must),
                Measure("feet apart after a stop", label, stop.feet_apart, "m", None if must is None else 0.03),
                Measure("pose against its mirror image after a stop", label, stop.pose_asymmetry, "rad"),
            ]
        found += [Measure("Fréchet ratio", name, ratio, "", 1.5) for name, ratio in self.distribution.items()]
        return found

    def shortfall(self) -> float:
        """One number to choose checkpoints by, lower is better: by how much figures miss what they must be, on average.

        A figure counts with its excess over its limit as a share of it, at most LARGEST_MISS, and 0 where it passes.
        """
        excess = [measure.value / measure.must - 1.0 for measure in self.measures() if measure.must is not None]
        # What could not be measured, NaN, misses by as much as counts.
        return sum(LARGEST_MISS if not miss < LARGEST_MISS else max(miss, 0.0) for miss in excess) / max(len(excess), 1)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: the fields as named here; None for what is not a number."""
        return _finite(asdict(self))


def evaluate_gait(
    subject: Checkpoint | MotionDataset,
    robot: Robot,
    mocap: dict[str, Any] | None = None,
    distribution: MotionDistribution | None = None,
    seconds: float = 60.0,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> GaitEvaluation:
    """Measures how a checkpoint moves, or how the motion of a dataset does.

    Args:
        subject: The checkpoint; or clips, all of which are measured wherever they are of like speed.
        robot: Robot whose feet and capsules count.
        mocap: Result of `mocap_figures` for GAIT_COMMANDS to stand beside; None if there is none.
        distribution: Recorded motion for the Fréchet ratios of a checkpoint; without it there are none.
        seconds: Length of the steady roll-outs [s].
        device: Where the network runs.
        progress: Whether to show progress bars.
    """
    if isinstance(subject, MotionDataset):
        own = mocap_figures(subject, robot, GAIT_COMMANDS)
        rows = [GaitRow(command, figures_of(own, command), figures_of(mocap, command)) for command in GAIT_COMMANDS]
        return GaitEvaluation(0.0, rows)
    roll_outs, fps = RollOuts(subject, robot, device, progress), subject.fps
    commands = torch.tensor(GAIT_COMMANDS + SMALL_COMMANDS)
    states = roll_outs.states(commands[:, None].expand(-1, round(seconds * fps), -1), "gait")
    rows = [_row(command, motion, robot, fps, mocap) for command, motion in zip(GAIT_COMMANDS + SMALL_COMMANDS, states)]
    evaluation = GaitEvaluation(seconds, rows[: len(GAIT_COMMANDS)], rows[len(GAIT_COMMANDS) :])
    evaluation.low = _low(roll_outs, subject, robot, mocap)
    evaluation.stops = _stops(roll_outs, robot, fps)
    if distribution is not None:
        evaluation.distribution = _distribution(roll_outs, distribution, fps)
    return evaluation


def gait_label(command: Command) -> str:
    """A short text for a command, e.g. `vx 0.05`."""
    return CommandLayout().described(command, ".3g", ", ")


def straightness(states: Tensor, command: Command, fps: float) -> tuple[float, float]:
    """Heading at the end less what a command asked for [rad], and greatest distance from the commanded line [m].

    Args:
        states: Motion with root in the order of `StateLayout.with_root`, (num_frames, state_dim).
        command: vx, vy [m/s] and yaw rate [rad/s].
        fps: Frames a second.
    """
    layout = StateLayout.with_root((states.shape[-1] - 8) // 2)
    position, _ = integrate_root(states[None], layout, fps)
    turned = float(layout.split(states)["root_yaw_rate"].sum()) / fps - command[2] * len(states) / fps
    direction = math.atan2(command[1], command[0])
    aside = position[0, :, 1] * math.cos(direction) - position[0, :, 0] * math.sin(direction)
    return turned, float(aside.abs().max())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _row(command: Command, states: Tensor, robot: Robot, fps: float, mocap: dict[str, Any] | None) -> GaitRow:
    settled = states[None, round(SETTLE_TIME * fps) :]
    heading, off_line = straightness(states, command, fps)
    layout = StateLayout.with_root(robot.num_joints)
    return GaitRow(
        command,
        GaitTrack.of(settled, robot, fps).figures().known(),
        figures_of(mocap, command),
        mean_velocity(states, layout).tolist(),
        heading,
        off_line if command[2] == 0.0 else None,
    )


def _gait_measures(row: GaitRow) -> list[Measure]:
    label, ours, people = gait_label(row.command), row.ours, row.people
    nan, forward = float("nan"), row.command[0]
    alone = row.command[1] == row.command[2] == 0.0
    found = _slip_measures(label, row)
    for name, title, tolerance, low in (
        ("cadence", "steps a second over people's", 0.15, 0.2),
        ("clearance", "clearance over people's", 0.25, -0.6),
    ):
        if name in people and alone and low - 1e-6 <= forward <= 2.0 + 1e-6:
            found.append(
                Measure(title + ", off 1 by", label, abs(ours.get(name, nan) / people[name] - 1.0), "", tolerance)
            )
    found.append(Measure("sway of the root", label, ours.get("sway", nan), "m/s", mocap=people.get("sway")))
    share = ours.get("contact_share", nan)
    found.append(Measure("self-contact, share of frames", label, share, "", 0.01, people.get("contact_share")))
    found.append(Measure("self-contact, 99th percentile", label, ours.get("contact_depth", nan), "m"))
    return found


def _slip_measures(label: str, row: GaitRow) -> list[Measure]:
    found = []
    for name, title in (("slip", "slip, mean"), ("slip_p90", "slip, 90th percentile")):
        must = max(0.10, 1.2 * row.people[name]) if name in row.people else None
        found.append(Measure(title, label, row.ours.get(name, float("nan")), "m/s", must, row.people.get(name)))
    return found


def _low(roll_outs: RollOuts, checkpoint: Checkpoint, robot: Robot, mocap: dict[str, Any] | None) -> list[LowRow]:
    """Roll-outs with the body lowered, none of a checkpoint that is told velocities alone."""
    layout, fps = checkpoint.command_layout, checkpoint.fps
    if HEIGHT not in layout.names:
        return []
    told = [(height, command) for height in LOW_HEIGHTS for command in LOW_COMMANDS]
    commands = layout.complete(torch.tensor([command for _, command in told]))
    commands[:, layout.column(HEIGHT)] = torch.tensor([height for height, _ in told])
    states = roll_outs.states(commands[:, None].expand(-1, round(LOW_TIME * fps), -1), "low")
    settled = roll_outs.layout.split(states[:, round(SETTLE_TIME * fps) :])["root_height"].mean(dim=(1, 2))
    return [
        LowRow(height, reached, _row(command, motion, robot, fps, mocap))
        for (height, command), reached, motion in zip(told, settled.tolist(), states)
    ]


def _share_off(row: GaitRow) -> float:
    """How far the mean velocity is off a command along one axis, as a share of it."""
    assert row.reached is not None
    axis = max(range(3), key=lambda index: abs(row.command[index]))
    return abs(row.reached[axis] / row.command[axis] - 1.0)


def _stops(roll_outs: RollOuts, robot: Robot, fps: float) -> list[Stop]:
    num_frames = round((WALK_TIME + STOP_PHASES * PHASE_TIME + STOPPED_TIME) * fps)
    commands = torch.tensor(STOPPED_COMMANDS).repeat_interleave(STOP_PHASES, dim=0)
    phases = torch.arange(STOP_PHASES).repeat(len(STOPPED_COMMANDS))
    stopped = ((WALK_TIME + PHASE_TIME * phases) * fps).round().long()
    walking = torch.arange(num_frames)[None, :, None] < stopped[:, None, None]
    states = roll_outs.states(smooth_commands(commands[:, None] * walking, RAMP_FRAMES), "stops")
    track = GaitTrack.of(states, robot, fps)
    end = torch.zeros(len(states), dtype=torch.long)
    end.scatter_reduce_(0, track.landings // num_frames, track.landings % num_frames, "amax")
    last_step = ((end - stopped).clamp(min=0).float() / fps).view(-1, STOP_PHASES).amax(dim=1)
    centres = Gait(states[:, -2:], robot, fps).feet.position_h[:, -1, ..., 0].mean(dim=-1)  # (num_motions, 2 feet)
    apart = (centres[:, 0] - centres[:, 1]).abs().view(-1, STOP_PHASES).amax(dim=1)
    pose = states[:, -1, roll_outs.layout["dof_pos"]]
    uneven = (pose - robot.mirrored(pose)).square().mean(dim=1).sqrt().view(-1, STOP_PHASES).amax(dim=1)
    rows = zip(STOPPED_COMMANDS, last_step.tolist(), apart.tolist(), uneven.tolist())
    return [Stop(*row) for row in rows]


def _distribution(roll_outs: RollOuts, distribution: MotionDistribution, fps: float) -> dict[str, float]:
    """Fréchet ratios of roll-outs told what held-out windows of each band measure."""
    told = [
        commands[torch.linspace(0, len(commands) - 1, DISTRIBUTION_MOTIONS).long()]
        for commands in distribution.commands.values()
    ]
    if not told:
        return {}
    frames = round((SETTLE_TIME + DISTRIBUTION_TIME + WINDOW_TIME) * fps)
    states = roll_outs.states(torch.cat(told)[:, None].expand(-1, frames, -1), "distribution")
    settled = states[:, round(SETTLE_TIME * fps) :].split(DISTRIBUTION_MOTIONS)
    return {name: distribution.ratio(name, own) for name, own in zip(distribution.commands, settled)}
