"""Lowered motion: the root is lower, the toes are where they were, and the arms are held as they were."""

from __future__ import annotations

import pytest
import torch

from cmg_ref.clips.dataset import build_dataset_with_summary
from cmg_ref.clips.lowering import DEEPEST, lowered, random_depths
from cmg_ref.clips.motion_clip import ClipError, MotionClip
from cmg_ref.clips.quality import lowest_sole_point
from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.rotations import quat_rotate
from cmg_ref.robots.kinematics import FootKinematics
from cmg_ref.robots.robot import load_g1

ROBOT = load_g1()


def soles(clip: MotionClip) -> torch.Tensor:
    """Places of heels and toes in the world, left and right of each foot, (num_frames, 2, 4, 3)."""
    points_b = FootKinematics(ROBOT, dtype=torch.float64)(clip.dof_pos).flatten(1, 2)
    points_w = clip.root_pos[:, None] + quat_rotate(clip.root_quat[:, None].expand(-1, 8, -1), points_b)
    return points_w.unflatten(1, (2, 4))


def test_toes_stay_where_they_were(gaits: dict[str, MotionClip]) -> None:
    for name in ("standing", "forward", "sideways", "turning"):
        clip = gaits[name].reordered(ROBOT)
        depth = torch.linspace(0.0, 0.15, clip.num_frames, dtype=torch.float64)
        low, reached = lowered(clip, ROBOT, depth)
        assert bool(reached.all()), name
        torch.testing.assert_close(low.root_height(), clip.root_height() - depth)
        moved = soles(low) - soles(clip)
        assert float(moved[:, :, 2:].abs().max()) < 0.005, name
        assert float(moved[:, :, :2, 2].min()) > -0.01, "heels rise where they must, and never sink"
        assert bool((low.dof_pos >= ROBOT.joint_lower).all() & (low.dof_pos <= ROBOT.joint_upper).all())
        legs = torch.tensor([any(part in joint for part in ("hip", "knee", "ankle")) for joint in ROBOT.joint_names])
        assert torch.equal(low.dof_pos[:, ~legs], clip.dof_pos[:, ~legs])


def test_where_legs_are_too_long_to_fold_is_told(gaits: dict[str, MotionClip]) -> None:
    clip = gaits["standing"].reordered(ROBOT)
    depth = torch.full((clip.num_frames,), 0.15, dtype=torch.float64)
    depth[100:] = 0.65
    low, reached = lowered(clip, ROBOT, depth)
    assert bool(reached[:100].all())
    assert not bool(reached[100:].any())
    assert float(lowest_sole_point(low, ROBOT)[0][:100].abs().max()) < 0.02


def test_depths_are_held_and_change_smoothly() -> None:
    depth = random_depths(3000, 50.0, torch.Generator().manual_seed(0))
    assert 0.0 <= float(depth.min()) < 0.05
    assert 0.15 < float(depth.max()) <= DEEPEST
    assert float((torch.diff(depth) == 0.0).double().mean()) > 0.6
    assert float(torch.diff(depth).abs().max()) * 50.0 < 0.25, "faster than anybody crouches"


def test_a_dataset_tells_how_low_and_calls_the_rest_natural(gaits: dict[str, MotionClip]) -> None:
    layout = CommandLayout.of_names(["base_height"])
    dataset, summaries = build_dataset_with_summary([gaits["forward"]], ROBOT, command_layout=layout, lowered_copies=2)
    assert dataset.clip_names == ("forward", "forward lowered 1", "forward lowered 2")
    height, told = dataset.states[:, dataset.layout["root_height"]].squeeze(1), dataset.commands[:, 3]
    natural = dataset.clip_index == 0
    assert bool((told[natural] == layout.rest()[3]).all())
    low = dataset.valid & ~natural
    assert float((height - told)[low].abs().max()) < 0.03
    assert float(told[low].min()) < 0.65
    assert summaries[1].num_kept > 0.9 * summaries[0].num_kept
    with pytest.raises(ClipError, match="base_height"):
        build_dataset_with_summary([gaits["forward"]], ROBOT, lowered_copies=1)
