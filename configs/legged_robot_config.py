"""Configuration of a legged robot that obeys velocity commands, and of its training; the base of every task.

Sections and fields carry the names that users of legged_gym know. Lengths are in metres, angles in radians, times in
seconds, forces in newtons unless a comment says otherwise; quaternions are xyzw.
"""

from __future__ import annotations

from typing import NamedTuple

from configs.base_config import BaseConfig


class CurriculumStage(NamedTuple):
    """What a stage of the curriculum asks, as shares from 0 to 1."""

    commands: float  # of the command ranges
    pushes: float  # of the speed of pushes
    randomisation: float  # and noise; with Isaac Gym robots differ by all of it from the beginning, only noise grows
    refinement: float = 1.0  # of `rewards.refinements`; runs from before there were any have three shares


class LeggedRobotCfg(BaseConfig):
    """Environment of a legged robot."""

    seed = 1

    class env:
        """Size and length."""

        num_envs = 512
        env_spacing = 3.0  # on a plane; on rough terrain the tiles say where the environments stand
        episode_length_s = 20.0
        send_timeouts = True  # an episode that ran out of time is no failure, and the algorithm is told so
        history_length = 1  # past observations that the actor sees, the present one included

    class terrain:
        """Ground."""

        mesh_type = "plane"  # plane, heightfield or trimesh
        horizontal_scale = 0.1
        vertical_scale = 0.005
        border_size = 10.0
        static_friction = 1.0
        dynamic_friction = 1.0
        restitution = 0.0
        # Rough ground: rows of tiles, each row harder than the one before, columns of one kind each.
        curriculum = True  # move robots that walk far enough to a harder row, and back
        max_init_terrain_level = 2
        terrain_length = 8.0
        terrain_width = 8.0
        num_rows = 6
        num_cols = 10
        proportions = {"smooth_slope": 0.2, "rough_slope": 0.3, "stairs_up": 0.1, "stairs_down": 0.1, "discrete": 0.3}
        max_slope = 0.3
        max_roughness = 0.04
        max_step_height = 0.12
        slope_threshold = 0.75  # trimesh: steeper than this becomes vertical

    class commands:
        """Velocity commands: vx, vy [m/s] and yaw rate [rad/s] in the heading frame."""

        resampling_time = (3.0, 8.0)  # shortest and longest time between changes
        ramp_time = 0.5  # a command passes linearly to the next in this time
        acceleration = (2.0, 1.0, 4.0)  # or as soon as vx, vy [m/s^2] and yaw rate [rad/s^2] may get there
        # Shares of the kinds of command; an empty dictionary draws uniformly from the ranges.
        strata = {
            "stand": 0.14,
            "forward": 0.16,
            "run": 0.08,
            "backward": 0.10,
            "side": 0.16,
            "turn": 0.24,
            "mixed": 0.12,
        }
        failure_weight = 0.8  # share of the draws that go where robots fall most or obey least
        # Share of the commands that ask for channels of ranges.further, and how fast ahead they go at most, in m/s.
        further_share = 0.5
        further_speed = 1.0
        # Once a second a robot that is further off its command than this counts as failing it, in m/s and rad/s.
        obeyed_within = (0.25, 0.35)

        class ranges:
            """Lowest and highest."""

            lin_vel_x = (-0.6, 2.5)
            lin_vel_y = (-0.4, 0.4)
            ang_vel_yaw = (-1.0, 1.0)
            further: dict[str, tuple[float, float]] = {}  # of other channels by name; those not here stay at rest

    class curriculum:
        """Stages that training passes through, each when the last one is mastered."""

        # Robots that must obey before they can stay up learn both later, so refinements come second.
        stages: tuple[CurriculumStage, ...] = (
            CurriculumStage(commands=1.0, pushes=0.0, randomisation=0.0, refinement=0.2),
            CurriculumStage(commands=1.0, pushes=0.0, randomisation=0.0),
            CurriculumStage(commands=1.0, pushes=0.3, randomisation=0.5),
            CurriculumStage(commands=1.0, pushes=0.6, randomisation=1.0),
            CurriculumStage(commands=1.0, pushes=1.0, randomisation=1.0),
        )
        survival = 0.35  # share of episodes that must last `env.episode_length_s`
        min_steps = 1000  # control steps in a stage at least
        averaging_time = 20.0  # over which falls are counted

    class init_state:
        """State at the beginning of an episode."""

        pos = (0.0, 0.0, 0.79)
        rot = (0.0, 0.0, 0.0, 1.0)  # xyzw
        random_yaw = True
        dof_pos_noise = 0.05  # largest deviation of a joint
        dof_vel_noise = 0.2
        lin_vel_noise = 0.1
        ang_vel_noise = 0.1
        default_joint_angles: dict[str, float] = {}  # by joint name; the robot's standing pose for the others
        default_pose_share = 0.0  # of the starts of a robot with a reference: in this pose, not in the reference's

    class control:
        """From action to torque. Gains and scales are by parts of joint names; the longest part that fits counts."""

        drive_mode = (
            "position"  # position: PD inside the simulator, all substeps at once; effort: torques every substep
        )
        stiffness = {"joint": 100.0}  # [N m / rad]
        damping = {"joint": 3.0}  # [N m s / rad]
        action_scale = {"joint": 0.25}  # [rad] of an action of 1
        decimation = 4  # physics steps in a control step

    class asset:
        """The robot."""

        robot = ""  # its name, or a path to its description (.json)
        file = ""  # another MJCF or a URDF of it; empty for the one of the description
        name = "robot"
        foot_names: tuple[str, ...] = ()  # left and right; empty for those of the description
        base_name = ""  # empty for the root
        penalize_contacts_on = ()
        collapse_fixed_joints = True
        fix_base_link = False
        self_collisions = 1  # 1 to disable, 0 to enable
        replace_cylinder_with_capsule = True
        disable_gravity = False
        density = 0.001
        angular_damping = 0.0
        linear_damping = 0.0
        max_angular_velocity = 1000.0
        max_linear_velocity = 1000.0
        armature = 0.0
        thickness = 0.01

    class termination:
        """When an episode ends early. Heights are above the ground under the robot."""

        base_height = 0.45
        tilt = 0.8  # angle between the base's and the world's vertical
        max_dof_vel = 200.0  # rad/s; a simulation beyond this, or with NaN, has diverged
        max_base_vel = 30.0  # m/s

    class domain_rand:
        """What differs between environments, and what disturbs them. Ranges are (lowest, highest)."""

        randomize_friction = True
        friction_range = (0.4, 1.2)
        randomize_restitution = False  # PhysX only: MuJoCo's contacts have none
        restitution_range = (0.0, 0.3)
        randomize_base_mass = True
        added_mass_range = (-1.5, 3.0)  # kg
        randomize_link_mass = True
        link_mass_scale_range = (0.9, 1.1)
        randomize_com = True
        com_displacement_range = (-0.03, 0.03)  # of the base, each axis
        randomize_gains = True
        stiffness_scale_range = (0.9, 1.1)
        damping_scale_range = (0.9, 1.1)
        randomize_delay = True
        delay_range = (0.0, 0.015)  # from an action to the motors
        payloads: dict[str, tuple[float, float]] = {}  # kg added to bodies, by name
        randomize_strength = False
        strength_range = (0.8, 1.1)  # of motors: factor on the torques of all joints, and on what they can at most
        randomize_imu = False
        max_ang_vel_bias = 0.05  # rad/s, of each axis, as long as the environment is there
        max_gravity_bias = 0.03  # of the direction of gravity, which is the angle where a robot is upright
        undisturbed_share = 0.0  # of the environments without pushes and punches
        mild_share = 0.0  # of the environments whose robots differ by mild_level of all this
        mild_level = 0.33
        push_robots = True
        push_interval_s = (3.0, 8.0)  # shortest and longest time between pushes
        max_push_vel_xy = 1.0  # m/s
        max_push_ang_vel = 0.3  # rad/s
        # Forces on the links of random joints, in all directions, and among them long pushes on one link, horizontal.
        punch_robots = False
        punch_interval_s = (1.5, 5.0)
        punch_force_range = (83.0, 500.0)  # N
        punch_time = 0.08
        punch_links = {"": 1.0}  # how often each is hit beside the others, by parts of their names
        long_push_share = 0.15
        long_push_link = ""  # empty for the base
        long_push_force_range = (15.0, 55.0)  # N
        long_push_time_range = (0.6, 1.8)

    class driven_joints:
        """Joints that something else drives in a share of the environments, as a teleoperator does a robot's arms."""

        share = 0.0
        joints: tuple[str, ...] = ()  # by parts of their names; empty for the arms of the robot's description
        further: tuple[str, ...] = ("waist",)  # driven too in a share of these environments
        further_share = 0.0
        # walk: both sides alike, by random steps from the standing pose; wander: every joint by itself from a random
        # pose; hold: in a random pose.
        motions = {"walk": 0.55, "wander": 0.3, "hold": 0.15}
        change_time = 0.5  # from one target to the next, along a straight line
        step = 0.17  # rad, standard deviation of a step
        reach = 1.0  # rad, furthest from the standing pose
        stiffness_scale_range = (0.35, 1.4)
        damping_scale_range = (0.6, 2.0)

    class rewards:
        """Rewards a second: each scale is multiplied by the time of a control step."""

        _dropped = ("forgiving_time", "forgiven")

        class scales:
            """Of the methods `_reward_<name>`; 0 switches one off at no cost."""

            termination = -10.0  # in the step of a fall
            alive = 1.0
            tracking_lin_vel = 1.5
            tracking_ang_vel = 0.75
            lin_vel_error = 0.0
            yaw_rate_error = 0.0
            orientation = -1.0
            base_height = 0.0
            lin_vel_z = 0.0
            ang_vel_xy = -0.02
            torques = -0.5
            dof_vel = 0.0
            dof_acc = 0.0
            dof_pos_limits = 0.0
            action_rate = -0.02
            action_size = -0.01
            feet_slip = 0.0
            feet_air_time = 0.0
            feet_bouncing = 0.0
            feet_clearance = 0.0
            feet_closeness = 0.0
            collision = 0.0
            stand_still = 0.0
            stepping_in_place = 0.0
            creeping_in_place = 0.0

        # What is more than to stay up and to follow the reference.
        refinements: tuple[str, ...] = (
            "tracking_lin_vel",
            "tracking_ang_vel",
            "lin_vel_error",
            "yaw_rate_error",
            "feet_clearance",
            "stand_still",
            "stepping_in_place",
            "creeping_in_place",
        )
        only_positive_rewards = False
        velocity_averaging = 0.05  # share of a new value in the averaged velocities, per control step
        lin_vel_sigma = 0.06  # (m/s)^2
        ang_vel_sigma = 0.08  # (rad/s)^2
        base_height_target = 0.78
        soft_dof_pos_limit = 0.95
        air_time_target = 0.4
        shortest_swing = 0.2  # s: a foot that lands earlier has bounced
        feet_clearance_target = 0.04  # m
        feet_distance_target = 0.14  # m, sideways
        standing_speed = 0.1  # commands with every part below this (m/s, rad/s) mean to stand
        # For so many seconds after a push or a punch these do not count: a robot that saves itself cannot obey.
        forgiving_times: dict[str, float] = {}

    class normalization:
        """Scales of observations, and their limits."""

        class obs_scales:
            """By kind."""

            lin_vel = 1.0
            ang_vel = 0.25
            gravity = 1.0
            command = 1.0
            dof_pos = 1.0
            dof_vel = 0.05
            action = 1.0
            height = 1.0

        clip_observations = 20.0
        clip_actions = 6.0

    class observations:
        """What actor and critic see, by name; the noisy parts first keeps the noise cheap."""

        policy: tuple[str, ...] = ("base_ang_vel", "projected_gravity", "dof_pos", "dof_vel", "commands", "last_action")
        privileged: tuple[str, ...] = (  # of the critic alone, which sees the actor's without noise too
            "base_lin_vel",
            "average_lin_vel",
            "average_yaw_rate",
            "base_height",
            "feet_contact",
        )

    class noise:
        """Uniform noise on what sensors measure, for the actor only."""

        add_noise = True
        noise_level = 1.0

        class noise_scales:
            """Largest deviation, in units of the quantity."""

            ang_vel = 0.1
            gravity = 0.02
            dof_pos = 0.01
            dof_vel = 0.2

    class viewer:
        """Camera of Isaac Gym's viewer."""

        _dropped = ("ref_env",)

        pos = (4.0, 0.0, 2.0)
        lookat = (0.0, 0.0, 0.8)

    class sim:
        """Physics."""

        dt = 0.005
        substeps = 1
        gravity = (0.0, 0.0, -9.81)
        up_axis = 1  # 0 is y, 1 is z

        class mujoco:
            """Read by MuJoCo's stand-in for Isaac Gym only."""

            solver = "PGS"
            iterations = 10
            cone = "pyramidal"
            contact_time_constant = 0.0
            noslip_iterations = 3  # without, the feet of a standing robot creep, by a decimetre a minute

        class physx:
            """Read by PhysX; MuJoCo's stand-in takes the number of threads from here."""

            num_threads = 0  # 0: one a core
            solver_type = 1
            num_position_iterations = 4
            num_velocity_iterations = 0
            contact_offset = 0.01
            rest_offset = 0.0
            bounce_threshold_velocity = 0.5
            max_depenetration_velocity = 1.0
            max_gpu_contact_pairs = 2**23
            default_buffer_size_multiplier = 5
            contact_collection = 1


