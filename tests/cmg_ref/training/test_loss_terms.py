"""The losses: what each asks for, told by motions that have it and motions that lack it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cmg_ref.clips.dataset import clip_states
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.robots.robot import load_g1
from cmg_ref.training.foot_statistics import figures_of, kinds
from cmg_ref.training.loss_terms import TERMS, default_weights
from cmg_ref.training.mirror import mirror_states
from cmg_ref.training.rolled_out import MATCH_FRAMES, Batch, Instruments, RolledOut

LAYOUT = StateLayout.with_root(29)
VX = LAYOUT["root_lin_vel_h"].start


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    model = CMG(CMGConfig(hidden=8, gate_hidden=8), LAYOUT, fps=50.0)
    return Instruments(model, load_g1(), torch.ones(LAYOUT.size), torch.full((29,), 100.0))


@pytest.fixture(scope="module")
def walk(gaits: dict[str, MotionClip]) -> torch.Tensor:
    """Four windows of walking, (4, 48, state_dim)."""
    return clip_states(gaits["forward"])[100:292].float().view(4, 48, LAYOUT.size)


@pytest.fixture()
def loss(instruments: Instruments) -> Any:
    """A loss of a motion whose rows are all matched, 1 m/s ahead wanted, compared with a target (itself by default).

    People's feet in such motion are those of the target.
    """

    def compute(
        name: str,
        states: torch.Tensor,
        targets: torch.Tensor | None = None,
        command: tuple[float, float, float] = (1.0, 0.0, 0.0),
        drift: tuple[float, float, float] = (0.0, 0.0, 0.0),
        waiting: float = 0.0,
    ) -> torch.Tensor:
        num, horizon = states.shape[:2]
        wanted = torch.tensor(command).expand(1, horizon, 3)
        recorded = figures_of(instruments.foot_contact(states.detach() if targets is None else targets))
        instruments.feet = {int(kinds(wanted)): recorded}
        batch = Batch(
            initial=states[:, 0],
            commands=torch.tensor(command).expand(num, horizon, 3),
            targets=states.detach() if targets is None else targets,
            drift=torch.tensor(drift).expand(num, 3),
            waiting=torch.full((num,), waiting),
        )
        return TERMS[name].compute(RolledOut(states, torch.zeros_like(states), batch, instruments))

    return compute


def test_every_loss_of_a_run_without_matched_or_still_rows_is_finite(
    instruments: Instruments, walk: torch.Tensor
) -> None:
    none = torch.zeros(0, 3)
    batch = Batch(walk[:, 0], torch.zeros(4, 48, 3), walk, none, none[:, 0])
    rolled = RolledOut(walk, torch.zeros_like(walk), batch, instruments)
    assert set(default_weights()) == set(TERMS)
    assert all(torch.isfinite(term.compute(rolled)) for term in TERMS.values())


def test_the_mean_of_two_motions_lacks_activity(loss: Any, walk: torch.Tensor) -> None:
    mean = 0.5 * (walk + mirror_states(walk, LAYOUT, load_g1()))
    assert float(loss("activity", walk)) == 0.0
    assert float(loss("activity", 2.0 * walk, walk)) == 0.0
    assert float(loss("activity", mean, walk)) > 0.05


def test_steps_of_half_the_length_are_too_many(loss: Any, walk: torch.Tensor) -> None:
    hurried = torch.cat((walk[:, ::2], walk[:, 1::2].flip(1)), dim=1)  # there and back in the same time
    assert float(loss("steps", walk)) < 1e-5
    assert float(loss("steps", hurried, walk)) > 0.5
    still = walk[:, :1].expand_as(walk)
    assert float(loss("steps", still, walk)) > 0.5


def test_a_matched_recording_of_another_speed_does_not_pull(loss: Any, walk: torch.Tensor) -> None:
    faster = walk.clone()
    faster[..., VX] += 0.2
    assert float(loss("state", walk, faster)) == pytest.approx(0.0, abs=1e-5)
    right = float(loss("mean_velocity", walk, faster, command=(float(walk[:, MATCH_FRAMES:, VX].mean()), 0.0, 0.0)))
    assert right < 0.5 * float(loss("mean_velocity", walk, faster, command=(1.2, 0.0, 0.0)))


def test_who_has_drifted_is_driven_back(loss: Any, walk: torch.Tensor) -> None:
    states = walk.clone().requires_grad_(True)
    loss("drift", states, drift=(0.1, -0.1, 0.0)).backward()
    assert states.grad is not None
    assert float(states.grad[..., VX].sum()) > 0.0
    assert float(states.grad[..., VX + 1].sum()) < 0.0
    assert float(states.grad[..., LAYOUT["root_yaw_rate"]].abs().max()) == 0.0


def test_feet_may_rise_later_but_not_less(loss: Any, walk: torch.Tensor) -> None:
    later = walk.flatten(0, 1)[12:-36].view(3, 48, -1)
    walk = walk[:3]
    assert float(loss("feet", walk)) < 1e-3
    gliding = walk.clone()
    gliding[..., : 2 * 29] = walk[:, :1, : 2 * 29]  # Legs held as they are while the root goes on.
    assert float(loss("feet", later, walk)) < 0.2 * float(loss("feet", gliding, walk))


def test_hands_in_hips_cost(loss: Any, walk: torch.Tensor) -> None:
    robot = load_g1()
    apart, inside = walk.clone(), walk.clone()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        roll, elbow = robot.joint_index([f"{side}_shoulder_roll_joint", f"{side}_elbow_joint"]).tolist()
        apart[..., roll], inside[..., roll] = 0.6 * sign, -0.2 * sign
        inside[..., elbow] = 1.2
    assert float(loss("self_contact", apart)) == 0.0
    assert float(loss("self_contact", inside)) > 0.01


def test_who_is_told_to_stand_must_do_so_after_a_while(loss: Any, walk: torch.Tensor) -> None:
    assert float(loss("stop", walk, waiting=5.0)) == 0.0, "told to walk"
    assert float(loss("stop", walk, command=(0.0, 0.0, 0.0))) == 0.0, "just told to stand"
    assert float(loss("stop", walk, command=(0.0, 0.0, 0.0), waiting=2.0)) > 0.5


def test_trembling_costs_more_than_the_walk_it_is_on(loss: Any, walk: torch.Tensor) -> None:
    trembling = walk.clone()
    trembling[:, ::2, LAYOUT["dof_vel"]] += 0.3
    assert float(loss("tremble", trembling)) > 2.0 * float(loss("tremble", walk))


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ((0.0, 0.0, 0.0), 0),
        ((-0.4, 0.1, 0.0), 1),
        ((0.2, 0.0, 0.5), 2),
        ((0.6, 0.0, 0.0), 3),
        ((1.2, 0.0, 0.0), 4),
        ((2.5, 0.0, 0.3), 5),
        ((0.1, -0.3, 0.0), 6),
        ((0.0, 0.0, -0.8), 7),
    ],
)
def test_kinds_of_motion_are_told_by_the_command(command: tuple[float, float, float], kind: int) -> None:
    assert kinds(torch.tensor(command).expand(2, 10, 3)).tolist() == [kind, kind]
