"""What the command terms of mjlab and Isaac Lab share: the reference, under the names that terms of both look for.

Both compute rewards after the physics of a step and before commands move on. What is shown is therefore the frame of
the coming control step: that which the robot shall have reached when rewards are computed, and which a policy is to
aim at when it sees it. Quaternions are wxyz here, as in both hosts, and xyzw in all that lies below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cmg_ref.core.rotations import (
    in_heading,
    quat_conjugate,
    quat_from_yaw,
    quat_multiply,
    quat_rotate,
    yaw_from_quat,
)
from cmg_ref.reference_motion_term import ReferenceMotionTerm, ReferenceMotionTermCfg
from cmg_ref.robots.body_motion import BodyMotion, BodyStates
from cmg_ref.trajectories.argument_checks import EnvIds, Values

NEVER = (1e9, 1e9)  # [s] between resets of a motion by the host's own timer
# What mjlab and its predecessors track of a G1.
ANCHOR = "torso_link"
BODIES = (
    "pelvis",
    "left_hip_roll_link",
    "left_knee_link",
    "left_ankle_roll_link",
    "right_hip_roll_link",
    "right_knee_link",
    "right_ankle_roll_link",
    "torso_link",
    "left_shoulder_roll_link",
    "left_elbow_link",
    "left_wrist_yaw_link",
    "right_shoulder_roll_link",
    "right_elbow_link",
    "right_wrist_yaw_link",
)
SHOWN = ("motion", "velocity")


@dataclass(kw_only=True)
class ReferenceCommandCfg:
    """Fields of the configuration in either host.

    Attributes:
        entity_name: The robot in the scene.
        anchor_body_name: Body that relative poses are counted from; one of `body_names`.
        body_names: Bodies that are shown; the first is the robot's root.
        reference: What the reference shows.
        shows: What `command` is: "motion", the joint angles and velocities, or "velocity", the command in force.
        standing: Whether all motions begin from standing; `reference.mode` has to be "realtime" then.
        random_heading: Whether they begin in any direction.
        reset_height: How far above the reference robots begin, so that no foot begins inside the ground [m].
        joint_pos_noise, joint_vel_noise: Largest deviation of robots from the reference then [rad], [rad/s].
        lin_vel_noise, ang_vel_noise: The same of their roots [m/s], [rad/s].
    """

    entity_name: str = "robot"
    anchor_body_name: str = ANCHOR
    body_names: tuple[str, ...] = BODIES
    reference: ReferenceMotionTermCfg = field(default_factory=ReferenceMotionTermCfg)
    shows: str = "motion"
    standing: bool = False
    random_heading: bool = True
    reset_height: float = 0.02
    joint_pos_noise: float = 0.0
    joint_vel_noise: float = 0.0
    lin_vel_noise: float = 0.0
    ang_vel_noise: float = 0.0

    def check(self) -> None:
        """Raise a ValueError that names an impossible field; the reference checks its own."""
        if self.shows not in SHOWN:
            raise ValueError(f"shows must be one of {SHOWN}, got '{self.shows}'")
        if self.anchor_body_name not in self.body_names:
            raise ValueError(f"anchor_body_name '{self.anchor_body_name}' is none of body_names")
        if self.standing and self.reference.mode == "pool":
            raise ValueError("standing=True needs reference.mode 'realtime': the motions of a pool are under way")


def _of_anchor(name: str, meaning: str) -> Any:
    """A property: the anchor's part of what a property of all bodies holds."""
    return property(lambda self: getattr(self, name)[:, self._anchor], doc=meaning)


def _of_robot(name: str, meaning: str) -> Any:
    """A property: what the simulator measures of the robot's joints, or of its bodies in their order here."""
    if name.startswith("body"):
        return property(lambda self: getattr(self.robot.data, name)[:, self._robot_bodies], doc=meaning)
    return property(lambda self: getattr(self.robot.data, name), doc=meaning)


