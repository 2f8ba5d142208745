"""How deep a robot's limbs reach into one another, by the capsules of its description."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot

_SMALLEST = 1e-9  # [m^2], the squared length of a capsule that is a sphere
_CHUNK = 16384  # frames that are looked at together


class SelfContact:
    """Depth of the deepest contact between the limbs that a robot's description wants apart.

    Differentiable. Links that the robot lacks do not count, so that a G1 without wrists can be measured.

    Attributes:
        pairs: Names of the links of each pair of capsules.
    """

    def __init__(
        self,
        robot: Robot,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        of: Sequence[str] = ("",),
    ) -> None:
        """Take the capsules of a robot.

        Args:
            robot: The robot.
            device: That of the joint positions to come.
            dtype: The same.
            of: Parts of link names: a pair counts where one of its links has one of them.
        """
        spec = robot.spec
        parts = [*spec.contact_capsules, *spec.mirror_images(spec.contact_capsules)]
        parts = [part for part in parts if part.link in robot.body_names]
        pairs = [
            (first, second)
            for first, one in enumerate(parts)
            for second, other in enumerate(parts)
            if any(a in one.link and b in other.link for a, b in spec.contact_pairs)
            and any(part in link for part in of for link in (one.link, other.link))
        ]
        self.pairs = tuple((parts[first].link, parts[second].link) for first, second in pairs)
        self._first, self._second = torch.tensor(pairs, dtype=torch.long, device=device).reshape(-1, 2).T
        self._ends = torch.tensor([[part.start, part.end] for part in parts], device=device, dtype=dtype)
        self._radius = torch.tensor([part.radius for part in parts], device=device, dtype=dtype)
        self._links = ForwardKinematics(robot, [part.link for part in parts], device, dtype)

    def depth(self, dof_pos: Tensor) -> Tensor:
        """How deep the deepest pair is inside one another [m], (...), of joint positions (..., num_joints) [rad].

        Negative is the least distance between them; minus infinity where the description names no pair.
        """
        if not self.pairs:
            return torch.full_like(dof_pos[..., 0], -float("inf"))
        rows = dof_pos.reshape(-1, dof_pos.shape[-1])
        return torch.cat([-self.gaps(chunk).amin(dim=-1) for chunk in rows.split(_CHUNK)]).reshape(dof_pos.shape[:-1])

    def gaps(self, dof_pos: Tensor) -> Tensor:
        """Distance between the surfaces of each pair [m], negative inside one another, (..., num_pairs)."""
        if not self.pairs:
            return dof_pos.new_zeros((*dof_pos.shape[:-1], 0))
        position, rotation = self._links.matrices(dof_pos)  # (..., num_parts, 3), (..., num_parts, 3, 3)
        ends = position.unsqueeze(-2) + self._ends @ rotation.transpose(-1, -2)  # (..., num_parts, 2, 3)
        first, second = ends[..., self._first, :, :], ends[..., self._second, :, :]  # (..., num_pairs, 2, 3)
        distance = segment_distance(first[..., 0, :], first[..., 1, :], second[..., 0, :], second[..., 1, :])
        return distance - (self._radius[self._first] + self._radius[self._second])


def segment_distance(start: Tensor, end: Tensor, other_start: Tensor, other_end: Tensor) -> Tensor:
    """Least distance between two line segments, (..., 3) each, (...)."""
    along, across, between = end - start, other_end - other_start, start - other_start

    def product(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=-1)

    length, other_length = (product(d, d).clamp(min=_SMALLEST) for d in (along, across))
    overlap, offset, other_offset = product(along, across), product(along, between), product(across, between)
    spread = (length * other_length - overlap * overlap).clamp(min=_SMALLEST * _SMALLEST)
    # The nearest points of the two lines, each held on its own segment; the first once more after the second.
    share = ((overlap * other_offset - offset * other_length) / spread).clamp(0.0, 1.0)
    other_share = ((overlap * share + other_offset) / other_length).clamp(0.0, 1.0)
    share = ((overlap * other_share - offset) / length).clamp(0.0, 1.0)
    apart = between + share.unsqueeze(-1) * along - other_share.unsqueeze(-1) * across
    return (product(apart, apart) + 1e-12).sqrt()
