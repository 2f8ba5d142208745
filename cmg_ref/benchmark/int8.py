"""What 8-bit integers would bring on a CPU: the generator does not offer them, and this says why."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Iterator

import torch
from torch import nn

from cmg_ref.benchmark.figures import Figure, Stopwatch
from cmg_ref.benchmark.network import ERROR_MOTIONS, ERROR_SECONDS, joint_errors, sample_states
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.network.inference_network import InferenceNetwork
from cmg_ref.network.model import CMG
from cmg_ref.rollout.rollout import Rollout

LARGEST = 1  # the mixture layer that takes four fifths of the arithmetic


class Int8Network(InferenceNetwork):
    """The folded network with the weights of its largest layer in int8, scaled by column, and quantised inputs.

    Torch scales the inputs by the largest one of the whole batch, so that a motion depends on which others it is
    generated with. For measurements only.

    Args:
        model: the CMG.
    """

    def __init__(self, model: CMG) -> None:
        super().__init__(model)
        weight = self.layers[LARGEST]
        plain = nn.Linear(weight.shape[0], weight.shape[1], bias=False)
        plain.weight.data = weight.t().contiguous()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Newer versions would rather have another package do this.
            scheme = {nn.Linear: torch.quantization.per_channel_dynamic_qconfig}
            self.product = torch.quantization.quantize_dynamic(nn.Sequential(plain), scheme, dtype=torch.qint8)

    def multiply(self, index: int, scaled: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """See :meth:`cmg_ref.network.inference_network.InferenceNetwork.multiply`; the largest product is in int8."""
        if index != LARGEST:
            return super().multiply(index, scaled, out)
        return out.copy_(self.product(scaled))


@torch.no_grad()
def int8_products(checkpoint: Checkpoint, num_envs: int, repeats: int) -> Iterator[Figure]:
    """Speed of the largest product in int8 against bfloat16, and the error of roll-outs with it."""
    network = Int8Network(checkpoint.model)
    weight = network.layers[LARGEST]
    inputs = torch.randn(num_envs, weight.shape[0]).relu()
    low_inputs, low_weight = inputs.bfloat16(), weight.bfloat16()
    ours, theirs = Stopwatch(torch.device("cpu")).median(
        partial(network.product, inputs), partial(torch.mm, low_inputs, low_weight), repeats=repeats
    )
    states, commands = sample_states(checkpoint, ERROR_MOTIONS, torch.device("cpu"))
    schedule = commands.unsqueeze(1).expand(-1, round(ERROR_SECONDS * checkpoint.fps), -1)
    exact, rounded = Rollout(checkpoint.model), Rollout(checkpoint.model, network=network)
    note = joint_errors(checkpoint, rounded.generate(states, schedule), exact.generate(states, schedule))
    operations = 2.0 * num_envs * weight.numel() / 1e9
    yield Figure(
        "largest product in int8 against bfloat16",
        num_envs,
        "int8",
        operations / ours,
        "GFLOP/s",
        operations / theirs,
        note=f"not offered: {note}",
    )
