"""The page in a headless Chromium: it loads, its sliders, keys and buttons move the robot."""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("viser", reason="not installed: pip install 'cmg_ref[drive]'")
pytest.importorskip("mujoco.batch")

from envs.cli.drive import SHIPPED, ended_by_signals, what_to_drive
from envs.driving import page
from envs.driving.page import Page
from envs.driving.robots import ReferenceRobots
from envs.driving.session import Session

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def load(name: str) -> Any:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


chromium = load("chromium")


def wait_until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + chromium.PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, Any]]:
    """A session that runs, and a browser that shows it."""
    import viser

    program = chromium.find_chromium()
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    choices = what_to_drive([])
    session = Session(choices[SHIPPED](1))
    server = viser.ViserServer(host="127.0.0.1", port=8130, verbose=False)
    page = Page(server, session, choices)
    threads = [threading.Thread(target=target) for target in (session.run, page.run)]
    for thread in threads:
        thread.start()
    browser = None
    try:
        browser = chromium.Chromium(program, tmp_path_factory.mktemp("chromium"), (900, 500))
        browser.resize((900, 500), 0.5)  # of which a computer without a GPU draws more
        browser.call("Page.navigate", url=f"http://127.0.0.1:{server.get_port()}")
        browser.wait_for("document.querySelector('canvas') && document.body.innerText.includes('real time')")
        yield session, browser
    finally:
        if browser is not None:
            browser.close()
        session.end()
        page.end()
        for thread in threads:
            thread.join()
        server.stop()


def place(session: Session) -> torch.Tensor:
    return session.shown.poses.root_pos[0, :2]


def begin_again(session: Session, browser: Any) -> torch.Tensor:
    """Click "reset", and wait until the robot has stood for a moment; where that is."""
    before = session.shown.time
    browser.click_button("reset")
    wait_until(lambda: session.shown.time < before or before < 0.1, "the clock begins again")
    wait_until(lambda: session.shown.time > 1.0, "the robot stands")
    return place(session)


def test_the_page_shows_a_robot_and_says_what_moves_it(driven: tuple[Session, Any]) -> None:
    pillow = pytest.importorskip("PIL.Image")
    _, browser = driven
    text = browser.value("document.body.innerText")
    assert SHIPPED in text and all(label in text for label in ("vx [m/s]", "vy [m/s]", "wz [rad/s]", "friction"))
    browser.settle()
    picture = pillow.open(io.BytesIO(browser.picture())).convert("RGB")
    # The right limbs are orange, which nothing else is: between the panels, there is a robot.
    orange = [color for count, color in picture.getcolors(1 << 24) if color[0] > color[1] + 25 > color[2] + 50]
    assert len(orange) > 5


def test_a_slider_moves_the_robot_and_reset_brings_it_back(driven: tuple[Session, Any]) -> None:
    session, browser = driven
    start = begin_again(session, browser)
    x, y, width, height = browser.wait_for(
        "(r => r && [r.x, r.y, r.width, r.height])(document.querySelector('.mantine-Slider-track')"
        "?.getBoundingClientRect())"
    )
    browser.click(x + 0.55 * width, y + 0.5 * height)
    wait_until(lambda: session.wanted[0] > 0.7, "the slider is heard")
    assert session.wanted.tolist()[1:] == [0.0, 0.0, 0.75]  # the height of nobody who asks for none
    wait_until(lambda: float((place(session) - start).norm()) > 1.0, "the robot walks")
    assert session.falls == 0
    begin_again(session, browser)
    assert float((place(session) - start).norm()) < 0.4 and not session.wanted[:3].any()


def test_keys_move_the_command_and_the_space_bar_stops(driven: tuple[Session, Any]) -> None:
    session, browser = driven
    begin_again(session, browser)
    for key in ("i", "i", "u", "l"):
        browser.press(key, f"Key{key.upper()}")
    wanted = torch.tensor([0.2, 0.1, -0.1])
    wait_until(lambda: torch.allclose(session.wanted[:3], wanted, atol=1e-4), "four keys are heard")
    browser.press(" ", "Space")
    wait_until(lambda: not session.wanted[:3].any(), "the space bar is heard")


def test_keys_that_come_at_once_all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is heard in a thread of its own."""
    import viser

    actions: dict[str, Callable[[], None]] = {}

    def heard(gui: Any, label: str, key: str, action: Callable[[], None]) -> Any:
        actions[key] = action
        return gui.add_markdown(label)

    monkeypatch.setattr(page, "_on_key", heard)
    session, interval = Session(ReferenceRobots(1)), sys.getswitchinterval()
    server = viser.ViserServer(host="127.0.0.1", port=8131, verbose=False)
    try:
        sys.setswitchinterval(1e-6)
        Page(server, session, {"reference": lambda num: ReferenceRobots(num)})
        for _ in range(5):
            threads = [threading.Thread(target=actions[key]) for key in ("I", "U", "I", "L", "I", "I") * 2]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert session.wanted[:3].tolist() == pytest.approx([0.8, 0.2, -0.2], abs=1e-4)
            actions["space"]()
            assert not session.wanted[:3].any()
    finally:
        sys.setswitchinterval(interval)
        server.stop()


def test_push_pushes(driven: tuple[Session, Any]) -> None:
    session, browser = driven
    start = begin_again(session, browser)
    browser.click_button("push")
    wait_until(lambda: float((place(session) - start).norm()) > 0.08, "the robot gives way")


@pytest.fixture
def command() -> list[str]:
    return [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'drive'; from envs.cli.drive import main; main()",
        "--no-browser",
        "--port",
        "8140",
    ]


def test_the_program_prints_its_address_serves_the_page_and_ends_by_ctrl_c(command: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("http://localhost:81"), line
            with urllib.request.urlopen(line.split()[0], timeout=chromium.PATIENCE) as answer:
                assert b"<html" in answer.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(chromium.PATIENCE) == 128 + signal.SIGINT
            assert process.stderr.read().splitlines() == ["drive: interrupted"]
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_come_where_exceptions_are_lost_end_the_loop(number: int) -> None:
    class Collected:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def terminate(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    session, handlers = Session(ReferenceRobots(1)), {}
    for handled in (signal.SIGINT, signal.SIGTERM):
        handlers[handled] = signal.signal(handled, terminate)
    try:
        with pytest.raises(SystemExit) as ended, ended_by_signals(session):
            Collected()
            session.run()
        assert ended.value.code == 128 + number
        assert signal.getsignal(number) is terminate
    finally:
        for handled, handler in handlers.items():
            signal.signal(handled, handler)


def test_signals_that_are_ignored_stay_ignored() -> None:
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ended_by_signals(Session(ReferenceRobots(1))):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)


def test_what_makes_no_sense_is_one_line(command: list[str], tmp_path: Path) -> None:
    for arguments, message in ((["--policy", "absent"], "absent: no such policy"), (["--num_envs", "0"], "--num_envs")):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
        result = subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode in (1, 2) and result.stderr.count("\n") == 1, result.stderr
        assert result.stderr.startswith("drive: ") and message in result.stderr
