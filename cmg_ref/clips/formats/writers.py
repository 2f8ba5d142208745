"""Writers of clips: this project's npz, and the pickle that TWIST and GMR read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from cmg_ref.clips.formats.pickled_arrays import save_pickled_arrays
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.rotations import quat_rotate
from cmg_ref.files.atomic_file import atomic_file
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot

TWIST_FRAMES = {
    "left_toe_link": ("left_ankle_roll_link", (0.1, 0.0, -0.02)),
    "right_toe_link": ("right_ankle_roll_link", (0.1, 0.0, -0.02)),
    "pelvis_contour_link": ("pelvis", (0.0, 0.0, 0.0)),
    "head_link": ("torso_link", (0.0039635, 0.0, -0.044)),
    "head_mocap": ("torso_link", (0.0, 0.0, 0.4)),
    "imu_in_torso": ("torso_link", (-0.03959, -0.00224, 0.14792)),
    "left_rubber_hand": ("left_wrist_yaw_link", (0.0415, 0.003, 0.0)),
    "right_rubber_hand": ("right_wrist_yaw_link", (0.0415, -0.003, 0.0)),
}
"""Frames of TWIST's model that are no bodies of ours: the body that carries each, and its place there [m]."""


def write_npz(clip: MotionClip, path: str | Path) -> None:
    """Writes `fps`, `joint_names`, `dof_pos`, `dof_vel`, `root_pos`, `root_quat_xyzw` and, if any, `command`.

    Channels beyond the velocity are described by `command_layout`, as JSON.

    One row a frame, float32; `clip_readers.read_cmg_npz` reads it back.
    """
    arrays = {
        "fps": np.float64(clip.fps),
        "joint_names": np.array(clip.joint_names),
        "dof_pos": clip.dof_pos.float().numpy(),
        "dof_vel": clip.velocities().float().numpy(),
        "root_pos": clip.root_pos.float().numpy(),
        "root_quat_xyzw": clip.root_quat.float().numpy(),
    }
    if clip.command is not None:
        arrays["command"] = clip.command.float().numpy()
        if clip.command_layout.further:
            arrays["command_layout"] = np.array(json.dumps(clip.command_layout.to_json()))
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


TWIST_BODIES = (
    *("pelvis", "left_hip_pitch_link", "left_hip_roll_link", "left_hip_yaw_link", "left_knee_link"),
    *("left_ankle_pitch_link", "left_ankle_roll_link", "left_toe_link", "pelvis_contour_link", "right_hip_pitch_link"),
    *("right_hip_roll_link", "right_hip_yaw_link", "right_knee_link", "right_ankle_pitch_link"),
    *("right_ankle_roll_link", "right_toe_link", "waist_yaw_link", "waist_roll_link", "torso_link", "head_link"),
    *("head_mocap", "imu_in_torso", "left_shoulder_pitch_link", "left_shoulder_roll_link", "left_shoulder_yaw_link"),
    *("left_elbow_link", "left_wrist_roll_link", "left_wrist_pitch_link", "left_wrist_yaw_link", "left_rubber_hand"),
    *("right_shoulder_pitch_link", "right_shoulder_roll_link", "right_shoulder_yaw_link", "right_elbow_link"),
    *("right_wrist_roll_link", "right_wrist_pitch_link", "right_wrist_yaw_link", "right_rubber_hand"),
)
"""Bodies in the order of TWIST's clips, which its environment takes for granted."""


def write_twist_pickle(clip: MotionClip, path: str | Path, robot: Robot, wrists: bool = True) -> None:
    """Writes the pickle of GMR and TWIST, with body positions by exact kinematics.

    Fields: `fps`; `root_pos` (T, 3); `root_rot` (T, 4) xyzw; `dof_pos` (T, num_joints) in the robot's order;
    `local_body_pos` (T, B, 3) in the root's frame; `link_body_list`, the B names of robot bodies and TWIST_FRAMES. Two
    more, which TWIST passes over, keep readers from guessing: `joint_names` of `dof_pos` and `quat_order`, "xyzw".

    Args:
        clip: What to write.
        path: The file.
        robot: Robot of the clip.
        wrists: Whether `dof_pos` has the wrists, as GMR writes it; TWIST's robot has none, and its hands then hang on
            straight wrists.
    """
    clip = clip.reordered(robot)
    kept = [joint for joint, name in enumerate(robot.joint_names) if wrists or "wrist" not in name]
    dof_pos = torch.zeros_like(clip.dof_pos)
    dof_pos[:, kept] = clip.dof_pos[:, kept]
    body_pos, body_quat = ForwardKinematics(robot, dtype=torch.float64)(dof_pos)  # (T, num_bodies, 3 and 4)
    positions = dict(zip(robot.body_names, body_pos.unbind(dim=1)))
    for name, (carrier, place) in TWIST_FRAMES.items():
        if carrier in robot.body_names and name not in robot.body_names:
            body = robot.body_names.index(carrier)
            offset = torch.tensor(place, dtype=torch.float64).expand(clip.num_frames, 3)
            positions[name] = body_pos[:, body] + quat_rotate(body_quat[:, body], offset)
    names = [name for name in TWIST_BODIES if name in positions]
    names += [name for name in positions if name not in TWIST_BODIES]
    save_pickled_arrays(
        path,
        {
            "fps": float(clip.fps),  # TWIST multiplies tensors by it, which an array refuses
            "root_pos": clip.root_pos.numpy(),
            "root_rot": clip.root_quat.numpy(),
            "dof_pos": dof_pos[:, kept].numpy(),
            "local_body_pos": torch.stack([positions[name] for name in names], dim=1).float().numpy(),
            "link_body_list": names,
            "joint_names": [robot.joint_names[joint] for joint in kept],
            "quat_order": "xyzw",
        },
    )
