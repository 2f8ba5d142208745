"""Offsets with which robots fall are taken back; the measuring itself is tested with the policy, in test_play.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

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
