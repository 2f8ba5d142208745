"""Generated motion of all environments: stored frames and the states that generation goes on from."""

from __future__ import annotations

import torch

from cmg_ref.checkpoint import Checkpoint
from cmg_ref.commands import CommandSmoother
from cmg_ref.layout import StateLayout
from cmg_ref.robot import Robot, load_g1
from cmg_ref.rollout import Rollout
from cmg_ref.stance_root import StanceRoot
from cmg_ref.trajectory_store import NUM_POSE, TrajectoryStore

CPU_BLOCK = 1024  # environments in a forward pass on a CPU; larger batches fall out of the cache
ROOT_CONTEXT = 25  # stored frames that the stance foot's root is told from, for checkpoints without root channels


class MotionBuffer:
    """Frames of every environment, extended by the CMG.

    Args:
        checkpoint: the CMG.
        rollout: advances its states.
        num_envs: number of environments.
        capacity: frames kept per environment; older ones are overwritten.
        dtype: type the frames are stored in.
        robot: robot description, for checkpoints without root channels; the shipped G1 by default.

    Attributes:
        layout: channels of the stored states: the checkpoint's, completed by the root channels.
        store: the frames.
        written: number of frames generated since the start of each environment's motion, (num_envs,).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        rollout: Rollout,
        num_envs: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        robot: Robot | None = None,
    ) -> None:
        self.model_layout = checkpoint.layout
        self.layout = StateLayout.with_root(checkpoint.layout.num_joints)
        self.rollout, self.device, self.num_envs = rollout, rollout.device, num_envs
        self.store = TrajectoryStore(num_envs, capacity, self.layout, checkpoint.fps, self.device, dtype)
        self.written = torch.zeros(num_envs, dtype=torch.long, device=self.device)
        self._tail_state = torch.zeros(num_envs, checkpoint.layout.size, device=self.device)
        self._tail_pose = torch.zeros(num_envs, NUM_POSE, device=self.device)
        self._stance_root: StanceRoot | None = None
        if not checkpoint.layout.has_root:
            self._stance_root = StanceRoot(robot or load_g1(), self.device, joint_names=checkpoint.joint_names)

    def restart(self, env_ids: torch.Tensor, states: torch.Tensor, poses: torch.Tensor) -> None:
        """Make states (n, state_dim) of the checkpoint and poses (n, 3) the frame 0 of environments (n,)."""
        full = states
        if self._stance_root is not None:
            full = torch.cat((states, states.new_zeros(len(states), self.layout.size - states.shape[1])), dim=1)
            full[:, self.layout["projected_gravity"]] = states.new_tensor([0.0, 0.0, -1.0])
        self.store.write(torch.zeros_like(env_ids), full, poses, env_ids)
        self._tail_state[env_ids] = states
        self._tail_pose[env_ids] = poses
        self.written[env_ids] = 1

    def truncate(self, env_ids: torch.Tensor, last: torch.Tensor) -> None:
        """Forget the frames after frame ``last`` (n,) of environments (n,)."""
        states, poses = self.store.read(last, env_ids)
        self._tail_state[env_ids] = states[:, : self.model_layout.size]
        self._tail_pose[env_ids] = poses
        self.written[env_ids] = last + 1

    def extend(self, env_ids: torch.Tensor | None, count: int, smoother: CommandSmoother, shown: torch.Tensor) -> None:
        """Generate frames.

        Args:
            env_ids: environments concerned, (n,); None for all.
            count: frames to add to each.
            smoother: commands by steps from the shown frame on.
            shown: frame shown now, (num_envs,).
        """
        if self.device.type == "cpu" and (self.num_envs if env_ids is None else len(env_ids)) > CPU_BLOCK:
            rows = torch.arange(self.num_envs) if env_ids is None else env_ids
            for block in rows.split(CPU_BLOCK):
                self._extend_block(block, count, smoother, shown)
        else:
            self._extend_block(env_ids, count, smoother, shown)

    def _extend_block(
        self, env_ids: torch.Tensor | None, count: int, smoother: CommandSmoother, shown: torch.Tensor
    ) -> None:
        rows: slice | torch.Tensor = slice(None) if env_ids is None else env_ids
        state, pose, written = self._tail_state[rows], self._tail_pose[rows], self.written[rows]
        ahead = written - shown[rows]
        for offset in range(count):
            following = self.rollout.advance(state, smoother.value(ahead + offset, env_ids))
            if self._stance_root is None:
                pose = self.store.integrate(pose, state, following)
                self.store.write(written + offset, following, pose, env_ids)
            else:
                room = following.new_zeros(len(following), self.layout.size - following.shape[1])
                self.store.write(written + offset, torch.cat((following, room), dim=1), pose, env_ids)
            state = following
        if self._stance_root is not None:
            pose = self._fill_root(self._stance_root, written, count, env_ids)
        self._tail_state[rows] = state
        self._tail_pose[rows] = pose
        self.written[rows] = written + count

    def _fill_root(
        self, stance_root: StanceRoot, first: torch.Tensor, count: int, env_ids: torch.Tensor | None
    ) -> torch.Tensor:
        """Tell the root of ``count`` new frames from the stance foot; returns the last pose (n, 3)."""
        context = min(ROOT_CONTEXT, self.store.capacity - count)
        frames = first.unsqueeze(1) + torch.arange(-context, count, device=self.device)
        # Environments with fewer stored frames repeat their first one: a standing start.
        frames = torch.maximum(frames, (first.unsqueeze(1) - context).clamp(min=0))  # (n, context + count)
        states, poses = self.store.read(frames, env_ids)
        states = stance_root.complete(states[..., : self.model_layout.size], self.model_layout, self.store.fps)
        pose = poses[:, context - 1]
        for column in range(context, context + count):
            pose = self.store.integrate(pose, states[:, column - 1], states[:, column])
            self.store.write(frames[:, column], states[:, column], pose, env_ids)
        return pose
