"""Training by rsl-rl-lib 5: the runner on an environment of no weight, the script with a few robots."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("rsl_rl")
pytest.importorskip("mujoco.batch")

from rsl_rl.utils.log_writer import LogWriter

from configs.base_config import ConfigError, class_to_dict
from envs.learning.mirrored_ppo import with_mirror_images
from envs.learning.policy import (
    Policy,
    PolicyError,
    average_policies,
    describe_policy,
    load_policy,
    policy_of_checkpoint,
    save_policy,
)
from envs.learning.rsl_rl_runner import Runner
from envs.learning.symmetric_network import dense_state
from envs.learning.training_run import RunError, TrainingDivergedError, checkpoints, find_checkpoint, find_run, new_run
from envs.tasks.task_registry import task_registry

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
NUM_ENVS = 16


JOINTS = ("left_hip_pitch_joint", "left_knee_joint", "right_hip_pitch_joint", "right_knee_joint")
OBSERVED = {"joint_pos": 4, "joint_vel": 4, "commands": 3}
MIRROR = {  # column that each is taken from, and its sign
    "joint_pos": ((2, 3, 0, 1), (1.0, 1.0, 1.0, 1.0)),
    "joint_vel": ((2, 3, 0, 1), (1.0, 1.0, 1.0, 1.0)),
    "commands": ((0, 1, 2), (1.0, -1.0, -1.0)),
}


class DummyEnv:
    """All that a runner asks of an environment, on four joints that go where actions send them.

    Args:
        observed: names of what the policy observes.
    """

    reference = None
    action_meaning = "joint target = action"

    def __init__(self, observed: tuple[str, ...] = tuple(OBSERVED)) -> None:
        self.cfg, _ = task_registry.get_cfgs("g1")
        self.num_envs, self.num_actions, self.device, self.dt, self.max_episode_length = NUM_ENVS, 4, "cpu", 0.02, 20
        self.dof_names = list(JOINTS)
        self.nominal_p_gains = self.nominal_d_gains = self.action_scale = torch.ones(4)
        self.default_dof_pos = torch.zeros(1, 4)
        self.observation_layout = {"policy": [SimpleNamespace(name=n, size=OBSERVED[n], scale=1.0) for n in observed]}
        self.generator, self.common_step_counter = torch.Generator().manual_seed(1), 0
        self.episode_length_buf = torch.zeros(NUM_ENVS, dtype=torch.long)
        self.state = {name: torch.zeros(NUM_ENVS, size) for name, size in OBSERVED.items()}
        self.reset(torch.arange(NUM_ENVS))

    def reset(self, env_ids: torch.Tensor) -> None:
        for value in self.state.values():
            value[env_ids] = torch.randn(len(env_ids), value.shape[1], generator=self.generator)
        self.episode_length_buf[env_ids] = 0

    def observation_groups(self) -> dict[str, torch.Tensor]:
        seen = [self.state[term.name] for term in self.observation_layout["policy"]]
        return {"policy": torch.cat(seen, dim=1), "critic": torch.cat(list(self.state.values()), dim=1)}

    def mirror_observations(self, values: torch.Tensor, group: str) -> torch.Tensor:
        names = [term.name for term in self.observation_layout["policy"]] if group == "policy" else list(OBSERVED)
        parts = values.split([OBSERVED[name] for name in names], dim=-1)
        mirrored = []
        for name, part in zip(names, parts, strict=True):
            index, sign = MIRROR[name]
            mirrored.append(part[..., index] * torch.tensor(sign))
        return torch.cat(mirrored, dim=-1)

    def mirror_actions(self, actions: torch.Tensor) -> torch.Tensor:
        return actions[..., [2, 3, 0, 1]]

    def step(self, actions: torch.Tensor) -> tuple[Any, Any, torch.Tensor, torch.Tensor, dict[str, Any]]:
        self.common_step_counter += 1
        self.episode_length_buf += 1
        self.state["joint_vel"] = (actions.clamp(-5.0, 5.0) - self.state["joint_pos"]) / 4.0
        self.state["joint_pos"] = self.state["joint_pos"] + self.state["joint_vel"]
        rewards = torch.exp(-(self.state["joint_pos"] - self.state["commands"][:, :1]).square().mean(dim=1))
        time_outs = self.episode_length_buf >= self.max_episode_length
        self.reset(time_outs.nonzero().squeeze(1))
        return None, None, rewards, time_outs.long(), {"time_outs": time_outs, "episode": {}}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.common_step_counter, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.common_step_counter = state["steps"]
        self.generator.set_state(state["generator"])
        self.reset(torch.arange(NUM_ENVS))


def make_env(policy_observations: tuple[str, ...] = tuple(OBSERVED)) -> Any:
    return DummyEnv(policy_observations)


def make_runner(run_dir: Path, env: Any = None, **fields: Any) -> Runner:
    env = env or make_env()
    _, train_cfg = task_registry.get_cfgs("g1_cmg")
    train_cfg.runner.num_steps_per_env = 8
    train_cfg.runner.save_interval = 2
    train_cfg.policy.normalizer_warmup_steps = NUM_ENVS * 8
    config = class_to_dict(train_cfg)
    for section, values in fields.items():
        config[section].update(values)
    torch.manual_seed(3)
    return Runner(env, config, run_dir, describe_policy(env, "g1_cmg"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Three iterations, the first of which only measures the statistics of the observations."""
    runner = make_runner(tmp_path_factory.mktemp("run"))
    runner.learn(3)
    return runner


