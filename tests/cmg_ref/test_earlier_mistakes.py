"""What was wrong with the code that this library replaces, a test each, on the shipped checkpoint.

The details of each part are tested beside it; here each mistake is shown not to be there.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.commands.sampler import CommandSmoother
from cmg_ref.core import rotations
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.robots.robot import load_g1
from cmg_ref.training.train_config import TrainConfig
from cmg_ref.trajectories.pool import TrajectoryPoolCfg

WALKS = torch.tensor([[0.6, 0.0, 0.0], [1.0, 0.0, 0.0], [1.5, 0.0, 0.0], [0.6, 0.0, 1.0], [-0.6, 0.0, 0.0]])


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def track(generator: CMGMotionGenerator, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Joint angles, joint velocities and roots that are shown, each (steps, num_envs, ...)."""
    positions, velocities, roots = [], [], []
    for _ in range(steps):
        dof_pos, dof_vel = generator.get_motion()
        positions.append(dof_pos.clone())
        velocities.append(dof_vel.clone())
        roots.append(generator.root_states)
        generator.advance()
    return torch.stack(positions), torch.stack(velocities), torch.stack(roots)


@pytest.mark.parametrize("control_dt", [0.02, 1.0 / 30.0, 0.01])
def test_1_motion_plays_at_the_rate_it_was_learnt_at(checkpoint: Checkpoint, control_dt: float) -> None:
    """Earlier: trained at 30 frames a second, played at 50; rms(v - dq/dt) was as large as rms(v)."""
    generator = CMGMotionGenerator(checkpoint, len(WALKS), mode="realtime", control_dt=control_dt)
    generator.reset(commands=WALKS)
    dof_pos, dof_vel, _ = track(generator, round(3.0 / control_dt))
    rates = (dof_pos[2:] - dof_pos[:-2]) / (2.0 * control_dt)
    mean_vel = (dof_vel[:-2] + 4.0 * dof_vel[1:-1] + dof_vel[2:]) / 6.0  # by Simpson's rule
    assert (rates - mean_vel).pow(2).mean().sqrt() < 0.1 * dof_vel.pow(2).mean().sqrt()


def test_2_the_root_reaches_the_commanded_speed(checkpoint: Checkpoint) -> None:
    """Earlier: told to go at 3.0 m/s it went at 0.9, and the root was integrated from the command."""
    commands = torch.tensor([[1.0, 0.0, 0.0], [1.5, 0.0, 0.0], [3.0, 0.0, 0.0]])
    generator = CMGMotionGenerator(checkpoint, 3, mode="realtime")
    generator.reset(commands=commands)
    _, _, roots = track(generator, 350)
    speed = (roots[-1, :, :2] - roots[150, :, :2]).norm(dim=1) / (199 * 0.02)
    assert bool(((speed - commands[:, 0]).abs() < torch.tensor([0.1, 0.1, 0.4])).all())


def test_3_joints_stay_inside_their_limits(checkpoint: Checkpoint) -> None:
    """Earlier: a limit was broken by up to 0.7 rad, in 82 to 99 % of the frames."""
    robot = load_g1()
    generator = CMGMotionGenerator(checkpoint, 64, mode="realtime", joint_names=robot.joint_names)
    low, high = checkpoint.command_min, checkpoint.command_max
    draws = torch.rand(64, len(low), generator=torch.Generator().manual_seed(0))
    generator.reset(commands=low + (high - low) * draws)
    dof_pos, _, _ = track(generator, 200)
    lower, upper = robot.joint_lower.float() - 0.01, robot.joint_upper.float() + 0.01
    assert bool(((dof_pos >= lower) & (dof_pos <= upper)).all())


