"""A robot that follows a reference motion: an action is a correction, and zero follows the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Callable

import torch
from torch import Tensor

from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY, CommandLayout
from cmg_ref.core.rotations import quat_from_yaw, yaw_from_quat
from cmg_ref.reference_motion_term import ReferenceMotionTerm
from cmg_ref.rl import rewards
from cmg_ref.rl.actions import ACTION_MEANING, reference_targets, velocity_lead
from cmg_ref.rl.observations import body_positions_in_heading, joint_changes, running_average
from configs.base_config import ConfigError, suggestion
from configs.reference_follower_config import ReferenceFollowerCfg
from envs.base.legged_robot import LeggedRobot
from envs.terms.commands import CommandSource, reference_term_cfg
from envs.terms.observations import ObservationTerm
from envs.terms.rewards import AIR_TIME, FEET_MOTION, needs

STARTS = ("random", "standing")


class ReferenceCommands(CommandSource):
    """The commands that a reference motion follows.

    Args:
        reference: The reference motion.
        places: Where the references of environments (n,) begin: x, y, heading, (n, 3).
        standing: Whether all of them begin from standing.
    """

    def __init__(
        self,
        reference: ReferenceMotionTerm,
        places: Callable[[Tensor], Tensor],
        standing: bool,
    ) -> None:
        self._reference, self._places, self._standing = reference, places, standing
        self.sampler = reference.sampler

    @property
    def commands(self) -> Tensor:
        """Commands in force, (num_envs, command_dim)."""
        return self._reference.commands

    @property
    def targets(self) -> Tensor:
        """Commands that those in force ramp to, (num_envs, command_dim)."""
        return self._reference.target_commands

    def reset(self, env_ids: Tensor) -> None:
        """Begin new references for environments (n,)."""
        self._reference.reset(env_ids, root_pose=self._places(env_ids), standing=self._standing)

    def step(self) -> None:
        """Let a control step pass."""
        self._reference.step()

    def approach(self, commands: Tensor, env_ids: Tensor) -> None:
        """Approach commands (n, command_dim) in environments (n,) until their next reset."""
        self._reference.set_commands(commands, env_ids)

    def report_failures(self, env_ids: Tensor) -> None:
        """Learn in which environments (n,) commands have just failed."""
        self._reference.report_failures(env_ids)

    def report_successes(self) -> None:
        """Nothing to do: the term itself counts every second that a robot gets through."""


class ReferenceFollower(LeggedRobot):
    """Joint targets are those of the reference at the next step, plus scaled actions.

    Attributes:
        reference: The reference motion, with the commands.
        reference_lin_vel_h: Velocity of the reference's root in its heading frame in m/s, (num_envs, 3).
        reference_gravity: Direction of gravity in the frame of the reference's root, (num_envs, 3).
    """

    config_class: type = ReferenceFollowerCfg
    reference: ReferenceMotionTerm
    action_meaning = ACTION_MEANING

    @property
    def term(self) -> ReferenceMotionTerm:
        """`reference` by the name of earlier releases, for code of users."""
        return self.reference

    # The reference ----------------------------------------------------------------------------------------------------

    def _make_command_source(self) -> CommandSource:
        """Make the reference motion, whose commands are the environment's."""
        cfg = self.cfg.reference
        if cfg.start not in STARTS:
            raise ConfigError(f"reference.start: there is no '{cfg.start}'{suggestion(cfg.start, STARTS)}")
        term_cfg = reference_term_cfg(self.cfg)
        pool = replace(term_cfg.pool, regenerate_frames_per_step=math.ceil(cfg.renewed_frames * self.num_envs))
        term_cfg = replace(term_cfg, pool=pool)
        self._future_steps = term_cfg.future_joint_steps
        columns = [self._future_steps.index(step) for step in cfg.critic_future_steps]
        first, end = min(columns, default=0), max(columns, default=-1) + 1
        # Steps that lie side by side are read without a copy.
        self._window: slice | list[int] = slice(first, end) if columns == list(range(first, end)) else columns
        self.reference = ReferenceMotionTerm(
            term_cfg, self.num_envs, self.dt, self.dof_names, self.device, self.robot, self.cfg.seed
        )
        self._velocity_lead = velocity_lead(self.nominal_p_gains, self.nominal_d_gains)
        self._joint_weights = self.per_joint(self.cfg.rewards.joint_weights, "rewards.joint_weights")
        self.average_reference_vel = torch.zeros(self.num_envs, 3, device=self.device)
        self._landed_early = torch.zeros(self.num_envs, 2, dtype=torch.bool, device=self.device)
        standing = cfg.start == "standing"
        return ReferenceCommands(self.reference, self._starting_places, standing)

    def _starting_places(self, env_ids: Tensor) -> Tensor:
        """Where the references of environments (n,) begin: x, y, heading, (n, 3)."""
        heading = math.pi * self._uniform(len(env_ids))
        return torch.cat((self.env_origins[env_ids, :2], heading.unsqueeze(1)), dim=1)

    def _reset_commands(self, env_ids: Tensor) -> None:
        """Begin new reference motions where the environments (n,) stand."""
        super()._reset_commands(env_ids)
        self.average_reference_vel[env_ids] = self.reference_lin_vel_h[env_ids]
        self._landed_early[env_ids] = False

    def _update_commands(self) -> None:
        """Let a control step pass for the reference."""
        super()._update_commands()
        rate = self.cfg.rewards.velocity_averaging
        self.average_reference_vel = running_average(self.average_reference_vel, self.reference_lin_vel_h, rate)

    def _approach_commands(self, commands: Tensor, env_ids: Tensor) -> None:
        """Let the reference of environments (n,) go on from the frame it is in towards commands (n, command_dim)."""
        super()._approach_commands(commands, env_ids)
        self._show_commands()

    def _show_commands(self) -> None:
        """Take over the commands that are in force now, and what the reference shows."""
        super()._show_commands()
        self._read_reference()

    def _read_reference(self) -> None:
        """Take over what the reference shows now."""
        following = self.reference.future()  # the next step, fields of (num_envs, 1, ...)
        self._next_dof_pos, self._next_dof_vel = following.dof_pos[:, 0], following.dof_vel[:, 0]
        self.reference_lin_vel_h, self.reference_gravity = self._base_motion.velocity_and_gravity(
            self.reference.root_quat_w, self.reference.root_lin_vel_w
        )

    def _reset_states(self, env_ids: Tensor) -> None:
        """Put robots (n,) on their reference, with a little noise."""
        init, count = self.cfg.init_state, len(env_ids)
        dof_pos, dof_vel, root_states = self.reference.initial_state(env_ids)
        # Where the reference sinks its feet into the floor, the robot begins that much higher.
        soles = self.feet.places(self.in_description_order(dof_pos), root_states[:, :3], root_states[:, 3:7])[1]
        root_states[:, 2] += self.ground_height(root_states[:, :2]) + (-soles.amin(dim=1)).clamp(min=0.0)
        root_states[:, 7:10] += init.lin_vel_noise * self._uniform(count, 3)
        root_states[:, 10:13] += init.ang_vel_noise * self._uniform(count, 3)
        self.root_states[env_ids] = root_states
        self.dof_pos[env_ids] = dof_pos + init.dof_pos_noise * self._uniform(count, self.num_dof)
        self.dof_vel[env_ids] = dof_vel + init.dof_vel_noise * self._uniform(count, self.num_dof)
        if init.default_pose_share > 0.0:
            drawn = torch.rand(count, generator=self.generator, device=self.device) < init.default_pose_share
            self._put_into_default_pose(env_ids[drawn])

    def start_in_default_pose(self, env_ids: Tensor) -> None:
        """Put robots (n,) that have just begun an episode into the standing pose, off their reference."""
        self._put_into_default_pose(env_ids)
        self._root_changed[env_ids] = True
        self._dof_changed[env_ids] = True
        self._update_base_state(env_ids)
        self._hold_targets(env_ids)

    def _put_into_default_pose(self, env_ids: Tensor) -> None:
        """Stand robots (n,) on the ground in the pose of `init_state` where their references begin."""
        _, _, root = self.reference.initial_state(env_ids)
        root[:, 3:7] = quat_from_yaw(yaw_from_quat(root[:, 3:7]))
        root[:, 7:13] = 0.0
        pose = self.default_dof_pos.repeat(len(env_ids), 1)
        ground = self.ground_height(root[:, :2])
        root[:, 2] = 0.0
        root[:, 2] = ground - self.feet.places(self.in_description_order(pose), root[:, :3], root[:, 3:7])[1].amin(
            dim=1
        )
        self.root_states[env_ids], self.dof_pos[env_ids], self.dof_vel[env_ids] = root, pose, 0.0

    def _joint_targets(self, actions: Tensor) -> Tensor:
        """Joint targets in rad, (num_envs, num_dof), from clipped actions."""
        followed = reference_targets(self._next_dof_pos, self._next_dof_vel, self._velocity_lead)
        return followed.addcmul_(actions, self.action_scale)

    def _further_causes(self) -> dict[str, Tensor]:
        """Far off the reference a fall is a matter of time, and nothing is learnt from waiting for it."""
        largest = self.cfg.termination.reference_tilt
        if largest is None:
            return {}
        cosine = (self.projected_gravity * self.reference_gravity).sum(dim=1)
        return {"reference_tilt": cosine < math.cos(largest)}

    def _reference_feet(self) -> tuple[Tensor, Tensor]:
        """Where the feet of the reference are in the world, (num_envs, 2, 3), and its soles' heights, (num_envs, 2)."""
        term = self.reference
        return self.feet.places(self.in_description_order(term.dof_pos), term.root_pos_w, term.root_quat_w)

    def reference_feet_heights(self) -> Tensor:
        """Heights of the soles of the reference above the ground in metres, (num_envs, 2)."""
        return self._reference_feet()[1]

    def reference_contacts(self) -> Tensor:
        """Whether each foot of the reference is on the ground, (num_envs, 2) bool."""
        # The reference's feet are a few millimetres off the ground, and are lifted by as little as three centimetres.
        heights, least = self.reference_feet_heights(), self.cfg.rewards.reference_contact_height
        return heights < heights.amin(dim=1, keepdim=True).clamp(max=2.0 * least) + least

    # Observations -----------------------------------------------------------------------------------------------------

    def observation_terms(self) -> list[ObservationTerm]:
        """All terms that can be observed; each is computed by `_observe_<name>`."""
        scale, noise, num_dof = self.cfg.normalization.obs_scales, self.cfg.noise.noise_scales, self.num_dof
        window = len(self.cfg.reference.critic_future_steps) * num_dof
        inherited = [term for term in super().observation_terms() if term.name != "commands"]
        return [
            *inherited,
            # What else there is to a command, such as the height, shows in the reference.
            ObservationTerm("commands", NUM_VELOCITIES, scale.command, CommandLayout().mirror),
            ObservationTerm("dof_pos_error", num_dof, scale.dof_pos, "joints", noise.dof_pos),
            ObservationTerm("reference_dof_pos", num_dof, scale.dof_pos, "joints"),
            ObservationTerm("reference_dof_change", num_dof, scale.dof_pos, "joints"),
            ObservationTerm("reference_window", window, scale.dof_pos, "joints"),
            ObservationTerm("reference_lin_vel", 3, scale.lin_vel, "polar"),
            ObservationTerm("reference_yaw_rate", 1, scale.ang_vel, "odd"),
            ObservationTerm("reference_height", 1, scale.height, "scalar"),
            ObservationTerm("reference_gravity", 3, scale.gravity, "polar"),
        ]

    def _observe_commands(self) -> Tensor:
        return self.commands[:, VELOCITY]

    def _observe_dof_pos_error(self) -> Tensor:
        return self.dof_pos - self.reference.dof_pos

    def _observe_reference_dof_pos(self) -> Tensor:
        return self._next_dof_pos - self.default_dof_pos

    def _observe_reference_dof_change(self) -> Tensor:
        column = self._future_steps.index(self.cfg.reference.actor_future_step)
        return self.reference.future_dof_pos[:, column] - self._next_dof_pos

    def _observe_reference_window(self) -> Tensor:
        return joint_changes(self._next_dof_pos, self.reference.future_dof_pos[:, self._window])

    def _observe_reference_lin_vel(self) -> Tensor:
        return self.reference_lin_vel_h

    def _observe_reference_yaw_rate(self) -> Tensor:
        return self.reference.root_ang_vel_w[:, 2:]

    def _observe_reference_height(self) -> Tensor:
        return self.reference.root_pos_w[:, 2:]

    def _observe_reference_gravity(self) -> Tensor:
        return self.reference_gravity

    # Rewards, (num_envs,) ---------------------------------------------------------------------------------------------

    def _reward_reference_dof_pos(self) -> Tensor:
        """Joint angles against the reference."""
        return rewards.joint_position_tracking(
            self.dof_pos,
            self.reference.dof_pos,
            self.driven_joints.without(self._joint_weights),
            self.cfg.rewards.dof_pos_sigma,
        )

    def _reward_reference_dof_vel(self) -> Tensor:
        """Joint velocities against the reference."""
        return rewards.joint_velocity_tracking(
            self.dof_vel,
            self.reference.dof_vel,
            self.driven_joints.without(self._joint_weights),
            self.cfg.rewards.dof_vel_sigma,
        )

    def _reward_reference_lin_vel(self) -> Tensor:
        """Averaged velocity of the root against the reference's, each in its own heading frame."""
        return rewards.velocity_tracking(
            self.average_velocity[:, :3], self.average_reference_vel, self.cfg.rewards.reference_lin_vel_sigma
        )

    def _reward_reference_gravity(self) -> Tensor:
        """Tilt of the base against the reference."""
        return rewards.tilt_tracking(self.projected_gravity, self.reference_gravity, self.cfg.rewards.gravity_sigma)

    def _reward_reference_height(self) -> Tensor:
        """Height of the base against the reference."""
        return rewards.root_height_tracking(
            self.base_height, self.reference.root_pos_w[:, 2], self.cfg.rewards.height_sigma
        )

    def _reward_reference_key_bodies(self) -> Tensor:
        """Places of the key bodies in the base's frame against the reference."""
        places, wanted = self.reference.key_body_positions(self.dof_pos), self.reference.key_body_pos_b
        weights = torch.ones(places.shape[1], device=self.device)
        return rewards.key_body_tracking(places, wanted, weights, self.cfg.rewards.key_body_sigma)

    @needs(FEET_MOTION)
    def _reward_feet_height(self) -> Tensor:
        """Heights of the feet above the ground against the reference's."""
        wanted = self.reference_feet_heights()
        return rewards.feet_height_tracking(self._feet_heights(), wanted, self.cfg.rewards.feet_height_sigma)

    @needs(FEET_MOTION)
    def _reward_reference_feet(self) -> Tensor:
        """Distance of the feet from where the reference's are, each seen from its own base [m]: no pull that fades."""
        root, term = self.root_states, self.reference
        places = body_positions_in_heading(root[:, :3], root[:, 3:7], self.feet.pos_w)
        wanted = body_positions_in_heading(term.root_pos_w, term.root_quat_w, self._reference_feet()[0])
        return rewards.key_body_error(places, wanted)

    @needs(AIR_TIME)
    def _reward_reference_contacts(self) -> Tensor:
        """Share of the feet that touch the ground as the reference's do.

        One that lands sooner is to stay there, for `rewards.early_landing` of what it would earn in time.
        """
        reference, swung = self.reference_contacts(), self.feet.air_time > 0.5 * self.cfg.rewards.shortest_swing
        # If it had to lift once more until the reference's lands, that would be a hop.
        self._landed_early = (self._landed_early | (self.feet.first_contact & swung)) & ~reference
        early = self._landed_early.to(torch.float32) * (1.0 - self.cfg.rewards.early_landing)
        matching = self.feet.contact == (reference | self._landed_early)
        return (matching * (1.0 - early)).mean(dim=1)

    # Resuming ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What resuming a training needs; episodes begin anew."""
        return {**super().state_dict(), "term": self.reference.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, and begin new episodes."""
        self.reference.load_state_dict(state["term"])
        super().load_state_dict(state)
