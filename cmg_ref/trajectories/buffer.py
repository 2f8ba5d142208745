"""Generated motions: stored frames, the commands they follow, and the states that generation goes on from."""

from __future__ import annotations

import time
import warnings
from functools import partial
from typing import Callable, Sequence

import numpy as np
import torch

from cmg_ref.core.command_layout import NUM_VELOCITIES
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.cuda_graph.captured_frames import CapturedFrames
from cmg_ref.cuda_graph.triton_frame import Motions
from cmg_ref.frames.command_plan import PlannedCommands
from cmg_ref.frames.root_motion import NUM_SEEN, seen_columns
from cmg_ref.frames.store import NUM_POSE, TrajectoryStore
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.numba_step import NumbaStep, Workspace
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.rollout.stance_root import StanceRoot
from cmg_ref.trajectories.environment_changes import EnvironmentChanges
from cmg_ref.trajectories.reader import MotionReader
from cmg_ref.trajectories.start_states import EnvironmentDraws, InitialStates

ROOT_CONTEXT = 25  # stored frames that the stance foot's root is told from, for checkpoints without root channels


def num_beside(layout: StateLayout) -> int:
    """Columns kept beside each frame: drift, and channels of the state that frames do not hold; none without root."""
    return NUM_VELOCITIES + layout.size - StateLayout.with_root(layout.num_joints).size if layout.has_root else 0


