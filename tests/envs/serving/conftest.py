"""A Redis of our own, the server as a process, and a low level that only stands there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.serving.motion_frame import JOINTS
from envs.serving.protocol import Twist2

ROOT = Path(__file__).parents[3]
PATIENCE = 60.0  # [s] for what takes a second on a machine with nothing else to do


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition gives once it holds; fails if that takes for ever."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited in vain: {what}")


class Redis:
    """Debian's redis-server on a free port of the loopback address, without files."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        import redis

        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port)

        def answers() -> bool:
            try:
                return bool(self.client.ping())
            except redis.ConnectionError:
                return False

        wait_until(answers, "Redis starts")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def frame(self) -> list[float]:
        """What TWIST2's body was told last."""
        return json.loads(self.client.get("action_body_unitree_g1_with_hands") or "[]")

    def status(self) -> dict[str, Any]:
        return json.loads(self.client.get("cmg_serve_status") or "{}")


@pytest.fixture()
def redis_server() -> Iterator[Redis]:
    """A Redis with nothing in it; skips where it or its client is not installed."""
    pytest.importorskip("redis", reason="the client is not installed: pip install 'cmg_ref[serve]'")
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server here: apt-get install redis-server")
    server = Redis()
    yield server
    server.kill()


class Serving:
    """scripts/serve.py at work."""

    def __init__(self, folder: Path, port: int, *arguments: object) -> None:
        self._said = folder / "said.txt"
        command = [sys.executable, str(ROOT / "scripts" / "serve.py"), "--port", str(port), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, env=environment
            )

    @property
    def said(self) -> list[str]:
        return self._said.read_text().splitlines()

    def heard(self, text: str) -> None:
        """Wait until it has said something."""
        wait_until(lambda: any(text in line for line in self.said) or self.process.poll() is not None, text)
        assert any(text in line for line in self.said), self.said

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ended(self, code: int) -> None:
        """Wait for its end; everything that it has said is a line of its own."""
        assert self.process.wait(PATIENCE) == code, self.said
        assert all(line.startswith("serve: ") for line in self.said), self.said


@pytest.fixture()
def serving(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts the server with some options."""
    started: list[Serving] = []

    def start(port: int, *arguments: object) -> Serving:
        started.append(Serving(tmp_path, port, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


class Standing:
    """Says 50 times a second that the robot stands in the default pose, and takes down the frames that it reads."""

    def __init__(self, server: Redis) -> None:
        self._server, self.paused, self._ended = server, False, False
        self.frames: list[list[float]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        import redis

        robot, random = Twist2(), np.random.default_rng(0)
        while not self._ended:
            time.sleep(0.02)
            if self.paused:
                continue
            noise = 1e-3 * random.normal(size=5)
            try:
                state = json.dumps([*noise, *robot.default[JOINTS]])
                self._server.client.mset({robot.state_key: state, "t_state": time.monotonic_ns() // 1_000_000})
                frame = self._server.frame()
            except redis.RedisError:
                continue
            if frame:
                self.frames.append(frame)

    def end(self) -> None:
        self._ended = True
        self._thread.join()


@pytest.fixture()
def standing(redis_server: Redis) -> Iterator[Standing]:
    """A low level whose robot does not move."""
    low_level = Standing(redis_server)
    yield low_level
    low_level.end()
