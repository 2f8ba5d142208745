"""The G1 that follows a reference motion from velocity commands, and its baseline without a reference."""

from __future__ import annotations

from configs.legged_robot_config import LeggedRobotCfg, LeggedRobotCfgPPO


class G1Cfg(LeggedRobotCfg):
    """The G1 with actions around its standing pose: the same task without a reference."""

    class control(LeggedRobotCfg.control):
        """Gains of the real robot's order of magnitude, by parts of joint names."""

        stiffness = {
            "hip": 100.0,
            "knee": 150.0,
            "ankle": 40.0,
            "waist_yaw": 100.0,
            "waist_roll": 80.0,
            "waist_pitch": 80.0,
            "shoulder": 40.0,
            "elbow": 40.0,
            "wrist": 20.0,
        }
        damping = {
            "hip": 3.0,
            "knee": 4.0,
            "ankle": 2.0,
            "waist_yaw": 4.0,
            "waist_roll": 3.0,
            "waist_pitch": 3.0,
            "shoulder": 1.5,
            "elbow": 1.5,
            "wrist": 1.0,
        }
        action_scale = {
            "hip": 0.5,
            "knee": 0.5,
            "ankle": 0.5,
            "waist": 0.25,
            "shoulder": 0.25,
            "elbow": 0.25,
            "wrist": 0.1,
        }

    class asset(LeggedRobotCfg.asset):
        """The G1 that ships with the package."""

        name = "g1"

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


class G1CMGCfg(G1Cfg):
    """The G1 whose actions are corrections to a reference motion."""

    class reference:
        """Where the reference motion comes from, and what is seen of it."""

        checkpoint: str | None = None  # file of the CMG; None for the one that ships with the package
        mode = "pool"  # pool: ready trajectories, for training; realtime: generated as time passes
        start = "random"  # random: episodes begin amid a motion; standing: from standing, always in realtime
        standing_starts = 0.35  # share of the random starts that are from standing nevertheless
        num_trajectories: int | None = None  # in the pool; None for one for every other environment
        renewed_frames = 0.0625  # frames of the pool generated anew in a control step, per environment
        actor_future_step = 6  # control steps ahead
        critic_future_steps = (12, 24)

    class observations(G1Cfg.observations):
        """What actor and critic see, by name."""

        policy: tuple[str, ...] = (
            "base_ang_vel",
            "projected_gravity",
            "dof_pos_error",
            "dof_vel",
            "commands",
            "reference_dof_pos",
            "reference_dof_change",
            "last_action",
        )
        privileged: tuple[str, ...] = (
            "base_lin_vel",
            "average_lin_vel",
            "average_yaw_rate",
            "base_height",
            "feet_contact",
            "reference_lin_vel",
            "reference_yaw_rate",
            "reference_height",
            "reference_gravity",
            "reference_window",
        )

    class termination(G1Cfg.termination):
        """As of every legged robot, and far off the reference."""

        reference_tilt: float | None = 0.5  # angle between the base's and the reference's vertical; None for any

    class rewards(G1Cfg.rewards):
        """Follow the reference, obey the command, do not fall."""

        class scales(LeggedRobotCfg.rewards.scales):
            """Rewards a second."""

            orientation = 0.0
            ang_vel_xy = 0.0
            tracking_lin_vel = 3.0
            tracking_ang_vel = 3.0
            # Far from the command the two above have faded; without these, slow commands are obeyed by half.
            lin_vel_error = -1.5
            yaw_rate_error = -1.5
            action_size = -0.005
            reference_dof_pos = 1.0
            reference_dof_vel = 0.2
            reference_lin_vel = 1.0
            reference_gravity = 0.5
            reference_height = 0.3
            reference_key_bodies = 0.0
            feet_height = 0.0
            # In turns on the spot the reference lifts its feet by 3 cm, of which the drives' give takes a part.
            feet_clearance = -15.0
            feet_slip = -0.5
            stand_still = -0.6
            stepping_in_place = -1.2
            creeping_in_place = -4.0

        # Squared errors at which a reward has fallen to 1/e.
        dof_pos_sigma = 0.025  # rad^2
        dof_vel_sigma = 6.7  # (rad/s)^2
        reference_lin_vel_sigma = 0.08  # (m/s)^2
        gravity_sigma = 0.05
        height_sigma = 0.003  # m^2
        key_body_sigma = 0.02  # m^2
        feet_height_sigma = 0.001  # m^2
        # How much each joint counts.
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
