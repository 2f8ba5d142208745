"""Training of the CMG: batches, steps, validation, checkpoints and resumption."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import torch
from torch import distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.core.command_layout import NUM_VELOCITIES
from cmg_ref.evaluation.checkpoint_evaluation import COMPARED_COMMANDS
from cmg_ref.evaluation.gait_evaluation import evaluate_gait
from cmg_ref.evaluation.mocap_statistics import mocap_figures
from cmg_ref.files.atomic_file import buffered_file
from cmg_ref.network.checkpoint import Checkpoint, save_checkpoint
from cmg_ref.network.model import CMG
from cmg_ref.robots.robot import Robot
from cmg_ref.training.foot_statistics import recorded_kinds
from cmg_ref.training.gait_phase import with_gait_phase
from cmg_ref.training.matched_rows import MatchedRows
from cmg_ref.training.normalisation import channel_weights, set_statistics
from cmg_ref.training.objective import RollOutObjective
from cmg_ref.training.rolled_out import Batch
from cmg_ref.training.train_config import TrainConfig
from cmg_ref.training.training_state import TRAINING_STATE, read_state, unusable
from cmg_ref.training.validation import Validation
from cmg_ref.training.window_sampler import WindowSampler

GAIT_SECONDS = 20.0  # roll-outs by which checkpoints are chosen are shorter than those that make their figures
SKIP_FACTOR = 5.0  # steps whose gradient is this many times the usual norm are left out


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
        initial: checkpoint whose weights a new run starts from; statistics are measured anew on the dataset. It may
            lack the last channels of the dataset's commands.

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
        dataset = with_gait_phase(dataset, robot)
        self.config, self.dataset, self.robot, self.run_dir = config, dataset, robot, Path(run_dir)
        self.device, self.rank, self.world_size = device, rank, world_size
        torch.manual_seed(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed * 1000 + rank)
        self.command_layout = dataset.command_layout
        # A channel that the settings say nothing of is trained within its usual range, or that of what training begins
        # with: its weights are for commands scaled by that range.
        lowest, highest = list(self.command_layout.lowest), list(self.command_layout.highest)
        if initial is not None:
            for column in range(NUM_VELOCITIES, min(initial.command_layout.size, self.command_layout.size)):
                lowest[column], highest[column] = float(initial.command_min[column]), float(initial.command_max[column])
        command_min = (*config.command_min, *lowest[len(config.command_min) :])
        command_max = (*config.command_max, *highest[len(config.command_max) :])
        if not len(command_min) == len(command_max) == self.command_layout.size:
            raise ValueError(f"TrainConfig.command_min and command_max have more numbers than {self.command_layout}")
        self.sampler = WindowSampler(dataset, robot, config.horizon_end + 1, command_min, command_max, config.balance)
        model = CMG(config.model, dataset.layout, dataset.fps, self.command_layout)
        if initial is not None:
            _check_initial(initial, model, dataset)
            model.load_state_dict(weights_for(model, initial))
        acceleration_limit = set_statistics(model, self.sampler, robot, command_min, command_max)
        self.objective = RollOutObjective(
            model.to(device),
            robot,
            config.weights,
            channel_weights(dataset.layout).to(device),
            acceleration_limit.to(device),
            config.mixed_precision,
        ).to(device)
        instruments, drawing = self.objective.instruments, torch.Generator().manual_seed(config.seed)
        instruments.kinds = recorded_kinds(self.sampler, instruments.foot_contact, drawing, device)
        self.model = model
        self.average = {name: value.detach().clone() for name, value in model.named_parameters()}
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=1e-4)
        rows = config.batch_size // world_size
        self.num_still = round(rows * config.still_share)
        self.num_rows = rows
        unit = model.motion_std.cpu() / channel_weights(dataset.layout).sqrt()
        self.matched = MatchedRows(round(rows * config.matched_share), self.sampler, model, unit, self.generator)
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
            self.matched.follow(states[batch.matched].detach(), batch.commands[batch.matched])
        self.iteration += 1
        return report

    def _batch(self, horizon: int) -> Batch:
        """The input of one step."""
        config, generator = self.config, self.generator
        num_matched = len(self.matched) if self.iteration >= config.matched_after * config.iterations else 0
        num_recorded = self.num_rows - self.num_still - num_matched
        states, commands = self.sampler.sample(num_recorded, generator)
        amount = config.input_noise * torch.rand(num_recorded, 1, generator=generator)
        noise = amount * torch.randn(num_recorded, states.shape[-1], generator=generator)
        initial = [self.model.guard(states[:, 0].to(self.device) + noise.to(self.device) * self.model.motion_std)]
        if num_matched:
            matched_states, matched_commands = self.matched.draw()
            states, commands = torch.cat((states, matched_states)), torch.cat((commands, matched_commands))
            initial.append(self.matched.states.to(self.device))
        still, still_commands = self.sampler.sample_still(self.num_still, generator)
        initial.append(still.to(self.device))
        still_commands = still_commands.unsqueeze(1).expand(-1, horizon, -1)
        return Batch(
            initial=torch.cat(initial),
            commands=torch.cat((commands[:, 1 : horizon + 1], still_commands)).to(self.device),
            targets=states[:, 1 : horizon + 1].to(self.device),
            drift=self.matched.drift[:num_matched].to(self.device),
            waiting=self.matched.waiting[:num_matched].to(self.device),
        )

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
            "own_states": self._all_ranks(self.matched.states),
            "wanted": self._all_ranks(self.matched.wanted),
            "drift": self._all_ranks(self.matched.drift),
            "waiting": self._all_ranks(self.matched.waiting),
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
        state, saved = read_state(path)
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
            since = [state[name][self.rank] if name in state else None for name in ("drift", "waiting")]
            self.matched.restore(state["own_states"][self.rank], state["wanted"][self.rank], *since)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise unusable(path, error) from error


def _check_initial(initial: Checkpoint, model: CMG, dataset: MotionDataset) -> None:
    """Raise a ValueError that says in what a checkpoint differs from the model to be trained."""
    if initial.model.config != model.config:
        raise ValueError(f"the initial checkpoint has {initial.model.config}, the run is to have {model.config}")
    channels = list(initial.layout)
    if channels != list(model.layout)[: len(channels)] or initial.joint_names != tuple(dataset.joint_names):
        raise ValueError("the initial checkpoint has other state channels or joints than the dataset")
    if initial.command_layout.channels != dataset.command_layout.channels[: initial.command_layout.size]:
        raise ValueError(f"the initial checkpoint has {initial.command_layout}, the data {dataset.command_layout}")
    if initial.fps != dataset.fps:
        raise ValueError(f"the initial checkpoint runs at {initial.fps} fps, the dataset at {dataset.fps}")


def weights_for(model: CMG, initial: Checkpoint) -> dict[str, torch.Tensor]:
    """Weights and statistics of a checkpoint; last channels of state and command that it lacks count for 0."""
    state, missing = dict(initial.model.state_dict()), model.command_layout.size - initial.command_layout.size
    known, channels = initial.layout.size, model.layout.size - initial.layout.size

    def padded(weight: torch.Tensor) -> torch.Tensor:
        """A weight on inputs, which come last, with zeros for channels of state and command that there were not."""
        told = functional.pad(weight[..., known:], (0, missing))
        return torch.cat((functional.pad(weight[..., :known], (0, channels)), told), dim=-1)

    state["gate.0.weight"] = padded(state["gate.0.weight"])  # (gate_hidden, inputs)
    state["layers.0.weight"] = padded(state["layers.0.weight"].transpose(1, 2)).transpose(1, 2).contiguous()
    last = f"layers.{model.config.num_layers - 1}"
    for name in (f"{last}.weight", f"{last}.bias"):
        state[name] = functional.pad(state[name], (0, channels))
    for name, own in model.state_dict().items():
        if own.shape == (model.layout.size,):
            state[name] = torch.cat((state[name], own[known:]))
    for name in ("command_min", "command_max"):
        own = model.state_dict()[name]
        state[name] = torch.cat((state[name], own[len(own) - missing :]))
    return state