def test_4_a_large_batch_needs_no_weights_of_its_own(checkpoint: Checkpoint) -> None:
    """Earlier: every sample had a weight matrix of its own, 17 GB for 4096."""
    states = checkpoint.initial_states[torch.zeros(4096, dtype=torch.long)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        checkpoint.model.network(torch.cat((states, checkpoint.command_layout.rest(4096)), dim=1))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 1e9  # macOS counts bytes, Linux kilobytes


def test_5_the_learning_rate_does_not_depend_on_a_loss_that_rises_by_design() -> None:
    """Earlier: the loss, which rises as teacher forcing ends, took the rate to 1e-6 in epoch 112 of 800."""
    config = TrainConfig()
    rates = [config.learning_rate_at(iteration) for iteration in range(0, config.iterations, config.iterations // 100)]
    assert rates[50] > 0.4 * config.learning_rate and min(rates[5:80]) > 0.05 * config.learning_rate
    # The model is trained on its own roll-outs, the longer the later.
    assert config.horizon(config.iterations - 1) > 4 * config.horizon(0)


def test_5_no_joint_of_the_data_stands_still(motion_folder: Path) -> None:
    """Earlier: 10 of 29 joints were zero in all of the data."""
    clip = read_clip(next((motion_folder / "lafan1_g1").glob("*.csv")))
    assert clip.dof_pos.std(dim=0).min() > 1e-3


def test_6_a_new_command_neither_jumps_nor_makes_a_step_dearer(checkpoint: Checkpoint) -> None:
    """Earlier: a change restarted from the pose of the last reset; all environments refilled 50 frames in one step."""
    generator = CMGMotionGenerator(checkpoint, 8, mode="realtime", refill_frames=1)
    generator.reset(commands=torch.tensor([[0.8, 0.0, 0.0]]).repeat(8, 1))
    before, _, _ = track(generator, 100)
    passes = []
    for _ in range(50):
        started = generator.rollout.frame_count
        generator.advance()
        passes.append(generator.rollout.frame_count - started)
    assert set(passes) == {8}
    last, _ = generator.get_motion()
    last = last.clone()
    generator.update_commands(torch.tensor([[0.0, 0.0, 1.0]]).repeat(8, 1))
    assert torch.equal(generator.get_motion()[0], last)
    generator.advance()
    usual = before.diff(dim=0).abs().max()
    assert (generator.get_motion()[0] - last).abs().max() < 1.5 * usual


def test_7_a_reset_generates_nothing(checkpoint: Checkpoint) -> None:
    """Earlier: a reset meant 500 small passes through the network, one after another."""
    pool = TrajectoryPoolCfg(num_trajectories=64)
    generator = CMGMotionGenerator(checkpoint, 16, mode="pregenerated", preload_duration=200, pool=pool)
    started = generator.rollout.frame_count
    generator.reset(torch.tensor([1, 5, 9]))
    assert generator.rollout.frame_count == started


def test_8_linear_smoothing_is_linear() -> None:
    """Earlier: the start was overwritten at every step, which bent the line."""
    smoother = CommandSmoother(1, 10)
    smoother.set_target(torch.tensor([[0.4, -0.2, 0.5]]))
    values = torch.stack([smoother.step()[0] for _ in range(12)])
    expected = (torch.arange(1.0, 13.0) / 10.0).clamp(max=1.0).unsqueeze(1) * torch.tensor([0.4, -0.2, 0.5])
    assert (values - expected).abs().max() < 1e-6


def test_9_quaternions_are_xyzw_and_the_robot_stands_upright(checkpoint: Checkpoint) -> None:
    """Earlier: wxyz was returned where xyzw was due, which turned the robot upside down."""
    generator = CMGMotionGenerator(checkpoint, 4, mode="realtime")
    headings = torch.tensor([0.0, 1.0, 2.0, 3.0])
    generator.reset(
        commands=torch.zeros(4, 3), root_pose=torch.stack((0.0 * headings, 0.0 * headings, headings), dim=1)
    )
    quat = generator.root_states[:, 3:7]
    up = rotations.quat_rotate(quat, torch.tensor([0.0, 0.0, 1.0]).expand(4, 3))
    assert up[:, 2].min() > 0.95
    assert (rotations.yaw_from_quat(quat) - headings).abs().max() < 1e-4


def test_9_a_reset_of_some_environments_leaves_finite_numbers(checkpoint: Checkpoint) -> None:
    """Earlier: a reset of some environments divided by zero."""
    generator = CMGMotionGenerator(checkpoint, 6, mode="realtime")
    generator.reset(torch.tensor([2]))
    generator.reset(torch.tensor([], dtype=torch.long))
    for part in track(generator, 5):
        assert bool(torch.isfinite(part).all())


def test_9_joints_are_dropped_by_name(checkpoint: Checkpoint) -> None:
    """Earlier: the first 23 of 29 joints were taken, while the wrists to leave out sit in the middle."""
    wrists = [name for name in checkpoint.joint_names if "wrist" in name]
    full = CMGMotionGenerator(checkpoint, 2, mode="realtime", seed=3)
    fewer = CMGMotionGenerator(checkpoint, 2, mode="realtime", seed=3, drop_joints=wrists)
    assert len(fewer.joint_names) == 23 and fewer.joint_names != tuple(checkpoint.joint_names[:23])
    columns = [list(full.joint_names).index(name) for name in fewer.joint_names]
    assert torch.equal(full.get_motion()[0][:, columns], fewer.get_motion()[0])
