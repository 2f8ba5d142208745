"""The G1 in free use: commands that change at any time, blows, arms that somebody else moves, unknown robots."""

from __future__ import annotations

from configs.g1_cmg_config import G1CMGCfg, G1CMGCfgPPO
from configs.legged_robot_config import CurriculumStage


class G1CMGFreeCfg(G1CMGCfg):
    """As `G1CMGCfg`, under all that a robot meets outside of its training."""

    class asset(G1CMGCfg.asset):
        """A robot whose parts touch each other."""

        self_collisions = 0

    class sim(G1CMGCfg.sim):
        """Contacts as other people's simulations have them: worked out to the end, and standing feet may creep."""

        class mujoco(G1CMGCfg.sim.mujoco):
            """Settings of MuJoCo alone."""

            solver = "Newton"
            iterations = 100
            noslip_iterations = 0

    class terrain(G1CMGCfg.terrain):
        """Slippery: a contact has the mean of the friction of robot and ground."""

        static_friction = dynamic_friction = 0.3

    class observations(G1CMGCfg.observations):
        """A critic that knows the robots."""

        privileged = (
            *G1CMGCfg.observations.privileged,
            *("friction", "payload", "strength", "delay", "ang_vel_bias", "gravity_bias", "undisturbed"),
            *("next_punch", "next_push"),
        )

    class commands(G1CMGCfg.commands):
        """Of every kind, corners more often, and never for long."""

        resampling_time = (1.5, 7.0)
        strata = {
            "stand": 0.16,
            "forward": 0.14,
            "run": 0.08,
            "backward": 0.08,
            "side": 0.08,
            "turn": 0.06,
            "mixed": 0.40,
        }
        failure_weight = 0.5
        acceleration = (1.0, 0.5, 2.0)
        further_share = 0.4

        class ranges(G1CMGCfg.commands.ranges):
            """Beyond those that a user may give: room for the offsets of a calibration; and low walking."""

            lin_vel_x = (-0.75, 2.7)
            lin_vel_y = (-0.5, 0.5)
            ang_vel_yaw = (-1.2, 1.2)
            further = {"base_height": (0.58, 0.77)}

    class curriculum(G1CMGCfg.curriculum):
        """Everything from the beginning, as hard as robots bear it."""

        stages = (
            CurriculumStage(commands=1.0, pushes=0.1, randomisation=0.4),
            CurriculumStage(commands=1.0, pushes=0.2, randomisation=0.6),
            CurriculumStage(commands=1.0, pushes=0.3, randomisation=0.8),
            CurriculumStage(commands=1.0, pushes=0.4, randomisation=1.0),
            CurriculumStage(commands=1.0, pushes=0.5, randomisation=1.0),
            CurriculumStage(commands=1.0, pushes=0.6, randomisation=1.0),
            CurriculumStage(commands=1.0, pushes=0.7, randomisation=1.0),
            CurriculumStage(commands=1.0, pushes=0.85, randomisation=1.0),
            CurriculumStage(commands=1.0, pushes=1.0, randomisation=1.0),
        )
        survival = 0.9  # where robots fall often, falling less pays more than obeying: all become slow
        min_steps = 500
        averaging_time = 10.0

    class init_state(G1CMGCfg.init_state):
        """Now and then in the standing pose, as a robot is switched on."""

        default_pose_share = 0.05

    class termination(G1CMGCfg.termination):
        """Whoever is hit may lean far: a quarter of those 0.8 rad off their reference do not fall in the end."""

        base_height = 0.35
        tilt = 1.6
        reference_tilt = None

    class domain_rand(G1CMGCfg.domain_rand):
        """Robots that differ by more, and blows."""

        friction_range = (0.2, 1.7)
        delay_range = (0.0, 0.055)
        payloads = {"torso_link": (0.0, 6.0), "left_wrist_yaw_link": (0.0, 1.0), "right_wrist_yaw_link": (0.0, 1.0)}
        randomize_strength = True
        randomize_imu = True
        undisturbed_share = 0.3
        mild_share = 0.3  # where all are extreme, all go slowly
        push_interval_s = (3.0, 6.0)
        max_push_vel_xy = 1.2
        punch_robots = True
        punch_interval_s = (1.0, 3.0)
        punch_force_range = (200.0, 520.0)  # of weaker ones nobody falls, and nobody learns
        punch_links = {"": 1.0, "wrist": 2.0, "ankle": 4.0}  # most falls come of blows on these
        long_push_link = "torso_link"

    class driven_joints(G1CMGCfg.driven_joints):
        """Arms that a teleoperator moves."""

        share = 0.5
        further_share = 0.15

    class rewards(G1CMGCfg.rewards):
        """To stay up is worth more, and so is to obey, but not in the moment of a blow."""

        # Obedience counts again soon, or robots become slow; the steps that save who was hit are not the reference's.
        forgiving_times = {
            **dict.fromkeys(("tracking_lin_vel", "tracking_ang_vel", "lin_vel_error", "yaw_rate_error"), 0.5),
            "reference_height": 1.0,
            **dict.fromkeys(("reference_contacts", "feet_bouncing", "feet_clearance"), 1.5),
            **dict.fromkeys(("stand_still", "stepping_in_place", "creeping_in_place"), 1.5),
        }
        height_sigma = 0.005
        feet_distance_target = 0.19  # [m]; at 1.2 to 1.4 m/s an earlier reference kept its feet 0.18 apart

        class scales(G1CMGCfg.rewards.scales):
            """Rewards a second."""

            termination = -600.0  # half of what it costs not to earn anything more
            tracking_lin_vel = 8.0
            lin_vel_error = -10.0
            yaw_rate_error = -2.0
            reference_contacts = 3.0
            reference_height = 12.0
            feet_bouncing = -90.0
            feet_closeness = -22.0  # feet that meet trip: without self-collision a quarter fewer fell
            stand_still = -6.0
            creeping_in_place = -8.0


class G1CMGFreeCfgPPO(G1CMGCfgPPO):
    """Training that goes on from a policy: `cmg-train-policy --task g1_cmg_free --initial POLICY`.

    The file brings its critic along; with a new one, robots obeyed less after as many steps.
    """

    class policy(G1CMGCfgPPO.policy):
        """Little noise, for a policy that walks already; one of narrower layers may begin it."""

        actor_hidden_dims = critic_hidden_dims = (512, 256, 128)
        init_noise_std = 0.16
        final_noise_std = 0.13
        normalizer_warmup_steps = 25_000  # of the critic: the policy brings its own statistics
        least_scales = {"dof_pos_error": {"shoulder": 0.5, "elbow": 0.5, "wrist": 0.5, "waist": 0.15}}

    class algorithm(G1CMGCfgPPO.algorithm):
        """Looks further ahead: a fall begins seconds before its end."""

        gamma = 0.99
        learning_rate = 1.0e-4
        desired_kl = 0.012
        num_mini_batches = 4  # of 8 the learning rate lay at its floor
        critic_warm_up = 20

    class evaluation(G1CMGCfgPPO.evaluation):
        """Free use beside constant commands."""

        cases = "free"
        rollouts = 4

    class runner(G1CMGCfgPPO.runner):
        """Its runs."""

        experiment_name = "g1_cmg_free"
        num_steps_per_env = 48
        save_interval = 25
        averaging_interval = 100  # weights wander: means of checkpoints survived more than those tried
        max_iterations = 3000