def same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_learning_changes_the_networks_and_leaves_checkpoints(trained: Runner) -> None:
    fresh = make_runner(trained.run_dir)
    assert not same_weights(trained.alg.actor.mlp.state_dict(), fresh.alg.actor.mlp.state_dict())
    assert not same_weights(trained.alg.critic.mlp.state_dict(), fresh.alg.critic.mlp.state_dict())
    assert trained.total_steps == 3 * 8 * NUM_ENVS
    assert list(checkpoints(trained.run_dir)) == [2, 3]
    assert list(trained.run_dir.glob("events.out.tfevents.*"))


def test_exploration_falls_from_the_first_bound_to_the_last(trained: Runner) -> None:
    """The third of three iterations begins two thirds of the way, in factors, from 0.4 to 0.05."""
    bound = 0.4 * (0.05 / 0.4) ** (2.0 / 3.0)
    std = trained.alg.actor.distribution.log_std_param.detach().exp()
    assert 0.8 * bound < float(std.max()) < 1.1 * bound


def test_the_same_seed_trains_the_same_policy(trained: Runner, tmp_path: Path) -> None:
    again = make_runner(tmp_path)
    again.learn(3)
    assert same_weights(trained.alg.actor.state_dict(), again.alg.actor.state_dict())


def test_a_resumed_run_goes_on_with_everything(trained: Runner, tmp_path: Path) -> None:
    runner = make_runner(tmp_path)
    runner.load(str(find_checkpoint(trained.run_dir)))
    assert runner.current_learning_iteration == 3
    assert runner.total_steps == trained.total_steps
    assert same_weights(trained.alg.actor.state_dict(), runner.alg.actor.state_dict())
    assert same_weights(trained.alg.critic.state_dict(), runner.alg.critic.state_dict())
    assert runner.alg.learning_rate == trained.alg.learning_rate
    moments = [alg.optimizer.state_dict()["state"][0]["exp_avg"] for alg in (trained.alg, runner.alg)]
    assert torch.equal(*moments) and bool(moments[0].any())
    assert runner.env.env.common_step_counter == trained.env.env.common_step_counter
    assert runner.alg.warm_up_left == 0
    runner.learn(4)
    assert list(checkpoints(tmp_path)) == [4]


