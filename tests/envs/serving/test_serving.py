"""The server as a process with a real Redis: what is sent last is safe, whatever happens."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.serving.protocol import Twist2

DEFAULT = json.loads(Twist2().messages(Twist2().default)["action_body_unitree_g1_with_hands"])
HEADLESS = Path(__file__).with_name("headless_twist2.py")
WALK = ("--command", 0.8, 0, 0)


def obeying(server: Any, redis_server: Any) -> None:
    """Wait until the robot walks."""
    server.heard("obeying commands")
    from_then = time.monotonic()
    while redis_server.status()["command"][0] < 0.7:
        assert time.monotonic() - from_then < 60.0
        time.sleep(0.02)


def sound(frames: list[list[float]]) -> None:
    """Frames without a jump; some may have been missed."""
    joints = np.array(frames)[:, 6:]
    assert np.isfinite(joints).all() and np.abs(np.diff(joints, axis=0)).max() < 1.0


@pytest.mark.parametrize(("number", "times", "said"), [(signal.SIGINT, 2, "Ctrl-C"), (signal.SIGTERM, 1, "terminated")])
def test_signals_bring_the_robot_to_the_default_pose(
    redis_server: Any, standing: Any, serving: Callable[..., Any], number: int, times: int, said: str
) -> None:
    server = serving(redis_server.port, *WALK)
    obeying(server, redis_server)
    for _ in range(times):
        server.process.send_signal(number)
        time.sleep(0.3)
    server.ended(0)
    assert any(said in line for line in server.said)
    assert redis_server.frame() == DEFAULT
    keys = {key.decode() for key in redis_server.client.keys("action_*")}
    assert keys == {f"action_{part}_unitree_g1_with_hands" for part in ("body", "hand_left", "hand_right", "neck")}
    sound(standing.frames)


def test_commands_of_redis_are_obeyed_and_missed(redis_server: Any, standing: Any, serving: Callable[..., Any]) -> None:
    server = serving(redis_server.port, "--redis-commands", "--dead-man", 2)
    server.heard("obeying commands")
    for step in range(60):
        redis_server.client.set("cmg_serve_command", "[0.5, 0, 0.2]" if step < 40 else "[NaN, 0, 0]")
        time.sleep(0.05)
        if step == 39:
            assert redis_server.status()["command"] == [0.5, 0.0, 0.2]
    server.heard("[NaN, 0, 0]")
    server.heard("no command under cmg_serve_command for 2 s: stopping")
    redis_server.client.set("cmg_serve_command", "[0.3, 0, 0]")
    server.heard("commands are back")
    server.ended(1)  # nobody goes on sending
    assert redis_server.frame() == DEFAULT
    sound(standing.frames)


def test_redis_may_be_killed_and_started_again(redis_server: Any, standing: Any, serving: Callable[..., Any]) -> None:
    server = serving(redis_server.port, *WALK)
    obeying(server, redis_server)
    redis_server.kill()
    server.heard("trying again")
    redis_server.start()
    server.heard("Redis answers again")
    assert len(redis_server.client.keys("action_*")) == 4
    redis_server.kill()
    redis_server.start()
    obeying_again = len([line for line in server.said if "obeying" in line])
    while len([line for line in server.said if "obeying" in line]) <= obeying_again:
        time.sleep(0.05)
    server.interrupt()
    server.ended(0)
    assert redis_server.frame() == DEFAULT
    sound(standing.frames)


def test_an_end_without_redis_says_so(redis_server: Any, standing: Any, serving: Callable[..., Any]) -> None:
    server = serving(redis_server.port, *WALK)
    obeying(server, redis_server)
    redis_server.kill()
    server.heard("trying again")
    server.interrupt()
    server.ended(1)
    assert server.said[-1] == "serve: Redis is gone: the robot could not be brought to the default pose"


def test_a_low_level_that_stands_still_is_said(redis_server: Any, standing: Any, serving: Callable[..., Any]) -> None:
    server = serving(redis_server.port, *WALK)
    obeying(server, redis_server)
    standing.paused = True
    server.heard("the low level has stood still for 1 s")
    server.heard("in the default pose")
    while redis_server.status()["phase"] != "waiting":  # it is said a moment before the frame is sent
        time.sleep(0.02)
    assert redis_server.frame() == DEFAULT
    standing.paused = False
    while redis_server.status()["phase"] != "obeying":
        time.sleep(0.05)
    server.interrupt()
    server.ended(0)
    assert redis_server.frame() == DEFAULT


def test_after_kill_9_the_last_frame_stays(redis_server: Any, standing: Any, serving: Callable[..., Any]) -> None:
    server = serving(redis_server.port, *WALK)
    obeying(server, redis_server)
    server.process.kill()
    server.process.wait()
    last = redis_server.frame()
    time.sleep(0.3)
    assert redis_server.frame() == last and len(last) == 35  # as docs/deploy.md says
    assert len(redis_server.client.keys("action_*")) == 4


def test_it_follows_the_clock_of_a_slow_low_level(
    redis_server: Any, standing: Any, serving: Callable[..., Any], tmp_path: Path
) -> None:
    schedule = tmp_path / "commands.csv"
    schedule.write_text("time,vx,vy,wz\n0,0.5,0,0\n")
    server = serving(redis_server.port, "--schedule", schedule, "--duration", 2, "--follow-clock", 2)
    server.heard("easing in")
    server.heard("in the default pose")
    server.ended(0)
    # Each frame stays for two steps of the low level; 2 s of easing in and out and 2 s of commands are 300 frames.
    told = [json.dumps(frame) for frame in standing.frames]
    kept = np.diff(np.flatnonzero([a != b for a, b in itertools.pairwise(told)]))
    assert np.median(kept) == 2 and len(kept) > 200


def test_twist2_walks(redis_server: Any, serving: Callable[..., Any], twist2_folder: Path, tmp_path: Path) -> None:
    """Its policy in its simulation obeys a schedule, and stands at the end."""
    pytest.importorskip("mujoco")
    pytest.importorskip("onnxruntime")
    commands = [(0, 0, 0), (0.5, 0, 0), (1, 0, 0), (0, 0, 0), (-0.4, 0, 0), (0, 0.3, 0), (0, 0, 0.8), (0, 0, 0)]
    rows = [f"{6 * i},{vx},{vy},{wz}" for i, (vx, vy, wz) in enumerate(commands)]
    schedule, output = tmp_path / "commands.csv", tmp_path / "what.json"
    schedule.write_text("time,vx,vy,wz\n" + "\n".join(rows) + "\n")
    server = serving(redis_server.port, "--schedule", schedule, "--follow-clock", 1, "--patience", 10)
    server.heard("waiting for the low level")
    model = twist2_folder / "g1_sim2sim_29dof.xml"
    command = [sys.executable, HEADLESS, next(twist2_folder.glob("*.onnx")), model, output, "--port", redis_server.port]
    environment = {**os.environ, "PYTHONPATH": str(HEADLESS.parents[3]), "OMP_NUM_THREADS": "1"}
    low_level = subprocess.Popen([*map(str, command)], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        code = server.process.wait(600)
    finally:
        low_level.terminate()
        trouble = low_level.communicate()[1]
    assert code == 0 and redis_server.frame() == DEFAULT, (server.said, trouble)
    log = json.loads(output.read_text())
    assert not log["fallen"], server.said
    told = np.array([row[1] for row in log["rows"]])
    velocity = np.array([row[2] for row in log["rows"]])
    obeyed = np.array([row[0] == "obeying" for row in log["rows"]])
    bounds: dict[tuple[float, ...], float] = {
        (0.0, 0.0, 0.0): 0.05,
        (0.5, 0.0, 0.0): 0.2,
        (1.0, 0.0, 0.0): 0.2,
        (-0.4, 0.0, 0.0): 0.35,
    }
    for wanted in sorted(set(commands)):
        steps = np.flatnonzero(obeyed & (np.abs(told - wanted).max(axis=1) < 1e-6))
        assert len(steps) > 150, (wanted, len(steps))
        runs = np.split(steps, np.flatnonzero(np.diff(steps) > 1) + 1)
        settled = np.concatenate([run[100:] for run in runs if len(run) > 150])
        error = velocity[settled].mean(axis=0) - wanted
        print(f"{wanted}: reached {velocity[settled].mean(axis=0).round(3)}, error {error.round(3)}")
        assert np.linalg.norm(error[:2]) < bounds.get(tuple(map(float, wanted)), 0.2) and abs(error[2]) < 0.2, wanted


@pytest.mark.parametrize(("protocol", "keys"), [("twist", 2), ("twist2", 4)])
def test_a_dry_run_prints_frames(protocol: str, keys: int) -> None:
    result = run("--command", "0.5", "0", "0", "--duration", "0.2", "--dry-run", "--protocol", protocol)
    assert result.returncode == 0, result.stderr
    frames = [line.split(" ", 1) for line in result.stdout.splitlines() if line.startswith("action")]
    assert len({key for key, _ in frames}) == keys
    assert all(np.isfinite(json.loads(text)).all() for _, text in frames)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = HEADLESS.parents[3]
    return subprocess.run(
        [sys.executable, str(root / "scripts" / "serve.py"), *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        check=False,
    )
