"""What the feet do: contacts, time in the air, slipping, height above the ground."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cmg_ref.core.backends import call_loop, numba_available
from cmg_ref.core.rotations import matrix_from_quat
from cmg_ref.rl.observations import CONTACT_FORCE, foot_contacts
from cmg_ref.robots.kinematics import LimbKinematics
from cmg_ref.robots.robot import Robot
from envs.terms.rewards import AIR_TIME, FEET_MOTION


class Feet:
    """Follows the feet of every robot from step to step.

    Their speeds are differences of positions by forward kinematics, averages over a control step: that costs less
    than the states of all bodies from the simulator. On a CPU with Numba they are Numba loops over the robots.

    Args:
        robot: Description of the robot.
        bodies: Numbers of the feet among the simulator's bodies, (2,).
        num_envs: Number of environments.
        dt: Time of a control step in seconds.
        device: Device of the tensors.
        with_kinematics: Whether positions, speeds and heights are wanted.
        with_air_time: Whether times in the air and landings are wanted.

    Attributes:
        contact: Whether each foot touches the ground, (num_envs, 2) bool.
        sliding_contact: Whether it did before this step too, (num_envs, 2) bool.
    """

    def __init__(
        self,
        robot: Robot,
        bodies: Tensor,
        num_envs: int,
        dt: float,
        device: str | torch.device,
        with_kinematics: bool,
        with_air_time: bool,
    ) -> None:
        self._bodies, self._dt = bodies, dt
        self.with_kinematics, self.with_air_time = with_kinematics, with_air_time
        self._kinematics = LimbKinematics(robot, robot.foot_bodies, device)
        self._points = robot.foot_points.float().to(device)
        self._radius = robot.foot_radius
        self._numba = self._points.device.type == "cpu" and numba_available()
        if self._numba:
            from envs.base import numba_loops

            self._loops = numba_loops
            self._limbs = self._kinematics.joints, self._kinematics.turns, self._kinematics.moves, self._points
        self.contact = torch.zeros(num_envs, 2, dtype=torch.bool, device=device)
        self.sliding_contact = torch.zeros_like(self.contact)
        self._first_contact = torch.zeros_like(self.contact)
        self._air_time = torch.zeros(num_envs, 2, device=device)
        self._pos_w = torch.zeros(num_envs, 2, 3, device=device)
        self._speed = torch.zeros(num_envs, 2, device=device)
        self._height_w = torch.zeros(num_envs, 2, device=device)
        self._jumped = torch.ones(num_envs, dtype=torch.bool, device=device)  # since the last step, without a way there

    @property
    def speed(self) -> Tensor:
        """Horizontal speeds of the feet in m/s, (num_envs, 2); zero in the first step of an episode."""
        return self._wanted(self._speed, self.with_kinematics, "speed", FEET_MOTION)

    @property
    def pos_w(self) -> Tensor:
        """Positions of the feet in the world in metres, (num_envs, 2, 3)."""
        return self._wanted(self._pos_w, self.with_kinematics, "pos_w", FEET_MOTION)

    @property
    def height_w(self) -> Tensor:
        """Height of the lowest point of each sole above z = 0 in metres, (num_envs, 2)."""
        return self._wanted(self._height_w, self.with_kinematics, "height_w", FEET_MOTION)

    @property
    def air_time(self) -> Tensor:
        """Time since each foot left the ground in seconds, (num_envs, 2); how long it was, where it lands now."""
        return self._wanted(self._air_time, self.with_air_time, "air_time", AIR_TIME)

    @property
    def first_contact(self) -> Tensor:
        """Whether each foot landed in this step, (num_envs, 2) bool."""
        return self._wanted(self._first_contact, self.with_air_time, "first_contact", AIR_TIME)

    def _wanted(self, values: Tensor, computed: bool, name: str, quantity: str) -> Tensor:
        if not computed:
            raise RuntimeError(
                f"feet.{name} is not computed: mark the reward that reads it with @needs({quantity!r}) of "
                "envs.terms.rewards, and give it a scale that is not zero"
            )
        return values

    def reset(self, env_ids: Tensor) -> None:
        """Forget what the feet did in environments (n,)."""
        self.contact[env_ids] = False
        self._air_time[env_ids] = 0.0
        self._jumped[env_ids] = True

    def update(self, contact_forces: Tensor, dof_pos: Tensor, root_pos_w: Tensor, root_rotation: Tensor) -> None:
        """Let a control step pass.

        Args:
            contact_forces: Contact forces on all bodies in the world in N, (num_envs, num_bodies, 3).
            dof_pos: Joint positions in the order of the robot's description in rad, (num_envs, num_dof).
            root_pos_w: Positions of the root in the world in metres, (num_envs, 3).
            root_rotation: Rotation matrices of the root, base to world, (num_envs, 3, 3).
        """
        before, last_pos_w = self.contact, self._pos_w
        if self.with_kinematics:
            self._pos_w, self._height_w = self._places(dof_pos, root_pos_w, root_rotation)
        if self._numba:
            self._touch_and_move(contact_forces, last_pos_w)
        else:
            self.contact = foot_contacts(contact_forces.index_select(1, self._bodies))
            self.sliding_contact = self.contact & before
            if self.with_kinematics:
                way = (self._pos_w[..., :2] - last_pos_w[..., :2]).square_().sum(dim=-1).sqrt_()
                self._speed = way.div_(self._dt).masked_fill_(self._jumped.unsqueeze(1), 0.0)
                self._jumped.zero_()
        if self.with_air_time:
            # A foot that landed in the last step begins a new time in the air.
            self._air_time = (self._air_time + self._dt).masked_fill_(before, 0.0)
            self._first_contact = self.contact & (self._air_time > self._dt)

    def places(self, dof_pos: Tensor, root_pos_w: Tensor, root_quat_w: Tensor) -> tuple[Tensor, Tensor]:
        """Where the feet of a robot in this pose are.

        Returns:
            Their positions in the world in metres, (num_envs, 2, 3), and how high the lowest point of each sole is over
            z = 0 in metres, (num_envs, 2).
        """
        return self._places(dof_pos, root_pos_w, matrix_from_quat(root_quat_w))

    def _places(self, dof_pos: Tensor, root_pos_w: Tensor, root_rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the feet in the world, (num_envs, 2, 3), and heights of their lowest points, (num_envs, 2)."""
        if self._numba:
            return self._places_in_one_pass(dof_pos, root_pos_w, root_rotation)
        # The last row of the root's rotation is the vertical in its frame.
        position_b, vertical = self._kinematics(dof_pos, root_rotation[:, 2])  # each (2, 3, num_envs)
        turned = (root_rotation.permute(1, 2, 0) * position_b.unsqueeze(1)).sum(dim=2)
        position_w = root_pos_w.T + turned  # (2, 3, num_envs)
        lowest = torch.bmm(self._points, vertical).amin(dim=1)  # (2, num_envs)
        return position_w.permute(2, 0, 1), (position_w[:, 2] + lowest - self._radius).T

    def _places_in_one_pass(self, dof_pos: Tensor, root_pos_w: Tensor, root_rotation: Tensor) -> tuple[Tensor, Tensor]:
        pos_w, height_w = torch.empty(len(dof_pos), 2, 3), torch.empty(len(dof_pos), 2)
        robots, radius = (dof_pos, root_pos_w, root_rotation), np.float32(self._radius)
        call_loop(self._loops.foot_places, *robots, *self._limbs, radius, pos_w, height_w)
        return pos_w, height_w

    def _touch_and_move(self, contact_forces: Tensor, last_pos_w: Tensor) -> None:
        before = self.contact
        self.contact, self.sliding_contact = torch.empty_like(before), torch.empty_like(before)
        self._speed = torch.empty_like(self._speed)
        force, dt = np.float32(CONTACT_FORCE), np.float32(self._dt)
        given = contact_forces, self._bodies, force, before, last_pos_w, self._pos_w, self._jumped, dt
        call_loop(self._loops.foot_motion, *given, self.contact, self.sliding_contact, self._speed)
