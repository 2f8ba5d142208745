"""Strata of commands: shares, purity, curriculum, and draws that follow what fails."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg
from cmg_ref.commands.strata import BALANCED_STRATA, RUN_SPEED, SMALLEST, STRATA, CommandStrata

RANGES = ((-0.6, 2.5), (-0.4, 0.4), (-1.0, 1.0))


def strata_of(**overrides: Any) -> CommandStrata:
    return CommandStrata(RANGES, BALANCED_STRATA, **overrides)


def draw(strata: CommandStrata, count: int = 40_000) -> torch.Tensor:
    return strata.draw(count, torch.Generator().manual_seed(0))


def shares(strata: CommandStrata) -> torch.Tensor:
    return torch.bincount(strata.stratum_of(draw(strata)), minlength=len(STRATA)) / 40_000


def test_balanced_shares_make_one() -> None:
    assert set(BALANCED_STRATA) == set(STRATA)
    assert sum(BALANCED_STRATA.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("name", STRATA)
def test_each_stratum_draws_its_own_kind(name: str) -> None:
    strata = CommandStrata(RANGES, {name: 3.0})  # shares are scaled to a sum of 1
    commands = draw(strata)
    own = strata.stratum_of(commands) == STRATA.index(name)
    assert own.float().mean() > (0.7 if name == "mixed" else 0.9999)
    low, high = torch.tensor(RANGES).T
    assert bool(((commands >= low) & (commands <= high)).all())
    if name in ("side", "turn"):
        axis = 1 if name == "side" else 2
        assert float((commands[:, axis] > 0).float().mean()) == pytest.approx(0.5, abs=0.01)
        assert float(commands[:, axis].abs().min()) >= SMALLEST[axis] - 1e-6
        assert float(commands[:, axis].abs().max()) > 0.98 * RANGES[axis][1]
    if name == "mixed":
        assert float(commands[:, 0].max()) <= RUN_SPEED
        # Uniform over each range: the mean of the middle.
        assert float(commands[:, 0].mean()) == pytest.approx(0.5 * (-0.6 + RUN_SPEED), abs=0.02)


def test_draws_keep_to_the_shares() -> None:
    found = shares(strata_of())
    for index, name in enumerate(STRATA[1:6], start=1):
        # Some mixed draws happen to be of one kind only.
        assert BALANCED_STRATA[name] - 0.01 < float(found[index]) < BALANCED_STRATA[name] + 0.03, name


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ((0.0, 0.0, 0.0), "stand"),
        ((0.1, -0.1, 0.1), "stand"),
        ((0.5, 0.0, 0.0), "forward"),
        ((1.6, 0.0, 0.0), "run"),
        ((-0.15, 0.05, 0.1), "backward"),
        ((0.0, -0.3, 0.0), "side"),
        ((0.0, 0.0, -0.8), "turn"),
        ((0.5, 0.0, 0.8), "mixed"),
        ((0.0, 0.3, 0.8), "mixed"),
    ],
)
def test_kind_of_a_command(command: tuple[float, float, float], name: str) -> None:
    assert STRATA[int(strata_of().stratum_of(torch.tensor([command]))[0])] == name


def test_curriculum_holds_back_running_and_fast_commands() -> None:
    strata = strata_of()
    strata.set_scale(0.4)  # vx up to 0.15 + 0.4 * 2.35 = 1.09
    commands = draw(strata)
    assert 1.05 < float(commands[:, 0].max()) <= 1.09 + 1e-5
    assert float(commands[:, 2].abs().max()) <= 0.2 + 0.4 * 0.8 + 1e-5
    found = shares(strata)
    assert float(found[STRATA.index("run")]) == 0.0
    expected = BALANCED_STRATA["forward"] + BALANCED_STRATA["run"]
    assert float(found[STRATA.index("forward")]) == pytest.approx(expected, abs=0.03)
    strata.set_scale(1.0)
    assert float(shares(strata)[STRATA.index("run")]) == pytest.approx(BALANCED_STRATA["run"], abs=0.01)


def test_failing_stratum_is_drawn_more_often() -> None:
    strata = strata_of(failure_weight=0.5)
    commands = draw(strata)
    strata.report(commands, strata.stratum_of(commands) == STRATA.index("backward"))
    # Only backward fails, so the half of the draws that follows failures goes there nearly entirely.
    assert float(shares(strata)[STRATA.index("backward")]) == pytest.approx(0.5 + 0.5 * 0.16, abs=0.03)
    assert float(strata.chances().sum()) == pytest.approx(1.0, abs=1e-5)


def test_failing_part_of_a_stratum_is_drawn_more_often() -> None:
    strata = CommandStrata(RANGES, {"turn": 1.0}, failure_weight=1.0)
    commands = draw(strata)
    strata.report(commands, commands[:, 2] < -0.75)  # one bin of six: -1 to -0.733
    assert float((draw(strata)[:, 2] < -0.7).float().mean()) > 0.9


def test_no_failure_weight_keeps_the_base_shares() -> None:
    strata = strata_of(failure_weight=0.0)
    commands = draw(strata)
    strata.report(commands, commands[:, 0] < 0.0)
    torch.testing.assert_close(strata.chances().sum(dim=1), torch.tensor([BALANCED_STRATA[name] for name in STRATA]))


def test_old_reports_fade() -> None:
    strata = strata_of(memory=100.0)
    backward = torch.tensor([[-0.4, 0.0, 0.0]]).repeat(100, 1)
    strata.report(backward, torch.ones(100, dtype=torch.bool))
    cell = strata.reports.argmax()
    assert float(strata.failure_rates().flatten()[cell]) == 1.0
    strata.report(backward, torch.zeros(100, dtype=torch.bool))
    # 50 failures are left of 100, beside 100 successes, and two failures are always assumed.
    assert float(strata.failure_rates().flatten()[cell]) == pytest.approx(52.0 / 152.0, rel=1e-4)


def test_sampler_uses_strata_and_resumes_where_it_was() -> None:
    cfg = CommandSamplerCfg(strata=BALANCED_STRATA, curriculum_stages=4, curriculum_start=0.5)
    sampler, other = CommandSampler(16, cfg, seed=1), CommandSampler(16, cfg, seed=2)
    assert sampler.level == 0.0
    assert sampler.update_curriculum(0.95) == 0.25
    assert sampler.update_curriculum(0.7) == 0.25
    assert sampler.update_curriculum(0.1) == 0.0
    sampler.update_curriculum(0.95)
    sampler.report(sampler.sample(500), torch.arange(500) % 3 == 0)
    sampler.step(sampler.sample(16))
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(sampler.sample(200), other.sample(200))
    assert other.level == 0.25
    for _ in range(3):
        assert torch.equal(sampler.step(torch.zeros(16, 3))[0], other.step(torch.zeros(16, 3))[0])


def test_sampler_holds_commands() -> None:
    cfg = CommandSamplerCfg(resampling_time=(0.02, 0.04))
    sampler = CommandSampler(4, cfg, control_dt=0.02)
    sampler.hold(torch.tensor([1, 2]))
    changed = torch.zeros(4, dtype=torch.bool)
    for _ in range(5):
        changed |= sampler.step(torch.zeros(4, 3))[1]
    assert changed.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strata": {"sideways": 1.0}}, "no stratum 'sideways'"),
        ({"strata": {"side": -1.0}}, "'side' must not be negative"),
        ({"strata": {"side": 0.0}}, "at least one share"),
        ({"strata": {"run": 1.0}, "lin_vel_x": (-0.5, 1.0)}, "'run' needs vx above 1.6"),
        ({"strata": {"backward": 1.0}, "lin_vel_x": (-0.1, 1.0)}, "'backward' needs vx below"),
        ({"strata": {"forward": 1.0}, "lin_vel_x": (0.5, 1.0)}, "lin_vel_x must contain 0"),
        ({"failure_weight": 1.5}, "failure_weight"),
        ({"demote_below": 0.95}, "demote_below"),
        ({"curriculum_stages": -1}, "curriculum_stages"),
    ],
)
def test_impossible_settings_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CommandSampler(4, CommandSamplerCfg(**fields))


def test_report_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        CommandSampler(4).report(torch.zeros(4, 2), torch.zeros(4, dtype=torch.bool))
