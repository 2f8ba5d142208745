"""The arithmetic of a CMG as three plain products, between which everything else is one pass over their results.

The experts of a layer stand side by side, so that one product gives what each of them makes of the same input:
``x [W_1, ..., W_E]``. The pass after it blends the results, adds the blended biases and bends them; the first layer
shares its product with the gate.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from cmg_ref.core.command_layout import NUM_VELOCITIES
from cmg_ref.network.inference_network import InferenceNetwork, check_dtype
from cmg_ref.network.model import CMG

_ALIGNMENT = 8  # columns that a GPU's fast products ask for; further ones would only be multiplied


class Passed(NamedTuple):
    """What passes from one operation to the next, for n motions.

    Attributes:
        before: States that the frame is made from, (n, state_dim).
        poses: Their x, y and heading, (n, 3).
        memory: What is remembered of their commands and of what was missed of them, (n, command_dim + 3).
        frames: Number of the frame that is made, (n,).
        guarded: Frames in which the guard had to act before, (n,).
        command: Command in force, inside the trained range, (n, command_dim).
        inputs: Normalised states and commands, padded by columns of zeros, (n, inputs).
        products: What the experts of a layer give, (n, at most gate_hidden + num_experts * hidden), of which each layer
            uses the first numbers.
        hidden: Input of the next layer, (n, hidden).
        blend: Coefficient of each expert, (n, num_experts).
    """

    before: torch.Tensor
    poses: torch.Tensor
    memory: torch.Tensor
    frames: torch.Tensor
    guarded: torch.Tensor
    command: torch.Tensor
    inputs: torch.Tensor
    products: torch.Tensor
    hidden: torch.Tensor
    blend: torch.Tensor


class SideBySideNetwork:
    """Weights of a CMG laid out for products of fixed shape.

    Args:
        model: The CMG; later changes of its weights go unnoticed.
        device: Where to run.
        dtype: Type of weights, inputs, products and hidden values; blends and biases are in float32.

    Attributes:
        scale, shift: Of the inputs, (state_dim + command_dim,).
        weights: Of each layer, the first with the gate before it, (inputs, gate_hidden + num_experts * hidden), then
            (hidden, num_experts * hidden), the last (hidden, num_experts * outputs).
        biases: Of each layer's experts, (num_experts, width), the last in physical units and padded by zeros.
        gate_bias, blend_weight, blend_bias: Of the gate, (gate_hidden,), (num_experts, gate_hidden), (num_experts,).
        num_operations: Multiplications and additions in the matrix products of one prediction.
        workspace: What passes between the operations, as large as the largest batch so far.
    """

    def __init__(self, model: CMG, device: str | torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype, self.layout = torch.device(device), dtype, model.layout
        check_dtype(dtype, self.device)
        folded = InferenceNetwork(model, device)
        self.num_experts, self.gate_hidden = model.config.num_experts, model.config.gate_hidden
        self.scale, self.shift = folded.scale, folded.shift
        self.gate_bias, self.blend_weight, self.blend_bias = folded.gate_bias, folded.blend_weight, folded.blend_bias
        self.biases = [stacked[-self.num_experts :].contiguous() for stacked in folded.layers]
        weights = []
        for stacked in folded.layers:
            by_expert = stacked[: -self.num_experts].view(self.num_experts, -1, stacked.shape[1])
            weights.append(by_expert.transpose(0, 1).flatten(1))
        first = torch.cat((folded.gate_weight, weights[0]), dim=1)
        weights[0] = torch.nn.functional.pad(first, (0, 0, 0, -first.shape[0] % _ALIGNMENT))
        self.weights = [weight.to(dtype).contiguous() for weight in weights]
        self.num_operations, self._command_dim = folded.num_operations, model.command_layout.size
        self.workspace: Passed | None = None

    def passed(self, num: int) -> Passed:
        """Room for what passes between the operations on ``num`` motions."""
        if self.workspace is None or len(self.workspace.before) < num:
            with torch.inference_mode(False):  # What is made in that mode cannot be worked in outside of it.
                self.workspace = self._allocated(num)
        return Passed(*(held[:num] for held in self.workspace))

    def _allocated(self, num: int) -> Passed:
        size, inputs, hidden = self.layout.size, self.weights[0].shape[0], self.weights[-1].shape[0]
        width = max(weight.shape[1] for weight in self.weights)

        def room(columns: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(num, columns, dtype=dtype, device=self.device)

        counts = [torch.zeros(num, dtype=torch.long, device=self.device) for _ in range(2)]
        own = (room(columns, self.dtype) for columns in (inputs, width, hidden))
        pose, command = room(3), room(self._command_dim)
        memory = room(self._command_dim + NUM_VELOCITIES)
        return Passed._make((room(size), pose, memory, *counts, command, *own, room(self.num_experts)))

    def multiply(self, layer: int, x: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
        """What the experts of a layer, and the gate in the first, make of x (n, inputs), written to ``products``."""
        weight = self.weights[layer]
        room = products.view(-1)[: len(x) * weight.shape[1]].view(len(x), weight.shape[1])
        return torch.mm(x, weight, out=room)
