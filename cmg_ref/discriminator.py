"""A critic that tells generated motion from recorded motion, for the training rows that have no recording to match."""

from __future__ import annotations

import torch
from torch import nn

SPACING = 5  # frames between the three states that the critic sees: 0.2 s of motion at 50 Hz


class MotionDiscriminator(nn.Module):
    """Least-squares critic on three states of a motion, spread over a fifth of a second.

    The objectives are those of adversarial motion priors (Peng et al. 2021, equations 5 to 8): recorded motion is to
    score 1, generated motion -1, with a penalty on the gradient at recorded motion.

    Args:
        state_dim: columns of the normalised state.
        hidden: width of the two hidden layers.
    """

    def __init__(self, state_dim: int, hidden: int = 256) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(3 * state_dim, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )

    @staticmethod
    def triplets(motion: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Three states per row, (num_rows, 3 * state_dim).

        Args:
            motion: normalised states, (num_rows, num_frames, state_dim).
            frames: first frame of the triplet of each row, (num_rows,), at most num_frames - 1 - 2 * SPACING.
        """
        rows = torch.arange(len(motion), device=motion.device).unsqueeze(1)
        columns = frames.unsqueeze(1) + SPACING * torch.arange(3, device=motion.device)
        return motion[rows, columns].flatten(1)

    def loss(self, real: torch.Tensor, fake: torch.Tensor, gradient_penalty: float = 5.0) -> tuple[torch.Tensor, float]:
        """Loss of the critic, and the share of triplets that it puts on the right side.

        Args:
            real: triplets of recorded motion, (num_rows, 3 * state_dim).
            fake: triplets of generated motion, detached, (num_rows, 3 * state_dim).
            gradient_penalty: weight of the squared gradient at recorded motion.
        """
        real = real.detach().requires_grad_(True)
        score_real, score_fake = self.score(real), self.score(fake)
        (gradient,) = torch.autograd.grad(score_real.sum(), real, create_graph=True)
        penalty = gradient.pow(2).sum(dim=1).mean()
        loss = (score_real - 1.0).pow(2).mean() + (score_fake + 1.0).pow(2).mean() + gradient_penalty * penalty
        right = 0.5 * ((score_real > 0).float().mean() + (score_fake < 0).float().mean())
        return loss, float(right)

    def generator_loss(self, fake: torch.Tensor) -> torch.Tensor:
        """How far generated triplets are from scoring as recorded ones, 0 to about 1."""
        return 0.25 * (self.score(fake) - 1.0).pow(2).mean()
