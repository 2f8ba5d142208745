"""The arithmetic of a CMG with nothing left to do but matrix products.

The biases of the experts become rows of the stacked weights, so that a mixture layer is one product:
``[c_1 x, ..., c_E x, c_1, ..., c_E] [W_1; ...; W_E; b_1; ...; b_E]``. The units of the output are folded into the last
layer. The normalisation of the input is one pass over it: folded into the first layer it would cost a digit, for a
state as it is, gravity say, lies fifty standard deviations from 0. What passes from layer to layer stays in memory that
is allocated once.
"""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.nn import functional

from cmg_ref.core.devices import bfloat16_pays
from cmg_ref.core.state_layout import GAIT_PHASE
from cmg_ref.network.model import CMG, SMALLEST_PHASE, MixtureLinear
from cmg_ref.network.packed_product import PackedProduct

_LOG2_E = 1.4426950408889634
_LARGE = 1 << 15  # values from which on a CPU is faster with several cheap passes than with one of its ELU
_ALIGNMENT = 16  # floats in a vector register; narrower or odd outputs fall off the fast path of a CPU's GEMM


class InferenceNetwork:
    """Predicts as :meth:`cmg_ref.network.model.CMG.forward` does, without gradients.

    Args:
        model: The CMG; later changes of its weights go unnoticed.
        device: Where to run.
        dtype: Type of weights, activations and products. States and their normalisation stay in float32.

    Attributes:
        dtype: The same, or float32 where that is the faster one, see :func:`computed_dtype`.
        scale, shift: Of the inputs, (state_dim + command_dim,).
        gate_weight, gate_bias: First layer of the gate, (state_dim + command_dim, gate_hidden) and (gate_hidden,).
        blend_weight, blend_bias: Its second layer, (num_experts, gate_hidden) and (num_experts,).
        layers: Stacked experts of each layer, (num_experts * (inputs + 1), outputs); the last is padded by zeros.
        num_operations: Multiplications and additions in the matrix products of one prediction.
        workspace: Memory for what passes between layers, as large as the largest batch so far.

    Raises:
        ValueError: The type is none that the device computes in.
    """

    def __init__(self, model: CMG, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device = torch.device(device)
        self.dtype = computed_dtype(dtype, self.device)
        if self.dtype != dtype:
            message = "this processor has no instructions for bfloat16: the network computes in float32, the faster one"
            warnings.warn(message, stacklevel=2)
        self.layout = model.layout
        self._half_dt = 0.5 / model.fps
        self._next_state = model.config.prediction == "next_state"
        self._num_experts = model.config.num_experts
        self._num_given = 0 if self._next_state else model.layout.num_joints
        self._fold(model)
        self.workspace: list[torch.Tensor] = []
        self._room = torch.empty(0, 0, device=self.device)

    def _fold(self, model: CMG) -> None:
        """Lay out the weights, worked out in double precision."""
        command_scale = 2.0 / (model.command_max - model.command_min).double()
        scale = torch.cat((1.0 / model.motion_std.double(), command_scale))
        shift = torch.cat((model.motion_mean.double(), 0.5 * (model.command_min + model.command_max).double())) * -scale
        self.scale, self.shift = scale.float().to(self.device), shift.float().to(self.device)
        hidden, gate = model.gate[0], model.gate[2]
        assert isinstance(hidden, nn.Linear) and isinstance(gate, nn.Linear)
        self.gate_weight, self.gate_bias = self._held(hidden.weight.t()), self._held(hidden.bias)
        # With few outputs a CPU multiplies by a transposed weight several times faster.
        self.blend_weight, self.blend_bias = self._held(gate.weight), self._held(gate.bias)
        self.layers: list[torch.Tensor] = []
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, MixtureLinear)
            weights, biases = layer.weight.double(), layer.bias.double()  # (experts, in, out), (experts, out)
            if index == len(model.layers) - 1:
                unit = (model.motion_std if self._next_state else model.change_std[self._num_given :]).double()
                weights, biases = weights * unit, biases * unit
                if self._next_state:
                    biases = biases + model.motion_mean.double()
                room = -weights.shape[2] % _ALIGNMENT
                weights, biases = functional.pad(weights, (0, room)), functional.pad(biases, (0, room))
            self.layers.append(self._held(torch.cat((weights.flatten(0, 1), biases))))
        self._packed: dict[int, PackedProduct] = {}
        if self.device.type == "cpu":
            for index in range(len(self.layers) - 1):
                self._packed[index] = PackedProduct(self.layers[index])
                self.layers[index] = self._packed[index].weight
        products = [self.gate_weight, self.blend_weight, *self.layers]
        self.num_operations = sum(2 * weight.numel() for weight in products)

    def _held(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.detach().to(self.device, self.dtype).contiguous()

    def _rows(self, num: int) -> list[torch.Tensor]:
        """Inputs (num, inputs), hidden (num, width), gate (num, gate_hidden), then one input per mixture layer."""
        if not self.workspace or len(self.workspace[0]) < num:
            widths = [self.gate_weight.shape[0], self.layers[0].shape[1], self.gate_weight.shape[1]]
            self.workspace = [self._empty(num, width) for width in widths]
            # What one layer has taken in is not needed by the next.
            mixed = {width: self._empty(num, width) for width in {weight.shape[0] for weight in self.layers}}
            self.workspace += [mixed[weight.shape[0]] for weight in self.layers]
        return [held[:num] for held in self.workspace]

    def _empty(self, num: int, width: int) -> torch.Tensor:
        with torch.inference_mode(False):  # What is made in that mode cannot be worked in outside of it.
            return torch.empty(num, width, dtype=self.dtype, device=self.device)

    def predict(self, state: torch.Tensor, command: torch.Tensor) -> torch.Tensor:
        """Predict the state one frame later, not yet held inside the guard range.

        Args:
            state: Present state in physical units, (n, state_dim).
            command: What each is told, inside the trained range, (n, command_dim).

        Returns:
            Next state in physical units, (n, state_dim), in memory of its own.
        """
        inputs, hidden, gate, *mixed = self._rows(len(state))
        inputs.copy_(torch.addcmul(self.shift, torch.cat((state, command), dim=1), self.scale))
        torch.addmm(self.gate_bias, inputs, self.gate_weight, out=gate)
        gate = self._elu(gate)
        blend = torch.softmax(functional.linear(gate, self.blend_weight, self.blend_bias), dim=1)
        activation = inputs
        for index, scaled in enumerate(mixed[:-1]):
            activation = self._elu(self.multiply(index, self._spread(activation, blend, scaled), hidden))
        output = torch.mm(self._spread(activation, blend, mixed[-1]), self.layers[-1]).float()
        output = output[:, : self.layout.size - self._num_given]
        if self._next_state:
            return output.contiguous()
        # The network gives the change of all but the joint angles, which integrate their velocities.
        following = torch.empty_like(state)
        num_joints = self._num_given
        rest = torch.add(state[:, num_joints:], output, out=following[:, num_joints:])
        velocity_sum = state[:, self.layout["dof_vel"]] + rest[:, :num_joints]
        torch.add(state[:, :num_joints], velocity_sum, alpha=self._half_dt, out=following[:, :num_joints])
        if GAIT_PHASE in self.layout:
            phase = following[:, self.layout[GAIT_PHASE]]
            phase /= phase.norm(dim=1, keepdim=True).clamp(min=SMALLEST_PHASE)
        return following

    def multiply(self, index: int, scaled: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """The product of a mixture layer but the last.

        Args:
            index: Of the layer.
            scaled: Inputs times each coefficient of the blend, and those, (n, experts * (width + 1)).
            out: Written and returned, (n, hidden).
        """
        if index in self._packed:
            return self._packed[index](scaled, out)
        return torch.mm(scaled, self.layers[index], out=out)

    def _spread(self, x: torch.Tensor, blend: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """The input of a mixture layer: x (n, width) times each coefficient of the blend (n, experts), and those."""
        num, width = x.shape
        experts = self._num_experts
        view = out[:, : experts * width].view(num, experts, width)
        torch.mul(blend.unsqueeze(2), x.unsqueeze(1), out=view)
        out[:, experts * width :] = blend
        return out

    def _elu(self, x: torch.Tensor) -> torch.Tensor:
        """ELU in place; differs from torch's by at most 1e-7."""
        if self.dtype != torch.float32 or self.device.type != "cpu" or x.numel() < _LARGE:
            return functional.elu(x, inplace=True)
        # Torch's ELU takes an accurate but slow expm1; its power of 2 is five times faster.
        if self._room.shape[1] != x.shape[1] or len(self._room) < len(x):
            self._room = self._empty(*x.shape)
        room = torch.clamp(x, max=0.0, out=self._room[: len(x)])
        room.mul_(_LOG2_E).exp2_().sub_(1.0)
        return torch.maximum(x, room, out=x)


def check_dtype(dtype: torch.dtype, device: torch.device) -> None:
    """Raise a ValueError if the type is none that the device computes in."""
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"the network can compute in float32, bfloat16 and float16, not in {dtype}")
    if dtype == torch.float16 and device.type == "cpu":
        raise ValueError("a CPU computes in float16 more slowly than in float32: take torch.bfloat16")


def computed_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The type that a network computes in who is asked for ``dtype``: float32 for bfloat16 where that is slower.

    Raises:
        ValueError: The type is none that the device computes in.
    """
    check_dtype(dtype, device)
    return dtype if dtype != torch.bfloat16 or bfloat16_pays(device) else torch.float32
