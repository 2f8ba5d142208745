"""Mirrored states are the states of the mirrored clip."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cmg_ref.clips.dataset import average_command, clip_states
from cmg_ref.clips.mirror import mirror_commands, mirror_states
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.robots.robot import load_g1


def test_mirroring_states_agrees_with_mirroring_the_clip(make_clip: Callable[..., MotionClip]) -> None:
    robot, clip = load_g1(), make_clip()
    layout = StateLayout.with_root(robot.num_joints)
    states, image = clip_states(clip), clip_states(clip.mirrored(robot))
    assert mirror_states(states, layout, robot).allclose(image, atol=1e-9)
    assert not states.allclose(image, atol=1e-2)
    batch = states.float().reshape(3, 67, -1)
    assert mirror_states(mirror_states(batch, layout, robot), layout, robot).equal(batch)
    joints = StateLayout.joints_only(robot.num_joints)
    assert mirror_states(states[:, : joints.size], joints, robot).equal(
        mirror_states(states, layout, robot)[:, : joints.size]
    )


def test_mirroring_commands_agrees_with_mirroring_the_clip(make_clip: Callable[..., MotionClip]) -> None:
    clip = make_clip()
    valid = torch.ones(clip.num_frames, dtype=torch.bool)
    command, image = average_command(clip, valid), average_command(clip.mirrored(load_g1()), valid)
    assert mirror_commands(command, CommandLayout()).allclose(image, atol=1e-9)
    assert command[:, 2].allclose(torch.full((1,), 0.5, dtype=torch.float64), atol=1e-3)
