"""The simulation's state in Isaac Gym's tensors: float32, world frame, quaternions xyzw, one memory for good.

MuJoCo's own rows are float64, with quaternions wxyz and the root's angular velocity in its own frame. Torch sees them
through views, so a refresh is a handful of copies (with Numba one loop) and a setter a handful of scatters.
"""

from __future__ import annotations

import mujoco
import torch
from mujoco.batch import Batch
from torch import Tensor

from cmg_ref.core.backends import call_loop, numba_available
from cmg_ref.core.rotations import quat_rotate_inverse
from envs.mujoco_gym.assets.asset import Asset
from envs.mujoco_gym.engine.batch_views import field_view
from envs.mujoco_gym.engine.force_sensors import ForceSensors
from envs.mujoco_gym.engine.scene import contact_bodies, num_root_coordinates

__all__ = ["StateTensors"]


class StateTensors:
    """Tensors of all environments, what refreshes them and what writes them back.

    Attributes:
        root: Position [m], quaternion xyzw, linear velocity of the root's origin [m/s] and angular velocity [rad/s],
            (num_envs, 13).
        dof: Position and velocity [rad, rad/s or m, m/s], (num_envs * num_dof, 2).
        bodies: As `root` for every body, (num_envs * num_bodies, 13).
        contact_forces: Net contact force on every body, friction included, in the last substep [N],
            (num_envs * num_bodies, 3).
        force_sensors: The sensors that were put on the asset.
        diverged: Environments that MuJoCo had to put back to the model's own pose because their state or their
            controls were not finite, (num_envs,) bool. Their root and dof read NaN until a setter gives them a state.
    """

    def __init__(self, asset: Asset, batch: Batch, kinematics: Batch) -> None:
        num_envs, num_bodies, num_dof = batch.nsim, len(asset.body_names), len(asset.dof_names)
        self._kinematics, self._asset = kinematics, asset
        self._first_position, self._first_velocity = num_root_coordinates(asset)
        self._qpos, self._qvel = field_view(batch, "qpos"), field_view(batch, "qvel")
        self._warmstart = field_view(batch, "qacc_warmstart")
        self._kinematic_qpos, self._kinematic_qvel = field_view(kinematics, "qpos"), field_view(kinematics, "qvel")
        fields = (field_view(kinematics, name)[:, 1:] for name in ("xpos", "xquat", "cvel"))
        self._xpos, self._xquat, self._cvel = fields
        self._center = field_view(kinematics, "subtree_com")[:, 1:2]  # of the whole robot, which `cvel` refers to
        self._sensors = field_view(batch, "sensordata")
        touching = contact_bodies(asset)
        self._touching = torch.tensor(touching, dtype=torch.int64)
        # Net forces of the bodies that can touch something, then the zero of those that cannot.
        self._measured_forces = torch.zeros(num_envs, 3 * len(touching) + 1)
        self._net_forces = self._measured_forces[:, :-1]
        columns = torch.full((num_bodies, 3), 3 * len(touching))
        columns[self._touching] = torch.arange(3 * len(touching)).view(-1, 3)
        self._force_columns = columns.flatten()
        self._bodies_are_stale = True
        self._numba = numba_available()
        if self._numba:
            from envs.mujoco_gym.engine import numba_loops

            self._loops = numba_loops
        self.root = torch.zeros(num_envs, 13)
        self.dof = torch.zeros(num_envs * num_dof, 2)
        self.bodies = torch.zeros(num_envs * num_bodies, 13)
        self.contact_forces = torch.zeros(num_envs * num_bodies, 3)
        self.force_sensors = ForceSensors(asset.force_sensors, batch, kinematics) if asset.force_sensors else None
        self.diverged = torch.zeros(num_envs, dtype=torch.bool)
        self._any_diverged = False
        self._was_set = torch.zeros(num_envs, dtype=torch.bool)  # since the last step
        self._dof_rows = self.dof.view(num_envs, num_dof, 2)
        self._body_rows = self.bodies.view(num_envs, num_bodies, 13)
        self._contact_rows = self.contact_forces.view(num_envs, num_bodies * 3)

    def after_step(self, newly_diverged: Tensor | None) -> None:
        """Take note that time has passed, and which environments did not survive it, (num_envs,) bool or None."""
        self._bodies_are_stale = True
        self._was_set.zero_()
        if newly_diverged is not None:
            self.diverged |= newly_diverged
            self._any_diverged = bool(self.diverged.any())

    def refresh_root(self) -> None:
        """Copy the state of the roots into `root`."""
        if self._asset.fixed_base:
            self.refresh_bodies()
            self.root.copy_(self._body_rows[:, 0])
        elif self._numba:
            call_loop(self._loops.copy_root, self._qpos, self._qvel, self.root)
        else:
            axis, angular = self._qpos[:, 4:7], self._qvel[:, 3:6]  # of the quaternion, and in the base's frame
            self.root[:, 0:3] = self._qpos[:, 0:3]
            self.root[:, 3:6] = axis
            self.root[:, 6] = self._qpos[:, 3]
            self.root[:, 7:10] = self._qvel[:, 0:3]
            # As `quat_rotate`, in fewer operations.
            cross = torch.linalg.cross(axis, angular)
            half_change = torch.addcmul(torch.linalg.cross(axis, cross), self._qpos[:, 3:4], cross)
            self.root[:, 10:13] = torch.add(angular, half_change, alpha=2.0)
        self._mark_diverged(self.root)

    def refresh_dof(self) -> None:
        """Copy positions and velocities of all degrees of freedom into `dof`."""
        first_position, first_velocity = self._first_position, self._first_velocity
        if self._numba:
            call_loop(self._loops.copy_dof, self._qpos, self._qvel, first_position, first_velocity, self._dof_rows)
        else:
            self._dof_rows[..., 0] = self._qpos[:, first_position:]
            self._dof_rows[..., 1] = self._qvel[:, first_velocity:]
        self._mark_diverged(self._dof_rows)

    def refresh_bodies(self) -> None:
        """Compute the state of all bodies from the present state of root and joints, into `bodies`."""
        self._update_kinematics()
        angular = self._cvel[..., 0:3]  # (num_envs, num_bodies, 3)
        linear = self._cvel[..., 3:6] + torch.linalg.cross(angular, self._xpos - self._center)
        self._body_rows[..., 0:3] = self._xpos
        self._body_rows[..., 3:6] = self._xquat[..., 1:4]
        self._body_rows[..., 6] = self._xquat[..., 0]
        self._body_rows[..., 7:10] = linear
        self._body_rows[..., 10:13] = angular

    def refresh_contact_forces(self) -> None:
        """Copy the net contact force of every body in the last substep into `contact_forces`."""
        if self._numba:
            forces = self._contact_rows.view(len(self.diverged), -1, 3)
            call_loop(self._loops.copy_contact_forces, self._sensors, self._touching, forces)
            return
        # MuJoCo's sensors have the forces that the bodies exert.
        self._net_forces.copy_(self._sensors).neg_()
        torch.index_select(self._measured_forces, 1, self._force_columns, out=self._contact_rows)

    def refresh_force_sensors(self) -> None:
        """Compute the readings of the force sensors in the last substep, if there are any."""
        if self.force_sensors is not None:
            self._update_kinematics()
            self.force_sensors.refresh()
            # A state that was set was not reached by forces.
            self.force_sensors.forces.view(len(self._was_set), -1)[self._was_set] = 0.0

    def set_root(self, states: Tensor, env_ids: Tensor | None) -> None:
        """Write rows of a root state tensor to the simulation.

        Args:
            states: As `root`, (num_envs, 13); quaternions are normalised.
            env_ids: Rows that are written, (n,), or None for all.

        Raises:
            ValueError: If the tensor is not of that size, or the root is fixed.
        """
        if self._asset.fixed_base:
            raise ValueError(f"'{self._asset.name}' has a fixed base, whose root state cannot be set")
        rows = slice(None) if env_ids is None else env_ids.long()
        new = _rows(states, self.root, "root state")[rows].double()
        quat = torch.nn.functional.normalize(new[:, 3:7], dim=1)
        self._qpos[rows, 0:3] = new[:, 0:3]
        self._qpos[rows, 3:7] = quat.roll(1, dims=1)
        self._qvel[rows, 0:3] = new[:, 7:10]
        self._qvel[rows, 3:6] = quat_rotate_inverse(quat, new[:, 10:13])
        self._forget(rows)

    def set_dof(self, states: Tensor, env_ids: Tensor | None) -> None:
        """Write rows of a dof state tensor to the simulation.

        Args:
            states: As `dof`, (num_envs * num_dof, 2).
            env_ids: Environments that are written, (n,), or None for all.

        Raises:
            ValueError: If the tensor is not of that size.
        """
        rows = slice(None) if env_ids is None else env_ids.long()
        new = _rows(states, self._dof_rows, "DoF state")[rows].double()
        self._qpos[rows, self._first_position :] = new[..., 0]
        self._qvel[rows, self._first_velocity :] = new[..., 1]
        self._forget(rows)

    def _update_kinematics(self) -> None:
        # What the step itself computes is one substep old, and its forward stages would look for contacts again.
        if self._bodies_are_stale:
            self._kinematic_qpos.copy_(self._qpos)
            self._kinematic_qvel.copy_(self._qvel)
            self._kinematics.forward(stage=mujoco.mjtStage.mjSTAGE_VEL)
            self._bodies_are_stale = False

    def _forget(self, rows: slice | Tensor) -> None:
        """Let environments with a new state keep nothing of what came before."""
        self._warmstart[rows] = 0.0
        if self._any_diverged:
            self.diverged[rows] = False
            self._any_diverged = bool(self.diverged.any())
        self._was_set[rows] = True
        self._bodies_are_stale = True

    def _mark_diverged(self, states: Tensor) -> None:
        if self._any_diverged:
            states[self.diverged] = torch.nan


def _rows(states: Tensor, like: Tensor, name: str) -> Tensor:
    if states.numel() != like.numel():
        raise ValueError(f"the {name} tensor has {states.numel()} elements, expected {like.numel()}")
    return states.view_as(like)
