"""One simulation: its environments while they are built, and the batch of MuJoCo worlds that steps them afterwards."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass, field

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch
from torch import Tensor

from envs.available_cores import available_cores
from envs.mujoco_gym.assets.asset import Asset
from envs.mujoco_gym.engine.actor import Actor, model_fields
from envs.mujoco_gym.engine.batch_views import field_view
from envs.mujoco_gym.engine.ground import Ground
from envs.mujoco_gym.engine.scene import compile_robot, compile_scene, num_root_coordinates
from envs.mujoco_gym.engine.state_tensors import StateTensors
from envs.mujoco_gym.types.parameters import CoordinateSpace, SimParams, Transform, UpAxis, Vec3

__all__ = ["NUM_THREADS_VARIABLE", "Env", "GymError", "Simulation"]

NUM_THREADS_VARIABLE = "MUJOCO_GYM_NUM_THREADS"
"""Environment variable with the number of threads that step; it wins over `sim_params.physx.num_threads`."""

_FIRST_DIVERGENCE = int(mujoco.mjtWarning.mjWARN_BADQPOS)  # this warning and those after it: not finite or huge


class GymError(RuntimeError):
    """A call that cannot be done, or not in this order; the message says which and what to do."""


@dataclass(eq=False)
class Env:
    """Handle of an environment: a place in the world with one actor.

    Attributes:
        index: Its row in every tensor.
        origin: Where it lies in the world; actors are placed relative to it, tensors are not [m].
        actor: The robot, once there is one.
    """

    simulation: Simulation
    index: int
    origin: Vec3
    actor: Actor | None = None


@dataclass(eq=False)
class Simulation:
    """Handle of a simulation.

    Attributes:
        params: Settings; gravity may be replaced while it runs, the rest only before `prepare`.
        ground: What robots stand on, or None.
        envs: Environments, all with one actor of the same asset when `prepare` is called.
    """

    params: SimParams
    ground: Ground | None = None
    envs: list[Env] = field(default_factory=list)
    _robots: dict[int, mujoco.MjModel] = field(default_factory=dict)
    _prepared: _Prepared | None = None

    def __post_init__(self) -> None:
        if self.params.up_axis != UpAxis.UP_AXIS_Z:
            raise GymError("sim_params.up_axis has to be UP_AXIS_Z: y up is not supported")
        if not (self.params.dt > 0.0 and self.params.substeps >= 1):
            raise GymError(f"dt={self.params.dt} and substeps={self.params.substeps} have to be positive")

    # -- building ------------------------------------------------------------------------------------------------------

    def set_ground(self, ground: Ground) -> None:
        """Lay the ground; there is one of it."""
        self._must_not_be_prepared("add the ground")
        if self.ground is not None:
            raise GymError("the simulation has a ground already; only one is supported")
        self.ground = ground

    def add_env(self, lower: Vec3, upper: Vec3, num_per_row: int) -> Env:
        """Add an environment of an extent [m] to the grid of environments, row by row along x."""
        self._must_not_be_prepared("create an environment")
        row, column = divmod(len(self.envs), max(1, num_per_row))
        size = upper - lower
        self.envs.append(Env(self, len(self.envs), Vec3(column * size.x, row * size.y, 0.0)))
        return self.envs[-1]

    def add_actor(self, env: Env, asset: Asset, pose: Transform, self_collision: bool) -> Actor:
        """Put a robot into an environment, at a pose relative to the environment's origin."""
        self._must_not_be_prepared("create an actor")
        if env.actor is not None:
            raise GymError(f"environment {env.index} has an actor already; one actor in each is supported")
        if id(asset) not in self._robots:
            self._robots[id(asset)] = compile_robot(asset)
        start = Transform(pose.p + env.origin, pose.r)
        env.actor = Actor(asset, self._robots[id(asset)], start, self_collision)
        return env.actor

    def prepare(self) -> None:
        """Compile the scene, make one world for each environment and place the robots at their start poses."""
        self._must_not_be_prepared("prepare the simulation")
        actors = [_actor_of(env) for env in self.envs]
        if not actors:
            raise GymError("prepare_sim needs environments: call create_env and create_actor first")
        for index, actor in enumerate(actors):
            if actor.asset is not actors[0].asset or actor.self_collision != actors[0].self_collision:
                raise GymError(f"environment {index}: all actors have to have the same asset and collision filter")
        self._prepared = _Prepared(self.params, self.ground, actors)

    # -- running -------------------------------------------------------------------------------------------------------

    @property
    def states(self) -> StateTensors:
        """State tensors."""
        return self._need_prepared().states

    @property
    def model(self) -> mujoco.MjModel:
        """The model all environments share, but for their own properties."""
        return self._need_prepared().model

    @property
    def batch(self) -> Batch:
        """MuJoCo's worlds, environment by environment."""
        return self._need_prepared().batch

    def simulate(self) -> None:
        """Advance all environments by `dt`, in `substeps` steps."""
        self._need_prepared().simulate(self.params.substeps)

    def properties_changed(self, env: Env) -> None:
        """Hand changed properties of an actor to the worlds, if there are worlds already.

        Raises:
            GymError: If it now has position drives and the worlds were made without.
        """
        if self._prepared is None:
            return
        if self._prepared.position_targets is None and _actor_of(env).has_position_drives:
            raise GymError("DOF_MODE_POS has to be set before prepare_sim for at least one actor")
        self._prepared.changed.append(env.index)

    def set_gravity(self, gravity: Vec3) -> None:
        """Change gravity in all environments [m/s^2]."""
        self.params.gravity = gravity
        if self._prepared is not None:
            self._prepared.batch.expand("opt.gravity")[:] = list(gravity)

    def set_actuation_forces(self, forces: Tensor, env_ids: Tensor | None = None) -> None:
        """Set the force or torque on every degree of freedom, (num_envs * num_dof,) [N, N m], until it is set anew."""
        prepared = self._need_prepared()
        _write(prepared.actuation_forces, forces, env_ids, "DoF actuation force")

    def set_position_targets(self, targets: Tensor, env_ids: Tensor | None = None) -> None:
        """Set where the position drives pull, (num_envs * num_dof,) [rad, m], until it is set anew.

        Raises:
            GymError: If no degree of freedom has a position drive.
        """
        prepared = self._need_prepared()
        if prepared.position_targets is None:
            raise GymError("no DoF is in DOF_MODE_POS: set driveMode with set_actor_dof_properties before prepare_sim")
        _write(prepared.position_targets, targets, env_ids, "DoF position target")

    def apply_body_forces(self, forces: Tensor | None, torques: Tensor | None, space: int) -> None:
        """Push and turn bodies at their centres of mass in the next `simulate` only, in world axes.

        Args:
            forces: (num_envs * num_bodies, 3) [N], or None.
            torques: (num_envs * num_bodies, 3) [N m], or None.
            space: GLOBAL_SPACE or ENV_SPACE, whose axes are the same.

        Raises:
            GymError: If forces are given in LOCAL_SPACE.
        """
        if space == CoordinateSpace.LOCAL_SPACE:
            raise GymError("apply_rigid_body_force_tensors: LOCAL_SPACE is not supported; turn them into GLOBAL_SPACE")
        prepared = self._need_prepared()
        for values, columns in ((forces, slice(0, 3)), (torques, slice(3, 6))):
            if values is not None:
                _write(prepared.body_forces[..., columns], values, None, "rigid body force")
                prepared.body_forces_are_set = True

    def _need_prepared(self) -> _Prepared:
        if self._prepared is None:
            raise GymError("call prepare_sim after all environments and actors are made, and before this")
        return self._prepared

    def _must_not_be_prepared(self, action: str) -> None:
        if self._prepared is not None:
            raise GymError(f"cannot {action} after prepare_sim")


