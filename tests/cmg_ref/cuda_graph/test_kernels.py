"""Triton's kernels, run by its interpreter, show what the operations of torch and the Numba loops show."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cmg_ref.core.command_layout import HEIGHT
from cmg_ref.cuda_graph.triton_frame import TritonFrame
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.network.side_by_side_network import SideBySideNetwork
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories.buffer import MotionBuffer

pytest.importorskip("triton", reason="the kernels are Triton's")
pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="test_cuda.py runs the kernels where there is a GPU"),
    pytest.mark.usefixtures("large_programs"),
]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def kernels_on_cpu(rollout: Rollout, dtype: torch.dtype) -> TritonFrame:
    network = SideBySideNetwork(rollout.model, CPU, dtype)
    assert rollout.feedback is not None
    drift = torch.stack((rollout.feedback.gain, rollout.feedback.largest))
    return TritonFrame(rollout.model, network, rollout.standing, rollout.guard_count, drift)


def step_by_kernels(
    rollout: Rollout, dtype: torch.dtype, states: torch.Tensor, commands: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next states (n, state_dim) and where the guard acted (n,), which is counted."""
    following, guarded = torch.empty_like(states), torch.empty(len(states), dtype=torch.bool)
    kernels_on_cpu(rollout, dtype).step(states, commands, following, guarded)
    assert int(rollout.guard_count) == int(guarded.sum())
    return following, guarded


