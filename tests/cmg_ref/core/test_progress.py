"""A bar on a terminal, a few lines in a log file."""

from __future__ import annotations

import io

import pytest

from cmg_ref.core.progress import LINE_INTERVAL, ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_file_gets_a_line_now_and_then_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = [0.0], io.StringIO()
    monkeypatch.setattr("cmg_ref.core.progress.now", lambda: clock[0])
    with ProgressBar(total=1000, desc="work", file=log) as bar:
        for _ in range(1000):
            clock[0] += 2.5 * LINE_INTERVAL / 1000
            bar.set_postfix_str("loss 1")
            bar.update()
    lines = log.getvalue().splitlines()
    assert [line.split("|")[0] for line in lines] == ["work:  40%", "work:  80%", "work: 100%"]
    assert all("\r" not in line and "loss 1" in line for line in lines)


def test_what_is_iterated_ends_with_one_line() -> None:
    log = io.StringIO()
    assert list(ProgressBar(range(5), file=log)) == [0, 1, 2, 3, 4]
    assert log.getvalue().startswith("100%") and log.getvalue().count("\n") == 1


def test_nothing_done_says_nothing() -> None:
    log = io.StringIO()
    ProgressBar(total=3, file=log).close()
    ProgressBar(range(3), file=log, disable=True).close()
    assert log.getvalue() == ""


def test_a_terminal_has_its_bar() -> None:
    screen = Terminal()
    assert list(ProgressBar(range(5), file=screen)) == [0, 1, 2, 3, 4]
    assert screen.getvalue().count("\r") >= 2 and "100%" in screen.getvalue()
