"""Named slices of the motion state, so that no code needs to know where a channel sits."""

from __future__ import annotations

from typing import Iterator, Mapping

import torch

ROOT_CHANNELS: Mapping[str, int] = {"root_height": 1, "projected_gravity": 3, "root_lin_vel_h": 3, "root_yaw_rate": 1}

GAIT_PHASE = "gait_phase"
BETWEEN_STEPS = (0.0, 1.0)
"""Cosine and sine of the phase of the stride of who stands, or of whom it is not known."""


class StateLayout:
    """The order and the sizes of the channels that make up one motion state.

    Channels:
        dof_pos: Joint angles [rad].
        dof_vel: Joint velocities [rad/s].
        root_height: Height of the root's origin above the floor [m].
        projected_gravity: Unit vector of gravity in the base frame; upright is (0, 0, -1).
        root_lin_vel_h: Velocity of the root's origin in the heading (yaw-only) frame [m/s].
        root_yaw_rate: Rate of the heading [rad/s].
        gait_phase: Cosine and sine of the phase of the stride: 0 where the left foot lifts off, pi where the right one.

    Args:
        sizes: Channel name to number of columns, in the order of the columns.

    Raises:
        ValueError: a channel has no columns, or the layout does not begin with joint positions and as many velocities.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes: dict[str, int] = dict(sizes)
        for name, size in self.sizes.items():
            if size < 1:
                raise ValueError(f"state layout: channel '{name}' has {size} columns")
        if list(self.sizes)[:2] != ["dof_pos", "dof_vel"] or self.sizes["dof_pos"] != self.sizes["dof_vel"]:
            raise ValueError("state layout: must begin with 'dof_pos' and 'dof_vel' of the same size")
        self._slices: dict[str, slice] = {}
        start = 0
        for name, size in self.sizes.items():
            self._slices[name] = slice(start, start + size)
            start += size
        self.size = start

    @classmethod
    def with_root(cls, num_joints: int) -> StateLayout:
        """Joint angles and velocities, then every root channel."""
        return cls({"dof_pos": num_joints, "dof_vel": num_joints, **ROOT_CHANNELS})

    @classmethod
    def with_phase(cls, num_joints: int) -> StateLayout:
        """Joint angles and velocities, every root channel, and the phase of the stride."""
        return cls({**cls.with_root(num_joints).sizes, GAIT_PHASE: 2})

    @classmethod
    def joints_only(cls, num_joints: int) -> StateLayout:
        """Joint angles and velocities alone, the layout of the earlier project's checkpoints."""
        return cls({"dof_pos": num_joints, "dof_vel": num_joints})

    @property
    def num_joints(self) -> int:
        """Number of joints."""
        return self.sizes["dof_pos"]

    @property
    def has_root(self) -> bool:
        """Whether every root channel is part of the state."""
        return all(name in self.sizes for name in ROOT_CHANNELS)

    def __getitem__(self, name: str) -> slice:
        """The columns of a channel."""
        if name not in self._slices:
            raise KeyError(f"state layout: no channel '{name}', only {', '.join(self._slices)}")
        return self._slices[name]

    def __contains__(self, name: str) -> bool:
        """Whether the layout has a channel."""
        return name in self._slices

    def __iter__(self) -> Iterator[str]:
        """Channel names in order."""
        return iter(self._slices)

    def __eq__(self, other: object) -> bool:
        """Same channels, same sizes, same order."""
        return isinstance(other, StateLayout) and list(self.sizes.items()) == list(other.sizes.items())

    def __hash__(self) -> int:
        """Hash that agrees with equality."""
        return hash(tuple(self.sizes.items()))

    def __repr__(self) -> str:
        """Channels as ``name(size)`` joined by bars."""
        return "StateLayout(" + " | ".join(f"{name}({size})" for name, size in self.sizes.items()) + ")"

    def split(self, state: torch.Tensor) -> dict[str, torch.Tensor]:
        """Views of the channels of ``state`` (..., size)."""
        if state.shape[-1] != self.size:
            raise ValueError(f"state layout: expected {self.size} columns, got {state.shape[-1]}")
        return {name: state[..., columns] for name, columns in self._slices.items()}

    def complete(self, state: torch.Tensor) -> torch.Tensor:
        """States (..., size), or without the phase of the stride, as clips have them: theirs is between two steps."""
        if GAIT_PHASE not in self or state.shape[-1] != self.size - len(BETWEEN_STEPS):
            return state
        return torch.cat((state, state.new_tensor(BETWEEN_STEPS).expand(*state.shape[:-1], -1)), dim=-1)

    def to_json(self) -> list[dict[str, object]]:
        """A JSON-ready description, ``[{"name": ..., "size": ...}, ...]``."""
        return [{"name": name, "size": size} for name, size in self.sizes.items()]

    @classmethod
    def from_json(cls, channels: list[dict[str, object]]) -> StateLayout:
        """The layout described by :meth:`to_json`."""
        return cls({str(channel["name"]): int(str(channel["size"])) for channel in channels})
