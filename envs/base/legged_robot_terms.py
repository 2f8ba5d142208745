"""Rewards and observations of a legged robot, a method each; the configuration chooses among them."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from cmg_ref.core.rotations import in_heading
from cmg_ref.rl import rewards
from cmg_ref.rl.observations import body_positions_in_heading, foot_contacts
from cmg_ref.robots.kinematics import ForwardKinematics
from envs.base.legged_robot_commands import LeggedRobotCommands
from envs.terms.observations import ObservationTerm
from envs.terms.rewards import AIR_TIME, FEET_MOTION, LAST_DOF_VEL, needs


class LeggedRobotTerms(LeggedRobotCommands):
    """What of a legged robot's state can be rewarded and observed.

    A task adds methods `_reward_<name>` and `_observe_<name>`, the latter with a term in `observation_terms`, or
    overrides these.
    """

    # Rewards, (num_envs,) -----------------------------------------------------------------------------------------

    def _reward_alive(self) -> Tensor:
        """1 for each step that the robot is up."""
        return torch.ones(self.num_envs, device=self.device)

    def _reward_termination(self) -> Tensor:
        """Whether the robot fell."""
        return self.fallen.float()

    def _reward_tracking_lin_vel(self) -> Tensor:
        """Averaged horizontal velocity against the command."""
        return torch.exp(self.lin_vel_error.square() / -self.cfg.rewards.lin_vel_sigma)

    def _reward_tracking_ang_vel(self) -> Tensor:
        """Averaged yaw rate against the command."""
        return torch.exp(self.yaw_rate_error.square() / -self.cfg.rewards.ang_vel_sigma)

    def _reward_lin_vel_error(self) -> Tensor:
        """Averaged horizontal velocity's distance from the command [m/s]: a pull that far from it does not fade."""
        return self.lin_vel_error

    def _reward_yaw_rate_error(self) -> Tensor:
        """Averaged yaw rate's distance from the command [rad/s]."""
        return self.yaw_rate_error

    def _reward_orientation(self) -> Tensor:
        """Tilt of the base."""
        return rewards.tilt(self.projected_gravity)

    def _reward_base_height(self) -> Tensor:
        """Squared deviation from the height wanted [m^2]."""
        return (self.base_height - self.cfg.rewards.base_height_target).square()

    def _reward_lin_vel_z(self) -> Tensor:
        """Squared vertical velocity [m^2/s^2]."""
        return self.base_lin_vel_h[:, 2].square()

    def _reward_ang_vel_xy(self) -> Tensor:
        """Squared roll and pitch rates [rad^2/s^2]."""
        return self.base_ang_vel[:, :2].square().sum(dim=1)

    def _reward_torques(self) -> Tensor:
        """Mean square of the torques as shares of their limits."""
        return rewards.torque_share(self.torques, self.torque_limits)

    def _reward_dof_vel(self) -> Tensor:
        """Squared joint velocities [rad^2/s^2]."""
        return self.dof_vel.square().sum(dim=1)

    @needs(LAST_DOF_VEL)
    def _reward_dof_acc(self) -> Tensor:
        """Squared joint accelerations [rad^2/s^4]."""
        return rewards.joint_acceleration(self.dof_vel, self.last_dof_vel, self.dt)

    def _reward_dof_pos_limits(self) -> Tensor:
        """Angles beyond the soft limits [rad]."""
        lower, upper = self.soft_dof_pos_limits.unbind(dim=1)
        return rewards.joint_limits(self.dof_pos, lower, upper)

    def _reward_action_rate(self) -> Tensor:
        """Squared change of the actions."""
        return rewards.action_rate(self.actions, self.last_actions)

    def _reward_action_size(self) -> Tensor:
        """Squared actions."""
        return rewards.residual_size(self.actions)

    @needs(FEET_MOTION)
    def _reward_feet_slip(self) -> Tensor:
        """Squared speed of feet on the ground [m^2/s^2]."""
        return rewards.feet_slip(self.feet.speed, self.feet.sliding_contact)

    @needs(AIR_TIME)
    def _reward_feet_air_time(self) -> Tensor:
        """Time in the air of landing feet, beyond the time wanted [s]."""
        return rewards.feet_air_time(
            self.feet.air_time, self.feet.first_contact, self.told_to_stand, self.cfg.rewards.air_time_target
        )

    @needs(AIR_TIME)
    def _reward_feet_bouncing(self) -> Tensor:
        """Share of the shortest swing that landing feet lack."""
        return rewards.feet_bouncing(self.feet.air_time, self.feet.first_contact, self.cfg.rewards.shortest_swing)

    @needs(FEET_MOTION)
    def _reward_feet_clearance(self) -> Tensor:
        """Height that moving feet lack, times their speed [m^2/s]."""
        return rewards.feet_clearance(self._feet_heights(), self.feet.speed, self.cfg.rewards.feet_clearance_target)

    @needs(FEET_MOTION)
    def _reward_feet_closeness(self) -> Tensor:
        """Sideways distance that the feet lack [m]."""
        places = body_positions_in_heading(self.root_states[:, :3], self.root_states[:, 3:7], self.feet.pos_w)
        return rewards.feet_closeness(places, self.cfg.rewards.feet_distance_target)

    def _reward_collision(self) -> Tensor:
        """Number of the bodies in `asset.penalize_contacts_on` that touch something."""
        touching = foot_contacts(self.contact_forces[:, self.penalised_indices])
        return touching.float().sum(dim=1)

    def _reward_stand_still(self) -> Tensor:
        """Mean squared joint velocity where the command is to stand [rad^2/s^2]."""
        return rewards.stand_still(self.driven_joints.without(self.dof_vel), self.told_to_stand)

    def _reward_stepping_in_place(self) -> Tensor:
        """Number of feet off the ground where the command is to stand."""
        return rewards.stepping_in_place(self.feet.contact, self.told_to_stand)

    @needs(FEET_MOTION)
    def _reward_creeping_in_place(self) -> Tensor:
        """Horizontal speeds of feet on the ground where the command is to stand [m/s]."""
        return rewards.creeping_in_place(self.feet.speed, self.feet.sliding_contact, self.told_to_stand)

    # Observations -----------------------------------------------------------------------------------------------------

    def observation_terms(self) -> list[ObservationTerm]:
        """All terms that can be observed; each is computed by `_observe_<name>`."""
        scale, noise, num_dof = self.cfg.normalization.obs_scales, self.cfg.noise.noise_scales, self.num_dof
        return [
            ObservationTerm("base_ang_vel", 3, scale.ang_vel, "axial", noise.ang_vel),
            ObservationTerm("projected_gravity", 3, scale.gravity, "polar", noise.gravity),
            ObservationTerm("commands", self.command_layout.size, scale.command, self.command_layout.mirror),
            ObservationTerm("dof_pos", num_dof, scale.dof_pos, "joints", noise.dof_pos),
            ObservationTerm("dof_vel", num_dof, scale.dof_vel, "joints", noise.dof_vel),
            ObservationTerm("last_action", num_dof, scale.action, "joints"),
            ObservationTerm("base_lin_vel", 3, scale.lin_vel, "polar"),
            ObservationTerm("average_lin_vel", 3, scale.lin_vel, "polar"),
            ObservationTerm("average_yaw_rate", 1, scale.ang_vel, "odd"),
            ObservationTerm("base_height", 1, scale.height, "scalar"),
            ObservationTerm("feet_contact", 2, 1.0, "pair"),
            # What no robot can measure of itself, for a critic.
            ObservationTerm("friction", 1, 1.0, "scalar"),
            ObservationTerm("payload", 1, 1.0, "scalar"),
            ObservationTerm("strength", 1, 1.0, "scalar"),
            ObservationTerm("delay", 1, 1.0, "scalar"),
            ObservationTerm("ang_vel_bias", 3, scale.ang_vel, "axial"),
            ObservationTerm("gravity_bias", 3, scale.gravity, "polar"),
            ObservationTerm("undisturbed", 1, 1.0, "scalar"),
            ObservationTerm("next_push", 7, 1.0, (1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0)),
            ObservationTerm("next_punch", 7, 1.0, (1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0)),
        ]

    def _observe_base_ang_vel(self) -> Tensor:
        return self.base_ang_vel

    def _observe_projected_gravity(self) -> Tensor:
        return self.projected_gravity

    def _observe_commands(self) -> Tensor:
        return self.commands

    def _observe_dof_pos(self) -> Tensor:
        return self.dof_pos - self.default_dof_pos

    def _observe_dof_vel(self) -> Tensor:
        return self.dof_vel

    def _observe_last_action(self) -> Tensor:
        return self.actions

    def _observe_base_lin_vel(self) -> Tensor:
        return self.base_lin_vel_h

    def _observe_average_lin_vel(self) -> Tensor:
        return self.average_velocity[:, :3]

    def _observe_average_yaw_rate(self) -> Tensor:
        return self.average_velocity[:, 3:]

    def _observe_base_height(self) -> Tensor:
        return self.base_height.unsqueeze(1)

    def _observe_feet_contact(self) -> Tensor:
        return self.feet.contact.float()

    def _observe_friction(self) -> Tensor:
        """Zero where it is not randomised."""
        return self.differences["friction"]

    def _observe_payload(self) -> Tensor:
        """Of base and links together [kg]."""
        return self.differences["payload"]

    def _observe_strength(self) -> Tensor:
        return self.differences["strength"]

    def _observe_delay(self) -> Tensor:
        """In control steps."""
        return self.delay_share

    def _observe_ang_vel_bias(self) -> Tensor:
        return self.differences["ang_vel_bias"]

    def _observe_gravity_bias(self) -> Tensor:
        return self.differences["gravity_bias"]

    def _observe_undisturbed(self) -> Tensor:
        return self.differences["undisturbed"]

    def _observe_next_push(self) -> Tensor:
        """How near it is, from 0 a second before to 1, and its changes of velocity in the heading frame in SI units."""
        seconds, velocity = self.pushes.ahead()
        near = (1.0 - seconds).clamp(min=0.0).unsqueeze(1)
        quat = self.root_states[:, 3:7]
        told = torch.cat((in_heading(quat, velocity[:, :3]), in_heading(quat, velocity[:, 3:])), dim=1)
        return torch.cat((near, told * (near > 0.0)), dim=1)

    def _observe_next_punch(self) -> Tensor:
        """How near it is, from 0 a second before to 1, then its impulse and the place of its body.

        The impulse is in 10 N s in the heading frame, the place that in the standing pose, in metres from the base.
        """
        seconds, impulse, body = self.punches.ahead()
        near = (1.0 - seconds).clamp(min=0.0).unsqueeze(1)
        told = torch.cat((0.1 * in_heading(self.root_states[:, 3:7], impulse), self._standing_places[body]), dim=1)
        return torch.cat((near, told * (near > 0.0)), dim=1)

    @cached_property
    def _standing_places(self) -> Tensor:
        """Places of the bodies in the standing pose, in the frame of the base, (num_bodies, 3)."""
        kinematics = ForwardKinematics(self.robot, self.body_names, self.device)
        return kinematics(self.in_description_order(self.default_dof_pos))[0][0]
