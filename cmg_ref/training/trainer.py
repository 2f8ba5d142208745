"""Training of the CMG: configuration, batches, validation, checkpoints and resumption."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY, CommandLayout, told_to_stand
from cmg_ref.core.shorten import reason, shortened
from cmg_ref.evaluation.checkpoint_evaluation import COMPARED_COMMANDS
from cmg_ref.evaluation.gait_evaluation import evaluate_gait
from cmg_ref.evaluation.mocap_statistics import mocap_figures
from cmg_ref.files.atomic_file import buffered_file
from cmg_ref.files.json_text import parse_json
from cmg_ref.network.checkpoint import Checkpoint, CheckpointError, save_checkpoint
from cmg_ref.network.legacy_checkpoint import load_torch_file
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.robots.robot import Robot
from cmg_ref.training.loss_terms import SLIP_FRAMES, TERMS, default_weights
from cmg_ref.training.normalisation import channel_weights, set_statistics
from cmg_ref.training.objective import RollOutObjective
from cmg_ref.training.rolled_out import Batch
from cmg_ref.training.validation import Validation
from cmg_ref.training.window_sampler import WindowSampler

RESTART_SHARE, CHANGE_SHARE = 0.05, 0.15  # matched rows that restart from a recording or get a new command in a step
STANDING_SHARE = 0.08  # matched rows that restart from standing, with a slow command along one axis, in a step
LOST_DISTANCE = 2.5  # matched rows further than this from recorded state and wanted command (or not finite) restart too
GAIT_SECONDS = 20.0  # roll-outs by which checkpoints are chosen are shorter than those that make their figures
TRAINING_STATE = "training_state.pt"
_STATE_KEYS = {"config", "iteration", "best_score", "typical_norm", "history", "model", "average", "optimizer"}
_STATE_KEYS |= {"generators", "own_states", "wanted"}
SKIP_FACTOR = 5.0  # steps whose gradient is this many times the usual norm are left out


# Lowest and highest value of the settings.
_BOUNDS = {
    "iterations": (1, 10**8),
    "batch_size": (1, 2**20),
    "horizon_start": (1, 10**4),
    "horizon_end": (1, 10**4),
    "horizon_growth": (0.0, 1.0),
    "still_share": (0.0, 1.0),
    "matched_share": (0.0, 1.0),
    "matched_after": (0.0, 1.0),
    "learning_rate": (0.0, 10.0),
    "final_learning_rate": (0.0, 10.0),
    "warm_up": (1, 10**8),
    "gradient_clip": (1e-9, 1e9),
    "input_noise": (0.0, 100.0),
    "average_decay": (0.0, 1.0),
    "balance": (0.0, 10.0),
    "validate_every": (1, 10**8),
    "save_every": (1, 10**8),
    "seed": (0, 2**32 - 1),
}
_MAX_WEIGHT = 1e9


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    Attributes:
        iterations: optimiser steps.
        batch_size: roll-outs in a step, over all processes.
        horizon_start: frames of a roll-out at first.
        horizon_end: frames of a roll-out once it has grown.
        horizon_growth: share of the iterations during which it grows, linearly.
        still_share: share of the rows that must stand still.
        matched_share: share of the rows that start from the model's own states, once it has learnt to move.
        matched_after: share of the iterations during which there are no such rows.
        learning_rate: highest learning rate; a cosine takes it down to ``final_learning_rate``.
        final_learning_rate: last learning rate.
        warm_up: iterations over which the learning rate rises.
        gradient_clip: largest norm of the gradient.
        input_noise: largest standard deviation of the noise on initial states, in standard deviations of the state.
        average_decay: decay of the running average of the weights, which is what gets validated and shipped.
        balance: see :class:`WindowSampler`.
        command_min, command_max: range of commands to train on and to declare as trained.
        mixed_precision: bfloat16 matrix products.
        validate_every, save_every: iterations between validations and between saved training states.
        seed: seed of weights and batches.
        model: architecture.
        weights: weights of the loss terms, see :data:`TERMS`; one that is not named is left out.
    """

    iterations: int = 4000
    batch_size: int = 320
    horizon_start: int = 8
    horizon_end: int = 48
    horizon_growth: float = 0.35
    still_share: float = 0.05
    matched_share: float = 0.25
    matched_after: float = 0.6
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warm_up: int = 100
    gradient_clip: float = 1.0
    input_noise: float = 0.15
    average_decay: float = 0.997
    balance: float = 0.5
    command_min: tuple[float, ...] = CommandLayout().lowest
    command_max: tuple[float, ...] = CommandLayout().highest
    mixed_precision: bool = True
    validate_every: int = 250
    save_every: int = 100
    seed: int = 1
    model: CMGConfig = field(default_factory=CMGConfig)
    weights: dict[str, float] = field(default_factory=default_weights)

    def validate(self) -> None:
        """Raise a ValueError that names the first field with an impossible value."""
        for name, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"TrainConfig.{name} must be from {low:g} to {high:g}, got {shortened(getattr(self, name))}"
                )
        for name, weight in self.weights.items():
            if name not in TERMS:
                raise ValueError(f"TrainConfig.weights: there is no loss {shortened(name)}, only {', '.join(TERMS)}")
            if not 0.0 <= weight <= _MAX_WEIGHT:
                raise ValueError(f"TrainConfig.weights['{name}'] must be 0 to {_MAX_WEIGHT:g}, got {shortened(weight)}")
        if self.horizon_start <= SLIP_FRAMES:
            raise ValueError(f"TrainConfig.horizon_start must exceed {SLIP_FRAMES}, got {self.horizon_start}")
        if self.horizon_end < self.horizon_start:
            raise ValueError(
                f"TrainConfig.horizon_end ({self.horizon_end}) is below horizon_start ({self.horizon_start})"
            )
        if not 0.0 <= self.still_share + self.matched_share < 1.0 or min(self.still_share, self.matched_share) < 0.0:
            raise ValueError("TrainConfig.still_share and matched_share must leave room for recorded rows")
        self.model.validate()

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> TrainConfig:
        """The configuration saved with a run; raises TypeError on an unknown field."""
        fields = dict(fields, model=CMGConfig(**fields["model"]), weights=dict(fields["weights"]))
        fields.update({name: tuple(fields[name]) for name in ("command_min", "command_max")})
        return cls(**fields)

    def horizon(self, iteration: int) -> int:
        """Frames of a roll-out at an iteration."""
        progress = min(1.0, iteration / max(1.0, self.horizon_growth * self.iterations))
        return round(self.horizon_start + progress * (self.horizon_end - self.horizon_start))

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate at an iteration: linear warm-up, then a cosine."""
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, iteration / self.iterations)))
        rate = self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * cosine
        return rate * min(1.0, (iteration + 1) / self.warm_up)


class Trainer:
    """Trains a CMG on a dataset and keeps the best checkpoint of the run.

    Args:
        dataset: motion data with held-out clips.
        robot: robot of the data.
        config: settings.
        run_dir: folder for ``training_state.pt``, ``best.safetensors``, ``last.safetensors`` and TensorBoard events;
            a training state found there is resumed.
        device: device to train on.
        rank: index of this process among ``world_size`` processes of ``torch.distributed``.
        world_size: number of processes; each takes its share of the batch.
        initial: checkpoint whose weights a new run starts from; statistics are measured anew on the dataset.

    Raises:
        ValueError: impossible settings, or joints of dataset and robot differ.
    """

    def __init__(
        self,
        dataset: MotionDataset,
        robot: Robot,
        config: TrainConfig,
        run_dir: Path,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        initial: Checkpoint | None = None,
    ) -> None:
        config.validate()
        if tuple(dataset.joint_names) != tuple(robot.joint_names):
            raise ValueError(
                f"the joints of the dataset, of the robot {dataset.robot}, are not those of the robot "
                f"{robot.spec.name}, in its order"
            )
        if config.batch_size < 4 * world_size:
            raise ValueError(f"TrainConfig.batch_size is {config.batch_size}: {world_size} processes need 4 rows each")
        self.config, self.dataset, self.robot, self.run_dir = config, dataset, robot, Path(run_dir)
        self.device, self.rank, self.world_size = device, rank, world_size
        torch.manual_seed(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed * 1000 + rank)
        self.command_layout = dataset.command_layout
        # A channel that the settings say nothing of is trained within its usual range.
        command_min = (*config.command_min, *self.command_layout.lowest[len(config.command_min) :])
        command_max = (*config.command_max, *self.command_layout.highest[len(config.command_max) :])
        if not len(command_min) == len(command_max) == self.command_layout.size:
            raise ValueError(f"TrainConfig.command_min and command_max have more numbers than {self.command_layout}")
        self.sampler = WindowSampler(dataset, robot, config.horizon_end + 1, command_min, command_max, config.balance)
        model = CMG(config.model, dataset.layout, dataset.fps, self.command_layout)
        if initial is not None:
            _check_initial(initial, model, dataset)
            model.load_state_dict(initial.model.state_dict())
        acceleration_limit = set_statistics(model, self.sampler, robot, command_min, command_max)
        self.objective = RollOutObjective(
            model.to(device),
            robot,
            config.weights,
            channel_weights(dataset.layout).to(device),
            acceleration_limit.to(device),
            config.mixed_precision,
        ).to(device)
        self.model = model
        self.average = {name: value.detach().clone() for name, value in model.named_parameters()}
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=1e-4)
        rows = config.batch_size // world_size
        self.num_still = round(rows * config.still_share)
        self.num_matched = round(rows * config.matched_share)
        self.num_rows = rows
        # Where the matched rows have got to, and the commands wanted of them.
        self.own_states = self.sampler.sample(self.num_matched, self.generator)[0][:, 0]
        self.wanted = self.command_layout.rest(self.num_matched)
        # How far their commands have been missed since they were given, and for how long they have stood, see `Batch`.
        self.drift, self.waiting = torch.zeros(self.num_matched, NUM_VELOCITIES), torch.zeros(self.num_matched)
        self.validation = Validation(dataset, robot, command_min, command_max)
        self.mocap = mocap_figures(dataset, robot, COMPARED_COMMANDS) if rank == 0 else None
        self.iteration, self.best_score, self.typical_norm = 0, float("inf"), 5.0
        self.history: list[dict[str, float]] = []
        if (self.run_dir / TRAINING_STATE).is_file():
            self._restore()
        self.parallel: torch.nn.Module = self.objective
        if world_size > 1:
            self.parallel = DistributedDataParallel(self.objective)

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns the unweighted loss terms."""
        config = self.config
        rate = config.learning_rate_at(self.iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        horizon = config.horizon(self.iteration)
        batch = self._batch(horizon)
        loss, states, terms = self.parallel(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        # A gradient far above the usual (or not finite) comes from a roll-out that ran away; its direction is noise.
        skipped = not float(norm) <= SKIP_FACTOR * self.typical_norm
        if not skipped:
            self.optimizer.step()
        if math.isfinite(float(norm)):
            self.typical_norm += 0.02 * (min(float(norm), 2.0 * self.typical_norm) - self.typical_norm)
        decay = min(config.average_decay, (1.0 + self.iteration) / (10.0 + self.iteration))
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                self.average[name].lerp_(value, 1.0 - decay)
        report = {name: float(value) for name, value in terms.items()}
        report.update(loss=float(loss.detach()), learning_rate=rate, horizon=float(horizon))
        report.update(gradient_norm=float(norm), skipped=float(skipped))
        if len(batch.drift):
            self._follow_rows(states[batch.matched].detach(), batch.commands[batch.matched])
        self.iteration += 1
        return report

    def _follow_rows(self, states: torch.Tensor, commands: torch.Tensor) -> None:
        """Note where the matched rows have got to: states (num_matched, horizon, state_dim) and their commands."""
        self.own_states = states[:, -1].cpu()
        layout, time = self.model.layout, states.shape[1] / self.model.fps
        velocity = torch.cat((states[..., layout["root_lin_vel_h"]][..., :2], states[..., layout["root_yaw_rate"]]), -1)
        self.drift = self.drift + time * (velocity - commands[..., VELOCITY]).mean(dim=1).cpu()
        self.waiting = torch.where(told_to_stand(self.wanted), self.waiting + time, 0.0 * self.waiting)

    def _batch(self, horizon: int) -> Batch:
        """The input of one step."""
        config, generator = self.config, self.generator
        num_matched = self.num_matched if self.iteration >= config.matched_after * config.iterations else 0
        num_recorded = self.num_rows - self.num_still - num_matched
        states, commands = self.sampler.sample(num_recorded, generator)
        amount = config.input_noise * torch.rand(num_recorded, 1, generator=generator)
        noise = amount * torch.randn(num_recorded, states.shape[-1], generator=generator)
        initial = [self.model.guard(states[:, 0].to(self.device) + noise.to(self.device) * self.model.motion_std)]
        if num_matched:
            matched_states, matched_commands = self._matched_rows()
            states, commands = torch.cat((states, matched_states)), torch.cat((commands, matched_commands))
            initial.append(self.own_states.to(self.device))
        still, still_commands = self.sampler.sample_still(self.num_still, generator)
        initial.append(still.to(self.device))
        still_commands = still_commands.unsqueeze(1).expand(-1, horizon, -1)
        return Batch(
            initial=torch.cat(initial),
            commands=torch.cat((commands[:, 1 : horizon + 1], still_commands)).to(self.device),
            targets=states[:, 1 : horizon + 1].to(self.device),
            drift=self.drift[:num_matched].to(self.device),
            waiting=self.waiting[:num_matched].to(self.device),
        )

    def _matched_rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Recorded windows most like the model's own states, and the commands to give (num_matched, length, ...)."""
        generator, count = self.generator, self.num_matched
        restart = torch.rand(count, 1, generator=generator) < RESTART_SHARE
        self.own_states = torch.where(restart, self.sampler.sample(count, generator)[0][:, 0], self.own_states)
        # In recordings few motions begin from standing, and roll-outs mostly do.
        stand = torch.rand(count, 1, generator=generator) < STANDING_SHARE
        self.own_states = torch.where(stand, self.sampler.sample_still(count, generator)[0], self.own_states)
        change = torch.rand(count, 1, generator=generator) < CHANGE_SHARE
        self.wanted = torch.where(change, self._random_commands(count), self.wanted)
        self.wanted = torch.where(stand, self._slow_commands(count), self.wanted)
        anew = (restart | stand | change).squeeze(1)
        self.drift[anew], self.waiting[anew] = 0.0, 0.0
        model = self.model
        unit = model.motion_std.cpu() / self.objective.instruments.channel_weights.cpu().sqrt()
        states, commands, distance = self.sampler.match(self.own_states, self.wanted, unit, generator)
        lost = ~(distance <= LOST_DISTANCE)
        self.own_states = torch.where(lost.unsqueeze(1), states[:, 0], self.own_states)
        self.drift[lost] = 0.0
        # Half of the rows get the recorded command of each frame, the others the one command that was wanted.
        plain = torch.rand(count, 1, 1, generator=generator) < 0.5
        return states, torch.where(plain, self.wanted.unsqueeze(1), commands)

    def _random_commands(self, count: int) -> torch.Tensor:
        """Commands (count, command_dim): recorded, standing, along one or two axes, or anywhere in their range."""
        generator = self.generator
        low, high = self.model.command_min.cpu(), self.model.command_max.cpu()
        recorded = torch.minimum(torch.maximum(self.sampler.sample_commands(count, generator), low), high)
        anywhere = low + (high - low) * torch.rand(count, len(low), generator=generator)
        axes = torch.ones(4, len(low))
        axes[:, VELOCITY] = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
        along = anywhere * axes[torch.randint(len(axes), (count,), generator=generator)]
        kind = torch.rand(count, 1, generator=generator)
        commands = torch.where(kind < 0.4, recorded, torch.where(kind < 0.75, along, anywhere))
        standing = torch.cat((torch.zeros(count, NUM_VELOCITIES), commands[:, NUM_VELOCITIES:]), dim=1)
        return torch.where(kind > 0.87, standing, commands)

    def _slow_commands(self, count: int) -> torch.Tensor:
        """Commands (count, command_dim) along one axis, as often one way as the other: few starts go backwards."""
        low, high = self.model.command_min.cpu()[VELOCITY], self.model.command_max.cpu()[VELOCITY]
        largest = torch.minimum(-low, high).clamp(min=0.0)
        axis = torch.eye(NUM_VELOCITIES)[torch.randint(NUM_VELOCITIES, (count,), generator=self.generator)]
        along = axis * largest * (2.0 * torch.rand(count, 1, generator=self.generator) - 1.0)
        return self.command_layout.complete(along)

    def averaged_model(self) -> CMG:
        """A copy of the model with the running average of the weights, on the CPU."""
        model = CMG(self.config.model, self.dataset.layout, self.dataset.fps, self.command_layout)
        model.load_state_dict({**self.model.state_dict(), **self.average})
        return model.cpu().eval().requires_grad_(False)

    def validate(self) -> dict[str, float]:
        """Measure the averaged model; save it as the best one if its score is the lowest so far."""
        model = self.averaged_model()
        report = self.validation.run(model)
        checkpoint = self._checkpoint(model, report)
        report["shortfall"] = evaluate_gait(checkpoint, self.robot, self.mocap, seconds=GAIT_SECONDS).shortfall()
        report["score"] += report["shortfall"]
        self.history.append({"iteration": float(self.iteration), **report})
        save_checkpoint(checkpoint, self.run_dir / "last.safetensors")
        if report["score"] < self.best_score:
            self.best_score = report["score"]
            save_checkpoint(checkpoint, self.run_dir / "best.safetensors")
        return report

    def _checkpoint(self, model: CMG, report: dict[str, float]) -> Checkpoint:
        states, commands = self.validation.initial_bank(model, self.sampler)
        return Checkpoint(
            model=model,
            joint_names=tuple(self.dataset.joint_names),
            initial_states=states,
            initial_commands=commands,
            metadata={
                "robot": self.robot.spec.name,
                "training": {"config": asdict(self.config), "iteration": self.iteration},
                "data": self.dataset.description(),
                "validation": report,
                "mocap": self.mocap,
            },
        )

    def save(self) -> None:
        """Write the training state in one step, so that a kill at any moment leaves a usable one."""
        state = {
            "config": json.dumps(asdict(self.config)),
            "iteration": self.iteration,
            "best_score": self.best_score,
            "typical_norm": self.typical_norm,
            "history": self.history,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "generators": self._all_ranks(self.generator.get_state()),
            "own_states": self._all_ranks(self.own_states),
            "wanted": self._all_ranks(self.wanted),
            "drift": self._all_ranks(self.drift),
            "waiting": self._all_ranks(self.waiting),
        }
        if self.rank == 0:
            with buffered_file(self.run_dir / TRAINING_STATE) as buffer:
                torch.save(state, buffer)

    def _all_ranks(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of every process, in order of rank."""
        if self.world_size == 1:
            return [tensor]
        on_device = tensor.to(self.device)
        gathered = [torch.empty_like(on_device) for _ in range(self.world_size)]
        distributed.all_gather(gathered, on_device)
        return [value.cpu() for value in gathered]

    def _restore(self) -> None:
        path = self.run_dir / TRAINING_STATE
        state, saved = _read_state(path)
        if saved.model != self.config.model:
            raise ValueError(f"{path}: trained with {saved.model}, not with {self.config.model}")
        if len(state["generators"]) != self.world_size:
            raise ValueError(f"{path}: saved by {len(state['generators'])} processes, resumed by {self.world_size}")
        try:
            self.iteration, self.best_score = int(state["iteration"]), float(state["best_score"])
            self.history, self.typical_norm = list(state["history"]), float(state["typical_norm"])
            self.model.load_state_dict(state["model"])
            for name, value in self.average.items():
                value.copy_(state["average"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.set_state(state["generators"][self.rank])
            own_states, wanted = state["own_states"][self.rank], state["wanted"][self.rank]
            shape = (len(own_states), self.command_layout.size)
            if own_states.shape[1:] != self.own_states.shape[1:] or wanted.shape != shape:
                raise ValueError("'own_states' and 'wanted' do not fit the dataset")
            if len(own_states) > 0:  # Another batch size has another number of them.
                rows = torch.arange(self.num_matched) % len(own_states)
                self.own_states, self.wanted = own_states[rows], wanted[rows]
                if "drift" in state:  # Runs of before began without.
                    self.drift, self.waiting = state["drift"][self.rank][rows], state["waiting"][self.rank][rows]
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise _unusable(path, error) from error


def _check_initial(initial: Checkpoint, model: CMG, dataset: MotionDataset) -> None:
    """Raise a ValueError that says in what a checkpoint differs from the model to be trained."""
    if initial.model.config != model.config:
        raise ValueError(f"the initial checkpoint has {initial.model.config}, the run is to have {model.config}")
    if initial.layout != model.layout or initial.joint_names != tuple(dataset.joint_names):
        raise ValueError("the initial checkpoint has other state channels or joints than the dataset")
    if initial.command_layout != dataset.command_layout:
        raise ValueError(f"the initial checkpoint has {initial.command_layout}, the data {dataset.command_layout}")
    if initial.fps != dataset.fps:
        raise ValueError(f"the initial checkpoint runs at {initial.fps} fps, the dataset at {dataset.fps}")


def read_saved_config(run_dir: Path) -> tuple[TrainConfig, int] | None:
    """Configuration and iteration of a run that was begun in ``run_dir``, or None.

    Raises:
        ValueError: its training state is broken or of another release.
    """
    path = Path(run_dir) / TRAINING_STATE
    if not path.is_file():
        return None
    state, config = _read_state(path)
    return config, state["iteration"]


def _read_state(path: Path) -> tuple[dict[str, Any], TrainConfig]:
    """A saved training state and its configuration."""
    try:
        state = load_torch_file(path)
        lacking = sorted(_STATE_KEYS - set(state))
        if lacking:
            raise CheckpointError(f"lacks {', '.join(lacking)}")
        state["iteration"] = int(state["iteration"])
        if not isinstance(state["generators"], list):
            raise CheckpointError("'generators' is no list")
        return state, TrainConfig.from_json(parse_json(state["config"]))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> ValueError:
    """What to say of a training state that cannot be used, and what to do."""
    best = path.with_name("best.safetensors")
    advice = f"; a new run can begin with its weights: --initial {best}" if best.is_file() else ""
    return ValueError(f"{path}: not a training state of this release ({reason(error)}){advice}")
