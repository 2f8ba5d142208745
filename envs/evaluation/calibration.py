"""Finds the offsets on commands with which a policy obeys: what it errs by in roll-outs of a grid of commands."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

from cmg_ref.commands.calibration import NATURAL_HEIGHT, CommandCalibration, HeightCalibration
from cmg_ref.commands.sampler import ranges_of
from cmg_ref.core.command_layout import HEIGHT, NUM_VELOCITIES, VELOCITY_CHANNELS
from envs.evaluation.cases import EvaluationCase
from envs.evaluation.policy_evaluation import evaluate

# Nodes of the grid, as far as they lie within the range of commands, whose ends are nodes too.
NODES = (
    (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5),
    (-0.3, -0.15, 0.0, 0.15, 0.3),
    (-0.8, -0.4, 0.0, 0.4, 0.8),
)
# Largest offsets [m/s], [m/s], [rad/s]: a policy that errs by more is not to be pressed further.
LARGEST = (0.25, 0.15, 0.25)
HEIGHTS = (0.6, 0.65, 0.7)  # [m]
# By speed, commands at which offsets on heights are measured: those of one speed get the same.
AT_SPEEDS = {
    0.0: ((0.0, 0.0, 0.0),),
    0.5: ((0.5, 0.0, 0.0), (-0.5, 0.0, 0.0), (0.0, 0.0, 0.5), (0.0, 0.0, -0.5)),
    1.0: ((1.0, 0.0, 0.0),),
}
LARGEST_HEIGHT = 0.1  # offset on a height [m]
HEIGHT_ROUNDS = 4  # of which the last tries whether robots stay up
DURATION = 9.0  # [s] of a roll-out
# The share of the error that each round makes good: the first finds the offsets, the later ones average over noise.
ROUNDS = (0.8, 0.6, 0.4, 0.3)
# In the end each offset is tried with so many times as many robots, and taken back by these shares where one falls: a
# reference may stumble at a command that differs by a thousandth from one at which it does not.
CHECKED, TAKEN_BACK = 2, (0.5, 0.75, 1.0)
SEED = 90_001  # of the robots and roll-outs, which no evaluation uses by default


def calibrate(
    env: Any,
    policy: Callable[[torch.Tensor], torch.Tensor],
    rollouts: int = 3,
    report: Callable[[str], None] = lambda line: None,
) -> CommandCalibration:
    """Offsets with which a policy obeys better.

    What the environment is told stays within the range of its configuration. Where a robot falls, the offset is halved:
    obeying is not worth falling. Those of a command and of its mirror image are measured each for itself: a policy may
    do the same in a mirror, the reference that it follows does not. If the environment is told heights, those get
    offsets too.

    Args:
        env: An environment made with :func:`envs.evaluation.policy_evaluation.evaluation_config` for at least
            `DURATION`.
        policy: Observations (num_envs, num_obs) to actions (num_envs, num_actions).
        rollouts: Of each node and round.
        report: Told after each round how far from their commands robots were, in a line.

    Raises:
        ValueError: A robot falls at every command.
    """
    ranges = ranges_of(env.cfg.commands.ranges)
    limits = [ranges[channel.name] for channel in VELOCITY_CHANNELS]
    nodes = [
        sorted({lowest, highest, *(node for node in inner if lowest < node < highest)})
        for inner, (lowest, highest) in zip(NODES, limits)
    ]
    told, (low, high) = torch.tensor(list(itertools.product(*nodes))), torch.tensor(limits).T
    still = ~told.any(dim=1)
    offsets, largest = torch.zeros_like(told), torch.tensor(LARGEST)
    for number, share in enumerate(ROUNDS, 1):
        cases = [
            EvaluationCase(str(node), tuple(command), DURATION)
            for node, command in enumerate((told + offsets).tolist())
        ]
        results = evaluate(env, policy, cases, rollouts, SEED, progress=True).results
        error = told - torch.tensor([result.velocity for result in results])
        fell = torch.tensor([result.survival < 1.0 for result in results]) | error.isnan().any(dim=1)
        if bool(fell.all()):
            raise ValueError("robots fall at every command: there is nothing yet that offsets could make good")
        linear, turning = error[~fell, :2].norm(dim=1).mean(), error[~fell, 2].abs().mean()
        report(
            f"round {number} of {len(ROUNDS)}: {linear:.3f} m/s and {turning:.3f} rad/s off the command in the mean of "
            f"{len(told)} commands; a robot fell at {int(fell.sum())} of them"
        )
        better = (offsets + share * error).clamp(-largest, largest)
        offsets = torch.where(fell.unsqueeze(1), 0.5 * offsets, better)
        offsets = torch.minimum(torch.maximum(offsets, low - told), high - told)
        offsets[still] = 0.0
    offsets = (1000.0 * offsets).round() / 1000.0  # what is tried now is what the file says
    wrong, offsets = taken_back(env, policy, told, offsets, CHECKED * rollouts)
    report(f"robots fell with the offsets of {wrong} commands, which got smaller ones or none")
    calibration = CommandCalibration(nodes, offsets.reshape(*map(len, nodes), NUM_VELOCITIES))
    if HEIGHT in env.command_layout.names:
        calibration.height = calibrate_heights(env, policy, calibration, rollouts, report)
    return calibration


def calibrate_heights(
    env: Any,
    policy: Callable[[torch.Tensor], torch.Tensor],
    calibration: CommandCalibration,
    rollouts: int,
    report: Callable[[str], None],
) -> HeightCalibration | None:
    """Offsets on heights, for an environment that is told such; None if none of `HEIGHTS` is within its range.

    Args:
        env: As of :func:`calibrate`, and so are the next and the last two.
        policy: Observations to actions.
        calibration: Offsets on the velocities.
        rollouts: Of each command and round.
        report: Told after each round how far from their heights robots were, in a line.
    """
    low, high = ranges_of(env.cfg.commands.ranges)[HEIGHT]
    heights = [height for height in HEIGHTS if low <= height <= high]
    if not heights:
        return None
    commands = [(column, command) for column, some in enumerate(AT_SPEEDS.values()) for command in some]
    told = torch.tensor(heights).unsqueeze(1).repeat(1, len(AT_SPEEDS))
    offsets, error, fell = torch.zeros_like(told), torch.zeros_like(told), torch.zeros_like(told, dtype=torch.bool)
    deepest, highest = (low - told).clamp(min=-LARGEST_HEIGHT), (high - told).clamp(max=LARGEST_HEIGHT)
    for number in range(1, HEIGHT_ROUNDS + 1):
        cases = [
            EvaluationCase(f"{asked[column]:.3f} m", command, DURATION, height=asked[column])
            for asked in (told + offsets).tolist()
            for column, command in commands
        ]
        results = evaluate(env, policy, cases, rollouts, SEED, progress=True, calibration=calibration).results
        reached = torch.tensor([result.base_height for result in results]).view(len(heights), len(commands))
        falls = torch.tensor([result.survival < 1.0 for result in results]).view_as(reached)
        for column in range(len(AT_SPEEDS)):
            alike = [index for index, (its, _) in enumerate(commands) if its == column]
            error[:, column] = told[:, column] - reached[:, alike].mean(dim=1)
            fell[:, column] = falls[:, alike].any(dim=1) | error[:, column].isnan()
        report(
            f"heights, round {number} of {HEIGHT_ROUNDS}: {error[~fell].abs().mean():.3f} m off in the mean of "
            f"{told.numel()} heights and speeds; a robot fell at {int(fell.sum())} of them"
        )
        deepest = torch.where(fell, 0.5 * offsets, deepest)
        if number < HEIGHT_ROUNDS:
            offsets = torch.where(fell, offsets, offsets + error)
        offsets = torch.minimum(torch.maximum(offsets, deepest), highest)
    offsets = torch.cat(((1000.0 * offsets).round() / 1000.0, torch.zeros_like(offsets[:1])))
    return HeightCalibration([*heights, NATURAL_HEIGHT], list(AT_SPEEDS), offsets)


def taken_back(
    env: Any, policy: Callable[[torch.Tensor], torch.Tensor], told: torch.Tensor, offsets: torch.Tensor, rollouts: int
) -> tuple[int, torch.Tensor]:
    """Offsets with which nobody falls, where there are such.

    Args:
        env: As of :func:`calibrate`, and so is the next.
        policy: Observations to actions.
        told: Commands, (num_nodes, NUM_VELOCITIES).
        offsets: What is added to them, of the same shape.
        rollouts: Of each command.

    Returns:
        With how many of the offsets a robot fell, and the offsets.
    """
    offsets, given, fell = offsets.clone(), offsets, 0
    wrong = torch.arange(len(told))
    for number, share in enumerate((0.0, *TAKEN_BACK)):
        offsets[wrong] = (1.0 - share) * given[wrong]
        cases = [EvaluationCase(str(node), tuple((told + offsets)[node].tolist()), DURATION) for node in wrong.tolist()]
        if not cases:
            break
        results = evaluate(env, policy, cases, rollouts, SEED + 1, progress=True).results
        wrong = wrong[torch.tensor([result.survival < 1.0 for result in results])]
        if number == 0:
            fell = len(wrong)
    return fell, offsets
