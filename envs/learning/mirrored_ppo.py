"""PPO of rsl-rl-lib 5 with left-right symmetry and an update that is quick on a CPU.

What differs from ``rsl_rl.algorithms.PPO``:

* Networks may be symmetric by construction, see ``symmetric_network.py``. With ordinary ones half of the samples of a
  minibatch are seen in a mirror, and the halves change places from one epoch to the next: a minibatch is no larger.
* Observations are mirrored and normalised once for an update instead of once for a minibatch, and samples are shuffled
  once, so that a minibatch is a slice of contiguous memory. Hidden layers are bfloat16 where the CPU is good at it.
* The first iterations only measure the statistics of the observations. Later changes of these are taken out again by
  the first layers: a drift of the normaliser alone would otherwise change the policy, and the KL divergence with it.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from rsl_rl.algorithms import PPO
from rsl_rl.models import MLPModel
from rsl_rl.modules import EmpiricalNormalization
from tensordict import TensorDict
from torch import distributed, nn

from envs.available_cores import available_cores
from envs.learning.symmetric_network import SymmetricMLPModel
from envs.learning.training_run import TrainingDivergedError

MIN_LEARNING_RATE, MAX_LEARNING_RATE = 1e-5, 1e-2
LEARNING_RATE_STEP = 1.5


class MirroredPPO(PPO):
    """PPO whose minibatches are half mirrored; the configuration is that of rsl_rl's PPO and a few more fields.

    Args:
        *args: see ``rsl_rl.algorithms.PPO``.
        mirrored: whether half of every minibatch is mirrored where the networks are not symmetric anyway.
        normalizer_warm_up: iterations that only measure the statistics of the observations.
        last_layer_gain: gain of the actor's last layer at first; small, for actions that begin near zero.
        update_threads: threads of torch during the update, 0 for one a core; between updates the number stays as the
            caller has set it, which leaves the cores to the physics.
        use_mixed_precision: whether the hidden layers are bfloat16 during an update; by default where the CPU has
            instructions for it, which takes about half of the time off an update. Log probabilities differ by less
            than 0.02, far inside the clipping range.
        **kwargs: see ``rsl_rl.algorithms.PPO``.
    """

    learning_rate: float

    def __init__(
        self,
        *args: Any,
        mirrored: bool = True,
        normalizer_warm_up: int = 4,
        last_layer_gain: float = 0.01,
        update_threads: int = 0,
        use_mixed_precision: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if use_mixed_precision is None:
            use_mixed_precision = torch.device(kwargs.get("device", "cpu")).type == "cpu" and _cpu_has_bfloat16()
        super().__init__(*args, use_mixed_precision=use_mixed_precision, **kwargs)
        if self.rnd or self.symmetry or self.actor.is_recurrent or self.critic.is_recurrent:
            raise ValueError("MirroredPPO is for plain MLPs, without rnd_cfg and without symmetry_cfg (it has its own)")
        # A symmetric network learns the same from a sample and from its mirror image.
        self.mirrored = mirrored and not isinstance(self.actor, SymmetricMLPModel)
        self.warm_up_left = normalizer_warm_up
        self.update_threads = update_threads
        # Given by construct_algorithm: of a group (n, size) and its name, and of actions (n, num_actions).
        self.mirror_observations: Callable[[torch.Tensor, str], torch.Tensor] | None = None
        self.mirror_actions: Callable[[torch.Tensor], torch.Tensor] | None = None
        last_layer = self._raw_actor.mlp[-1]
        nn.init.orthogonal_(last_layer.weight, gain=last_layer_gain)
        nn.init.zeros_(last_layer.bias)
        for group in self.optimizer.param_groups:
            group["fused"] = True

    @staticmethod
    def construct_algorithm(obs: TensorDict, env: Any, cfg: dict[str, Any], device: str) -> PPO:
        """Build models, storage and algorithm as rsl_rl does, without what it prints, and find the mirror functions.

        Args:
            obs: observation groups of the environment.
            env: vectorised environment; has ``mirror_observations(obs, group)`` and ``mirror_actions(actions)``.
            cfg: configuration of rsl_rl.
            device: of models and storage.
        """
        if cfg["actor"]["class_name"] is SymmetricMLPModel:
            # Functions, not methods: rsl_rl copies its configuration, and a method would take the environment along.
            cfg["actor"].update(
                observation_mirror=lambda values, group: env.mirror_observations(values, group),
                output_mirror=lambda actions: env.mirror_actions(actions),
            )
        if cfg["critic"]["class_name"] is SymmetricMLPModel:
            cfg["critic"].update(observation_mirror=lambda values, group: env.mirror_observations(values, group))
        with contextlib.redirect_stdout(io.StringIO()):
            algorithm = PPO.construct_algorithm(obs, env, cfg, device)
        assert isinstance(algorithm, MirroredPPO)
        algorithm.mirror_observations = env.mirror_observations
        algorithm.mirror_actions = env.mirror_actions
        return algorithm

    def update(self) -> dict[str, float]:
        """Learn from the stored steps.

        Returns:
            Means over the minibatches of the losses, of the KL divergence from the policy that collected the steps,
            and of the share of ratios that were clipped; nothing in the iterations of the warm-up.

        Raises:
            TrainingDivergedError: one of these is not finite.
        """
        if self.warm_up_left > 0:
            self.warm_up_left -= 1
            observations = self.storage.observations.flatten(0, 1)
            self._raw_actor.update_normalization(observations)
            self._raw_critic.update_normalization(observations)
            self.storage.clear()
            return {}
        threads = torch.get_num_threads()
        torch.set_num_threads(self.update_threads or available_cores())
        try:
            losses = self._learn()
        finally:
            torch.set_num_threads(threads)
        for name, value in losses.items():
            if not math.isfinite(value):
                raise TrainingDivergedError(f"the optimisation has diverged: {name} is {value}")
        self._follow_normalizers()
        self.storage.clear()
        return losses

    @torch.no_grad()
    def bound_noise(self, largest: float) -> None:
        """Hold the standard deviations of actions at or below a bound."""
        distribution = self._raw_actor.distribution
        assert distribution is not None
        distribution.log_std_param.clamp_(max=math.log(largest))

    def save(self) -> dict[str, Any]:
        """What a checkpoint holds of the algorithm."""
        return {**super().save(), "warm_up_left": self.warm_up_left}

    def load(self, loaded_dict: dict[str, Any], load_cfg: dict[str, bool] | None, strict: bool) -> bool:
        """Take over what :meth:`save` returned; see rsl_rl."""
        self.warm_up_left = loaded_dict["warm_up_left"]
        return super().load(loaded_dict, load_cfg, strict)

    def _learn(self) -> dict[str, float]:
        """All epochs over the stored steps; returns the means of what is reported."""
        storage = self.storage
        size = storage.num_envs * storage.num_transitions_per_env // self.num_mini_batches
        versions = self._samples(size)
        totals = torch.zeros(5, device=self.device)
        for epoch in range(self.num_learning_epochs):
            samples = versions[epoch % len(versions)]
            # Rows that are as they were seen: the KL divergence is measured on them.
            half = size // 2
            genuine = slice(None)
            if self.mirrored:
                genuine = slice(half) if epoch % 2 == 0 else slice(half, None)
            for start in range(0, size * self.num_mini_batches, size):
                batch = {name: value[start : start + size] for name, value in samples.items()}
                totals += self._step(batch, genuine)
        totals /= self.num_learning_epochs * self.num_mini_batches
        return dict(zip(("value", "surrogate", "entropy", "kl", "clipped"), totals.tolist(), strict=True))

    def _samples(self, size: int) -> list[dict[str, torch.Tensor]]:
        """The stored steps in random order, (num_mini_batches * size, ...) each.

        "actor" and "critic" are the normalised inputs of the networks. With mirroring there are two versions: in the
        first the second half of every minibatch is mirrored, in the second the first half.
        """
        storage = self.storage
        order = torch.randperm(storage.num_envs * storage.num_transitions_per_env, device=self.device)
        order = order[: size * self.num_mini_batches]

        def shuffled(stored: torch.Tensor) -> torch.Tensor:
            return stored.flatten(0, 1)[order]

        assert storage.distribution_params is not None
        samples = {
            "values": shuffled(storage.values),
            "returns": shuffled(storage.returns),
            "advantages": shuffled(storage.advantages).squeeze(-1),
            "log_prob": shuffled(storage.actions_log_prob).squeeze(-1),
            "mean": shuffled(storage.distribution_params[0]),
            "std": shuffled(storage.distribution_params[1]),
        }
        actions = shuffled(storage.actions)
        observations = {group: shuffled(value) for group, value in storage.observations.items()}
        seen = {"actions": actions, **self._inputs(observations)}
        if not self.mirrored:
            return [{**samples, **seen}]
        assert self.mirror_observations is not None and self.mirror_actions is not None
        mirrored = {group: self.mirror_observations(value, group) for group, value in observations.items()}
        reflected = {"actions": self.mirror_actions(actions), **self._inputs(mirrored)}
        second_half = (torch.arange(len(order), device=self.device) % size >= size // 2).unsqueeze(1)
        return [
            {**samples, **{name: torch.where(rows, reflected[name], seen[name]) for name in seen}}
            for rows in (second_half, ~second_half)
        ]

    def _inputs(self, observations: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Normalised inputs of the two networks, (n, size) each."""
        return {"actor": self._raw_actor.get_latent(observations), "critic": self._raw_critic.get_latent(observations)}

    def _step(self, batch: dict[str, torch.Tensor], genuine: slice) -> torch.Tensor:
        """One step of the optimiser; returns value, surrogate, entropy, kl and clipped, (5,)."""
        distribution = self._raw_actor.distribution
        assert distribution is not None
        distribution.update(self._forward(self._raw_actor, batch["actor"]))
        values = self._forward(self._raw_critic, batch["critic"])  # (n, 1)
        log_prob = distribution.log_prob(batch["actions"])  # (n,)
        entropy = distribution.entropy[genuine].mean()
        with torch.no_grad():
            old, new = (
                (mean[genuine], std[genuine]) for mean, std in ((batch["mean"], batch["std"]), distribution.params)
            )
            kl = distribution.kl_divergence(old, new).mean()
            self._adapt_learning_rate(kl)

        ratio = torch.exp(log_prob - batch["log_prob"])
        clipped_ratio = ratio.clamp(1.0 - self.clip_param, 1.0 + self.clip_param)
        advantages = batch["advantages"]
        surrogate = -torch.minimum(advantages * ratio, advantages * clipped_ratio).mean()
        errors = (values - batch["returns"]).square()
        if self.use_clipped_value_loss:
            near = batch["values"] + (values - batch["values"]).clamp(-self.clip_param, self.clip_param)
            errors = torch.maximum(errors, (near - batch["returns"]).square())
        value_loss = errors.mean()

        self.optimizer.zero_grad(set_to_none=True)
        (surrogate + self.value_loss_coef * value_loss - self.entropy_coef * entropy).backward()
        if self.is_multi_gpu:
            self.reduce_parameters()
        for model in (self._raw_actor, self._raw_critic):
            nn.utils.clip_grad_norm_(model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        if isinstance(self._raw_actor, SymmetricMLPModel):
            self._raw_actor.symmetrise_scatter()
        with torch.no_grad():
            clipped = (ratio != clipped_ratio).float().mean()
            return torch.stack((value_loss, surrogate, entropy, kl, clipped))

    def _forward(self, model: MLPModel, inputs: torch.Tensor) -> torch.Tensor:
        """Output of a network, the hidden layers in bfloat16 if so configured: the last one needs the digits."""
        *hidden, last = model.mlp
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.use_mixed_precision):
            for layer in hidden:
                inputs = layer(inputs)
        return last(inputs.float())

    def _adapt_learning_rate(self, kl: torch.Tensor) -> None:
        """Keep the KL divergence near the one desired, as rsl_rl does."""
        if self.schedule != "adaptive" or self.desired_kl is None:
            return
        if self.is_multi_gpu:
            distributed.all_reduce(kl)
            kl /= self.gpu_world_size
        # All processes see the same mean, and so come to the same learning rate.
        value = float(kl)
        if value > 2.0 * self.desired_kl:
            self.learning_rate = max(MIN_LEARNING_RATE, self.learning_rate / LEARNING_RATE_STEP)
        elif 0.0 < value < 0.5 * self.desired_kl:
            self.learning_rate = min(MAX_LEARNING_RATE, self.learning_rate * LEARNING_RATE_STEP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate

    @torch.no_grad()
    def _follow_normalizers(self) -> None:
        """Let the normalisers see the stored observations, without a change of what the networks return."""
        observations = self.storage.observations.flatten(0, 1)
        for model in (self._raw_actor, self._raw_critic):
            normalizer = model.obs_normalizer
            if not isinstance(normalizer, EmpiricalNormalization):
                continue
            mean, scale = normalizer.mean, normalizer.std + normalizer.eps
            model.update_normalization(observations)
            new_mean, new_scale = normalizer.mean, normalizer.std + normalizer.eps
            first = model.mlp[0]
            # W (x - mean) / scale + b must stay the same for every x.
            first.bias += first.weight @ ((new_mean - mean) / scale)
            first.weight *= new_scale / scale


def _cpu_has_bfloat16() -> bool:
    """Whether matrix products in bfloat16 are faster than in float32 on this CPU."""
    # torch has no public name for this; where it has none at all, the answer is no.
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
