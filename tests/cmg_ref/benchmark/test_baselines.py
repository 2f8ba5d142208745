"""The baselines do the same job as what is compared with them, only slower."""

from __future__ import annotations

import pytest
import torch

from cmg_ref.benchmark.baselines import DequeBuffer, PerSampleCMG
from cmg_ref.benchmark.network import sample_states
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.network.inference_network import InferenceNetwork

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def test_per_sample_weights_predict_the_same(checkpoint: Checkpoint) -> None:
    states, commands = sample_states(checkpoint, 9, CPU)
    plain, ours = PerSampleCMG(checkpoint.model), InferenceNetwork(checkpoint.model)
    torch.testing.assert_close(plain.predict(states, commands), ours.predict(states, commands), atol=2e-5, rtol=0.0)
    assert plain.bytes_needed(10) == 10 * plain.bytes_needed(1) >= 10 * 5 * 512 * 512 * 4


def test_deques_show_the_roll_out_of_the_model(checkpoint: Checkpoint) -> None:
    states, commands = sample_states(checkpoint, 3, CPU)
    plain = DequeBuffer(checkpoint.model, states.clone(), commands, size=6)
    expected = states
    for _ in range(10):  # Past several refills.
        with torch.no_grad():
            expected = checkpoint.model(expected, commands)
        torch.testing.assert_close(plain.step(), expected)
    plain.reset([1], states[[1]])
    with torch.no_grad():
        first = checkpoint.model(states[[1]], commands[[1]])
    torch.testing.assert_close(plain.step()[1], first[0])