def batch(checkpoint: Checkpoint, num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States of all kinds, of which some rest and some the guard must hold, and commands partly out of range."""
    draw = torch.Generator().manual_seed(num)
    picks = torch.randint(len(checkpoint.initial_states), (num,), generator=draw)
    states, commands = checkpoint.initial_states[picks], 2.0 * checkpoint.initial_commands[picks]
    states[1::3] += 0.5 * checkpoint.model.motion_std * torch.randn(states[1::3].shape, generator=draw)
    commands[::4] = checkpoint.command_layout.rest()
    commands[::8, checkpoint.command_layout.names.index(HEIGHT)] = 0.62
    return states, commands


@pytest.mark.parametrize(("rest", "stands"), [(True, False), (False, False), (True, True)])
def test_a_step(checkpoint: Checkpoint, rest: bool, stands: bool) -> None:
    plain = Rollout(checkpoint.model, rest=rest, stance=checkpoint.stances() if stands else None)
    states, commands = batch(checkpoint, 50)
    states[7, 3] = float("nan")
    following, guarded = step_by_kernels(plain, torch.float32, states, commands)
    expected, expected_guarded = plain.step(states, commands)
    torch.testing.assert_close(following, expected, atol=1e-5, rtol=1e-5, equal_nan=True)
    assert torch.equal(guarded, expected_guarded)
    assert 0 < int(guarded.sum()) < 50
    assert bool((following[:, checkpoint.layout["dof_vel"]] == 0.0).all(dim=1).any()) is (rest and not stands)


def test_a_step_in_bfloat16_differs_by_its_rounding(checkpoint: Checkpoint) -> None:
    plain = Rollout(checkpoint.model)
    states, commands = batch(checkpoint, 16)
    states[:] = states[::3][:1].expand_as(states)
    following, _ = step_by_kernels(plain, torch.bfloat16, states, commands)
    error = (following - plain.step(states, commands)[0]).abs()[:, checkpoint.layout["dof_pos"]]
    assert 0.0 < float(error.max()) < 5e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("num_segments", [1, 3])
def test_frames_are_stored_as_by_the_loop(checkpoint: Checkpoint, dtype: torch.dtype, num_segments: int) -> None:
    """Motions in groups of two lengths, of which some are left out, one is named twice, and places hold none."""
    num, draw = 20, torch.Generator().manual_seed(3)
    states, commands = batch(checkpoint, num)
    first_frames = torch.tensor([[4 * segment for segment in range(num_segments)]]).expand(num, -1)
    width = checkpoint.command_layout.size
    targets, poses = torch.randn(num, num_segments, width, generator=draw), torch.randn(num, 3, generator=draw)
    plain, fused = (
        MotionBuffer(checkpoint, Rollout(checkpoint.model), [(8, 6), (12, 9)], 5, num_segments, dtype) for _ in range(2)
    )
    for buffer in (plain, fused):
        buffer.commands.plan(torch.arange(num), first_frames, commands, targets)
        buffer.restart(torch.arange(num), states, states, poses)
    kernels = kernels_on_cpu(fused.rollout, torch.float32)
    extended = torch.arange(3, num)
    ids = torch.cat((extended, torch.tensor([-1, 5, -1])))
    for _ in range(8):
        plain.extend(extended, 1)
        kernels.frame(fused.motions, ids)
    rows = torch.arange(len(plain.store.table))
    # A place is kept in float32 whatever the frames are stored in.
    for found, expected in zip(fused.store.read(rows), plain.store.read(rows)):
        torch.testing.assert_close(found, expected, atol=5e-5 if dtype == torch.float32 else 2e-3, rtol=1e-3)
    torch.testing.assert_close(fused.store.read(rows)[2], plain.store.read(rows)[2], atol=5e-6, rtol=0.0)
    for found, expected in zip(fused.motions[2:6], plain.motions[2:6]):
        torch.testing.assert_close(found, expected, atol=5e-5, rtol=0.0)
    assert torch.equal(fused.written, plain.written)
    assert torch.equal(fused.guarded, plain.guarded)
    # The frames of a motion that is named twice are made, and counted, twice.
    assert int(fused.rollout.guard_count) == int((plain.guarded + plain.guarded * (torch.arange(num) == 5)).sum()) > 0


class Operations(TorchDispatchMode):
    """Lists the operations of torch that launch something on a device; none may depend on data."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags:
            raise AssertionError(f"{func} depends on data")
        if not func.is_view and "empty" not in func.name():
            self.names.append(func.name().partition("::")[2].partition(".")[0])
        return func(*args, **(kwargs or {}))


class Kernels:
    """Stands in for a module of kernels: notes which are launched."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def __getattr__(self, kernel: str) -> Any:
        return Launch(self._operations, kernel)


class Launch:
    """Notes its kernel's name when it is called."""

    def __init__(self, operations: Operations, kernel: str) -> None:
        self._operations, self._kernel = operations, kernel

    def __getitem__(self, grid: tuple[int]) -> Any:
        return lambda *arguments, **sizes: self._operations.names.append(self._kernel)


FRAME = ["take_in_motions", "mm", "blend_first", "mm", "blend_next", "mm", "put_out_motions"]


@pytest.mark.usefixtures("without_graphs")
def test_a_step_is_a_few_operations_of_fixed_shape(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation of a step with resets, commands and reading, of which none depends on data."""
    settings: dict[str, Any] = {"mode": "realtime", "buffer_size": 12, "backend": "cuda_graph"}
    generator = CMGMotionGenerator(checkpoint, 6, control_dt=1.0 / checkpoint.fps, **settings)
    begun, told, commands = torch.tensor([1, 4]), torch.tensor([0]), checkpoint.command_layout.rest(2)
    actions: dict[str, Callable[[], object]] = {
        "reset": lambda: generator.reset(begun, commands=commands),
        "command": lambda: generator.update_commands(commands[:1], told),
        "joints": generator.get_motion,
        "window": lambda: generator.future(2),
        "advance": generator.advance,
    }
    operations, parts = Operations(), {}
    stand_in = Kernels(operations)
    assert generator._shown.changes is not None and generator.rollout.kernels is not None
    assert generator._shown.reader._triton is not None
    for user in (generator._shown.changes, generator.rollout.kernels, generator._shown.reader._triton):
        monkeypatch.setattr(user, "_kernels", stand_in)
    for _ in range(3):  # At first what is new is tried out and captured.
        with operations:
            for name, action in actions.items():
                operations.names.clear()
                action()
                parts[name] = list(operations.names)
    assert parts["advance"] == [*FRAME, "show"]
    assert parts["joints"] == ["clone"]
    assert parts["window"][-1] == "read_frames"
    assert parts["window"].count("take_in_motions") == 2  # frames ahead of those that changed
    assert parts["reset"] == ["ask", "change", "clone"]  # The clone is kept until a window is read.
    assert parts["command"] == ["ask", "change", "clone"]
    assert len(parts["advance"]) + 1 <= 12  # frame, storing and the window
    assert len(parts["reset"]) + len(parts["command"]) + len(parts["advance"]) + len(parts["joints"]) <= 25
