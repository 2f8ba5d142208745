"""The contract that gaitkeeper, a tool that checks policies between simulators, reads beside an exported controller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cmg_ref.core.command_layout import NUM_VELOCITIES, CommandLayout
from cmg_ref.files.atomic_file import atomic_file
from envs.deployment.description import RANGE_NAMES

SCHEMA = "gaitkeeper/contract/v3"
_TERMS = {  # names of our observation by the names of gaitkeeper's terms
    "base_ang_vel": "base_ang_vel",
    "projected_gravity": "projected_gravity",
    "command": "velocity_commands",
    "joint_pos": "joint_pos_rel",
    "joint_vel": "joint_vel_rel",
}


def contract_path(onnx: str | Path) -> Path:
    """Where the contract of an exported file lies: policy.onnx has policy.contract.yaml."""
    return Path(onnx).with_suffix(".contract.yaml")


def write_contract(controller: dict[str, Any], onnx: str | Path) -> Path:
    """Write the contract beside an exported file; returns its path.

    Args:
        controller: As :func:`envs.deployment.description.describe_controller` gave it.
        onnx: The exported file.
    """
    path = contract_path(onnx)
    with atomic_file(path) as temporary:  # JSON is YAML, and needs no package
        temporary.write_text(json.dumps(contract(controller), indent=1) + "\n", encoding="utf-8")
    return path


def contract(controller: dict[str, Any]) -> dict[str, Any]:
    """The contract, JSON-ready."""
    names, training = controller["joint_names"], controller["training"]
    ranges = controller["command"]["range"]
    trained = {label: ranges[RANGE_NAMES.get(label, label)] for label in CommandLayout().labels}
    implicit = training["drive"].startswith("implicit")

    def by_joint(values: list[float]) -> dict[str, float]:
        return dict(zip(names, values))

    sections: dict[str, Any] = {
        "source": {"format": "cmg_ref", "framework": {"name": "cmg_ref", "version": None}, "files": []},
        "timing": {
            "policy_dt": controller["control_dt"],
            "sim_dt": training["physics_dt"],
            "decimation": round(controller["control_dt"] / training["physics_dt"]),
            "order": ["obs", "infer", "target", "pd", "step"],
            "target_hold": "zoh",
        },
        "policy_io": {
            "graph": {"recurrent": [{"in": "state", "out": "next_state"}]},
            "joints": {"names": names},
            "imu": {"body": None, "frame": "body", "rotation_in_root": [1.0, 0.0, 0.0, 0.0]},
            "observation_groups": {
                "policy": {
                    "terms": [
                        part for term in controller["inputs"]["observation"] for part in _parts(term, controller)
                    ],
                    "history": {"length": 1, "layout": "term_major", "order": "oldest_first", "init": "repeat_first"},
                    "clip_then_scale": True,
                }
            },
            "commands": {"base_velocity": {"name": "twist", "limit": trained, "trained": trained, "heading": "off"}},
        },
        "control": {
            "actions": {
                "joint_pos": {
                    "scale": by_joint([1.0] * len(names)),
                    "offset": by_joint(controller["default_joint_pos"]),
                    "kind": "joint_position",
                    "joints": names,
                    "clip": None,
                    "clip_stage": "none",
                    "delay_steps": 0,
                    "filter": "none",
                }
            },
            "default_joint_pos": by_joint(controller["default_joint_pos"]),
            "ownership": {"owned": "all", "external": []},
            "actuators": {
                "kind": "implicit_pd" if implicit else "explicit_pd",
                "pd_period": "solver" if implicit else "sim_step",
                "integrator": "euler",
                "torque_limit_at": "actuator_force",
                "kp": by_joint(controller["stiffness"]),
                "kd": by_joint(controller["damping"]),
            },
        },
        "model": {
            "armature": by_joint(controller["armature"]),
            "joint_friction": by_joint([training["joint_friction"]] * len(names)),
            "joint_damping": by_joint([0.0] * len(names)),
            "effort_limit": by_joint(controller["torque_limit"]),
            "velocity_limit": None,
            "training_envelope": {
                "pushes": training["randomised"].get("max_push_vel_xy"),
                "floor_friction": training["randomised"].get("friction_range"),
                "obs_noise": training["noise"] or None,
            },
        },
        "evidence": {"level": "L0", "golden": None},
    }
    told = {"from": "file", "detail": "metadata of the exported file"}
    provenance = {
        f"{section}.{name}": told
        for section in ("timing", "policy_io", "control", "model")
        for name in sections[section]
    }
    return {"schema": SCHEMA, **sections, "provenance": {"source": told, **provenance}}


def _parts(term: dict[str, Any], controller: dict[str, Any]) -> list[dict[str, Any]]:
    """A term of our observation as gaitkeeper has it: of a command it knows the velocities, the rest stays as it is."""
    further = controller["command"]["rest"][NUM_VELOCITIES:] if term["name"] == "command" else []
    parts: list[tuple[str, str, int, dict[str, Any]]] = [
        (_TERMS[term["name"]], term["name"], term["size"] - len(further), {})
    ]
    if further:
        names = "_".join(controller["command"]["labels"][NUM_VELOCITIES:])
        parts.append(("constant", names, len(further), {"value": further}))
    return [
        {"id": name, "source_name": source, "dim": size, "scale": [1.0] * size, "clip": None, "params": params}
        for name, source, size, params in parts
    ]
