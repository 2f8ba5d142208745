"""Every measurement runs at a small size and measures what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cmg_ref.benchmark import generator as of_generator
from cmg_ref.benchmark import network as of_network
from cmg_ref.benchmark.diagnosis import diagnose
from cmg_ref.benchmark.limits import MachineLimits
from cmg_ref.core.devices import bfloat16_pays
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.trajectories.pool import TrajectoryPoolCfg

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


@pytest.fixture(scope="module")
def limits() -> MachineLimits:
    return MachineLimits(CPU, repeats=2, seconds=0.02)


def test_pregeneration_counts_the_operations_done(checkpoint: Checkpoint, limits: MachineLimits) -> None:
    figure, sustained, *packed = of_network.pregeneration(checkpoint, limits, 32, 12)
    seconds = float(figure.note.split(" s,")[0])
    operations = CMGMotionGenerator(checkpoint, 2, mode="realtime").rollout.network.num_operations
    assert figure.value * 1e9 * seconds == pytest.approx(32 * 12 * operations, rel=0.2)
    assert figure.limit is not None and sustained.limit is not None and figure.limit >= sustained.limit
    assert all(other.value == figure.value and other.meets is None for other in packed)
    assert figure.meets is None, "so small a batch is not held against the peak"


def test_products_are_measured_beside_the_step_they_are_part_of(checkpoint: Checkpoint) -> None:
    pytest.importorskip("numba", reason="without Numba there is no step of a block")
    (figure,) = of_network.products_alone(checkpoint, repeats=5)
    operations = CMGMotionGenerator(checkpoint, 2, mode="realtime").rollout.network.num_operations
    rate = float(figure.note.split(" GFLOP/s")[0]) * 1e9
    assert rate * 1e-3 * figure.value == pytest.approx(figure.num_envs * operations, rel=0.2)
    assert figure.limit is not None and figure.limit > 0.0


def test_low_precision_states_its_errors(checkpoint: Checkpoint) -> None:
    figures = list(of_network.low_precision(checkpoint, CPU, 32, repeats=2))
    assert [figure.dtype for figure in figures] == ["bfloat16"] * bfloat16_pays(CPU)
    assert all(0.1 < float(figure.note.split("joints differ by ")[1].split()[0]) < 50.0 for figure in figures)
    stored = {
        figure.name.split("error of ")[1]: figure for figure in of_network.half_precision_storage(checkpoint, CPU, 20)
    }
    assert 0.0 < stored["joint angles"].value < 2.0  # [mrad]
    assert stored["root position"].value < 1e-3, "places are stored in 32 bits"  # [mm]


def test_speed_up_over_the_baseline_is_theirs_over_ours(checkpoint: Checkpoint) -> None:
    (figure,) = of_network.against_per_sample_weights(checkpoint, CPU, (64,), repeats=3)
    ours, theirs = (float(part.split()[0]) for part in figure.note.split(" against "))
    assert figure.ratio == pytest.approx(theirs / ours, rel=0.02)
    assert figure.at_least == 60.0


def test_latency_is_measured_on_one_thread(checkpoint: Checkpoint) -> None:
    threads = torch.get_num_threads()
    figures = list(of_network.latency(checkpoint, CPU, frames=20))
    assert torch.get_num_threads() == threads
    assert [figure.at_most for figure in figures] == [0.3, 0.3]
    assert all(figure.value > 0.0 for figure in figures)


def test_reads_are_held_against_a_gather_of_as_many_bytes(checkpoint: Checkpoint, limits: MachineLimits) -> None:
    now, ahead = of_generator.reads(checkpoint, limits, 16, repeats=2)
    assert now.name.startswith("get_motion()") and ahead.name.startswith("future(20)")
    assert ahead.note.startswith(f"{16 * 20 * (58 + 3 + 4 + 3 + 3) * 4 / 1e6:.1f} MB")
    assert min(figure.value for figure in (now, ahead)) > 0.0


@pytest.mark.parametrize("mode", ["realtime", "pool"])
def test_steps_do_the_work_they_are_held_against(checkpoint: Checkpoint, mode: str) -> None:
    settings: dict[str, Any] = (
        {"pool": TrajectoryPoolCfg(num_trajectories=40), "preload_duration": 70} if mode == "pool" else {}
    )
    mean, late = of_generator.steps(checkpoint, CPU, 32, mode, 30, **settings)
    frames = float(mean.note.split(" frames generated")[0].split()[-1])
    assert 0.0 < frames <= 1.0 + 1e-6 if mode == "pool" else frames == 1.0
    assert late.limit is not None and late.value >= late.limit
    assert mean.limit is not None and mean.limit > 0.0


def test_scaling_compares_with_the_size_nearest_4096(checkpoint: Checkpoint) -> None:
    for mode in ("realtime", "pregenerated"):
        small, large = of_generator.scaling(checkpoint, CPU, (4, 512), 5, mode)
        assert large.ratio == 1.0
        assert small.limit == large.value


def test_deques_are_measured_beside_the_ring_buffer(checkpoint: Checkpoint) -> None:
    mean, worst = of_generator.against_deques(checkpoint, CPU, 16, num_steps=60)
    assert worst.value >= mean.value
    assert mean.limit is not None and worst.limit is not None and worst.limit >= mean.limit > 0.0


def test_leaks_are_seen(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_generator.memory_growth(checkpoint, CPU, 4, 60).meets is True
    kept: list[torch.Tensor] = []
    step = of_generator.training_step

    def leaking(generator: CMGMotionGenerator, mode: str, window: int = 0) -> None:
        step(generator, mode, window)
        kept.append(torch.ones(1 << 20))

    monkeypatch.setattr(of_generator, "training_step", leaking)
    figure = of_generator.memory_growth(checkpoint, CPU, 4, 60)
    assert figure.meets is False
    assert figure.value > 10.0


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    full = of_generator.memory(CPU, 512, 200, torch.float32)
    half = of_generator.memory(CPU, 512, 200, torch.float16)
    assert full.note.startswith("24 MB") and half.note.startswith("12 MB")
    assert full.ratio is not None and 0.8 < full.ratio < 1.5
    assert half.value < full.value


def test_diagnosis_tells_the_three_troubles(
    checkpoint: Checkpoint, limits: MachineLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmg_ref.benchmark.diagnosis.setup_seconds", lambda *args, **kwargs: (9.0, 1.0))
    monkeypatch.setattr(limits, "gemm_rates", lambda *arguments: (1e18, 1e18))
    slow, growth, idle = diagnose(checkpoint, limits, 4, num_steps=40)
    assert slow.applies and "9.00 s" in slow.measured
    assert not growth.applies
    assert idle.applies, "no step keeps a machine busy that could do so many operations"
    monkeypatch.setattr("cmg_ref.benchmark.diagnosis.setup_seconds", lambda *args, **kwargs: (9.0, 8.5))
    assert not diagnose(checkpoint, limits, 4, num_steps=40)[0].applies
