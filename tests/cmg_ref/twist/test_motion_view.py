"""Reading motions between frames: the loop of Numba and torch's operations, held joints, rings, and the end."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from cmg_ref.core.backends import numba_available
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.frames.store import TrajectoryStore
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import load_g1
from cmg_ref.twist.motion_view import MotionView

BODIES = ("left_ankle_roll_link", "torso_link")
HELD = {"left_wrist_roll_joint": 0.4}
NUM_MOTIONS, CAPACITY = 5, 30


def view_of(held: dict[str, float]) -> tuple[TrajectoryStore, MotionView]:
    """A store of random frames, and a view of it in reversed joints."""
    robot = load_g1()
    stored = tuple(name for name in robot.joint_names if name not in held)
    store = TrajectoryStore([(NUM_MOTIONS, CAPACITY)], StateLayout.with_root(len(stored)), 50.0, "cpu")
    store.table.copy_(torch.rand(store.table.shape, generator=torch.Generator().manual_seed(0)))
    kinematics = ForwardKinematics(robot, BODIES, torch.device("cpu"))
    names = tuple(reversed(robot.joint_names))
    return store, MotionView(store, stored, kinematics, robot.joint_names, names, held)


@pytest.mark.parametrize("held", [{}, HELD])
def test_both_ways_to_read_give_the_same(held: dict[str, float]) -> None:
    if not numba_available():
        pytest.skip("there is one way without Numba")
    store, view = view_of(held)
    everyone = torch.arange(NUM_MOTIONS)
    view.complete(everyone, torch.arange(CAPACITY).expand(NUM_MOTIONS, -1))
    first, last = torch.tensor([0, 0, 7, 40, 100]), torch.tensor([29, 10, 36, 69, 129])  # rings, of which some wrapped
    motions = everyone.repeat_interleave(40)
    times = first.unsqueeze(1) - 3.0 + torch.rand(NUM_MOTIONS, 40, generator=torch.Generator().manual_seed(1)) * 40.0
    ours, our_bodies = view.read(motions, times.flatten(), first, last)
    store.by_numba = False
    theirs, their_bodies = view.read(motions, times.flatten(), first, last)
    torch.testing.assert_close(our_bodies, their_bodies, atol=2e-6, rtol=0.0)
    for field in fields(ours):
        torch.testing.assert_close(getattr(ours, field.name), getattr(theirs, field.name), atol=2e-6, rtol=0.0)


@pytest.mark.parametrize("by_numba", [True, False])
def test_joints_that_are_not_stored_stay_where_they_are_held(by_numba: bool) -> None:
    store, view = view_of(HELD)
    store.by_numba = store.by_numba and by_numba
    motions = torch.arange(NUM_MOTIONS)
    view.complete(motions, torch.zeros(NUM_MOTIONS, 1, dtype=torch.long))
    limits = torch.zeros(NUM_MOTIONS, dtype=torch.long), torch.full((NUM_MOTIONS,), CAPACITY - 1)
    read, body_pos_b = view.read(motions, torch.zeros(NUM_MOTIONS), *limits)
    robot = load_g1()
    column = len(robot.joint_names) - 1 - robot.joint_names.index("left_wrist_roll_joint")
    torch.testing.assert_close(read.dof_pos[:, column], torch.full((NUM_MOTIONS,), 0.4))
    assert (read.dof_vel[:, column] == 0.0).all()
    expected = ForwardKinematics(robot, BODIES, torch.device("cpu")).positions(read.dof_pos.flip(1))
    torch.testing.assert_close(body_pos_b, expected, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("by_numba", [True, False])
def test_a_motion_that_is_stopped_ends_at_rest_where_it_was(by_numba: bool) -> None:
    store, view = view_of({})
    store.by_numba = store.by_numba and by_numba
    motions = torch.tensor([1, 3])
    limits = torch.zeros(NUM_MOTIONS, dtype=torch.long), torch.full((NUM_MOTIONS,), CAPACITY - 1)
    end = torch.full((2,), CAPACITY - 1.0)
    before, _ = view.read(motions, end, *limits)
    view.stop(motions, CAPACITY - 1)
    after, _ = view.read(motions, end + 100.0, *limits)
    for name in ("root_lin_vel_w", "root_ang_vel_w", "dof_vel"):
        assert (getattr(before, name).abs().amax(dim=1) > 0.0).all() and (getattr(after, name) == 0.0).all()
    for name in ("root_pos_w", "root_quat_w", "dof_pos"):
        assert torch.equal(getattr(before, name), getattr(after, name))
