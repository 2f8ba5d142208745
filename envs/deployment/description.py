"""All that a runner has to know of an exported controller, as JSON and under the names that other tools read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from cmg_ref.network.checkpoint import Checkpoint
from envs.deployment.controller import Controller
from envs.deployment.exported_controller import METADATA_KEY
from envs.learning.policy import PolicyDescription

FORMAT_VERSION = 1
# What each column of an observation is, for the policies' own observations; {ahead} is the step that the policy sees.
OBSERVATION_MEANINGS = {
    "base_ang_vel": "angular velocity of the base in its own frame, x forward, y left, z up [rad/s], measured now",
    "projected_gravity": "unit vector of gravity in the base's frame, (0, 0, -1) upright, measured now",
    "dof_pos": "joint angles minus the default pose [rad], measured now",
    "dof_vel": "joint velocities [rad/s], measured now",
    "dof_pos_error": "joint angles measured now minus those of the reference's present frame [rad], the frame that the "
    "targets of the control step before aimed at",
    "commands": "vx forward, vy to the left [m/s], yaw rate to the left [rad/s] in the heading frame; the command in "
    "force now, ramped, not the one asked for",
    "reference_dof_pos": "joint angles of the reference one control step after its present frame (the frame that this "
    "step's targets aim at) minus the default pose [rad]",
    "reference_dof_change": "joint angles of the reference {ahead} control steps after its present frame minus those 1 "
    "control step after it [rad]; no velocity, and not divided by a time. The frames ahead go on under the command as "
    "it will be ramped",
    "last_action": "action of the control step before, held within the action limit; 0 in the first",
}
# By `control.drive_mode` of the configuration; the last is mjlab's.
DRIVES = {
    "position": "implicit: each physics step a torque stiffness * (target - q), held within torque_limit, and besides "
    "it damping * dq as the joint's own damping, solved implicitly and outside of the limit",
    "effort": "explicit: each physics step stiffness * (target - q) - damping * dq, held within torque_limit",
    "actuator": "implicit: each physics step stiffness * (target - q) - damping * dq as a position actuator of MuJoCo, "
    "held within torque_limit",
}
RANGE_NAMES = {"wz": "yaw_rate"}  # names of ranges in the files where they are not the labels
LICENCE = (
    "Code: BSD-3-Clause. The generator that ships with cmg_ref was trained on LAFAN1 (CC BY-NC-ND 4.0) among others: "
    "treat files made from it as for non-commercial use; see the model cards."
)


def describe_controller(controller: Controller, checkpoint: Checkpoint, made_from: Mapping[str, str]) -> dict[str, Any]:
    """All that a runner has to know, JSON-ready.

    Args:
        controller: What is exported.
        checkpoint: Its generator.
        made_from: SHA-256 of the files it was made from, by their names.
    """
    description = controller.policy.description
    names = list(controller.joint_names)
    reference_names = list(checkpoint.joint_names)
    standing = controller.standing
    stance = checkpoint.layout.split(standing.unsqueeze(0))
    num_joints, layout = len(names), controller.command_layout
    further = "".join(f", {channel.title}" for channel in layout.further)
    joints_at = [reference_names.index(name) for name in names]
    return {
        "format_version": FORMAT_VERSION,
        "description": "recurrent controller: measurements and a velocity command in, joint targets out",
        **describe_drive(description),
        "inputs": {
            "observation": [
                _term("base_ang_vel", 3, "rad/s", OBSERVATION_MEANINGS["base_ang_vel"]),
                _term("projected_gravity", 3, "1", OBSERVATION_MEANINGS["projected_gravity"]),
                _term(
                    "command",
                    layout.size,
                    ", ".join(channel.unit for channel in layout),
                    f"vx forward, vy to the left, yaw rate to the left in the heading frame{further}, asked for now, "
                    "not ramped; held within command.range, NaN counts as rest",
                ),
                _term("joint_pos", num_joints, "rad", "joint angles measured now minus default_joint_pos"),
                _term("joint_vel", num_joints, "rad/s", "joint velocities measured now"),
            ],
            "state": "zero in the first control step, then the next_state that the step before returned",
        },
        "outputs": {
            "actions": "joint targets minus default_joint_pos [rad]: target = default_joint_pos + 1.0 * action",
            "next_state": "state for the next control step",
            "joint_targets": "joint targets [rad], to be held until the next control step",
        },
        "observation_scale": "none: all inputs in the units above, without factors, noise or clips",
        "observation_clip": f"inside, after the factors of training: {controller.observation_clip:g}",
        "state": [dataclasses.asdict(part) for part in controller.state_parts],
        "command": {
            "labels": list(layout.labels),
            "rest": layout.rest().tolist(),
            "range": _command_range(controller),
            "ramp_time": controller.ramp_frames * controller.control_dt,
            "acceleration": controller.acceleration.tolist(),
            "meaning": "a command that stays is reached along a straight line within ramp_time, or as soon as this "
            "acceleration [m/s^2, m/s^2, rad/s^2] allows; one that changes again within ramp_time is followed with "
            "that acceleration. Inside the file",
            "calibration": description.calibration or None,
        },
        "reference": {
            "meaning": "state[:, :size] + standing_state is the reference's present frame",
            "standing_state": standing.tolist(),
            "layout": checkpoint.layout.to_json(),
            "joint_names": reference_names,
        },
        "start": {
            "joint_pos": stance["dof_pos"][0][joints_at].tolist(),
            "base_height": float(stance["root_height"]) if "root_height" in stance else None,
            "from_measured_pose": {
                "columns": _arm_columns(checkpoint),
                "meaning": "where the arms are elsewhere, state[:, column] = measured angle - angle of joint_pos for "
                "these joints alone: then the targets begin where the arms are. Legs and waist begin with a zero state "
                "wherever they are: the reference stands there until it is told to move, and so does the robot",
            },
            "how": "move the joints to joint_pos within 2 to 3 s under the gains of joints, both feet flat on the "
            "floor; once the joints rest, begin with a zero state and a zero command",
        },
        "made_from": dict(made_from),
        "reference_of_training": description.reference,
        "licence": LICENCE,
        "notes": description.notes,
    }


def describe_drive(description: PolicyDescription) -> dict[str, Any]:
    """Joints, gains, limits, timing and how the robot was simulated in training, JSON-ready."""
    robot = description.robot()
    order = robot.joint_index(description.joint_names)
    config = description.config
    control, sim, randomised = (config.get(name, {}) for name in ("control", "sim", "domain_rand"))
    substeps = control.get("decimation", 1) * sim.get("substeps", 1)
    drive_mode = control.get("drive_mode", "position")
    return {
        "task": description.task,
        "robot": robot.name,
        "control_dt": description.control_dt,
        "joint_names": list(description.joint_names),
        "default_joint_pos": _rounded(description.default_dof_pos),
        "stiffness": list(description.stiffness),
        "damping": list(description.damping),
        "armature": _rounded(robot.armature[order].tolist()),
        "torque_limit": _rounded(robot.effort_limit[order].tolist()),
        "joint_pos_min": _rounded(robot.joint_lower[order].tolist()),
        "joint_pos_max": _rounded(robot.joint_upper[order].tolist()),
        "action_scale_of_policy": _rounded(description.action_scale),
        "action_limit_of_policy": description.action_limit,
        "training": {
            "drive": DRIVES[drive_mode],
            "physics_dt": description.control_dt / max(1, substeps),
            "physics": sim.get("engine", "MuJoCo, Euler integration") + ", " + json.dumps(sim.get("mujoco", {})),
            "joint_friction": 0.0,
            "joint_damping": "the drive's only",
            "self_collision": config.get("asset", {}).get("self_collisions", 1) == 0,
            "target_delay": list(randomised.get("delay_range", ()))
            if randomised.get("randomize_delay")
            else [0.0, 0.0],
            "randomised": {
                name: value for name, value in randomised.items() if name.endswith("_range") or name.startswith("max_")
            },
            "noise": config.get("noise", {}).get("noise_scales", {}),
            "ends_at": config.get("termination", {}),
        },
    }


def describe_policy_observations(description: PolicyDescription) -> list[dict[str, Any]]:
    """What the columns of a policy's own observation hold, in their order, for an export of the policy alone."""
    ahead = description.config.get("reference", {}).get("actor_future_step", 1)
    clip = description.config.get("normalization", {}).get("clip_observations")
    return [
        {
            "name": name,
            "size": size,
            "scale": scale,
            "clip_after_scale": clip,
            "meaning": OBSERVATION_MEANINGS.get(name, name).format(ahead=ahead),
        }
        for name, size, scale in description.observations
    ]


