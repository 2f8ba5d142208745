"""How much memory a generator takes, before it takes any, and what would fit where that is too much."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable

import torch

from cmg_ref.core.backends import chosen_backend, triton_available
from cmg_ref.core.command_layout import NUM_VELOCITIES
from cmg_ref.frames.root_motion import NUM_SEEN
from cmg_ref.frames.store import NUM_GRAVITY, NUM_PLACE, NUM_POSE
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.network.inference_network import computed_dtype
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.network.packed_product import COMPILED_BYTES, ROUND_NUMBERS, round_number
from cmg_ref.rollout.numba_step import BLOCK
from cmg_ref.rollout.rollout import CPU_BLOCK
from cmg_ref.trajectories.buffer import num_beside
from cmg_ref.trajectories.pool import SamplesCommands
from cmg_ref.trajectories.settings import CMGMotionGeneratorCfg

RESERVE = 0.05  # share of the free memory that is left alone


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of a generator [bytes].

    Attributes:
        joints: Joint angles and velocities of all frames.
        root: Root channels, orientation, rates and world poses of all frames.
        commands: The commands they follow.
        states: What generation goes on from, clocks and places.
        network: Weights, and what passes between layers.
        compiled: Matrix products that oneDNN compiles for each number of motions that comes, on a CPU; taken bit by
            bit, in the first thousand steps with resets and changes of command.
    """

    joints: int
    root: int
    commands: int
    states: int
    network: int
    compiled: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in asdict(self).items())
        return f"{self.total / 1e6:.1f} MB ({parts})"


def plan_memory(
    settings: CMGMotionGeneratorCfg, checkpoint: Checkpoint, sampler: SamplesCommands, device: torch.device
) -> MemoryPlan:
    """Memory that a generator with these settings takes.

    Args:
        settings: What it is asked to hold.
        checkpoint: The CMG.
        sampler: Draws the commands of a pool's trajectories.
        device: Device of everything.
    """
    layout, sizes = checkpoint.layout, settings.sizes()
    num_motions = sum(number for number, _ in sizes)
    num_frames = sum(number * capacity for number, capacity in sizes)
    float_size = torch.finfo(settings.storage_dtype).bits // 8
    num_joints = 2 * layout.num_joints
    command = 4 * checkpoint.command_layout.size
    per_motion = 4 * (layout.size + NUM_POSE) + 4 * 8  # the last state and pose; two counters; place and size
    if layout.has_root:
        per_motion += command + 4 * NUM_VELOCITIES  # the command of the last frame, and what has been missed by then
    per_env = 8 + 8 + 4 * NUM_POSE + command + (8 if len(sizes) > 1 else 0)  # clock, place, excess, motion shown
    kernels = chosen_backend(settings.backend, device) == "cuda_graph" and layout.has_root and triton_available()
    if settings.mode == "realtime" and kernels:
        per_env += 4 * num_joints + 2 + 4 * NUM_POSE + 2 * command + 8  # joints shown, and what is asked for
    return MemoryPlan(
        joints=num_frames * num_joints * float_size,
        root=num_frames * ((NUM_SEEN + NUM_GRAVITY) * float_size + 4 * (NUM_PLACE + num_beside(layout))),
        commands=num_motions * settings.num_segments(sampler, checkpoint.fps) * (8 + 2 * command),
        states=num_motions * per_motion + settings.num_envs * per_env,
        network=_network_bytes(settings, checkpoint.model, device),
        compiled=_compiled_bytes(settings, checkpoint.model.config, device),
    )


def _network_bytes(settings: CMGMotionGeneratorCfg, model: CMG, device: torch.device) -> int:
    """Weights as they were loaded and as they are used, and the inputs of all layers for the largest batch."""
    layout, config = model.layout, model.config
    inputs, experts = layout.size + model.command_layout.size, config.num_experts
    widths = [inputs] + [config.hidden] * (config.num_layers - 1)
    outputs = [*widths[1:], layout.size]
    gate = inputs * config.gate_hidden + config.gate_hidden * experts
    weights = gate + sum(experts * (before + 1) * after for before, after in zip(widths, outputs))
    passed = inputs + config.hidden + 2 * config.gate_hidden + sum(experts * (width + 1) for width in set(widths))
    largest = max(number for number, _ in settings.sizes())
    packed, backend = 0, chosen_backend(settings.backend, device)
    if device.type != "cpu":
        batch = largest
        if layout.has_root and backend == "cuda_graph" and triton_available():
            products = max(config.gate_hidden + experts * config.hidden, experts * outputs[-1])
            passed = inputs + products + config.hidden
    else:
        packed = (config.num_layers - 2) * experts * (config.hidden + 1) * config.hidden
        batch = min(largest, torch.get_num_threads() * BLOCK if backend == "numba" else CPU_BLOCK)
    compute_size = torch.finfo(computed_dtype(settings.compute_dtype, device)).bits // 8
    return weights * (4 + compute_size) + (packed + batch * passed) * compute_size


