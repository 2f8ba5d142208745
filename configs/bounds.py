"""Between which numbers the fields of the configurations make sense.

Outside of them a simulation divides by zero, takes all memory or computes NaN, often minutes later and without saying
which field it was.
"""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import Any, Iterator, Sequence

from cmg_ref.core.shorten import shortened
from configs.base_config import BaseConfig, ConfigError, field_names

MAX_NUM_ENVS = 2**20
MAX_ITERATIONS = 10**7
MAX_SEED = 2**32 - 1  # what numpy takes
MAX_THREADS = 1024
MAX_CONTROL_STEP = 0.5  # [s]

# Fields by their path, lowest and highest value of each number in them; the first that fits counts. A field that a user
# adds must only be finite.
ENVIRONMENT = (
    ("seed", 0, MAX_SEED),
    ("env.num_envs", 1, MAX_NUM_ENVS),
    ("env.env_spacing", 0, 1e3),
    ("env.episode_length_s", 0.1, 1e5),
    ("env.history_length", 1, 100),
    ("terrain.*_scale", 1e-4, 10),
    ("terrain.border_size", 0, 1e3),
    ("terrain.*friction", 0, 10),
    ("terrain.restitution", 0, 1),
    ("terrain.max_init_terrain_level", 0, 1000),
    ("terrain.terrain_*", 1, 1000),
    ("terrain.num_*", 1, 1000),
    ("terrain.proportions", 0, 1e6),
    ("terrain.max_slope terrain.max_roughness terrain.max_step_height terrain.slope_threshold", 0, 100),
    ("commands.resampling_time", 0.01, 1e6),
    ("commands.ramp_time", 0, 100),
    ("commands.acceleration", 1e-3, 1e6),
    ("commands.strata", 0, 1e6),
    ("commands.failure_weight", 0, 1),
    ("commands.further_share", 0, 1),
    ("commands.further_speed", 0, 100),
    ("commands.obeyed_within", 0, 100),
    ("commands.ranges.*", -100, 100),
    ("curriculum.stages", 0, 1),
    ("curriculum.survival", 0, 1),
    ("curriculum.min_steps", 0, 10**9),
    ("curriculum.averaging_time", 1e-3, 1e6),
    ("init_state.pos", -1e4, 1e4),
    ("init_state.rot", -1, 1),
    ("init_state.*_noise", 0, 100),
    ("init_state.default_joint_angles", -10, 10),
    ("init_state.default_pose_share", 0, 1),
    ("control.decimation", 1, 1000),
    ("control.stiffness control.damping control.action_scale", 0, 1e6),
    ("asset.self_collisions", 0, 1),
    ("asset.density asset.armature asset.thickness asset.*_damping asset.max_*_velocity", 0, 1e6),
    ("termination.base_height", -100, 100),
    ("termination.tilt termination.reference_tilt termination.max_*_vel", 0, 1e6),
    ("domain_rand.*friction_range", 0, 10),
    ("domain_rand.restitution_range", 0, 1),
    ("domain_rand.added_mass_range", -1e3, 1e3),
    ("domain_rand.link_mass_scale_range", 0.01, 100),
    ("domain_rand.com_displacement_range", -10, 10),
    ("domain_rand.*_scale_range", 0, 100),
    ("domain_rand.delay_range", 0, 1),
    ("domain_rand.payloads", -1e3, 1e3),
    ("domain_rand.punch_links", 0, 1e6),
    ("domain_rand.strength_range", 0.01, 100),
    ("domain_rand.*_interval_s", 0.01, 1e6),
    ("domain_rand.max_push_* domain_rand.max_*_bias", 0, 100),
    ("domain_rand.*_share domain_rand.mild_level", 0, 1),
    ("domain_rand.*_force_range", 0, 1e5),
    ("domain_rand.long_push_time_range domain_rand.punch_time", 0, 100),
    ("driven_joints.*share", 0, 1),
    ("driven_joints.motions", 0, 1e6),
    ("driven_joints.change_time", 0.01, 1e3),
    ("driven_joints.step driven_joints.reach", 0, 10),
    ("driven_joints.*_scale_range", 0, 100),
    ("rewards.scales.*", -1e6, 1e6),
    ("rewards.*sigma", 1e-9, 1e6),
    ("rewards.velocity_averaging", 1e-6, 1),
    ("rewards.base_height_target rewards.soft_dof_pos_limit rewards.air_time_target", 0, 1e3),
    ("rewards.shortest_swing", 1e-3, 1e3),
    ("rewards.early_landing", 0, 1),
    ("rewards.feet_clearance_target rewards.feet_distance_target rewards.standing_speed", 0, 1e3),
    ("rewards.forgiving_times rewards.reference_contact_height", 0, 1e3),
    ("rewards.joint_weights", 0, 1e3),
    ("normalization.clip_*", 1e-3, 1e6),
    ("normalization.obs_scales.*", 0, 1e6),
    ("noise.noise_level noise.noise_scales.*", 0, 1e3),
    ("viewer.pos viewer.lookat", -1e4, 1e4),
    ("sim.dt", 1e-5, 0.1),
    ("sim.substeps", 1, 100),
    ("sim.gravity", -1e3, 1e3),
    ("sim.up_axis", 0, 1),
    ("sim.mujoco.iterations", 1, 1000),
    ("sim.mujoco.contact_time_constant sim.mujoco.noslip_iterations", 0, 1000),
    ("sim.physx.num_threads", 0, MAX_THREADS),
    ("sim.physx.*", 0, 2**31 - 1),
    ("reference.standing_starts", 0, 1),
    ("reference.num_trajectories", 1, 2**22),
    ("reference.renewed_frames", 0, 100),
    ("reference.*_future_step*", 0, 1000),
)
TRAINING = (
    ("seed", 0, MAX_SEED),
    ("policy.*_noise_std", 1e-6, 100),
    ("policy.*_hidden_dims", 1, 16384),
    ("policy.last_layer_gain", 0, 100),
    ("policy.normalizer_warmup_steps", 0, 10**12),
    ("policy.least_scales", 0, 1e6),
    ("algorithm.critic_warm_up", 0, 10**9),
    ("algorithm.num_*", 1, 10**4),
    ("algorithm.learning_rate", 1e-12, 10),
    ("algorithm.gamma algorithm.lam", 0, 1),
    ("algorithm.clip_param", 1e-6, 10),
    ("algorithm.max_grad_norm", 1e-9, 1e9),
    ("algorithm.value_loss_coef algorithm.entropy_coef algorithm.desired_kl algorithm.smoothness_coef", 0, 1e3),
    ("evaluation.rollouts", 1, 10**6),
    ("evaluation.duration", 4, 1e4),
    ("runner.max_iterations", 1, MAX_ITERATIONS),
    ("runner.num_steps_per_env", 1, 10**5),
    ("runner.save_interval", 1, 10**9),
    ("runner.evaluation_interval", 0, 10**9),
    ("runner.averaging_interval", 0, 10**9),
)
# Fields of (lowest, highest), and fields of a certain number of entries.
_PAIRS = (
    *("commands.ranges.*", "commands.resampling_time", "domain_rand.*_range", "domain_rand.*_interval_s"),
    "driven_joints.*_range",
)
_LENGTHS = (
    *((pattern, 2) for pattern in (*_PAIRS, "commands.obeyed_within")),
    ("init_state.pos", 3),
    ("init_state.rot", 4),
    ("sim.gravity", 3),
    ("viewer.pos", 3),
    ("viewer.lookat", 3),
)


