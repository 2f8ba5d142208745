"""Which frame every environment is shown: the clock that all who read and make frames go by."""

from __future__ import annotations

import math

import torch


class FrameClock:
    """A frame and a share of the way to the next one, for every environment; nobody else changes either.

    (On a GPU, captured kernels change ``shown`` in place, see :mod:`cmg_ref.trajectories.environment_changes`.)

    Args:
        num_envs: Number of environments.
        frames_per_step: Frames that pass in a control step; 1 where it is 1 but for rounding.
        device: Device of everything.

    Attributes:
        shown: Frame shown now, (num_envs,).
        share: Share of the way to the next frame, (num_envs,).
        frames_per_step: Frames that pass in a control step.
        on_frames: Whether it always stands at a whole frame.
    """

    def __init__(self, num_envs: int, frames_per_step: float, device: torch.device) -> None:
        self.shown = torch.zeros(num_envs, dtype=torch.long, device=device)
        self.share = torch.zeros(num_envs, dtype=torch.float64, device=device)
        self.frames_per_step = 1.0 if abs(frames_per_step - 1.0) < 1e-6 else frames_per_step
        self.on_frames = self.frames_per_step == 1.0

    def advance(self) -> None:
        """Let a control step pass."""
        if self.on_frames:
            self.shown += 1
            return
        time = self.share + self.frames_per_step
        # A clock that should stand at a whole frame may fall short of it by rounding.
        whole = (time + 1e-9).floor()
        torch.clamp(time - whole, min=0.0, out=self.share)
        self.shown += whole.long()

    def set(self, env_ids: torch.Tensor, frames: torch.Tensor | int) -> None:
        """Put environments (n,) at whole frames (n,)."""
        self.shown[env_ids] = frames
        self.share[env_ids] = 0.0

    def stop_at(self, last: torch.Tensor) -> None:
        """Put clocks that have run past frames ``last`` (num_envs,) back to them."""
        self.share.masked_fill_(self.shown >= last, 0.0)
        torch.minimum(self.shown, last, out=self.shown)

    def count_anew(self) -> None:
        """Call the frame that each environment is shown now, or that it has just passed, its frame 0."""
        self.shown.zero_()

    def reach(self, steps: int = 0) -> int:
        """Frames beyond the shown one that are looked at so many control steps ahead."""
        return math.ceil(steps * self.frames_per_step - 1e-6) + (0 if self.on_frames else 1)

    def ahead(self, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames (num_envs, num_steps) so many control steps (num_steps,) ahead, and shares of the way to the next."""
        if self.on_frames:
            return self.shown.unsqueeze(1) + steps, self.share.unsqueeze(1)
        times = self.share.unsqueeze(1) + self.frames_per_step * steps
        return self.shown.unsqueeze(1) + times.floor().long(), times - times.floor()

    def latest(self, env_ids: torch.Tensor) -> torch.Tensor:
        """Last frames (n,) that environments (n,) are shown something of: between two frames the later one."""
        frames = self.shown[env_ids]
        return frames if self.on_frames else frames + (self.share[env_ids] > 0).long()