class _Prepared:
    """What exists once the scene is compiled."""

    def __init__(self, params: SimParams, ground: Ground | None, actors: list[Actor]) -> None:
        asset = actors[0].asset
        self._actors, self._ground_friction = actors, 0.0 if ground is None else ground.friction
        drives = any(actor.has_position_drives for actor in actors)
        self.model = compile_scene(asset, ground, params, actors[0].self_collision, drives)
        fields = model_fields(self.model, actors, self._ground_friction)
        for name, values in fields.items():
            getattr(self.model, name)[:] = values[0]
        mujoco.mj_setConst(self.model, mujoco.MjData(self.model))
        # The number of threads changes no result.
        num_threads = _num_threads(params)
        self.batch = Batch(self.model, len(actors), nthread=num_threads)
        self._write_fields(fields, np.arange(len(actors)))
        kinematics = Batch(actors[0].robot, len(actors), nthread=num_threads)
        if asset.fixed_base:
            for name in ("body_pos", "body_quat"):
                kinematics.expand(name)[:] = fields[name]
        self.changed: list[int] = []
        _, first_velocity = num_root_coordinates(asset)
        self.actuation_forces = field_view(self.batch, "qfrc_applied")[:, first_velocity:]
        self.position_targets = field_view(self.batch, "ctrl") if drives else None
        self.body_forces = field_view(self.batch, "xfrc_applied")[:, 1:]
        self.body_forces_are_set = False
        _silence_mujoco()
        self._warnings = self._batch_warnings()
        self._reported = np.zeros(self._warnings.shape[1], dtype=bool)
        self.states = StateTensors(asset, self.batch, kinematics)
        if not asset.fixed_base:
            poses = [[*actor.start_pose.p, *_xyzw(actor.start_pose), *6 * [0.0]] for actor in actors]
            self.states.set_root(torch.tensor(poses, dtype=torch.float32), None)
        self.states.set_dof(torch.zeros_like(self.states.dof), None)

    def simulate(self, substeps: int) -> None:
        """Step all worlds, then find out which could not be."""
        if self.changed:
            env_ids = np.unique(self.changed)
            actors = [self._actors[index] for index in env_ids]
            self._write_fields(model_fields(self.model, actors, self._ground_friction), env_ids)
            self.changed.clear()
        self.batch.step(nstep=substeps)
        if self.body_forces_are_set:
            self.body_forces.zero_()
            self.body_forces_are_set = False
        warnings_now = self._batch_warnings()
        if np.array_equal(warnings_now, self._warnings):
            self.states.after_step(None)
            return
        raised = warnings_now != self._warnings  # (num_envs, num_kinds)
        self._warnings = warnings_now
        self.states.after_step(torch.from_numpy(raised[:, _FIRST_DIVERGENCE:].any(axis=1)))
        self._report(raised)

    def _write_fields(self, fields: dict[str, np.ndarray], env_ids: np.ndarray) -> None:
        """Give environments their own values of those fields in which they differ from the shared model."""
        constants_depend = False
        for name, values in fields.items():
            if self.batch.expanded(name) is None and (values == getattr(self.model, name)).all():
                continue
            self.batch.expand(name)[env_ids] = values
            constants_depend |= name in mujoco.MjModel._setconst_inputs
        if constants_depend:
            self.batch.set_const(env_ids)

    def _batch_warnings(self) -> np.ndarray:
        """How often MuJoCo has warned of each environment since the beginning, (num_envs, num_kinds)."""
        return self.batch.warning[:, :, 1].copy()

    def _report(self, raised: np.ndarray) -> None:
        """Say once for each kind of warning which environments raised it, (num_envs, num_kinds) bool."""
        for kind in np.flatnonzero(raised.any(axis=0) & ~self._reported):
            self._reported[kind] = True
            env_ids = np.flatnonzero(raised[:, kind])
            shown = ", ".join(str(index) for index in env_ids[:8]) + (", ..." if len(env_ids) > 8 else "")
            message = f"environment {shown}: {mujoco.mju_warningText(int(kind), 0).split(' at DOF')[0]}"
            if kind >= _FIRST_DIVERGENCE:
                message += (
                    ". MuJoCo has put the robot back to its own pose; its root and DoF states read NaN until they are "
                    "set. Further environments that diverge like this are not reported"
                )
            warnings.warn(message, RuntimeWarning, stacklevel=5)


