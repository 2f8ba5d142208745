"""What callers hand over is taken in every sound form, and refused in one line that names it in every other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.trajectories.argument_checks import (
    checked_env_ids,
    checked_indices,
    checked_start_frames,
    checked_tensor,
    checked_whole,
    whole_steps,
)

CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("env_ids", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ([], []),
        (torch.tensor([]), []),
        ([3, 1], [3, 1]),
        ((0, 2), [0, 2]),
        (range(2, 4), [2, 3]),
        (np.array([3, 0]), [3, 0]),
        (np.array([3, 0], dtype=np.uint16), [3, 0]),
        ([np.int64(1), 2], [1, 2]),
        ([torch.tensor(1), torch.tensor(2)], [1, 2]),
        (torch.tensor([2], dtype=torch.int32), [2]),
        (torch.tensor([0, 0, 0, 1], dtype=torch.uint8), [3]),
        (np.array([0, 1, 0, 1], dtype=np.uint8), [1, 3]),
        (torch.tensor([True, False, False, True]), [0, 3]),
        (np.array([False, True, True, False]), [1, 2]),
        ([True, False, True, False], [0, 2]),
        (torch.zeros(4, dtype=torch.bool), []),
    ],
)
def test_environments_are_named_in_many_ways(env_ids: Any, expected: list[int]) -> None:
    indices = checked_env_ids(env_ids, 4, CPU)
    assert indices.dtype == torch.long and indices.tolist() == expected


@pytest.mark.parametrize(
    ("env_ids", "message"),
    [
        ([1.7], r"env_ids must be whole numbers \(n,\) or a mask \(4,\), got torch.float64 of shape \(1,\)"),
        (torch.tensor([1.0]), "whole numbers"),
        ([[0, 1]], r"shape \(1, 2\)"),
        (2, r"shape \(\)"),
        ("all", "env_ids must be a tensor, an array or a list of numbers, got str 'all'"),
        ([0, None], "must be a tensor, an array or a list"),
        ({0, 1}, "got set"),
        ([[0], [1, 2]], "must be a tensor, an array or a list"),
        ([True, False, True], r"a mask must have 4 entries, got shape \(3,\)$"),
        (torch.zeros(2, 2, dtype=torch.bool), "a mask must have 4 entries"),
        (torch.tensor([0, 3], dtype=torch.uint8), "a mask must have 4 entries.*give indices as int64"),
        (torch.tensor([0, 1, 2, 3], dtype=torch.uint8), "a mask of uint8 holds 0 and 1, got 3; give indices as int64"),
        ([-1], "env_ids must lie in 0 to 3, got -1"),
        ([0, 4], "env_ids must lie in 0 to 3, got 4"),
        ([9, 2, 0], "env_ids must lie in 0 to 3, got 9"),
        ([2**63], "env_ids must lie in 0 to 3"),
        ([10**30], "env_ids must be a tensor"),
        ([2, 0, 2], "env_ids holds 2 more than once"),
        ([1, 1], "env_ids holds 1 more than once"),
    ],
)
def test_what_names_no_environments_is_refused(env_ids: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        checked_env_ids(env_ids, 4, CPU)
    assert str(raised.value).startswith("env_ids") and "\n" not in str(raised.value)


def test_a_refusal_is_short_however_long_the_input() -> None:
    with pytest.raises(ValueError, match="env_ids") as raised:
        checked_env_ids(["x" * 100_000] * 100, 4, CPU)
    assert len(str(raised.value)) < 200


def test_indices_of_motions_may_come_twice() -> None:
    assert checked_indices([3, 3, 0], 4, CPU, "motion_ids").tolist() == [3, 3, 0]
    with pytest.raises(ValueError, match=r"motion_ids must be whole numbers \(n,\), got"):
        checked_indices([0.0], 4, CPU, "motion_ids")


@pytest.mark.parametrize(
    "values",
    [
        [[1, 0, 0], [0, 2, 0]],
        [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]],
        np.array([[1, 0, 0], [0, 2, 0]], dtype=np.int8),
        np.array([[1, 0, 0], [0, 2, 0]], dtype=">f4"),
        torch.tensor([[1, 0, 0], [0, 2, 0]]),
        torch.tensor([[1, 0, 0], [0, 2, 0]], dtype=torch.float64, requires_grad=True),
        [torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])],
    ],
)
def test_numbers_come_in_many_forms(values: Any) -> None:
    tensor = checked_tensor(values, (2, 3), "commands", CPU)
    assert tensor.dtype == torch.float32 and not tensor.requires_grad
    assert tensor.tolist() == [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 0.0], [0.0, 0.0]], r"commands must have shape \(2, 3\), got \(2, 2\)"),
        ([1.0, 0.0, 0.0], r"commands must have shape \(2, 3\), got \(3,\)"),
        (0.0, r"got \(\)"),
        ([[0.0, 0.0, 0.0], [0.0, NAN, 0.0]], "commands holds NaN or infinite values, first in row 1"),
        ([[0.0, INF, 0.0], [0.0, 0.0, 0.0]], "first in row 0"),
        ([[0.0, 1e300, 0.0], [0.0, 0.0, 0.0]], "first in row 0"),
        (np.zeros((2, 3), dtype=bool), "commands must be real numbers, got torch.bool"),
        (torch.zeros(2, 3, dtype=torch.complex64), "commands must be real numbers"),
        ([["a", "b", "c"]] * 2, "commands must be a tensor, an array or a list"),
        ({"vx": 1.0}, "commands must be a tensor, an array or a list of numbers, got dict"),
        ([[1.0], [1.0, 2.0]], "commands must be a tensor"),
    ],
)
def test_what_is_no_command_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        checked_tensor(values, (2, 3), "commands", CPU)
    assert "\n" not in str(raised.value)


def test_start_frames_are_frames_of_a_trajectory() -> None:
    assert checked_start_frames("random", 2, 9, CPU) == "random"
    assert checked_start_frames(None, 2, 9, CPU) is None
    frames = checked_start_frames(np.array([9, 9]), 2, 9, CPU)
    assert isinstance(frames, torch.Tensor) and frames.tolist() == [9, 9]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([-1, 0], "start_frames must lie in 0 to 9, got -1"),
        ([0, 10**6], "start_frames must lie in 0 to 9, got 1000000"),
        ([0.5, 1.0], "start_frames must be whole numbers"),
        ([1], r"start_frames must have shape \(2,\), got \(1,\)"),
        ("first", "start_frames must be frames"),
        ([True, False], "start_frames must be whole numbers"),
    ],
)
def test_what_is_no_start_frame_is_refused(frames: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_start_frames(frames, 2, 9, CPU)


def test_whole_numbers_are_whole() -> None:
    assert checked_whole(np.int32(5), "n", 1) == 5
    assert whole_steps(np.array([0, 2])) == whole_steps([0, np.int64(2)]) == whole_steps(torch.tensor([0, 2])) == [0, 2]
    for value in (0, 1.0, "1", True, None, -3):
        with pytest.raises(ValueError, match="n must be"):
            checked_whole(value, "n", 1)
    with pytest.raises(ValueError, match="future: steps must be"):
        whole_steps([1.5])
