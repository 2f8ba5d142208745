"""Reads frames of all environments in one kernel: found, put in order, turned into the world."""

from __future__ import annotations

import torch

from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.cuda_graph.fused_frame import power_of_two
from cmg_ref.frames.store import TrajectoryStore

ROWS = 4  # frames of a program


class FusedReader:
    """Reads what a store holds.

    Args:
        store: the frames.
        joint_columns: column of each joint in the order that is returned, (num_joints,); None for the stored order.
        hold: whether environments past their last frame stand still.
    """

    def __init__(self, store: TrajectoryStore, joint_columns: torch.Tensor | None, hold: bool) -> None:
        from cmg_ref.cuda_graph import change_kernels  # Triton is not everywhere.

        self._kernel, self._store, self._hold = change_kernels.read_frames, store, hold
        device, all_joints = store.table.device, store.layout.num_joints
        angles = torch.arange(all_joints, device=device) if joint_columns is None else joint_columns
        self._num_joints = len(angles)
        self._columns = torch.cat((angles, angles + all_joints))

    def frames(
        self,
        shown: torch.Tensor,
        ahead: torch.Tensor,
        motions: slice | torch.Tensor,
        origin: torch.Tensor,
        last: torch.Tensor | None,
    ) -> MotionFrames:
        """What is seen of environments (n,), fields of (n, num_steps, ...).

        Args:
            shown: frame on show, (n,).
            ahead: frames from there to those asked for, (num_steps,).
            motions: motion of each.
            origin: x, y and heading of each motion's own frame in the world, (n, 3).
            last: frames that motions end at, (n,); None where they never end.
        """
        seen = self._read(shown, ahead, motions, origin, last, 2 * self._num_joints, root=True)
        sizes = (self._num_joints, self._num_joints, 3, 3, 4, 3)
        dof_pos, dof_vel, lin_vel, ang_vel, quat, pos = seen.split(sizes, dim=2)
        return MotionFrames(dof_pos, dof_vel, pos, quat, lin_vel, ang_vel)

    def dof_pos(
        self, shown: torch.Tensor, ahead: torch.Tensor, motions: slice | torch.Tensor, last: torch.Tensor | None
    ) -> torch.Tensor:
        """Joint angles alone, (n, num_steps, num_joints); arguments as of :meth:`frames`."""
        return self._read(shown, ahead, motions, shown, last, self._num_joints, root=False)

    def _read(
        self,
        shown: torch.Tensor,
        ahead: torch.Tensor,
        motions: slice | torch.Tensor,
        origin: torch.Tensor,
        last: torch.Tensor | None,
        num_columns: int,
        root: bool,
    ) -> torch.Tensor:
        num, steps, store = len(shown), len(ahead), self._store
        seen = torch.empty(num, steps, num_columns + (13 if root else 0), device=shown.device)
        given = isinstance(motions, torch.Tensor)
        self._kernel[(-(-num * steps // ROWS),)](
            store.table,
            store.bits,
            store.first_rows,
            store.capacities,
            motions if given else shown,
            shown,
            shown if last is None else last,
            ahead,
            origin,
            self._columns,
            seen,
            num,
            STEPS=steps,
            READ=num_columns,
            ROOT=root,
            FIRST_VELOCITY=self._num_joints,
            MOTIONS=given,
            ENDS=last is not None,
            HOLD=last is not None and self._hold,
            FIRST=0 if isinstance(motions, torch.Tensor) else motions.start or 0,
            JOINTS=2 * store.layout.num_joints,
            WIDTH=store.table.shape[1],
            HALF=store.dtype == torch.float16,
            BLOCK=ROWS,
            COLUMNS=power_of_two(num_columns),
        )
        return seen