class LeggedRobotCfgPPO(BaseConfig):
    """Training by PPO."""

    _dropped = ("runner_class_name",)

    seed = 1

    class policy:
        """Networks of actor and critic."""

        # Exploration is held below a bound that falls from the first of these to the second by the last iteration: a
        # policy learns what is best with its own noise, and does something else without.
        init_noise_std = 0.4
        final_noise_std = 0.05
        actor_hidden_dims = (256, 128, 64)
        critic_hidden_dims = (256, 128, 64)
        activation = "elu"
        last_layer_gain = 0.01  # so that training begins at the action zero
        symmetric = True  # mirrored observations give mirrored actions, exactly
        obs_normalization = True
        normalizer_warmup_steps = 200_000  # environment steps after which the observation statistics hardly move
        # Of networks that begin a run: least scales of the normaliser, by observation and by parts of joint names. A
        # policy that has hardly ever seen something off its mean would otherwise answer it with far too much.
        least_scales: dict[str, dict[str, float]] = {}

    class algorithm:
        """PPO."""

        value_loss_coef = 1.0
        use_clipped_value_loss = True
        clip_param = 0.2
        entropy_coef = 0.003
        num_learning_epochs = 3
        num_mini_batches = 8
        learning_rate = 1.0e-3
        schedule = "adaptive"
        gamma = 0.98
        lam = 0.95
        desired_kl = 0.03
        max_grad_norm = 1.0
        critic_warm_up = 0  # iterations in which the critic alone learns, for a run that begins with a policy
        smoothness_coef = 0.0  # of squared changes of the mean action from step to step
        mirrored = True  # networks that are not symmetric see each sample in a mirror too

    class evaluation:
        """Evaluations during training, which choose the best policy."""

        cases = "grid"  # grid: constant commands; free: these and free use, with all that a robot meets there
        rollouts = 8  # of each case
        duration = 10.0

    class runner:
        """Length and logging."""

        # A run cannot say of itself what it goes on from: --resume, --load_run and --checkpoint do.
        _dropped = ("resume", "load_run", "checkpoint")

        num_steps_per_env = 24
        max_iterations = 2500
        save_interval = 50
        evaluation_interval = 100
        averaging_interval = 0  # after so many iterations go on from the mean of the checkpoints since; 0 never
        experiment_name = "legged_robot"
        logger = "tensorboard"  # or wandb, neptune, or module:Class of a LogWriter of rsl_rl
        project = ""  # at W&B or Neptune; empty for the experiment's name
        run_name = ""  # follows the date in the name of a run