def check_bounds(config: BaseConfig) -> None:
    """Check every number of a configuration of an environment or of a training.

    Raises:
        ConfigError: One is not finite or makes no sense; the message names the field and says what does.
    """
    sections = {name for name, value in vars(config).items() if isinstance(value, BaseConfig)}
    bounds = ENVIRONMENT if "env" in sections else TRAINING
    for path, value in _fields(config, ""):
        check_field(path, value, bounds)
    if "sim" in sections and "control" in sections:
        _check_times(config)


def check_field(path: str, value: Any, bounds: Sequence[tuple[str, float, float]]) -> None:
    """Check the numbers of one field by `ENVIRONMENT` or `TRAINING`; raises what :func:`check_bounds` does."""
    low, high = bounds_of(path, bounds)
    for number in _numbers(value):
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"{path}: must be finite, got {number}")
        if not low <= number <= high:
            raise ConfigError(f"{path}: must be from {low:g} to {high:g}, got {shortened(number)}")
    if isinstance(value, (list, tuple)):
        _check_length(path, value)


def bounds_of(path: str, bounds: Sequence[tuple[str, float, float]]) -> tuple[float, float]:
    """Lowest and highest value of a field in a table of bounds."""
    for patterns, low, high in bounds:
        if any(fnmatchcase(path, pattern) for pattern in patterns.split()):
            return low, high
    return -math.inf, math.inf


def _fields(config: BaseConfig, path: str) -> Iterator[tuple[str, Any]]:
    """Paths and values of all fields."""
    for name in field_names(config):
        value, inner = getattr(config, name), f"{path}.{name}" if path else name
        if isinstance(value, BaseConfig):
            yield from _fields(value, inner)
        else:
            yield inner, value


def _numbers(value: Any) -> Iterator[float]:
    """The numbers in a value; switches are none."""
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from _numbers(entry)
    elif isinstance(value, dict):
        yield from _numbers(list(value.values()))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _check_length(path: str, value: Any) -> None:
    """Check what has to have a certain number of entries, and that ranges begin with their lowest value."""
    for pattern, length in _LENGTHS:
        if fnmatchcase(path, pattern) and len(value) != length:
            raise ConfigError(f"{path}: must have {length} numbers, got {shortened(value)}")
    if any(fnmatchcase(path, pattern) for pattern in _PAIRS) and value[0] > value[1]:
        raise ConfigError(f"{path}: must be (lowest, highest), got {shortened(value)}")


def _check_times(config: Any) -> None:
    """Check that a control step is short, and that episodes last at least one."""
    control_step = config.sim.dt * config.control.decimation
    if control_step > MAX_CONTROL_STEP:
        raise ConfigError(
            f"sim.dt times control.decimation, a control step, is {control_step:g} s: at most {MAX_CONTROL_STEP:g} s"
        )
    if config.env.episode_length_s < control_step:
        raise ConfigError(
            f"env.episode_length_s: must be at least a control step, {control_step:g} s, "
            f"got {config.env.episode_length_s:g}"
        )
