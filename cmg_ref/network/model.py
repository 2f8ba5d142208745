"""The Conditional Motion Generator: a mixture of experts that predicts the next motion state.

A gate network blends the weights of ``num_experts`` experts, the same blend in every layer. Blending weights per sample
would need a weight matrix for each environment (17 GB at 4096 environments); since
``sum_e c_e (x W_e + b_e) = [c_1 x, ..., c_E x] [W_1; ...; W_E] + c B`` one matrix product with the stacked experts
gives the same numbers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.shorten import shortened
from cmg_ref.core.state_layout import GAIT_PHASE, StateLayout

PREDICTIONS = ("next_state", "change")
SMALLEST_PHASE = 1e-6  # a phase is a direction; one shorter than this has none


@dataclass(frozen=True)
class CMGConfig:
    """Architecture of a :class:`CMG`.

    Attributes:
        num_experts: Number of experts that the gate blends.
        hidden: Width of the hidden layers of the experts.
        num_layers: Number of mixture layers, the output layer included.
        gate_hidden: Width of the gate's hidden layer.
        prediction: ``"change"``: the network gives the change of every channel but ``dof_pos``, which integrates
            ``dof_vel`` by the trapezoidal rule, so that positions and velocities agree by construction.
            ``"next_state"``: the network gives the whole next state, normalised (the earlier project's checkpoints).
    """

    num_experts: int = 4
    hidden: int = 512
    num_layers: int = 3
    gate_hidden: int = 512
    prediction: str = "change"

    def validate(self) -> None:
        """Raise a ValueError that names the first field with an impossible value."""
        for name in ("num_experts", "hidden", "num_layers", "gate_hidden"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"CMGConfig.{name} must be an integer of at least 1, got {shortened(value)}")
        if self.num_layers < 2:
            raise ValueError(f"CMGConfig.num_layers must be at least 2, got {self.num_layers}")
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"CMGConfig.prediction must be one of {PREDICTIONS}, got {shortened(self.prediction)}")

    def layer_widths(self, layout: StateLayout, command_layout: CommandLayout) -> list[int]:
        """Numbers that go into each mixture layer for such states and commands, and at last those that come out."""
        outputs = layout.size if self.prediction == "next_state" else layout.size - layout.num_joints
        return [layout.size + command_layout.size] + [self.hidden] * (self.num_layers - 1) + [outputs]

    def check_weights(
        self, layout: StateLayout, command_layout: CommandLayout, weights: Mapping[str, torch.Tensor]
    ) -> None:
        """Make sure that weights are those of such a network before one is made, which may take any amount of memory.

        Args:
            layout: Channels of the state.
            command_layout: Channels of the command.
            weights: Parameters and buffers by name, as :class:`CMG` has them.

        Raises:
            ValueError: Names a field that is impossible, or a weight that is missing or of another shape.
        """
        self.validate()
        num_layers = sum(name.startswith("layers.") and name.endswith(".weight") for name in weights)
        if num_layers != self.num_layers:
            raise ValueError(f"CMGConfig.num_layers is {shortened(self.num_layers)}, there are {num_layers} layers")
        widths = self.layer_widths(layout, command_layout)
        shapes: dict[str, tuple[int, ...]] = {
            "gate.0.weight": (self.gate_hidden, widths[0]),
            "gate.2.weight": (self.num_experts, self.gate_hidden),
        }
        for number, (before, after) in enumerate(zip(widths[:-1], widths[1:])):
            shapes[f"layers.{number}.weight"] = (self.num_experts, before, after)
        for name, shape in shapes.items():
            have = tuple(weights[name].shape) if name in weights else "missing"
            if have != shape:
                raise ValueError(f"weight '{name}' is {have}, the architecture needs {shortened(shape)}")

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON-ready dictionary."""
        return asdict(self)


class HalfWeight:
    """A weight in bfloat16 for all frames of one roll-out, and what its gradient will be made of.

    Autocast would add up the gradients of the frames in bfloat16 and lose the small ones, and to convert the weight and
    to add up its gradients frame by frame takes longer than the products themselves. So it is converted once, and its
    gradient is one product over all frames, made when the first frame's turn comes: every product that was made forward
    must be reached backward.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight, self.half = weight, weight.detach().to(torch.bfloat16)
        self.num_products = 0
        self.inputs: list[torch.Tensor] = []
        self.gradients: list[torch.Tensor] = []

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """``x @ weight``, of the type of ``x``."""
        product: torch.Tensor = _HalfProduct.apply(x, self.weight, self)
        return product

    def gradient(self) -> torch.Tensor | None:
        """Gradient of the weight once every product has left its share, in float32."""
        if len(self.inputs) < self.num_products:
            return None
        return (torch.cat(self.inputs).t() @ torch.cat(self.gradients)).float()


class _HalfProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, shared: HalfWeight) -> torch.Tensor:
        ctx.x_half, ctx.shared = x.to(torch.bfloat16), shared
        shared.num_products += 1
        return (ctx.x_half @ shared.half).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        shared, grad_half = ctx.shared, grad_outputs[0].to(torch.bfloat16)
        shared.inputs.append(ctx.x_half)
        shared.gradients.append(grad_half)
        return (grad_half @ shared.half.t()).to(grad_outputs[0].dtype), shared.gradient(), None


class MixtureLinear(nn.Module):
    """A linear layer whose weights are a blend of experts, computed as one matrix product.

    Args:
        num_experts: Number of experts.
        in_features: Columns of the input.
        out_features: Columns of the output.
    """

    def __init__(self, num_experts: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(num_experts, out_features))
        bound = (6.0 / (in_features + out_features)) ** 0.5  # Glorot and Bengio 2010, equation 16
        nn.init.uniform_(self.weight, -bound, bound)

    @property
    def stacked(self) -> torch.Tensor:
        """The weights of all experts, one below the other, (num_experts * in_features, out_features)."""
        return self.weight.flatten(0, 1)

    def forward(self, x: torch.Tensor, blend: torch.Tensor, half: HalfWeight | None = None) -> torch.Tensor:
        """Apply the blended layer.

        Args:
            x: Input, (num_samples, in_features).
            blend: Weight of each expert, (num_samples, num_experts).
            half: ``stacked`` in bfloat16, to multiply with (training only; bias and sums keep the input's precision).

        Returns:
            Output, (num_samples, out_features).
        """
        scaled = (blend.unsqueeze(2) * x.unsqueeze(1)).flatten(1)  # (num_samples, num_experts * in_features)
        bias = blend @ self.bias
        return torch.addmm(bias, scaled, self.stacked) if half is None else bias + half.product(scaled)


class CMG(nn.Module):
    """Conditional Motion Generator: next motion state from the present one and a command.

    Normalisation and the guard range are buffers, so that a model is complete by itself: inputs and outputs are in
    physical units.

    Args:
        config: Architecture.
        layout: Channels of the state.
        fps: Frames a second the model advances at.
        command_layout: Channels of the command; those of the velocity by default.

    Attributes:
        motion_mean, motion_std: Z-score statistics of the state, (state_dim,).
        command_min, command_max: Trained range of each channel of the command, (command_dim,).
        change_std: Unit of the predicted change of each channel, (state_dim,).
        state_min, state_max: Range the state is held in, (state_dim,).
    """

    motion_mean: torch.Tensor
    motion_std: torch.Tensor
    command_min: torch.Tensor
    command_max: torch.Tensor
    change_std: torch.Tensor
    state_min: torch.Tensor
    state_max: torch.Tensor

    def __init__(
        self, config: CMGConfig, layout: StateLayout, fps: float, command_layout: CommandLayout | None = None
    ) -> None:
        super().__init__()
        config.validate()
        self.config = config
        self.layout = layout
        self.command_layout = command_layout or CommandLayout()
        self.fps = float(fps)
        state_dim = layout.size
        widths = config.layer_widths(layout, self.command_layout)
        self.gate = nn.Sequential(
            nn.Linear(widths[0], config.gate_hidden), nn.ELU(), nn.Linear(config.gate_hidden, config.num_experts)
        )
        self.layers = nn.ModuleList(
            MixtureLinear(config.num_experts, before, after) for before, after in zip(widths[:-1], widths[1:])
        )
        self.register_buffer("motion_mean", torch.zeros(state_dim))
        self.register_buffer("motion_std", torch.ones(state_dim))
        self.register_buffer("command_min", -torch.ones(self.command_layout.size))
        self.register_buffer("command_max", torch.ones(self.command_layout.size))
        self.register_buffer("change_std", torch.ones(state_dim))
        self.register_buffer("state_min", torch.full((state_dim,), -float("inf")))
        self.register_buffer("state_max", torch.full((state_dim,), float("inf")))

    def half_weights(self) -> list[HalfWeight]:
        """The layers' weights in bfloat16, for one roll-out."""
        return [HalfWeight(layer.stacked) for layer in self.layers if isinstance(layer, MixtureLinear)]

    def network(self, inputs: torch.Tensor, half: Sequence[HalfWeight] | None = None) -> torch.Tensor:
        """The bare network on normalised inputs (num_samples, state_dim + command_dim); so is its output."""
        blend = torch.softmax(self.gate(inputs), dim=-1)
        hidden = inputs
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden, blend, None if half is None else half[number])
            if number < len(self.layers) - 1:
                hidden = functional.elu(hidden)
        return hidden

    def normalise(self, state: torch.Tensor, command: torch.Tensor) -> torch.Tensor:
        """Z-scored state and command scaled to [-1, 1], side by side, (num_samples, state_dim + command_dim)."""
        command = (command - self.command_min) * (2.0 / (self.command_max - self.command_min)) - 1.0
        return torch.cat(((state - self.motion_mean) / self.motion_std, command), dim=-1)

    def forward(
        self, state: torch.Tensor, command: torch.Tensor, half: Sequence[HalfWeight] | None = None
    ) -> torch.Tensor:
        """Predict the state one frame (1 / fps) later, not yet held inside the guard range.

        Args:
            state: Present state in physical units, (num_samples, state_dim).
            command: What it is told, (num_samples, command_dim).
            half: Of :meth:`half_weights`, to multiply in bfloat16.

        Returns:
            Next state in physical units, (num_samples, state_dim).
        """
        return self.following(state, self.network(self.normalise(state, command), half))

    def following(self, state: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Next states (num_samples, state_dim) from the output of the network at the present ones, (num_samples, n)."""
        if self.config.prediction == "next_state":
            return output * self.motion_std + self.motion_mean
        num_joints = self.layout.num_joints
        rest = state[:, num_joints:] + output * self.change_std[num_joints:]
        velocity_sum = state[:, self.layout["dof_vel"]] + rest[:, :num_joints]
        dof_pos = state[:, :num_joints] + (0.5 / self.fps) * velocity_sum
        following = torch.cat((dof_pos, rest), dim=-1)
        if GAIT_PHASE in self.layout:  # comes last
            before = self.layout[GAIT_PHASE].start
            following = torch.cat(
                (following[:, :before], functional.normalize(following[:, before:], dim=-1, eps=SMALLEST_PHASE)), dim=-1
            )
        return following

    def guard(self, state: torch.Tensor) -> torch.Tensor:
        """The state held inside ``state_min`` and ``state_max``."""
        return torch.minimum(torch.maximum(state, self.state_min), self.state_max)

    def clamp_command(self, command: torch.Tensor) -> torch.Tensor:
        """The command held inside the trained range."""
        return torch.minimum(torch.maximum(command, self.command_min), self.command_max)
