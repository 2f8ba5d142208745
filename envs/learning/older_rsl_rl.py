"""Training by an older rsl_rl, as Isaac Gym's users have it: version 1 (with legged_gym) or 2."""

from __future__ import annotations

import inspect
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Mapping

import torch

from envs.learning.policy import Policy, PolicyError, describe_policy, save_policy
from envs.learning.training_run import BEST_POLICY, nothing_left


def installed_version() -> int:
    """Major version of the rsl_rl that is installed, 0 for none."""
    for distribution in ("rsl_rl", "rsl-rl-lib"):
        try:
            return int(metadata.version(distribution).split(".")[0])
        except metadata.PackageNotFoundError:
            continue
    return 0


class OlderVecEnv:
    """What version 2 asks of an environment; everything else is the environment's own.

    Args:
        env: An environment in legged_gym's shape.
    """

    def __init__(self, env: Any) -> None:
        self.env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def get_observations(self) -> tuple[torch.Tensor, dict[str, Any]]:
        """Observations of the actor (num_envs, num_obs), and those of the critic among the extras."""
        return self.env.get_observations(), self._extras()

    def reset(self) -> tuple[torch.Tensor, dict[str, Any]]:
        """Begin new episodes everywhere; returns what :meth:`get_observations` does."""
        self.env.reset()
        return self.get_observations()

    def step(self, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Apply actions (num_envs, num_actions); returns observations, rewards, dones (num_envs,) and extras."""
        observations, _, rewards, dones, extras = self.env.step(actions)
        return observations, rewards, dones.long(), {**extras, **self._extras()}

    def _extras(self) -> dict[str, Any]:
        return {"observations": {"critic": self.env.get_privileged_observations()}}


def older_config(train_cfg: Mapping[str, Any], version: int, algorithm: type) -> dict[str, Any]:
    """Configuration of version 1 or 2; settings that its algorithm does not know are left out.

    Args:
        train_cfg: Training configuration in legged_gym's shape, as nested dictionaries.
        version: Major version.
        algorithm: Its PPO.
    """
    known = set(inspect.signature(algorithm).parameters)
    settings = {name: value for name, value in train_cfg["algorithm"].items() if name in known}
    names = ("init_noise_std", "actor_hidden_dims", "critic_hidden_dims", "activation")
    policy = {name: train_cfg["policy"][name] for name in names}
    runner = dict(train_cfg["runner"])
    runner["wandb_project"] = runner["neptune_project"] = runner.pop("project") or runner["experiment_name"]
    if version == 1:
        runner.update(policy_class_name="ActorCritic", algorithm_class_name="PPO")
        return {"runner": runner, "algorithm": settings, "policy": policy}
    return {
        **runner,
        "empirical_normalization": train_cfg["policy"]["obs_normalization"],
        "algorithm": {**settings, "class_name": "PPO"},
        "policy": {**policy, "class_name": "ActorCritic"},
    }


def train_with_older_rsl_rl(
    env: Any,
    task: str,
    train_cfg: Mapping[str, Any],
    begin: Callable[[], Path],
    checkpoint: Path | None,
    device: str,
) -> None:
    """Train as long as the configuration says, and save the policy that comes of it.

    Neither mirroring nor evaluations during training: those are in the runner for version 5.

    Args:
        env: The environment.
        task: Name of its task.
        train_cfg: Training configuration in legged_gym's shape, as nested dictionaries.
        begin: Gives the folder of the run; called once there is nothing left that could be refused.
        checkpoint: Checkpoint of that rsl_rl to go on from; None to begin anew.
        device: Of the networks.

    Raises:
        PolicyError: The version is another one, or the checkpoint cannot be read.
    """
    version = installed_version()
    if version not in (1, 2):
        found = f"version {version} is installed" if version else "none is installed"
        raise PolicyError(f"training needs rsl_rl: version 5 (pip install 'cmg_ref[train]'), or 1 or 2; {found}")
    from rsl_rl.algorithms import PPO
    from rsl_rl.runners import OnPolicyRunner

    vec_env = env if version == 1 else OlderVecEnv(env)
    runner = OnPolicyRunner(vec_env, older_config(train_cfg, version, PPO), log_dir=None, device=device)
    if checkpoint is not None:
        try:
            runner.load(str(checkpoint))
        except (OSError, RuntimeError, KeyError, EOFError) as error:
            raise PolicyError(f"{checkpoint}: cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    left = train_cfg["runner"]["max_iterations"] - runner.current_learning_iteration
    if left <= 0:
        print(nothing_left(runner.current_learning_iteration, train_cfg["runner"]["max_iterations"]))
        return
    run_dir = begin()
    runner.log_dir = str(run_dir)
    runner.learn(left, init_at_random_ep_len=True)
    save_policy(older_policy(runner, env, task, train_cfg), run_dir / BEST_POLICY)


def older_policy(runner: Any, env: Any, task: str, train_cfg: Mapping[str, Any]) -> Policy:
    """The policy that a runner of version 1 or 2 has trained."""
    networks = getattr(runner.alg, "policy", None) or runner.alg.actor_critic
    state = {f"mlp.{name}": value.detach().cpu() for name, value in networks.actor.state_dict().items()}
    normalizer = getattr(runner, "obs_normalizer", None)
    for name in ("_mean", "_std"):
        if hasattr(normalizer, name):
            state[f"obs_normalizer.{name}"] = getattr(normalizer, name).cpu()
    return Policy.from_actor_state(state, describe_policy(env, task), train_cfg["policy"]["activation"])
