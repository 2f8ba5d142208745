"""What an observation vector is made of, and how it looks in a mirror."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import torch
from torch import Tensor


class ObservationTerm(NamedTuple):
    """Some successive columns of an observation.

    Attributes:
        name: What they hold; the environment computes it in `_observe_<name>`.
        size: Number of columns.
        scale: Factor between the quantity in SI units and the columns.
        mirror: What becomes of it in a mirror across the x-z plane of the heading frame, for each group of columns:
            `scalar` (unchanged), `polar` (velocities, positions: y changes sign), `axial` (angular velocities: x and z
            change sign), `joints` (to the other side's joint, with its sign), `pair` (left and right change places),
            `odd` (changes sign); or the sign of each column.
        noise: Largest deviation of the uniform noise that the actor sees, in SI units.
    """

    name: str
    size: int
    scale: float
    mirror: str | tuple[float, ...]
    noise: float = 0.0


_FIXED_MIRRORS: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "scalar": ((0,), (1.0,)),
    "polar": ((0, 1, 2), (1.0, -1.0, 1.0)),
    "axial": ((0, 1, 2), (-1.0, 1.0, -1.0)),
    "pair": ((1, 0), (1.0, 1.0)),
    "odd": ((0,), (-1.0,)),
}


class ObservationMirror:
    """Mirrors vectors laid out by observation terms: `mirrored = sign * observation[..., index]`.

    Args:
        layout: Terms in their order.
        joint_index: Joint on the other side of each joint, (num_dof,).
        joint_sign: Sign it takes there, (num_dof,).
        history_length: How often the whole layout is repeated.

    Attributes:
        index: Column that each column is taken from, (size,) int64.
        sign: Its factor, (size,).

    Raises:
        ValueError: If a term's size is no multiple of what its kind of mirroring takes.
    """

    def __init__(
        self, layout: Sequence[ObservationTerm], joint_index: Tensor, joint_sign: Tensor, history_length: int = 1
    ) -> None:
        index: list[int] = []
        sign: list[float] = []
        joints = (tuple(joint_index.tolist()), tuple(joint_sign.tolist()))
        for term in list(layout) * history_length:
            columns, signs = joints if term.mirror == "joints" else _fixed_mirror(term.mirror)
            groups, left = divmod(term.size, len(columns))
            if left:
                raise ValueError(f"observation '{term.name}': {term.size} columns cannot be mirrored as {term.mirror}")
            for _ in range(groups):
                start = len(index)
                index.extend(start + column for column in columns)
                sign.extend(signs)
        self.index = torch.tensor(index, device=joint_index.device)
        self.sign = torch.tensor(sign, device=joint_index.device)

    def __call__(self, values: Tensor) -> Tensor:
        """Vectors (..., size) as seen in a mirror."""
        return values.index_select(-1, self.index.to(values.device)) * self.sign.to(values)


def _fixed_mirror(mirror: str | tuple[float, ...]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Column that each column of a group is taken from, and its sign."""
    return _FIXED_MIRRORS[mirror] if isinstance(mirror, str) else (tuple(range(len(mirror))), mirror)