class MotionBuffer:
    """Motions extended frame by frame by the CMG.

    Args:
        checkpoint: The CMG.
        rollout: Advances its states; its backend makes and reads the frames too.
        sizes: (number of motions, frames kept of each) of one or more groups; older frames are overwritten.
        interpolation_frames: Frames over which a command ramps to a new one, or more if that is far off.
        num_segments: Changes of command kept per motion.
        dtype: Type the frames are stored in.
        robot: Robot description, for checkpoints without root channels; the one they name by default.
        usual_batch: Number of motions that are mostly extended together; the largest group by default.
        compiled: Whether the frames of that many are compiled on a GPU, see :class:`CapturedFrames`.
        acceleration: What commands change by in a second at most, see :class:`PlannedCommands`.

    Attributes:
        layout: Channels of the stored states: the checkpoint's, completed by the root channels.
        store: The frames.
        commands: The commands they follow.
        written: Number of frames generated since the start of each motion, (num_motions,).
        guarded: How many of them the guard had to change, (num_motions,).
        seconds: Time spent generating [s]; of the host alone, which does not wait for a GPU.
        motions: What a frame reads and writes of them.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        rollout: Rollout,
        sizes: Sequence[tuple[int, int]],
        interpolation_frames: int = 25,
        num_segments: int = 1,
        dtype: torch.dtype = torch.float32,
        robot: Robot | None = None,
        usual_batch: int | None = None,
        compiled: bool = False,
        acceleration: Sequence[float] | None = None,
    ) -> None:
        self.model_layout = checkpoint.layout
        self.layout = StateLayout.with_root(checkpoint.layout.num_joints)
        self.rollout, self.device = rollout, rollout.device
        self.num_motions = sum(number for number, _ in sizes)
        self.store = TrajectoryStore(sizes, self.layout, checkpoint.fps, self.device, dtype, rollout.backend)
        self.commands = PlannedCommands(
            self.num_motions,
            num_segments,
            interpolation_frames,
            self.device,
            rollout.backend,
            checkpoint.command_layout,
            1.0 / checkpoint.fps,
            acceleration,
        )
        self.written = torch.zeros(self.num_motions, dtype=torch.long, device=self.device)
        self.guarded = torch.zeros(self.num_motions, dtype=torch.long, device=self.device)
        self.seconds = 0.0
        self._shortest = min(capacity for _, capacity in sizes)
        self._tail_state = torch.zeros(self.num_motions, checkpoint.layout.size, device=self.device)
        self._tail_pose = torch.zeros(self.num_motions, NUM_POSE, device=self.device)
        self._feedback = rollout.feedback
        self._tail_memory = torch.zeros(self.num_motions, 0, device=self.device)
        self._beside = self.store.extra_columns(num_beside(checkpoint.layout))
        if rollout.feedback is not None:
            self._tail_memory = rollout.feedback.memory(self.num_motions)
        self._numbers = torch.arange(self.num_motions, device=self.device)
        self.motions = Motions(
            self.store,
            self.commands,
            self._beside,
            self._tail_state,
            self._tail_pose,
            self._tail_memory,
            self.written,
            self.guarded,
        )
        self._captured: CapturedFrames | None = None
        if rollout.backend == "cuda_graph" and checkpoint.layout.has_root:
            largest = max(number for number, _ in sizes)
            usual = largest if usual_batch is None else usual_batch
            compiled = compiled and rollout.kernels is None
            self._captured = CapturedFrames(self._frame, *self._kept, largest, usual, compiled)
        self._stance_root: StanceRoot | None = None
        if not checkpoint.layout.has_root:
            self._stance_root = StanceRoot(checkpoint.robot(robot), self.device, joint_names=checkpoint.joint_names)

    @property
    def _kept(self) -> tuple[tuple[torch.Tensor, ...], Callable[[], object]]:
        """What a frame changes beside the store, and what gives the memory that it works in."""
        kept = (*self.motions[3:], self.rollout.guard_count)
        return kept, partial(getattr, self.rollout.network, "workspace")

    def captured_changes(
        self, reader: MotionReader, initial_states: InitialStates, draws: EnvironmentDraws, excess: torch.Tensor
    ) -> EnvironmentChanges | None:
        """Captured changes of environments, one for each motion; None where the driver cannot capture.

        Args:
            reader: The environments' clock and place.
            initial_states: Where their motions begin.
            draws: Which of them.
            excess: By how much commands exceed the trained range, (num_envs, command_dim); written.
        """
        if self._captured is None or reader.columns is None:
            return None
        changed = (self.rollout.model, self.motions, reader, initial_states, draws, excess)
        try:
            return EnvironmentChanges(*changed, self._frame, *self._kept, reader.columns)
        except Exception as error:  # Drivers fail in ways of their own; resets remain one by one.
            warnings.warn(f"changes cannot be captured as a CUDA graph ({error})", stacklevel=2)
            return None

    @property
    def num_bytes(self) -> int:
        """Memory held by frames, commands and states [bytes]."""
        own = sum(tensor.numel() * tensor.element_size() for tensor in self.motions[2:])
        return own + self.store.num_bytes + self.commands.num_bytes

    def restart(
        self, motions: torch.Tensor, states: torch.Tensor, following: torch.Tensor, poses: torch.Tensor | None = None
    ) -> None:
        """Begin motions (n,) anew.

        Args:
            motions: Motions concerned.
            states: Their frame 0, (n, state_dim) of the checkpoint.
            following: States a frame later or nearly so, (n, state_dim), for the rates at frame 0.
            poses: x, y and heading at frame 0, (n, 3); the origin by default.
        """
        if poses is None:
            poses = states.new_zeros(len(states), NUM_POSE)
        if self.store.by_numba and self._stance_root is None:
            self.store.place_first(poses, states, following, motions)
        else:
            self._write_first(motions, states, following, poses)
        self._tail_state[motions] = states
        self._tail_pose[motions] = poses
        self._tail_memory[motions] = 0.0
        self._beside[self.store.first_rows[motions]] = self._kept_beside(states, self._tail_memory[motions])
        self.written[motions] = 1
        self.guarded[motions] = 0

    def _write_first(
        self, motions: torch.Tensor, states: torch.Tensor, following: torch.Tensor, poses: torch.Tensor
    ) -> None:
        """Store frame 0 of motions (n,), see :meth:`restart`."""
        full = self._with_root(states)
        if self._stance_root is None:
            seen = seen_columns(self.layout, full, self._with_root(following), 1.0 / self.store.fps, poses[:, 2])
        else:
            full[:, self.layout["projected_gravity"]] = states.new_tensor([0.0, 0.0, -1.0])
            seen = seen_columns(self.layout, full, full, 1.0 / self.store.fps, poses[:, 2])
        self.store.write(torch.zeros_like(motions), full, seen, poses, motions)

    def truncate(self, motions: torch.Tensor, last: torch.Tensor) -> None:
        """Forget the frames after frame ``last`` (n,) of motions (n,), which are told something else from there on."""
        self._tail_state[motions], self._tail_pose[motions] = self.states_at(last, motions)
        if self._feedback is not None:
            drift = self.beside_at(last, motions)[:, :NUM_VELOCITIES]
            self._tail_memory[motions] = self._feedback.told_otherwise(drift)
        self.written[motions] = last + 1

    def memory_at(self, frames: torch.Tensor, motions: slice | torch.Tensor) -> torch.Tensor:
        """What the feedback of drift remembers after frames (n,) of motions (n,), (n, memory_dim)."""
        if self._feedback is None:
            return self._tail_memory[motions]
        drift = self.beside_at(frames, motions)[:, :NUM_VELOCITIES]
        return torch.cat((self.commands.value(frames, motions), drift), dim=1)

    def states_at(self, frames: torch.Tensor, motions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States of the checkpoint (n, state_dim) and poses (n, 3) at frames (n,) of motions (n,)."""
        states, poses = self.store.read_last(frames, motions)
        further = self.beside_at(frames, motions)[:, NUM_VELOCITIES:]
        return torch.cat((states, further), dim=1)[:, : self.model_layout.size], poses

    def beside_at(self, frames: torch.Tensor, motions: slice | torch.Tensor) -> torch.Tensor:
        """What is kept beside frames (n, ...) of motions (n,), see :attr:`Motions.beside`."""
        return self._beside[self.store.rows(frames, motions)]

    def keep_beside(self, frames: torch.Tensor, motions: slice | torch.Tensor, beside: torch.Tensor) -> None:
        """Keep (n, ...) beside frames (n,) of motions (n,)."""
        self._beside[self.store.rows(frames, motions)] = beside

    def copy(self, sources: torch.Tensor, motions: torch.Tensor, last: torch.Tensor, count: int) -> None:
        """Make motions (n,) copies of motions ``sources`` (n,), commands included.

        Args:
            sources: Motions to copy.
            motions: Motions to overwrite.
            last: Last frame to copy; frames after it are forgotten, (n,).
            count: Frames to copy, at most as many as the motions hold.
        """
        frames = last.unsqueeze(1) + torch.arange(1 - count, 1, device=self.device)
        frames = frames.clamp(min=0)  # (n, count)
        self.store.copy(frames, sources, motions)
        self.keep_beside(frames, motions, self.beside_at(frames, sources))
        self.commands.copy(sources, motions)
        self.truncate(motions, last)

    def extend(self, motions: slice | torch.Tensor, count: int) -> None:
        """Generate ``count`` more frames for motions (n,); where kernels do it, -1 stands for none."""
        if isinstance(motions, torch.Tensor) and len(motions) == 0:
            return
        started = time.perf_counter()
        numba_step = self.rollout.numba_step
        run = range(*motions.indices(self.num_motions)) if isinstance(motions, slice) else motions
        captured = self._captured is not None and self._captured(run, count)
        if not captured and self.rollout.kernels is not None and isinstance(motions, torch.Tensor):
            motions = motions[motions >= 0]  # Only kernels know of none.
        if captured:
            self.rollout.frame_count += count * len(run)
        elif numba_step is not None and self.store.by_numba and self._stance_root is None:
            self._extend_in_blocks(numba_step, motions, count)
            self.written[motions] += count
        else:
            self._extend_in_loop(motions, count)
            self.written[motions] += count
        self.seconds += time.perf_counter() - started

    def _extend_in_blocks(self, step: NumbaStep, motions: slice | torch.Tensor, count: int) -> None:
        """Generate frames block by block of motions (n,), in all threads."""
        # What is written is written by NumPy: other threads know nothing of torch's modes.
        tail_state, tail_pose, tail_memory, guarded = (
            held.numpy() for held in (self._tail_state, self._tail_pose, self._tail_memory, self.guarded)
        )
        written, numbers = self.written[motions], self._numbers[motions]
        blocks: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # states and poses by the first row
        remembered, beside = tail_memory[numbers.numpy()], self._beside.numpy()
        num_guarded: list[int] = []

        def frame(workspace: Workspace, rows: slice, number: int) -> None:
            frames = written[rows] + number
            if isinstance(motions, slice):  # Slices are read without a copy.
                first = motions.start or 0
                own: slice | torch.Tensor = slice(first + rows.start, first + rows.stop)
            else:
                own = motions[rows]
            state, pose = blocks.get(rows.start) or (self._tail_state[own], self._tail_pose[own])
            following, placed = torch.empty_like(state), torch.empty_like(pose)
            changed = np.empty(len(frames), np.bool_)
            told = step.correct(self.commands.value(frames, own).numpy(), remembered[rows])
            step.step(workspace, state.numpy(), told, following.numpy(), changed)
            step.follow(following.numpy(), remembered[rows], self.store.rows(frames, own).numpy(), beside)
            self.store.place(frames, pose, state, following, own, placed)
            blocks[rows.start] = following, placed
            own_numbers = numbers[rows].numpy()
            if changed.any():
                guarded[own_numbers] += changed
                num_guarded.append(int(changed.sum()))
            if number == count - 1:
                tail_state[own_numbers], tail_pose[own_numbers] = following.numpy(), placed.numpy()
                tail_memory[own_numbers] = remembered[rows]

        step.share_out(len(numbers), count, frame)
        self.rollout.count(count * len(numbers), sum(num_guarded))

    def _extend_in_loop(self, motions: slice | torch.Tensor, count: int) -> None:
        """Generate frames of all motions (n,) together, one by one."""
        state, pose, written = self._tail_state[motions], self._tail_pose[motions], self.written[motions]
        guarded, memory = torch.zeros_like(written), self._tail_memory[motions]
        for offset in range(count):
            told = self.commands.value(written + offset, motions)
            if self._feedback is not None:
                told, memory = self._feedback.correct(told, memory)
            following = self.rollout.advance(state, told)
            if self._feedback is not None:
                memory = self._feedback.follow(following, memory)
                self.keep_beside(written + offset, motions, self._kept_beside(following, memory))
            guarded += self.rollout.guarded
            if self._stance_root is None:
                pose = self._append(written + offset, pose, state, following, motions)
            else:
                full = self._with_root(following)
                self.store.write(written + offset, full, full[:, :NUM_SEEN], pose, motions)
            state = following
        if self._stance_root is not None:
            pose = self._fill_root(self._stance_root, written, count, motions)
        self._tail_state[motions] = state
        self._tail_pose[motions] = pose
        self._tail_memory[motions] = memory
        self.guarded[motions] += guarded

    def _frame(self, motions: torch.Tensor) -> None:
        """Make and store a frame; see :data:`cmg_ref.cuda_graph.captured_frames.Frame`."""
        kernels = self.rollout.kernels
        if kernels is not None:
            kernels.frame(self.motions, motions)
            return
        present = motions >= 0
        motions = torch.where(present, motions, motions[0])  # In place of none, the first is made several times alike.
        state, pose, frames = self._tail_state[motions], self._tail_pose[motions], self.written[motions]
        assert self._feedback is not None  # Nothing is captured without root channels.
        told, memory = self._feedback.correct(self.commands.value(frames, motions), self._tail_memory[motions])
        following, guarded = self.rollout.step(state, told)
        pose = self._append(frames, pose, state, following, motions)
        self._tail_state.index_copy_(0, motions, following)
        self._tail_pose.index_copy_(0, motions, pose)
        memory = self._feedback.follow(following, memory)
        self._tail_memory.index_copy_(0, motions, memory)
        self._beside.index_copy_(0, self.store.rows(frames, motions), self._kept_beside(following, memory))
        self.written.index_copy_(0, motions, frames + 1)
        self.guarded.index_copy_(0, motions, self.guarded[motions] + guarded)
        self.rollout.guard_count += (guarded & present).sum()

    def _with_root(self, states: torch.Tensor) -> torch.Tensor:
        """States (n, state_dim) as frames hold them, (n, layout.size): with zeros for a root that is not predicted."""
        missing = self.layout.size - states.shape[1]
        if missing <= 0:
            return states[:, : self.layout.size]
        return torch.cat((states, states.new_zeros(len(states), missing)), dim=1)

    def _kept_beside(self, states: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """What is kept beside frames (n,): the drift by then, and channels of the state that a frame does not hold."""
        if self._feedback is None:
            return memory
        return torch.cat((memory[:, -NUM_VELOCITIES:], states[:, self.layout.size :]), dim=1)

    def finite(self, motions: torch.Tensor) -> torch.Tensor:
        """Whether the last state of motions (n,) is finite, (n,); a state that is not stays so."""
        return torch.isfinite(self._tail_state[motions]).all(dim=1)

    def _fill_root(
        self, stance_root: StanceRoot, first: torch.Tensor, count: int, motions: slice | torch.Tensor
    ) -> torch.Tensor:
        """Tell the root of ``count`` new frames from the stance foot; returns the last pose (n, 3)."""
        context = min(ROOT_CONTEXT, max(1, self._shortest - count))
        frames = first.unsqueeze(1) + torch.arange(-context, count, device=self.device)
        # Motions with fewer stored frames repeat their first one: a standing start.
        frames = torch.maximum(frames, (first.unsqueeze(1) - context).clamp(min=0))  # (n, context + count)
        states, _, poses = self.store.read_states(frames, motions)
        states = stance_root.complete(states[..., : self.model_layout.size], self.model_layout, self.store.fps)
        pose = poses[:, context - 1]
        for column in range(context, context + count):
            before, now = states[:, column - 1], states[:, column]
            pose = self._append(frames[:, column], pose, before, now, motions)
        return pose

    def _append(
        self,
        frames: torch.Tensor,
        pose: torch.Tensor,
        before: torch.Tensor,
        now: torch.Tensor,
        motions: slice | torch.Tensor,
    ) -> torch.Tensor:
        """Store states ``now`` (n, state_dim), a frame after ``before`` at ``pose`` (n, 3); returns their poses."""
        if self.store.by_numba:
            placed = torch.empty_like(pose)
            self.store.place(frames, pose, before, now, motions, placed)
            return placed
        before, now = self._with_root(before), self._with_root(now)
        pose = self.store.integrate(pose, before, now)
        seen = seen_columns(self.layout, now, before, -1.0 / self.store.fps, pose[:, 2])
        self.store.write(frames, now, seen, pose, motions)
        return pose
