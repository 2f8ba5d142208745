"""Compiles one environment into MuJoCo models: robot, ground, drives and contact sensors.

Every environment is a MuJoCo world of its own with the same model; `actor.py` says what differs between them.
"""

from __future__ import annotations

import mujoco
import numpy as np

from envs.mujoco_gym.assets.asset import Asset
from envs.mujoco_gym.engine.ground import Ground
from envs.mujoco_gym.types.parameters import SimParams

__all__ = ["compile_robot", "compile_scene", "contact_bodies", "friction_of_contact", "num_root_coordinates"]

_SOLVERS = {"PGS": mujoco.mjtSolver.mjSOL_PGS, "CG": mujoco.mjtSolver.mjSOL_CG, "Newton": mujoco.mjtSolver.mjSOL_NEWTON}
_CONES = {"pyramidal": mujoco.mjtCone.mjCONE_PYRAMIDAL, "elliptic": mujoco.mjtCone.mjCONE_ELLIPTIC}
_HARDEST_CONTACT = 0.005  # [s] time constant below which contacts need not go
# The ground meets everything. Robots that may touch themselves have the first bit in both masks, others do not.
_GROUND_MASKS, _SELF_COLLIDING_MASKS, _OTHER_MASKS = (3, 3), (1, 1), (1, 2)
_CONTACT_FORCE_FIELD = 1 << int(mujoco.mjtConDataField.mjCONDATA_FORCE)
_NET_FORCE = 3  # the contact sensor's way to reduce several contacts to one: sum of forces in the world frame


def num_root_coordinates(asset: Asset) -> tuple[int, int]:
    """Positions and velocities that precede the joints': 7 and 6 of a free root, none of a fixed one."""
    return (0, 0) if asset.fixed_base else (7, 6)


def contact_bodies(asset: Asset) -> list[int]:
    """Indices of the bodies that can touch something, in order."""
    return sorted(set(asset.shape_body.tolist()))


def friction_of_contact(shape: np.ndarray, ground: float) -> np.ndarray:
    """Coefficient of friction between shapes and the ground: the mean, as PhysX combines them by default."""
    return 0.5 * (shape + ground)


def compile_robot(asset: Asset) -> mujoco.MjModel:
    """The robot alone without shapes or forces: nominal masses, and the kinematics at little cost.

    Raises:
        RuntimeError: If MuJoCo orders bodies or joints unlike the asset.
    """
    spec = asset.spec()
    for geom in list(spec.geoms):
        spec.delete(geom)
    disable = mujoco.mjtDisableBit
    spec.option.disableflags = int(
        disable.mjDSBL_CONSTRAINT | disable.mjDSBL_GRAVITY | disable.mjDSBL_SPRING | disable.mjDSBL_DAMPER
    )
    model = spec.compile()
    bodies = [model.body(index).name for index in range(1, model.nbody)]
    joints = [model.joint(index).name for index in range(model.njnt - len(asset.dof_names), model.njnt)]
    if bodies != asset.body_names or joints != asset.dof_names:
        raise RuntimeError(f"{asset.name}: MuJoCo orders the bodies {bodies} or joints {joints} unlike the asset")
    return model


def compile_scene(
    asset: Asset, ground: Ground | None, params: SimParams, self_collision: bool, position_drives: bool
) -> mujoco.MjModel:
    """The model that is stepped.

    Args:
        asset: The robot.
        ground: What it stands on, or None.
        params: Time step, gravity and solver.
        self_collision: Whether the robot's bodies may touch each other; a body never touches its parent.
        position_drives: Whether joints get actuators for DOF_MODE_POS, one each in their order.

    Returns:
        The model. Bodies and joints come in the asset's order after the world and the free root; shape `i` is the geom
        "shape_<i>"; the sensors are the net contact forces of `contact_bodies`, in world axes and with opposite sign.

    Raises:
        ValueError: If the parameters name no known solver or cone.
    """
    spec = asset.spec()
    _set_options(spec.option, params)
    time_constant = params.mujoco.contact_time_constant or max(2.0 * spec.option.timestep, _HARDEST_CONTACT)
    for geom in spec.geoms:
        geom.contype, geom.conaffinity = _SELF_COLLIDING_MASKS if self_collision else _OTHER_MASKS
        geom.solref = [time_constant, 1.0]
        # A contact takes friction and softness from the geom of higher priority, which is the robot's.
        geom.priority = 1
    if ground is not None:
        ground.add_to(spec)
        for geom in spec.worldbody.geoms:
            geom.contype, geom.conaffinity = _GROUND_MASKS
    if position_drives:
        for name in asset.dof_names:
            # Gains and limits follow from the properties of the degree of freedom.
            drive = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            drive.biastype = mujoco.mjtBias.mjBIAS_AFFINE
            drive.forcelimited, drive.forcerange = True, [-1.0, 1.0]
    for body in contact_bodies(asset):
        spec.add_sensor(
            name=f"contact_{body}",
            type=mujoco.mjtSensor.mjSENS_CONTACT,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            objname=asset.body_names[body],
            intprm=[_CONTACT_FORCE_FIELD, _NET_FORCE, 1],
        )
    model = spec.compile()
    # Let no frame be taken as that of the centre of mass, which may be moved afterwards (`set_const` leaves these be).
    same = mujoco.mjtSameFrame
    for frames in (model.body_sameframe, model.geom_sameframe, model.site_sameframe):
        frames[frames == int(same.mjSAMEFRAME_INERTIA)] = int(same.mjSAMEFRAME_INERTIAROT)
    model.body_sameframe[model.body_sameframe == int(same.mjSAMEFRAME_BODY)] = int(same.mjSAMEFRAME_BODYROT)
    return model


def _set_options(option: mujoco.MjOption, params: SimParams) -> None:
    for name, chosen, known in (("solver", params.mujoco.solver, _SOLVERS), ("cone", params.mujoco.cone, _CONES)):
        if chosen not in known:
            raise ValueError(f"sim_params.mujoco.{name} is {chosen!r}; it has to be one of {', '.join(known)}")
    option.timestep = params.dt / params.substeps
    option.gravity = list(params.gravity)
    option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    option.solver = _SOLVERS[params.mujoco.solver]
    option.cone = _CONES[params.mujoco.cone]
    option.iterations = params.mujoco.iterations
    option.noslip_iterations = params.mujoco.noslip_iterations
