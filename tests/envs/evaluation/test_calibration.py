"""Offsets with which robots fall, and offsets on heights; the measuring itself is tested in test_play.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cmg_ref.commands.calibration import CommandCalibration
from configs.g1_cmg_free_config import G1CMGFreeCfg
from envs.evaluation import calibration


def test_offsets_with_which_robots_fall_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 1.02 to 1.04 m/s the reference stumbles, and at 2 m/s always: which is no fault of an offset."""
    tried: list[list[float]] = []

    def evaluate(env: Any, policy: Any, cases: Any, rollouts: int, seed: int, progress: bool) -> Any:
        speeds = [case.command[0] for case in cases]
        tried.append(speeds)
        falls = [1.02 < speed < 1.04 or speed > 1.9 for speed in speeds]
        return SimpleNamespace(results=[SimpleNamespace(survival=0.9 if fall else 1.0) for fall in falls])

    monkeypatch.setattr(calibration, "evaluate", evaluate)
    told = torch.tensor([[0.5, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [2.0, 0.0, 0.0]])
    given = torch.tensor([[0.1, 0.0, 0.0], [0.06, 0.0, 0.02], [0.035, 0.0, 0.0], [0.1, 0.0, 0.0]])
    fell, offsets = calibration.taken_back(None, lambda seen: seen, told, given, 6)
    assert fell == 2 and len(tried) == 4 and len(tried[0]) == 4 and len(tried[1]) == 2
    assert torch.equal(offsets[:2], given[:2])
    torch.testing.assert_close(offsets[2:], torch.tensor([[0.0175, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert torch.equal(given[3], torch.tensor([0.1, 0.0, 0.0]))  # the argument is left as it is


def test_heights_are_asked_for_as_deep_as_makes_robots_reach_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Robots that sink by six tenths of what they are told to, and fall where they walk ahead below 0.57 m."""
    seen: list[float] = []

    def evaluate(env: Any, policy: Any, cases: Any, rollouts: int, seed: int, **_: Any) -> Any:
        seen.extend(case.height for case in cases)
        reached = [0.75 - 0.6 * (0.75 - case.height) for case in cases]
        falls = [case.command[0] == 1.0 and case.height < 0.57 for case in cases]
        return SimpleNamespace(
            results=[
                SimpleNamespace(base_height=height, survival=0.5 if fall else 1.0)
                for height, fall in zip(reached, falls, strict=True)
            ]
        )

    monkeypatch.setattr(calibration, "evaluate", evaluate)
    env = SimpleNamespace(cfg=G1CMGFreeCfg())
    env.cfg.commands.ranges.further = {"base_height": (0.52, 0.77)}
    lines: list[str] = []
    none = CommandCalibration([[0.0, 1.0]] * 3, torch.zeros(2, 2, 2, 3))
    found = calibration.calibrate_heights(env, lambda seen: seen, none, 1, lines.append)
    assert found is not None
    assert len(lines) == 4 and "a robot fell at 1 of them" in lines[1]
    assert min(seen) > 0.5199
    told = torch.tensor([[0.0, 0.0, 0.0, 0.7], [0.4, 0.0, 0.4, 0.65], [0.0, 0.0, 0.0, 0.6], [1.0, 0.0, 0.0, 0.6]])
    asked = told[:, 3] + found(told)[:, 0]
    torch.testing.assert_close(0.75 - 0.6 * (0.75 - asked[:2]), told[:2, 3], atol=0.006, rtol=0.0)
    assert float(asked[2]) == pytest.approx(0.52)  # no lower than the range
    assert 0.57 <= float(asked[3]) < 0.6  # no lower than where it stays up
    env.cfg.commands.ranges.further = {"base_height": (0.71, 0.74)}
    assert calibration.calibrate_heights(env, lambda seen: seen, none, 1, lines.append) is None
