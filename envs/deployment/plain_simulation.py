"""A robot of any MJCF file in plain MuJoCo, its joints driven by torques that are computed here, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from envs.deployment.exported_controller import ArtefactError
from envs.deployment.free_use import ANG_VEL_BIAS, GRAVITY_BIAS, Blows, DrivenArms

_FALLEN_HEIGHT, _FALLEN_TILT = 0.45, 0.8  # [m], [rad] where the controller's description names none
_ROUGH_REACH, _CELL = 30.0, 0.1  # [m] of rough ground in every direction, and between its samples
SKIN = 0.02  # [m] as in `envs.mujoco_gym.engine.ground`, which says why and wants torch
_HELD_DAMPING = 10.0  # [N m s / rad] of joints that the controller does not know, such as fingers


@dataclass(frozen=True)
class Conditions:
    """What differs from the model as it is.

    Attributes:
        physics_dt: Time of a physics step [s].
        delay: Time from a joint target to the motors [s].
        noise: Of the measurements, in units of the noise that the controller was trained with.
        friction: Coefficient of all surfaces; None keeps the model's.
        payload: Mass added to the torso [kg].
        push: Change of the base's velocity in a random direction every `push_interval` [m/s].
        push_interval: Time between pushes [s].
        strength: Factor on all torques of the controller.
        imu_bias: Factor on constant errors of the inertial sensors, 0.05 rad/s and 0.03 rad about every axis.
        punch: Largest force of the blows on links every 5 s [N].
        arms: "walk" for arms that are driven in the controller's place; empty for its own.
        roughness: Of the ground: bumps of up to so much, up and down, 0.3 m wide [m].
    """

    physics_dt: float = 0.002
    delay: float = 0.0
    noise: float = 0.0
    friction: float | None = None
    payload: float = 0.0
    push: float = 0.0
    push_interval: float = 5.0
    strength: float = 1.0
    imu_bias: float = 0.0
    punch: float = 0.0
    arms: str = ""
    roughness: float = 0.0


class PlainSimulation:
    """One robot on a floor.

    Actuators of the model are switched off; each physics step takes the torque
    `stiffness * (target - q) - damping * dq`, held within the controller's limits. The joints get its armature, if it
    names one; their friction and damping are the model's.

    Args:
        mjcf: The robot, with or without a floor.
        controller: What will drive it: names, gains and the pose to begin in.
        conditions: What differs.
        seed: Of noise and pushes.

    Raises:
        ArtefactError: The model cannot be loaded, does not float, or lacks a joint; a condition makes no sense.
    """

    def __init__(self, mjcf: str | Path, controller: Any, conditions: Conditions, seed: int = 0) -> None:
        self.controller, self.conditions = controller, conditions
        self.random = np.random.default_rng(seed)
        self._substeps = round(controller.control_dt / max(conditions.physics_dt, 1e-6))
        if self._substeps < 1 or abs(self._substeps * conditions.physics_dt - controller.control_dt) > 1e-9:
            raise ArtefactError(
                f"a control step of {controller.control_dt:g} s is no multiple of {conditions.physics_dt:g} s"
            )
        if not conditions.roughness >= 0.0:
            raise ArtefactError(f"the roughness of the ground must not be negative, got {conditions.roughness:g} m")
        self.model = model = _load(mjcf, conditions.roughness, self.random)
        self.data = mujoco.MjData(model)
        root = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
        if len(root) != 1:
            raise ArtefactError(f"{mjcf}: the robot must have one free joint, found {len(root)}")
        joints = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in controller.joint_names]
        missing = [name for name, index in zip(controller.joint_names, joints) if index < 0]
        if missing:
            raise ArtefactError(f"{mjcf}: has no joint '{missing[0]}', which the controller drives")
        self._q, self._dq = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
        self._root, self._root_dof = int(model.jnt_qposadr[root[0]]), int(model.jnt_dofadr[root[0]])
        others = np.setdiff1d(np.arange(model.nv), [*self._dq, *range(self._root_dof, self._root_dof + 6)])
        model.dof_damping.reshape(model.nv, -1)[others, 0] = _HELD_DAMPING
        if controller.armature is not None:
            model.dof_armature[self._dq] = controller.armature
        model.opt.timestep = conditions.physics_dt
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ACTUATION
        if conditions.friction is not None:
            model.geom_friction[:, 0] = conditions.friction
        torso = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "torso_link")
        model.body_mass[torso if torso >= 0 else model.jnt_bodyid[root[0]]] += conditions.payload
        mujoco.mj_setConst(model, self.data)
        self._delay_steps = round(conditions.delay / conditions.physics_dt)
        self._bias = np.zeros((2, 3))
        if conditions.imu_bias:
            sizes = conditions.imu_bias * np.array([[ANG_VEL_BIAS], [GRAVITY_BIAS]])
            self._bias = sizes * self.random.choice((-1.0, 1.0), (2, 3))
        self._blows, self._arms = None, None
        if conditions.punch:
            self._blows = Blows(model.jnt_bodyid[joints], conditions.punch, controller.control_dt, self.random)
        if conditions.arms:
            limits, armature = model.jnt_range[joints], model.dof_armature[self._dq]
            self._arms = DrivenArms(controller.joint_names, limits, armature, controller.control_dt, self.random)
        limits = controller.description["training"]["ends_at"]
        self._lowest = limits.get("base_height", _FALLEN_HEIGHT)
        self._steepest = limits.get("tilt", _FALLEN_TILT)
        self.reset()

    def reset(self, joint_pos: np.ndarray | None = None) -> None:
        """Stand the robot on the floor.

        Args:
            joint_pos: Pose to stand in [rad], (num_joints,); by default the one that the controller begins in.
        """
        pose = self.controller.start_joint_pos if joint_pos is None else joint_pos
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._q] = pose
        self.data.qpos[self._root + 3 : self._root + 7] = _quat_seeing(self.controller.start_gravity)
        low, high = 0.0, 3.0  # of the base: within the floor, above it
        for _ in range(20):
            self.data.qpos[self._root + 2] = middle = 0.5 * (low + high)
            mujoco.mj_forward(self.model, self.data)
            low, high = (middle, high) if self._touches_the_floor() else (low, middle)
        self.data.qpos[self._root + 2] = high
        mujoco.mj_forward(self.model, self.data)
        self._sent = [pose] * (self._delay_steps + 1)
        self._step = 0
        if self._arms is not None:
            self._arms.reset(pose)

    def measure(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Angular velocity (3,) and gravity (3,) in the base's frame, joint angles and velocities (num_joints,)."""
        true = (self.data.qvel[self._root_dof + 3 : self._root_dof + 6], self.rotation().T @ [0.0, 0.0, -1.0])
        biased = [value + bias for value, bias in zip(true, self._bias)]
        values = (*biased, self.data.qpos[self._q], self.data.qvel[self._dq])
        scales = self.controller.description["training"]["noise"]
        spread = [
            self.conditions.noise * scales.get(name, 0.0) for name in ("ang_vel", "gravity", "dof_pos", "dof_vel")
        ]
        return tuple(v + s * self.random.uniform(-1.0, 1.0, v.shape) for v, s in zip(values, spread))

    def step(self, targets: np.ndarray) -> None:
        """Drive the joints towards targets [rad], (num_joints,), for a control step."""
        drive = self.controller
        stiffness, damping = drive.stiffness, drive.damping
        if self._arms is not None:
            targets, stiffness, damping = targets.copy(), stiffness.copy(), damping.copy()
            arms = self._arms.columns
            targets[arms], stiffness[arms], damping[arms] = self._arms.step(), self._arms.stiffness, self._arms.damping
        if self._blows is not None:
            self._blows.step(self._step, self.data.xfrc_applied)
        self._step += 1
        for _ in range(self._substeps):
            self._sent = [*self._sent[1:], targets]
            error = self._sent[0] - self.data.qpos[self._q]
            torque = stiffness * error - damping * self.data.qvel[self._dq]
            torque = self.conditions.strength * np.clip(torque, -drive.torque_limit, drive.torque_limit)
            self.data.qfrc_applied[self._dq] = torque
            mujoco.mj_step(self.model, self.data)

    def push(self) -> None:
        """Change the base's velocity at once, in a random horizontal direction."""
        angle = self.random.uniform(0.0, 2.0 * np.pi)
        self.data.qvel[self._root_dof : self._root_dof + 2] += self.conditions.push * np.array(
            [np.cos(angle), np.sin(angle)]
        )

    @property
    def root(self) -> np.ndarray:
        """Position [m] and orientation wxyz of the base in the world, (7,), to be read and to be written."""
        return self.data.qpos[self._root : self._root + 7]

    def rotation(self) -> np.ndarray:
        """From the base's frame to the world, (3, 3)."""
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, self.root[3:])
        return matrix.reshape(3, 3)

    def pose(self) -> np.ndarray:
        """x, y [m] and heading [rad] of the base, (3,)."""
        rotation = self.rotation()
        return np.array([*self.data.qpos[self._root : self._root + 2], np.arctan2(rotation[1, 0], rotation[0, 0])])

    def velocity(self) -> np.ndarray:
        """vx, vy [m/s] in the heading frame and yaw rate [rad/s] of the base, (3,)."""
        rotation, motion = self.rotation(), self.data.qvel[self._root_dof : self._root_dof + 6]
        yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
        forward, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
        return np.array([forward @ motion[:2], left @ motion[:2], (rotation @ motion[3:])[2]])

    @property
    def fallen(self) -> bool:
        """Whether the base is too low or too far from upright, or the simulation has diverged."""
        height, upright = self.data.qpos[self._root + 2], self.rotation()[2, 2]
        return not (height >= self._lowest and upright >= np.cos(self._steepest))  # NaN compares false

    def _touches_the_floor(self) -> bool:
        """Whether a geom of the world meets one of the robot."""
        contacts = self.data.contact.geom[: self.data.ncon].reshape(-1, 2)
        of_world = self.model.geom_bodyid[contacts] == 0
        return bool((of_world.any(axis=1) & ~of_world.all(axis=1)).any())


