"""The phase of the stride: told from recorded steps, kept a direction by every backend, carried along everywhere."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from cmg_ref import CMGMotionGenerator
from cmg_ref.clips.dataset import build_dataset
from cmg_ref.clips.mirror import mirror_states
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.state_layout import GAIT_PHASE, StateLayout
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from cmg_ref.network.model import CMG
from cmg_ref.robots.robot import load_g1
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.training.gait_phase import HALF_STEP, stride_phase, with_gait_phase
from cmg_ref.training.trainer import weights_for
from cmg_ref.trajectories.pool import TrajectoryPoolCfg
from tests.narrowed import narrowed

LAYOUT = StateLayout.with_phase(29)
PHASE = LAYOUT[GAIT_PHASE]
FPS = 50.0


@pytest.fixture(scope="module")
def phaseless() -> Checkpoint:
    """The shipped CMG without all that it has to do with the phase."""
    return narrowed(load_checkpoint(), StateLayout.with_root(29))


@pytest.fixture(scope="module")
def deaf(phaseless: Checkpoint) -> Checkpoint:
    """The same with a phase that turns by itself and that it does not listen to."""
    model = CMG(phaseless.model.config, LAYOUT, phaseless.fps, phaseless.command_layout)
    model.load_state_dict(weights_for(model, phaseless))
    with torch.no_grad():
        model.get_parameter("layers.2.bias")[:, -2:] = torch.tensor([0.1, -0.2])
    states = LAYOUT.complete(phaseless.initial_states)
    return dataclasses.replace(phaseless, model=model.eval().requires_grad_(False), initial_states=states)


def test_feet_that_lift_off_in_turn_make_a_stride() -> None:
    phase = stride_phase(torch.tensor([10, 35, 60]), torch.tensor([0, 1, 0]), 80, FPS)
    assert phase[[10, 35, 60]].tolist() == pytest.approx([0.0, math.pi, 2.0 * math.pi])
    assert float(phase[22] - phase[10]) == pytest.approx(12 / 25 * math.pi)
    assert (phase.diff() >= 0.0).all() and phase.diff().max() < 0.2
    bouncing = stride_phase(torch.tensor([10, 25, 35, 38, 60]), torch.tensor([0, 0, 1, 0, 0]), 80, FPS)
    assert torch.equal(phase, bouncing)


def test_the_clock_stands_in_a_pause_and_where_nobody_steps() -> None:
    phase = stride_phase(torch.tensor([10, 210]), torch.tensor([1, 0]), 300, FPS)
    pause = slice(10 + round(HALF_STEP * FPS), 210 - round(HALF_STEP * FPS))
    assert phase[pause].std() < 1e-9 and float(phase[100]) == pytest.approx(1.5 * math.pi)
    assert float(phase[210]) == pytest.approx(2.0 * math.pi) and float(phase[-1]) == pytest.approx(2.5 * math.pi)
    twice = stride_phase(torch.tensor([10, 40]), torch.tensor([0, 0]), 60, FPS)
    assert float(twice[40] - twice[10]) == pytest.approx(2.0 * math.pi)
    assert stride_phase(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), 5, FPS).std() == 0.0


def test_a_dataset_gets_it_once_and_mirrored_it_is_half_a_stride_on(gaits: dict[str, MotionClip]) -> None:
    robot = load_g1()
    dataset = with_gait_phase(build_dataset([gaits["forward"]], robot), robot)
    assert dataset.layout == LAYOUT and with_gait_phase(dataset, robot) is dataset
    phase = dataset.states[:, PHASE]
    assert (phase.norm(dim=1) - 1.0).abs().max() < 1e-6
    assert torch.equal(mirror_states(dataset.states, LAYOUT, robot)[:, PHASE], -phase)
    turned = torch.atan2(phase[:, 1], phase[:, 0])[150:350]
    assert abs(float(torch.remainder(turned.diff(), 2.0 * math.pi).sum()) / (2.0 * math.pi)) > 2.0, "several strides"


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_it_stays_a_direction_whatever_the_backend(deaf: Checkpoint, backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    for num in (1, 40):
        rollout = Rollout(deaf.model, backend=backend)
        states = deaf.initial_states[100 : 100 + num].clone()
        states[:, PHASE] *= 0.3
        following = rollout.advance(states, deaf.initial_commands[100 : 100 + num])
        commands = deaf.model.clamp_command(deaf.initial_commands[100 : 100 + num])
        expected = deaf.model.guard(deaf.model(states, commands))
        assert (following[:, PHASE].norm(dim=1) - 1.0).abs().max() < 1e-5
        torch.testing.assert_close(following, expected, atol=3e-5, rtol=0.0)


def test_a_motion_goes_on_from_a_state_of_a_clip(deaf: Checkpoint) -> None:
    """Clips know of no phase: it is between two steps."""
    states, commands = deaf.initial_states[:3], torch.tensor([0.6, 0.0, 0.2]).expand(3, 40, 3)
    bare = states[:, : PHASE.start]
    assert LAYOUT.complete(bare)[:, PHASE].tolist() == [[0.0, 1.0]] * 3
    rollout, expected = Rollout(deaf.model), []
    for initial in (bare, LAYOUT.complete(bare)):
        generator = CMGMotionGenerator(deaf, 3, mode="realtime")
        generator.reset(init_motion=initial, commands=commands[:, 0])
        generator.advance()
        expected.append((rollout.generate(initial, commands), *generator.get_motion()))
    for one, other in zip(*expected):
        assert torch.equal(one, other)


@pytest.mark.parametrize("mode", ["realtime", "pregenerated"])
def test_a_phase_that_nobody_listens_to_changes_nothing(deaf: Checkpoint, phaseless: Checkpoint, mode: Any) -> None:
    shown = []
    commands = torch.tensor([[0.8, 0.0, 0.0], [0.0, 0.3, 0.0], [0.5, 0.0, -0.6], [0.0, 0.0, 0.0]])
    for checkpoint in (deaf, phaseless):
        generator = CMGMotionGenerator(checkpoint, 4, mode=mode, preload_duration=150, seed=1)
        standing = generator.standing_states[:1].expand(4, -1)
        generator.reset(commands=commands, init_motion=(standing[:, :29], standing[:, 29:58]))
        for _ in range(60):
            generator.advance()
        shown.append(torch.cat((*generator.get_motion(), generator.root_states), dim=1))
    torch.testing.assert_close(shown[0], shown[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "numba", "cuda_graph"])
@pytest.mark.parametrize("mode", ["realtime", "pregenerated", "pool"])
@pytest.mark.usefixtures("without_graphs")
def test_who_is_told_otherwise_goes_on_with_the_phase_on_show(deaf: Checkpoint, mode: str, backend: Any) -> None:
    """The phase of `deaf` turns by itself, so how it goes on is known whatever is told."""
    if backend != "torch":
        pytest.importorskip({"numba": "numba", "cuda_graph": "triton"}[backend])
    if backend == "cuda_graph" and torch.cuda.is_available():
        pytest.skip("test_cuda.py runs the kernels themselves where there is a GPU")
    pool = TrajectoryPoolCfg(num_trajectories=8, max_guard_share=1.0) if mode == "pool" else None
    kind: Any = "pregenerated" if mode == "pool" else mode
    settings: Any = {"preload_duration": 30, "buffer_size": 20}
    generator = CMGMotionGenerator(deaf, 5, mode=kind, pool=pool, seed=1, backend=backend, **settings)
    generator.reset(commands=torch.tensor([0.5, 0.0, 0.0]).expand(5, -1))
    for _ in range(7):
        generator.advance()
    ids, base = torch.tensor([1, 3]), generator._shown.clock.latest(torch.tensor([1, 3]))
    generator.update_commands(torch.tensor([[0.8, 0.0, 0.0], [0.0, 0.3, 0.0]]), ids)
    for _ in range(4):
        generator.advance()
    frames, motions = base.unsqueeze(1) + torch.arange(5), generator._shown.supply.motions_of(ids)
    phases = generator.buffer.beside_at(frames, motions)[..., -2:]  # (2, 5, 2)
    before = deaf.initial_states[:1].expand(8, -1).clone()
    before[:, PHASE] = phases[:, :-1].flatten(0, 1)
    told = deaf.command_layout.complete(torch.tensor([0.8, 0.0, 0.0]))
    after = Rollout(deaf.model, backend="torch").advance(before, told.expand(8, -1))
    torch.testing.assert_close(phases[:, 1:].flatten(0, 1), after[:, PHASE], atol=1e-4, rtol=0.0)
    assert (after - before)[:, PHASE].norm(dim=1).min() > 0.1
    generator.switch_mode("realtime" if kind == "pregenerated" else "pregenerated")
    first, _ = generator.buffer.states_at(torch.zeros(5, dtype=torch.long), torch.arange(5))
    assert (first[ids, PHASE] - phases[:, -1]).abs().max() < 1e-4, "the frame on show"


def test_it_is_saved_exported_and_played(deaf: Checkpoint, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from cmg_ref.export import export_onnx

    save_checkpoint(deaf, tmp_path / "deaf.safetensors")
    again = load_checkpoint(tmp_path / "deaf.safetensors")
    assert again.layout == LAYOUT and again.standing_state()[PHASE].tolist() == [0.0, 1.0]
    assert export_onnx(again, tmp_path / "deaf.onnx") < 1e-3