def test_networks_and_optimiser_can_begin_a_new_run(trained: Runner, tmp_path: Path) -> None:
    path = str(find_checkpoint(trained.run_dir))
    runner = make_runner(tmp_path)
    runner.begin_with_checkpoint(path)
    assert runner.current_learning_iteration == 0 and runner.total_steps == 0
    for own, theirs in ((runner.alg.actor, trained.alg.actor), (runner.alg.critic, trained.alg.critic)):
        assert same_weights(theirs.state_dict(), own.state_dict())
    assert runner.alg.optimizer.state and runner.alg.learning_rate == trained.alg.learning_rate
    wide = make_runner(tmp_path, policy={"least_scales": {"joint_vel": {"knee": 7.0}}}, algorithm={"critic_warm_up": 2})
    wide.begin_with_checkpoint(path)
    for own, theirs in ((wide.alg.actor, trained.alg.actor), (wide.alg.critic, trained.alg.critic)):
        scale, before = (model.obs_normalizer.std + model.obs_normalizer.eps for model in (own, theirs))
        torch.testing.assert_close(scale[[5, 7]], torch.full((2,), 7.0))
        others = [column for column in range(11) if column not in (5, 7)]
        torch.testing.assert_close(scale[others], before[others])
        assert same_weights(theirs.mlp.state_dict(), own.mlp.state_dict())
        assert own.obs_normalizer.mean.tolist() == theirs.obs_normalizer.mean.tolist()
    assert wide.alg.critic_warm_up_left == 2


def test_a_policy_begins_a_run_with_scales_that_are_large_enough(trained: Runner, tmp_path: Path) -> None:
    policy = trained.policy()
    groups = trained.env.get_observations()
    runner = make_runner(tmp_path)
    runner.begin_with(policy)
    with torch.no_grad():
        torch.testing.assert_close(runner.alg.actor(groups), policy(groups["policy"]), rtol=0.0, atol=1e-5)
    wide = make_runner(tmp_path, policy={"least_scales": {"joint_vel": {"knee": 7.0}}})
    wide.begin_with(policy)
    normalizer = wide.alg.actor.obs_normalizer
    assert normalizer.mean.tolist() == policy.mean.tolist()
    scale = normalizer.std + normalizer.eps
    knees = torch.tensor([5, 7])
    torch.testing.assert_close(scale[knees], torch.full((2,), 7.0))
    others = torch.tensor([column for column in range(11) if column not in (5, 7)])
    torch.testing.assert_close(scale[others], policy.scale[others])
    other = make_runner(tmp_path, policy={"actor_hidden_dims": (32, 16)})
    with pytest.raises(PolicyError, match=r"those of this training \(32, 16\): say train.policy.actor_hidden_dims"):
        other.begin_with(policy)


