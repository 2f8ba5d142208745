"""Command smoothing is linear; sampling keeps to its ranges, shares and times."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cmg_ref.commands.sampler import PRESETS, CommandSampler, CommandSamplerCfg, CommandSmoother
from cmg_ref.frames.command_plan import PlannedCommands
from cmg_ref.reference_motion_term_cfg import ReferenceMotionTermCfg
from cmg_ref.trajectories.settings import CMGMotionGeneratorCfg


def test_ramp_is_a_straight_line() -> None:
    smoother = CommandSmoother(2, interpolation_steps=25)
    smoother.set_target(torch.tensor([[1.0, -0.5, 0.25]]), torch.tensor([1]))
    path = torch.stack([smoother.step() for _ in range(30)])
    assert torch.equal(path[:, 0], torch.zeros(30, 3))
    expected = torch.arange(1, 31).clamp(max=25).unsqueeze(1) / 25 * torch.tensor([1.0, -0.5, 0.25])
    torch.testing.assert_close(path[:, 1], expected)


def test_change_in_mid_ramp_goes_on_from_the_command_in_force() -> None:
    smoother = CommandSmoother(1, interpolation_steps=10)
    smoother.set_target(torch.tensor([[0.2, 0.0, 0.0]]))
    for _ in range(5):
        smoother.step()
    smoother.set_target(torch.tensor([[-0.1, 0.0, 0.0]]))
    path = [float(smoother.value()[0, 0])] + [float(smoother.step()[0, 0]) for _ in range(10)]
    torch.testing.assert_close(torch.tensor(path), torch.linspace(0.1, -0.1, 11))


@pytest.mark.parametrize(("axis", "change", "steps"), [(0, 2.6, 65), (1, -0.8, 40), (2, 2.4, 30), (0, 0.9, 25)])
def test_a_command_that_has_far_to_go_takes_longer(axis: int, change: float, steps: int) -> None:
    target = torch.zeros(1, 3)
    target[0, axis] = change
    smoother, plan = CommandSmoother(1, interpolation_steps=25), PlannedCommands(1, 1, 25)
    coarse = CommandSmoother(1, interpolation_steps=5, dt=0.1)
    for one in (smoother, coarse):
        one.set_target(target)
    motion = torch.zeros(1, dtype=torch.long)
    plan.set_target(motion, motion, target)
    path = torch.stack([smoother.step()[0, axis] for _ in range(steps + 5)])
    expected = change * (torch.arange(1.0, steps + 6) / steps).clamp(max=1.0)
    torch.testing.assert_close(path, expected, atol=1e-5, rtol=0.0)
    planned = torch.stack([plan.value(motion + frame, motion)[0, axis] for frame in range(1, steps + 6)])
    torch.testing.assert_close(planned, expected, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(coarse.value(steps // 5)[0, axis], torch.tensor(change), atol=1e-5, rtol=0.0)
    assert abs(float(coarse.value(steps // 5 - 1)[0, axis])) < abs(change) - 0.01


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_who_sets_limits_gets_a_change_within_them(axis: int) -> None:
    limits, target = (0.5, 0.25, 1.0), torch.zeros(1, 3)
    target[0, axis] = 2.0 * limits[axis]
    smoother, plan = CommandSmoother(1, 25, acceleration=limits), PlannedCommands(1, 1, 25, acceleration=limits)
    smoother.set_target(target)
    motion = torch.zeros(1, dtype=torch.long)
    plan.set_target(motion, motion, target)
    expected = target[0, axis] * (torch.arange(1.0, 106.0) / 100.0).clamp(max=1.0)
    path = torch.stack([smoother.step()[0, axis] for _ in range(105)])
    torch.testing.assert_close(path, expected, atol=1e-5, rtol=0.0)
    planned = torch.stack([plan.value(motion + frame, motion)[0, axis] for frame in range(1, 106)])
    torch.testing.assert_close(planned, expected, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize(
    "limits", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, float("nan"), 1.0), (1.0, float("inf"), 1.0), ("1",) * 3]
)
def test_limits_that_are_none_are_refused(limits: Any) -> None:
    for cfg in (ReferenceMotionTermCfg(acceleration=limits), CMGMotionGeneratorCfg(acceleration=limits)):
        with pytest.raises(ValueError, match="acceleration must be 3 positive numbers"):
            cfg.validate()


def test_looking_ahead_agrees_with_stepping() -> None:
    smoother = CommandSmoother(3, interpolation_steps=7)
    smoother.set_target(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    ahead = [smoother.value(steps) for steps in range(1, 10)]
    for expected in ahead:
        assert torch.equal(smoother.step(), expected)


def test_no_interpolation_switches_at_once() -> None:
    smoother = CommandSmoother(1, interpolation_steps=0)
    smoother.set_target(torch.tensor([[1.0, 0.0, 0.0]]))
    assert float(smoother.step()[0, 0]) == 1.0


def test_samples_keep_to_ranges_and_shares() -> None:
    cfg = CommandSamplerCfg(
        lin_vel_x=(0.2, 1.0), lin_vel_y=(-0.1, 0.3), standing_share=0.25, preset_share=0.25, presets=("run",)
    )
    commands = CommandSampler(8, cfg, seed=1).sample(20_000)
    standing = (commands == 0).all(dim=1)
    running = (commands == torch.tensor(PRESETS["run"])).all(dim=1)
    assert abs(float(standing.float().mean()) - 0.25) < 0.02
    assert abs(float(running.float().mean()) - 0.25) < 0.02
    uniform = commands[~standing & ~running]
    assert uniform[:, 0].min() >= 0.2
    assert uniform[:, 0].max() <= 1.0
    assert uniform[:, 1].min() >= -0.1
    assert abs(float(uniform[:, 1].mean()) - 0.1) < 0.01


def test_curriculum_widens_the_ranges() -> None:
    cfg = CommandSamplerCfg(lin_vel_x=(-1.0, 2.0), standing_share=0.0, curriculum_start=0.25)
    sampler = CommandSampler(8, cfg)
    sampler.level = 0.0
    assert sampler.sample(5000)[:, 0].max() <= 0.5
    sampler.level = 1.0
    assert sampler.sample(5000)[:, 0].max() > 1.9


def test_commands_change_in_time() -> None:
    cfg = CommandSamplerCfg(resampling_time=(0.1, 0.2), standing_share=0.0)
    sampler = CommandSampler(500, cfg, control_dt=0.02)
    commands = sampler.sample(500)
    since, longest, shortest = torch.zeros(500), 0.0, 100.0
    for _ in range(100):
        after, due = sampler.step(commands)
        since += 1
        assert torch.equal(after[~due], commands[~due])
        if bool(due.any()):
            longest, shortest = max(longest, float(since[due].max())), min(shortest, float(since[due].min()))
        since[due] = 0
        commands = after
    assert shortest >= 5
    assert longest <= 10


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"lin_vel_x": (1.0, 0.0)}, "lin_vel_x"),
        ({"standing_share": 0.8, "preset_share": 0.5}, "standing_share"),
        ({"presets": ("wlak",)}, "wlak"),
        ({"resampling_time": (0.0, 1.0)}, "resampling_time"),
    ],
)
def test_impossible_settings_are_named(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        CommandSampler(4, CommandSamplerCfg(**fields))
