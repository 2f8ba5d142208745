"""Schedules, tables and robots in text that is broken, endless or nested without end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.motion_clip import ClipError
from cmg_ref.commands.schedule import CommandSchedule, ScheduleError
from cmg_ref.network.checkpoint import CheckpointError
from cmg_ref.network.legacy_checkpoint import import_legacy_checkpoint
from cmg_ref.robots.kinematic_tree import RobotError
from cmg_ref.robots.mjcf import read_mjcf
from cmg_ref.robots.urdf import read_urdf
from cmg_ref.training.training_state import read_saved_config
from envs.learning.training_run import RunError, read_json

Refusal = Callable[..., None]

MEBIBYTE = 1 << 20


DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 400

# --- Schedules and other text ----------------------------------------------------------------------------------------

BAD_SCHEDULES = {
    "digits.json": f"[[0, {DIGITS}, 0, 0]]",
    "many digits.json": f"[[0, {'9' * 1_000_000}, 0, 0]]",
    "deep.json": DEEP,
    "deep cell.json": f"[[0, {'[' * 500 + ']' * 500}, 0, 0]]",
    "long.json": json.dumps([[0, "x" * 300_000, 0, 0]]),
    "names.json": json.dumps([{f"{'n' * 1000}{number}": 0 for number in range(300)}]),
    "infinite.json": "[[0, 1e999, 0, 0]]",
    "digits.csv": f"time,vx,vy,wz\n0,{DIGITS},0,0\n",
    "long cell.csv": f"time,vx,vy,wz\n0,{'1' * 140_000},0,0\n",
    "quote.csv": 'time,vx,vy,wz\n0,"1,0,0\n' + "1,1,1,1\n" * 50_000,
    "nul.csv": "time,vx,vy,wz\n0,\0,0,0\n",
    "header.csv": "h" * 300_000,
}


@pytest.mark.parametrize("name", BAD_SCHEDULES)
def test_bad_schedules(assert_refused: Refusal, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(BAD_SCHEDULES[name])
    assert_refused(lambda: CommandSchedule.from_file(tmp_path / name), ScheduleError, tmp_path / name)


@pytest.mark.parametrize("text", ["{", DEEP, f"[{DIGITS}]", "x" * 300_000, "\0"])
def test_bad_json_of_a_run(assert_refused: Refusal, tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert_refused(lambda: read_json(tmp_path / "config.json"), RunError, tmp_path / "config.json")


@pytest.mark.parametrize("config", ["{", DEEP, "[]", "{}", '{"model": 1}', None, 5])
def test_bad_training_states(assert_refused: Refusal, tmp_path: Path, config: Any) -> None:
    path = tmp_path / "training_state.pt"
    torch.save({"config": config}, path)
    assert_refused(lambda: read_saved_config(tmp_path), ValueError, path)


@pytest.mark.parametrize("cell", ["x" * 300_000, "9" * 1_000_000, "\0", '"', "\x1c1", "\N{SUPERSCRIPT TWO}"])
def test_bad_cells_of_a_motion(assert_refused: Refusal, tmp_path: Path, cell: str) -> None:
    path = tmp_path / "take.csv"
    path.write_text(",".join(["0.0"] * 35 + [cell]) + "\n", encoding="utf-8")
    assert_refused(lambda: read_clip(path), ClipError, path)


def test_a_yaml_of_long_lines(assert_refused: Refusal, tmp_path: Path) -> None:
    torch.save({"gating.gating_network.0.weight": torch.zeros(1, 1)}, tmp_path / "a.pt")
    path = tmp_path / "stats.yaml"
    for text in ("motion_mean: " + "x" * 300_000, "x" * 300_000, "- 1"):
        path.write_text(text)
        assert_refused(lambda: import_legacy_checkpoint(tmp_path / "a.pt", path), CheckpointError, path)


# --- Robots ----------------------------------------------------------------------------------------------------------

ENTITIES = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
LAUGHS = f'<!DOCTYPE robot [<!ENTITY l0 "ha">{ENTITIES}]>'


def nested_bodies(count: int, attribute: str = "") -> str:
    return "".join(f'<body name="b{n}" {attribute}>' for n in range(count)) + "</body>" * count


BAD_XML = {
    "an encoding that there is not": '<?xml version="1.0" encoding="foo"?><{root}/>',
    "an encoding of several bytes": '<?xml version="1.0" encoding="utf-7"?><{root}/>',
    "an encoding of the inside": '<?xml version="1.0" encoding="unicode_escape"?><{root}/>',
    "an encoding that decodes nothing": '<?xml version="1.0" encoding="undefined"?><{root}>\xff</{root}>',
    "entities of entities": LAUGHS + '<{root} name="&l11;">&l11;</{root}>',
    "an entity from outside": '<!DOCTYPE {root} [<!ENTITY x SYSTEM "file:///etc/passwd">]><{root}>&x;</{root}>',
    "a thousand elements deep": "<{root}>" + "<a>" * 1000 + "</a>" * 1000 + "</{root}>",
    "a hundred thousand elements deep": "<{root}>" + "<a>" * 100_000,
    "a thousand bodies deep": "<{root}><worldbody>" + nested_bodies(1000) + "</worldbody></{root}>",
    "a hundred thousand elements": "<{root}>" + "<a/>" * 100_000 + "</{root}>",
    "a thousand attributes": "<{root} " + " ".join(f'a{n}="1"' for n in range(1000)) + "/>",
    "a long name": "<" + "x" * 300_000 + "/>",
    "9 MiB": "<{root}>" + " " * 9 * MEBIBYTE + "</{root}>",
    "another element": "<other/>",
    "nothing": "",
    "no XML": "hello",
    "two roots": "<{root}/><{root}/>",
}


@pytest.mark.parametrize("trick", BAD_XML)
def test_bad_xml(assert_refused: Refusal, tmp_path: Path, trick: str) -> None:
    path = tmp_path / "robot.xml"
    for root, read in (("mujoco", read_mjcf), ("robot", read_urdf)):
        path.write_text(BAD_XML[trick].replace("{root}", root), encoding="latin1")
        assert_refused(lambda: read(path), RobotError, path)  # noqa: B023


BODY = '<mujoco><worldbody><body name="b">{}</body></worldbody></mujoco>'
BAD_BODIES = {
    "long numbers": BODY.format('<inertial mass="' + "1 " * 300_000 + '" pos="0 0 0"/>'),
    "a long class": BODY.format(f'<joint name="j" class="{"c" * 300_000}"/>'),
    "a long type": BODY.format(f'<joint name="j" type="{"c" * 300_000}"/>'),
    "a long name": BODY.format(f'<body name="{"c" * 300_000}" pos="x"/>'),
    "many robots": "<mujoco><worldbody>"
    + "".join(f'<body name="b{n}"/>' for n in range(10_000))
    + "</worldbody></mujoco>",
    "a body in itself": BODY.format('<include file="robot.xml"/>'),
    "many joints": BODY.format('<joint type="free"/>' * 10_000),
    "infinite": BODY.format('<inertial mass="1e999" pos="0 0 0"/>'),
}


@pytest.mark.parametrize("trick", BAD_BODIES)
def test_bad_bodies(assert_refused: Refusal, tmp_path: Path, trick: str) -> None:
    path = tmp_path / "robot.xml"
    path.write_text(BAD_BODIES[trick])
    assert_refused(lambda: read_mjcf(path), RobotError, path)


def test_classes_are_not_copied_without_end(tmp_path: Path) -> None:
    """Five thousand classes below one with as many settings as an element may have."""
    attributes = " ".join(f'a{n}="1"' for n in range(60))
    classes = "".join(f'<default class="c{n}"><joint b="{n}"/></default>' for n in range(5000))
    path = tmp_path / "robot.xml"
    path.write_text(f"<mujoco><default><joint {attributes}/>{classes}</default>{BODY.format('')[8:]}")
    assert [body.name for body in read_mjcf(path).bodies] == ["b"]


def test_comments_with_dashes_are_read_as_mujoco_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "robot.xml"
    path.write_text("<!-- a -- b --><!------>" + BODY.format("<!-- <!ENTITY -->"))
    assert [body.name for body in read_mjcf(path).bodies] == ["b"]
