"""What the CMG is trained for: a free-running roll-out and the losses on it.

A batch has three kinds of rows. *Recorded* rows start in a recorded state, get its command and are compared with the
recording. *Matched* rows start from wherever the model itself has got to and are compared with the recording that is
most like it under a wanted command: so the model learns to come back to recorded motion from its own errors, however
long it has been running free. *Still* rows start in a standing pose with zero command and must not move.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from cmg_ref.core.command_layout import VELOCITY
from cmg_ref.evaluation.foot_contact import FootContact, tilt_matrix
from cmg_ref.network.model import CMG
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot

SLIP_FRAMES = 5  # a foot that slips is one that moves on average over this many frames
MATCH_FRAMES = 15  # frames over which a matched row is given weight
WALKING_CLEARANCE = 0.03  # [m] the lowest sole point does not rise further in a walk
RUNNING_CLEARANCE = 0.09  # [m] nor further than this in the flight phase of a run
MEAN_CLEARANCE = 0.02  # [m] on average it stays below this at any recorded speed
GUARD_MARGIN = 0.02  # [rad] joints are kept this far inside the guard range, where the guard need not act
STRAIGHT_SLIP = 2.0  # additional weight of slip where somebody walks straight on, and a foot should be planted
# Share of the gradient that goes from a frame to the one before. Undamped, gradients grow exponentially where the
# motion is unstable, as it is where the model has gone astray by itself, and one step can ruin the model.
GRADIENT_DAMPING = {"recorded": 0.97, "matched": 0.9}


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term; see :class:`RollOutObjective` for what they are applied to."""

    state: float = 1.0
    key_bodies: float = 4.0
    mean_velocity: float = 1.0
    activity: float = 1.0
    slip: float = 0.15
    penetration: float = 4.0
    hover: float = 10.0
    still: float = 0.5
    acceleration: float = 0.5
    guard: float = 20.0


@dataclass
class Batch:
    """Input of one training step; the rows are recorded, then matched, then still.

    Attributes:
        initial: states to start from, (num_rows, state_dim).
        commands: command of every predicted frame, (num_rows, horizon, command_dim).
        targets: recorded states, (num_recorded + num_matched, horizon, state_dim).
        num_matched: number of matched rows.
    """

    initial: torch.Tensor
    commands: torch.Tensor
    targets: torch.Tensor
    num_matched: int


