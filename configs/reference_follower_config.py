"""Any robot that follows a reference motion from velocity commands; a robot's own configuration says which."""

from __future__ import annotations

from configs.legged_robot_config import LeggedRobotCfg


class ReferenceFollowerCfg(LeggedRobotCfg):
    """A robot whose actions are corrections to a reference motion."""

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

    class observations(LeggedRobotCfg.observations):
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

    class termination(LeggedRobotCfg.termination):
        """As of every legged robot, and far off the reference."""

        reference_tilt: float | None = 0.5  # angle between the base's and the reference's vertical; None for any

    class rewards(LeggedRobotCfg.rewards):
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
            reference_feet = 0.0
            feet_height = 0.0
            reference_contacts = 0.0
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
        # m: a foot of the reference is on the ground less than this above the lower foot, if that is below twice of it.
        reference_contact_height = 0.01
        early_landing = 1.0  # of `reference_contacts` while a foot is down that landed before the reference's
        joint_weights = {"": 1.0}  # how much each joint counts, by parts of names
