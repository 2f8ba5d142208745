"""Channels of a command: their order, their description in files, and what counts as standing."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch

from cmg_ref.core.command_layout import VELOCITY_CHANNELS, CommandChannel, CommandLayout, told_to_stand

HEIGHT = CommandChannel("base_height", "h", "base height", "m", (0.5, 0.8), 1.0, 0.75, 0.03, (0.03, 0.05), 0.02)


def test_a_layout_begins_with_the_velocity() -> None:
    assert CommandLayout().labels == ("vx", "vy", "wz")
    assert CommandLayout([HEIGHT]).names == ("lin_vel_x", "lin_vel_y", "ang_vel_yaw", "base_height")
    assert CommandLayout([HEIGHT]).column("h") == CommandLayout([HEIGHT]).column("base_height") == 3
    with pytest.raises(KeyError, match="no channel 'base_height', only lin_vel_x"):
        CommandLayout().column("base_height")


@pytest.mark.parametrize("layout", [CommandLayout(), CommandLayout([HEIGHT])])
def test_a_layout_survives_json(layout: CommandLayout) -> None:
    assert CommandLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_a_file_without_channels_has_those_of_the_velocity() -> None:
    assert CommandLayout.from_json(None) == CommandLayout() != CommandLayout([HEIGHT])


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (3, "no list of channels"),
        (["vx"], "no list of channels"),
        ([{"name": "lin_vel_x"}], "no list of channels"),
        ([], "must begin with the velocity: lin_vel_x, lin_vel_y, ang_vel_yaw"),
        (CommandLayout([HEIGHT]).to_json()[1:], "must begin with the velocity"),
        (CommandLayout([HEIGHT]).to_json() + CommandLayout([HEIGHT]).to_json()[3:], "two channels have the name"),
        ([{**VELOCITY_CHANNELS[0].__dict__, "range": ["a", 1.0]}], "needs finite numbers"),
    ],
)
def test_what_describes_no_layout_is_refused(channels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CommandLayout.from_json(channels)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "", "'name' must be a word"),
        ("label", "a b", "'label' must be a word"),
        ("range", (0.5, float("inf")), "finite numbers"),
        ("rest", 0.9, "rest 0.9 is not within"),
        ("mirror", -1.0, "'mirror' is 1"),
        ("step", 0.0, "must be positive"),
    ],
)
def test_an_impossible_channel_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(HEIGHT, **{field: value})


def test_missing_channels_are_at_rest() -> None:
    layout = CommandLayout([HEIGHT])
    velocity = torch.tensor([[1.0, 0.0, 0.5]])
    torch.testing.assert_close(layout.complete(velocity), torch.tensor([[1.0, 0.0, 0.5, 0.75]]))
    assert layout.complete(layout.rest(2)) is not None and layout.rest(2).shape == (2, 4)
    assert CommandLayout().complete(velocity) is velocity


def test_standing_is_a_matter_of_the_velocity_alone() -> None:
    commands = torch.tensor([[0.0, 0.0, 0.0, 0.6], [0.0, 0.0, 0.1, 0.75]])
    assert told_to_stand(commands).tolist() == [True, False]


def test_commands_are_described_by_label() -> None:
    assert CommandLayout([HEIGHT]).described((0.6, 0.0, -0.4, 0.6)) == "vx 0.6 wz -0.4 h 0.6"
    assert CommandLayout([HEIGHT]).described((0.0, 0.0, 0.0, 0.75)) == "stand"


def test_only_registered_channels_can_be_named() -> None:
    with pytest.raises(ValueError, match="no command channel 'jump' beside the velocity"):
        CommandLayout.of_names(["jump"])
