"""The module `isaacgym.gymapi`: the gym object, its constants and parameter classes.

Calls have Isaac Gym's names, arguments and meaning. Those that are not here raise an error which names them.
"""

# ruff: noqa: F403, F405 (as the real module, this one holds the parameter classes too)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from envs.mujoco_gym.assets.asset import Asset, load_asset
from envs.mujoco_gym.engine.actor import Actor
from envs.mujoco_gym.engine.ground import Ground
from envs.mujoco_gym.engine.simulation import Env, GymError, Simulation
from envs.mujoco_gym.types import parameters
from envs.mujoco_gym.types.parameters import *

__all__ = ["CC_ALL_SUBSTEPS", "CC_LAST_SUBSTEP", "CC_NEVER", "ENV_SPACE", "GLOBAL_SPACE", "LOCAL_SPACE", "GymError"]
__all__ += ["DOF_MODE_EFFORT", "DOF_MODE_NONE", "DOF_MODE_POS", "DOF_MODE_VEL", "SIM_FLEX", "SIM_PHYSX", "Gym"]
__all__ += ["UP_AXIS_Y", "UP_AXIS_Z", "acquire_gym", *parameters.__all__]

SIM_PHYSX, SIM_FLEX = SimType.SIM_PHYSX, SimType.SIM_FLEX
UP_AXIS_Y, UP_AXIS_Z = UpAxis.UP_AXIS_Y, UpAxis.UP_AXIS_Z
ENV_SPACE, LOCAL_SPACE, GLOBAL_SPACE = CoordinateSpace
DOF_MODE_NONE, DOF_MODE_POS, DOF_MODE_VEL, DOF_MODE_EFFORT = DofDriveMode
CC_NEVER, CC_LAST_SUBSTEP, CC_ALL_SUBSTEPS = ContactCollection


