"""The fixed free-run metric that chooses the checkpoint of a training run."""

from __future__ import annotations

from typing import Sequence

import torch

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.core.command_layout import VELOCITY, told_to_stand
from cmg_ref.evaluation.checkpoint_evaluation import STEADY_COMMANDS
from cmg_ref.evaluation.foot_contact import FootContact
from cmg_ref.evaluation.requirements import speed_tolerance
from cmg_ref.network.model import CMG
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.training.window_sampler import WindowSampler

YAW_TOLERANCE = 0.15  # [rad/s]
NUM_WINDOWS = 192
WINDOW_FRAMES = 151
NUM_RANDOM = 256
STANDING_ROWS, STANDING_CANDIDATES = 64, 192
RECORDED_ROWS = 448
SETTLE_SECONDS = 10.0
SET_OFF_SECONDS = 6.0
STEPPING_JOINT_SPEED = 0.4  # [rad/s] rms; who goes anywhere slower than this glides
SLOW_COMMANDS = (
    (-0.5, 0.0, 0.0),
    (-0.3, 0.0, 0.0),
    (0.3, 0.0, 0.0),
    (0.0, 0.2, 0.0),
    (0.0, -0.2, 0.0),
    (0.0, 0.0, 0.4),
    (0.0, 0.0, -0.4),
    (0.0, 0.0, 0.8),
    (0.0, 0.0, -0.8),
)  # vx, vy [m/s], yaw rate [rad/s]


