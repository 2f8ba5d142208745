"""Measures a checkpoint by free roll-outs: does it go where it is told, on feet that stand, for as long as it is asked?

Every roll-out starts from standing and runs free; the first SETTLE_TIME is left out. What each figure must be stands in
`measures`, how it is measured in `gait`.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg
from cmg_ref.core.command_layout import HEIGHT, CommandLayout
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.gait import (
    STANCE_HEIGHT,
    Gait,
    joint_acceleration,
    joint_limit_excess,
    joint_speed,
    mean_velocity,
    tilt_angle,
    velocity_mismatch,
)
from cmg_ref.evaluation.gait_evaluation import GAIT_COMMANDS, evaluate_gait
from cmg_ref.evaluation.mocap_statistics import figures_of
from cmg_ref.evaluation.motion_distribution import MotionDistribution
from cmg_ref.evaluation.report import Evaluation
from cmg_ref.evaluation.requirements import (
    Measure,
    acceleration_measure,
    command_label,
    is_walk,
    slip_limit,
    speed_tolerance,
    yaw_tolerance,
)
from cmg_ref.evaluation.roll_outs import RAMP_FRAMES, SETTLE_TIME, RollOuts
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.clip_generation import smooth_commands
from cmg_ref.rollout.rollout import Rollout, integrate_root

STEADY_COMMANDS: tuple[tuple[float, float, float], ...] = (
    *((vx, 0.0, 0.0) for vx in (-0.6, -0.3, 0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0)),
    (0.0, 0.4, 0.0),
    (0.0, -0.4, 0.0),
    (0.0, 0.0, 1.0),
    (0.0, 0.0, -1.0),
    (0.6, 0.0, 1.0),
    (0.6, 0.0, -1.0),
)
COMPARED_COMMANDS = STEADY_COMMANDS + GAIT_COMMANDS
"""Commands whose figures of recorded motion stand beside a checkpoint's."""
COMMAND_CHANGES: tuple[tuple[tuple[float, float, float], ...], ...] = (
    ((0.0, 0.0, 0.0), (1.5, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ((1.0, 0.0, 0.0), (-0.5, 0.0, 0.0)),
    ((0.0, 0.0, 1.0), (0.0, 0.0, -1.0)),
)
COUNTING_TIME = 10.0
"""Steps are compared between the first and the last so many seconds [s]."""
CHANGE_TIME = 5.0
"""Time between changes of the command [s]."""
RESPONSE_TIME = 1.5
"""After a change the speed must be right from then on [s]; it is averaged over AVERAGE_TIME, about one stride."""
AVERAGE_TIME = 1.0
LOW_RANGES = {"lin_vel_x": (-0.4, 1.0), "lin_vel_y": (-0.3, 0.3), "ang_vel_yaw": (-0.8, 0.8)}
"""What who is told a height is told besides, at random [m/s, rad/s]."""
HEIGHT_MARGIN = 0.04
"""A root this far outside of the heights of walking and running [m] has gone astray."""
LARGEST_TILT = 0.7
LIMIT_EXCESS = 0.01
BLOCK_SIZE = 1024
"""Random roll-outs that are made at once: larger blocks leave a CPU's cache and are slower."""


class CheckpointEvaluation:
    """Rolls a checkpoint out and measures it.

    Args:
        checkpoint: The checkpoint.
        robot: Robot whose limits and feet count; its joints are matched by name.
        mocap: Result of `mocap_figures` for COMPARED_COMMANDS to stand beside, None if there is none.
        distribution: Recorded motion to compare the motion as a whole with, None if there is none.
        quick: Shorter and fewer roll-outs, for a first look.
        device: Where the network runs.
        progress: Whether to show progress bars.

    Raises:
        ValueError: The checkpoint has other joints than the robot.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        robot: Robot,
        mocap: dict[str, Any] | None = None,
        quick: bool = False,
        device: str | torch.device = "cpu",
        progress: bool = True,
        distribution: MotionDistribution | None = None,
    ) -> None:
        self.checkpoint, self.robot, self.mocap, self.distribution = checkpoint, robot, mocap, distribution
        self.device = torch.device(device)
        self.fps = checkpoint.fps
        self.layout = StateLayout.with_root(robot.num_joints)
        self.steady_time, self.long_time = (10.0, 20.0) if quick else (20.0, 60.0)
        self.num_random, self.random_time = (256, 20.0) if quick else (4096, 60.0)
        self.roll_outs = RollOuts(checkpoint, robot, device, progress)

    def run(self, subject: str, only_gait: bool = False) -> Evaluation:
        """Measure.

        Args:
            subject: Name of the checkpoint for the report.
            only_gait: Whether to measure only how it moves, instead of everything.
        """
        evaluation = Evaluation(
            subject,
            {
                "fps": self.fps,
                "steady roll-outs [s]": self.steady_time,
                "long roll-outs [s]": self.long_time,
                "random roll-outs": self.num_random,
                "random roll-outs [s]": self.random_time,
                "left out at the start [s]": SETTLE_TIME,
                "root": "predicted" if self.checkpoint.layout.has_root else "estimated from the stance foot",
                "mocap": "none" if self.mocap is None else ", ".join(self.mocap["clips"]),
            },
        )
        self.gait(evaluation)
        if only_gait:
            return evaluation
        steady = self.steady(evaluation)
        long = self.long(evaluation)
        changes = self.changes(evaluation)
        joints = self.layout["dof_pos"]
        excess = max(
            float(joint_limit_excess(states[..., joints], self.robot).max()) for states in (steady, long, changes)
        )
        evaluation.measures.append(Measure("joint limits exceeded", "all of the above", excess, "rad", LIMIT_EXCESS))
        self.random(evaluation)
        return evaluation

    def gait(self, evaluation: Evaluation) -> None:
        """How it moves at every speed beside people, and how it stops."""
        evaluation.gait = evaluate_gait(
            self.checkpoint,
            self.robot,
            self.mocap,
            self.distribution,
            self.long_time,
            self.device,
            self.roll_outs.progress,
        )

    def steady(self, evaluation: Evaluation) -> Tensor:
        """Speed, foot slip and velocities under each of STEADY_COMMANDS; returns the states."""
        commands = torch.tensor(STEADY_COMMANDS)[:, None].expand(-1, round(self.steady_time * self.fps), -1)
        states = self.roll_outs.states(commands, "steady commands")
        settled = states[:, round(SETTLE_TIME * self.fps) :]
        reached = mean_velocity(settled, self.layout)
        slip, stance_share = Gait(settled, self.robot, self.fps).mean_slip()
        parts = self.layout.split(settled)
        mismatch = velocity_mismatch(parts["dof_pos"], parts["dof_vel"], self.fps)
        error = reached - torch.tensor(STEADY_COMMANDS)
        rows: list[list[Measure]] = [[], [], [], [], []]
        for index, command in enumerate(STEADY_COMMANDS):
            label, recorded = command_label(command), figures_of(self.mocap, command)
            walk = is_walk(command)
            speed_error = float(error[index, :2].norm())
            rows[0].append(Measure("root speed error", label, speed_error, "m/s", speed_tolerance(command)))
            yaw_error = float(error[index, 2].abs())
            rows[1].append(Measure("yaw rate error", label, yaw_error, "rad/s", yaw_tolerance(command)))
            limit = slip_limit(recorded.get("slip")) if walk else None
            rows[2].append(Measure("foot slip", label, float(slip[index]), "m/s", limit, recorded.get("slip")))
            share, recorded_share = float(stance_share[index]), recorded.get("stance_share")
            rows[3].append(Measure("share of time on a stance foot", label, share, "", None, recorded_share))
            limit = 0.10 if walk else None
            rows[4].append(
                Measure("velocity mismatch", label, float(mismatch[index]), "", limit, recorded.get("mismatch"))
            )
        evaluation.measures += [measure for group in rows for measure in group]
        evaluation.commanded = [list(command) for command in STEADY_COMMANDS]
        evaluation.reached = reached.tolist()
        return states

    def long(self, evaluation: Evaluation) -> Tensor:
        """Standing still and walking evenly for a long time; returns the states."""
        stand, walk = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0)
        num_frames, settle = round(self.long_time * self.fps), round(SETTLE_TIME * self.fps)
        states = self.roll_outs.states(
            torch.tensor([stand, walk])[:, None].expand(-1, num_frames, -1), "long roll-outs"
        )
        standing = states[:1, settle:]
        parts = self.layout.split(standing)
        position, _ = integrate_root(standing, self.layout, self.fps)
        drift = float((position[0, :, :2] - position[0, :1, :2]).norm(dim=-1).max())
        speed = float(joint_speed(parts["dof_pos"], parts["dof_vel"], self.fps))
        lift = float(Gait(standing, self.robot, self.fps).highest_foot())
        recorded = figures_of(self.mocap, stand)
        label = f"stand {self.long_time:.0f} s"
        evaluation.measures += [
            Measure("rms joint speed", label, speed, "rad/s", 0.05, recorded.get("joint_speed")),
            Measure("root drift", label, drift, "m", 0.05),
            Measure("higher foot above the lower", label, lift, "m", STANCE_HEIGHT, recorded.get("highest_foot")),
        ]
        window = min(round(COUNTING_TIME * self.fps), (num_frames - settle) // 2)
        first = Gait(states[1:, settle : settle + window], self.robot, self.fps).steps(0)
        last = Gait(states[1:, -window:], self.robot, self.fps).steps(0)
        whole = Gait(states[1:, settle:], self.robot, self.fps).steps(0)
        recorded = figures_of(self.mocap, walk)
        label = f"vx 1.0, {self.long_time:.0f} s"
        change = abs(last.frequency / first.frequency - 1.0)
        evaluation.measures += [
            Measure("step frequency", label, whole.frequency, "Hz", None, recorded.get("step_frequency")),
            Measure("step frequency, last against first", label, change, "", 0.10),
            Measure(
                "step length, left against right",
                label,
                whole.length_asymmetry,
                "",
                0.10,
                recorded.get("length_asymmetry"),
            ),
            Measure(
                "step time, left against right", label, whole.time_asymmetry, "", 0.10, recorded.get("time_asymmetry")
            ),
        ]
        return states

    def changes(self, evaluation: Evaluation) -> Tensor:
        """Response to changes of the command, ramped as the generator ramps them; returns the states."""
        phase = round(CHANGE_TIME * self.fps)
        longest = max(len(schedule) for schedule in COMMAND_CHANGES)
        # Shorter schedules hold their last command.
        table = torch.tensor([schedule + schedule[-1:] * (longest - len(schedule)) for schedule in COMMAND_CHANGES])
        commands = smooth_commands(table.repeat_interleave(phase, dim=1), RAMP_FRAMES)
        states = self.roll_outs.states(commands, "command changes")
        velocity = states[..., [*_columns(self.layout, "root_lin_vel_h")[:2], *_columns(self.layout, "root_yaw_rate")]]
        start, length = round(RESPONSE_TIME * self.fps), round(AVERAGE_TIME * self.fps)
        acceleration = joint_acceleration(states[..., self.layout["dof_pos"]], self.fps).abs()
        responses, accelerations = [], []
        for index, schedule in enumerate(COMMAND_CHANGES):
            for number, (before, after) in enumerate(zip(schedule[:-1], schedule[1:]), start=1):
                changed = number * phase
                label = f"{command_label(before)} -> {command_label(after)}"
                mean = velocity[index, changed + start : changed + start + length].mean(dim=0)
                error = mean - torch.tensor(after)
                speed_error = float(error[:2].norm())
                responses.append(
                    Measure("root speed error 1.5 s after a change", label, speed_error, "m/s", speed_tolerance(after))
                )
                if yaw_tolerance(after) is not None:
                    yaw_error = float(error[2].abs())
                    responses.append(
                        Measure("yaw rate error 1.5 s after a change", label, yaw_error, "rad/s", yaw_tolerance(after))
                    )
                accelerations.append(
                    acceleration_measure(
                        acceleration[index, changed : changed + phase], label, self.robot, self.mocap, 1.5
                    )
                )
        evaluation.measures += responses + accelerations
        return states

    def random(self, evaluation: Evaluation) -> None:
        """Many roll-outs from any initial state, whose commands jump every 1 to 4 s over all trained velocities.

        Where heights can be told, an eighth as many are told heights too, at speeds at which the gait is measured low.
        """
        checkpoint = self.checkpoint
        layout, (low, high) = checkpoint.command_layout, self.robot.spec.walking_height
        alone = layout.velocity_alone(checkpoint.initial_commands)
        trained = dict(zip(layout.names, zip(checkpoint.command_min.tolist(), checkpoint.command_max.tolist())))
        velocities = {name: trained[name] for name in CommandLayout().names}
        label = f"{self.num_random} random roll-outs of {self.random_time:.0f} s"
        self._random(evaluation, label, checkpoint.initial_states[alone], self.num_random, velocities, low, high)
        if HEIGHT in layout.names:
            num = self.num_random // 8
            label = f"{num} random roll-outs at random heights"
            ranges = {**LOW_RANGES, HEIGHT: trained[HEIGHT]}
            self._random(evaluation, label, checkpoint.initial_states, num, ranges, trained[HEIGHT][0], high)

    def _random(
        self,
        evaluation: Evaluation,
        label: str,
        initial: Tensor,
        num: int,
        ranges: Mapping[str, tuple[float, float]],
        low: float,
        high: float,
    ) -> None:
        """So many roll-outs from initial states under commands in ranges, whose root stays between two heights [m]."""
        draw = CommandSamplerCfg.over(ranges, standing_share=0.0, resampling_time=(1.0, 4.0), further_share=1.0)
        layout = self.checkpoint.command_layout
        initial = initial[torch.arange(num) % len(initial)]
        rollout = Rollout(self.checkpoint.model, self.device, stance=self.roll_outs.stances)
        lengths = self.roll_outs.chunk_lengths(self.random_time)
        low, high = low - HEIGHT_MARGIN, high + HEIGHT_MARGIN
        lowest, highest, tilt, excess, num_diverged = float("inf"), 0.0, 0.0, 0.0, 0
        with self.roll_outs.bar("random commands", num * sum(lengths)) as bar:
            for number, block in enumerate(initial.split(BLOCK_SIZE)):
                sampler = CommandSampler(len(block), draw, 1.0 / self.fps, seed=number, layout=layout)
                diverged = torch.zeros(len(block), dtype=torch.bool, device=self.device)
                for chunk in self.roll_outs.chunks(rollout, block, _random_commands(sampler, lengths), bar):
                    states = self.roll_outs.with_root(chunk)
                    parts = self.layout.split(states)
                    height, angle = parts["root_height"].squeeze(-1), tilt_angle(parts["projected_gravity"])
                    beyond = joint_limit_excess(parts["dof_pos"], self.robot).amax(dim=-1)  # (block, chunk length)
                    # Written so that a state that is not a number is not sound either.
                    sound = (height >= low) & (height <= high) & (angle < LARGEST_TILT)
                    diverged |= ~(sound & (beyond <= LIMIT_EXCESS)).all(dim=1)
                    lowest, highest = min(lowest, float(height.min())), max(highest, float(height.max()))
                    tilt, excess = max(tilt, float(angle.max())), max(excess, float(beyond.max()))
                num_diverged += int(diverged.sum())
        evaluation.measures += [
            Measure("diverged roll-outs", label, float(num_diverged), "", 0.0),
            Measure("lowest root", label, lowest, "m", low, at_least=True),
            Measure("highest root", label, highest, "m", high),
            Measure("largest tilt", label, tilt, "rad", LARGEST_TILT),
            Measure("joint limits exceeded", label, excess, "rad", LIMIT_EXCESS),
            Measure(
                "frames in which the guard acts", label, float(rollout.guard_count) / rollout.frame_count, "", 0.01
            ),
        ]


def _random_commands(sampler: CommandSampler, chunk_lengths: Sequence[int]) -> Iterator[Tensor]:
    """Commands of each chunk, (num_envs, chunk length, command_dim)."""
    command = sampler.sample(len(sampler.steps_left))
    for length in chunk_lengths:
        frames = []
        for _ in range(length):
            frames.append(command)
            command, _ = sampler.step(command)
        yield torch.stack(frames, dim=1)


def _columns(layout: StateLayout, name: str) -> list[int]:
    columns = layout[name]
    return list(range(columns.start, columns.stop))
