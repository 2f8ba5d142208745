"""Reads frames of all environments in one kernel: found, put in order, turned into the world."""

from __future__ import annotations

import torch

from cmg_ref.core.motion_frames import MotionFrames
from cmg_ref.cuda_graph.triton_frame import power_of_two
from cmg_ref.frames.store import TrajectoryStore

ROWS = 8  # frames of a program


class TritonReader:
    """Reads what a store holds.

    Args:
        store: The frames.
        joint_columns: Column of each joint in the order that is returned, (num_joints,); None for the stored order.
        hold: Whether environments past their last frame stand still.

    Attributes:
        columns: Columns of the angles and velocities in the order that is returned, (2 * num_joints,).
    """

    def __init__(self, store: TrajectoryStore, joint_columns: torch.Tensor | None, hold: bool) -> None:
        from cmg_ref.cuda_graph import change_kernels  # Triton is not everywhere.

        self._kernels, self._store, self._hold = change_kernels, store, hold
        device, all_joints = store.table.device, store.layout.num_joints
        angles = torch.arange(all_joints, device=device) if joint_columns is None else joint_columns
        self._num_joints = len(angles)
        self.columns = torch.cat((angles, angles + all_joints))
        self._fields = (self._num_joints, self._num_joints, 3, 3, 4, 3)
        self._bits = store.bits

    def frames(
        self,
        shown: torch.Tensor,
        ahead: torch.Tensor,
        num_whole: int,
        motions: slice | torch.Tensor,
        origin: torch.Tensor,
        last: torch.Tensor | None,
    ) -> tuple[MotionFrames, torch.Tensor]:
        """What is seen of environments (n,).

        Args:
            shown: Frame on show, (n,).
            ahead: Frames from there to those asked for, (num_steps,).
            num_whole: Of how many of them everything is asked for; of the rest the joint angles alone.
            motions: Motion of each.
            origin: x, y and heading of each motion's own frame in the world, (n, 3).
            last: Frames that motions end at, (n,); None where they never end.

        Returns:
            Fields of (n, num_whole, ...), and joint angles (n, num_steps - num_whole, num_joints).
        """
        num, steps, num_angles, store = len(shown), len(ahead), len(ahead) - num_whole, self._store
        seen = torch.empty(num, num_whole, 2 * self._num_joints + 13, device=shown.device)
        dof_pos, dof_vel, lin_vel, ang_vel, quat, pos = seen.split(self._fields, dim=2)
        angles = torch.empty(num, num_angles, self._num_joints, device=shown.device) if num_angles else dof_pos[:, :0]
        given = isinstance(motions, torch.Tensor)
        first = 0 if isinstance(motions, torch.Tensor) else motions.start or 0
        with torch.cuda.device_of(store.table):
            self._kernels.read_frames[(-(-num * steps // ROWS),)](
                store.table,
                self._bits,
                store.first_rows,
                store.capacities,
                motions if given else shown,
                shown,
                shown if last is None else last,
                ahead,
                origin,
                self.columns,
                seen,
                angles if num_angles else seen,
                num,
                STEPS=num_whole,
                ANGLE_STEPS=num_angles,
                READ=self.columns.numel(),
                MOTIONS=given,
                ENDS=last is not None,
                HOLD=last is not None and self._hold,
                FIRST=first,
                JOINTS=2 * store.layout.num_joints,
                WIDTH=store.table.shape[1],
                HALF=store.dtype == torch.float16,
                BLOCK=ROWS,
                COLUMNS=power_of_two(self.columns.numel()),
            )
        return MotionFrames(dof_pos, dof_vel, pos, quat, lin_vel, ang_vel), angles
