"""PPO of rsl-rl-lib 5 for networks that know left from right, with an update that is quick on a CPU.

What differs from ``rsl_rl.algorithms.PPO``:

* Networks may be symmetric by construction, see ``symmetric_network.py``. With ordinary ones that are to learn from
  mirror images too, rsl_rl's own update and symmetry extension do that.
* Observations are mirrored and normalised once for an update instead of once for a minibatch, and samples are shuffled
  once, so that a minibatch is a slice of contiguous memory. Hidden layers are bfloat16 where the CPU is good at it.
* The first iterations only measure the statistics of the observations. Later changes of these are taken out again by
  the first layers: a drift of the normaliser alone would otherwise change the policy, and the KL divergence with it.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from rsl_rl.algorithms import PPO
from rsl_rl.models import MLPModel
from rsl_rl.modules import EmpiricalNormalization
from tensordict import TensorDict
from torch import distributed, nn

from cmg_ref.core.devices import bfloat16_pays
from envs.available_cores import available_cores
from envs.learning.symmetric_network import SymmetricMLPModel
from envs.learning.training_run import TrainingDivergedError

MIN_LEARNING_RATE, MAX_LEARNING_RATE = 1e-5, 1e-2
LEARNING_RATE_STEP = 1.5


class MirroredPPO(PPO):
    """PPO for symmetric networks; the configuration is that of rsl_rl's PPO and a few more fields.

    Args:
        *args: see ``rsl_rl.algorithms.PPO``.
        normalizer_warm_up: iterations that only measure the statistics of the observations.
        critic_warm_up: iterations after those in which the critic alone learns.
        last_layer_gain: gain of the actor's last layer at first; small, for actions that begin near zero.
        smoothness_coef: weight of the squared change of the mean action from one step to the next, summed over the
            actions (Mysore et al. 2021, "Regularizing Action Policies for Smooth Control with Reinforcement Learning").
            Rewards cannot ask for that: while it explores, a policy trembles more by chance than of its own.
        update_threads: threads of torch during the update, 0 for one a core; between updates the number stays as the
            caller has set it, which leaves the cores to the physics.
        use_mixed_precision: whether the hidden layers are bfloat16 during an update; by default where the CPU has
            instructions for it, which takes about half of the time off an update. Log probabilities differ by less
            than 0.02, far inside the clipping range. Not in rsl_rl's own update, which has the last layer in it too.
        **kwargs: see ``rsl_rl.algorithms.PPO``.
    """

    learning_rate: float

    def __init__(
        self,
        *args: Any,
        normalizer_warm_up: int = 4,
        critic_warm_up: int = 0,
        smoothness_coef: float = 0.0,
        last_layer_gain: float = 0.01,
        update_threads: int = 0,
        use_mixed_precision: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if use_mixed_precision is None:
            device = torch.device(kwargs.get("device", "cpu"))
            use_mixed_precision = device.type == "cpu" and bfloat16_pays(device) and not kwargs.get("symmetry_cfg")
        super().__init__(*args, use_mixed_precision=use_mixed_precision, **kwargs)
        if self.rnd or self.actor.is_recurrent or self.critic.is_recurrent:
            raise ValueError("MirroredPPO is for plain MLPs, without rnd_cfg")
        if smoothness_coef and self.symmetry is not None:
            raise ValueError(
                "algorithm.smoothness_coef: needs policy.symmetric=True or algorithm.mirrored=False: the update of "
                "rsl_rl that learns from mirror images lacks it"
            )
        self.smoothness_coef = smoothness_coef
        self.warm_up_left, self.critic_warm_up_left = normalizer_warm_up, critic_warm_up
        self.update_threads = update_threads
        last_layer = self._raw_actor.mlp[-1]
        nn.init.orthogonal_(last_layer.weight, gain=last_layer_gain)
        nn.init.zeros_(last_layer.bias)
        for group in self.optimizer.param_groups:
            group["fused"] = True

    @staticmethod
    def construct_algorithm(obs: TensorDict, env: Any, cfg: dict[str, Any], device: str) -> PPO:
        """Build models, storage and algorithm as rsl_rl does, without what it prints, and hand on the mirror functions.

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
            return PPO.construct_algorithm(obs, env, cfg, device)

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
            losses = self._learn() if self.symmetry is None else super().update()
        finally:
            torch.set_num_threads(threads)
        self.critic_warm_up_left = max(0, self.critic_warm_up_left - 1)
        for name, value in losses.items():
            if not math.isfinite(value):
                raise TrainingDivergedError(f"the optimisation has diverged: {name} is {value}")
        return losses

    @torch.no_grad()
    def bound_noise(self, largest: float) -> None:
        """Hold the standard deviations of actions at or below a bound."""
        distribution = self._raw_actor.distribution
        assert distribution is not None
        distribution.log_std_param.clamp_(max=math.log(largest))

    def save(self) -> dict[str, Any]:
        """What a checkpoint holds of the algorithm."""
        left = {"warm_up_left": self.warm_up_left, "critic_warm_up_left": self.critic_warm_up_left}
        return {**super().save(), **left}

    def load(self, loaded_dict: dict[str, Any], load_cfg: dict[str, bool] | None, strict: bool) -> bool:
        """Take over what :meth:`save` returned; see rsl_rl."""
        self.warm_up_left = loaded_dict["warm_up_left"]
        self.critic_warm_up_left = loaded_dict.get("critic_warm_up_left", 0)
        return super().load(loaded_dict, load_cfg, strict)

    def _learn(self) -> dict[str, float]:
        """All epochs over the stored steps; returns the means of what is reported."""
        storage = self.storage
        size = storage.num_envs * storage.num_transitions_per_env // self.num_mini_batches
        samples = self._samples(size)
        totals = torch.zeros(6, device=self.device)
        for _ in range(self.num_learning_epochs):
            for start in range(0, size * self.num_mini_batches, size):
                totals += self._step({name: value[start : start + size] for name, value in samples.items()})
        totals /= self.num_learning_epochs * self.num_mini_batches
        self._follow_normalizers()
        storage.clear()
        names = ("value", "surrogate", "entropy", "kl", "clipped", "tremble")
        return dict(zip(names, totals.tolist(), strict=True))

    def _samples(self, size: int) -> dict[str, torch.Tensor]:
        """The stored steps in random order, (num_mini_batches * size, ...) each.

        "actor" and "critic" are the normalised inputs of the networks; where smoothness counts, "next_actor" is that of
        the step after, and "goes_on" whether it is one of the same episode.
        """
        storage = self.storage
        num_steps = storage.num_envs * storage.num_transitions_per_env
        order = torch.randperm(num_steps, device=self.device)[: size * self.num_mini_batches]

        def shuffled(stored: torch.Tensor) -> torch.Tensor:
            return stored.flatten(0, 1)[order]

        assert storage.distribution_params is not None
        observations = {group: shuffled(value) for group, value in storage.observations.items()}
        after = {}
        if self.smoothness_coef:
            # Steps lie one after the other, each with all environments.
            following = (order + storage.num_envs).clamp(max=num_steps - 1)
            seen = {group: value.flatten(0, 1)[following] for group, value in storage.observations.items()}
            within = order + storage.num_envs < num_steps
            after["next_actor"] = self._raw_actor.get_latent(seen)
            after["goes_on"] = within & ~shuffled(storage.dones).squeeze(-1).bool()
        return {
            **after,
            "values": shuffled(storage.values),
            "returns": shuffled(storage.returns),
            "advantages": shuffled(storage.advantages).squeeze(-1),
            "log_prob": shuffled(storage.actions_log_prob).squeeze(-1),
            "mean": shuffled(storage.distribution_params[0]),
            "std": shuffled(storage.distribution_params[1]),
            "actions": shuffled(storage.actions),
            "actor": self._raw_actor.get_latent(observations),
            "critic": self._raw_critic.get_latent(observations),
        }

    def _step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """One step of the optimiser; returns value, surrogate, entropy, kl, clipped and tremble, (6,)."""
        distribution = self._raw_actor.distribution
        assert distribution is not None
        mean = self._forward(self._raw_actor, batch["actor"])
        distribution.update(mean)
        values = self._forward(self._raw_critic, batch["critic"])  # (n, 1)
        log_prob = distribution.log_prob(batch["actions"])  # (n,)
        entropy = distribution.entropy.mean()
        with torch.no_grad():
            kl = distribution.kl_divergence((batch["mean"], batch["std"]), distribution.params).mean()
            if self.critic_warm_up_left == 0:  # A policy that does not change says nothing of the rate.
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

        tremble = torch.zeros_like(value_loss)
        if self.smoothness_coef:
            change = self._forward(self._raw_actor, batch["next_actor"]) - mean
            tremble = (batch["goes_on"] * change.square().sum(dim=1)).mean()

        self.optimizer.zero_grad(set_to_none=True)
        loss = self.value_loss_coef * value_loss
        if self.critic_warm_up_left == 0:
            loss = surrogate + loss - self.entropy_coef * entropy + self.smoothness_coef * tremble
        loss.backward()  # Adam leaves parameters without gradients as they are.
        if self.is_multi_gpu:
            self.reduce_parameters()
        for model in (self._raw_actor, self._raw_critic):
            nn.utils.clip_grad_norm_(model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        if isinstance(self._raw_actor, SymmetricMLPModel):
            self._raw_actor.symmetrise_scatter()
        with torch.no_grad():
            clipped = (ratio != clipped_ratio).float().mean()
            return torch.stack((value_loss, surrogate, entropy, kl, clipped, tremble))

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


def with_mirror_images(
    env: Any, obs: TensorDict | None, actions: torch.Tensor | None
) -> tuple[TensorDict | None, torch.Tensor | None]:
    """Samples, followed by what they are in a mirror, as rsl_rl's symmetry extension asks for them.

    Args:
        env: Vectorised environment; has ``mirror_observations(obs, group)`` and ``mirror_actions(actions)``.
        obs: Observation groups, (n, size) each.
        actions: (n, num_actions).

    Returns:
        Observation groups, (2 * n, size) each, and actions (2 * n, num_actions); None for what is not given.
    """
    if obs is not None:
        groups = cast("Mapping[str, torch.Tensor]", obs)
        both = {name: torch.cat((values, env.mirror_observations(values, name))) for name, values in groups.items()}
        obs = TensorDict(both, batch_size=[2 * len(obs)])
    return obs, None if actions is None else torch.cat((actions, env.mirror_actions(actions)))
