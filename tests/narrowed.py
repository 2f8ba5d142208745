"""The shipped CMG as if it had never known some of its channels: what those do can be told by comparing the two."""

from __future__ import annotations

import dataclasses

import torch

from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.network.model import CMG


def narrowed(
    checkpoint: Checkpoint, layout: StateLayout | None = None, command_layout: CommandLayout | None = None
) -> Checkpoint:
    """A checkpoint with the first channels of state and command; the command's others are at rest for the network.

    What the network hears of states' other channels is dropped.
    """
    known, told = checkpoint.layout, checkpoint.command_layout
    layout, command_layout = layout or known, command_layout or told
    model = CMG(checkpoint.model.config, layout, checkpoint.fps, command_layout)
    weights = checkpoint.model.state_dict()
    rest = checkpoint.model.normalise(torch.zeros(known.size), told.rest())[known.size + command_layout.size :]
    columns = [*range(layout.size), *range(known.size, known.size + command_layout.size)]
    dropped = slice(known.size + command_layout.size, None)
    gate, first = weights["gate.0.weight"], weights["layers.0.weight"]
    weights["gate.0.bias"] = weights["gate.0.bias"] + gate[:, dropped] @ rest
    weights["layers.0.bias"] = weights["layers.0.bias"] + torch.einsum("eio,i->eo", first[:, dropped], rest)
    weights["gate.0.weight"], weights["layers.0.weight"] = gate[:, columns], first[:, columns]
    for name, own in model.state_dict().items():
        if own.shape != weights[name].shape:
            weights[name] = weights[name][..., : own.shape[-1]]
    model.load_state_dict(weights)
    return dataclasses.replace(
        checkpoint,
        model=model.eval().requires_grad_(False),
        initial_states=checkpoint.initial_states[:, : layout.size],
        initial_commands=checkpoint.initial_commands[:, : command_layout.size],
    )