class ReferenceCommand:
    """Stands before the host's `CommandTerm` among the bases of a command term.

    Attributes:
        reference: The reference motion, in the joints' order of the simulator.
    """

    # Set by the host.
    _env: Any
    cfg: Any
    num_envs: int
    device: Any
    metrics: dict[str, Tensor]

    def __init__(self, cfg: Any, env: Any) -> None:
        self.robot = env.scene[cfg.entity_name]
        cfg.check()
        super().__init__(cfg, env)  # type: ignore[call-arg]
        self.reference = ReferenceMotionTerm(
            cfg.reference, self.num_envs, env.step_dt, self.robot.joint_names, self.device, seed=env.cfg.seed or 0
        )
        self._body_motion = BodyMotion(self.reference.robot, cfg.body_names, self.device)
        self._anchor = cfg.body_names.index(cfg.anchor_body_name)
        self._robot_bodies = torch.tensor(self.robot.find_bodies(cfg.body_names, preserve_order=True)[0])
        self._robot_bodies = self._robot_bodies.to(self.device)
        self._bodies: BodyStates | None = None
        self._steps_seen = self._steps_measured = env.common_step_counter
        for name in ("error_vel_xy", "error_vel_yaw", "error_joint_pos", "error_joint_vel"):
            self.metrics[name] = torch.zeros(self.num_envs, device=self.device)
        self.reference.reset()  # Managers that are made after this one look at commands before the first reset.

    # Time -------------------------------------------------------------------------------------------------------------

    def reset(self, env_ids: Any = None) -> dict[str, float]:
        """Begin new motions in environments (n,), a slice or all, and put their robots on them."""
        rows = torch.arange(self.num_envs, device=self.device)[slice(None) if env_ids is None else env_ids]
        self.advance()
        lived = self._env.episode_length_buf[rows]
        for metric in self.metrics.values():  # sums until now
            metric[rows] /= lived.clamp(min=1)
        fell = self._env.termination_manager.terminated[rows] & (lived > 0)
        self.reference.report_failures(rows[fell])
        self._begin(rows)
        return super().reset(rows)  # type: ignore[misc]

    def advance(self) -> None:
        """Let a control step pass for the reference if one has passed for the environment.

        Environments that end are reset before commands are computed: the reference has to move on before that, or it
        would leave the robots that have just been put on it.
        """
        if self._env.common_step_counter != self._steps_seen:
            self._steps_seen = self._env.common_step_counter
            self.reference.step()
            self._bodies = None

    def set_commands(self, commands: Values, env_ids: EnvIds | None = None) -> None:
        """Give velocity commands (n, command_dim) that stay in force until the next reset of environments (n,)."""
        self.reference.set_commands(commands, env_ids)
        self._bodies = None

    def _begin(self, rows: Tensor) -> None:
        cfg, count = self.cfg, len(rows)
        heading = math.pi * self._uniform(count, 1) * float(cfg.random_heading)
        origins = self._env.scene.env_origins[rows]
        places = torch.cat((origins[:, :2], heading), dim=1)
        self.reference.reset(rows, root_pose=places, standing=cfg.standing)
        self._bodies = None
        joint_pos, joint_vel, root = self.reference.initial_state(rows)
        pose = torch.cat((root[:, :3], _wxyz(root[:, 3:7])), dim=1)
        pose[:, 2] += origins[:, 2] + cfg.reset_height
        noise = torch.cat((cfg.lin_vel_noise * self._uniform(count, 3), cfg.ang_vel_noise * self._uniform(count, 3)), 1)
        joint_pos = joint_pos + cfg.joint_pos_noise * self._uniform(*joint_pos.shape)
        joint_vel = joint_vel + cfg.joint_vel_noise * self._uniform(*joint_vel.shape)
        self.robot.write_joint_state_to_sim(joint_pos, joint_vel, env_ids=rows)
        self.robot.write_root_link_pose_to_sim(pose, env_ids=rows)
        self.robot.write_root_link_velocity_to_sim(root[:, 7:] + noise, env_ids=rows)
        self.robot.reset(env_ids=rows)

    def _uniform(self, *shape: int) -> Tensor:
        return 2.0 * torch.rand(*shape, device=self.device) - 1.0

    def _resample_command(self, env_ids: Any) -> None:
        """Nothing to draw when the host's timer runs out: the reference draws and changes commands itself."""

    def _update_command(self, env_ids: Any = None) -> None:
        """Nothing to do: `advance` has moved all environments, and those just reset stay."""

    def _update_metrics(self) -> None:
        """Add the errors of a step that has passed; a reset makes means of them."""
        if self._steps_measured == self._steps_seen:
            return
        self._steps_measured = self._steps_seen
        told, data = self.reference.commands, self.robot.data
        velocity = in_heading(_xyzw(data.root_link_quat_w), data.root_link_lin_vel_w)
        self.metrics["error_vel_xy"] += (velocity[:, :2] - told[:, :2]).norm(dim=1)
        self.metrics["error_vel_yaw"] += (data.root_link_ang_vel_w[:, 2] - told[:, 2]).abs()
        self.metrics["error_joint_pos"] += (data.joint_pos - self.reference.dof_pos).norm(dim=1)
        self.metrics["error_joint_vel"] += (data.joint_vel - self.reference.dof_vel).norm(dim=1)

    # The reference, at the coming control step ------------------------------------------------------------------------

    @property
    def command(self) -> Tensor:
        """What the configuration's `shows` says, (num_envs, 2 * num_joints or command_dim)."""
        if self.cfg.shows == "velocity":
            return self.reference.commands
        return torch.cat((self.joint_pos, self.joint_vel), dim=1)

    @property
    def joint_pos(self) -> Tensor:
        """Joint angles [rad], (num_envs, num_joints)."""
        return self.reference.future((1,)).dof_pos[:, 0]

    @property
    def joint_vel(self) -> Tensor:
        """Joint velocities [rad/s], (num_envs, num_joints)."""
        return self.reference.future((1,)).dof_vel[:, 0]

    @property
    def body_pos_w(self) -> Tensor:
        """Positions of the bodies in the world [m], (num_envs, num_bodies, 3)."""
        return self._body_states().pos

    @property
    def body_quat_w(self) -> Tensor:
        """Orientations of the bodies, wxyz, (num_envs, num_bodies, 4)."""
        return _wxyz(self._body_states().quat)

    @property
    def body_lin_vel_w(self) -> Tensor:
        """Velocities of the bodies' origins [m/s], (num_envs, num_bodies, 3)."""
        return self._body_states().lin_vel

    @property
    def body_ang_vel_w(self) -> Tensor:
        """Angular velocities of the bodies [rad/s], (num_envs, num_bodies, 3)."""
        return self._body_states().ang_vel

    anchor_pos_w = _of_anchor("body_pos_w", "Position of the anchor [m], (num_envs, 3).")
    anchor_quat_w = _of_anchor("body_quat_w", "Orientation of the anchor, wxyz, (num_envs, 4).")
    anchor_lin_vel_w = _of_anchor("body_lin_vel_w", "Velocity of the anchor [m/s], (num_envs, 3).")
    anchor_ang_vel_w = _of_anchor("body_ang_vel_w", "Angular velocity of the anchor [rad/s], (num_envs, 3).")

    @property
    def body_pos_relative_w(self) -> Tensor:
        """As `body_pos_w`, but the anchor is over the robot's, heads as that does and keeps its own height."""
        own = self.robot_anchor_pos_w
        over = torch.cat((own[:, :2], self.anchor_pos_w[:, 2:]), dim=1).unsqueeze(1)
        return over + quat_rotate(self._turn(), self.body_pos_w - self.anchor_pos_w.unsqueeze(1))

    @property
    def body_quat_relative_w(self) -> Tensor:
        """Orientations of the bodies placed so, wxyz, (num_envs, num_bodies, 4)."""
        return _wxyz(quat_multiply(self._turn(), self._body_states().quat))

    def update_relative_body_poses(self) -> None:
        """Nothing to do, for they are computed when they are read."""

    def _turn(self) -> Tensor:
        """From the heading of the reference's anchor to that of the robot's, xyzw, (num_envs, 1, 4)."""
        own, wanted = _xyzw(self.robot_anchor_quat_w), self._body_states().quat[:, self._anchor]
        return quat_from_yaw(yaw_from_quat(quat_multiply(own, quat_conjugate(wanted)))).unsqueeze(1)

    def _body_states(self) -> BodyStates:
        """The bodies at the coming control step, computed once for each."""
        if self._bodies is None:
            coming, reference = self.reference.future((1,)), self.reference
            root_pos = coming.root_pos_w[:, 0].clone()
            root_pos[:, 2] += self._env.scene.env_origins[:, 2]
            root = (root_pos, coming.root_quat_w[:, 0], coming.root_lin_vel_w[:, 0], coming.root_ang_vel_w[:, 0])
            joint_pos = reference.in_description_order(self.joint_pos)
            joint_vel = reference.in_description_order(self.joint_vel)
            self._bodies = self._body_motion(joint_pos, joint_vel, torch.cat(root, dim=1))
        return self._bodies

    # The robot, now ---------------------------------------------------------------------------------------------------

    robot_joint_pos = _of_robot("joint_pos", "Joint angles [rad], (num_envs, num_joints).")
    robot_joint_vel = _of_robot("joint_vel", "Joint velocities [rad/s], (num_envs, num_joints).")
    robot_body_pos_w = _of_robot("body_link_pos_w", "As `body_pos_w`.")
    robot_body_quat_w = _of_robot("body_link_quat_w", "As `body_quat_w`.")
    robot_body_lin_vel_w = _of_robot("body_link_lin_vel_w", "As `body_lin_vel_w`.")
    robot_body_ang_vel_w = _of_robot("body_link_ang_vel_w", "As `body_ang_vel_w`.")
    robot_anchor_pos_w = _of_anchor("robot_body_pos_w", "As `anchor_pos_w`.")
    robot_anchor_quat_w = _of_anchor("robot_body_quat_w", "As `anchor_quat_w`.")
    robot_anchor_lin_vel_w = _of_anchor("robot_body_lin_vel_w", "As `anchor_lin_vel_w`.")
    robot_anchor_ang_vel_w = _of_anchor("robot_body_ang_vel_w", "As `anchor_ang_vel_w`.")


def _wxyz(quat: Tensor) -> Tensor:
    return quat.roll(1, dims=-1)


def _xyzw(quat: Tensor) -> Tensor:
    return quat.roll(-1, dims=-1)
