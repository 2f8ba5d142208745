"""The frames that a generator shows: what it and its reader ask of their supply."""

from __future__ import annotations

from typing import Any, Protocol

import torch


class FrameSupply(Protocol):
    """Makes the frames of every environment's motion, when it finds best; :mod:`cmg_ref.trajectories.supply` has them.

    The defaults here are those of a supply that keeps no frames ready and has no trajectories to hand out.

    Attributes:
        motions: Motion of each environment, (num_envs,).
        in_step: Whether every step brings one frame of every environment.
        demand: Frames beyond the shown one that every step leaves ready.
        last_start: Latest frame of a ready trajectory that an environment can begin at.
    """

    motions: slice | torch.Tensor
    in_step: bool = False
    demand: int = 0
    last_start: int = 0

    @property
    def max_demand(self) -> int:
        """Largest number of frames beyond the shown one that can be kept ready."""
        ...

    def motions_of(self, env_ids: torch.Tensor) -> torch.Tensor:
        """Motions (n,) of environments (n,)."""
        return env_ids

    def last_frames(self) -> torch.Tensor | None:
        """Frames (num_envs,) that motions end at; None where they never end."""
        return None

    def hand_out(
        self, env_ids: torch.Tensor, commands: torch.Tensor | None, start_frames: torch.Tensor | str | None
    ) -> torch.Tensor | None:
        """Give environments (n,) a ready trajectory each.

        Args:
            env_ids: Environments concerned.
            commands: What they shall be told where they are entered, (n, command_dim); None takes any.
            start_frames: Frames to enter them at, (n,), ``"random"``, or None for the first.

        Returns:
            Frames (n,) to enter them at; None where there are none, so that motions have to be begun anew.
        """
        return None

    def forget_use(self) -> None:
        """Let trajectories that were handed out count as unused."""
        return

    def take_over(self, env_ids: torch.Tensor, last: torch.Tensor | None = None) -> torch.Tensor:
        """Motions (n,) of environments (n,) to be begun anew, or to be changed after frame ``last`` (n,)."""
        return self.motions_of(env_ids)

    def refresh(self, env_ids: torch.Tensor) -> None:
        """Remember that environments (n,) hold no frame beyond the last that they are shown something of."""
        ...

    def need(self, frames: int) -> None:
        """Make sure that this many frames beyond the shown one are there, now and after every coming step."""
        ...

    def advance(self) -> None:
        """Generate the frames of a step; the clock has moved."""
        ...

    def catch_up(self) -> None:
        """Generate what must be there before others make the frames of a step; asked only :attr:`in_step`."""
        return

    def stats(self) -> dict[str, Any]:
        """Counters of its own since construction."""
        return {}
