"""Networks that know left from right: mirrored observations give mirrored actions and the same value, exactly.

Hidden units come in pairs that change places in a mirror: the first half of a layer sees its input as it is, the second
half sees it mirrored, through the same weights. So a network of a given width costs as much as any other, has half the
weights, and learns from every sample what its mirror image would teach. Multiplied out it is an ordinary MLP.

Mirrored samples in the minibatches of an ordinary network were tried on this task, and failed in the long run: they
keep it only roughly symmetric, and once its two sides differ by as much as its actions scatter, the ratios of
mirrored samples are far outside the clipping range of PPO and teach nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from rsl_rl.models import MLPModel
from rsl_rl.utils import resolve_nn_activation
from tensordict import TensorDict
from torch import nn
from torch.nn import functional as F


class Mirror(nn.Module):
    """What a mirror does to vectors: ``sign * vector[index]``.

    Args:
        index: Element that each element is taken from, (size,) int64.
        sign: Its factor, (size,).

    Raises:
        ValueError: Mirroring twice does not give back the vector.
    """

    index: torch.Tensor
    sign: torch.Tensor

    def __init__(self, index: torch.Tensor, sign: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("sign", sign, persistent=False)
        identity = torch.arange(len(index), device=index.device)
        if not torch.equal(index[index], identity) or not torch.equal(sign * sign[index], torch.ones_like(sign)):
            raise ValueError("a mirror must undo itself")

    @classmethod
    def of_function(cls, mirror: Callable[[torch.Tensor], torch.Tensor], size: int) -> Mirror:
        """The mirror that a function of vectors (1, size) is."""
        sign = mirror(torch.ones(1, size))[0]
        index = (mirror(torch.arange(1.0, size + 1.0).unsqueeze(0))[0] * sign).round().long() - 1
        return cls(index, sign)

    @classmethod
    def of_pairs(cls, size: int) -> Mirror:
        """The mirror of hidden units: the two halves change places."""
        return cls(torch.arange(size).roll(size // 2), torch.ones(size))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (..., size) as seen in the mirror; of a matrix (n, size), its product with the mirror."""
        return vectors[..., self.index] * self.sign