class Validation:
    """Free-runs a model on held-out windows, under steady commands and under random ones.

    Windows, commands and seeds are fixed, so that scores of different runs on one dataset can be compared.

    Args:
        dataset: motion data with held-out clips.
        robot: robot of the data.
        command_min: smallest command that the model is trained for, one number a channel.
        command_max: largest one.
    """

    def __init__(
        self, dataset: MotionDataset, robot: Robot, command_min: Sequence[float], command_max: Sequence[float]
    ) -> None:
        self.layout, self.fps = dataset.layout, dataset.fps
        sampler = WindowSampler(dataset, robot, WINDOW_FRAMES, command_min, command_max, held_out=True)
        self.states, self.commands = sampler.sample(NUM_WINDOWS, torch.Generator().manual_seed(7))
        self.foot_contact = FootContact(robot, dataset.layout, dataset.fps)

    def run(self, model: CMG) -> dict[str, float]:
        """Measure a model on the CPU.

        Returns:
            ``score`` (lower is better) and what it is made of: pose error over half a second [standard deviations],
            velocity error [m/s], yaw-rate error [rad/s], slip [m/s], steady-command error over its tolerance, share of
            random roll-outs that leave a plausible posture, share of frames in which the guard acted.
        """
        report = {**self._held_out(model), **self._steady(model), **self._random(model)}
        report["score"] = (
            report["pose"]
            + 2.0 * report["velocity"]
            + report["yaw_rate"]
            + report["slip"]
            + report["steady_slip"]
            + 0.5 * report["steady"]
            + 10.0 * report["fallen"]
            + 2.0 * report["guarded"]
            + 20.0 * report["standing_drift"]
        )
        return report

    def _held_out(self, model: CMG) -> dict[str, float]:
        states = Rollout(model).generate(self.states[:, 0], self.commands[:, 1:])
        recorded = self.states[:, 1:]
        pose = ((states - recorded)[:, : round(self.fps / 2)] / model.motion_std).abs().mean()
        late = round(self.fps)
        velocity = slice(self.layout["root_lin_vel_h"].start, self.layout["root_lin_vel_h"].start + 2)
        difference = (states - recorded)[:, late:].mean(dim=1)
        return {
            "pose": float(pose),
            "velocity": float(difference[:, velocity].norm(dim=1).mean()),
            "yaw_rate": float(difference[:, self.layout["root_yaw_rate"]].abs().mean()),
            "slip": float(self.foot_contact(states).slip().mean()),
        }

    def _steady(self, model: CMG) -> dict[str, float]:
        table = torch.tensor(STEADY_COMMANDS)  # (num_commands, NUM_VELOCITIES)
        tolerance = torch.tensor([speed_tolerance(command) for command in STEADY_COMMANDS])
        standing = self._standing_start(model)
        commands = model.command_layout.complete(table)[:, None].expand(-1, round(20 * self.fps), -1)
        states = Rollout(model).generate(standing.expand(len(table), -1), commands)
        mean = self.layout.split(states[:, round(3 * self.fps) :].mean(dim=1))
        velocity_error = (mean["root_lin_vel_h"][:, :2] - table[:, :2]).norm(dim=1)
        yaw_error = (mean["root_yaw_rate"].squeeze(1) - table[:, 2]).abs()
        still = told_to_stand(table)
        error = torch.maximum(velocity_error / tolerance, yaw_error / YAW_TOLERANCE)
        return {
            "steady": float(error.mean()),
            "steady_worst": float(error.max()),
            "steady_slip": float(self.foot_contact(states).slip().mean()),
            "standing_drift": float(velocity_error[still].mean()),
        }

    def _random(self, model: CMG) -> dict[str, float]:
        generator = torch.Generator().manual_seed(11)
        low, high = model.command_min, model.command_max
        segments = low + (high - low) * torch.rand(NUM_RANDOM, 10, len(low), generator=generator)
        segments = model.command_layout.complete(segments[..., VELOCITY])
        commands = segments.repeat_interleave(round(2 * self.fps), dim=1)
        rollout = Rollout(model)
        start = self.states[torch.arange(NUM_RANDOM) % len(self.states), 0]
        parts = self.layout.split(rollout.generate(start, commands))
        height, up = parts["root_height"].squeeze(-1), -parts["projected_gravity"][..., 2]
        fallen = ((height < 0.6) | (height > 0.9) | (up < 0.765)).any(dim=1)  # cos(0.7 rad) = 0.765
        return {"fallen": float(fallen.float().mean()), "guarded": float(rollout.guard_count) / rollout.frame_count}

    def _standing_start(self, model: CMG) -> torch.Tensor:
        joint_speed = self.states[:, 0, self.layout["dof_vel"]].abs().mean(dim=1)
        speed = joint_speed + self.commands[:, 0, VELOCITY].abs().sum(dim=1)
        return self.states[int(speed.argmin()), 0]

    def initial_bank(self, model: CMG, sampler: WindowSampler) -> tuple[torch.Tensor, torch.Tensor]:
        """States to start from, and what they were doing: poses the model stands still in, then recorded frames.

        Returns:
            States (num_states, state_dim) and commands (num_states, command_dim).
        """
        generator = torch.Generator().manual_seed(3)
        still, to_stand = sampler.sample_still(STANDING_CANDIDATES, generator)
        frames = round(SETTLE_SECONDS * self.fps)
        settled = Rollout(model).generate(still, to_stand.unsqueeze(1).expand(-1, frames, -1))[:, -1]
        best = self._reluctance(model, settled, to_stand).argsort()[:STANDING_ROWS]
        states, commands = sampler.sample(RECORDED_ROWS, generator)
        return torch.cat((settled[best], states[:, 0])), torch.cat((to_stand[best], commands[:, 0]))

    def _reluctance(self, model: CMG, standing: torch.Tensor, to_stand: torch.Tensor) -> torch.Tensor:
        """How badly the model sets off from standing poses (n, state_dim), (n,): from some it stays, or glides.

        But for their velocity, the commands are those to stand, (n, command_dim).
        """
        rollout, layout, num = Rollout(model), model.layout, len(standing)
        wanted = torch.tensor(SLOW_COMMANDS).repeat_interleave(num, dim=0)  # (num_commands * n, NUM_VELOCITIES)
        commands = to_stand.repeat(len(SLOW_COMMANDS), 1)
        commands[:, VELOCITY] = wanted
        state = standing.repeat(len(SLOW_COMMANDS), 1)
        velocity, square_speed = torch.zeros_like(wanted), torch.zeros(len(commands))
        frames, first = round(SET_OFF_SECONDS * self.fps), round(0.5 * SET_OFF_SECONDS * self.fps)
        for frame in range(frames):
            state = rollout.advance(state, commands)
            if frame >= first:
                parts = layout.split(state)
                velocity += torch.cat((parts["root_lin_vel_h"][:, :2], parts["root_yaw_rate"]), dim=1) / (
                    frames - first
                )
                square_speed += parts["dof_vel"].square().mean(dim=1) / (frames - first)
        error = ((velocity - wanted) * velocity.new_tensor([1.0, 1.0, 0.5])).norm(dim=1)
        lacking = (STEPPING_JOINT_SPEED - square_speed.sqrt()).clamp(min=0.0)
        return (error + lacking).view(len(SLOW_COMMANDS), num).mean(dim=0)
