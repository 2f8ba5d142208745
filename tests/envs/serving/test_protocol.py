"""Layouts of what TWIST and TWIST2 read and write, number by number."""

from __future__ import annotations

import json

import numpy as np
import pytest

from envs.deployment.twist2_controller import DEFAULT_POSE
from envs.serving.motion_frame import JOINT_NAMES, JOINTS, LEFT_HAND, NECK, PITCH, RIGHT_HAND, ROLL, SIZE, YAW, eased
from envs.serving.protocol import PROTOCOLS, Twist, Twist2

# In the order of the low levels: legs, waist, arms.
ORDER = [
    *(f"{side}_{part}_joint" for side in ("left", "right") for part in
      ("hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll")),
    *(f"waist_{part}_joint" for part in ("yaw", "roll", "pitch")),
    *(f"{side}_{part}_joint" for side in ("left", "right") for part in
      ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_roll", "wrist_pitch", "wrist_yaw")),
]  # fmt: skip


def counted() -> np.ndarray:
    """A frame in which every number says where it stands."""
    return 0.01 * np.arange(SIZE)


def test_joints_stand_in_the_order_of_the_low_levels() -> None:
    assert list(JOINT_NAMES) == ORDER


def test_twist2_is_told_35_numbers_and_hands_and_neck() -> None:
    told = {key: json.loads(text) for key, text in Twist2().messages(counted()).items()}
    r = "unitree_g1_with_hands"
    assert set(told) == {f"action_{part}_{r}" for part in ("body", "hand_left", "hand_right", "neck")}
    body = told[f"action_body_{r}"]
    # vx, vy, height, roll, pitch, yaw rate; neither vz nor yaw.
    np.testing.assert_allclose(body[:6], [0.0, 0.01, 0.03, 0.04, 0.05, 0.07])
    np.testing.assert_allclose(body[6:], counted()[JOINTS])
    for part, place in (("hand_left", LEFT_HAND), ("hand_right", RIGHT_HAND), ("neck", NECK)):
        np.testing.assert_allclose(told[f"action_{part}_{r}"], counted()[place])
    assert set(Twist2("g1_of_mine").messages(counted())) == {key.replace(r, "g1_of_mine") for key in told}


def test_twist_is_told_33_numbers_with_wrist_rolls_among_them() -> None:
    told = {key: json.loads(text) for key, text in Twist().messages(counted()).items()}
    assert set(told) == {"action_mimic_g1", "action_hand_g1"}
    body = told["action_mimic_g1"]
    np.testing.assert_allclose(body[:8], [0.03, 0.04, 0.05, 0.06, 0.0, 0.01, 0.02, 0.07])
    names = [ORDER[round(100.0 * value) - JOINTS.start] for value in body[8:]]
    assert len(names) == 25 and names[:19] == ORDER[:19]
    assert names[19] == "left_wrist_roll_joint" and names[24] == "right_wrist_roll_joint"
    assert names[20:24] == [
        f"right_{part}_joint" for part in ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow")
    ]
    assert len(told["action_hand_g1"]) == 14
    turned = counted()
    turned[YAW] = 4.0
    assert json.loads(Twist().messages(turned)["action_mimic_g1"])[3] == pytest.approx(4.0 - 2.0 * np.pi, abs=1e-6)


def test_the_measured_pose_is_read() -> None:
    state = [9.0, 9.0, 9.0, 0.1, -0.2, *(0.01 * np.arange(29))]
    pose = Twist2().measured(json.dumps(state).encode())
    assert pose is not None and pose[ROLL] == 0.1 and pose[PITCH] == -0.2
    np.testing.assert_allclose(pose[JOINTS], 0.01 * np.arange(29))

    offsets = 0.01 * np.arange(23)
    pose = Twist().measured(json.dumps([9.0, 9.0, 9.0, 0.1, -0.2, *offsets, *(46 * [9.0])]).encode())
    assert pose is not None and pose[ROLL] == 0.1 and pose[PITCH] == -0.2
    wrists = [column for column, name in enumerate(ORDER) if "wrist" in name]
    np.testing.assert_allclose(np.delete(pose[JOINTS] - DEFAULT_POSE, wrists), offsets)
    assert not pose[JOINTS][wrists].any()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_what_is_no_measurement_is_none(name: str) -> None:
    protocol = PROTOCOLS[name]()
    size = len(protocol.at_rest())
    one = [0.1] * size
    wrong: list[object] = [[0.0] * 127, [0.0] * size, one[1:], [float("nan"), *one[1:]], {}, 3]
    texts = [json.dumps(values) for values in wrong]
    for text in (*texts, "", "{", "[[1]]", '["a"]', "\xff"):
        assert protocol.measured(text.encode("latin-1")) is None, text
    assert protocol.measured(None) is None
    assert protocol.measured(json.dumps(one).encode()) is not None


def test_easing_begins_and_ends_gently() -> None:
    start, end = np.zeros(SIZE), np.ones(SIZE)
    way = np.array([eased(start, end, share)[JOINTS.start] for share in np.linspace(0.0, 1.0, 101)])
    assert way[0] == 0.0 and way[-1] == 1.0 and (np.diff(way) > 0.0).all()
    assert np.diff(way).max() < 0.016 and np.diff(way)[[0, -1]].max() < 0.001
    assert eased(start, end, 0.3)[YAW] == 1.0