def test_a_policy_file_brings_the_critic_of_its_training_along(trained: Runner, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    save_policy(trained.policy(), path)
    groups = trained.env.get_observations()
    runner = make_runner(tmp_path)
    assert runner.begin_with(load_policy(path))
    with torch.no_grad():
        torch.testing.assert_close(runner.alg.critic(groups), trained.alg.critic(groups), rtol=0.0, atol=1e-5)
    # One that sees something else, or is of another size, does not fit.
    elsewhere = load_policy(path)
    elsewhere.description.config["observations"]["privileged"].reverse()
    smaller = make_runner(tmp_path, policy={"critic_hidden_dims": (16, 8)})
    for other, policy in ((make_runner(tmp_path), elsewhere), (smaller, load_policy(path))):
        before = {name: value.clone() for name, value in other.alg.critic.state_dict().items()}
        assert not other.begin_with(policy)
        assert same_weights(before, other.alg.critic.state_dict())
    paths = list(checkpoints(trained.run_dir).values())
    critics = [policy_of_checkpoint(path).critic for path in paths]
    mean = average_policies([policy_of_checkpoint(path) for path in paths]).critic
    assert mean.keys() == trained.policy().critic.keys()
    for name, value in mean.items():
        torch.testing.assert_close(value, torch.stack([critic[name] for critic in critics]).mean(dim=0))


def test_wider_networks_begin_as_the_narrower_ones_they_come_from(trained: Runner, tmp_path: Path) -> None:
    wide = {"actor_hidden_dims": (512, 160, 96), "critic_hidden_dims": (320, 256, 64)}
    runner = make_runner(tmp_path, policy=wide)
    assert runner.begin_with(trained.policy())
    groups = trained.env.get_observations()
    with torch.no_grad():
        torch.testing.assert_close(runner.alg.actor(groups), trained.alg.actor(groups), rtol=0.0, atol=1e-5)
        torch.testing.assert_close(runner.alg.critic(groups), trained.alg.critic(groups), rtol=0.0, atol=1e-5)


def test_a_critic_begins_to_see_more(trained: Runner, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    save_policy(trained.policy(), path)
    policy = load_policy(path)
    privileged = policy.description.config["observations"]["privileged"]
    assert privileged
    privileged.pop()
    more, columns = OBSERVED["commands"], sum(OBSERVED.values())
    policy.critic = {
        name: value[:, :-more] if value.dim() == 2 and value.shape[1] == columns else value
        for name, value in policy.critic.items()
    }
    runner = make_runner(tmp_path)
    assert runner.begin_with(policy)
    groups = trained.env.get_observations()
    blind = groups.clone()
    blind["critic"][:, -more:] = trained.alg.critic.obs_normalizer.mean[-more:]
    with torch.no_grad():
        torch.testing.assert_close(runner.alg.critic(groups), trained.alg.critic(blind), rtol=0.0, atol=1e-5)


def test_a_run_goes_on_from_the_mean_of_its_checkpoints(tmp_path: Path) -> None:
    policies = []
    for interval in (0, 4):
        runner = make_runner(tmp_path / str(interval), runner={"averaging_interval": interval})
        runner.learn(4)
        policies.append([policy_of_checkpoint(path) for path in checkpoints(runner.run_dir).values()])
    wandered, mean = policies
    assert same_weights(wandered[0].state_dict(), mean[0].state_dict())
    expected = average_policies(wandered).state_dict()
    assert not same_weights(expected, wandered[1].state_dict())
    for policy in (mean[1], runner.policy()):
        for name, value in policy.state_dict().items():
            torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
    runner.learn(5)
    assert not same_weights(expected, runner.policy().state_dict())


def test_a_policy_is_widened_by_channels_it_does_not_listen_to(trained: Runner, tmp_path: Path) -> None:
    policy = trained.policy()
    own = policy.description.observations
    name, size, factor = own[0]
    wider = policy.widened(((name, size + 2, factor), *own[1:]))
    observations = torch.randn(8, policy.description.num_observations)
    more = torch.cat((observations[:, :size], torch.randn(8, 2), observations[:, size:]), dim=1)
    torch.testing.assert_close(wider(more), policy(observations))
    save_policy(wider, tmp_path / "wider.safetensors")
    assert load_policy(tmp_path / "wider.safetensors").description.num_observations == more.shape[1]
    assert not wider.critic
    before = torch.randn(8, 2 * policy.description.num_observations)
    longer = policy.widened(own * 3)
    torch.testing.assert_close(longer(torch.cat((before, observations), dim=1)), policy(observations))
    assert longer.critic.keys() == policy.critic.keys() and policy.critic
    assert torch.equal(longer.scale, policy.scale.repeat(3))
    assert policy.widened(own) is policy
    for other in (
        own[1:],
        ((name, size - 1, factor), *own[1:]),
        ((name, size, 2.0 * factor), *own[1:]),
        (*own[1:], *own),
    ):
        assert policy.widened(other) is policy
    runner = make_runner(tmp_path)
    runner.description = wider.description
    with pytest.raises(PolicyError, match="the network of the policy cannot begin one here"):
        runner.begin_with(policy)


def test_the_critic_learns_alone_first(tmp_path: Path) -> None:
    runner = make_runner(tmp_path, algorithm={"critic_warm_up": 2})
    weights, rates = [], []
    for iterations in (1, 3, 4):  # the first one measures the observations
        runner.learn(iterations)
        nets = (runner.alg.actor, runner.alg.critic)
        weights.append([dense_state(net)["mlp.2.weight"].clone() for net in nets])
        rates.append(runner.alg.learning_rate)
    assert rates[0] == rates[1], "a policy that does not change says nothing of the rate"
    assert torch.equal(weights[0][0], weights[1][0]) and not torch.equal(weights[0][1], weights[1][1])
    assert not torch.equal(weights[1][0], weights[2][0])
    resumed = make_runner(tmp_path, algorithm={"critic_warm_up": 2})
    resumed.load(str(find_checkpoint(tmp_path)))
    assert resumed.alg.critic_warm_up_left == 0


def test_smoothness_counts_within_episodes_and_makes_a_policy_smoother(tmp_path: Path) -> None:
    def changes(runner: Runner) -> torch.Tensor:
        """Of the mean action from each stored step to the next, squared and summed, (steps - 1, num_envs)."""
        runner.alg.actor.eval()
        with torch.no_grad():
            means = torch.stack([runner.alg.actor(groups) for groups in runner.alg.storage.observations])
        return (means[1:] - means[:-1]).square().sum(dim=-1)

    trembles = []
    for name, weight in (("rough", 0.0), ("smooth", 100.0)):
        runner = make_runner(tmp_path / name, algorithm={"smoothness_coef": weight, "num_mini_batches": 1})
        runner.learn(8)
        trembles.append(float(changes(runner).mean()))
        if weight:
            storage = runner.alg.storage
            samples = runner.alg._samples(storage.num_envs * storage.num_transitions_per_env)
            ended = storage.dones[:-1].squeeze(-1).bool()
            assert bool(ended.any()), "episodes end amid what is stored"
            assert int(samples["goes_on"].sum()) == int((~ended).sum())
            with torch.no_grad():
                change = runner.alg._forward(runner.alg._raw_actor, samples["next_actor"])
                change = (change - runner.alg._forward(runner.alg._raw_actor, samples["actor"])).square().sum(dim=1)
            wanted = (changes(runner) * ~ended).sum()
            # The hidden layers of an update are bfloat16 where that pays.
            torch.testing.assert_close((change * samples["goes_on"]).sum(), wanted, rtol=0.01, atol=0.0)
    assert trembles[1] < 0.5 * trembles[0]
    with pytest.raises(ValueError, match=r"smoothness_coef: needs policy\.symmetric=True"):
        make_runner(tmp_path / "other", policy={"symmetric": False}, algorithm={"smoothness_coef": 1.0})


def test_the_policy_of_a_checkpoint_acts_like_the_actor(trained: Runner) -> None:
    policy = policy_of_checkpoint(find_checkpoint(trained.run_dir))
    groups = trained.env.get_observations()
    with torch.no_grad():
        torch.testing.assert_close(policy(groups["policy"]), trained.alg.actor(groups), rtol=0.0, atol=1e-6)


def test_an_old_optimum_is_kept_when_the_statistics_move(trained: Runner) -> None:
    algorithm, groups = trained.alg, trained.env.get_observations()
    storage = algorithm.storage
    with torch.no_grad():
        before = algorithm.actor(groups), algorithm.critic(groups)
        mean = algorithm.actor.obs_normalizer.mean
        for value in storage.observations.values():
            value.normal_().mul_(3.0).add_(1.0)
        algorithm._follow_normalizers()
        after = algorithm.actor(groups), algorithm.critic(groups)
    assert float((algorithm.actor.obs_normalizer.mean - mean).abs().max()) > 0.1
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-4)


def test_the_two_sides_are_treated_alike(trained: Runner) -> None:
    env, groups = trained.env, trained.env.get_observations()
    mirrored = {name: env.mirror_observations(value, name) for name, value in groups.items()}
    with torch.no_grad():
        actions, values = trained.alg.actor(groups), trained.alg.critic(groups)
        assert float(actions.abs().mean()) > 0.001
        torch.testing.assert_close(trained.alg.actor(mirrored), env.mirror_actions(actions), rtol=0.0, atol=1e-5)
        torch.testing.assert_close(trained.alg.critic(mirrored), values, rtol=0.0, atol=1e-5)


def test_an_ordinary_network_learns_from_mirror_images_by_rsl_rl(tmp_path: Path) -> None:
    runner = make_runner(tmp_path, policy={"symmetric": False})
    symmetry, env = runner.alg.symmetry, runner.env
    assert symmetry is not None and symmetry.use_data_augmentation
    groups, actions = env.get_observations(), torch.randn(NUM_ENVS, env.num_actions)
    both, twice = with_mirror_images(env, groups, actions)
    assert both is not None and twice is not None and both.batch_size == (2 * NUM_ENVS,)
    for name, values in groups.items():
        assert torch.equal(both[name][:NUM_ENVS], values)
        assert torch.equal(both[name][NUM_ENVS:], env.mirror_observations(values, name))
    assert torch.equal(twice, torch.cat((actions, env.mirror_actions(actions))))
    before = {name: value.clone() for name, value in runner.alg.actor.mlp.state_dict().items()}
    runner.learn(2)
    assert not same_weights(before, runner.alg.actor.mlp.state_dict())
    assert make_runner(tmp_path, policy={"symmetric": False}, algorithm={"mirrored": False}).alg.symmetry is None


class Notes(LogWriter):
    """A writer as a user may plug one in."""

    def __init__(self, log_dir: str) -> None:
        self.notes: list[tuple[str, int]] = []
        self.configs: tuple[Any, Any] = (None, None)
        self.models: list[str] = []
        self.stopped = False
        written.append(self)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        assert math.isfinite(float(scalar_value))
        self.notes.append((tag, global_step))

    def store_config(self, env_cfg: Any, train_cfg: dict[str, Any]) -> None:
        self.configs = (env_cfg.to_dict(), train_cfg)

    def save_model(self, model_path: str, it: int) -> None:
        assert Path(model_path).is_file()
        self.models.append(Path(model_path).name)

    def stop(self) -> None:
        self.stopped = True


written: list[Notes] = []


def test_a_writer_that_is_plugged_in_gets_curves_models_and_configuration(tmp_path: Path) -> None:
    runner = make_runner(tmp_path, runner={"logger": f"{__name__}:Notes"})
    runner.learn(3)
    writer = written[-1]
    tags = {tag for tag, _ in writer.notes}
    assert {"Loss/surrogate", "Loss/learning_rate", "Policy/mean_std", "Perf/total_fps", "Perf/total_steps"} <= tags
    assert {step for tag, step in writer.notes if tag == "Perf/total_steps"} == {1, 2, 3}
    assert writer.models == ["model_2.pt", "model_3.pt"] and writer.stopped
    environment, training = writer.configs
    assert environment["env"]["num_envs"] == 512 or environment["env"]["num_envs"] == NUM_ENVS
    json.dumps({name: value for name, value in training.items() if name != "logger"})
    assert not list(tmp_path.glob("events.*")) and not (tmp_path / "git").exists()


def test_weights_and_biases_gets_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    make_runner(tmp_path, runner={"logger": "wandb", "project": "mine"}).learn(2)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb")) and (tmp_path / "model_2.pt").is_file()


@pytest.mark.parametrize(
    ("logger", "message"),
    [("neptune", "needs neptune, which is not installed"), ("nobody", "neither tensorboard, wandb, neptune nor")],
)
def test_a_writer_that_is_not_there_is_refused_before_anything_is_made(
    tmp_path: Path, logger: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_runner(tmp_path, runner={"logger": logger})


def test_a_resumed_run_hides_what_a_killed_one_wrote_later(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = make_runner(tmp_path)
    first.learn(3)
    resumed = make_runner(tmp_path)
    resumed.load(str(find_checkpoint(tmp_path, "2")))
    resumed.learn(4)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("Perf/total_steps")] == [1, 2, 3, 4]


def test_divergence_is_an_error(trained: Runner, tmp_path: Path) -> None:
    runner = make_runner(tmp_path)
    runner.alg.warm_up_left = 0
    with torch.no_grad():
        runner.alg.critic.mlp[-1].bias.fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match="finite"):
        runner.learn(1)
    assert not checkpoints(tmp_path)


def test_the_threads_of_torch_are_as_before_after_an_update(trained: Runner) -> None:
    torch.set_num_threads(1)
    trained.alg.update_threads = 2
    trained._collect(trained.env.get_observations())
    trained.alg.update()
    assert torch.get_num_threads() == 1


def test_checkpoints_that_do_not_fit_are_refused(trained: Runner, tmp_path: Path) -> None:
    path = str(find_checkpoint(trained.run_dir))
    names = [name for name, _, _ in trained.description.observations if name != "commands"]
    with pytest.raises(PolicyError, match="it takes 3 observations, the task has 2"):
        make_runner(tmp_path, make_env(tuple(names))).load(path)
    env = make_env()
    env.dof_names = ["left_wheel_joint", *env.dof_names[1:]]
    with pytest.raises(PolicyError, match=r"another robot.*lacks left_wheel_joint.*has left_hip_pitch_joint"):
        make_runner(tmp_path, env).load(path)
    with pytest.raises(PolicyError, match="networks are others"):
        make_runner(tmp_path, policy={"actor_hidden_dims": (32, 32)}).load(path)
    with pytest.raises(PolicyError, match="no such checkpoint"):
        trained.load(str(tmp_path / "absent.pt"))
    bad = tmp_path / "bad.pt"
    bad.write_bytes(Path(path).read_bytes()[:1000])
    with pytest.raises(PolicyError, match=r"truncated, damaged or not a file of torch\.save"):
        trained.load(str(bad))


def test_runs_and_checkpoints_are_found(trained: Runner, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        find_run(tmp_path)
    run = trained.run_dir
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "empty").mkdir()
    link = tmp_path / "logs" / "mine"
    link.symlink_to(run)
    assert find_run(tmp_path / "logs") == find_run(tmp_path / "logs", "mine") == link
    assert find_checkpoint(run, "2").name == "model_2.pt"
    with pytest.raises(RunError, match="no checkpoint of iteration 7; there are: 2, 3"):
        find_checkpoint(run, "7")
    with pytest.raises(RunError, match=r"no run 'other' .*; there are: empty, mine"):
        find_run(tmp_path / "logs", "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write there"):
        new_run(tmp_path / "file", "mine")


def train(log_dir: Path, *arguments: object) -> list[str]:
    settings = ["train.runner.num_steps_per_env=8", "train.runner.save_interval=1"]
    settings += [
        "reference.mode=realtime",
        "train.runner.evaluation_interval=0",
        "train.policy.normalizer_warmup_steps=128",
    ]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--num_envs", str(NUM_ENVS)]
    return [*command, "--log_dir", str(log_dir), *map(str, arguments), *settings]


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        train(tmp_path, "--max_iterations", 100000, "--run_name", "mine", "rewards.scales.alive=2.5"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    ) as process:
        for _ in range(600):
            runs = list(tmp_path.glob("*_mine"))
            if runs and len(checkpoints(runs[0])) >= 3:
                break
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        output = process.communicate()[0].decode()
    (run,) = tmp_path.glob("*_mine")
    reached = max(checkpoints(run), default=0)
    assert reached >= 3, output
    result = subprocess.run(
        train(tmp_path, "--resume", "--max_iterations", reached + 2), capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert f"iteration {reached}" in result.stdout
    assert max(checkpoints(run)) == reached + 2
    config = json.loads((run / "config.json").read_text())
    assert config["environment"]["rewards"]["scales"]["alive"] == 2.5
    assert len(config["git"].get("commit", 40 * "0")) == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "g1_cng"], "did you mean 'g1_cmg'"),
        (["rewards.scales.alife=1"], "did you mean 'alive'"),
        (["train.algorithm.gama=1"], "did you mean 'gamma'"),
        (["--resume"], "holds no run"),
        (["--initial", "absent.pt"], "absent.pt: no such checkpoint"),
        (["--log_dir", "/proc/none"], "cannot write there"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import runpy

    monkeypatch.setattr(sys, "argv", train(tmp_path, *arguments)[1:])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "scripts" / "train.py"), run_name="__main__")
    assert str(stop.value).startswith("train: ") and message in str(stop.value)
    assert "\n" not in str(stop.value)


