"""Learning curves are read from the evaluations of a run, whatever has become of these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from envs.learning.learning_curves import read_learning_curve
from envs.learning.training_run import RunError

ROW = {"command": [0.5, 0.0, 0.0], "survival": 0.75, "lin_vel_error": None}
EVALUATION: dict[str, Any] = {"steps": 1000, "time": 120.0, "rows": [ROW]}


def test_the_curve_is_that_of_the_evaluations(tmp_path: Path) -> None:
    (tmp_path / "evaluations.json").write_text(json.dumps([EVALUATION]))
    curve = read_learning_curve("mine", tmp_path)
    assert (curve.steps, curve.minutes, curve.survival) == ([1000], [2.0], [0.75])
    assert curve.reached() is None


@pytest.mark.parametrize(
    "content",
    [
        [3],
        {"steps": 1},
        [{**EVALUATION, "rows": []}],
        [{**EVALUATION, "steps": float("inf")}],
        [{**EVALUATION, "time": "a" * 20_000}],
        [{**EVALUATION, "rows": [{**ROW, "command": "far"}]}],
    ],
)
def test_other_content_is_refused_in_one_short_line(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "evaluations.json"
    path.write_text(json.dumps(content))
    with pytest.raises(RunError) as error:
        read_learning_curve("mine", tmp_path)
    message = str(error.value)
    assert message.startswith(f"{path}: not the evaluations that a training writes")
    assert "\n" not in message and len(message) < len(str(path)) + 300
