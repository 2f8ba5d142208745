"""What the tasks on top of TWIST change and add; every field that is not named here is TWIST's own.

The sections are laid over those of TWIST's `G1MimicPrivCfg`, `G1MimicPrivCfgPPO`, `G1MimicStuRLCfg` and
`G1MimicStuRLCfgDAgger` when the tasks are registered, for TWIST can only be imported where its simulator is.
"""

from __future__ import annotations


class G1CMGMimicCfg:
    """Environment of teacher (`g1_cmg_priv_mimic`) and student (`g1_cmg_stu_rl`)."""

    class cmg:
        """Where the reference motion comes from, in place of motion files."""

        checkpoint = ""  # file of your own CMG; empty takes the one shipped with cmg_ref
        mode = "pool"  # "pool" for training, "live" for commands set from outside (see docs/twist.md)
        num_motions = 1024  # motions in the pool
        num_blocks = 4  # parts in which they are renewed, the most used first; 0 keeps them
        check_commands = True  # motions that miss their command are made anew, or left out
        motion_length = 10.0  # longest episode [s]
        ramp_time = 0.5  # time that a command takes to change [s]
        resampling_time = [2.0, 6.0]  # shortest and longest time between changes of the command [s]
        # Shares of the kinds of command; a part of the draws goes where episodes fail.
        strata = {
            "stand": 0.12,
            "forward": 0.22,
            "run": 0.12,
            "backward": 0.16,
            "side": 0.10,
            "turn": 0.16,
            "mixed": 0.12,
        }
        failure_weight = 0.5
        # Joints of the CMG that a robot may lack, as TWIST's of 23 joints does; any other that is missing is an error.
        drop_joints = [
            "left_wrist_roll_joint",
            "left_wrist_pitch_joint",
            "left_wrist_yaw_joint",
            "right_wrist_roll_joint",
            "right_wrist_pitch_joint",
            "right_wrist_yaw_joint",
        ]
        held_joints: dict[str, float] = {}  # joints of the robot that the CMG lacks, and their angle [rad]
        seed = 0

    class commands:
        class ranges:
            lin_vel_x = [-0.6, 2.5]  # [m/s]
            lin_vel_y = [-0.4, 0.4]  # [m/s]
            ang_vel_yaw = [-1.0, 1.0]  # [rad/s]

    class control:
        # Actions are added to the reference of the coming step instead of the default pose.
        residual_action = False

    class rewards:
        class scales:
            tracking_lin_vel = 1.0
            tracking_ang_vel = 0.5
            alive = 0.5  # TWIST has it, switched off: without it the first thing learnt is to fall early


class G1CMGPrivCfgPPO:
    """Training of the teacher."""

    class policy:
        init_noise_std = 0.3  # the reference says how to move, so that there is less to explore

    class runner:
        experiment_name = "g1_cmg_priv_mimic"


class G1CMGStuRLCfgDAgger:
    """Training of the student."""

    class policy:
        init_noise_std = 0.3

    class runner:
        experiment_name = "g1_cmg_stu_rl"
        teacher_proj_name = "g1_cmg_priv_mimic"