def test_processes_go_on_with_random_numbers_of_their_own(tmp_path: Path) -> None:
    env: Any = task_registry.make_env("g1_cmg", num_envs=4)[0]
    path, drawn = tmp_path / "model.pt", []
    make_runner(tmp_path, env).save(str(path))
    for rank in (0, 1, 2):
        runner = make_runner(tmp_path, env)
        runner.gpu_global_rank = rank
        runner.load(str(path))
        generators = (torch.default_generator, env.generator, env.command_sampler.generator)
        numbers = tuple(float(torch.rand(1, generator=generator)) for generator in generators)
        drawn.append((*numbers, tuple(env.command_source.targets.flatten().tolist()), tuple(env.dof_pos[0].tolist())))
    assert all(len(set(part)) == 3 for part in zip(*drawn, strict=True))


def test_two_processes_train_together(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    # One of them evaluates and averages in between, which must not part them.
    between = ["train.runner.evaluation_interval=1", "train.runner.averaging_interval=1"]
    between += ["train.evaluation.rollouts=1", "train.evaluation.duration=4"]
    result = subprocess.run(
        [*command, *train(tmp_path, "--max_iterations", 2, "--run_name", "pair")[1:], *between],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,  # processes that have parted wait for one another for ever
    )
    assert result.returncode == 0, result.stderr
    (run,) = tmp_path.glob("*_pair")
    state = torch.load(run / "model_2.pt", weights_only=True)
    assert state["total_steps"] == 2 * 2 * 8 * NUM_ENVS
    # The observations of both processes, and how each looks in a mirror, are in the statistics.
    assert int(state["actor_state_dict"]["obs_normalizer.count"]) == 2 * state["total_steps"]
    assert [row["iteration"] for row in json.loads((run / "evaluations.json").read_text())] == [1, 2]


@pytest.mark.parametrize("mean_score", [0.3, 0.6])
def test_the_best_policy_is_kept_by_evaluation(tmp_path: Path, mean_score: float) -> None:
    runner = make_runner(tmp_path)
    runner.cfg["save_interval"] = 1
    scores = iter((0.2, 0.5, 0.4, mean_score))
    judged: list[Policy] = []
    results: list[float] = []

    class Scored:
        def __init__(self) -> None:
            self.score = next(scores)
            results.append(self.score)

        def to_json(self) -> list[dict[str, Any]]:
            return [{"name": "stand", "survival": self.score, "lin_vel_error": None, "yaw_rate_error": None}]

        def summary(self) -> str:
            return ""

    def evaluate(policy: Policy) -> Any:
        judged.append(policy)
        return Scored()

    runner.evaluate = evaluate
    runner.evaluation_interval = 1
    runner.learn(3)
    assert results == [0.2, 0.5, 0.4, mean_score] and runner.best_score == 0.5
    assert [row["score"] for row in json.loads((tmp_path / "evaluations.json").read_text())] == results[:3]
    assert torch.load(tmp_path / "best.pt", weights_only=True)["iter"] == 2
    # At the end the mean of the checkpoints is measured too.
    states = [policy.state_dict() for policy in judged]
    for name, value in states[3].items():
        torch.testing.assert_close(value, sum(state[name] for state in states[:3]) / 3)
    best, number = load_policy(tmp_path / "best_policy.safetensors"), 3 if mean_score > 0.5 else 1
    assert best.description.notes["score"] == results[number]
    assert all(torch.equal(value, states[number][name]) for name, value in best.state_dict().items())
    # What is noted of the best is not said of checkpoints after it.
    assert not any(policy_of_checkpoint(path).description.notes for path in tmp_path.glob("*.pt"))
    resumed = make_runner(tmp_path)
    resumed.load(str(find_checkpoint(tmp_path)))
    assert resumed.best_score == results[number], "a worse policy must not replace the mean"
