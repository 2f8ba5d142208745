"""The Unitree G1 with 29 joints."""

from __future__ import annotations

from pathlib import Path

from cmg_ref.robots.spec import Capsule, RobotSpec

_ASSETS = Path(__file__).parents[1] / "assets"
G1_CHECKPOINT = _ASSETS / "cmg_g1.safetensors"

SPEC = RobotSpec(
    name="g1",
    asset=_ASSETS / "g1_29dof.xml",
    checkpoint=G1_CHECKPOINT,
    foot_bodies=("left_ankle_roll_link", "right_ankle_roll_link"),
    # Feet, knees, elbows, hands and torso.
    key_bodies=(
        "left_ankle_roll_link",
        "right_ankle_roll_link",
        "left_knee_link",
        "right_knee_link",
        "left_elbow_link",
        "right_elbow_link",
        "left_wrist_yaw_link",
        "right_wrist_yaw_link",
        "torso_link",
    ),
    walking_height=(0.64, 0.86),
    lean_joint="waist_pitch_joint",
    spread_joints={"left_shoulder_roll_joint": 1.0, "right_shoulder_roll_joint": -1.0},
    arm_joints=("shoulder", "elbow", "wrist"),
    # Gains of the real robot's order of magnitude.
    stiffness={
        "hip": 100.0,
        "knee": 150.0,
        "ankle": 40.0,
        "waist_yaw": 100.0,
        "waist_roll": 80.0,
        "waist_pitch": 80.0,
        "shoulder": 40.0,
        "elbow": 40.0,
        "wrist": 20.0,
    },
    damping={
        "hip": 3.0,
        "knee": 4.0,
        "ankle": 2.0,
        "waist_yaw": 4.0,
        "waist_roll": 3.0,
        "waist_pitch": 3.0,
        "shoulder": 1.5,
        "elbow": 1.5,
        "wrist": 1.0,
    },
    action_scale={"hip": 0.5, "knee": 0.5, "ankle": 0.5, "waist": 0.25, "shoulder": 0.25, "elbow": 0.25, "wrist": 0.1},
    # The G1 is sold and modelled with several sets of joints. Two have 23: TWIST's without wrists, and Unitree's, whose
    # waist turns about one axis only and whose wrists turn about one.
    joint_sets={
        "wrist roll only": ("wrist_pitch", "wrist_yaw"),
        "no wrists": ("wrist",),
        "waist yaw only": ("waist_roll", "waist_pitch"),
        "waist yaw only, wrist roll only": ("waist_roll", "waist_pitch", "wrist_pitch", "wrist_yaw"),
        "waist yaw only, no wrists": ("waist_roll", "waist_pitch", "wrist"),
    },
    clip_fps=30.0,  # of Unitree's retargeting of LAFAN1
    joint_panels={
        "hip pitch": ("hip_pitch",),
        "knee": ("knee",),
        "ankle pitch": ("ankle_pitch",),
        "hip roll, yaw": ("hip_roll", "hip_yaw"),
        "ankle roll": ("ankle_roll",),
        "waist": ("waist",),
        "shoulder": ("shoulder",),
        "elbow": ("elbow",),
        "wrist": ("wrist",),
    },
    # The collision geometry of the MJCF is plain on purpose; these parts are only ever looked at.
    capsules=(
        Capsule("pelvis", (0.0, -0.040, -0.050), (0.0, 0.040, -0.050), 0.054, "dark"),
        Capsule("pelvis", (0.0, -0.030, -0.100), (0.0, 0.030, -0.100), 0.052, "metal"),
        Capsule("waist_yaw_link", (0.0, 0.0, 0.000), (0.0, 0.0, 0.055), 0.052, "metal"),
        Capsule("torso_link", (0.002, -0.036, 0.060), (0.002, 0.036, 0.060), 0.056, "dark"),
        Capsule("torso_link", (0.002, -0.030, 0.115), (0.010, -0.052, 0.225), 0.066, "shell"),
        Capsule("torso_link", (0.002, 0.030, 0.115), (0.010, 0.052, 0.225), 0.066, "shell"),
        Capsule("torso_link", (0.014, 0.000, 0.115), (0.016, 0.000, 0.225), 0.066, "shell"),
        Capsule("torso_link", (0.002, -0.064, 0.243), (0.002, 0.064, 0.243), 0.052, "shell"),
        Capsule("torso_link", (0.056, -0.024, 0.205), (0.056, 0.024, 0.205), 0.031, "dark"),
        Capsule("torso_link", (0.000, 0.0, 0.290), (0.003, 0.0, 0.340), 0.036, "metal"),
        Capsule("torso_link", (0.002, 0.0, 0.385), (0.000, 0.0, 0.440), 0.066, "shell"),
        Capsule("torso_link", (0.024, 0.0, 0.375), (0.020, 0.0, 0.432), 0.055, "dark"),
        Capsule("left_hip_pitch_link", (0.0, 0.010, -0.006), (0.0, 0.050, -0.029), 0.049, "metal"),
        Capsule("left_hip_roll_link", (0.024, 0.0, -0.010), (0.024, 0.0, -0.085), 0.052, "side"),
        Capsule("left_hip_yaw_link", (0.000, 0.0, -0.020), (-0.052, 0.001, -0.125), 0.054, "side"),
        Capsule("left_hip_yaw_link", (-0.050, 0.001, -0.120), (-0.070, 0.002, -0.160), 0.047, "side"),
        Capsule("left_knee_link", (0.0, -0.024, 0.0), (0.0, 0.024, 0.0), 0.046, "metal"),
        Capsule("left_knee_link", (0.014, 0.0, -0.050), (0.008, 0.0, -0.150), 0.044, "side"),
        Capsule("left_knee_link", (0.006, 0.0, -0.150), (0.001, 0.0, -0.275), 0.032, "side"),
        Capsule("left_ankle_pitch_link", (0.0, -0.014, 0.0), (0.0, 0.014, 0.0), 0.027, "metal"),
        # The sole reaches to the corners of the contact points.
        Capsule("left_ankle_roll_link", (-0.046, -0.018, -0.022), (0.112, -0.022, -0.022), 0.013, "dark"),
        Capsule("left_ankle_roll_link", (-0.050, -0.009, -0.022), (0.118, -0.011, -0.022), 0.013, "dark"),
        Capsule("left_ankle_roll_link", (-0.050, 0.000, -0.022), (0.120, 0.000, -0.022), 0.013, "dark"),
        Capsule("left_ankle_roll_link", (-0.050, 0.009, -0.022), (0.118, 0.011, -0.022), 0.013, "dark"),
        Capsule("left_ankle_roll_link", (-0.046, 0.018, -0.022), (0.112, 0.022, -0.022), 0.013, "dark"),
        Capsule("left_ankle_roll_link", (-0.026, 0.0, -0.006), (0.078, 0.0, -0.015), 0.023, "side"),
        Capsule("left_shoulder_pitch_link", (0.0, 0.004, 0.0), (0.0, 0.040, -0.012), 0.044, "metal"),
        Capsule("left_shoulder_roll_link", (0.0, 0.004, -0.005), (0.0, 0.006, -0.060), 0.041, "side"),
        Capsule("left_shoulder_yaw_link", (0.0, 0.0, 0.030), (0.006, -0.002, -0.060), 0.037, "side"),
        Capsule("left_elbow_link", (0.0, -0.014, 0.0), (0.0, 0.014, 0.0), 0.036, "metal"),
        Capsule("left_elbow_link", (0.030, 0.001, -0.006), (0.090, 0.002, -0.010), 0.036, "side"),
        Capsule("left_wrist_roll_link", (0.0, 0.0, 0.0), (0.034, 0.0, 0.0), 0.031, "side"),
        Capsule("left_wrist_pitch_link", (0.0, -0.010, 0.0), (0.0, 0.010, 0.0), 0.028, "metal"),
        Capsule("left_wrist_pitch_link", (0.0, 0.0, 0.0), (0.046, 0.0, 0.0), 0.025, "metal"),
        Capsule("left_wrist_yaw_link", (0.010, 0.0, 0.0), (0.070, -0.003, 0.0), 0.030, "dark"),
        Capsule("left_wrist_yaw_link", (0.070, -0.003, 0.008), (0.122, -0.010, 0.002), 0.019, "dark"),
        Capsule("left_wrist_yaw_link", (0.070, -0.003, -0.012), (0.120, -0.010, -0.014), 0.019, "dark"),
    ),
    # As thick as the parts of the real robot; the MJCF's collision geometry is coarser, and leaves some of them out.
    contact_capsules=(
        Capsule("left_hip_roll_link", (0.022, 0.0, -0.008), (0.024, 0.0, -0.085), 0.060),
        Capsule("left_hip_yaw_link", (-0.002, 0.0, -0.030), (-0.064, 0.001, -0.168), 0.055),
        Capsule("left_knee_link", (0.012, 0.0, -0.020), (0.002, 0.0, -0.275), 0.040),
        Capsule("left_ankle_roll_link", (-0.030, 0.0, -0.018), (0.100, 0.0, -0.018), 0.034),
        Capsule("left_wrist_pitch_link", (-0.008, 0.0, 0.0), (0.058, 0.0, 0.0), 0.035),
        Capsule("left_wrist_yaw_link", (0.062, -0.002, 0.0), (0.148, -0.016, 0.003), 0.037),
    ),
    contact_pairs=(
        ("wrist", "hip"),
        ("left_ankle_roll", "right_ankle_roll"),
        ("left_ankle_roll", "right_knee"),
        ("left_knee", "right_ankle_roll"),
        ("left_knee", "right_knee"),
    ),
)
