"""Fréchet distances of known distributions, and of recorded motion from itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cmg_ref.clips.dataset import build_dataset, speed_bands
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.evaluation.motion_distribution import MotionDistribution, frechet_distance
from cmg_ref.robots.robot import load_g1


def test_distance_of_normal_distributions_is_the_known_one() -> None:
    sample = torch.randn(20000, 3, generator=torch.Generator().manual_seed(0)).double()
    assert frechet_distance(sample, sample) == pytest.approx(0.0, abs=1e-9)
    moved = sample + torch.tensor([1.0, 2.0, 0.0])
    assert frechet_distance(sample, moved) == pytest.approx(5.0, rel=1e-6)
    # Widths 1 and 3 along each axis: 3 (3 - 1)^2.
    assert frechet_distance(sample, 3.0 * sample) == pytest.approx(12.0, rel=0.05)


def test_recorded_motion_is_near_itself_and_a_spoilt_one_is_not(motion_folder: Path) -> None:
    robot = load_g1()
    clip = read_clip(motion_folder / "lafan1_g1" / "walk1_subject1.csv").slice(0, 3600)
    dataset = build_dataset([clip], robot, held_out=["walk1_subject1[60:]"])
    distribution = MotionDistribution(dataset, robot)
    name = "0.2 to 1.0 m/s"
    assert "above 3.0 m/s" not in distribution.commands
    frames = dataset.windows(50, held_out=True)[:, None] + torch.arange(50)
    frames = frames[speed_bands(dataset.commands[frames].mean(dim=1))[name]]
    held_out = dataset.states[frames]
    assert len(held_out) > len(distribution.commands[name]) > 50
    assert distribution.ratio(name, held_out) < 0.1
    frozen = held_out.clone()
    frozen[..., dataset.layout["dof_pos"]] = robot.default_dof_pos.float()
    frozen[..., dataset.layout["dof_vel"]] = 0.0
    assert distribution.ratio(name, frozen) > 0.5
