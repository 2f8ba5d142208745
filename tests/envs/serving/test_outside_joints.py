"""Joints that someone else gives."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cmg_ref.robots.robot import load_g1
from envs.serving.motion_frame import JOINT_NAMES, JOINTS, LEFT_HAND, NECK, SIZE
from envs.serving.outside_joints import JointsError, OutsideJoints

DT = 0.02
ELBOW = JOINTS.start + JOINT_NAMES.index("left_elbow_joint")


def test_what_is_given_fades_in_and_out_while_the_rest_goes_on() -> None:
    joints, elbow = OutsideJoints(0.5, DT), []
    for step in range(300):
        now = step * DT
        if 50 <= step < 150:
            given = {"left_elbow_joint": 1.0, "left_hand": [0.5] * 7, "neck": [0.1, 0.2]}
            joints.take(json.dumps(given).encode(), now)
        frame = np.full(SIZE, 0.3 + 0.1 * np.sin(now))
        used = joints.put_into(frame, now)
        elbow.append(used[ELBOW])
        others = np.ones(SIZE, bool)
        others[[ELBOW, *range(SIZE)[LEFT_HAND], *range(SIZE)[NECK]]] = False
        np.testing.assert_array_equal(used[others], frame[others])
        if step == 140:
            assert used[ELBOW] == pytest.approx(1.0)
            np.testing.assert_allclose(used[LEFT_HAND], 0.5)
            np.testing.assert_allclose(used[NECK], [0.1, 0.2])
    assert np.abs(np.diff(elbow)).max() < 0.03
    np.testing.assert_allclose(used, frame)  # nobody gives anything any more


def test_limits_of_joint_and_speed_hold() -> None:
    joints = OutsideJoints(0.5, DT)
    angles = []
    for step in range(200):
        joints.take(json.dumps({"left_elbow_joint": 50.0 if step < 120 else -50.0}).encode(), step * DT)
        angles.append(joints.put_into(np.zeros(SIZE), step * DT)[ELBOW])
    robot = load_g1()
    assert max(angles) == pytest.approx(float(robot.joint_upper[ELBOW - JOINTS.start]))
    assert angles[-1] == pytest.approx(float(robot.joint_lower[ELBOW - JOINTS.start]))
    assert np.abs(np.diff(angles)).max() <= 8.0 * DT + 1e-9 + 0.05  # the fade adds a little


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is not valid JSON"),
        (b"[1]", "must be an object"),
        (b'{"left_elbow": 1}', "there is no joint 'left_elbow'"),
        (b'{"left_elbow_joint": "up"}', "left_elbow_joint is 'up'"),
        (b'{"left_elbow_joint": NaN}', "needs 1 finite angles"),
        (b'{"left_hand": [1, 2]}', "left_hand is [1, 2], needs 7 finite angles"),
        (b"\xff", "is not valid JSON"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_changes_nothing(text: bytes, message: str) -> None:
    joints = OutsideJoints(0.5, DT)
    with pytest.raises(JointsError) as caught:
        joints.take(text, 0.0)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(JointsError):
        joints.take(b'{"left_elbow_joint": 1.0, "nose": 1.0}', 0.0)
    np.testing.assert_array_equal(joints.put_into(np.zeros(SIZE), 0.0), np.zeros(SIZE))
