"""A legged robot that obeys velocity commands, in the shape that users of legged_gym know."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from cmg_ref.core.backends import call_loop
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.reference_motion_term import ReferenceMotionTerm
from cmg_ref.rl.observations import running_average
from cmg_ref.trajectories.argument_checks import EnvIds, Values, as_tensor, checked_env_ids
from configs.base_config import check_fields
from configs.legged_robot_config import LeggedRobotCfg
from envs.base.curriculum import Curriculum
from envs.base.legged_robot_state import LONG_AGO
from envs.base.legged_robot_terms import LeggedRobotTerms
from envs.terms.observations import ObservationTerms
from envs.terms.rewards import LAST_DOF_VEL, RewardTerms


class LeggedRobot(LeggedRobotTerms):
    """Actions move the joints' targets around the standing pose.

    Environments are named by indices (n,), each once, or by a mask (num_envs,), bool or uint8; these and all numbers
    may be tensors, arrays or lists, and what does not fit is refused with the argument's name. Gradients end here. An
    environment cannot be copied or pickled: `state_dict` is what resuming needs.

    Args:
        cfg: Configuration of the task.
        sim_params: Parameters of the simulation.
        physics_engine: `gymapi.SIM_PHYSX`.
        sim_device: Device such as `cpu` or `cuda:0`.
        headless: Whether to go without a viewer.

    Attributes:
        reward_terms: The rewards in use, and their sums.
        observations: Builds the observations of actor and critic.
        observation_layout: What these are made of, by group.
        curriculum: The stage of training.

    Raises:
        ConfigError: If a field of the configuration is unknown or its value does not fit.
    """

    config_class: type = LeggedRobotCfg
    """The configuration whose fields are read; a derived environment with fields of its own names its own."""
    reference: ReferenceMotionTerm | None = None
    """The reference motion that robots follow; None for a task without one."""
    action_meaning: str = "joint target = default_dof_pos + action_scale * action"
    """How a joint target comes from an action, in one sentence; policies of another one are refused."""

    @with_torch_defaults
    def __init__(self, cfg: Any, sim_params: Any, physics_engine: Any, sim_device: str, headless: bool) -> None:
        check_fields(cfg, self.config_class(), free=("rewards.scales",))
        super().__init__(cfg, sim_params, physics_engine, sim_device, headless)
        self.max_episode_length_s = cfg.env.episode_length_s
        self.max_episode_length = math.ceil(self.max_episode_length_s / self.dt)
        self.num_actions = self.num_dof
        self._init_buffers()
        self._prepare_observations()
        self._apply_curriculum()
        self.reset()

    # Time -------------------------------------------------------------------------------------------------------------

    @with_torch_defaults
    def reset(self) -> tuple[Tensor, Tensor]:
        """Begin a new episode in every environment; returns the observations of actor and critic."""
        self.reset_idx(torch.arange(self.num_envs, device=self.device))
        self.compute_observations()
        return self.obs_buf, self.privileged_obs_buf

    @with_torch_defaults
    def step(self, actions: Values) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Let a control step pass.

        Args:
            actions: (num_envs, num_actions); held within `normalization.clip_actions`.

        Returns:
            `obs_buf`, `privileged_obs_buf`, `rew_buf`, `reset_buf` and `extras`, which later steps leave alone.

        Raises:
            ValueError: If actions have another shape or hold NaN.
        """
        actions = as_tensor(actions, "actions").detach()
        self._check_actions(actions)
        self._take_written_commands()
        limit = self.cfg.normalization.clip_actions
        self.actions = actions.to(self.device, torch.float32).clamp(-limit, limit)
        self.render()
        self._simulate(self.driven_joints(self._joint_targets(self.actions)))
        self.post_physics_step()
        return self.obs_buf, self.privileged_obs_buf, self.rew_buf, self.reset_buf, self.extras

    def post_physics_step(self) -> None:
        """After the physics: commands, terminations, rewards, resets, pushes, observations."""
        # rsl_rl replaces the buffer by one of its own to begin with episodes of all ages.
        self.episode_length_buf += 1
        self.common_step_counter += 1
        self._update_base_state(None)
        rate = self.cfg.rewards.velocity_averaging
        self.average_velocity = running_average(self.average_velocity, self._velocity_and_yaw_rate, rate)
        self._update_feet()
        self._update_commands()
        self.steps_since_hit = (self.steps_since_hit + 1).masked_fill_(self.punches.hit, 0)
        self.check_termination()
        self.compute_reward()
        self._report_obedience()
        if self.curriculum.step(self.fallen):
            self._apply_curriculum()
        env_ids = self.reset_buf.nonzero().squeeze(1)
        self._end_episodes(env_ids)
        self.reset_idx(env_ids)
        self._push_robots()
        self.compute_observations()
        self.last_actions = self.actions
        if LAST_DOF_VEL in self.reward_terms.needed:
            self.last_dof_vel = self.dof_vel.clone()

    def check_termination(self) -> None:
        """Set `reset_buf`, `time_out_buf`, and `termination_causes` by name, (num_envs,) bool each."""
        cfg = self.cfg.termination
        self.diverged = self._find_diverged()
        self.termination_causes = {
            "base_height": self.base_height < cfg.base_height,
            "tilt": self.projected_gravity[:, 2] > -math.cos(cfg.tilt),
            "diverged": self.diverged,
            **self._further_causes(),
        }
        self.fallen = functools.reduce(operator.or_, self.termination_causes.values())
        self.time_out_buf = (self.episode_length_buf >= self.max_episode_length) & ~self.fallen
        self.reset_buf = self.fallen | self.time_out_buf
        if self.cfg.env.send_timeouts:
            self.extras["time_outs"] = self.time_out_buf

    def _find_diverged(self) -> Tensor:
        """Robots that move faster than they ever should, or are not numbers any more, (num_envs,) bool."""
        cfg = self.cfg.termination
        if self._numba:
            found = torch.empty_like(self.diverged)
            fastest_dof, fastest_base = np.float32(cfg.max_dof_vel), np.float32(cfg.max_base_vel)
            call_loop(self._loops.diverged, self.dof_vel, self.root_states, fastest_dof, fastest_base, found)
            return found
        fastest = self.root_states[:, 7:10].abs().amax(dim=1)
        # NaN compares false, hence the negation.
        return ~((self.dof_vel.abs().amax(dim=1) < cfg.max_dof_vel) & (fastest < cfg.max_base_vel))

    def _further_causes(self) -> dict[str, Tensor]:
        """Causes by name that a derived environment adds, (num_envs,) bool each."""
        return {}

    @with_torch_defaults
    def reset_idx(self, env_ids: EnvIds) -> None:
        """Begin new episodes in environments (n,); all others are left as they are.

        States reach the simulator at the next step; the attributes here have them at once.
        """
        env_ids = checked_env_ids(env_ids, self.num_envs, self.device)
        if len(env_ids) == 0:
            return
        self._take_written_commands()
        self._reset_commands(env_ids)
        self._reset_states(env_ids)
        self._root_changed[env_ids] = True
        self._dof_changed[env_ids] = True
        self._update_base_state(env_ids)
        self.average_velocity[env_ids] = self._velocity_and_yaw_rate[env_ids]
        self._hold_targets(env_ids)
        self.pushes.reset(env_ids)
        self.punches.reset(env_ids)
        self.driven_joints.reset(env_ids, self.dof_pos[env_ids])
        self.steps_since_hit[env_ids] = LONG_AGO
        self.actions[env_ids] = 0.0
        self.last_actions[env_ids] = 0.0
        self.last_dof_vel[env_ids] = self.dof_vel[env_ids]
        self.feet.reset(env_ids)
        self.episode_length_buf[env_ids] = 0
        self.asked_distance[env_ids] = 0.0
        self.episode_sums[:, env_ids] = 0.0
        self.observations.begin(env_ids)

    def _end_episodes(self, env_ids: Tensor) -> None:
        """Log episodes (n,) that end now, and learn from how they ended."""
        self.extras.pop("episode", None)
        if len(env_ids) == 0:
            return
        log = self.extras["episode"] = {}
        sums = self.episode_sums[:, env_ids].mean(dim=1) / self.max_episode_length_s
        log.update({f"rew_{name}": value for name, value in zip(self.reward_names, sums.unbind())})
        log.update(
            {f"ended_{cause}": value[env_ids].float().mean() for cause, value in self.termination_causes.items()}
        )
        log["ended_time_out"] = self.time_out_buf[env_ids].float().mean()
        log["seconds"] = self.episode_length_buf[env_ids].float().mean() * self.dt
        if len(self.cfg.curriculum.stages) > 1:
            log["curriculum_stage"] = torch.tensor(float(self.curriculum.stage))
        self.command_source.report_failures(env_ids[self.fallen[env_ids]])
        if self.terrain is not None:
            log["terrain_level"] = self.terrain.levels.float().mean()
            self.terrain.update_levels(env_ids, self.root_states[env_ids, :3], self.asked_distance[env_ids])

    # Actions ----------------------------------------------------------------------------------------------------------

    def _check_actions(self, actions: Tensor) -> None:
        if tuple(actions.shape) != (self.num_envs, self.num_actions):
            expected = (self.num_envs, self.num_actions)
            raise ValueError(f"actions must have shape {expected}, got {tuple(actions.shape)}")
        # A sum is NaN if anything in it is, and quick; infinite actions are held within their limits.
        if math.isnan(float(actions.sum())) and bool(torch.isnan(actions).any()):
            env_id, index = torch.isnan(actions).nonzero()[0].tolist()
            raise ValueError(f"actions hold NaN: environment {env_id}, action {index} ({self.dof_names[index]})")

    def _joint_targets(self, actions: Tensor) -> Tensor:
        """Joint targets in rad, (num_envs, num_dof), from clipped actions."""
        return torch.addcmul(self.default_dof_pos, actions, self.action_scale)

    def mirror_actions(self, actions: Tensor) -> Tensor:
        """Actions (..., num_actions) of the robot seen in a mirror."""
        return actions[..., self.mirror_joint_index.to(actions.device)] * self.mirror_joint_sign.to(actions)

    # Buffers and terms ------------------------------------------------------------------------------------------------

    def _init_buffers(self) -> None:
        """Make the state, the commands and the buffers of the environment."""
        num_envs, device = self.num_envs, self.device
        self.reward_terms = RewardTerms(self, self.cfg.rewards, self.dt, num_envs, device)
        self._init_state()
        self.common_step_counter = 0
        self.curriculum = Curriculum(self.cfg.curriculum, num_envs, self.dt, self.max_episode_length_s, device)
        self._init_commands()

    def _prepare_observations(self) -> None:
        """Look up what is observed; raises ConfigError if a term is unknown."""
        joints = (self.mirror_joint_index, self.mirror_joint_sign)
        terms = self.observation_terms()
        self.observations = ObservationTerms(self, terms, self.cfg, joints, self.num_envs, self.generator)
        self.observation_layout = self.observations.layout
        self.num_obs, self.num_privileged_obs = self.observations.num_policy, self.observations.num_critic

    def _set_biases(self) -> None:
        """Let the sensors be off by what they are off by now."""
        biases = {"base_ang_vel": self.randomisation.ang_vel_bias, "projected_gravity": self.randomisation.gravity_bias}
        self.observations.set_biases(biases)

    def compute_reward(self) -> None:
        """Set `rew_buf` to the sum of all rewards and add them to the sums of the episodes."""
        # Several rewards are made of these.
        self._measure_obedience()
        # A diverged simulation's state means nothing.
        self.rew_buf = self.reward_terms(self.diverged, self.steps_since_hit)

    @property
    def reward_names(self) -> list[str]:
        """Rewards in use."""
        return self.reward_terms.names

    @property
    def episode_sums(self) -> Tensor:
        """Their sums since each episode began, (num_rewards, num_envs)."""
        return self.reward_terms.episode_sums

    def compute_observations(self) -> None:
        """Set `obs_buf`, `privileged_obs_buf` and `extras["observations"]` to new tensors."""
        self._take_observations(self.observations.observe(self.curriculum.shares.randomisation))

    def _take_observations(self, observations: tuple[Tensor, Tensor]) -> None:
        self._commands_changed = False
        self.obs_buf, self.privileged_obs_buf = observations
        self.extras["observations"] = {"policy": self.obs_buf, "critic": self.privileged_obs_buf}

    @with_torch_defaults
    def get_observations(self) -> Tensor:
        """Observations of the actor, (num_envs, num_obs), of the commands as they are given by now."""
        return self.observation_groups()["policy"]

    @with_torch_defaults
    def get_privileged_observations(self) -> Tensor:
        """Observations of the critic, (num_envs, num_privileged_obs), of the commands as they are given by now."""
        return self.observation_groups()["critic"]

    @with_torch_defaults
    def observation_groups(self) -> dict[str, Tensor]:
        """Observations by group: `policy` (num_envs, num_obs), `critic` (num_envs, num_privileged_obs)."""
        self._take_written_commands()
        if self._commands_changed:
            self._observe_now()
        return {"policy": self.obs_buf, "critic": self.privileged_obs_buf}

    def _observe_now(self) -> None:
        """Observe the present state once more, with the noise and history it has been observed with already."""
        self._take_observations(self.observations.observe_again(self.curriculum.shares.randomisation))

    def mirror_observations(self, observations: Tensor, group: str) -> Tensor:
        """Observations of a group (..., size) of the robot seen in a mirror."""
        return self.observations.mirrored(observations, group)

    # Disturbances -----------------------------------------------------------------------------------------------------

    def _push_robots(self) -> None:
        """Push the robots whose time has come, as hard as the curriculum lets them be."""
        if self.cfg.domain_rand.push_robots and self.curriculum.shares.pushes > 0.0:
            env_ids, velocity = self.pushes.step()
            if len(env_ids) > 0:
                self.push(env_ids, self.curriculum.shares.pushes * velocity)

    @property
    def _disturbance_level(self) -> float:
        """Share of the strength of punches in use: that of pushes."""
        return self.curriculum.shares.pushes

    def change_robots(self, env_ids: Tensor, **values: Tensor) -> None:
        """Let robots of environments (n,), and their sensors, differ in another way, see `SimulatedRobot`."""
        super().change_robots(env_ids, **values)
        self._set_biases()

    def _apply_curriculum(self) -> None:
        """Take over the present stage."""
        self.command_sampler.level = self.curriculum.shares.commands
        self._randomise(self.curriculum.shares.randomisation)
        self._set_biases()
        self.reward_terms.set_refinement(self.curriculum.shares.refinement)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: make another and load its state_dict")

    # Resuming ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What resuming a training needs; episodes begin anew."""
        state = {
            "steps": self.common_step_counter,
            "generator": self.generator.get_state(),
            "curriculum": self.curriculum.state_dict(),
            "command_sampler": self.command_sampler.state_dict(),
        }
        return state if self.terrain is None else {**state, "terrain": self.terrain.state_dict()}

    @with_torch_defaults
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, and begin new episodes."""
        self.common_step_counter = int(state["steps"])
        self.generator.set_state(state["generator"].cpu())
        self.curriculum.load_state_dict(state["curriculum"])
        self.command_sampler.load_state_dict(state["command_sampler"])
        if self.terrain is not None:
            self.terrain.load_state_dict(state["terrain"])
        self._apply_curriculum()
        self.reset()