class PairedLinear(nn.Module):
    """A linear layer to pairs of units.

    Args:
        in_mirror: Mirror of its input.
        in_features: Size of its input.
        out_features: Number of units, even.
    """

    def __init__(self, in_mirror: Mirror, in_features: int, out_features: int) -> None:
        super().__init__()
        if out_features % 2:
            raise ValueError(f"a layer of pairs has an even number of units, not {out_features}")
        self.in_mirror = in_mirror
        bound = 1.0 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features // 2, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_features // 2).uniform_(-bound, bound))

    def dense(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (out_features, in_features) and bias (out_features,) of an ordinary layer that does the same."""
        return torch.cat((self.weight, self.in_mirror(self.weight))), self.bias.repeat(2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, in_features) to (n, out_features)."""
        return F.linear(inputs, *self.dense())


class MirroredOutput(nn.Module):
    """A linear layer from pairs of units to something that a mirror changes.

    Args:
        in_features: Number of units, even.
        out_mirror: Mirror of its output.
        out_features: Size of its output.
    """

    def __init__(self, in_features: int, out_mirror: Mirror, out_features: int) -> None:
        super().__init__()
        self.in_mirror, self.out_mirror = Mirror.of_pairs(in_features), out_mirror
        bound = 1.0 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def dense(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (out_features, in_features) and bias (out_features,) of an ordinary layer that does the same."""
        mirrored = self.out_mirror(self.in_mirror(self.weight).T).T
        return 0.5 * (self.weight + mirrored), 0.5 * (self.bias + self.out_mirror(self.bias))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, in_features) to (n, out_features)."""
        return F.linear(inputs, *self.dense())


class SymmetricMLPModel(MLPModel):
    """rsl_rl's model with a symmetric network, symmetric statistics and a symmetric scatter of actions.

    Args:
        obs: Observation groups, see ``rsl_rl.models.MLPModel``.
        obs_groups: Groups of each set.
        obs_set: Set that the model sees; it must be made of one group.
        output_dim: Size of the output.
        observation_mirror: From observations (n, size) and the name of their group to mirrored ones.
        output_mirror: From outputs (n, output_dim) to mirrored ones; None for outputs that a mirror leaves as they are.
        hidden_dims: Sizes of the hidden layers, even.
        activation: Function between the layers.
        **kwargs: See ``rsl_rl.models.MLPModel``.
    """

    def __init__(
        self,
        obs: TensorDict,
        obs_groups: dict[str, list[str]],
        obs_set: str,
        output_dim: int,
        observation_mirror: Callable[[torch.Tensor, str], torch.Tensor],
        output_mirror: Callable[[torch.Tensor], torch.Tensor] | None = None,
        hidden_dims: tuple[int, ...] = (256, 128, 64),
        activation: str = "elu",
        **kwargs: Any,
    ) -> None:
        super().__init__(obs, obs_groups, obs_set, output_dim, hidden_dims, activation, **kwargs)
        (group,) = self.obs_groups
        size = obs[group].shape[-1]
        self.observation_mirror = Mirror.of_function(lambda values: observation_mirror(values, group), size)
        self.output_mirror = Mirror.of_function(output_mirror or (lambda values: values), output_dim)
        layers: list[nn.Module] = []
        mirror = self.observation_mirror
        for width in hidden_dims:
            layers += [PairedLinear(mirror, size, width), resolve_nn_activation(activation)]
            mirror, size = Mirror.of_pairs(width), width
        self.mlp = nn.Sequential(*layers, MirroredOutput(size, self.output_mirror, output_dim))

    def update_normalization(self, obs: Mapping[str, torch.Tensor]) -> None:
        """Let the statistics see observations and their mirror images."""
        if self.obs_normalization:
            values = obs[self.obs_groups[0]]
            self.obs_normalizer.update(torch.cat((values, self.observation_mirror(values))))

    @torch.no_grad()
    def symmetrise_scatter(self) -> None:
        """Give joints of the two sides the same standard deviation."""
        assert self.distribution is not None
        for parameter in self.distribution.parameters():
            parameter.copy_(0.5 * (parameter + parameter[self.output_mirror.index]))


@torch.no_grad()
def load_layers(model: MLPModel, state: Mapping[str, torch.Tensor]) -> None:
    """Give a model the weights of one of its kind ("0.weight" and so on) that is as wide as it, or narrower.

    A wider one does what the narrower one did: its further units keep their weights, but nothing listens to them yet.

    Raises:
        ValueError: A layer is wider than that of the model, or the model takes or returns something of another size.
    """
    layers = _layers_of(model)
    last, columns = max(layers), torch.arange(layers[0].weight.shape[1])
    taken = []
    for position, layer in layers.items():
        weight, bias = state[f"{position}.weight"], state[f"{position}.bias"]
        units, width = len(bias), len(layer.bias)
        sizes = (units, weight.shape[-1]), (width, layer.weight.shape[1])
        if weight.shape != (units, len(columns)) or units > width or (position == last and units < width):
            its, ours = (f"({len(_places(layer, rows))}, {size})" for rows, size in sizes)
            raise ValueError(f"layer {position} is {its}, which does not fit {ours}")
        taken.append((layer, weight, bias, columns))
        columns = _places(layer, units)
    for layer, weight, bias, columns in taken:
        layer.weight[: len(bias)] = 0.0
        layer.weight[: len(bias), columns] = weight.to(layer.weight)
        layer.bias[: len(bias)] = bias.to(layer.bias)


@torch.no_grad()
def load_dense_state(model: MLPModel, state: Mapping[str, torch.Tensor]) -> None:
    """Give a model the weights of ordinary layers, which a symmetric one takes as its own.

    Raises:
        ValueError: They do not fit, see `load_layers`, or the model is symmetric and the weights are not.
    """
    layers, own = _layers_of(model), {}
    for position, layer in layers.items():
        for name in (f"{position}.weight", f"{position}.bias"):
            own[name] = state[name][: len(state[name]) // 2] if isinstance(layer, PairedLinear) else state[name]
    load_layers(model, own)
    columns = torch.arange(layers[0].weight.shape[1])
    for position, layer in layers.items():
        rows = _places(layer, len(own[f"{position}.bias"]))
        if not isinstance(layer, nn.Linear):
            weight, bias = layer.dense()
            pairs = (state[f"{position}.weight"], weight[rows][:, columns]), (state[f"{position}.bias"], bias[rows])
            if any(
                given.shape != made.shape or not torch.allclose(given.to(made), made, atol=1e-4)
                for given, made in pairs
            ):
                raise ValueError(f"layer {position} is not symmetric: set train.policy.symmetric=False")
        columns = rows


def _layers_of(model: MLPModel) -> dict[int, nn.Linear | PairedLinear | MirroredOutput]:
    """Layers with weights, by their position."""
    kinds = (nn.Linear, PairedLinear, MirroredOutput)
    return {position: layer for position, layer in enumerate(model.mlp) if isinstance(layer, kinds)}


def _places(layer: nn.Module, units: int) -> torch.Tensor:
    """Where the first so many units of a layer are in its output: the mirrored half of pairs has a place of its own."""
    first = torch.arange(units)
    return torch.cat((first, first + len(layer.bias))) if isinstance(layer, PairedLinear) else first


def dense_state(model: MLPModel) -> dict[str, torch.Tensor]:
    """State of a model with ordinary layers in the place of symmetric ones, on the CPU."""
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    for position, layer in enumerate(model.mlp):
        if isinstance(layer, (PairedLinear, MirroredOutput)):
            weight, bias = layer.dense()
            state[f"mlp.{position}.weight"], state[f"mlp.{position}.bias"] = weight.detach().cpu(), bias.detach().cpu()
    return state
