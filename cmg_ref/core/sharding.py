"""Environments shared out over processes, each with a device of its own.

Under ``torchrun`` every process owns a row of neighbouring environments; alone, a process owns them all::

    shard = Shard.of_process(num_envs=8192)
    generator = CMGMotionGenerator(num_envs=shard.num_envs, first_env=shard.first, device=shard.device)
    generator.reset(commands=commands[shard.rows])  # commands of all environments, (8192, 3)
    everyone = shard.gather(generator.get_motion()[0])  # (8192, num_joints), in every process

Generating needs no messages: what an environment draws depends on the seed and on its own number, so it is shown the
same motion whichever process it is in.
"""

from __future__ import annotations

import atexit
import gc
import os
from dataclasses import dataclass

import torch
from torch import distributed


def join_processes(device: torch.device) -> None:
    """Join the processes that ``torchrun`` has started, until this process ends.

    Args:
        device: Device of this process; decides what carries the messages.
    """
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    # A gloo whose threads still run when the interpreter is taken down aborts the process now and then.
    atexit.register(leave_processes)


def leave_processes() -> None:
    """Leave the processes that were joined; does nothing where they have been left already."""
    if distributed.is_initialized():
        # What else holds the group, in cycles perhaps, would keep its threads alive when it is destroyed.
        gc.collect()
        distributed.destroy_process_group()


@dataclass(frozen=True)
class Shard:
    """The environments of one process.

    Attributes:
        total: Environments of all processes together.
        rank: Number of this process.
        world_size: Number of processes.
        device: Device of this process.
    """

    total: int
    rank: int = 0
    world_size: int = 1
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must lie in 0 to {self.world_size - 1}, got {self.rank}")
        if self.total < self.world_size:
            raise ValueError(f"{self.total} environments are too few for {self.world_size} processes")

    @classmethod
    def of_process(cls, num_envs: int, device: str | torch.device | None = None) -> Shard:
        """The share of this process in ``num_envs`` environments; joins the processes that ``torchrun`` has started.

        Args:
            num_envs: Environments of all processes together.
            device: Device of this process; by default the GPU of its local rank, or the CPU where there is none.
        """
        if device is None:
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
        device = torch.device(device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if "WORLD_SIZE" in os.environ and not distributed.is_initialized():
            join_processes(device)
        if not distributed.is_initialized():
            return cls(num_envs, device=device)
        return cls(num_envs, distributed.get_rank(), distributed.get_world_size(), device)

    @property
    def first(self) -> int:
        """Number of this process' first environment."""
        return self.total * self.rank // self.world_size

    @property
    def num_envs(self) -> int:
        """Number of its environments."""
        return self.total * (self.rank + 1) // self.world_size - self.first

    @property
    def rows(self) -> slice:
        """Its rows in a tensor (total, ...)."""
        return slice(self.first, self.first + self.num_envs)

    def local(self, env_ids: torch.Tensor) -> torch.Tensor:
        """Those of environments (n,), numbered across all processes, that are here, in this process' own numbers."""
        own = env_ids[(env_ids >= self.first) & (env_ids < self.first + self.num_envs)]
        return own - self.first

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Values (num_envs, ...) of every process, (total, ...), in all of them; all of them must call it."""
        if self.world_size == 1:
            return values
        sizes = [Shard(self.total, rank, self.world_size).num_envs for rank in range(self.world_size)]
        padded = values.new_zeros(max(sizes), *values.shape[1:])  # Messages must be of one size.
        padded[: self.num_envs] = values
        received = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(received, padded)
        return torch.cat([part[:size] for part, size in zip(received, sizes)])
