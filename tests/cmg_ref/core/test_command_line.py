"""How commands end: Ctrl-C, SIGTERM, a closed pipe, errors; and what their options take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cmg_ref.core.command_line import Parser, command, real_number, whole_number

ROOT = Path(__file__).resolve().parents[3]

# Says that it has begun, and waits with a file half written.
WAITING = """
import sys, time
from cmg_ref.core.command_line import command
from cmg_ref.files.atomic_file import atomic_file

sys.argv[0] = "bin/waiting"

@command(interrupted="go on with --resume")
def main():
    with atomic_file(sys.argv[1]) as temporary:
        temporary.write_text("half")
        print("begun", flush=True)
        time.sleep(60.0)

main()
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "waiting: interrupted; go on with --resume\n"),
        (signal.SIGTERM, 143, "waiting: terminated\n"),
    ],
)
def test_a_signal_ends_in_one_line_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals, code: int, said: str
) -> None:
    with start(WAITING, tmp_path / "file") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        assert list(tmp_path.iterdir())
        process.send_signal(number)
        assert process.stderr.read() == said
    assert process.returncode == code
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_a_script_imports_is_one_line() -> None:
    """Before there is a main function that could catch anything."""
    code = "import sys; sys.argv = ['scripts/train.py']\nimport cmg_ref.core.command_line, signal\n"
    with start(code + "signal.raise_signal(signal.SIGINT)") as process:
        _, said = process.communicate()
    assert (process.returncode, said) == (130, "train: interrupted\n")


def test_a_reader_that_goes_away_ends_it_without_a_word() -> None:
    code = """
from cmg_ref.core.command_line import command
@command()
def main():
    for number in range(10**6):
        print(number)
main()
"""
    with start(code) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_nothing_here_imports_torch() -> None:
    code = "import sys, cmg_ref, cmg_ref.core.command_line, envs, configs.bounds; sys.exit('torch' in sys.modules)"
    with start(code) as process:
        assert process.communicate() == ("", "")
    assert process.returncode == 0


def test_errors_of_the_user_are_one_line_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bin/trying"])

    def ends_with(error: Exception) -> object:
        @command(OSError)
        def main() -> None:
            raise error

        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code

    assert ends_with(OSError("no\nspace  left")) == "trying: no space left"
    assert len(str(ends_with(OSError(300_000 * "x")))) < 600
    assert ends_with(ModuleNotFoundError("No module named 'numba'", name="numba")) == (
        "trying: needs numba, which is not installed: pip install 'cmg_ref[fast]'"
    )
    with pytest.raises(RuntimeError):
        ends_with(RuntimeError("a fault of the program"))
    with pytest.raises(ModuleNotFoundError):
        ends_with(ModuleNotFoundError("No module named 'numba.fault'", name="numba.fault"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count: '0' is not a whole number from 1 to 10"),
        (["--count", "11"], "--count: '11' is not a whole number from 1 to 10"),
        (["--count", "1.5"], "--count: '1.5' is not a whole number"),
        (["--count", 5000 * "1"], "1' is not a whole number"),
        (["--size", "nan"], "--size: 'nan' is not a number from -0.5 to 2"),
        (["--size", "inf"], "--size: 'inf' is not a number"),
        (["--size", "-0.6"], "--size: '-0.6' is not a number"),
        (["--size", "1e400"], "--size: '1e400' is not a number"),
        (["--siz\n" + 100_000 * "e"], "unrecognized arguments: --siz eee"),
        (["--kind", 100_000 * "x"], "--kind: invalid choice: 'xxx"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0][:9],
)
def test_options_are_refused_in_one_short_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    parser = Parser("of a test")
    parser.add_argument("--count", type=whole_number(1, 10))
    parser.add_argument("--size", type=real_number(-0.5, 2))
    parser.add_argument("--kind", choices=("a", "b"))
    assert vars(parser.parse_args(["--count", "10", "--size", "-0.5"])) == {"count": 10, "size": -0.5, "kind": None}
    with pytest.raises(SystemExit) as end:
        parser.parse_args(arguments)
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert message in said
    assert said.count("\n") == 1 and len(said) < 600
