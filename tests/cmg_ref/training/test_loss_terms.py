"""The losses: what each asks for, told by motions that have it and motions that lack it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.clips.dataset import build_dataset
from cmg_ref.clips.mirror import mirror_states
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.state_layout import GAIT_PHASE, StateLayout
from cmg_ref.evaluation.gait import height_over_floor
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.robots.robot import load_g1
from cmg_ref.training import foot_statistics
from cmg_ref.training.foot_statistics import (
    BACK,
    FAMILIES,
    FAST,
    NUM_KINDS,
    NUM_PHASES,
    RUN,
    SIDE,
    SLOW,
    STAND,
    TURN,
    WALK,
    at_phase,
    feet_phases,
    figures_of,
    kinds,
    paces,
    sway_at,
    sway_by_phase,
    to_the_right,
)
from cmg_ref.training.gait_phase import with_gait_phase
from cmg_ref.training.loss_terms import TERMS, default_weights
from cmg_ref.training.rolled_out import MATCH_FRAMES, Batch, Instruments, RolledOut

LAYOUT = StateLayout.with_phase(29)
PHASE = LAYOUT[GAIT_PHASE]
VX = LAYOUT["root_lin_vel_h"].start


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    model = CMG(CMGConfig(hidden=8, gate_hidden=8), LAYOUT, fps=50.0)
    return Instruments(model, load_g1(), torch.ones(LAYOUT.size), torch.full((29,), 100.0))


@pytest.fixture(scope="module")
def walk(gaits: dict[str, MotionClip], instruments: Instruments) -> torch.Tensor:
    """Four windows of walking on the floor, (4, 48, state_dim)."""
    robot = load_g1()
    states = with_gait_phase(build_dataset([gaits["forward"]], robot), robot).states
    windows = states[72:264].float().view(4, 48, LAYOUT.size)
    feet = instruments.foot_contact(windows)
    floor = (feet.height.amin(dim=-1) - height_over_floor(feet, 50.0)).amin(dim=-1)
    windows[..., LAYOUT["root_height"]] -= floor.unsqueeze(-1)
    return windows


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
        people = states.detach() if targets is None else targets
        strides, excess = feet_phases(people[..., PHASE]), people[..., VX : VX + 2] - wanted[..., :2]
        sway = sway_by_phase(excess, strides, to_the_right(wanted).expand(len(people)))
        recorded = figures_of(instruments.foot_contact(people), people[..., PHASE], 50.0, sway)
        instruments.kinds = {int(kinds(wanted)): recorded}
        batch = Batch(
            initial=states[:, 0],
            commands=torch.tensor(command).expand(num, horizon, 3),
            targets=people,
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


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_who_strides_at_another_pace_than_people_is_drawn_to_theirs(
    loss: Any, walk: torch.Tensor, share: float
) -> None:
    phase = torch.atan2(walk[..., PHASE.start + 1], walk[..., PHASE.start]).numpy()
    other = share * torch.from_numpy(np.unwrap(phase, axis=1))
    states = walk.clone()
    states[..., PHASE] = torch.stack((other.cos(), other.sin()), dim=-1)
    own, people = paces(states[..., PHASE], 50.0), paces(walk[..., PHASE], 50.0)
    assert 1.7 < float(people.mean()) / math.pi < 2.2, "steps a second of a walk at 1 m/s"
    torch.testing.assert_close(own, share * people, atol=1e-3, rtol=1e-3)
    states.requires_grad_(True)
    value = loss("pace", states, walk)
    assert float(value.detach()) == pytest.approx(float((own - people.median()).abs().mean()), rel=1e-3)
    assert float(loss("pace", walk)) < 0.2 * float(value.detach())
    value.backward()
    assert states.grad is not None
    last = states.detach()[:, -1, PHASE] - 0.01 * states.grad[:, -1, PHASE]
    later = torch.cat((states.detach()[:, :-1, PHASE], last.unsqueeze(1)), dim=1)
    assert ((paces(later, 50.0) - own) * (people - own)).min() > 0.0


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
    assert float(loss("feet", walk)) < 2e-3
    gliding = walk.clone()
    gliding[..., : 2 * 29] = walk[:, :1, : 2 * 29]  # Legs held as they are while the root goes on.
    assert float(loss("feet", later, walk)) < 0.2 * float(loss("feet", gliding, walk))


def test_feet_rise_when_their_phase_says_so(loss: Any, walk: torch.Tensor) -> None:
    later = walk.flatten(0, 1)[12:-36].view(3, 48, -1)
    walk = walk[:3]
    natural = float(loss("swing", later, walk))
    gliding = walk.clone()
    gliding[..., : 2 * 29] = walk[:, :1, : 2 * 29]  # Legs held as they are while the root goes on.
    out_of_phase = later.clone()
    out_of_phase[..., PHASE] *= -1.0
    assert float(loss("swing", walk)) < 0.02
    assert natural < 0.02
    assert float(loss("swing", gliding, walk)) > 3.0 * natural
    assert float(loss("swing", out_of_phase, walk)) > 3.0 * natural


def test_a_profile_tells_of_each_foot_in_its_own_stride() -> None:
    phase = 2.0 * math.pi * torch.arange(96) / 48.0  # two strides
    place = feet_phases(torch.stack((phase.cos(), phase.sin()), dim=-1))
    assert place[:, 0].tolist() == pytest.approx((torch.arange(96) % 48 / 2.0).tolist(), abs=1e-3)
    assert place[:, 1].tolist() == pytest.approx(((torch.arange(96) + 24) % 48 / 2.0).tolist(), abs=1e-3)
    profile = torch.arange(float(NUM_PHASES))
    known = at_phase(profile, torch.tensor([0.0, 2.5, NUM_PHASES - 0.5]))
    assert known.tolist() == pytest.approx([0.0, 2.5, 0.5 * (NUM_PHASES - 1)])


def test_swings_of_various_lengths_make_one_that_leaves_the_floor_at_once() -> None:
    place = torch.arange(float(NUM_PHASES)).view(1, -1, 1).expand(5, -1, 2)
    last = torch.tensor([4.0, 5.0, 6.0, 7.0, 8.0]).view(5, 1, 1)  # of the phases in which a foot is up
    height = torch.where((place >= 1.0) & (place <= last), 0.06, 0.002)
    profile = foot_statistics._swing(place, height, 50.0)
    assert profile[1:7].tolist() == pytest.approx([0.06] * 6), "three of five are still up at the last of them"
    assert profile[7:].tolist() == pytest.approx([0.002] * (NUM_PHASES - 7)) and profile[0] < 0.01
    seldom = foot_statistics._swing(place[:, 3:], height[:, 3:], 50.0)
    assert not torch.isnan(seldom).any() and float(seldom[2]) == float(seldom[-1])


def test_swings_that_are_highest_at_various_phases_make_one_as_high_as_they_are() -> None:
    place = torch.arange(float(NUM_PHASES)).view(1, -1, 1).expand(9, -1, 2)
    highest = torch.arange(2.0, 11.0).view(9, 1, 1)
    height = torch.where((place >= 1.0) & (place <= 12.0), 0.03 + 0.03 * torch.exp(-((place - highest) ** 2)), 0.002)
    profile = foot_statistics._swing(place, height, 50.0)
    assert float(profile.max()) == pytest.approx(0.06, abs=1e-3)
    assert profile[1:13].min() > 0.03 and profile[14:].max() < 0.01


def test_a_root_that_keeps_its_velocity_at_every_moment_sways_over_neither_foot(loss: Any, walk: torch.Tensor) -> None:
    gliding = walk.clone()
    gliding[..., VX : VX + 2] = torch.tensor([1.0, 0.0])
    gliding.requires_grad_(True)
    value = loss("sway", gliding, walk)
    value.backward()
    assert value.item() > 0.03 and value.item() > 1.5 * loss("sway", walk).item()
    grad = gliding.grad
    assert grad is not None and grad[..., VX : VX + 2].any() and not grad[..., PHASE].any()


def test_part_of_a_stride_is_not_slow_or_fast_for_swaying(loss: Any, walk: torch.Tensor) -> None:
    """Over less than a stride people's mean velocity is not what they are told, and need not be."""
    parts = walk.reshape(16, 12, -1)  # a quarter of a second each
    vx, vy = parts[..., VX : VX + 2].mean(dim=(0, 1)).tolist()
    gliding = parts.clone()
    gliding[..., VX : VX + 2] = torch.tensor([vx, vy])
    own, kept = (loss("mean_velocity", states, parts, (vx, vy, 0.0)).item() for states in (parts, gliding))
    assert own < 0.9 * kept


