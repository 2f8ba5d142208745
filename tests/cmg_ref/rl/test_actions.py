"""Targets of joints whose actions are corrections."""

from __future__ import annotations

import torch

from cmg_ref.rl.actions import reference_targets, velocity_lead


def test_without_a_correction_the_torque_is_that_of_errors_in_position_and_velocity() -> None:
    generator = torch.Generator().manual_seed(0)
    dof_pos, dof_vel, next_pos, next_vel = torch.randn(4, 5, 3, generator=generator)
    stiffness, damping = torch.tensor([100.0, 40.0, 1.0]), torch.tensor([3.0, 2.0, 0.5])
    targets = reference_targets(next_pos, next_vel, velocity_lead(stiffness, damping))
    torques = stiffness * (targets - dof_pos) - damping * dof_vel
    torch.testing.assert_close(torques, stiffness * (next_pos - dof_pos) + damping * (next_vel - dof_vel))


def test_a_joint_without_stiffness_gets_finite_targets() -> None:
    lead = velocity_lead(torch.zeros(1), torch.ones(1))
    assert reference_targets(torch.zeros(1, 1), torch.ones(1, 1), lead).isfinite().all()
