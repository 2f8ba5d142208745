"""A step of the roll-out on a CPU: matrix products, and one Numba loop between each two of them.

Batches are cut into blocks whose inputs stay in the cache, and every thread takes one after the other. Used where Numba
is installed; what :class:`cmg_ref.rollout.rollout.Rollout` does without it gives the same numbers.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Callable

import numpy as np
import torch

from cmg_ref.core.state_layout import GAIT_PHASE
from cmg_ref.network.inference_network import InferenceNetwork
from cmg_ref.network.model import CMG
from cmg_ref.network.packed_product import PackedProduct, round_number
from cmg_ref.network.standing import Standing
from cmg_ref.rollout.drift_feedback import DriftFeedback

BLOCK = 256  # motions in a block at most; what passes between the layers of two threads then stays in the cache
FEW = 3  # motions that one Numba loop is the fastest for
SMALLEST_SHARE = 16  # motions for a thread; fewer are not worth waking it

# Makes a frame of a block: what its thread works in, the motions (a slice of all), and the number of the frame.
Frame = Callable[["Workspace", slice, int], None]

_pools: dict[int, ThreadPoolExecutor] = {}  # by the number of threads beside the caller's
if hasattr(os, "register_at_fork"):  # A forked process inherits the threads' names and not the threads.
    os.register_at_fork(after_in_child=_pools.clear)


class NumbaStep:
    """The step of a roll-out.

    Args:
        model: The CMG, on the CPU; must predict changes.
        network: Its folded weights, in float32 or bfloat16.
        standing: What becomes of motions that are told to stand.
        feedback: What is told of drift; None where nothing is.
    """

    def __init__(
        self,
        model: CMG,
        network: InferenceNetwork,
        standing: Standing,
        feedback: DriftFeedback | None = None,
    ) -> None:
        # Loading Numba takes half a second, for which only those who generate motions should wait.
        from cmg_ref.rollout import numba_network

        self._loops, self._network = numba_network, network
        bounds = model.command_min, model.command_max, standing.nothing_asked
        self._command_range = torch.stack(bounds).numpy()
        self._norm = network.scale.numpy(), network.shift.numpy()
        gate = network.gate_bias, network.blend_weight, network.blend_bias
        self._gate = tuple(held.float().numpy() for held in gate)
        # The last layer's outputs are few: its experts' are blended, which costs less than spreading their inputs.
        last, experts = network.layers[-1], len(network.blend_bias)
        by_expert = last[:-experts].view(experts, -1, last.shape[1])  # (experts, hidden, outputs)
        self._first = PackedProduct(network.gate_weight)
        self._last = PackedProduct(by_expert.transpose(0, 1).flatten(1).contiguous())
        # Of a motion or two the products are nothing but reading weights, which a loop does as well as a library.
        self._few: tuple[np.ndarray, ...] = ()
        if network.dtype == torch.float32:
            weights = (self._first.weight, *network.layers[:-1], self._last.weight)
            self._few = tuple(weight.t().contiguous().numpy() for weight in weights)
        self._last_bias = last[-experts:].float().numpy()
        limits = torch.stack((model.state_min, model.state_max)).numpy()
        phase = model.layout[GAIT_PHASE].start if GAIT_PHASE in model.layout else model.layout.size
        stand = standing.table.numpy(), standing.heights.numpy(), standing.height_axis, standing.height_column
        self._finish = limits, *stand, np.float32(0.5 / model.fps), model.layout.num_joints, phase
        self._command_dim = model.command_layout.size
        if feedback is not None:
            self._drift = feedback.gain.numpy(), feedback.largest.numpy()
            self._followed = np.array(feedback.columns), np.float32(feedback.dt)
        self._workspaces: list[Workspace] = []

    def __call__(self, state: torch.Tensor, command: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The next state (n, state_dim) and whether the guard had to act (n,) bool, of states and commands."""
        state, command = state.contiguous(), command.contiguous()
        following, guarded = torch.empty_like(state), torch.empty(len(state), dtype=torch.bool)
        arrays = state.numpy(), command.numpy(), following.numpy(), guarded.numpy()
        self.share_out(
            len(state), 1, lambda workspace, rows, _: self.step(workspace, *(array[rows] for array in arrays))
        )
        return following, guarded

    def workspace(self) -> Workspace:
        """What a thread works in."""
        return Workspace(self._network, self._command_dim)

    def correct(self, command: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """See :meth:`DriftFeedback.correct`; the memory (n, memory_dim) is changed."""
        told = np.empty_like(command)
        self._loops.correct_commands(command, self._command_range, self._drift[0], memory, told)
        return told

    def follow(self, following: np.ndarray, memory: np.ndarray, rows: np.ndarray, beside: np.ndarray) -> None:
        """See :meth:`DriftFeedback.follow`; memory (n, memory_dim) and rows (n,) of ``beside`` change."""
        columns, dt = self._followed
        self._loops.follow_commands(following, columns, dt, self._drift[1], memory, rows, beside)

    def share_out(self, num: int, count: int, frame: Frame) -> None:
        """Make frames of motions, in all threads.

        A block of motions goes from frame to frame on its own, so no thread waits for another before the end.

        Args:
            num: Number of motions.
            count: Number of frames.
            frame: Makes a frame of a block of motions.
        """
        num_threads = torch.get_num_threads()
        num_shares = max(1, min(num_threads, num // SMALLEST_SHARE))
        while len(self._workspaces) < num_shares:
            self._workspaces.append(self.workspace())
        num_blocks = num_shares * -(-num // (BLOCK * num_shares))  # as many for each thread
        ends = [num * (block + 1) // num_blocks for block in range(num_blocks)]
        # Whichever thread is free takes the next block, for other users of a machine seldom slow all cores alike.
        waiting = deque((slice(first, end), 0) for first, end in zip([0, *ends[:-1]], ends))

        def work(workspace: Workspace) -> None:
            while waiting:
                try:
                    rows, number = waiting.popleft()
                except IndexError:  # Another thread was quicker.
                    return
                frame(workspace, rows, number)
                if number + 1 < count:
                    waiting.append((rows, number + 1))

        # Torch's own threads go on looking for work for milliseconds after each operation, and would hold the cores
        # that ours want. This is a setting of the calling thread for some of its libraries, of the process for others.
        torch.set_num_threads(1)
        try:
            others = [_workers(num_shares - 1).submit(work, workspace) for workspace in self._workspaces[1:num_shares]]
            try:
                work(self._workspaces[0])
            finally:
                wait(others)  # Rooms are not theirs any more after this call, even if it fails.
            for other in others:
                other.result()
        finally:
            torch.set_num_threads(num_threads)

    def step(
        self, workspace: Workspace, state: np.ndarray, command: np.ndarray, following: np.ndarray, guarded: np.ndarray
    ) -> None:
        """The step of a block.

        Args:
            workspace: What the thread works in.
            state: (n, state_dim).
            command: (n, command_dim).
            following: Written, the next state, (n, state_dim).
            guarded: Written, whether the guard had to act, (n,) bool.
        """
        loops, network = self._loops, self._network
        if self._few and len(state) <= FEW:
            gate_weight, *weights, last_weight = self._few
            loops.step_few(
                state,
                command,
                self._command_range,
                *self._norm,
                gate_weight,
                *self._gate,
                tuple(weights),
                last_weight,
                self._last_bias,
                *self._finish,
                following,
                guarded,
            )
            return
        workspace.fit(len(state))
        inputs, coefficients, hidden = workspace.inputs, workspace.coefficients, workspace.hidden
        loops.normalise_inputs(state, command, self._command_range, *self._norm, workspace.command.array, inputs.array)
        self._first(inputs.tensor, workspace.gate.tensor)
        loops.gate_coefficients(workspace.gate.array, *self._gate, coefficients.array)
        loops.mixture_input(inputs.array, coefficients.array, False, workspace.mixed[0].array)
        network.multiply(0, workspace.mixed[0].tensor, hidden.tensor)
        for index, mixed in enumerate(workspace.mixed[1:], start=1):
            loops.mixture_input(hidden.array, coefficients.array, True, mixed.array)
            network.multiply(index, mixed.tensor, hidden.tensor)
        loops.activate(hidden.array)
        self._last(hidden.tensor, workspace.outputs.tensor)
        loops.combine_experts(workspace.outputs.array, coefficients.array, self._last_bias, workspace.changes.array)
        loops.integrate(
            state,
            workspace.changes.array,
            workspace.command.array,
            self._command_range,
            *self._finish,
            following,
            guarded,
        )


class _Scratch:
    """Memory for the rows of a block, as Numba wants it, (n, width), and as torch does, with a few rows more.

    Products are over a :func:`round_number` of rows; what the further ones hold does not matter.
    """

    def __init__(self, width: int, dtype: torch.dtype = torch.float32) -> None:
        self._width, self._dtype = width, dtype
        self._whole = self._zeros(0)
        self.fit(0)

    def fit(self, num: int) -> None:
        """Make it ``num`` rows."""
        rounded = round_number(num)
        if rounded > len(self._whole):
            self._whole = self._zeros(rounded)
        self.tensor = self._whole[:rounded]
        own = self.tensor[:num]
        self.array = own.numpy() if own.dtype == torch.float32 else own.view(torch.int16).numpy().view(np.uint16)

    def _zeros(self, num: int) -> torch.Tensor:
        with torch.inference_mode(False):  # What is made in that mode cannot be worked in outside of it.
            return torch.zeros(num, self._width, dtype=self._dtype)


class Workspace:
    """What passes between the layers of one thread's block."""

    def __init__(self, network: InferenceNetwork, command_dim: int) -> None:
        self._num = 0
        dtype, layers, experts = network.dtype, network.layers, len(network.blend_bias)
        self.command, self.coefficients = _Scratch(command_dim), _Scratch(experts)
        self.inputs, self.gate = _Scratch(len(network.scale), dtype), _Scratch(len(network.gate_bias), dtype)
        self.hidden, num_outputs = _Scratch(layers[0].shape[1], dtype), layers[-1].shape[1]
        self.outputs, self.changes = _Scratch(experts * num_outputs, dtype), _Scratch(num_outputs)
        # What one layer has taken in is not needed by the next.
        widths = [len(weight) for weight in layers[:-1]]
        mixed = {width: _Scratch(width, dtype) for width in widths}
        self.mixed = [mixed[width] for width in widths]
        self._all = [self.command, self.inputs, self.gate, self.coefficients, self.hidden, self.outputs, self.changes]
        self._all += mixed.values()

    def fit(self, num: int) -> None:
        """Make workspace for ``num`` rows."""
        if num != self._num:
            self._num = num
            for held in self._all:
                held.fit(num)


def _workers(number: int) -> ThreadPoolExecutor:
    """Threads beside the caller's, in each of which torch has a single one."""
    if number not in _pools:
        _pools[number] = ThreadPoolExecutor(number, "cmg_ref", initializer=torch.set_num_threads, initargs=(1,))
    return _pools[number]
