"""Offsets on commands: exact at the nodes, linear between, none for a robot that stands, safe to read from a file."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from cmg_ref.commands.calibration import NATURAL_HEIGHT, CommandCalibration, HeightCalibration

NODES = ((-0.5, 0.0, 1.0, 2.0), (-0.4, 0.0, 0.4), (-1.0, 0.0, 1.0))


def calibration(seed: int = 0) -> CommandCalibration:
    offsets = 0.1 * torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    offsets[1, 1, 1] = 0.0
    return CommandCalibration(NODES, offsets)


def with_heights() -> CommandCalibration:
    offsets = torch.tensor([[-0.05, -0.03], [-0.02, -0.01], [0.0, 0.0]])
    return CommandCalibration(
        NODES, calibration().offsets, HeightCalibration((0.6, 0.7, NATURAL_HEIGHT), (0.0, 0.5), offsets)
    )


def test_a_node_is_offset_by_what_stands_there() -> None:
    it = calibration()
    for i, vx in enumerate(NODES[0]):
        for j, vy in enumerate(NODES[1]):
            for k, wz in enumerate(NODES[2]):
                told = torch.tensor([[vx, vy, wz]])
                torch.testing.assert_close(it(told) - told, it.offsets[i, j, k][None], atol=6e-5, rtol=0.0)


def test_between_nodes_it_is_linear_in_every_direction() -> None:
    it = calibration()
    corners = [it(torch.tensor([[vx, vy, 0.0]])) for vx in (1.0, 2.0) for vy in (0.0, 0.4)]
    told = torch.tensor([[1.25, 0.3, 0.0]])
    shares = torch.tensor([0.75 * 0.25, 0.75 * 0.75, 0.25 * 0.25, 0.25 * 0.75])
    wanted = sum(share * corner for share, corner in zip(shares, corners))
    torch.testing.assert_close(it(told), wanted, atol=6e-5, rtol=0.0)


def test_beyond_the_grid_the_offset_is_that_of_its_border() -> None:
    it = calibration()
    beyond, border = torch.tensor([[3.0, -0.7, 0.0]]), torch.tensor([[2.0, -0.4, 0.0]])
    torch.testing.assert_close(it(beyond) - beyond, it(border) - border, atol=6e-5, rtol=0.0)


def test_whoever_shall_stand_is_told_to_stand_exactly() -> None:
    assert torch.equal(calibration()(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_further_channels_are_left_alone() -> None:
    told = torch.tensor([[0.5, 0.1, 0.2, 0.65]])
    through = calibration()(told)
    assert through.shape == (1, 4)
    assert float(through[0, 3]) == float(told[0, 3])
    assert torch.equal(through[:, :3], calibration()(told[:, :3]))


def test_heights_are_offset_by_height_and_speed() -> None:
    it = with_heights()
    told = torch.tensor(
        [
            [0.0, 0.0, 0.0, 0.6],  # stands
            [1.0, 0.0, 0.0, 0.6],  # beyond the grid
            [0.1, -0.25, 0.0, 0.65],  # half as fast as the second speed, and between two heights
            [0.0, 0.0, 0.5, 0.725],
            [1.0, 0.0, 0.0, NATURAL_HEIGHT],
            [0.0, 0.0, 0.0, 0.77],
        ]
    )
    wanted = torch.tensor([-0.05, -0.03, -0.0275, -0.005, 0.0, 0.0])
    torch.testing.assert_close(it(told)[:, 3] - told[:, 3], wanted, atol=6e-5, rtol=0.0)
    assert torch.equal(it(told)[:, :3], calibration()(told[:, :3]))
    assert torch.equal(it(told[:, :3]), calibration()(told[:, :3]))  # where nobody asks for a height


@pytest.mark.parametrize("it", [calibration(), with_heights()])
def test_it_comes_back_from_json(it: CommandCalibration) -> None:
    back = CommandCalibration.from_json(json.loads(json.dumps(it.to_json())))
    assert back.nodes == it.nodes
    torch.testing.assert_close(back.offsets, it.offsets, atol=6e-5, rtol=0.0)
    told = torch.tensor([[0.3, 0.1, 0.2, 0.63]])
    torch.testing.assert_close(back(told), it(told), atol=2e-4, rtol=0.0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"heights": [0.6, 0.7]}, "0.75 among them"),
        ({"heights": [0.7, 0.6, NATURAL_HEIGHT]}, "must rise"),
        ({"heights": None}, "calibration"),
        ({"speeds": [0.5, 1.0]}, "0 among them"),
        ({"offsets": [[0.0, 0.0]] * 2}, "as many offsets"),
        ({"offsets": [[0.01, 0.0]] * 3}, "natural height"),
        ({"offsets": [[float("nan"), 0.0]] * 3}, "finite"),
    ],
)
def test_offsets_on_heights_that_are_none_are_refused_with_the_reason(change: dict[str, Any], message: str) -> None:
    fields = with_heights().to_json()
    with pytest.raises(ValueError, match=message):
        CommandCalibration.from_json({**fields, "base_height": {**fields["base_height"], **change}})


def test_offsets_on_heights_that_are_no_fields_are_refused() -> None:
    others: tuple[Any, ...] = (None, [], 1.0, "x")
    for height in others:
        with pytest.raises(ValueError, match="calibration"):
            CommandCalibration.from_json({**calibration().to_json(), "base_height": height})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lin_vel_x": [-0.5, 1.0, 0.0, 2.0]}, "must rise"),
        ({"lin_vel_x": [-0.5, 0.1, 1.0, 2.0]}, "0 among them"),
        ({"lin_vel_x": [0.0]}, "offsets"),
        ({"lin_vel_y": "abc"}, "could not convert|calibration"),
        ({"lin_vel_y": None}, "calibration"),
        ({"ang_vel_yaw": [float(value) for value in range(100_000)]}, "nodes"),
        ({"ang_vel_yaw": [-1.0, 0.0, float("nan")]}, "must rise"),
        ({"offsets": [[0.0, 0.0, 0.0]]}, "offsets"),
        ({"offsets": [[float("inf")] * 3] * 36}, "finite"),
        ({"offsets": [[0.1] * 3] * 36}, "stand"),
        ({"offsets": "x"}, "calibration"),
        ({"offsets": {}}, "calibration|offsets"),
    ],
)
def test_what_is_no_calibration_is_refused_with_the_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CommandCalibration.from_json({**calibration().to_json(), **change})


def test_a_missing_field_is_named() -> None:
    fields = calibration().to_json()
    del fields["lin_vel_y"]
    with pytest.raises(ValueError, match="lin_vel_y"):
        CommandCalibration.from_json(fields)
