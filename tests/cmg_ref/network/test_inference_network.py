"""The folded network computes what the model does, in less; low precision stays close over a long roll-out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from cmg_ref.core.devices import bfloat16_pays
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network import inference_network
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.network.inference_network import InferenceNetwork
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.rollout.rollout import Rollout


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def batch(checkpoint: Checkpoint, num: int) -> tuple[torch.Tensor, torch.Tensor]:
    picks = torch.randint(len(checkpoint.initial_states), (num,), generator=torch.Generator().manual_seed(1))
    return checkpoint.initial_states[picks], checkpoint.model.clamp_command(checkpoint.initial_commands[picks])


@pytest.mark.parametrize("num", [1, 7, 300])
def test_it_predicts_what_the_model_predicts(checkpoint: Checkpoint, num: int) -> None:
    state, command = batch(checkpoint, num)
    network = InferenceNetwork(checkpoint.model)
    torch.testing.assert_close(network.predict(state, command), checkpoint.model(state, command), atol=2e-5, rtol=0.0)
    # The memory it works in is shared by batches of all sizes; results are not in it.
    first = network.predict(state, command)
    kept = first.clone()
    network.predict(state.flip(0) + 0.1, command)
    assert torch.equal(first, kept)


def test_absolute_predictions_are_folded_too() -> None:
    torch.manual_seed(0)
    model = CMG(
        CMGConfig(hidden=48, gate_hidden=24, num_experts=3, prediction="next_state"), StateLayout.with_root(5), 30.0
    )
    for statistic, low in (("motion_mean", -3.0), ("motion_std", 0.1), ("command_min", -2.0), ("command_max", 1.0)):
        held = getattr(model, statistic)
        held.copy_(low + torch.rand_like(held))
    state = model.motion_mean + model.motion_std * torch.randn(40, model.layout.size)
    command = model.clamp_command(torch.randn(40, 3))
    with torch.no_grad():
        expected = model(state, command)
    torch.testing.assert_close(InferenceNetwork(model).predict(state, command), expected, atol=1e-5, rtol=0.0)


def test_fast_elu_is_elu(checkpoint: Checkpoint) -> None:
    x = torch.linspace(-30.0, 30.0, 80_000).view(100, 800)
    torch.testing.assert_close(
        InferenceNetwork(checkpoint.model)._elu(x.clone()), functional.elu(x), atol=1e-7, rtol=1e-7
    )


@pytest.mark.skipif(not bfloat16_pays(torch.device("cpu")), reason="needs a processor with bfloat16 products")
def test_bfloat16_stays_close_over_ten_seconds(checkpoint: Checkpoint) -> None:
    state, command = batch(checkpoint, 32)
    commands = command.unsqueeze(1).expand(-1, 500, -1)
    exact = Rollout(checkpoint.model).generate(state, commands)
    rounded = Rollout(checkpoint.model, dtype=torch.bfloat16).generate(state, commands)
    joints, velocity = checkpoint.layout["dof_pos"], checkpoint.layout["root_lin_vel_h"]
    assert not torch.equal(exact, rounded)
    assert float((exact - rounded)[..., joints].abs().mean()) < 0.02
    assert float((exact - rounded)[..., velocity].mean(dim=1).abs().max()) < 0.1


def test_a_processor_without_bfloat16_computes_in_float32_and_says_so(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, command = batch(checkpoint, 32)
    expected = InferenceNetwork(checkpoint.model).predict(state, command)
    monkeypatch.setattr(inference_network, "bfloat16_pays", lambda device: False)
    with pytest.warns(UserWarning, match="no instructions for bfloat16: the network computes in float32"):
        network = InferenceNetwork(checkpoint.model, dtype=torch.bfloat16)
    assert network.dtype == network.layers[0].dtype == torch.float32
    assert torch.equal(network.predict(state, command), expected)
    types = (torch.float32, torch.bfloat16)
    plans = [CMGMotionGenerator.memory_required(checkpoint, num_envs=64, compute_dtype=dtype) for dtype in types]
    assert plans[0] == plans[1]


def test_types_no_device_computes_in_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="bfloat16"):
        InferenceNetwork(checkpoint.model, dtype=torch.float16)
    with pytest.raises(ValueError, match="int8"):
        InferenceNetwork(checkpoint.model, dtype=torch.int8)
