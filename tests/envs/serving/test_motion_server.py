"""What the server sends, step by step: in, obeying, out; and in every trouble."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cmg_ref.commands.schedule import CommandSchedule
from envs.serving.command_sources import CommandSource, KeySource, ScheduleSource
from envs.serving.motion_frame import HEIGHT, JOINTS, ROLL, SIZE, VELOCITY, YAW
from envs.serving.motion_server import MotionServer, Phase
from envs.serving.protocol import Twist2
from envs.serving.reference import CONTROL_DT, Reference

SPEED = 15.0  # [rad/s] that no joint of a frame exceeds, the motion's own included


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


class Robot:
    """A server, and a low level that measures a pose of our choice."""

    def __init__(self, reference: Reference, source: CommandSource) -> None:
        reference.restart()
        self.said: list[str] = []
        self.protocol = Twist2()
        self.server = MotionServer(reference, self.protocol, source, self.said.append)
        self.pose = np.array([0.0, 0.0, *self.protocol.default[JOINTS]])
        self.keys: dict[str, bytes] = {}
        self.alive, self.now = True, 0.0
        self.frames = [self.server.frame]

    def run(self, seconds: float, until: Phase | None = None) -> np.ndarray:
        """Let time pass; returns the last frame."""
        for _ in range(round(seconds / CONTROL_DT)):
            self.now += CONTROL_DT if self.alive else 0.0
            heard: dict[str, Any] = {"t_state": str(round(1e3 * self.now)).encode(), **self.keys}
            heard[self.protocol.state_key] = json.dumps([0.01, 0.0, 0.0, *self.pose]).encode()
            self.clock = getattr(self, "clock", 0.0) + CONTROL_DT
            self.frames.append(self.server.step(self.clock, heard))
            if until is not None and self.server.phase is until:
                break
        if until is not None:
            assert self.server.phase is until, self.said
        return self.frames[-1]

    def check(self) -> None:
        """All that was sent is sound, and nothing has jumped."""
        frames = np.array(self.frames)
        assert np.isfinite(frames).all()
        assert np.abs(np.diff(frames[:, JOINTS], axis=0)).max() < SPEED * CONTROL_DT
        assert all("\n" not in line for line in self.said)

    def at_the_end(self) -> None:
        """The robot was told to stand in the default pose."""
        self.check()
        assert self.server.phase is Phase.DONE
        self.in_the_default_pose()

    def in_the_default_pose(self) -> None:
        """The last frame is the default one, whatever the heading."""
        np.testing.assert_array_equal(np.delete(self.frames[-1] - self.protocol.default, YAW), 0.0)


def walking(seconds: float = 60.0, vx: float = 0.8) -> ScheduleSource:
    return ScheduleSource(CommandSchedule.constant(vx=vx), seconds, CONTROL_DT)


def test_it_waits_eases_in_obeys_and_eases_out(reference: Reference) -> None:
    robot = Robot(reference, walking(4.0))
    robot.alive = False
    robot.run(1.0)
    robot.in_the_default_pose()  # nobody measures anything
    assert robot.server.phase is Phase.WAITING and "waiting for the low level" in robot.said[0]
    robot.alive, robot.pose[0], robot.pose[8] = True, 0.1, 1.0
    eased = len(robot.frames) + 1
    robot.run(3.0, until=Phase.OBEYING)
    first = robot.frames[eased]
    assert first[ROLL] == pytest.approx(0.1, abs=0.01)  # from the measured pose
    np.testing.assert_allclose(first[JOINTS], robot.pose[2:], atol=0.01)
    assert (len(robot.frames) - eased) * CONTROL_DT == pytest.approx(2.0, abs=0.05)
    assert robot.run(3.0)[VELOCITY][0] > 0.5
    robot.run(10.0, until=Phase.DONE)
    assert not robot.server.failed and robot.said[-1] == "in the default pose"
    # It came to rest before it was eased out.
    out = next(i for i, f in enumerate(robot.frames) if i > 350 and abs(f[VELOCITY][0]) < 0.02)
    assert np.abs(np.array(robot.frames[out + 100 :])[:, VELOCITY.start]).max() < 0.1
    frames = np.array(robot.frames[1:])  # all but the first are from the wait on
    assert np.abs(np.diff(frames[eased:, JOINTS], axis=0)).max() < SPEED * CONTROL_DT
    robot.in_the_default_pose()


def test_the_command_changes_with_limited_acceleration() -> None:
    reference = Reference(acceleration=(0.5, 1.0, 2.0), highest=(0.8, 1.0, 1.0))
    told = []
    for _ in range(150):
        reference.step(np.array([3.0, 0.0, -9.0]))
        told.append(reference.command)
    steps = np.abs(np.diff(told, axis=0))
    assert steps.max(axis=0) == pytest.approx([0.01, 0.0, 0.04])
    assert told[-1] == pytest.approx([0.8, 0.0, float(reference.lowest[2])])


def test_a_lost_input_stops_and_may_come_back(reference: Reference) -> None:
    robot = Robot(reference, KeySource(0.5))
    key = "cmg_serve_command"
    robot.run(3.0, until=Phase.OBEYING)
    robot.keys[key] = b"[0.8, 0, 0]"
    robot.run(2.0)
    del robot.keys[key]
    robot.run(0.6)
    assert robot.said[-1] == "no command under cmg_serve_command for 0.5 s: stopping"
    slower = robot.run(0.5)
    assert reference.command[0] < 0.5 and np.isfinite(slower).all()
    robot.keys[key] = b"[0.8, 0, 0]"
    robot.run(1.0)
    assert robot.said[-1] == "commands are back" and reference.command[0] == pytest.approx(0.8)
    robot.keys[key] = b"[NaN, 0, 0]"
    robot.run(10.0, until=Phase.DONE)
    assert robot.server.failed
    assert 1 <= sum("NaN" in line for line in robot.said) <= 5
    robot.at_the_end()


def test_a_still_low_level_is_noticed_and_welcome_again(reference: Reference) -> None:
    robot = Robot(reference, walking())
    robot.run(3.0, until=Phase.OBEYING)
    robot.run(2.0)
    robot.alive = False
    robot.run(1.2)
    assert "the low level has stood still for 1 s" in robot.said[-1]
    robot.run(3.0, until=Phase.WAITING)
    robot.in_the_default_pose()
    robot.alive = True
    robot.run(3.0, until=Phase.OBEYING)
    assert robot.run(3.0)[VELOCITY][0] > 0.5
    robot.check()


def test_a_fallen_robot_is_not_told_to_go_on(reference: Reference) -> None:
    robot = Robot(reference, walking())
    robot.run(3.0, until=Phase.OBEYING)
    robot.run(2.0)
    robot.pose[1] = 1.2
    robot.run(3.0, until=Phase.DONE)
    assert robot.server.failed and any("the robot has fallen" in line for line in robot.said)
    robot.at_the_end()
    lying = Robot(reference, walking())
    lying.pose[1] = 1.2
    lying.run(3.0)
    assert lying.server.phase is Phase.WAITING and "to be upright" in lying.said[-1]


def test_start_and_exit_signals(reference: Reference) -> None:
    robot = Robot(reference, walking())
    robot.keys = {"motion_start_signal": b"0", "motion_exit_signal": b"1"}  # the latter is an old one
    robot.run(2.0)
    assert robot.server.phase is Phase.WAITING and "motion_start_signal to be 1" in robot.said[-1]
    robot.keys = {"motion_start_signal": b"1", "motion_exit_signal": b"0"}
    robot.run(0.1)
    robot.keys["motion_start_signal"] = b"0"  # the button is let go
    robot.run(3.0, until=Phase.OBEYING)
    robot.run(2.0)
    robot.keys["motion_exit_signal"] = b"1"
    robot.run(10.0, until=Phase.DONE)
    assert not robot.server.failed and any("motion_exit_signal is 1: stopping" in line for line in robot.said)
    robot.at_the_end()


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.EASING_IN, Phase.OBEYING, Phase.EASING_OUT])
def test_it_can_be_left_at_any_time_once_or_twice(reference: Reference, phase: Phase) -> None:
    for times in (1, 3):
        robot = Robot(reference, walking())
        if phase is not Phase.WAITING:
            robot.run(3.0, until=Phase.EASING_IN)
            robot.run(0.5)
        if phase in (Phase.OBEYING, Phase.EASING_OUT):
            robot.run(3.0, until=Phase.OBEYING)
            robot.run(2.0)
        if phase is Phase.EASING_OUT:
            robot.alive = False
            robot.run(1.5, until=Phase.EASING_OUT)
        for _ in range(times):
            robot.server.leave("Ctrl-C", at_once=robot.server.leaving)
            robot.run(0.1)
        left = robot.clock
        robot.run(10.0, until=Phase.DONE)
        if times > 1:
            assert robot.clock - left < 2.2
        robot.at_the_end()


@pytest.mark.parametrize("trouble", ["raises", "not a number"])
def test_a_reference_that_fails_is_left_for_the_default_pose(
    reference: Reference, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    robot = Robot(reference, walking())
    robot.run(3.0, until=Phase.OBEYING)
    robot.run(2.0)

    def step(command: np.ndarray) -> np.ndarray:
        if trouble == "raises":
            raise RuntimeError("out of order")
        return np.full(SIZE, np.nan)

    monkeypatch.setattr(reference, "step", step)
    robot.run(5.0, until=Phase.DONE)
    assert robot.server.failed and any("the reference failed" in line for line in robot.said)
    robot.at_the_end()


def test_after_an_interruption_it_eases_out_from_what_was_sent_last(reference: Reference) -> None:
    robot = Robot(reference, walking())
    robot.run(3.0, until=Phase.OBEYING)
    last = robot.run(2.0)
    robot.server.interrupted(last)
    robot.alive = False
    robot.run(3.0, until=Phase.WAITING)
    robot.in_the_default_pose()
    robot.check()
    robot.alive = True
    robot.run(4.0, until=Phase.OBEYING)


def test_given_arms_are_used_and_bad_ones_are_said(reference: Reference) -> None:
    robot = Robot(reference, walking())
    robot.run(3.0, until=Phase.OBEYING)
    robot.keys["cmg_serve_joints"] = json.dumps({"left_elbow_joint": 0.2, "left_hand": [0.3] * 7}).encode()
    frame = robot.run(2.0)
    assert frame[JOINTS][18] == pytest.approx(0.2) and frame[HEIGHT] > 0.7
    np.testing.assert_allclose(frame[37:44], 0.3)
    assert np.abs(np.array(robot.frames)[-50:, JOINTS.start]).max() > 0.2  # the legs walk on
    robot.keys["cmg_serve_joints"] = b'{"nose": 1}'
    robot.run(1.0)
    assert robot.said[-1] == "cmg_serve_joints: there is no joint 'nose': not obeyed"
    assert sum("nose" in line for line in robot.said) == 1
    robot.check()