def test_a_sway_is_as_wide_as_that_of_people_who_sway_at_various_phases() -> None:
    place = NUM_PHASES / 48.0 * torch.arange(48.0).expand(9, -1)
    late = 2.0 * math.pi / NUM_PHASES * torch.linspace(-5.0, 5.0, 9).unsqueeze(1)
    angle = 2.0 * math.pi / NUM_PHASES * place - late
    excess = torch.stack((0.02 * (2.0 * angle).cos(), 0.1 * angle.sin()), dim=-1)
    feet = torch.stack((place, torch.remainder(place + NUM_PHASES / 2, NUM_PHASES)), dim=-1)
    left = torch.zeros(9, dtype=torch.bool)
    profile = sway_by_phase(excess, feet, left)
    assert profile[:, 1].max().item() == pytest.approx(0.1, rel=0.05) and int(profile[:, 1].argmax()) == 6
    mirrored = excess * torch.tensor([1.0, -1.0])
    torch.testing.assert_close(sway_by_phase(mirrored, feet.flip(-1), ~left), profile)
    torch.testing.assert_close(sway_at(profile, feet[0], left[0])[::2], profile)
    mirror = sway_at(profile, feet[0].flip(-1), ~left[0])
    torch.testing.assert_close(mirror * torch.tensor([1.0, -1.0]), sway_at(profile, feet[0], left[0]))


