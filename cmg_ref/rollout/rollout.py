"""Autoregressive roll-out of a CMG: many motions at once, one forward pass per frame."""

from __future__ import annotations

import copy
import math
import warnings
from functools import partial
from typing import Union

import torch

from cmg_ref.core.backends import chosen_backend, triton_available
from cmg_ref.core.progress import ProgressBar
from cmg_ref.core.rotations import quat_from_gravity_and_yaw
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.cuda_graph.captured_steps import CapturedSteps
from cmg_ref.cuda_graph.triton_frame import TritonFrame
from cmg_ref.network.inference_network import InferenceNetwork
from cmg_ref.network.model import CMG
from cmg_ref.network.side_by_side_network import SideBySideNetwork
from cmg_ref.network.standing import Standing
from cmg_ref.rollout.drift_feedback import DriftFeedback
from cmg_ref.rollout.numba_step import NumbaStep

Network = Union[InferenceNetwork, SideBySideNetwork]

CPU_BLOCK = 1024  # motions in a forward pass on a CPU; larger batches fall out of the cache


class Rollout:
    """Advances motion states under commands, held inside the trained ranges.

    Where all velocities of the command are zero, a motion stands, see :class:`cmg_ref.network.standing.Standing`.

    Args:
        model: The CMG; later changes of its weights go unnoticed.
        device: Where to run.
        rest: Whether states nearly at rest are kept under zero command.
        dtype: Type the network computes in, see :class:`InferenceNetwork`; states are float32 always.
        backend: What advances states, see :mod:`cmg_ref.core.backends`.
        stance: State (state_dim,) that motions come to of which nothing is asked, no velocity and no height, or such
            states for all heights, see :meth:`Checkpoint.stances`; None leaves them in any that they find.

    Attributes:
        guard_count: Frames in which the guard had to act, summed over all motions since construction.
        guarded: Motions in which the guard had to act in the last call of :meth:`advance`, (num_motions,) bool.
        frame_count: Frames generated since construction.
        backend: What was chosen, ``"torch"``, ``"numba"`` or ``"cuda_graph"``.
        feedback: What tells the CMG how far a motion has drifted from its command; None without root channels.
        captured: The step on a GPU, captured for each number of motions that keeps coming back.
        numba_step: The step with Numba loops, where that is how it runs.
        kernels: Triton's kernels, where that is how it runs.
    """

    def __init__(
        self,
        model: CMG,
        device: str | torch.device = "cpu",
        rest: bool = True,
        dtype: torch.dtype = torch.float32,
        backend: str = "auto",
        stance: torch.Tensor | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.backend = chosen_backend(backend, self.device)
        # The caller's model stays where it is: it may serve another device.
        own = model if model.motion_mean.device == self.device else copy.deepcopy(model).to(self.device)
        self.model = own.eval()
        self.layout = model.layout
        self.fps = model.fps
        self.guard_count = torch.zeros((), dtype=torch.long, device=self.device)
        self.guarded = torch.zeros(0, dtype=torch.bool, device=self.device)
        self.frame_count = 0
        self.standing = Standing(own, stance, rest).to(self.device)
        self.feedback = DriftFeedback(own) if self.layout.has_root else None
        self.kernels = self._kernels(dtype)
        if self.kernels is not None:
            self.network: Network = self.kernels.network
        else:
            self.network = InferenceNetwork(own, self.device, dtype)
        self.captured: CapturedSteps | None = None
        if self.backend == "cuda_graph":
            workspace = partial(getattr, self.network, "workspace")
            self.captured = CapturedSteps(self._counted_step, self.guard_count, workspace)
        self.numba_step: NumbaStep | None = None
        changes = model.config.prediction == "change"
        if self.backend == "numba" and isinstance(self.network, InferenceNetwork) and changes:
            self.numba_step = NumbaStep(self.model, self.network, self.standing, self.feedback)
        self._run = self.numba_step or self.step

    def _kernels(self, dtype: torch.dtype) -> TritonFrame | None:
        """Triton's kernels, on a GPU that can run them; one that cannot is warned of."""
        if self.backend != "cuda_graph" or not triton_available():
            return None
        try:
            network = SideBySideNetwork(self.model, self.device, dtype)
            drift = None if self.feedback is None else torch.stack((self.feedback.gain, self.feedback.largest))
            kernels = TritonFrame(self.model, network, self.standing, self.guard_count, drift)
            state = torch.zeros(1, self.layout.size, device=self.device)
            command = self.model.command_layout.rest(1, device=self.device)
            with torch.cuda.device_of(state):
                kernels.step(state, command, torch.empty_like(state), self.guarded.new_zeros(1))
            self.guard_count.zero_()
        except Exception as error:  # Without a compiler on the machine, say; torch's own operations remain.
            warnings.warn(f"roll-out: Triton cannot build its kernels here ({error})", stacklevel=3)
            return None
        return kernels

    @torch.no_grad()
    def advance(self, state: torch.Tensor, command: torch.Tensor) -> torch.Tensor:
        """The state one frame later.

        Args:
            state: (num_motions, state_dim).
            command: What each is told, (num_motions, command_dim); held inside the trained range.

        Returns:
            Next state, held inside the guard range, (num_motions, state_dim).
        """
        if self.captured is not None:
            following, self.guarded = self.captured(state, command)
            self.frame_count += len(state)
            return following
        num_blocks = self.num_blocks(len(state))
        if num_blocks == 1:
            following, self.guarded = self._run(state, command)
        else:
            blocks = zip(state.tensor_split(num_blocks), command.tensor_split(num_blocks))
            results = [self._run(*block) for block in blocks]
            following = torch.cat([result[0] for result in results])
            self.guarded = torch.cat([result[1] for result in results])
        self.count(len(state), self.guarded.sum())
        return following

    def count(self, frames: int, guarded: torch.Tensor | int) -> None:
        """Count frames that were generated, and in how many of them the guard had to act ()."""
        self.frame_count += frames
        self.guard_count += guarded

    def num_blocks(self, num: int) -> int:
        """Into how many parts of about the same size a batch is best cut."""
        blocks_itself = self.device.type != "cpu" or self.numba_step is not None
        return 1 if blocks_itself else max(1, math.ceil(num / CPU_BLOCK))

    def _counted_step(
        self, state: torch.Tensor, command: torch.Tensor, following: torch.Tensor, guarded: torch.Tensor
    ) -> None:
        """Write the next state (n, state_dim) and whether the guard had to act (n,), counted."""
        if self.kernels is not None:
            with torch.cuda.device_of(state):
                self.kernels.step(state, command, following, guarded)
            return
        predicted, acted = self.step(state, command)
        following.copy_(predicted)
        guarded.copy_(acted)
        self.guard_count += guarded.sum()

    def step(self, state: torch.Tensor, command: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The next state (n, state_dim) and whether the guard had to act (n,), uncounted, by torch's operations."""
        assert isinstance(self.network, InferenceNetwork)
        command = self.model.clamp_command(command)
        predicted = self.network.predict(state, command)
        held = self.model.guard(predicted)
        # A largest value is found many times faster than whether any or all are true. What is not a number counts too.
        guarded = (held - predicted).abs().amax(dim=1) != 0.0
        return self.standing(held, state, command), guarded

    @torch.no_grad()
    def generate(
        self,
        initial: torch.Tensor,
        commands: torch.Tensor,
        out: torch.Tensor | None = None,
        progress: bool = False,
        memory: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Roll motions out.

        Args:
            initial: States to start from, (num_motions, state_dim), see :meth:`StateLayout.complete`.
            commands: Command of every frame, (num_motions, num_frames, command_dim), or velocities alone.
            out: Tensor to write into, (num_motions, num_frames, state_dim).
            progress: Show a progress bar.
            memory: What :attr:`feedback` remembers of motions that go on, (num_motions, memory_dim); is brought up to
                date. Motions begin by default.

        Returns:
            States (num_motions, num_frames, state_dim); frame 0 is the one after ``initial``.
        """
        if out is None:
            out = torch.empty(*commands.shape[:2], self.layout.size, device=self.device)
        state, feedback = self.layout.complete(initial.to(self.device)), self.feedback
        if memory is None and feedback is not None:
            memory = feedback.memory(len(initial))
        told_all = self.model.command_layout.complete(commands.to(self.device))
        frames = ProgressBar(told_all.unbind(dim=1), "generate", unit="frame", disable=not progress)
        for frame, command in enumerate(frames):
            if feedback is None or memory is None:
                state = self.advance(state, command)
            else:
                told, remembered = feedback.correct(command, memory)
                state = self.advance(state, told)
                memory.copy_(feedback.follow(state, remembered))
            out[:, frame] = state
        return out


def integrate_root(
    states: torch.Tensor,
    layout: StateLayout,
    fps: float,
    root_xy: torch.Tensor | None = None,
    yaw: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """World pose of the root from the root channels.

    Position and heading are integrated by the trapezoidal rule, height and tilt are taken as they are.

    Args:
        states: (num_motions, num_frames, state_dim).
        layout: Channels of the states, root channels included.
        fps: Frames a second.
        root_xy: Position at the first frame, (num_motions, 2) [m]; the origin by default.
        yaw: Heading at the first frame, (num_motions,) [rad]; 0 by default.

    Returns:
        Position in the world (num_motions, num_frames, 3) and orientation xyzw (num_motions, num_frames, 4).
    """
    parts = layout.split(states)
    rate = parts["root_yaw_rate"].squeeze(-1)
    start = rate.new_zeros(len(states), 1) if yaw is None else yaw.unsqueeze(1)
    heading = start + _integral(rate, fps)  # (num_motions, num_frames)
    cos, sin = torch.cos(heading), torch.sin(heading)
    vx, vy = parts["root_lin_vel_h"][..., 0], parts["root_lin_vel_h"][..., 1]
    velocity_w = torch.stack((cos * vx - sin * vy, sin * vx + cos * vy), dim=1)  # (num_motions, 2, num_frames)
    position = _integral(velocity_w, fps).transpose(1, 2)
    if root_xy is not None:
        position = position + root_xy.unsqueeze(1)
    orientation = quat_from_gravity_and_yaw(parts["projected_gravity"], heading)
    return torch.cat((position, parts["root_height"]), dim=-1), orientation


def _integral(rate: torch.Tensor, fps: float) -> torch.Tensor:
    """Trapezoidal integral over the last axis, 0 at the first frame."""
    steps = 0.5 / fps * (rate[..., 1:] + rate[..., :-1])
    return torch.nn.functional.pad(torch.cumsum(steps, dim=-1), (1, 0))