class RollOutObjective(nn.Module):
    """Rolls the model out and adds up the losses.

    Args:
        model: the CMG in training; its joints are in the robot's order.
        robot: robot description.
        weights: weight of each term.
        channel_weights: weight of each column in the comparison with the recording, (state_dim,).
        acceleration_limit: joint acceleration from which on it costs, (num_joints,) [rad/s^2].
        mixed_precision: bfloat16 matrix products.
    """

    channel_weights: torch.Tensor
    acceleration_limit: torch.Tensor
    guard_margin: torch.Tensor

    def __init__(
        self,
        model: CMG,
        robot: Robot,
        weights: LossWeights,
        channel_weights: torch.Tensor,
        acceleration_limit: torch.Tensor,
        mixed_precision: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.weights = weights
        self.mixed_precision = mixed_precision
        self.register_buffer("channel_weights", channel_weights)
        self.register_buffer("acceleration_limit", acceleration_limit)
        margin = torch.zeros_like(model.motion_std)
        margin[model.layout["dof_pos"]] = GUARD_MARGIN
        self.register_buffer("guard_margin", margin)
        device = channel_weights.device
        self.key_kinematics = ForwardKinematics(robot, robot.key_bodies, device=device)
        self.foot_contact = FootContact(robot, model.layout, model.fps, device=device)

    def roll_out(
        self, initial: torch.Tensor, commands: torch.Tensor, damping: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States (num_rows, horizon, state_dim) and by how many standard deviations each came too near the guard.

        Args:
            initial: states to start from, (num_rows, state_dim).
            commands: command of every frame, (num_rows, horizon, command_dim).
            damping: share of the gradient that goes from a frame to the one before, (num_rows, 1).
        """
        state, states, excess = initial, [], []
        low, high = self.model.state_min + self.guard_margin, self.model.state_max - self.guard_margin
        for command in commands.unbind(dim=1):
            predicted = self.model(state, command, self.mixed_precision)
            guarded = self.model.guard(predicted)
            excess.append(functional.relu(low - predicted) + functional.relu(predicted - high))
            states.append(guarded)
            state = torch.lerp(guarded.detach(), guarded, damping)
        return torch.stack(states, dim=1), torch.stack(excess, dim=1) / self.model.motion_std

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Loss, states of the roll-out (num_rows, horizon, state_dim) and the unweighted terms."""
        num_compared = len(batch.targets)
        damping = torch.full((len(batch.initial), 1), GRADIENT_DAMPING["recorded"], device=batch.initial.device)
        damping[num_compared - batch.num_matched : num_compared] = GRADIENT_DAMPING["matched"]
        states, excess = self.roll_out(batch.initial, batch.commands, damping)
        foot = self.foot_contact(states)
        terms = {
            **self._recorded_terms(states[:num_compared], batch.targets, batch.num_matched),
            "slip": self._slip(foot.slip(SLIP_FRAMES), batch.commands),
            "penetration": functional.relu(-foot.height - 0.005).amax(dim=(-2, -1)).mean(),
            "hover": self._hover(foot.height, batch.commands),
            "guard": excess.mean() * 10.0,
            "acceleration": self._acceleration(states),
        }
        if len(states) > num_compared:
            terms["still"] = self._still(states[num_compared:], batch.initial[num_compared:])
        loss = torch.stack([getattr(self.weights, name) * value for name, value in terms.items()]).sum()
        return loss, states, {name: value.detach() for name, value in terms.items()}

    def _recorded_terms(self, states: torch.Tensor, targets: torch.Tensor, num_matched: int) -> dict[str, torch.Tensor]:
        layout = self.model.layout
        # A matched row does not start in its recording: it is given time to get there.
        weight = torch.ones(states.shape[:2], device=states.device)  # (num_compared, horizon)
        ramp = ((torch.arange(states.shape[1], device=states.device) + 1) / MATCH_FRAMES).clamp(max=1.0)
        weight[len(states) - num_matched :] = ramp
        difference = states - targets
        velocity = slice(layout["root_lin_vel_h"].start, layout["root_yaw_rate"].stop)  # vx, vy, vz, yaw rate
        mean_difference = (difference[..., velocity] * weight.unsqueeze(-1)).sum(dim=1) / weight.sum(
            dim=1, keepdim=True
        )
        bodies = self._key_bodies(states) - self._key_bodies(targets)
        deviation = (difference / self.model.motion_std).abs() * self.channel_weights
        # Where many motions could follow, their mean hardly moves: a body that turns on the spot without a step, say.
        # It is nearest to all of them and natural in none, so each joint must move as much as it does in the recording.
        lacking = functional.relu(_speed(targets[..., layout["dof_vel"]]) - _speed(states[..., layout["dof_vel"]]))
        return {
            "state": (deviation.mean(dim=-1) * weight).mean(),
            "key_bodies": (bodies.abs().mean(dim=(-2, -1)) * weight).mean(),
            "mean_velocity": mean_difference.abs().mean(),
            "activity": lacking.mean(),
        }

    def _key_bodies(self, states: torch.Tensor) -> torch.Tensor:
        """Key body positions over the floor in the heading frame, (num_rows, horizon, num_bodies, 3) [m]."""
        parts = self.model.layout.split(states)
        positions_b = self.key_kinematics.positions(parts["dof_pos"])
        positions_h = positions_b @ tilt_matrix(parts["projected_gravity"]).transpose(-1, -2)
        lift = functional.pad(parts["root_height"], (2, 0))  # (num_rows, horizon, 3)
        return positions_h + lift.unsqueeze(-2)

    @staticmethod
    def _slip(slip: torch.Tensor, commands: torch.Tensor) -> torch.Tensor:
        """Mean slip (num_rows, horizon - SLIP_FRAMES), straight walking counting more [m/s]."""
        vx, vy, yaw_rate = commands[:, : slip.shape[1], VELOCITY].abs().unbind(dim=-1)
        straight = (1.0 - vy / 0.2 - yaw_rate / 0.4).clamp(min=0.0) * (vx / 0.2).clamp(max=1.0)
        walking = 1.0 - ((vx - 1.6) / 0.4).clamp(0.0, 1.0)
        return ((1.0 + STRAIGHT_SLIP * straight * walking) * slip).mean()

    @staticmethod
    def _hover(height: torch.Tensor, commands: torch.Tensor) -> torch.Tensor:
        """How far the lowest sole point is above where gaits have it, at each time and on average [m]."""
        lowest = height.amin(dim=(-2, -1))  # (num_rows, horizon)
        running = ((commands[..., 0].abs() - 1.2) / 0.8).clamp(0.0, 1.0)
        above = functional.relu(lowest - (WALKING_CLEARANCE + running * (RUNNING_CLEARANCE - WALKING_CLEARANCE)))
        return above.mean() + functional.relu(lowest.mean(dim=1) - MEAN_CLEARANCE).mean()

    def _acceleration(self, states: torch.Tensor) -> torch.Tensor:
        dof_vel = states[..., self.model.layout["dof_vel"]]
        acceleration = (dof_vel[:, 1:] - dof_vel[:, :-1]).abs() * self.model.fps
        return functional.relu(acceleration / self.acceleration_limit - 1.0).mean() * 10.0

    def _still(self, states: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
        """Any motion at all, and any departure from the pose, in physical units."""
        parts = self.model.layout.split(states)
        drift = (states - initial.unsqueeze(1)) / self.model.motion_std
        return (
            drift.abs().mean()
            + parts["dof_vel"].abs().mean()
            + 3.0 * parts["root_lin_vel_h"].abs().mean()
            + parts["root_yaw_rate"].abs().mean()
        )


def _speed(dof_vel: torch.Tensor) -> torch.Tensor:
    """Root mean square over the frames of joint velocities (num_rows, horizon, num_joints), (num_rows, num_joints)."""
    return torch.sqrt((dof_vel**2).mean(dim=1) + 1e-6)