@pytest.mark.parametrize(
    ("command", "right"),
    [
        ((0.0, -0.3, 0.1), True),
        ((0.0, 0.3, -0.1), False),
        ((0.0, 0.0, -0.8), True),
        ((1.0, 0.0, -0.6), True),
        ((1.0, 0.05, -0.2), False),
        ((0.0, 0.0, 0.0), False),
    ],
)
def test_who_goes_or_turns_to_the_right_is_a_mirror_image(command: tuple[float, float, float], right: bool) -> None:
    told = torch.tensor(command).expand(1, 48, 3)
    assert to_the_right(told).tolist() == [right]
    aside = abs(command[1]) + abs(command[2]) > 0.3
    assert to_the_right(told * torch.tensor([1.0, -1.0, -1.0])).tolist() == [aside and not right]


def test_people_whose_floor_lies_elsewhere_lift_their_feet_as_others_do(
    instruments: Instruments, walk: torch.Tensor
) -> None:
    sunk = walk.clone()
    sunk[..., LAYOUT["root_height"]] -= 0.02
    phase, none = walk[..., PHASE], torch.zeros(NUM_PHASES, 2)
    here, there = (figures_of(instruments.foot_contact(states), phase, 50.0, none) for states in (walk, sunk))
    assert there.swing.tolist() == pytest.approx(here.swing.tolist(), abs=1e-4)
    assert there.heights.tolist() == pytest.approx(here.heights.tolist(), abs=1e-4)


def test_a_dragged_foot_costs_and_one_that_stands_better_than_peoples_does_not(loss: Any, walk: torch.Tensor) -> None:
    dragged, still = walk.clone(), walk[:, :1].expand_as(walk).clone()
    dragged[:, 10:15, VX] += 1.0
    still[..., VX : VX + 2] = still[..., LAYOUT["root_yaw_rate"]] = 0.0
    assert float(loss("planted", dragged, walk)) > max(0.02, 4.0 * float(loss("planted", walk)))
    assert float(loss("planted", still, walk)) < 1e-4


@pytest.mark.parametrize(
    "command", [(0.5, 0.0, 0.0), (-0.4, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, 0.8), (1.0, 0.0, 0.6)]
)
def test_kinds_do_not_tell_left_from_right_and_speeds_apart(command: tuple[float, float, float]) -> None:
    told = torch.tensor(command).expand(1, 48, 3)
    own = int(kinds(told))
    assert 0 < own < NUM_KINDS and own == int(kinds(told * torch.tensor([1.0, -1.0, -1.0])))
    assert int(kinds(torch.zeros(1, 48, 3))) == 0
    assert int(kinds(1.5 * told)) != own
    setting_off = told * torch.linspace(0.0, 2.0, 48)[:, None]
    assert int(kinds(setting_off)) == (-1 if max(map(abs, command[:2])) >= 0.3 else own)


def test_hands_in_hips_cost(loss: Any, walk: torch.Tensor) -> None:
    robot = load_g1()
    apart, inside = walk.clone(), walk.clone()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        roll, elbow = robot.joint_index([f"{side}_shoulder_roll_joint", f"{side}_elbow_joint"]).tolist()
        apart[..., roll], inside[..., roll] = 0.6 * sign, -0.2 * sign
        inside[..., elbow] = 1.2
    assert float(loss("self_contact", apart)) == 0.0
    assert float(loss("self_contact", inside)) > 0.01
    crossed = apart.clone()
    crossed[..., robot.joint_index(["left_hip_roll_joint"])] -= 0.4
    assert float(loss("self_contact", crossed)) > 0.01, "so does a foot in the other one"


def test_who_is_told_to_stand_must_do_so_after_a_while(loss: Any, walk: torch.Tensor) -> None:
    assert float(loss("stop", walk, waiting=5.0)) == 0.0, "told to walk"
    assert float(loss("stop", walk, command=(0.0, 0.0, 0.0))) == 0.0, "just told to stand"
    assert float(loss("stop", walk, command=(0.0, 0.0, 0.0), waiting=2.0)) > 0.5


def test_trembling_costs_more_than_the_walk_it_is_on(loss: Any, walk: torch.Tensor) -> None:
    trembling = walk.clone()
    trembling[:, ::2, LAYOUT["dof_vel"]] += 0.3
    assert float(loss("tremble", trembling)) > 2.0 * float(loss("tremble", walk))


@pytest.mark.parametrize(
    ("command", "family"),
    [
        ((0.0, 0.0, 0.0), STAND),
        ((-0.4, 0.1, 0.0), BACK),
        ((0.2, 0.0, 0.5), SLOW),
        ((0.6, 0.0, 0.0), WALK),
        ((1.2, 0.0, 0.0), FAST),
        ((2.5, 0.0, 0.3), RUN),
        ((0.1, -0.3, 0.0), SIDE),
        ((0.0, 0.0, -0.8), TURN),
    ],
)
def test_kinds_of_motion_are_told_by_the_command(command: tuple[float, float, float], family: int) -> None:
    assert [FAMILIES[one] for one in kinds(torch.tensor(command).expand(2, 10, 3)).tolist()] == [family, family]
