"""The G1 that follows a reference motion from velocity commands, and its baseline without a reference."""

from __future__ import annotations

from cmg_ref.robots.g1 import SPEC as G1
from configs.legged_robot_config import LeggedRobotCfg, LeggedRobotCfgPPO
from configs.reference_follower_config import ReferenceFollowerCfg


class G1Cfg(LeggedRobotCfg):
    """The G1 with actions around its standing pose: the same task without a reference."""

    class control(LeggedRobotCfg.control):
        """Gains of the real robot's order of magnitude, by parts of joint names."""

        stiffness = dict(G1.stiffness)
        damping = dict(G1.damping)
        action_scale = dict(G1.action_scale)

    class asset(LeggedRobotCfg.asset):
        """The G1 that ships with the package."""

        robot = name = G1.name

    class rewards(LeggedRobotCfg.rewards):
        """As of every legged robot, and a few that shape a gait without a reference."""

        class scales(LeggedRobotCfg.rewards.scales):
            """Rewards a second."""

            base_height = -10.0
            lin_vel_z = -0.5
            dof_pos_limits = -2.0
            feet_slip = -0.1
            feet_air_time = 2.0
            stand_still = -0.2


class G1CMGCfg(G1Cfg, ReferenceFollowerCfg):
    """The G1 whose actions are corrections to a reference motion."""

    class env(ReferenceFollowerCfg.env):
        """Sees a little of the past: robots are unlike each other, and one moment does not tell which one it is."""

        history_length = 3

    class rewards(ReferenceFollowerCfg.rewards):
        """As of every robot with a reference."""

        joint_weights = {
            "hip": 1.0,
            "knee": 1.0,
            "ankle": 0.5,
            "waist": 1.0,
            "shoulder": 0.5,
            "elbow": 0.5,
            "wrist": 0.2,
        }


class G1CfgPPO(LeggedRobotCfgPPO):
    """Training of the baseline."""

    class runner(LeggedRobotCfgPPO.runner):
        """Its runs."""

        experiment_name = "g1"


class G1CMGCfgPPO(LeggedRobotCfgPPO):
    """Training of the residual policy."""

    class runner(LeggedRobotCfgPPO.runner):
        """Its runs."""

        experiment_name = "g1_cmg"
