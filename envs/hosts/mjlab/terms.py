"""Observations and rewards of a robot that follows a reference, as functions that mjlab's managers call.

What the actor sees is chosen by the names of our own environment's observations, so that policies pass between both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from mjlab.envs import mdp
from mjlab.managers.observation_manager import ObservationTermCfg
from mjlab.utils.noise import UniformNoiseCfg
from torch import Tensor

from cmg_ref.core.rotations import in_heading, projected_gravity
from cmg_ref.rl import rewards
from cmg_ref.rl.observations import joint_changes
from configs.base_config import ConfigError, suggestion

COMMAND = "twist"


def dof_pos_error(env: Any, biased: bool = False) -> Tensor:
    """Joint angles minus the reference's [rad], (num_envs, num_joints); as encoders with a bias measure them."""
    term = env.command_manager.get_term(COMMAND)
    measured = term.robot.data.joint_pos_biased if biased else term.robot.data.joint_pos
    return measured - term.reference.dof_pos


def reference_dof_pos(env: Any) -> Tensor:
    """Joint angles of the reference at the coming step minus the default pose [rad], (num_envs, num_joints)."""
    term = env.command_manager.get_term(COMMAND)
    return term.joint_pos - term.robot.data.default_joint_pos


def reference_dof_change(env: Any, column: int = 0) -> Tensor:
    """How its angles change from then to a later step [rad], (num_envs, num_joints)."""
    term = env.command_manager.get_term(COMMAND)
    return term.reference.future_dof_pos[:, column] - term.joint_pos


def reference_window(env: Any) -> Tensor:
    """How its angles change from then to all later steps that are read [rad], (num_envs, num_steps * num_joints)."""
    term = env.command_manager.get_term(COMMAND)
    return joint_changes(term.joint_pos, term.reference.future_dof_pos)


def reference_root(env: Any) -> Tensor:
    """Velocity in its heading frame, yaw rate, height and direction of gravity of its root, (num_envs, 8)."""
    reference = env.command_manager.get_term(COMMAND).reference
    quat = reference.root_quat_w
    velocity = in_heading(quat, reference.root_lin_vel_w)
    rest = (reference.root_ang_vel_w[:, 2:], reference.root_pos_w[:, 2:], projected_gravity(quat))
    return torch.cat((velocity, *rest), dim=1)


def joint_tracking(env: Any, joints: str, sigma: float) -> Tensor:
    """Joint angles ("joint_pos") or velocities ("joint_vel") against the reference, (num_envs,)."""
    term = env.command_manager.get_term(COMMAND)
    measured, wanted = getattr(term, f"robot_{joints}"), getattr(term, joints)
    return rewards.joint_position_tracking(measured, wanted, torch.ones_like(wanted[0]), sigma)


# Function, its arguments, the kind whose scale and noise the configuration names, and whether a sensor measures it.
_OBSERVATIONS: dict[str, tuple[Any, dict[str, Any], str, bool]] = {
    "base_ang_vel": (mdp.base_ang_vel, {}, "ang_vel", True),
    "projected_gravity": (mdp.projected_gravity, {}, "gravity", True),
    "dof_pos": (mdp.joint_pos_rel, {"biased": True}, "dof_pos", True),
    "dof_pos_error": (dof_pos_error, {"biased": True}, "dof_pos", True),
    "dof_vel": (mdp.joint_vel_rel, {}, "dof_vel", True),
    "commands": (mdp.generated_commands, {"command_name": COMMAND}, "command", False),
    "reference_dof_pos": (reference_dof_pos, {}, "dof_pos", False),
    "reference_dof_change": (reference_dof_change, {}, "dof_pos", False),
    "last_action": (mdp.last_action, {}, "action", False),
}
_PAST = "_past_"  # ends the name of a past observation, before by how many steps it is late


def actor_observations(cfg: Any) -> dict[str, ObservationTermCfg]:
    """The actor's observations of one of our configurations, in their order, scaled, noisy and clipped as there.

    Past ones come first, each as a term of its own that is late by a constant number of steps, see :func:`newest`.

    Raises:
        ConfigError: There is no observation of that name here.
    """
    terms = {}
    limit, noise_level = cfg.normalization.clip_observations, cfg.noise.noise_level * cfg.noise.add_noise
    for name in cfg.observations.policy:
        if name not in _OBSERVATIONS:
            raise ConfigError(f"observations.policy: mjlab has no '{name}'{suggestion(name, _OBSERVATIONS)}")
        function, arguments, kind, measured = _OBSERVATIONS[name]
        scale = getattr(cfg.normalization.obs_scales, kind)
        largest = noise_level * getattr(cfg.noise.noise_scales, kind) if measured else 0.0
        terms[name] = ObservationTermCfg(
            func=function,
            params=dict(arguments),
            noise=UniformNoiseCfg(n_min=-largest, n_max=largest) if largest else None,
            clip=(-limit / scale, limit / scale),  # mjlab clips before it scales
            scale=scale,
        )
    past = {
        f"{name}{_PAST}{lag}": replace(term, params=dict(term.params), delay_min_lag=lag, delay_max_lag=lag)
        for lag in range(cfg.env.history_length - 1, 0, -1)
        for name, term in terms.items()
    }
    return {**past, **terms}


def observed(name: str) -> str:
    """Our name for what a term of the actor observes, now or in the past."""
    return name.partition(_PAST)[0]


def newest(actor: dict[str, ObservationTermCfg]) -> dict[str, ObservationTermCfg]:
    """Those of the actor's observations that are of now."""
    return {name: term for name, term in actor.items() if _PAST not in name}
