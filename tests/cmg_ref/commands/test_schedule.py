from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cmg_ref.commands.schedule import CommandSchedule, ScheduleError
from cmg_ref.core.command_layout import CommandChannel, CommandLayout

ROWS = [[0.0, 0.5, 0.0, 0.0], [1.0, 1.0, -0.2, 0.3], [2.5, 0.0, 0.0, 0.0]]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_constant_command_fills_every_frame() -> None:
    commands = CommandSchedule.constant(vx=1.0, wz=-0.5).sample(fps=50.0, duration=2.0)
    assert commands.shape == (100, 3)
    assert torch.equal(commands, torch.tensor([1.0, 0.0, -0.5]).expand(100, 3))


@pytest.mark.parametrize("fps", [29.8, 30.0, 50.0, 120.0])
def test_each_command_holds_until_the_next(fps: float) -> None:
    schedule = CommandSchedule(ROWS)
    commands = schedule.sample(fps, duration=4.0)
    for frame, command in enumerate(commands):
        current = [row for row in ROWS if row[0] <= frame / fps + 1e-9][-1]
        assert command.tolist() == pytest.approx(current[1:]), f"frame {frame}"
    assert schedule.last_change == 2.5


def test_csv_and_json_give_the_same_schedule(tmp_path: Path) -> None:
    names = ("time", "vx", "vy", "wz")
    lines = [",".join(names), *(",".join(str(value) for value in row) for row in ROWS)]
    files = [
        write(tmp_path, "a.csv", "\n".join(lines) + "\n"),
        # As spreadsheets write it: byte order mark, Windows line ends, blanks, an empty last line.
        write(tmp_path, "b.csv", "\ufeff" + "\r\n".join(line.replace(",", ", ") for line in lines) + "\r\n,,,\r\n"),
        write(tmp_path, "c.json", json.dumps(ROWS)),
        write(tmp_path, "d.json", json.dumps([dict(zip(names, row)) for row in ROWS])),
    ]
    expected = CommandSchedule(ROWS).sample(50.0, 3.0)
    for file in files:
        assert torch.equal(CommandSchedule.from_file(file).sample(50.0, 3.0), expected), file.name


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "time,vx,vy,wz\n0,1,0,0\n1,fast,0,0\n", "row 2: vx is 'fast', not a number"),
        ("a.csv", "time,vx,vy,wz\n0,1,0,0\n1,nan,0,0\n", "row 2: vx is nan, not a finite number"),
        ("a.csv", "time,vx,vy,wz\n0,1,0,0\n1,0,0,inf\n", "row 2: wz is inf"),
        ("a.csv", "time,vx,vy,wz\n0,1,0,0\n1,1,0\n", "row 2: 3 values"),
        ("a.csv", "time,vx,vy,wz\n0,1,0,0\n2,1,0,0\n2,0,0,0\n", "row 3: time 2 does not come after 2"),
        ("a.csv", "time,vx,vy,wz\n1,1,0,0\n", "row 1: time is 1, the first command must begin at 0"),
        ("a.csv", "time,vx,vy,wz\n", "holds no command"),
        ("a.csv", "time,vx,vy,wz\n0,1,0,0\n1e9,1,0,0\n", "row 2: time is 1e+09, more than 86400 seconds"),
        ("a.csv", "time,vx,vy,wz\n0,1e30,0,0\n", "row 1: vx is 1e+30, beyond 100"),
        ("a.csv", "time,vx,vy,wz\n0,1,0," + 140_000 * "9" + "\n", "is not valid CSV: field larger than field limit"),
        ("a.csv", 100_000 * "x", "the first row must be time,vx,vy,wz, not 'xxx"),
        ("a.csv", "time,vx,vy,wz\n0,1,0," + 100_000 * "x" + "\n", "row 1: wz is 'xxx"),
        ("a.json", "[[0, 1, 0, 1" + 400 * "0" + "]]", "is an integer of 401 digits"),
        ("a.json", "[[0, 1, 0, 1" + 5000 * "0" + "]]", "a.json: "),
        ("a.json", 100_000 * "[", "is not valid JSON"),
        ("a.json", '[{"' + 100_000 * "x" + '": 1}]', "row 1: has xxx"),
        ("a.csv", "t,x,y,z\n0,1,0,0\n", "the first row must be time,vx,vy,wz"),
        ("a.csv", "", "the first row must be time,vx,vy,wz"),
        ("a.json", "{", "is not valid JSON"),
        ("a.json", '{"time": 0}', "must hold a list"),
        ("a.json", '[{"time": 0, "vx": 1}]', "row 1: has time, vx, needs time, vx, vy, wz"),
        ("a.json", "[[0, 1, 0, 0], 3]", "row 2: must be a list or an object"),
        ("a.json", "[[0, 1, 0, null]]", "row 1: wz is None, not a number"),
        ("a.yaml", "0", "is a .csv or .json file"),
    ],
)
def test_errors_name_file_and_row(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(ScheduleError) as error:
        CommandSchedule.from_file(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x9c")
    for path in (tmp_path / "missing.csv", binary):
        with pytest.raises(ScheduleError, match="cannot be read") as error:
            CommandSchedule.from_file(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "time,vx,vy,wz,h\n0,1,0,0,0.6\n"),
        ("a.json", '[{"time": 0, "vx": 1, "vy": 0, "wz": 0, "h": 0.6}]'),
        ("b.json", "[[0, 1, 0, 0, 0.6]]"),
    ],
)
def test_further_channels_have_columns_by_label(tmp_path: Path, name: str, text: str) -> None:
    layout = CommandLayout(
        [CommandChannel("base_height", "h", "base height", "m", (0.5, 0.8), 1.0, 0.75, 0.03, (0.03, 0.05), 0.02)]
    )
    (tmp_path / name).write_text(text)
    (tmp_path / "short.csv").write_text("time,vx,vy,wz\n0,1,0,0\n")
    schedule = CommandSchedule.from_file(tmp_path / name, layout)
    torch.testing.assert_close(schedule.sample(50.0, 0.02), torch.tensor([[1.0, 0.0, 0.0, 0.6]]))
    at_rest = CommandSchedule.from_file(tmp_path / "short.csv", layout).sample(50.0, 0.02)
    torch.testing.assert_close(at_rest, torch.tensor([[1.0, 0.0, 0.0, 0.75]]))
    torch.testing.assert_close(CommandSchedule.constant(vx=1.0, layout=layout).sample(50.0, 0.02), at_rest)
    with pytest.raises(ScheduleError, match=r"vx, vy, wz|time,vx,vy,wz"):
        CommandSchedule.from_file(tmp_path / name)
