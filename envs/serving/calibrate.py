"""Learns a calibration in simulation: how TWIST2's low level follows the reference, and what makes up for it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Callable

import numpy as np

from envs.deployment.plain_simulation import Conditions, PlainSimulation
from envs.deployment.twist2_controller import Twist2Policy
from envs.serving.calibration import AXES, Calibration
from envs.serving.motion_frame import JOINT_NAMES
from envs.serving.protocol import Twist2
from envs.serving.reference import CONTROL_DT, Reference

# Along each axis of the command, outward from zero [m/s, m/s, rad/s].
POINTS = ((0.25, 0.5, 0.75, 1.0, 1.2, 1.5), (0.15, 0.3, 0.4), (0.4, 0.8, 1.0))
NEGATIVE_POINTS = ((-0.2, -0.4, -0.5), (-0.15, -0.3, -0.4), (-0.4, -0.8, -1.0))
_ROUNDS, _SHARE = 8, 0.7  # how often a correction is mended, by how much of what is amiss at first
_MOST = 0.8  # [m/s, rad/s] of a correction
_SETTLING, _MEASURED = 3.0, 12.0  # [s]


def calibrate(
    policy: Path, mjcf: Path, output: Path, checkpoint: Path | None, say: Callable[[str], None], rounds: int = _ROUNDS
) -> Calibration:
    """Learn and write a calibration.

    Args:
        policy: TWIST2's ONNX file.
        mjcf: Model of the robot to simulate it with.
        output: The JSON file to write.
        checkpoint: The generator; None is the shipped one.
        say: Told in a line what was reached.
        rounds: How often each correction is mended.

    Returns:
        What was written.
    """
    controller = Twist2Policy(policy, JOINT_NAMES)
    simulation = PlainSimulation(mjcf, controller, Conditions(physics_dt=0.001))
    reference = Reference(checkpoint)
    commands, corrections = [], []
    for axis, sides in enumerate(zip(NEGATIVE_POINTS, POINTS)):
        learnt = {0.0: np.zeros(3)}
        for points in sides:
            correction = np.zeros(3)
            for point in points:  # each begins with what its neighbour, nearer to zero, has learnt
                command = np.zeros(3)
                command[axis] = point
                correction, before, after = mended(command, correction, rounds, reference, controller, simulation)
                learnt[point] = correction
                say(f"{AXES[axis]} {point:+.2f}: error {before:.2f} -> {after:.2f}, correction {correction.round(2)}")
        commands.append(np.array(sorted(learnt)))
        corrections.append(np.array([learnt[point] for point in sorted(learnt)]))
    digest = hashlib.sha256(policy.read_bytes()).hexdigest()
    about = {"policy_sha256": digest, "model": mjcf.name, "rounds": rounds}
    result = Calibration(tuple(commands), tuple(corrections), about)
    result.write(output)
    say(f"wrote {output}")
    return result


def mended(
    command: np.ndarray,
    correction: np.ndarray,
    rounds: int,
    reference: Reference,
    controller: Twist2Policy,
    simulation: PlainSimulation,
) -> tuple[np.ndarray, float, float]:
    """The correction (3,) found for a command, and the errors without it and in the last round.

    A robot that is told the same twice does not do the same: in one run it steps, in another it shuffles. So each round
    counts less than the one before, and none is the best by luck (Robbins and Monro's stochastic approximation).
    """
    before = error = float(np.linalg.norm(command - reached(command, reference, controller, simulation)))
    for number in range(rounds):
        missing = command - reached(command + correction, reference, controller, simulation, 0.1 * (number + 1))
        error = float(np.linalg.norm(missing))
        if not np.isfinite(error):  # it fell: ask for less
            correction = 0.5 * correction
            continue
        correction = np.clip(correction + _SHARE / (1.0 + 0.5 * number) * missing, -_MOST, _MOST)
    return correction, before, error


def reached(
    told: np.ndarray,
    reference: Reference,
    controller: Twist2Policy,
    simulation: PlainSimulation,
    standing: float = 0.0,
) -> np.ndarray:
    """Mean velocity (3,) of the robot whose reference is told something after standing for a while [s].

    It is infinite if the robot falls.
    """
    protocol = Twist2()
    reference.restart()
    controller.reset()
    simulation.reset()
    velocities = []
    for step in range(round((standing + _SETTLING + _MEASURED) / CONTROL_DT)):
        ang_vel, gravity, joint_pos, joint_vel = simulation.measure()
        body = protocol.body(reference.step(told if step * CONTROL_DT >= standing else np.zeros(3)))
        simulation.step(controller.follow(body, ang_vel, gravity, joint_pos, joint_vel))
        if simulation.fallen:
            return np.full(3, np.inf)
        velocities.append(simulation.velocity())
    return np.mean(velocities[-round(_MEASURED / CONTROL_DT) :], axis=0)