def _load(path: str | Path, roughness: float, random: np.random.Generator) -> Any:
    """The model of a file, with a floor and a light if it has none, and with bumps on it if they are asked for."""
    if not Path(path).is_file():
        raise ArtefactError(f"{path}: no such file")
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        plane = mujoco.mjtGeom.mjGEOM_PLANE
        if not any(geom.type == plane for geom in spec.worldbody.geoms):
            spec.worldbody.add_geom(name="added_floor", type=plane, size=[0.0, 0.0, 0.05], rgba=[0.8, 0.8, 0.8, 1.0])
            spec.worldbody.add_light(pos=[0.0, 0.0, 4.0], dir=[0.0, 0.0, -1.0])
        if roughness:
            cells = 2 * round(_ROUGH_REACH / _CELL)
            bumps = np.kron(random.uniform(0.0, 1.0, (cells // 3 + 1,) * 2), np.ones((3, 3)))[:cells, :cells]
            size = [_ROUGH_REACH, _ROUGH_REACH, 2.0 * roughness, 0.1]
            spec.add_hfield(name="bumps", nrow=cells, ncol=cells, size=size, userdata=bumps.flatten().tolist())
            seen, felt = ({"contype": 0, "conaffinity": 0}, {"pos": [0.0, 0.0, -SKIN], "margin": SKIN, "group": 3})
            for name, how in (("bumps", seen), ("felt_bumps", felt)):
                spec.worldbody.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname="bumps", **how)
        return spec.compile()
    except (ValueError, RuntimeError) as error:
        raise ArtefactError(f"{path}: MuJoCo cannot load it: {' '.join(str(error).split())[:160]}") from error


def _quat_seeing(gravity: np.ndarray) -> np.ndarray:
    """Orientation wxyz without yaw in which gravity has this direction in the base's frame, (3,)."""
    down = gravity / np.linalg.norm(gravity)
    roll, pitch = np.arctan2(-down[1], -down[2]), np.arcsin(np.clip(down[0], -1.0, 1.0))
    about_y = np.array([np.cos(pitch / 2), 0.0, np.sin(pitch / 2), 0.0])
    about_x = np.array([np.cos(roll / 2), np.sin(roll / 2), 0.0, 0.0])
    result = np.zeros(4)
    mujoco.mju_mulQuat(result, about_y, about_x)
    return result
