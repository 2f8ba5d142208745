"""A frame of all motions in seven kernels: three products, and one pass before, between and after them."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, NamedTuple

import torch

from cmg_ref.core.command_layout import NUM_VELOCITIES
from cmg_ref.core.state_layout import GAIT_PHASE
from cmg_ref.frames.command_plan import PlannedCommands
from cmg_ref.frames.store import TrajectoryStore
from cmg_ref.network.model import CMG
from cmg_ref.network.side_by_side_network import Passed, SideBySideNetwork
from cmg_ref.network.standing import ALL_BUT, Standing

# Rows of a program and its warps, by kernel: the fastest that were measured for 4096 motions on an H200.
SHAPES = {
    "take_in_motions": (4, 4),
    "take_in_given": (4, 4),
    "blend_first": (4, 4),
    "blend_next": (1, 8),
    "put_out": (1, 1),
    "put_out_motions": (1, 1),
}


class Motions(NamedTuple):
    """What a frame reads and writes of all motions, in memory that stays where it is.

    Attributes:
        store: The frames.
        commands: The commands they follow.
        beside: How far motions have drifted from their commands by each of the frames, and channels of the state that
            frames do not hold, (num_rows, 3 or more).
        state: Last state, (num_motions, state_dim).
        pose: Its x, y and heading, (num_motions, 3).
        memory: What is remembered of its commands, see :class:`DriftFeedback`, (num_motions, command_dim + 3).
        written: Number of frames generated, (num_motions,).
        guarded: In how many of them the guard had to act, (num_motions,).
    """

    store: TrajectoryStore
    commands: PlannedCommands
    beside: torch.Tensor
    state: torch.Tensor
    pose: torch.Tensor
    memory: torch.Tensor
    written: torch.Tensor
    guarded: torch.Tensor


class TritonFrame:
    """Advances states, or motions with all that belongs to a frame, by Triton's kernels.

    Args:
        model: The CMG.
        network: Its weights.
        standing: What becomes of motions that are told to stand.
        guard_count: Incremented by the number of frames in which the guard had to act, ().
        drift: What is told of the drift of a motion and how much of it there can be, (2, 3); none by default.
    """

    def __init__(
        self,
        model: CMG,
        network: SideBySideNetwork,
        standing: Standing,
        guard_count: torch.Tensor,
        drift: torch.Tensor | None = None,
    ) -> None:
        from cmg_ref.cuda_graph import frame_kernels  # Triton is not everywhere.

        self._kernels, self.network, self._guard_count = frame_kernels, network, guard_count
        layout = model.layout
        device = network.device
        rest = standing.nothing_asked
        self._command_range = torch.stack((model.command_min.to(rest), model.command_max.to(rest), rest)).to(device)
        self._gain, self._largest_drift = torch.zeros(2, NUM_VELOCITIES, device=device) if drift is None else drift
        limits = torch.stack((model.state_min, model.state_max)).to(device)
        self._limits, self._heights = torch.cat((limits, standing.table.to(device))), standing.heights.to(device)
        self._half_dt, self._fps = 0.5 / model.fps, model.fps
        self._outputs = network.biases[-1].shape[1]
        given = layout.num_joints if model.config.prediction == "change" else 0
        self._state_sizes = {"SIZE": layout.size, "COLUMNS": power_of_two(network.weights[0].shape[0])}
        self._state_sizes["COMMANDS"] = model.command_layout.size
        self._out_sizes: dict[str, Any] = {"OUTPUTS": self._outputs, "EXPERTS": network.num_experts, "GIVEN": given}
        self._out_sizes["ANGLES"] = layout.num_joints
        self._out_sizes.update(STANCES=standing.num_stances, HEIGHT_AXIS=standing.height_axis)
        self._out_sizes.update(ROOT_HEIGHT=standing.height_column, ALL_BUT=ALL_BUT)
        self._out_sizes["PHASE"] = layout[GAIT_PHASE].start if GAIT_PHASE in layout else layout.size
        names = {"HEIGHT": "root_height", "GRAVITY": "projected_gravity", "VELOCITY": "root_lin_vel_h"}
        names["YAW_RATE"] = "root_yaw_rate"
        self._channels = {name: layout[channel].start for name, channel in names.items()} if layout.has_root else {}
        self._channels["JOINTS"] = 2 * layout.num_joints

    def step(self, state: torch.Tensor, command: torch.Tensor, following: torch.Tensor, guarded: torch.Tensor) -> None:
        """Write the next states of states (n, state_dim) under commands, and in which the guard acted (n,).

        Those are counted.
        """
        num, passed = len(state), self.network.passed(len(state))
        state, command = state.contiguous(), command.contiguous()
        self._launch("take_in_given", num)(
            state,
            command,
            self._command_range,
            self.network.scale,
            self.network.shift,
            passed.command,
            passed.inputs,
            num,
            INPUTS=passed.inputs.shape[1],
            **self._state_sizes,
        )
        products = self._predict(passed)
        self._launch("put_out", num)(
            products,
            self.network.biases[-1],
            passed.blend,
            state,
            passed.command,
            self._command_range,
            self._limits,
            self._heights,
            following,
            guarded,
            self._guard_count,
            num,
            self._half_dt,
            **self._out_sizes,
            **self._state_sizes,
        )

    def frame(self, motions: Motions, ids: torch.Tensor) -> None:
        """Make and store the next frame of motions ``ids`` (n,), -1 for none; each may occur several times.

        State, pose, number of frames and of guarded frames of each go on with it.
        """
        num, passed = len(ids), self.network.passed(len(ids))
        commands, store = motions.commands, motions.store
        self._launch("take_in_motions", num)(
            ids,
            motions.state,
            motions.pose,
            motions.memory,
            motions.written,
            motions.guarded,
            commands.first_frames,
            commands.starts,
            commands.targets,
            commands.largest,
            self._command_range,
            self._gain,
            self.network.scale,
            self.network.shift,
            passed.before,
            passed.poses,
            passed.memory,
            passed.frames,
            passed.guarded,
            passed.command,
            passed.inputs,
            num,
            INPUTS=passed.inputs.shape[1],
            SEGMENTS=commands.num_segments,
            RAMP=commands.interpolation_frames,
            SEGMENT_ROOM=power_of_two(commands.num_segments),
            VELOCITIES=NUM_VELOCITIES,
            **self._state_sizes,
        )
        products = self._predict(passed)
        self._launch("put_out_motions", num)(
            ids,
            products,
            self.network.biases[-1],
            passed.blend,
            passed.before,
            passed.command,
            self._command_range,
            self._limits,
            self._heights,
            passed.poses,
            passed.memory,
            passed.frames,
            passed.guarded,
            self._largest_drift,
            motions.state,
            motions.pose,
            motions.memory,
            motions.written,
            motions.guarded,
            self._guard_count,
            store.table,
            store.bits,
            motions.beside,
            store.first_rows,
            store.capacities,
            num,
            self._half_dt,
            self._fps,
            WIDTH=store.table.shape[1],
            HALF=store.dtype == torch.float16,
            VELOCITIES=NUM_VELOCITIES,
            BESIDE=motions.beside.shape[1],
            **self._channels,
            **self._out_sizes,
            **self._state_sizes,
        )

    def _predict(self, passed: Passed) -> torch.Tensor:
        """What the experts of the last layer give for ``passed.inputs``; the blend is left in ``passed``."""
        network, num = self.network, len(passed.inputs)
        hidden = passed.hidden.shape[1]
        sizes: dict[str, Any] = {"HIDDEN": hidden, "EXPERTS": network.num_experts}
        sizes["HIDDEN_ROOM"] = power_of_two(hidden)
        products = network.multiply(0, passed.inputs, passed.products)
        self._launch("blend_first", num)(
            products,
            network.gate_bias,
            network.blend_weight,
            network.blend_bias,
            network.biases[0],
            passed.blend,
            passed.hidden,
            num,
            GATE=network.gate_hidden,
            GATE_ROOM=power_of_two(network.gate_hidden),
            EXPERT_ROOM=power_of_two(network.num_experts),
            **sizes,
        )
        for layer in range(1, len(network.weights) - 1):
            products = network.multiply(layer, passed.hidden, passed.products)
            self._launch("blend_next", num)(products, network.biases[layer], passed.blend, passed.hidden, num, **sizes)
        return network.multiply(len(network.weights) - 1, passed.hidden, passed.products)

    def _launch(self, kernel: str, num: int) -> Callable[..., Any]:
        """A kernel on ``num`` rows, waiting for its arguments."""
        rows, warps = SHAPES[kernel]
        return partial(getattr(self._kernels, kernel)[(-(-num // rows),)], BLOCK=rows, num_warps=warps)


def power_of_two(least: int) -> int:
    """The smallest power of two that is not less."""
    return 1 << (least - 1).bit_length()
