"""Training by rsl-rl-lib 5: the loop, evaluations, and checkpoints that a killed run goes on from."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from operator import gt
from pathlib import Path
from typing import Any

# GitPython, which rsl_rl imports, would otherwise refuse to be imported on a machine without git.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import torch
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict
from torch import distributed

from cmg_ref.core.progress import ProgressBar
from cmg_ref.core.sharding import join_processes
from cmg_ref.files.atomic_file import buffered_file
from envs.evaluation.policy_evaluation import Evaluation
from envs.learning.mirrored_ppo import MirroredPPO, with_mirror_images
from envs.learning.policy import (
    Policy,
    PolicyDescription,
    PolicyError,
    average_policies,
    critic_state,
    load_policy,
    policy_of_checkpoint,
    read_checkpoint,
    save_policy,
)
from envs.learning.rsl_rl_vec_env import RslRlVecEnv
from envs.learning.symmetric_network import SymmetricMLPModel, dense_state
from envs.learning.training_log import TrainingLog, writer_config
from envs.learning.training_run import (
    BEST_CHECKPOINT,
    BEST_POLICY,
    EVALUATIONS,
    TrainingDivergedError,
    checkpoints,
    save_json,
)
from envs.learning.warm_start import (
    check_activation,
    check_fit,
    settle_statistics,
    take_actor,
    take_critic,
    widen_scales,
)

KEPT_CHECKPOINTS = 5


def rsl_rl_config(train_cfg: Mapping[str, Any], num_envs: int) -> dict[str, Any]:
    """Configuration of rsl-rl-lib 5.

    Args:
        train_cfg: Training configuration in legged_gym's shape, as nested dictionaries.
        num_envs: Number of environments of this process.
    """
    policy, runner, algorithm = train_cfg["policy"], train_cfg["runner"], dict(train_cfg["algorithm"])
    network = {
        "class_name": SymmetricMLPModel if policy["symmetric"] else "MLPModel",
        "activation": policy["activation"],
        "obs_normalization": policy["obs_normalization"],
    }
    distribution = {"class_name": "GaussianDistribution", "init_std": policy["init_noise_std"], "std_type": "log"}
    # Networks that are symmetric themselves learn the same from a sample and from its mirror image.
    mirrored = algorithm.pop("mirrored") and not policy["symmetric"]
    symmetry = {"data_augmentation_func": with_mirror_images, "use_data_augmentation": True}
    warm_up_steps = policy["normalizer_warmup_steps"] if policy["obs_normalization"] else 0
    return {
        "num_steps_per_env": runner["num_steps_per_env"],
        "save_interval": runner["save_interval"],
        "logger": writer_config(runner),
        "obs_groups": {"actor": ["policy"], "critic": ["critic"]},
        "actor": {**network, "hidden_dims": policy["actor_hidden_dims"], "distribution_cfg": distribution},
        "critic": {**network, "hidden_dims": policy["critic_hidden_dims"]},
        "algorithm": {
            **algorithm,
            "class_name": MirroredPPO,
            "normalizer_warm_up": math.ceil(warm_up_steps / (num_envs * runner["num_steps_per_env"])),
            "last_layer_gain": policy["last_layer_gain"],
            "symmetry_cfg": symmetry if mirrored else None,
        },
    }


class Runner(OnPolicyRunner):
    """Trains a policy.

    Args:
        env: The environment.
        train_cfg: Training configuration in legged_gym's shape, as nested dictionaries.
        run_dir: Folder for checkpoints and logs; it need not be there before :meth:`learn`.
        description: What the policy's numbers mean.
        evaluate: Rolls a policy out and measures it; its score chooses the best checkpoint. None to go without.
        device: Of networks and storage.

    Attributes:
        current_learning_iteration: Iterations done.
        total_steps: Environment steps done, over all processes.
        total_time: Time that they took [s].
        evaluations: Results so far, the newest last.
        best_score: Highest score so far.
    """

    alg: MirroredPPO
    logger: TrainingLog

    def __init__(
        self,
        env: Any,
        train_cfg: Mapping[str, Any],
        run_dir: Path,
        description: PolicyDescription,
        evaluate: Callable[[Policy], Evaluation] | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(RslRlVecEnv(env), rsl_rl_config(train_cfg, env.num_envs), log_dir=None, device=device)
        self.logger = TrainingLog(
            None,
            self.cfg,
            self.env.cfg,
            env.num_envs,
            self.is_distributed,
            self.gpu_world_size,
            self.gpu_global_rank,
            device,
        )
        self.run_dir = run_dir
        self.description = description
        self.evaluate = evaluate
        self.evaluation_interval = int(train_cfg["runner"]["evaluation_interval"])
        self._averaging_interval = int(train_cfg["runner"]["averaging_interval"])
        self._least_scales = train_cfg["policy"]["least_scales"]
        self._noise_std = (train_cfg["policy"]["init_noise_std"], train_cfg["policy"]["final_noise_std"])
        self.total_steps, self.total_time = 0, 0.0
        self.evaluations: list[dict[str, Any]] = []
        self.best_score = -math.inf

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.gpu_global_rank == 0

    def learn(self, num_learning_iterations: int, init_at_random_ep_len: bool = False) -> None:
        """Train up to an iteration with a progress bar, curves, evaluations and checkpoints.

        In place of rsl_rl's loop, which knows neither evaluations nor bounds of the exploration, goes on by a number
        of iterations and not up to one, and keeps every checkpoint.

        Args:
            num_learning_iterations: Iterations altogether, those of a resumed run included.
            init_at_random_ep_len: Whether episodes begin at random ages, so that they do not end all at once.

        Raises:
            TrainingDivergedError: Observations, rewards or losses are no longer finite.
        """
        if init_at_random_ep_len:
            self.env.episode_length_buf = torch.randint_like(
                self.env.episode_length_buf, high=int(self.env.max_episode_length)
            )
        self.alg.train_mode()
        if self.is_distributed:
            self.alg.broadcast_parameters()
        log, begun = self.logger, self.current_learning_iteration
        log.begin(self.run_dir, begun + 1)
        progress = ProgressBar(
            total=num_learning_iterations,
            initial=self.current_learning_iteration,
            unit="it",
            disable=not self.is_main,
            mininterval=1.0,
        )
        observations = self.env.get_observations().to(self.device)
        try:
            while self.current_learning_iteration < num_learning_iterations:
                started = time.perf_counter()
                first, final = self._noise_std
                done = self.current_learning_iteration / num_learning_iterations
                self.alg.bound_noise(first * (final / first) ** done)
                observations = self._collect(observations)
                collected = time.perf_counter()
                losses = self.alg.update()
                updated = time.perf_counter()
                self.current_learning_iteration += 1
                num_steps = self.cfg["num_steps_per_env"] * self.env.num_envs * self.gpu_world_size
                self.total_steps += num_steps
                self.total_time += updated - started
                log.log(
                    it=self.current_learning_iteration,
                    start_it=begun,
                    total_it=num_learning_iterations,
                    collect_time=collected - started,
                    learn_time=updated - collected,
                    loss_dict=losses,
                    learning_rate=self.alg.learning_rate,
                    action_std=self.alg.get_policy().output_std.detach(),
                    rnd_weight=None,
                )
                log.add({"Perf/total_steps": self.total_steps}, self.current_learning_iteration)
                progress.set_postfix_str(
                    f"reward {log.mean_reward:.1f}, length {log.mean_length * self.description.control_dt:.1f} s, "
                    f"{num_steps / (updated - started):.0f} steps/s, best {self.best_score:.3f}",
                    refresh=False,
                )
                progress.update()
                if self._averaging_interval and self.current_learning_iteration % self._averaging_interval == 0:
                    self._go_on_from_mean()
                if self._due(self.evaluation_interval, num_learning_iterations):
                    observations = self._evaluate(observations, progress)
                if self.is_main and self._due(self.cfg["save_interval"], num_learning_iterations):
                    self.save_checkpoint()
            if self.is_main and self.evaluate is not None and self.evaluation_interval > 0:
                self._evaluate_mean(self.evaluate, progress)
        finally:
            progress.close()
            log.stop_logging_writer()

    def save_checkpoint(self) -> Path:
        """Write the state of the training and forget the oldest; returns the file."""
        path = self.run_dir / f"model_{self.current_learning_iteration}.pt"
        self.save(str(path))
        self.logger.save_model(str(path), self.current_learning_iteration)
        for old in list(checkpoints(self.run_dir).values())[:-KEPT_CHECKPOINTS]:
            old.unlink(missing_ok=True)
        return path

    def save(self, path: str, infos: dict[str, Any] | None = None) -> None:
        """Write all that resuming needs, in one step: a killed run leaves the old file or the new one."""
        env = self.env.env
        state = {
            **self.alg.save(),
            "policy": dense_state(self.alg.get_policy()),
            "iter": self.current_learning_iteration,
            "infos": infos,
            "total_steps": self.total_steps,
            "total_time": self.total_time,
            "best_score": self.best_score,
            "evaluations": self.evaluations,
            "description": asdict(self.description),
            "activation": self.cfg["actor"]["activation"],
            "environment": env.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }
        with buffered_file(path) as buffer:
            torch.save(state, buffer)

    def load(
        self, path: str, load_cfg: dict[str, bool] | None = None, strict: bool = True, map_location: str | None = None
    ) -> dict[str, Any]:
        """Go on from a checkpoint.

        Args:
            path: File that :meth:`save` wrote.
            load_cfg: Which parts of the algorithm to take over; all by default. Without "iteration" only those are
                taken over, and the training begins at iteration 0.
            strict: Whether all weights must be there.
            map_location: Without effect: checkpoints are read to the CPU, and copied from there to where they belong.

        Returns:
            The `infos` that were saved.

        Raises:
            PolicyError: The file is missing or damaged, or the checkpoint is of another robot or layout.
        """
        state = read_checkpoint(Path(path))
        try:
            networks = {"actor": self.alg.actor, "critic": self.alg.critic}
            check_fit(state, self.description, self.cfg["actor"]["activation"], networks)
            if self.alg.load(state, load_cfg, strict):
                self._restore(state)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise PolicyError(f"{path}: cannot be used here: {' '.join(str(error).split())[:300]}") from error
        return state["infos"] or {}

    def begin_with(self, policy: Policy) -> bool:
        """Take over the network of a policy, with the scales of its normaliser no smaller than configured.

        Its critic comes along if the file has one that sees the same, or the first of it. What the two have not seen
        yet counts for nothing at first; where commands have further channels the critic is a new one.

        Returns:
            Whether the critic came along.

        Raises:
            PolicyError: It is of another robot or layout, or its network is another.
        """
        policy = policy.widened(self.description.observations)
        reason = policy.description.mismatch(self.description)
        if reason:
            raise PolicyError(reason)
        check_activation(policy.activation, self.cfg["actor"]["activation"])
        ours = tuple(self.cfg["actor"]["hidden_dims"])
        if len(ours) != len(policy.hidden_dims) or any(map(gt, policy.hidden_dims, ours)):
            raise PolicyError(
                f"its hidden layers are {policy.hidden_dims} wide, those of this training {ours}: say "
                f'train.policy.actor_hidden_dims="{policy.hidden_dims}", and critic_hidden_dims for its critic'
            )
        try:
            take_actor(self.alg._raw_actor, policy)
        except (LookupError, ValueError) as error:
            raise PolicyError(f"the network of the policy cannot begin one here: {error}") from error
        settle_statistics(self.alg._raw_actor)
        with_critic = take_critic(self.alg._raw_critic, policy, self.description)
        self._widen_scales()
        return with_critic

    def _go_on_from_mean(self) -> None:
        """Let the actor go on from the mean of its weights in the checkpoints since it last did.

        Weights wander from iteration to iteration; what is learnt beside is in their mean. Its checkpoint is the one
        that stays, so that a run that is resumed goes on from the same.
        """
        if self.is_main:
            self.save_checkpoint()
            since = self.current_learning_iteration - self._averaging_interval
            paths = [path for iteration, path in checkpoints(self.run_dir).items() if iteration > since]
            take_actor(self.alg._raw_actor, average_policies([policy_of_checkpoint(path) for path in paths]))
            self.save_checkpoint()
        if self.is_distributed:
            self.alg.broadcast_parameters()

    def begin_with_checkpoint(self, path: str) -> None:
        """Take over networks and optimiser of a checkpoint, with scales no smaller than configured.

        The critic comes along, and so does the optimiser: a new critic, or first steps at full length, would spoil the
        policy. The critic learns alone at first if that is configured.

        Raises:
            PolicyError: The file is missing or damaged, or the checkpoint is of another robot or layout.
        """
        self.load(path, {"actor": True, "critic": True, "optimizer": True})
        self.alg.critic_warm_up_left = self.cfg["algorithm"]["critic_warm_up"]
        self._widen_scales()

    def _widen_scales(self) -> None:
        """Let no scale of a normaliser be less than configured."""
        # The critic sees first what the actor sees, without its history.
        newest = [(term.name, term.size, term.scale) for term in self.env.env.observation_layout["policy"]]
        for model, layout in ((self.alg._raw_actor, self.description.observations), (self.alg._raw_critic, newest)):
            widen_scales(model, layout, self.description.joint_names, self._least_scales)

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Go on from where the training of a checkpoint was."""
        self.current_learning_iteration = int(state["iter"])
        self.total_steps, self.total_time = int(state["total_steps"]), float(state["total_time"])
        self.best_score, self.evaluations = float(state["best_score"]), list(state["evaluations"])
        best = self.run_dir / BEST_POLICY
        if best.is_file():  # It may be a mean of checkpoints, which none of them knows of.
            self.best_score = max(self.best_score, load_policy(best).description.notes.get("score", -math.inf))
        env = self.env.env
        env.load_state_dict(state["environment"])
        torch.set_rng_state(state["torch_rng"].cpu())
        if not self.is_main:  # The state is the main process's: with its random numbers the others would repeat it.
            for generator in (torch.default_generator, env.generator, env.command_sampler.generator):
                seed = torch.randint(2**62, (), generator=generator, device=generator.device)
                generator.manual_seed(int(seed) + self.gpu_global_rank)
            env.reset()

    def policy(self) -> Policy:
        """The policy as it is now, on the CPU."""
        state = dense_state(self.alg.get_policy())
        policy = Policy.from_actor_state(state, self.description, self.cfg["actor"]["activation"])
        policy.critic = critic_state(self.alg._raw_critic.state_dict())
        return policy

    def _collect(self, observations: TensorDict) -> TensorDict:
        """Fill the storage; returns the observations after the last step."""
        # Not torch.inference_mode: the environment keeps tensors that evaluations write to later.
        with torch.no_grad():
            for _ in range(self.cfg["num_steps_per_env"]):
                actions = self.alg.act(observations)
                observations, rewards, dones, extras = self.env.step(actions.to(self.env.device))
                observations, rewards, dones = (value.to(self.device) for value in (observations, rewards, dones))
                self.alg.process_env_step(observations, rewards, dones, extras)
                self.logger.process_env_step(rewards, dones, extras)
            self.alg.compute_returns(observations)
            # NaN in any observation or reward makes the returns NaN.
            if not bool(torch.isfinite(self.alg.storage.returns).all()):
                raise TrainingDivergedError("observations, rewards or values are no longer finite")
        return observations

    def _due(self, interval: int, last: int) -> bool:
        """Whether something that happens every so many iterations, and at the last one, happens now."""
        iteration = self.current_learning_iteration
        return interval > 0 and (iteration % interval == 0 or iteration == last)

    def _evaluate(self, observations: TensorDict, progress: ProgressBar) -> TensorDict:
        """Measure the policy and keep it if it is the best so far; returns the observations to go on from."""
        if self.evaluate is None:
            return observations
        if self.is_main:
            started = time.perf_counter()
            policy = self.policy()
            evaluation = self.evaluate(policy)
            score = evaluation.score
            self.evaluations.append(
                {
                    "iteration": self.current_learning_iteration,
                    "steps": self.total_steps,
                    "time": round(self.total_time, 1),
                    "score": score,
                    "rows": evaluation.to_json(),
                }
            )
            save_json(self.evaluations, self.run_dir / EVALUATIONS)
            curves = {"Evaluation/score": score}
            for row in evaluation.to_json():
                for name in ("survival", "lin_vel_error", "yaw_rate_error"):
                    if row[name] is not None:
                        curves[f"Evaluation_{name}/{row['name']}"] = row[name]
            self.logger.add(curves, self.current_learning_iteration)
            better = score > self.best_score
            if better:
                self.best_score = score
                self.save(str(self.run_dir / BEST_CHECKPOINT))
                notes = {"iteration": self.current_learning_iteration, "steps": self.total_steps, "score": score}
                save_policy(_with_notes(policy, notes), self.run_dir / BEST_POLICY)
            progress.write(
                f"{self.current_learning_iteration}: {evaluation.summary()}{' (best so far)' if better else ''}, "
                f"{self.total_steps / 1e6:.1f} M steps in {self.total_time / 60.0:.1f} min, "
                f"evaluated in {time.perf_counter() - started:.0f} s"
            )
        return self.env.get_observations().to(self.device)

    def _evaluate_mean(self, evaluate: Callable[[Policy], Evaluation], progress: ProgressBar) -> None:
        """Keep the mean of the last checkpoints if it is better than the best of them."""
        paths = list(checkpoints(self.run_dir).values())
        if len(paths) < 2:
            return
        policy = average_policies([policy_of_checkpoint(path) for path in paths])
        evaluation = evaluate(policy)
        better = evaluation.score > self.best_score
        if better:
            averaged = [path.stem for path in paths]
            notes = {"averaged": averaged, "steps": self.total_steps, "score": evaluation.score}
            save_policy(_with_notes(policy, notes), self.run_dir / BEST_POLICY)
        progress.write(
            f"mean of {paths[0].stem} to {paths[-1].stem}: {evaluation.summary()}{' (the best)' if better else ''}"
        )

    def _configure_multi_gpu(self) -> None:
        """Join the processes that torchrun started."""
        if os.environ.get("WORLD_SIZE", "1") == "1" or torch.device(self.device).type == "cuda":
            super()._configure_multi_gpu()
            return
        # rsl_rl refuses processes that learn on CPUs, where MuJoCo leaves them.
        self.gpu_world_size = int(os.environ["WORLD_SIZE"])
        self.gpu_global_rank = int(os.environ["RANK"])
        self.gpu_local_rank = int(os.environ["LOCAL_RANK"])
        self.is_distributed = True
        self.cfg["multi_gpu"] = {
            "global_rank": self.gpu_global_rank,
            "local_rank": self.gpu_local_rank,
            "world_size": self.gpu_world_size,
        }
        if not distributed.is_initialized():
            join_processes(torch.device(self.device))


def _with_notes(policy: Policy, notes: dict[str, Any]) -> Policy:
    """The policy with notes of its own: its description is that of the run, which other checkpoints hold too."""
    policy.description = replace(policy.description, notes=notes)
    return policy
