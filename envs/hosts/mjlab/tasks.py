"""The tasks `Mjlab-CMG-Flat-Unitree-G1` and `Mjlab-CMG-Rough-Unitree-G1`, which mjlab finds by its entry points.

They are mjlab's velocity tasks of the G1, driven, observed and told as in our own environment
(`configs/g1_cmg_config.py`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

from mjlab.actuator import BuiltinPositionActuatorCfg
from mjlab.asset_zoo.robots import get_g1_robot_cfg
from mjlab.entity import EntityArticulationInfoCfg, EntityCfg
from mjlab.envs import ManagerBasedRlEnvCfg, mdp
from mjlab.managers.observation_manager import ObservationGroupCfg, ObservationTermCfg
from mjlab.managers.reward_manager import RewardTermCfg
from mjlab.managers.termination_manager import TerminationTermCfg
from mjlab.rl import RslRlModelCfg, RslRlOnPolicyRunnerCfg, RslRlPpoAlgorithmCfg
from mjlab.tasks.registry import register_mjlab_task
from mjlab.tasks.tracking.mdp import motion_relative_body_orientation_error_exp
from mjlab.tasks.velocity.config.g1.env_cfgs import unitree_g1_flat_env_cfg, unitree_g1_rough_env_cfg

from cmg_ref.robots.robot import load_robot
from configs.base_config import class_to_dict, per_joint
from configs.g1_cmg_config import G1CMGCfg, G1CMGCfgPPO
from configs.g1_cmg_free_config import G1CMGFreeCfgPPO
from envs.hosts.mjlab import terms
from envs.hosts.mjlab.reference_command import CMGReferenceCommandCfg
from envs.hosts.mjlab.residual_action import ResidualActionCfg
from envs.hosts.mjlab.runner import ReferenceFollowerRunner
from envs.terms.commands import reference_term_cfg

# Rewards and critic's observations of mjlab's velocity task that say something about a robot with a reference too.
_KEPT_REWARDS = ("track_linear_velocity", "track_angular_velocity", "foot_slip", "self_collisions", "dof_pos_limits")
_KEPT_OBSERVATIONS = ("base_lin_vel", "height_scan", "foot_height", "foot_contact", "foot_contact_forces")


def g1_robot_cfg(cfg: Any, physics_dt: float, play: bool = False) -> EntityCfg:
    """The G1 of mjlab with the gains, torque limits, armature, delay and standing pose of one of our configurations."""
    robot = load_robot(cfg.asset.robot)
    names, control = robot.joint_names, cfg.control
    stiffness = per_joint(control.stiffness, names, "control.stiffness")
    damping = per_joint(control.damping, names, "control.damping")
    alike: dict[tuple[float, ...], list[str]] = defaultdict(list)
    limits = zip(robot.effort_limit.tolist(), robot.armature.tolist(), strict=True)
    for name, kp, kd, (limit, armature) in zip(names, stiffness, damping, limits, strict=True):
        alike[kp, kd, limit, armature].append(name)
    delays = cfg.domain_rand.delay_range if cfg.domain_rand.randomize_delay and not play else (0.0, 0.0)
    shortest, longest = (round(delay / physics_dt) for delay in delays)
    drives = tuple(
        BuiltinPositionActuatorCfg(
            target_names_expr=tuple(joints),
            stiffness=kp,
            damping=kd,
            effort_limit=limit,
            armature=armature,
            delay_min_lag=shortest,
            delay_max_lag=longest,
        )
        for (kp, kd, limit, armature), joints in alike.items()
    )
    entity = get_g1_robot_cfg()
    pose = dict(zip(names, robot.default_dof_pos.tolist(), strict=True))
    entity.init_state = EntityCfg.InitialStateCfg(pos=cfg.init_state.pos, joint_pos=pose)
    entity.articulation = EntityArticulationInfoCfg(drives, cfg.rewards.soft_dof_pos_limit)
    return entity


def make_env_cfg(rough: bool, play: bool = False, cfg: Any = None) -> ManagerBasedRlEnvCfg:
    """The environment.

    Args:
        rough: On mjlab's rough terrain, of which the critic alone has a scan.
        play: To look at or to measure: from standing, without noise, pushes and the end of episodes.
        cfg: The configuration of our own environment that it follows; `G1CMGCfg()` by default.
    """
    cfg = G1CMGCfg() if cfg is None else cfg
    env = unitree_g1_rough_env_cfg(play) if rough else unitree_g1_flat_env_cfg(play)
    env.scene.entities = {"robot": g1_robot_cfg(cfg, env.sim.mujoco.timestep, play)}
    init, reference = cfg.init_state, reference_term_cfg(cfg)
    env.commands = {
        terms.COMMAND: CMGReferenceCommandCfg(
            reference=replace(reference, mode="realtime") if play else reference,
            shows="velocity",
            standing=play,
            random_heading=init.random_yaw,
            joint_pos_noise=0.0 if play else init.dof_pos_noise,
            joint_vel_noise=0.0 if play else init.dof_vel_noise,
            lin_vel_noise=0.0 if play else init.lin_vel_noise,
            ang_vel_noise=0.0 if play else init.ang_vel_noise,
        )
    }
    names = load_robot(cfg.asset.robot).joint_names
    scales = per_joint(cfg.control.action_scale, names, "control.action_scale")
    scale = dict(zip(names, scales, strict=True))
    env.actions = {"joint_pos": ResidualActionCfg(scale=scale, command_name=terms.COMMAND)}

    actor = terms.actor_observations(cfg)
    ahead = reference.future_joint_steps.index(cfg.reference.actor_future_step)
    for name, term in actor.items():
        if terms.observed(name) == "reference_dof_change":
            term.params["column"] = ahead
    critic = {name: replace(term, noise=None) for name, term in terms.newest(actor).items()}
    critic["dof_pos_error"] = replace(critic["dof_pos_error"], params={})
    own = env.observations["critic"].terms
    critic.update({name: own[name] for name in _KEPT_OBSERVATIONS if name in own})
    critic["reference_window"] = ObservationTermCfg(func=terms.reference_window)
    critic["reference_root"] = ObservationTermCfg(func=terms.reference_root)
    env.observations = {
        "actor": ObservationGroupCfg(actor, enable_corruption=not play),
        "critic": ObservationGroupCfg(critic),
    }

    weights = cfg.rewards.scales
    env.rewards = {name: env.rewards[name] for name in _KEPT_REWARDS}
    for joints, weight, sigma in (
        ("joint_pos", weights.reference_dof_pos, cfg.rewards.dof_pos_sigma),
        ("joint_vel", weights.reference_dof_vel, cfg.rewards.dof_vel_sigma),
    ):
        env.rewards[joints] = RewardTermCfg(
            func=terms.joint_tracking, weight=weight, params={"joints": joints, "sigma": sigma}
        )
    env.rewards.update(
        body_ori=RewardTermCfg(
            func=motion_relative_body_orientation_error_exp,
            weight=0.5,
            params={"command_name": terms.COMMAND, "std": 0.4},
        ),
        action_rate=RewardTermCfg(func=mdp.action_rate_l2, weight=weights.action_rate),
        alive=RewardTermCfg(func=mdp.is_alive, weight=weights.alive),
        fall=RewardTermCfg(func=mdp.is_terminated, weight=weights.termination),
    )
    env.terminations["fell_over"] = TerminationTermCfg(
        func=mdp.bad_orientation, params={"limit_angle": cfg.termination.tilt}
    )
    if not rough:
        env.terminations["sank"] = TerminationTermCfg(
            func=mdp.root_height_below_minimum, params={"minimum_height": cfg.termination.base_height}
        )
    # The command term puts robots on their reference, and draws commands where they fail.
    for name in ("reset_base", "reset_robot_joints"):
        del env.events[name]
    env.curriculum.pop("command_vel", None)
    return env


def make_rl_cfg(cfg: Any = None) -> RslRlOnPolicyRunnerCfg:
    """PPO with the settings of our own training, as far as rsl_rl alone has them.

    Args:
        cfg: Those settings; `G1CMGCfgPPO()` by default, with networks as wide as those of the shipped policy.
    """
    if cfg is None:
        cfg, free = G1CMGCfgPPO(), G1CMGFreeCfgPPO.policy
        cfg.policy.actor_hidden_dims, cfg.policy.critic_hidden_dims = free.actor_hidden_dims, free.critic_hidden_dims
    policy, algorithm = cfg.policy, cfg.algorithm
    noise = {"class_name": "GaussianDistribution", "init_std": policy.init_noise_std, "std_type": "scalar"}
    shared: dict[str, Any] = {"activation": policy.activation, "obs_normalization": policy.obs_normalization}
    known = RslRlPpoAlgorithmCfg.__dataclass_fields__
    return RslRlOnPolicyRunnerCfg(
        actor=RslRlModelCfg(hidden_dims=tuple(policy.actor_hidden_dims), distribution_cfg=noise, **shared),
        critic=RslRlModelCfg(hidden_dims=tuple(policy.critic_hidden_dims), **shared),
        algorithm=RslRlPpoAlgorithmCfg(
            **{name: value for name, value in class_to_dict(algorithm).items() if name in known}
        ),
        experiment_name=cfg.runner.experiment_name,
        save_interval=500,
        num_steps_per_env=cfg.runner.num_steps_per_env,
        max_iterations=cfg.runner.max_iterations,
        clip_actions=G1CMGCfg().normalization.clip_actions,
        logger="tensorboard",
    )


for _name, _rough in (("Flat", False), ("Rough", True)):
    register_mjlab_task(
        task_id=f"Mjlab-CMG-{_name}-Unitree-G1",
        env_cfg=make_env_cfg(_rough),
        play_env_cfg=make_env_cfg(_rough, play=True),
        rl_cfg=make_rl_cfg(),
        runner_cls=ReferenceFollowerRunner,
    )
