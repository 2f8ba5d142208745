"""The mixture of experts against a plain per-sample implementation, and the structure of the prediction."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cmg_ref.core.state_layout import StateLayout
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.network.model import CMG, CMGConfig, MixtureLinear


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def per_sample_forward(model: CMG, inputs: torch.Tensor) -> torch.Tensor:
    """The same network with a private blend of weights for every sample, as one would first write it down."""
    blend = torch.softmax(model.gate(inputs), dim=-1)
    hidden = inputs
    for index, layer in enumerate(model.layers):
        assert isinstance(layer, MixtureLinear)
        weight = (blend[:, :, None, None] * layer.weight).sum(dim=1)  # (num_samples, in_features, out_features)
        bias = (blend[:, :, None] * layer.bias).sum(dim=1)
        hidden = torch.bmm(hidden.unsqueeze(1), weight).squeeze(1) + bias
        if index < len(model.layers) - 1:
            hidden = torch.nn.functional.elu(hidden)
    return hidden


@torch.no_grad()
def test_one_matrix_product_equals_the_mixture_of_each_sample(checkpoint: Checkpoint) -> None:
    states, commands = checkpoint.initial_states[:64], checkpoint.initial_commands[:64]
    inputs = checkpoint.model.normalise(states, commands)
    reference = per_sample_forward(checkpoint.model.double(), inputs.double())
    assert (checkpoint.model.float().network(inputs).double() - reference).abs().max() < 1e-5


@torch.no_grad()
def test_joint_angles_integrate_their_velocities(checkpoint: Checkpoint) -> None:
    layout, dt = checkpoint.layout, 1.0 / checkpoint.fps
    before = checkpoint.initial_states
    after = checkpoint.model(before, checkpoint.initial_commands)
    mean_velocity = 0.5 * (before + after)[:, layout["dof_vel"]]
    expected = before[:, layout["dof_pos"]] + dt * mean_velocity
    torch.testing.assert_close(after[:, layout["dof_pos"]], expected, atol=1e-6, rtol=0.0)


def test_gradient_of_mixed_precision_is_that_of_full_precision() -> None:
    torch.manual_seed(0)
    model = CMG(CMGConfig(hidden=64, gate_hidden=32), StateLayout.with_root(5), fps=50.0)
    first, command = torch.randn(256, model.layout.size), torch.rand(256, 3)
    gradients = []
    for half in (None, model.half_weights()):
        model.zero_grad()
        state, loss = first, torch.zeros(())
        for _ in range(3):  # Every frame leaves its share of the gradient.
            state = model(state, command, half)
            loss = loss + state.pow(2).mean()
        loss.backward()
        found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    assert torch.nn.functional.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.999
    assert abs(float(gradients[1].norm() / gradients[0].norm()) - 1.0) < 0.02


def test_guard_holds_the_state_inside_its_range(checkpoint: Checkpoint) -> None:
    wild = checkpoint.initial_states * 50.0
    held = checkpoint.model.guard(wild)
    assert (held >= checkpoint.model.state_min).all()
    assert (held <= checkpoint.model.state_max).all()
    inside = checkpoint.model.guard(checkpoint.initial_states)
    torch.testing.assert_close(checkpoint.model.guard(inside), inside, rtol=0.0, atol=0.0)


@pytest.mark.parametrize(("field", "value"), [("num_experts", 0), ("num_layers", 1), ("prediction", "both")])
def test_impossible_architecture_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        CMGConfig(**{field: value}).validate()


def test_layout_names_its_columns() -> None:
    layout = StateLayout.with_root(3)
    assert layout["root_lin_vel_h"] == slice(10, 13)
    assert layout.size == 14
    assert StateLayout.from_json(layout.to_json()) == layout
    with pytest.raises(KeyError, match="no channel 'foot'"):
        layout["foot"]
    with pytest.raises(ValueError, match="expected 14 columns, got 13"):
        layout.split(torch.zeros(2, 13))
    with pytest.raises(ValueError, match="dof_vel"):
        StateLayout({"dof_pos": 3, "dof_vel": 2})