def _silence_mujoco() -> None:
    """Keep MuJoCo from printing each warning of each environment, and from logging them in the working directory."""
    config = mujoco.MjLogConfig.get()
    config.logto_console = config.logto_file = False
    config.set()


def _num_threads(params: SimParams) -> int:
    """Threads to step with: the environment variable, else the parameter, never more than there are cores."""
    wanted = os.environ.get(NUM_THREADS_VARIABLE)
    if wanted is not None and not wanted.isdecimal():
        raise GymError(f"{NUM_THREADS_VARIABLE}={wanted!r} is not a number of threads")
    cores = available_cores()
    return min(int(wanted) if wanted else int(params.physx.num_threads), cores) or cores


def _actor_of(env: Env) -> Actor:
    if env.actor is None:
        raise GymError(f"environment {env.index} has no actor")
    return env.actor


def _xyzw(pose: Transform) -> list[float]:
    rotation = pose.r.normalize()
    return [rotation.x, rotation.y, rotation.z, rotation.w]


def _write(target: Tensor, values: Tensor, env_ids: Tensor | None, name: str) -> None:
    """Copy the rows of some environments, or of all, into the simulation."""
    if values.numel() != math.prod(target.shape):
        raise ValueError(f"the {name} tensor has {values.numel()} elements, expected {math.prod(target.shape)}")
    rows = values.view(target.shape)
    if env_ids is None:
        target.copy_(rows)
    else:
        env_ids = env_ids.long()
        target[env_ids] = rows[env_ids].double()
