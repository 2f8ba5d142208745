"""Measures one recorded motion: a clip, a generated motion, or joint angles of any origin."""

from __future__ import annotations

import math
from typing import Any, Sequence

import torch
from torch import Tensor

from cmg_ref.clips.quality import run_lengths
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.evaluated_motion import RecordedMotion
from cmg_ref.evaluation.gait import (
    Gait,
    joint_acceleration,
    joint_limit_excess,
    joint_speed,
    mean_velocity,
    velocity_mismatch,
)
from cmg_ref.evaluation.gait_evaluation import straightness
from cmg_ref.evaluation.gait_track import GaitTrack
from cmg_ref.evaluation.mocap_statistics import figures_of
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
from cmg_ref.robots.robot import Robot

SETTLE_TIME = 1.5
"""Time after a change of the command that is left out [s]."""
SHORTEST_SEGMENT = 1.0
"""Commands that hold for less than this after SETTLE_TIME [s] are not judged."""
MOVING_SPEED = 0.2
"""Steps are counted in motions that get on at least this fast on average [m/s]."""


def evaluate_motion(
    motion: RecordedMotion,
    robot: Robot,
    mocap: dict[str, Any] | None = None,
    command: Sequence[float] | None = None,
) -> Evaluation:
    """Measures a recorded motion.

    Speed errors are those of each stretch of constant command, from SETTLE_TIME after its start.

    Args:
        motion: The motion.
        robot: Robot whose limits and feet count.
        mocap: Result of `mocap_figures.mocap_figures` to stand beside, None if there is none.
        command: What the whole motion was told to do, vx, vy [m/s] and yaw rate [rad/s], if its file does not say.

    Returns:
        The figures.
    """
    layout = StateLayout.with_root(robot.num_joints)
    commands = motion.commands
    if command is not None:
        commands = torch.tensor([list(command)], dtype=torch.float32).expand(len(motion.states), -1)
    stretches = [] if commands is None else constant_stretches(commands, motion.fps)
    evaluation = Evaluation(
        motion.name,
        {
            "fps": motion.fps,
            "duration [s]": round(len(motion.states) / motion.fps, 2),
            "root": motion.root_source,
            "stretches of constant command": len(stretches),
            "mocap": "none" if mocap is None else ", ".join(mocap["clips"]),
        },
    )
    if commands is not None:
        for start, end in stretches:
            wanted = tuple(commands[end - 1].tolist())
            _judge_stretch(evaluation, motion.states[start:end], wanted, layout, robot, motion.fps, mocap)
    _judge_whole(evaluation, motion, layout, robot, mocap)
    return evaluation


def constant_stretches(commands: Tensor, fps: float) -> list[tuple[int, int]]:
    """Frames [start, end) in which the command has been the same since SETTLE_TIME, at least SHORTEST_SEGMENT long."""
    changed = torch.cat((torch.ones(1, dtype=torch.bool), (commands[1:] != commands[:-1]).any(dim=-1)))
    number = torch.cumsum(changed, dim=0)
    lengths = run_lengths(number)
    settle, shortest = round(SETTLE_TIME * fps), round(SHORTEST_SEGMENT * fps)
    starts = changed.nonzero().squeeze(1).tolist()
    return [(start + settle, start + int(lengths[start])) for start in starts if lengths[start] >= settle + shortest]


def _judge_stretch(
    evaluation: Evaluation,
    states: Tensor,
    command: tuple[float, ...],
    layout: StateLayout,
    robot: Robot,
    fps: float,
    mocap: dict[str, Any] | None,
) -> None:
    """Adds speed, slip and velocities of a stretch (num_frames, state_dim) under one command."""
    label, recorded, walk = command_label(command), figures_of(mocap, command), is_walk(command)
    reached = mean_velocity(states, layout)
    error = reached - torch.tensor(command)
    slip, _ = Gait(states[None], robot, fps).mean_slip()
    heading, off_line = straightness(states, command, fps)
    evaluation.commanded.append(list(command))
    evaluation.reached.append(reached.tolist())
    evaluation.measures += [
        Measure("root speed error", label, float(error[:2].norm()), "m/s", speed_tolerance(command)),
        Measure("yaw rate error", label, float(error[2].abs()), "rad/s", yaw_tolerance(command)),
        Measure(
            "foot slip",
            label,
            float(slip),
            "m/s",
            slip_limit(recorded.get("slip")) if walk else None,
            recorded.get("slip"),
        ),
        Measure("heading at the end off the command", label, abs(math.degrees(heading)), "deg"),
    ]
    if command[2] == 0.0:
        evaluation.measures.append(Measure("off the line", label, off_line, "m"))


def _judge_whole(
    evaluation: Evaluation, motion: RecordedMotion, layout: StateLayout, robot: Robot, mocap: dict[str, Any] | None
) -> None:
    """Adds what does not depend on the command."""
    states, fps, label = motion.states[None], motion.fps, "whole motion"
    parts = layout.split(states)
    dof_pos, dof_vel = parts["dof_pos"], parts["dof_vel"]
    gait = Gait(states, robot, fps)
    figures = GaitTrack.of(states, robot, fps).figures()
    velocity = mean_velocity(states, layout)[0]
    excess = joint_limit_excess(dof_pos, robot).amax(dim=-1)
    height = parts["root_height"]
    evaluation.measures += [
        Measure("mean forward speed", label, float(velocity[0]), "m/s"),
        Measure("mean sideways speed", label, float(velocity[1]), "m/s"),
        Measure("mean yaw rate", label, float(velocity[2]), "rad/s"),
        Measure("foot slip", label, figures.slip, "m/s"),
        Measure("foot slip, 90th percentile", label, figures.slip_p90, "m/s"),
        Measure("share of time on a stance foot", label, figures.stance_share, ""),
        Measure("lift-offs", label, figures.cadence, "Hz"),
        Measure("clearance", label, figures.clearance, "m"),
        Measure("self-contact, share of frames", label, figures.contact_share, ""),
        Measure("self-contact, 99th percentile", label, figures.contact_depth, "m"),
        Measure("joint limits exceeded", label, float(excess.max()), "rad", 0.01),
        Measure("frames beyond joint limits", label, float((excess > 0.01).float().mean()), ""),
        Measure("velocity mismatch", label, float(velocity_mismatch(dof_pos, dof_vel, fps)), "", 0.10),
        Measure("rms joint speed", label, float(joint_speed(dof_pos, dof_vel, fps)), "rad/s"),
        Measure("lowest root", label, float(height.min()), "m"),
        Measure("highest root", label, float(height.max()), "m"),
    ]
    if states.shape[1] >= 3:
        evaluation.measures.append(acceleration_measure(joint_acceleration(dof_pos[0], fps).abs(), label, robot, mocap))
    if float(velocity[:2].norm()) >= MOVING_SPEED:
        steps = gait.steps(0)
        evaluation.measures += [
            Measure("step frequency", label, steps.frequency, "Hz"),
            Measure("step length, left against right", label, steps.length_asymmetry, ""),
            Measure("step time, left against right", label, steps.time_asymmetry, ""),
        ]
