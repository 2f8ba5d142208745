"""Numba loops compute what torch's operations compute."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cmg_ref.core.rotations import matrix_from_quat
from cmg_ref.robots.robot import load_g1
from envs.base import base_motion, feet, simulated_robot
from envs.base.base_motion import BaseMotion
from envs.base.feet import Feet

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")

STATES = ("root_states", "dof_state", "contact_forces", "torques", "diverged", "reset_buf", "rew_buf", "obs_buf")
DERIVED = ("base_lin_vel_h", "base_ang_vel", "projected_gravity", "base_height", "average_velocity")
FEET = ("contact", "sliding_contact", "first_contact", "air_time", "speed", "pos_w", "height_w")


def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    from envs.mujoco_gym.engine import state_tensors

    for module in (base_motion, feet, simulated_robot, state_tensors):
        monkeypatch.setattr(module, "numba_available", lambda: False)


def random_states(num: int) -> torch.Tensor:
    """Root states (num, 13) of all orientations."""
    states = torch.randn(num, 13, generator=torch.Generator().manual_seed(num))
    states[:, 3:7] = torch.nn.functional.normalize(states[:, 3:7], dim=1)
    return states


@pytest.mark.parametrize("num", [0, 1, 63, 64, 300])
def test_feet_and_bases_are_those_of_torch(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    robot, states = load_g1(), random_states(num)
    # Not in one piece, as a simulator has joint states, and of more than a turn.
    dof_pos = 3.0 * torch.randn(num, 29, 2, generator=torch.Generator().manual_seed(1))[..., 0]
    results = []
    for _ in range(2):
        motion = BaseMotion("cpu")
        some_feet = Feet(robot, torch.tensor([5, 11]), num, 0.02, "cpu", True, False)
        rotation = matrix_from_quat(states[:, 3:7])
        places = some_feet._places(dof_pos, states[:, :3], rotation)
        results.append((*motion(states), *motion.velocity_and_gravity(states[:, 3:7], states[:, 7:10]), *places))
        without_numba(monkeypatch)
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0.0)


@pytest.mark.parametrize("task", ["g1", "g1_cmg"])
@pytest.mark.parametrize("mode", ["position", "effort"])
def test_an_environment_is_that_of_torch(
    task: str, mode: str, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (f"control.drive_mode={mode}", "rewards.scales.feet_air_time=0.5")
    ours = make(task, 6, *settings, calm=False)
    with monkeypatch.context() as patch:
        without_numba(patch)
        theirs = make(task, 6, *settings, calm=False)
    assert ours._numba and ours.feet._numba and not theirs._numba and not theirs.feet._numba
    actions = torch.Generator().manual_seed(0)
    touched = torch.zeros(2, dtype=torch.bool)
    for step in range(25):
        if step == 10:
            for env in (ours, theirs):
                env.push(torch.tensor([2]), torch.tensor([[0.3, -0.2]]))
        action = 0.2 * torch.randn(6, 29, generator=actions)
        for env in (ours, theirs):
            env.step(action)
        # What differs by rounding grows in time, from contact to contact.
        tolerance = 1e-4 if step < 5 else 2e-2
        for name in (*STATES, *DERIVED):
            compare(getattr(ours, name), getattr(theirs, name), tolerance, f"{name} in step {step}")
        for name in FEET:
            compare(getattr(ours.feet, name), getattr(theirs.feet, name), tolerance, f"feet.{name} in step {step}")
        touched |= ours.feet.contact.any(dim=0)
    assert touched.all()


def compare(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float, name: str) -> None:
    """Numbers within a share of the largest, everything else exactly."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, name
    if ours.dtype.is_floating_point:
        error, largest = (ours - theirs).abs().max(), theirs.abs().max()
        assert error <= tolerance * max(1.0, float(largest)), f"{name}: {error} of {largest}"
    else:
        assert torch.equal(ours, theirs), name


def test_what_is_no_number_has_diverged(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = make("g1", 5)
    with monkeypatch.context() as patch:
        without_numba(patch)
        theirs = make("g1", 5)
    for env in (ours, theirs):
        env.dof_vel[1, 3] = torch.nan
        env.dof_vel[2, 28] = -2.0 * env.cfg.termination.max_dof_vel
        env.root_states[3, 8] = torch.inf
        assert env._find_diverged().tolist() == [False, True, True, True, False]
        target = torch.full((5, 29), 100.0)
        torques = env._pd_torques(target)
        assert torch.isnan(torques[1, 3]) and torch.equal(torques[0], env.torque_limits)
