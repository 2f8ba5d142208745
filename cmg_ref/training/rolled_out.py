"""A batch that has been rolled out, and what the losses need to know of it, each computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional

from cmg_ref.core.state_layout import GAIT_PHASE, StateLayout
from cmg_ref.evaluation.foot_contact import FootContact, FootMotion, tilt_matrix
from cmg_ref.network.model import CMG
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot
from cmg_ref.robots.self_contact import SelfContact
from cmg_ref.training.foot_statistics import FAMILIES, StepFigures, feet_phases, kinds, sway_at, to_the_right

MATCH_FRAMES = 15  # frames over which a matched row, which does not start in its recording, is given weight


@dataclass
class Batch:
    """Input of one training step; the rows are recorded, then matched, then still.

    Attributes:
        initial: states to start from, (num_rows, state_dim).
        commands: command of every predicted frame, (num_rows, horizon, command_dim).
        targets: recorded states, (num_recorded + num_matched, horizon, state_dim).
        drift: how far matched rows have got from where their commands would have taken them, in vx, vy and yaw rate,
            (num_matched, 3) [m, m, rad].
        waiting: how long matched rows have been told to stand, (num_matched,) [s]; 0 for the others.
    """

    initial: torch.Tensor
    commands: torch.Tensor
    targets: torch.Tensor
    drift: torch.Tensor
    waiting: torch.Tensor

    @property
    def matched(self) -> slice:
        """The matched rows."""
        return slice(len(self.targets) - len(self.drift), len(self.targets))


class Instruments:
    """What measures a roll-out: one set for a training.

    Args:
        model: the CMG in training; its joints are in the robot's order.
        robot: robot description.
        channel_weights: weight of each column in the comparison with the recording, (state_dim,).
        acceleration_limit: joint acceleration from which on it costs, (num_joints,) [rad/s^2].

    Attributes:
        kinds: People's feet in each kind of motion, see :func:`recorded_kinds`; none until they are given.
    """

    def __init__(
        self, model: CMG, robot: Robot, channel_weights: torch.Tensor, acceleration_limit: torch.Tensor
    ) -> None:
        device = channel_weights.device
        self.model, self.layout, self.fps = model, model.layout, model.fps
        self.channel_weights, self.acceleration_limit = channel_weights, acceleration_limit
        self.key_kinematics = ForwardKinematics(robot, robot.key_bodies, device=device)
        self.foot_contact = FootContact(robot, model.layout, model.fps, device=device)
        self.self_contact = SelfContact(robot, device=device)
        self.kinds: dict[int, StepFigures] = {}

    def key_bodies(self, states: torch.Tensor) -> torch.Tensor:
        """Key body positions over the floor in the heading frame, (num_rows, horizon, num_bodies, 3) [m]."""
        parts = self.layout.split(states)
        positions_b = self.key_kinematics.positions(parts["dof_pos"])
        positions_h = positions_b @ tilt_matrix(parts["projected_gravity"]).transpose(-1, -2)
        lift = functional.pad(parts["root_height"], (2, 0))  # (num_rows, horizon, 3)
        return positions_h + lift.unsqueeze(-2)


class RolledOut:
    """A batch and the roll-out that the model made of it.

    Args:
        states: what the model predicted, (num_rows, horizon, state_dim).
        guard_excess: by how many standard deviations each number came too near the guard, of the same shape.
        batch: what it was made of.
        instruments: what measures it.
    """

    def __init__(
        self, states: torch.Tensor, guard_excess: torch.Tensor, batch: Batch, instruments: Instruments
    ) -> None:
        self.states, self.guard_excess, self.batch, self.instruments = states, guard_excess, batch, instruments
        self.layout: StateLayout = instruments.layout

    @property
    def compared(self) -> torch.Tensor:
        """The rows that have a recording to be compared with, (num_compared, horizon, state_dim)."""
        return self.states[: len(self.batch.targets)]

    @cached_property
    def frame_weight(self) -> torch.Tensor:
        """Weight of each frame in the comparison, (num_compared, horizon): matched rows are given time."""
        weight = torch.ones(self.compared.shape[:2], device=self.states.device)
        ramp = (torch.arange(weight.shape[1], device=weight.device) + 1) / MATCH_FRAMES
        weight[self.batch.matched] = ramp.clamp(max=1.0)
        return weight

    @property
    def velocity(self) -> slice:
        """Columns vx, vy, vz, yaw rate of a state."""
        return slice(self.layout["root_lin_vel_h"].start, self.layout["root_yaw_rate"].stop)

    def mean_velocity(self, states: torch.Tensor) -> torch.Tensor:
        """Weighted mean of the root's velocity over the frames, (num_compared, 1, 4)."""
        weight = self.frame_weight.unsqueeze(-1)
        return (states[..., self.velocity] * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)

    @cached_property
    def velocity_error(self) -> torch.Tensor:
        """Mean velocity against what it should be, (num_compared, 4).

        For recorded rows that is the recording's; matched rows are told a command that their recording need not follow.
        They are as much faster or slower than it as people are in that part of a stride.
        """
        wanted = self.mean_velocity(self.batch.targets).squeeze(1)
        matched, commands = self.batch.matched, self.batch.commands[self.batch.matched]
        weight = self.frame_weight[matched].unsqueeze(-1)
        command = commands[..., :3] + functional.pad(self.sway, (0, 1))
        command = (command * weight).sum(dim=1) / weight.sum(dim=1)
        wanted[matched, 0], wanted[matched, 1], wanted[matched, 3] = command.unbind(dim=1)
        return self.mean_velocity(self.compared).squeeze(1) - wanted

    @cached_property
    def sway(self) -> torch.Tensor:
        """What people's velocity ahead and to the left is beyond the command at the phases of matched rows [m/s].

        (num_matched, horizon, 2); none where they are told nothing that is recorded.
        """
        matched = self.batch.matched
        place = feet_phases(self.states[matched][..., self.layout[GAIT_PHASE]].detach())
        right = to_the_right(self.batch.commands[matched])
        sway = place.new_zeros(place.shape)
        for row, figures in self.told_kinds:
            own = row - matched.start
            sway[own] = sway_at(figures.sway, place[own], right[own])
        return sway

    @cached_property
    def _kinds(self) -> list[tuple[int, int]]:
        """Matched rows that are told a kind of motion that is recorded, and which."""
        matched, recorded = self.batch.matched, self.instruments.kinds
        told = kinds(self.batch.commands[matched]).tolist()
        return [(matched.start + row, kind) for row, kind in enumerate(told) if kind in recorded]

    @property
    def told_kinds(self) -> list[tuple[int, StepFigures]]:
        """Matched rows that are told a kind of motion that is recorded, and people's feet in it.

        Recorded rows still move as people do, and would make up for what the others lack.
        """
        return [(row, self.instruments.kinds[kind]) for row, kind in self._kinds]

    @property
    def families(self) -> list[tuple[torch.Tensor, list[StepFigures]]]:
        """The same rows (n,) by the family of their kind, and people's feet in the kind of each."""
        found: dict[int, tuple[list[int], list[StepFigures]]] = {}
        for row, kind in self._kinds:
            rows, figures = found.setdefault(FAMILIES[kind], ([], []))
            rows.append(row)
            figures.append(self.instruments.kinds[kind])
        device = self.states.device
        return [(torch.tensor(rows, device=device), figures) for rows, figures in found.values()]

    @cached_property
    def feet(self) -> FootMotion:
        """Motion of the feet of all rows."""
        return self.instruments.foot_contact(self.states)
