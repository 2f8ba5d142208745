"""Stored motions by motion and time, with the positions of bodies, as TWIST asks for them."""

from __future__ import annotations

from typing import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cmg_ref.core.backends import call_loop
from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.frames.root_motion import NUM_SEEN, frames_in_world
from cmg_ref.frames.store import NUM_PLACE, TrajectoryStore
from cmg_ref.robots.kinematics import ForwardKinematics


class MotionView:
    """Reads a store's motions between any two frames, in the joints of a robot and with the positions of its bodies.

    The positions of bodies are worked out once for each frame, by :meth:`complete`, and stand beside the store's rows,
    so that a read is one gather. The frames of motions are those of the world.

    Args:
        store: The frames, in float32.
        stored_joints: Joints of the store, in order.
        kinematics: Tells where the bodies are whose positions are given.
        robot_joints: Joints that it takes, in order, each of them stored or held.
        joint_names: Joints and their order in everything read, each of them stored or held.
        held_joints: Joints that stay where they are, and their angle [rad].
    """

    def __init__(
        self,
        store: TrajectoryStore,
        stored_joints: Sequence[str],
        kinematics: ForwardKinematics,
        robot_joints: Sequence[str],
        joint_names: Sequence[str],
        held_joints: Mapping[str, float],
    ) -> None:
        device = store.table.device
        known = {name: column for column, name in enumerate((*stored_joints, *held_joints))}
        self._store, self._kinematics = store, kinematics
        self._columns = torch.tensor([known[name] for name in joint_names], device=device)
        self._robot_columns = torch.tensor([known[name] for name in robot_joints], device=device)
        self._held = torch.tensor([float(angle) for angle in held_joints.values()], device=device)
        self._bodies = store.extra_columns(3 * len(kinematics.body_names))
        if store.by_numba:
            from cmg_ref.twist import numba_view

            self._loops = numba_view

    def complete(self, motions: Tensor, frames: Tensor) -> None:
        """Work out where the bodies are at frames (n, num_frames) of motions (n,)."""
        rows = self._store.rows(frames, motions).flatten()
        dof_pos, _ = self._with_held(self._store.read_joints(rows), self._robot_columns)
        self._bodies.index_copy_(0, rows, self._kinematics.positions(dof_pos).flatten(1))

    def read(self, motions: Tensor, frames: Tensor, first: Tensor, last: Tensor) -> tuple[MotionFrames, Tensor]:
        """Frames of motions (n,) at frame indices with fractions (n,).

        Between two frames everything is blended linearly, orientations are normalised afterwards; at 50 frames a second
        that differs from an interpolation on the sphere by less than 1e-5 rad.

        Args:
            motions: Motions asked for, (n,).
            frames: When, (n,).
            first: First frame that is known of each motion, which reads before it give, (num_motions,).
            last: Last frame that is known, (num_motions,).

        Returns:
            Frames, fields of (n, ...), and positions of the bodies in the root's frame, (n, num_bodies, 3). Writing
            into them is safe.
        """
        if self._store.by_numba:
            return self._read_in_one_pass(motions, frames, first, last)
        first, last = first[motions], last[motions]
        earlier = torch.minimum(torch.maximum(frames.floor().long(), first), (last - 1).clamp(min=0))
        share = (frames - earlier).clamp(0.0, 1.0)
        rows = self._store.rows(torch.stack((earlier, earlier + 1), dim=1), motions)  # (n, 2)
        # Gathers and blends in one go, in half the time that two gathers and a blend take.
        shares = torch.stack((1.0 - share, share), dim=1)
        columns, bodies = (
            functional.embedding_bag(rows, held, mode="sum", per_sample_weights=shares)
            for held in (self._store.table, self._bodies)
        )
        sizes = (2 * self._store.layout.num_joints, NUM_SEEN, NUM_PLACE)
        joints, seen, places = columns[:, : sum(sizes)].split(sizes, dim=1)
        shown = frames_in_world(joints, seen, places, None)
        shown.root_quat_w = functional.normalize(shown.root_quat_w, dim=1)
        shown.dof_pos, shown.dof_vel = self._with_held(joints, self._columns)
        return shown, bodies.unflatten(1, (-1, 3))

    def stop(self, motions: Tensor, frame: int) -> None:
        """Let motions (n,) be at rest in a frame."""
        rows = self._store.rows(torch.full_like(motions, frame), motions)
        self._store.still(rows)

    def _read_in_one_pass(
        self, motions: Tensor, frames: Tensor, first: Tensor, last: Tensor
    ) -> tuple[MotionFrames, Tensor]:
        num_joints, num_bodies = len(self._columns), self._bodies.shape[1]
        fields = [torch.empty(len(motions), width) for width in (3, 4, 3, 3, num_joints, num_joints, num_bodies)]
        store = self._store
        held = (store.table, self._bodies, store.first_rows, store.capacities)
        asked = (motions, frames, first, last, self._columns, self._held)
        call_loop(self._loops.read_between, *held, *asked, *fields)
        root, joints, bodies = fields[:4], fields[4:6], fields[6]
        return MotionFrames(*joints, *root), bodies.unflatten(1, (-1, 3))

    def _with_held(self, joints: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Angles and velocities (n, num_joints) of joints by their columns, held ones after those that are stored."""
        dof_pos, dof_vel = joints.chunk(2, dim=1)
        if len(self._held) > 0:
            held = self._held.expand(len(joints), -1)
            dof_pos, dof_vel = torch.cat((dof_pos, held), dim=1), torch.cat((dof_vel, 0.0 * held), dim=1)
        return dof_pos[:, columns], dof_vel[:, columns]
