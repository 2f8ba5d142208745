"""A robot in a simulator: ground, environments, state tensors, drives, and writing states back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Iterable

import torch
from torch import Tensor

from cmg_ref.core.backends import call_loop, numba_available
from cmg_ref.robots.registry import robot_spec
from cmg_ref.robots.robot import Robot, RobotError, read_robot
from configs.base_config import ConfigError, per_joint, suggestion
from envs.base.base_task import BaseTask
from envs.base.disturbances import DrivenJoints, Punches, Pushes
from envs.base.domain_randomisation import DomainRandomisation
from envs.base.terrain import Terrain
from envs.simulator import CAPABILITIES, gymapi, gymtorch

DRIVE_MODES = ("position", "effort")
MESH_TYPES = ("plane", "heightfield", "trimesh")


class SimulatedRobot(BaseTask):
    """Many copies of a robot, driven towards joint targets by PD control.

    With `control.drive_mode` "position" the simulator itself drives the joints and all physics steps of a control step
    run in one call; with "effort" torques are computed before each physics step, as legged_gym does.

    Attributes:
        num_dof: Joints of the robot.
        num_bodies: Bodies of the robot.
        dof_names: Joints in the simulator's order.
        body_names: Bodies in the simulator's order.
        dt: Time of a control step in seconds.
        root_states: Position, orientation xyzw, linear and angular velocity of the base in the world, (num_envs, 13).
        dof_pos: Joint positions in rad, (num_envs, num_dof).
        dof_vel: Joint velocities in rad/s, (num_envs, num_dof).
        contact_forces: Net contact forces on the bodies in the world in N, (num_envs, num_bodies, 3).
        default_dof_pos: Standing pose in rad, (1, num_dof).
        p_gains: Stiffness in N m/rad, (num_envs, num_dof).
        d_gains: Damping in N m s/rad, (num_envs, num_dof).
        torque_limits: In N m, (num_dof,).
        dof_pos_limits: Lower and upper limits in rad, (num_dof, 2).
        env_origins: Where the environments stand in the world, (num_envs, 3).
        terrain: The rough ground; None on a plane.
        randomisation: What differs between robots.
        pushes: Sudden changes of their velocities.
        punches: Forces on their links.
        driven_joints: Joints that something else drives.
    """

    num_dof: int
    dof_names: list[str]
    body_names: list[str]

    def create_sim(self) -> None:
        """Make the simulation, the ground and the environments."""
        control = self.cfg.control
        if control.drive_mode not in DRIVE_MODES:
            raise ConfigError(
                f"control.drive_mode: no mode '{control.drive_mode}'{suggestion(control.drive_mode, DRIVE_MODES)}"
            )
        self.physics_dt = self.sim_params.dt
        self.dt = control.decimation * self.physics_dt
        if control.drive_mode == "position":
            self.sim_params.dt = self.dt
            self.sim_params.substeps = control.decimation * self.sim_params.substeps
        # Numbers that shape the world are drawn on the CPU, the others where the state tensors are.
        self.world_generator = torch.Generator().manual_seed(self.cfg.seed)
        self.generator = torch.Generator(device=self.device).manual_seed(self.cfg.seed + 1)
        self.sim = self.gym.create_sim(self.sim_device_id, self.sim_device_id, self.physics_engine, self.sim_params)
        if self.sim is None:
            raise RuntimeError("the simulator could not create a simulation")
        self._create_ground()
        self._create_envs()

    def _create_ground(self) -> None:
        """Add a plane or rough terrain."""
        cfg = self.cfg.terrain
        self.terrain: Terrain | None = None
        if cfg.mesh_type not in MESH_TYPES:
            raise ConfigError(f"terrain.mesh_type: no type '{cfg.mesh_type}'{suggestion(cfg.mesh_type, MESH_TYPES)}")
        if cfg.mesh_type == "plane":
            plane = gymapi.PlaneParams()
            plane.normal = gymapi.Vec3(0.0, 0.0, 1.0)
            plane.static_friction, plane.dynamic_friction = cfg.static_friction, cfg.dynamic_friction
            plane.restitution = cfg.restitution
            self.gym.add_ground(self.sim, plane)
        else:
            self.terrain = Terrain(cfg, self.num_envs, self.cfg.seed, self.device)
            self.terrain.add_to(self.gym, self.sim)

    def _create_envs(self) -> None:
        """Load the robot and put one into every environment, each with properties of its own."""
        asset = self._load_asset()
        self.dof_names = list(self.gym.get_asset_dof_names(asset))
        self.body_names = list(self.gym.get_asset_rigid_body_names(asset))
        self.num_dof, self.num_bodies = len(self.dof_names), len(self.body_names)
        self._find_bodies_and_joints()
        dof_properties = self.gym.get_asset_dof_properties(asset)
        self._read_limits(dof_properties)
        domain_rand = self.cfg.domain_rand
        self.randomisation = DomainRandomisation(
            domain_rand, self.num_envs, self.body_names, self.num_dof, self.world_generator
        )
        self._make_disturbances()
        self._set_gains()
        self._place_envs()
        surfaces = self.gym.get_asset_rigid_shape_properties(asset)
        position_drive = self.cfg.control.drive_mode == "position"
        dof_properties["driveMode"].fill(int(gymapi.DOF_MODE_POS if position_drive else gymapi.DOF_MODE_EFFORT))
        start = gymapi.Transform()
        lower, upper = gymapi.Vec3(0.0, 0.0, 0.0), gymapi.Vec3(0.0, 0.0, 0.0)
        origins = (self.env_origins.cpu() + torch.tensor(self.cfg.init_state.pos)).tolist()
        self.envs: list[Any] = []
        self.actor_handles: list[Any] = []
        for env_id in range(self.num_envs):
            env = self.gym.create_env(self.sim, lower, upper, int(math.sqrt(self.num_envs)))
            start.p = gymapi.Vec3(*origins[env_id])
            surfaces = self.randomisation.shape_properties(surfaces, env_id)
            self.gym.set_asset_rigid_shape_properties(asset, surfaces)
            actor = self.gym.create_actor(
                env, asset, start, self.cfg.asset.name, env_id, self.cfg.asset.self_collisions, 0
            )
            if env_id == 0:
                self._nominal_bodies = self.gym.get_actor_rigid_body_properties(env, actor)
            self.envs.append(env)
            self.actor_handles.append(actor)
        self._dof_properties, self._nominal_effort = dof_properties, dof_properties["effort"].copy()
        self._bodies_changed = False
        self._set_properties_of_robots()

    def _make_disturbances(self) -> None:
        """Make what pushes and punches robots and what drives joints in the policy's place."""
        cfg = self.cfg.domain_rand
        long_push_link = self.base_index
        if cfg.long_push_link:
            long_push_link = self._body_index(cfg.long_push_link, "domain_rand.long_push_link")
        link_shares = torch.tensor(per_joint(cfg.punch_links, self.body_names, "domain_rand.punch_links", "link"))
        link_shares[self.base_index] = 0.0  # which no joint moves
        if not bool(link_shares.any()):
            raise ConfigError("domain_rand.punch_links: no link is ever hit")
        self.pushes = Pushes(cfg, self.randomisation.undisturbed, self.dt, self.generator)
        self.punches = Punches(
            cfg,
            self.randomisation.undisturbed,
            link_shares,
            long_push_link,
            self.dt,
            self.generator,
        )
        self.driven_joints = DrivenJoints(
            self.cfg.driven_joints,
            self.dof_names,
            self.robot.spec.arm_joints,
            self.default_dof_pos[0],
            self.dof_pos_limits,
            (self.mirror_joint_index, self.mirror_joint_sign),
            self.num_envs,
            self.dt,
            self.world_generator,
            self.generator,
        )

    def _set_properties_of_robots(self, env_ids: Iterable[int] | None = None) -> None:
        """Hand gains and masses of robots, as they are randomised now, to the simulator; of all by default."""
        position_drive = self.cfg.control.drive_mode == "position"
        stiffness, damping = (
            (gains * self.strength).cpu().numpy() if self.strength is not None else gains.cpu().numpy()
            for gains in (self.p_gains, self.d_gains)
        )
        dof_properties = self._dof_properties
        changes_bodies = self._bodies_changed = self._bodies_changed or self.randomisation.changes_bodies
        for env_id in range(self.num_envs) if env_ids is None else env_ids:
            env, actor = self.envs[env_id], self.actor_handles[env_id]
            dof_properties["stiffness"] = stiffness[env_id] if position_drive else 0.0
            dof_properties["damping"] = damping[env_id] if position_drive else 0.0
            if self.strength is not None:
                dof_properties["effort"] = self._nominal_effort * float(self.strength[env_id])
            self.gym.set_actor_dof_properties(env, actor, dof_properties)
            if changes_bodies:
                bodies = self.gym.get_actor_rigid_body_properties(env, actor)
                bodies = self.randomisation.body_properties(self._nominal_bodies, bodies, env_id, self.base_index)
                self.gym.set_actor_rigid_body_properties(env, actor, bodies, recomputeInertia=True)

    def _randomise(self, level: float) -> None:
        """Use a share of the randomisation, 0 to 1."""
        # Where robots cannot change any more all of it is in use.
        if level == self.randomisation.level or not CAPABILITIES.changes_robots:
            return
        self.randomisation.set_level(level)
        self._hand_over_robots(range(self.num_envs))

    def change_robots(self, env_ids: Tensor, **values: Tensor) -> None:
        """Let the robots of environments (n,) differ in another way from what they are by nature.

        Args:
            env_ids: The environments.
            **values: By the names of the attributes of `randomisation`, (n, ...) each.
        """
        self.randomisation.replace(env_ids.cpu(), {name: value.cpu() for name, value in values.items()})
        self._hand_over_robots(env_ids.tolist())

    def _hand_over_robots(self, env_ids: Iterable[int]) -> None:
        """Hand the properties of robots, as they are now, to a simulator that runs."""
        self._set_gains()
        self._set_properties_of_robots(env_ids)
        for env_id in env_ids:
            env, actor = self.envs[env_id], self.actor_handles[env_id]
            surfaces = self.gym.get_actor_rigid_shape_properties(env, actor)
            surfaces = self.randomisation.shape_properties(surfaces, env_id)
            self.gym.set_actor_rigid_shape_properties(env, actor, surfaces)

    def _load_asset(self) -> Any:
        """The robot for the simulator, and `self.robot`, its description for kinematics and mirroring."""
        cfg = self.cfg.asset
        try:
            spec = robot_spec(cfg.robot)
        except RobotError as error:
            raise ConfigError(f"asset.robot: {error}") from error
        path = Path(cfg.file) if cfg.file else spec.asset
        if not path.is_file():
            raise ConfigError(f"asset.file: there is no file '{path}'")
        self.robot: Robot = Robot.from_mjcf(path, spec) if path.suffix == ".xml" and cfg.file else read_robot(spec)
        options = gymapi.AssetOptions()
        for name in (
            *("collapse_fixed_joints", "fix_base_link", "replace_cylinder_with_capsule", "disable_gravity", "density"),
            *("angular_damping", "linear_damping", "max_angular_velocity", "max_linear_velocity", "armature"),
            "thickness",
        ):
            setattr(options, name, getattr(cfg, name))
        position = self.cfg.control.drive_mode == "position"
        options.default_dof_drive_mode = int(gymapi.DOF_MODE_POS if position else gymapi.DOF_MODE_EFFORT)
        return self.gym.load_asset(self.sim, str(path.parent), path.name, options)

    def _find_bodies_and_joints(self) -> None:
        """Indices by name: base, feet, joints of the description."""
        asset = self.cfg.asset
        self.base_index = self._body_index(asset.base_name or self.robot.body_names[0], "asset.base_name")
        self.feet_indices = torch.tensor(
            [self._body_index(name, "asset.foot_names") for name in asset.foot_names or self.robot.foot_bodies],
            device=self.device,
        )
        self.penalised_indices = torch.tensor(
            [self._body_index(name, "asset.penalize_contacts_on") for name in asset.penalize_contacts_on],
            dtype=torch.long,
            device=self.device,
        )
        # Column of each of the description's joints among the simulator's; the two need not agree in order.
        missing = [name for name in self.robot.joint_names if name not in self.dof_names]
        if missing or self.num_dof != self.robot.num_joints:
            raise ConfigError(
                f"asset.file: has joints {self.dof_names}, the robot's description {self.robot.joint_names}"
            )
        to_description = [self.dof_names.index(name) for name in self.robot.joint_names]
        self._description_columns: Tensor | None = None
        if to_description != list(range(self.num_dof)):
            self._description_columns = torch.tensor(to_description, device=self.device)
        order = self.robot.joint_index(self.dof_names)
        twin = [self.dof_names.index(self.robot.joint_names[i]) for i in self.robot.mirror_index[order].tolist()]
        self.mirror_joint_index = torch.tensor(twin, device=self.device)
        self.mirror_joint_sign = self.robot.mirror_sign[order].float().to(self.device)
        default = self.robot.default_dof_pos[order].float().to(self.device)
        for name, angle in self.cfg.init_state.default_joint_angles.items():
            if name not in self.dof_names:
                raise ConfigError(
                    f"init_state.default_joint_angles: no joint '{name}'{suggestion(name, self.dof_names)}"
                )
            default[self.dof_names.index(name)] = angle
        self.default_dof_pos = default.unsqueeze(0)

    def _body_index(self, name: str, field: str) -> int:
        if name not in self.body_names:
            raise ConfigError(f"{field}: the robot has no body '{name}'{suggestion(name, self.body_names)}")
        return self.body_names.index(name)

    def _read_limits(self, properties: Any) -> None:
        """Limits of the joints from the asset."""
        lower, upper, effort = (
            torch.from_numpy(properties[name].copy()).to(self.device) for name in ("lower", "upper", "effort")
        )
        self.torque_limits, self._lowest_torques = effort, -effort
        self._numba = effort.device.type == "cpu" and numba_available()
        if self._numba:
            from envs.base import numba_loops

            self._loops = numba_loops
        middle, half = 0.5 * (lower + upper), 0.5 * self.cfg.rewards.soft_dof_pos_limit * (upper - lower)
        self.dof_pos_limits = torch.stack((lower, upper), dim=1)
        self.soft_dof_pos_limits = torch.stack((middle - half, middle + half), dim=1)

    def per_joint(self, values: dict[str, float], field: str) -> Tensor:
        """A number for each joint, (num_dof,); see :func:`configs.base_config.per_joint`, also for what it raises."""
        return torch.tensor(per_joint(values, self.dof_names, field), device=self.device)

    def in_description_order(self, joint_values: Tensor) -> Tensor:
        """Joint values (..., num_dof) of the simulator in the order of `robot`, the description."""
        return joint_values if self._description_columns is None else joint_values[..., self._description_columns]

    def _set_gains(self) -> None:
        control = self.cfg.control
        nominal_p = self.per_joint(control.stiffness, "control.stiffness")
        nominal_d = self.per_joint(control.damping, "control.damping")
        self.action_scale = self.per_joint(control.action_scale, "control.action_scale")
        self.p_gains = nominal_p * self.randomisation.stiffness_scale.to(self.device)
        self.d_gains = nominal_d * self.randomisation.damping_scale.to(self.device)
        if self.driven_joints.in_use:
            self.p_gains = self.p_gains * self.driven_joints.stiffness_scale
            self.d_gains = self.d_gains * self.driven_joints.damping_scale
        self.nominal_p_gains, self.nominal_d_gains = nominal_p, nominal_d
        strength = self.randomisation.strength
        self.strength = None if bool((strength == 1.0).all()) else strength.to(self.device)
        self.delay_share = (self.randomisation.delay / self.dt).to(self.device)  # in control steps, (num_envs, 1)
        self._delay_steps = max(1, math.ceil(float(self.delay_share.max())))
        self.differences = self.randomisation.differences(self.device)

    def _place_envs(self) -> None:
        """Set `env_origins`: tiles of the terrain, or a grid on the plane."""
        if self.terrain is not None:
            self.env_origins = self.terrain.env_origins
            return
        columns = max(1, int(math.sqrt(self.num_envs)))
        index = torch.arange(self.num_envs, device=self.device)
        self.env_origins = torch.zeros(self.num_envs, 3, device=self.device)
        self.env_origins[:, 0] = self.cfg.env.env_spacing * (index % columns)
        self.env_origins[:, 1] = self.cfg.env.env_spacing * torch.div(index, columns, rounding_mode="floor")

    def _acquire_state(self) -> None:
        """Make the views of the simulator's state tensors."""
        self.root_states = gymtorch.wrap_tensor(self.gym.acquire_actor_root_state_tensor(self.sim))
        self.dof_state = gymtorch.wrap_tensor(self.gym.acquire_dof_state_tensor(self.sim))
        contacts = gymtorch.wrap_tensor(self.gym.acquire_net_contact_force_tensor(self.sim))
        self.gym.refresh_actor_root_state_tensor(self.sim)
        self.gym.refresh_dof_state_tensor(self.sim)
        self.gym.refresh_net_contact_force_tensor(self.sim)
        self.dof_pos = self.dof_state.view(self.num_envs, self.num_dof, 2)[..., 0]
        self.dof_vel = self.dof_state.view(self.num_envs, self.num_dof, 2)[..., 1]
        self.contact_forces = contacts.view(self.num_envs, self.num_bodies, 3)
        self.torques = torch.zeros(self.num_envs, self.num_dof, device=self.device)
        self.dof_pos_target = self.default_dof_pos.repeat(self.num_envs, 1)
        self._earlier_targets: list[Tensor] = []  # the newest first, as many as delays reach back

    def _hold_targets(self, env_ids: Tensor) -> None:
        """Let joints of environments (n,) be driven to where they are, whatever is still on its way."""
        for targets in (self.dof_pos_target, *self._earlier_targets):
            targets[env_ids] = self.dof_pos[env_ids]

    def _simulate(self, dof_pos_target: Tensor) -> None:
        """Drive the joints towards targets (num_envs, num_dof) for a control step and refresh the state.

        Targets take effect after each environment's delay; until then earlier ones hold. In position mode, where all
        physics steps run in one call, the mean of two over the step takes the place of the switch between them.
        """
        self._earlier_targets = [self.dof_pos_target, *self._earlier_targets][: self._delay_steps]
        self.dof_pos_target = dof_pos_target
        forces = self.punches.step(self._disturbance_level)
        if self.cfg.control.drive_mode == "position":
            whole = (self.delay_share.ceil() - 1.0).clamp_(min=0.0)
            sent = torch.lerp(self._target_of(whole), self._target_of(whole + 1.0), self.delay_share - whole)
            self.gym.set_dof_position_target_tensor(self.sim, gymtorch.unwrap_tensor(sent))
            self._apply_forces(forces)
            self.gym.simulate(self.sim)
            self.gym.fetch_results(self.sim, True)
            self.gym.refresh_dof_state_tensor(self.sim)
            self.torques = self._pd_torques(sent)
        else:
            decimation = self.cfg.control.decimation
            for step in range(decimation):
                self.torques = self._pd_torques(self._target_of((self.delay_share - step / decimation).ceil()))
                self.gym.set_dof_actuation_force_tensor(self.sim, gymtorch.unwrap_tensor(self.torques))
                self._apply_forces(forces)
                self.gym.simulate(self.sim)
                if self.device == "cpu":
                    self.gym.fetch_results(self.sim, True)
                self.gym.refresh_dof_state_tensor(self.sim)
        self.gym.refresh_actor_root_state_tensor(self.sim)
        self.gym.refresh_net_contact_force_tensor(self.sim)

    @property
    def _disturbance_level(self) -> float:
        """Share of the strength of punches in use."""
        return 1.0

    def _apply_forces(self, forces: Tensor | None) -> None:
        """Let forces (num_envs, num_bodies, 3) act in the next physics call."""
        if forces is not None:
            self.gym.apply_rigid_body_force_tensors(
                self.sim, gymtorch.unwrap_tensor(forces.view(-1, 3)), None, gymapi.GLOBAL_SPACE
            )

    def _target_of(self, age: Tensor) -> Tensor:
        """Joint targets (num_envs, num_dof) that were given so many control steps ago (num_envs, 1)."""
        targets = self.dof_pos_target
        for steps, earlier in enumerate(self._earlier_targets, start=1):
            targets = torch.where(age >= steps, earlier, targets)
        return targets

    def _pd_torques(self, dof_pos_target: Tensor) -> Tensor:
        """Torques of the PD control within their limits, times the strength of the motors, (num_envs, num_dof)."""
        torques = self._nominal_torques(dof_pos_target)
        return torques if self.strength is None else torques.mul_(self.strength)

    def _nominal_torques(self, dof_pos_target: Tensor) -> Tensor:
        if self._numba:
            torques = torch.empty_like(self.torques)
            joints, gains = (dof_pos_target, self.dof_pos, self.dof_vel), (self.p_gains, self.d_gains)
            call_loop(self._loops.pd_torques, *joints, *gains, self.torque_limits, torques)
            return torques
        torques = (dof_pos_target - self.dof_pos).mul_(self.p_gains).addcmul_(self.d_gains, self.dof_vel, value=-1.0)
        return torch.clamp_(torques, min=self._lowest_torques, max=self.torque_limits)

    def _write_root_states(self, env_ids: Tensor) -> None:
        """Hand the rows (n,) of `root_states` to the simulator."""
        rows = env_ids.to(torch.int32)
        self.gym.set_actor_root_state_tensor_indexed(
            self.sim, gymtorch.unwrap_tensor(self.root_states), gymtorch.unwrap_tensor(rows), len(rows)
        )

    def _write_dof_states(self, env_ids: Tensor) -> None:
        """Hand the rows (n,) of `dof_pos` and `dof_vel` to the simulator."""
        rows = env_ids.to(torch.int32)
        self.gym.set_dof_state_tensor_indexed(
            self.sim, gymtorch.unwrap_tensor(self.dof_state), gymtorch.unwrap_tensor(rows), len(rows)
        )

    def ground_height(self, xy: Tensor) -> Tensor | float:
        """Height of the ground in metres under points (..., 2) of the world, (...); 0.0 on a plane."""
        return 0.0 if self.terrain is None else self.terrain.height(xy)