def metadata_entries(controller: dict[str, Any]) -> dict[str, str]:
    """Entries of the file: the description as JSON, and its parts under the names that exports of mjlab have.

    Args:
        controller: As :func:`describe_controller` gave it.
    """
    terms = controller["inputs"]["observation"]
    count = len(terms)
    return {
        METADATA_KEY: json.dumps(controller),
        "run_path": "cmg_ref",
        "joint_names": ",".join(controller["joint_names"]),
        "joint_stiffness": _listed(controller["stiffness"]),
        "joint_damping": _listed(controller["damping"]),
        "default_joint_pos": _listed(controller["default_joint_pos"]),
        "command_names": "twist",
        "observation_names": ",".join(term["name"] for term in terms),
        "observation_terms_scale": ",".join(["1.0"] * count),
        "observation_terms_clip": ",".join(["-inf;inf"] * count),
        "observation_terms_history_length": ",".join(["0"] * count),
        "observation_terms_flatten_history_dim": ",".join(["True"] * count),
        "action_scale": _listed([1.0] * len(controller["joint_names"])),
    }


def _arm_columns(checkpoint: Checkpoint) -> dict[str, int]:
    """Column of the state that holds the angle of each joint of the arms."""
    first, arms = checkpoint.layout["dof_pos"].start, checkpoint.robot().spec.arm_joints
    return {
        name: first + place for place, name in enumerate(checkpoint.joint_names) if any(part in name for part in arms)
    }


def _term(name: str, size: int, unit: str, meaning: str) -> dict[str, Any]:
    return {"name": name, "size": size, "unit": unit, "meaning": meaning}


def _command_range(controller: Controller) -> dict[str, list[float]]:
    low, high = _rounded(controller.command_min.tolist()), _rounded(controller.command_max.tolist())
    names = [RANGE_NAMES.get(label, label) for label in controller.command_layout.labels]
    return {name: list(bounds) for name, bounds in zip(names, zip(low, high))}


def _rounded(values: Any) -> list[float]:
    """Numbers without the digits that a passage through float32 left behind."""
    return [round(float(value), 7) for value in values]


def _listed(values: list[float]) -> str:
    return ",".join(f"{value:.9g}" for value in values)
