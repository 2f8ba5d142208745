"""Isaac Gym's force sensors: net force and torque on a body, from the change of its momentum in the last substep."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mujoco.batch import Batch
from torch import Tensor

from cmg_ref.core.rotations import quat_rotate, quat_rotate_inverse
from envs.mujoco_gym.engine.batch_views import field_view, model_view
from envs.mujoco_gym.types.parameters import Transform

__all__ = ["ForceSensors"]


class ForceSensors:
    """Sensors on bodies of all environments.

    The net force has every part: gravity, contacts, drives and the joints' reactions. A body at rest reads zero.

    Attributes:
        forces: Force [N] and torque about the sensor [N m] in the sensor's axes, (num_envs * num_sensors, 6).
    """

    def __init__(self, sensors: Sequence[tuple[int, Transform]], batch: Batch, kinematics: Batch) -> None:
        """Place the sensors.

        Args:
            sensors: Body and pose in its frame of each sensor.
            batch: The worlds. What they compute in a step holds for the beginning of its last substep.
            kinematics: The same robots at the end of the substep, once their kinematics are computed.
        """
        self._batch, self._timestep = batch, batch.model.opt.timestep
        self._bodies = torch.tensor([body + 1 for body, _ in sensors], dtype=torch.long)  # the world comes first
        self._pos = torch.tensor([list(pose.p) for _, pose in sensors], dtype=torch.float64)
        rotations = [[pose.r.x, pose.r.y, pose.r.z, pose.r.w] for _, pose in sensors]
        self._quat = torch.tensor(rotations, dtype=torch.float64)
        self._before = _Fields(batch)
        self._after = _Fields(kinematics)
        self.forces = torch.zeros(batch.nsim * len(sensors), 6)
        self._rows = self.forces.view(batch.nsim, len(sensors), 6)

    def refresh(self) -> None:
        """Compute the forces of the last substep; the kinematics have to be current."""
        mass = model_view(self._batch, "body_mass")[:, self._bodies, None]  # (num_envs or 1, num_sensors, 1)
        inertia = model_view(self._batch, "body_inertia")[:, self._bodies]
        center = model_view(self._batch, "body_ipos")[:, self._bodies]
        before = self._before.momentum(self._bodies, mass, center, inertia)
        after = self._after.momentum(self._bodies, mass, center, inertia)
        force, torque = ((new - old) / self._timestep for new, old in zip(after, before, strict=True))
        # From the centre of mass to the place and the axes of the sensor.
        quat = self._after.quat(self._bodies)
        torque = torque + torch.linalg.cross(quat_rotate(quat, center - self._pos), force)
        for columns, value in ((slice(0, 3), force), (slice(3, 6), torque)):
            self._rows[..., columns] = quat_rotate_inverse(self._quat, quat_rotate_inverse(quat, value))


class _Fields:
    """The fields of a batch that give the momentum of a body."""

    def __init__(self, batch: Batch) -> None:
        names = ("xpos", "xquat", "ximat", "cvel", "subtree_com")
        self._xpos, self._xquat, self._ximat, self._cvel, self._center = (field_view(batch, name) for name in names)

    def quat(self, bodies: Tensor) -> Tensor:
        """Orientation of bodies, quaternions xyzw, (num_envs, num_bodies, 4)."""
        return self._xquat[:, bodies].roll(-1, dims=-1)

    def momentum(self, bodies: Tensor, mass: Tensor, center: Tensor, inertia: Tensor) -> tuple[Tensor, Tensor]:
        """Linear momentum, and angular momentum about the centre of mass, in world axes, each (num_envs, n, 3)."""
        angular, linear = self._cvel[:, bodies, 0:3], self._cvel[:, bodies, 3:6]
        center_w = self._xpos[:, bodies] + quat_rotate(self.quat(bodies), center)
        # MuJoCo gives the velocity of the point of the body that is at the whole robot's centre of mass.
        velocity = linear + torch.linalg.cross(angular, center_w - self._center[:, 1:2])
        axes = self._ximat[:, bodies].unflatten(-1, (3, 3))
        turned = (axes.transpose(-1, -2) @ angular[..., None])[..., 0]
        return mass * velocity, (axes @ (inertia * turned)[..., None])[..., 0]