class Gym:
    """Isaac Gym's calls on MuJoCo.

    Where Isaac Gym leaves a choice or MuJoCo forces one:

    * An environment holds one actor, and all actors are of one asset.
    * A contact's friction is the mean of the shape's and the ground's; between two shapes of the robot the larger one.
    * Velocities of bodies are those of their frames' origins. Net contact forces include friction.
    * DOF_MODE_POS is implicit: stiffness pulls to the target with at most the DoF's effort, damping acts on top of it.
      Damping acts in every mode, stiffness only in this one.
    * Forces set by `set_dof_actuation_force_tensor` act until they are set anew, and are not limited.
    * The velocity limit of a DoF is not enforced. Restitution is zero.
    * A diverged environment reads NaN in root and DoF states until these are set.
    """

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"gym.{name} is not supported by the MuJoCo stand-in for Isaac Gym"
            + (": nothing is drawn, run headless" if any(word in name for word in _DRAWING_WORDS) else "")
        )

    # -- simulation, ground, asset -------------------------------------------------------------------------------------

    def create_sim(
        self, compute_device: int = 0, graphics_device: int = 0, type: int = SIM_PHYSX, params: SimParams | None = None
    ) -> Simulation:
        """Begin a simulation. The devices do not matter: MuJoCo runs on the CPU."""
        if type != SIM_PHYSX:
            raise GymError("create_sim: only SIM_PHYSX is supported")
        return Simulation(SimParams() if params is None else params)

    def destroy_sim(self, sim: Simulation) -> None:
        """Let go of a simulation; its memory is freed with the last tensor."""

    def get_sim_params(self, sim: Simulation) -> SimParams:
        """Settings of the simulation."""
        return sim.params

    def set_sim_params(self, sim: Simulation, params: SimParams) -> None:
        """Change gravity, which is all that may change."""
        sim.set_gravity(params.gravity)

    def add_ground(self, sim: Simulation, params: PlaneParams) -> None:
        """Lay a plane."""
        sim.set_ground(Ground.from_plane(params))

    def add_heightfield(self, sim: Simulation, samples: np.ndarray, params: HeightFieldParams) -> None:
        """Lay a height field of int16 samples, (nbColumns * nbRows,)."""
        sim.set_ground(Ground.from_height_field(samples, params))

    def add_triangle_mesh(
        self, sim: Simulation, vertices: np.ndarray, triangles: np.ndarray, params: TriangleMeshParams
    ) -> None:
        """Lay a mesh of triangles, turned into a plane or a height field."""
        sim.set_ground(Ground.from_triangle_mesh(vertices, triangles, params))

    def load_asset(self, sim: Simulation, rootpath: str, filename: str, options: AssetOptions | None = None) -> Asset:
        """Read a robot from a URDF or MJCF file."""
        return load_asset(rootpath, filename, options)

    def get_asset_dof_count(self, asset: Asset) -> int:
        """Number of degrees of freedom."""
        return len(asset.dof_names)

    def get_asset_rigid_body_count(self, asset: Asset) -> int:
        """Number of bodies."""
        return len(asset.body_names)

    def get_asset_rigid_shape_count(self, asset: Asset) -> int:
        """Number of collision shapes."""
        return len(asset.shape_body)

    def get_asset_dof_names(self, asset: Asset) -> list[str]:
        """Names of the degrees of freedom."""
        return list(asset.dof_names)

    def get_asset_rigid_body_names(self, asset: Asset) -> list[str]:
        """Names of the bodies."""
        return list(asset.body_names)

    def find_asset_rigid_body_index(self, asset: Asset, name: str) -> int:
        """Index of a body, -1 if there is none of that name."""
        return _find(asset.body_names, name)

    def find_asset_dof_index(self, asset: Asset, name: str) -> int:
        """Index of a degree of freedom, -1 if there is none of that name."""
        return _find(asset.dof_names, name)

    def get_asset_dof_properties(self, asset: Asset) -> np.ndarray:
        """Properties of the degrees of freedom, (num_dof,) structured; a copy."""
        return asset.dof_properties.copy()

    def get_asset_rigid_shape_properties(self, asset: Asset) -> list[RigidShapeProperties]:
        """Surfaces of the collision shapes."""
        return asset.rigid_shape_properties

    def set_asset_rigid_shape_properties(self, asset: Asset, props: Sequence[RigidShapeProperties]) -> None:
        """Replace the surfaces that actors made from now on get."""
        if len(props) != len(asset.shape_body):
            raise ValueError(f"got {len(props)} shape properties for {len(asset.shape_body)} shapes")
        asset.rigid_shape_properties = list(props)

    def create_asset_force_sensor(self, asset: Asset, body: int, local_pose: Transform, props: object = None) -> int:
        """Put a force sensor on a body of all actors made from the asset.

        Args:
            asset: The asset, none of whose simulations is prepared yet.
            body: Index of the body.
            local_pose: Place and axes of the sensor in the body's frame.
            props: Not supported: the reading is the net force in the sensor's axes.

        Returns:
            Index of the sensor.

        Raises:
            GymError: If there is no such body, or properties are given.
        """
        if props is not None or not 0 <= body < len(asset.body_names):
            raise GymError(f"create_asset_force_sensor: no body {body}, or sensor properties, which are not supported")
        asset.force_sensors.append((body, local_pose))
        return len(asset.force_sensors) - 1

    # -- environments and actors ---------------------------------------------------------------------------------------

    def create_env(self, sim: Simulation, lower: Vec3, upper: Vec3, num_per_row: int) -> Env:
        """Make an environment in a grid of environments of this extent."""
        return sim.add_env(lower, upper, num_per_row)

    def get_env_count(self, sim: Simulation) -> int:
        """Number of environments."""
        return len(sim.envs)

    def get_env_origin(self, env: Env) -> Vec3:
        """Where the environment lies in the world."""
        return env.origin

    def create_actor(
        self,
        env: Env,
        asset: Asset,
        pose: Transform,
        name: str = "",
        group: int = -1,
        filter: int = -1,
        segmentation_id: int = 0,
    ) -> int:
        """Put a robot into an environment, at a pose relative to it.

        Args:
            env: The environment.
            asset: What the actor is made from, with the asset's properties as they are now.
            pose: Where it starts.
            name: Not used.
            group: Not used: environments never touch each other.
            filter: 0 or less for a robot whose bodies may touch each other, more for one whose may not.
            segmentation_id: Not used.

        Returns:
            Handle of the actor in its environment.
        """
        env.simulation.add_actor(env, asset, pose, self_collision=filter <= 0)
        return 0

    def get_actor_dof_properties(self, env: Env, actor: int) -> np.ndarray:
        """Properties of the degrees of freedom, (num_dof,) structured; a copy."""
        return _actor(env, actor).dof_properties.copy()

    def set_actor_dof_properties(self, env: Env, actor: int, props: np.ndarray) -> bool:
        """Replace limits, drive modes, stiffness, damping, effort, armature and friction of this actor."""
        _actor(env, actor).set_dof_properties(props)
        env.simulation.properties_changed(env)
        return True

    def get_actor_rigid_body_properties(self, env: Env, actor: int) -> list[RigidBodyProperties]:
        """Mass, centre of mass and inertia of every body; copies."""
        return _actor(env, actor).get_body_properties()

    def set_actor_rigid_body_properties(
        self,
        env: Env,
        actor: int,
        props: Sequence[RigidBodyProperties],
        recomputeInertia: bool = False,  # noqa: N803
    ) -> bool:
        """Replace masses and centres of mass of this actor; inertias follow the mass if asked for."""
        _actor(env, actor).set_body_properties(props, recomputeInertia)
        env.simulation.properties_changed(env)
        return True

    def get_actor_rigid_shape_properties(self, env: Env, actor: int) -> list[RigidShapeProperties]:
        """Surfaces of the collision shapes of this actor; editing them changes nothing until they are set."""
        return _actor(env, actor).get_shape_properties()

    def set_actor_rigid_shape_properties(self, env: Env, actor: int, props: Sequence[RigidShapeProperties]) -> bool:
        """Replace the friction of this actor's collision shapes."""
        _actor(env, actor).set_shape_properties(props)
        env.simulation.properties_changed(env)
        return True

    def get_actor_rigid_body_names(self, env: Env, actor: int) -> list[str]:
        """Names of the bodies."""
        return list(_actor(env, actor).asset.body_names)

    def get_actor_dof_names(self, env: Env, actor: int) -> list[str]:
        """Names of the degrees of freedom."""
        return list(_actor(env, actor).asset.dof_names)

    def find_actor_rigid_body_handle(self, env: Env, actor: int, name: str) -> int:
        """Index of a body in its environment, -1 if there is none of that name."""
        return _find(_actor(env, actor).asset.body_names, name)

    def find_actor_dof_handle(self, env: Env, actor: int, name: str) -> int:
        """Index of a degree of freedom in its environment, -1 if there is none of that name."""
        return _find(_actor(env, actor).asset.dof_names, name)

    def get_actor_root_rigid_body_handle(self, env: Env, actor: int) -> int:
        """Index of the root in its environment."""
        _actor(env, actor)
        return 0

    # -- running -------------------------------------------------------------------------------------------------------

    def prepare_sim(self, sim: Simulation) -> bool:
        """Build the worlds; call it after all actors are made and before any tensor is asked for."""
        sim.prepare()
        return True

    def simulate(self, sim: Simulation) -> None:
        """Advance by `dt`."""
        sim.simulate()

    def fetch_results(self, sim: Simulation, wait_for_latest_sim_step: bool) -> None:
        """Nothing to fetch: `simulate` returns when it is done."""

    def acquire_actor_root_state_tensor(self, sim: Simulation) -> Tensor:
        """Root states, (num_envs, 13)."""
        return sim.states.root

    def acquire_dof_state_tensor(self, sim: Simulation) -> Tensor:
        """DoF states, (num_envs * num_dof, 2)."""
        return sim.states.dof

    def acquire_rigid_body_state_tensor(self, sim: Simulation) -> Tensor:
        """Body states, (num_envs * num_bodies, 13)."""
        return sim.states.bodies

    def acquire_net_contact_force_tensor(self, sim: Simulation) -> Tensor:
        """Net contact forces, (num_envs * num_bodies, 3)."""
        return sim.states.contact_forces

    def acquire_force_sensor_tensor(self, sim: Simulation) -> Tensor:
        """Forces and torques on sensors, (num_envs * num_sensors, 6)."""
        if sim.states.force_sensors is None:
            raise GymError("acquire_force_sensor_tensor: the asset has no force sensors")
        return sim.states.force_sensors.forces

    def refresh_actor_root_state_tensor(self, sim: Simulation) -> bool:
        """Update root states."""
        sim.states.refresh_root()
        return True

    def refresh_dof_state_tensor(self, sim: Simulation) -> bool:
        """Update DoF states."""
        sim.states.refresh_dof()
        return True

    def refresh_rigid_body_state_tensor(self, sim: Simulation) -> bool:
        """Update body states."""
        sim.states.refresh_bodies()
        return True

    def refresh_net_contact_force_tensor(self, sim: Simulation) -> bool:
        """Update net contact forces."""
        sim.states.refresh_contact_forces()
        return True

    def refresh_force_sensor_tensor(self, sim: Simulation) -> bool:
        """Update the readings of force sensors."""
        sim.states.refresh_force_sensors()
        return True

    def set_actor_root_state_tensor(self, sim: Simulation, states: Tensor) -> bool:
        """Set all root states."""
        sim.states.set_root(states, None)
        return True

    def set_actor_root_state_tensor_indexed(self, sim: Simulation, states: Tensor, actors: Tensor, count: int) -> bool:
        """Set the root states of some actors; the other rows of the tensor are not read."""
        sim.states.set_root(states, actors[:count])
        return True

    def set_dof_state_tensor(self, sim: Simulation, states: Tensor) -> bool:
        """Set all DoF states."""
        sim.states.set_dof(states, None)
        return True

    def set_dof_state_tensor_indexed(self, sim: Simulation, states: Tensor, actors: Tensor, count: int) -> bool:
        """Set the DoF states of some actors; the other rows of the tensor are not read."""
        sim.states.set_dof(states, actors[:count])
        return True

    def set_dof_actuation_force_tensor(self, sim: Simulation, forces: Tensor) -> bool:
        """Set the forces and torques on all DoFs, (num_envs * num_dof,)."""
        sim.set_actuation_forces(forces)
        return True

    def set_dof_actuation_force_tensor_indexed(
        self, sim: Simulation, forces: Tensor, actors: Tensor, count: int
    ) -> bool:
        """Set the forces and torques on the DoFs of some actors."""
        sim.set_actuation_forces(forces, actors[:count])
        return True

    def set_dof_position_target_tensor(self, sim: Simulation, targets: Tensor) -> bool:
        """Set the targets of all position drives, (num_envs * num_dof,)."""
        sim.set_position_targets(targets)
        return True

    def set_dof_position_target_tensor_indexed(
        self, sim: Simulation, targets: Tensor, actors: Tensor, count: int
    ) -> bool:
        """Set the targets of the position drives of some actors."""
        sim.set_position_targets(targets, actors[:count])
        return True

    def apply_rigid_body_force_tensors(
        self, sim: Simulation, forces: Tensor | None = None, torques: Tensor | None = None, space: int = ENV_SPACE
    ) -> bool:
        """Push bodies at their centres of mass during the next `simulate`."""
        sim.apply_body_forces(forces, torques, space)
        return True


_DRAWING_WORDS = ("viewer", "camera", "graphics", "draw", "lines", "light", "image", "texture", "sync_frame_time")
_gym = Gym()


def acquire_gym() -> Gym:
    """The one gym object."""
    return _gym


def _find(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else INVALID_HANDLE


def _actor(env: Env, handle: int) -> Actor:
    if env.actor is None or handle != 0:
        raise GymError(f"environment {env.index} has no actor {handle}")
    return env.actor
