"""Observations of an environment: methods `_observe_<name>`, chosen by the configuration's `observations`.

What an observation vector is made of, how it looks in a mirror, its noise and its history.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import torch
from torch import Tensor

from cmg_ref.rl.observations import append_history
from configs.base_config import ConfigError, suggestion

LARGEST_SHARE = 2**15  # of a number of 16 bits


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


class ObservationTerms:
    """Builds the observations of actor and critic.

    Args:
        owner: The environment, whose methods `_observe_<name>` return (num_envs, size) each.
        terms: All that can be observed.
        cfg: Configuration of the environment.
        mirror_joints: Joint on the other side of each joint, (num_dof,), and the sign it takes there, (num_dof,).
        num_envs: Number of environments.
        generator: Random numbers of the noise, on the device.

    Attributes:
        layout: Terms of the groups `policy` and `critic`, in their order. The columns of the actor are repeated
            `env.history_length` times, the newest last. The critic sees first what the actor sees, without its noise
            and history.
        num_policy: Columns of the actor.
        num_critic: Columns of the critic.
        noise_scale: Factor on the noise of each environment, (num_envs, 1); None for 1.

    Raises:
        ConfigError: If a term is unknown.
    """

    def __init__(
        self,
        owner: Any,
        terms: Sequence[ObservationTerm],
        cfg: Any,
        mirror_joints: tuple[Tensor, Tensor],
        num_envs: int,
        generator: torch.Generator,
    ) -> None:
        by_name = {term.name: term for term in terms}
        own, privileged = cfg.observations.policy, cfg.observations.privileged
        for name in (*own, *privileged):
            if name not in by_name:
                raise ConfigError(f"observations: there is no '{name}'{suggestion(name, by_name)}")
        policy, critic = [by_name[name] for name in own], [by_name[name] for name in (*own, *privileged)]
        self.layout = {"policy": policy, "critic": critic}
        self._length, self._limit = cfg.env.history_length, cfg.normalization.clip_observations
        self._num_clean = sum(term.size for term in policy)
        self.num_policy, self.num_critic = self._length * self._num_clean, sum(term.size for term in critic)
        self._functions = [getattr(owner, f"_observe_{term.name}") for term in critic]
        self._num_envs, self._generator, self._device = num_envs, generator, mirror_joints[0].device
        self._scale = torch.cat([torch.full((term.size,), term.scale) for term in critic]).to(self._device)
        noise = torch.cat([torch.full((term.size,), term.scale * term.noise) for term in policy])
        noise = noise * (cfg.noise.noise_level if cfg.noise.add_noise else 0.0)
        # Columns from the first to the last that are noisy.
        noisy = noise.nonzero().squeeze(1)
        self._noisy = slice(int(noisy[0]), int(noisy[-1]) + 1) if len(noisy) else None
        self._largest_noise = (noise if self._noisy is None else noise[self._noisy]).to(self._device)
        self._mirrors = {
            "policy": ObservationMirror(policy, *mirror_joints, history_length=self._length),
            "critic": ObservationMirror(critic, *mirror_joints),
        }
        self._biases: Tensor | None = None
        self.noise_scale: Tensor | None = None
        self._history = torch.zeros(num_envs, self._length, self._num_clean, device=self._device)
        # Environments whose history begins with the next observation.
        self._begins = torch.ones(num_envs, dtype=torch.bool, device=self._device)

    def begin(self, env_ids: Tensor) -> None:
        """Let the history of environments (n,) begin with the next observation."""
        self._begins[env_ids] = True

    def set_biases(self, biases: dict[str, Tensor]) -> None:
        """Let the actor see terms off by what they are off by, by their names, (num_envs, size) each in SI units."""
        self._biases = None
        if any(bool(bias.any()) for bias in biases.values()):
            none = [torch.zeros(self._num_envs, term.size, device=self._device) for term in self.layout["policy"]]
            columns = [biases.get(term.name, zeros) for term, zeros in zip(self.layout["policy"], none)]
            self._biases = torch.cat([column.to(self._device) for column in columns], dim=1)
            self._biases.mul_(self._scale[: self._num_clean])

    def observe(self, noise_level: float) -> tuple[Tensor, Tensor]:
        """Observe a new state, with a share of the noise.

        Returns:
            New tensors: observations of the actor, (num_envs, num_policy), and of the critic, (num_envs, num_critic).
        """
        if self._noisy is not None:
            self._noise = self._draw_shares(len(self._largest_noise)).mul(self._largest_noise)
            if self.noise_scale is not None:
                self._noise.mul_(self.noise_scale)
        self._earlier, self._begun = self._history, self._begins
        self._begins = torch.zeros_like(self._begins)
        return self.observe_again(noise_level)

    def observe_again(self, noise_level: float) -> tuple[Tensor, Tensor]:
        """Observe the present state with the noise and history it has been observed with already."""
        # Torch joins tensors that lie in one piece several times as fast as others, copies included.
        critic = torch.cat([function().contiguous() for function in self._functions], dim=1)
        critic.mul_(self._scale).clamp_(-self._limit, self._limit)
        policy = critic[:, : self._num_clean].clone()
        if self._noisy is not None:
            policy[:, self._noisy].add_(self._noise, alpha=noise_level / LARGEST_SHARE)
        if self._biases is not None:
            policy.add_(self._biases)
        if self._length > 1:
            self._history = append_history(self._earlier, policy, self._begun)
            policy = self._history.flatten(1)
        return policy, critic

    def mirrored(self, observations: Tensor, group: str) -> Tensor:
        """Observations of a group (..., size) of the robot seen in a mirror."""
        return self._mirrors[group](observations)

    def _draw_shares(self, count: int) -> Tensor:
        """Random whole numbers from -`LARGEST_SHARE` to below it, (num_envs, count)."""
        # Sixteen bits are plenty for noise, and four such numbers cost as much as one of 32 bits.
        size = self._num_envs * count
        bits = torch.empty((size + 3) // 4, dtype=torch.int64, device=self._device)
        bits.random_(-(2**63), None, generator=self._generator)
        return bits.view(torch.int16)[:size].view(self._num_envs, count)