def _compiled_bytes(settings: CMGMotionGeneratorCfg, config: CMGConfig, device: torch.device) -> int:
    """What oneDNN keeps of all products of a step: of the gate, and of each layer."""
    if chosen_backend(settings.backend, device) != "numba" or not torch.backends.mkldnn.is_available():
        return 0
    largest = round_number(min(BLOCK, max(number for number, _ in settings.sizes())))
    return sum(number <= largest for number in ROUND_NUMBERS) * (config.num_layers + 1) * COMPILED_BYTES


def check_memory(
    settings: CMGMotionGeneratorCfg, checkpoint: Checkpoint, sampler: SamplesCommands, device: torch.device
) -> None:
    """Raise a MemoryError if a generator with these settings takes more memory than is free; arguments as above."""
    check_fits(settings, lambda wanted: plan_memory(wanted, checkpoint, sampler, device), available_bytes(device))


def check_room(required: int, device: torch.device, what: str) -> None:
    """Raise a MemoryError if more memory [bytes] is required on a device than is free there.

    Args:
        required: Memory [bytes].
        device: Where.
        what: Takes it, with the setting to make smaller; the message begins with it.
    """
    available = available_bytes(device)
    if available is not None and required > (1.0 - RESERVE) * available:
        raise MemoryError(f"{what} take {required / 1e6:,.0f} MB at least, {available / 1e6:,.0f} MB are free")


def available_bytes(device: torch.device) -> int | None:
    """Free memory of a device [bytes]; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if device.type != "cpu" or not meminfo.is_file():
        return None
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return None


def check_fits(
    settings: CMGMotionGeneratorCfg, required: Callable[[CMGMotionGeneratorCfg], MemoryPlan], available: int | None
) -> None:
    """Compare what is required with what is there.

    Args:
        settings: What is asked for.
        required: Memory of other settings.
        available: Free memory [bytes]; None if unknown, which fits.

    Raises:
        MemoryError: It does not fit; the message names up to three changes that would.
    """
    plan = required(settings)
    if available is None or plan.total <= (1.0 - RESERVE) * available:
        return
    limit = (1.0 - RESERVE) * available

    def fits(**changes: Any) -> bool:
        return required(replace(settings, **changes)).total <= limit

    suggestions: list[str] = []
    if settings.storage_dtype == torch.float32 and fits(storage_dtype=torch.float16):
        suggestions.append("storage_dtype=torch.float16")
    length = "buffer_size" if settings.mode == "realtime" else "preload_duration"
    least = 12 if length == "preload_duration" else 8
    if settings.pooled:
        least = max(least, settings.buffer_size)
    if settings.pool is not None and settings.pooled:
        pool = settings.pool
        value = _largest(
            1, pool.size(settings.num_envs), lambda value: fits(pool=replace(pool, num_trajectories=value))
        )
        suggestions += [] if value is None else [f"pool.num_trajectories={value}"]
    value = _largest(least, getattr(settings, length), lambda value: fits(**{length: value}))
    suggestions += [] if value is None else [f"{length}={value}"]
    value = _largest(1, settings.num_envs, lambda value: fits(num_envs=value))
    suggestions += [] if value is None else [f"num_envs={value}"]
    if settings.mode == "pregenerated" and fits(mode="realtime"):
        suggestions.append("mode='realtime'")
    advice = f"any of these would fit: {', '.join(suggestions[:3])}" if suggestions else "no single change would fit"
    raise MemoryError(f"{settings.num_envs} environments need {plan}, {available / 1e6:.1f} MB are free; {advice}")


def _largest(smallest: int, present: int, fits: Callable[[int], bool]) -> int | None:
    """Largest value below the present one that fits; None if not even the smallest does."""
    if smallest >= present or not fits(smallest):
        return None
    low, high = smallest, present
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
