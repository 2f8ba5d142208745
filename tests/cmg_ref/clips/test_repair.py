"""Arms that reach into the body are moved out of it, smoothly, and nothing else is touched."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.clips.repair import keep_apart
from cmg_ref.robots.robot import load_g1
from cmg_ref.robots.self_contact import SelfContact

ROBOT = load_g1()
ARMS = [number for number, name in enumerate(ROBOT.joint_names) if any(p in name for p in ROBOT.spec.arm_joints)]
OTHERS = [number for number in range(ROBOT.num_joints) if number not in ARMS]


@pytest.fixture()
def swing() -> MotionClip:
    """Ten seconds in which both hands swing through the thighs, but for the last three."""
    time = torch.arange(500, dtype=torch.float64) / 50.0
    dof_pos = ROBOT.default_dof_pos.expand(500, -1).clone()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pitch, roll, elbow = ROBOT.joint_index(
            [f"{side}_{j}_joint" for j in ("shoulder_pitch", "shoulder_roll", "elbow")]
        )
        dof_pos[:, pitch] = 0.2 + 0.5 * sign * torch.sin(2.0 * math.pi * time)
        dof_pos[:, roll] = torch.where(time < 7.0, -0.05 * sign, 0.5 * sign)
        dof_pos[:, elbow] = 1.2
    root_pos = torch.zeros(500, 3, dtype=torch.float64)
    root_quat = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64).expand(500, -1)
    return MotionClip("swing", 50.0, ROBOT.joint_names, dof_pos, root_pos, root_quat)


def depth(clip: MotionClip) -> torch.Tensor:
    return SelfContact(ROBOT, dtype=torch.float64, of=ROBOT.spec.arm_joints).depth(clip.dof_pos)


def largest_acceleration(clip: MotionClip) -> float:
    return float(torch.diff(clip.dof_pos[:340], n=2, dim=0).abs().max()) * clip.fps**2


def test_hands_leave_the_thighs(swing: MotionClip) -> None:
    repaired = keep_apart(swing, ROBOT)
    assert float(depth(swing).max()) > 0.02
    assert float(depth(repaired).max()) < 0.0
    assert torch.equal(repaired.dof_pos[:, OTHERS], swing.dof_pos[:, OTHERS])
    assert torch.equal(repaired.dof_pos[400:], swing.dof_pos[400:])
    assert largest_acceleration(repaired) < largest_acceleration(swing) + 10.0
    assert bool((repaired.dof_pos <= ROBOT.joint_upper).all() & (repaired.dof_pos >= ROBOT.joint_lower).all())


def test_a_clip_without_contact_is_as_it_was(swing: MotionClip) -> None:
    free = dataclasses.replace(
        swing, dof_pos=swing.dof_pos[400:], root_pos=swing.root_pos[400:], root_quat=swing.root_quat[400:]
    )
    assert torch.equal(keep_apart(free, ROBOT).dof_pos, free.dof_pos)


def test_recorded_walking_is_repaired(motion_folder: Path) -> None:
    clip = read_clip(motion_folder / "twist2_g1" / "0807_yanjie_walk_001.pkl").reordered(ROBOT).resample(50.0)
    repaired = keep_apart(clip, ROBOT)
    assert float((depth(clip) > 0.005).double().mean()) > 0.05
    assert float((depth(repaired) > 0.0).double().mean()) == 0.0
