"""Generator and policy as one recurrent step: from measurements and a velocity command to joint targets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY, CommandLayout, check_acceleration, ramp_steps
from cmg_ref.export import CMGStep
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.robots.joint_matching import match_joints
from cmg_ref.rollout.drift_feedback import DriftFeedback
from envs.learning.policy import Policy, PolicyError

GRAVITY, COMMAND = slice(3, 6), 6  # columns of the observation: from here on the command, then the joints


@dataclass(frozen=True)
class StatePart:
    """Some columns of the controller's state.

    Attributes:
        name: What they hold.
        size: Number of columns.
        meaning: In words, with units.
    """

    name: str
    size: int
    meaning: str


class Controller(nn.Module):
    """A control step of a policy that corrects a reference motion, with the generator of that motion inside.

    The state is zero at the start: the reference stands, no command is in force, the last correction is zero. A command
    is held inside the range that the policy was trained in, and a component that is not a number counts as 0; then the
    policy's calibration, if it has one, makes of it what the reference has to do for the robot to obey. A command that
    stays is reached along a straight line within the ramp time, or later if that would take more than the largest
    acceleration, as in training. One that changes again within the ramp time is followed with that acceleration, so
    that a command that changes at every step is followed too.

    Args:
        policy: The policy, of a task with a reference.
        checkpoint: The generator of the reference.

    Attributes:
        standing: State of the generator that the zero state stands for, (state_dim,).
        command_layout: Channels of a command.
        command_min, command_max: What commands are held within, (command_dim,).
        ramp_frames: Control steps that a new command takes to be in force, or more.
        observation_clip: Scaled observations are held within plus and minus this before the policy sees them.
        acceleration: Largest change of a command, (command_dim,) [a second].
        state_parts: Layout of the state.

    Raises:
        PolicyError: The policy has no reference, or takes observations that a deployed robot does not have.
    """

    standing: Tensor
    command_min: Tensor
    command_max: Tensor
    acceleration: Tensor
    _rest: Tensor
    _unsaid: Tensor
    _joints: Tensor
    _lead: Tensor
    _default: Tensor
    _scale: Tensor
    _observation_scale: Tensor

    def __init__(self, policy: Policy, checkpoint: Checkpoint) -> None:
        super().__init__()
        description, config = policy.description, policy.description.config
        if not description.reference:
            raise PolicyError(f"the task {description.task} has no reference: export its policy alone")
        if abs(checkpoint.fps * description.control_dt - 1.0) > 1e-6:
            raise PolicyError(
                f"the reference has {checkpoint.fps:g} frames/s, the policy acts every {description.control_dt:g} s"
            )
        self.policy, self.generator = policy, CMGStep(checkpoint)
        self.calibration = description.command_calibration()
        self.feedback = DriftFeedback(checkpoint.model) if checkpoint.layout.has_root else None
        memory_dim = 0 if self.feedback is None else self.feedback.memory_dim
        self.control_dt = description.control_dt
        self.joint_names, columns = match_joints(
            checkpoint.joint_names, description.joint_names, checkpoint.joint_names, torch.device("cpu")
        )
        commands, reference = config.get("commands", {}), config.get("reference", {})
        self._layout, known = checkpoint.layout, checkpoint.command_layout
        self.command_layout = CommandLayout.of_names(list(commands.get("ranges", {}).get("further", {})))
        command_dim = self.command_layout.size
        if known.channels[:command_dim] != self.command_layout.channels:
            raise PolicyError(f"the policy takes {self.command_layout}, its reference {known}")
        self._history_length = description.history_length
        seen_at_once = description.observations[: len(description.observations) // self._history_length]
        if seen_at_once * self._history_length != description.observations:
            raise PolicyError(f"the policy's observations are not {self._history_length} times the same")
        self._terms = [name for name, _, _ in seen_at_once]
        unknown = [name for name in self._terms if not hasattr(self, f"_observe_{name}")]
        if unknown:
            raise PolicyError(f"the policy observes '{unknown[0]}', which no deployed robot measures")
        self._ahead = int(reference.get("actor_future_step", 1))
        self.ramp_frames = max(1, round(commands.get("ramp_time", 0.5) * checkpoint.fps))
        self.observation_clip = float(config.get("normalization", {}).get("clip_observations", math.inf))
        low, high = _command_range(commands, checkpoint)
        joints = torch.arange(len(checkpoint.joint_names)) if columns is None else columns
        ratio = torch.tensor(description.damping) / torch.tensor(description.stiffness)
        for name, value in {
            "standing": checkpoint.standing_state(),
            "_rest": self.command_layout.rest(),
            "_unsaid": known.complete(torch.zeros(command_dim)),
            "command_min": low,
            "command_max": high,
            "acceleration": self.command_layout.largest_changes(1.0, acceleration=_acceleration(commands)),
            "_joints": joints,
            "_lead": ratio,
            "_default": torch.tensor(description.default_dof_pos),
            "_scale": torch.tensor(description.action_scale),
            "_observation_scale": torch.cat([torch.full((size,), scale) for _, size, scale in seen_at_once]),
        }.items():
            self.register_buffer(name, value)
        num_joints = len(self.joint_names)
        self.state_parts: tuple[StatePart, ...] = (
            StatePart("reference", checkpoint.layout.size, "state of the generator minus its standing state"),
            StatePart("correction", num_joints, "last action of the policy"),
            StatePart("memory", memory_dim, "command of the last frame, and how far the reference has drifted from it"),
            StatePart("command", command_dim, f"command in force: {self.command_layout.title()}, less what is at rest"),
            StatePart("asked", command_dim, "command last asked for, held within its range, same units"),
            StatePart("step", command_dim, "largest change of the command in force in a control step, same units"),
            StatePart("remaining", 1, "control steps until the ramp time since the last change has passed"),
        )
        if self._history_length > 1:
            num_seen = (self._history_length - 1) * len(self._observation_scale)
            self.state_parts += (
                StatePart("history", num_seen, "what the policy has seen in the steps before, the newest last"),
                StatePart("begun", 1, "1 once a step has passed: before, the first observation stands for the history"),
            )
        self._sizes = [part.size for part in self.state_parts]

    @property
    def state_size(self) -> int:
        """Columns of the state."""
        return sum(self._sizes)

    @property
    def observation_size(self) -> int:
        """Columns of the observation."""
        return COMMAND + self.command_layout.size + 2 * len(self.joint_names)

    def forward(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Let a control step pass.

        Args:
            observation: Measured now, (n, 6 + command_dim + 2 * num_joints): angular velocity of the base in its own
                frame [rad/s], direction of gravity in the same frame (unit vector), command, joint angles minus the
                default pose [rad], joint velocities [rad/s].
            state: As the last step returned it, (n, state_size); zero at the start.

        Returns:
            Joint targets minus the default pose [rad], (n, num_joints); the next state, (n, state_size); joint targets
            [rad], (n, num_joints).
        """
        offset, last_action, memory, command, asked, step, remaining, *history = state.split(self._sizes, dim=1)
        command, asked = command + self._rest, asked + self._rest
        num_joints = len(self.joint_names)
        told, dof_pos, dof_vel = observation[:, COMMAND:].split([len(self._rest), num_joints, num_joints], dim=1)
        wanted = torch.minimum(torch.maximum(told, self.command_min), self.command_max)
        wanted = torch.where(torch.isnan(told), self._rest.expand_as(wanted), wanted)
        # What was asked for is compared as it was given: what a runtime computes of it differs in the last digits.
        changed = (wanted != asked).any(dim=1, keepdim=True)
        asked = wanted
        wanted = self.calibration(wanted)
        keeps_changing = changed & (remaining > 0.5)
        largest = self.acceleration * self.control_dt
        ramp = ramp_steps(command, wanted, self.ramp_frames, largest).unsqueeze(1)
        step = torch.where(changed, (wanted - command).abs() / ramp, step)
        step = torch.where(keeps_changing, largest, step)
        remaining = torch.where(changed, torch.full_like(remaining, self.ramp_frames), remaining)

        present = self.standing + offset
        frames, frame_commands, memories = [present], [command], [memory]
        for _ in range(max(1, self._ahead)):
            frame_commands.append(_approach(frame_commands[-1], wanted, step))
            frame, memory = self._generated(frames[-1], frame_commands[-1], memories[-1])
            frames.append(frame)
            memories.append(memory)
        seen = _Seen(
            observation, command, dof_pos + self._default, dof_vel, last_action, present, frames[1], frames[self._ahead]
        )
        terms = torch.cat([getattr(self, f"_observe_{name}")(seen) for name in self._terms], dim=1)
        terms = (terms * self._observation_scale).clamp(-self.observation_clip, self.observation_clip)
        if history:
            terms, history = self._with_history(terms, *history)
        action = self.policy(terms)
        limit = self.policy.description.action_limit
        action = action.clamp(-limit, limit)
        # A measurement that is not a number must not stay in the state for ever.
        action = torch.where(torch.isnan(action), last_action, action)
        following = frames[1]
        targets = self._joint_pos(following) + self._lead * self._joint_vel(following) + self._scale * action
        commands = (memories[1], frame_commands[1] - self._rest, asked - self._rest, step)
        remaining = (remaining - 1.0).clamp(min=0.0)
        next_state = torch.cat((following - self.standing, action, *commands, remaining, *history), dim=1)
        return targets - self._default, next_state, targets

    def _with_history(self, terms: Tensor, history: Tensor, begun: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the policy sees, the newest last, and the parts of the next state that remember it."""
        num_seen = terms.shape[1]
        earlier = torch.where(begun > 0.5, history, terms.repeat(1, self._history_length - 1))
        # As with the action: what is not a number counts as not measured.
        kept = torch.where(torch.isnan(terms), earlier[:, -num_seen:], terms)
        begun = torch.where(torch.isnan(kept).any(dim=1, keepdim=True), begun, torch.ones_like(begun))
        history = torch.nan_to_num(torch.cat((earlier[:, num_seen:], kept), dim=1))
        return torch.cat((earlier, terms), dim=1), [history, begun]

    def _generated(self, present: Tensor, command: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The frame (n, state_dim) that follows, and what is remembered of the command then."""
        command = functional.pad(command, (0, len(self._unsaid) - command.shape[1])) + self._unsaid
        if self.feedback is None:
            return self.generator(present, command), memory
        told, memory = self.feedback.correct(command, memory)
        following = self.generator(present, told)
        return following, self.feedback.follow(following, memory)

    def _joint_pos(self, generated: Tensor) -> Tensor:
        return generated[:, self._layout["dof_pos"]][:, self._joints]

    def _joint_vel(self, generated: Tensor) -> Tensor:
        return generated[:, self._layout["dof_vel"]][:, self._joints]

    # What the policy sees, by the names of the environment's observations ---------------------------------------------

    def _observe_base_ang_vel(self, seen: _Seen) -> Tensor:
        return seen.observation[:, :3]

    def _observe_projected_gravity(self, seen: _Seen) -> Tensor:
        return seen.observation[:, GRAVITY]

    def _observe_commands(self, seen: _Seen) -> Tensor:
        return seen.command[:, VELOCITY]

    def _observe_dof_pos(self, seen: _Seen) -> Tensor:
        return seen.dof_pos - self._default

    def _observe_dof_vel(self, seen: _Seen) -> Tensor:
        return seen.dof_vel

    def _observe_last_action(self, seen: _Seen) -> Tensor:
        return seen.last_action

    def _observe_dof_pos_error(self, seen: _Seen) -> Tensor:
        return seen.dof_pos - self._joint_pos(seen.present)

    def _observe_reference_dof_pos(self, seen: _Seen) -> Tensor:
        return self._joint_pos(seen.following) - self._default

    def _observe_reference_dof_change(self, seen: _Seen) -> Tensor:
        return self._joint_pos(seen.ahead) - self._joint_pos(seen.following)


@dataclass(frozen=True)
class _Seen:
    """What observations are made of, all (n, ...)."""

    observation: Tensor
    command: Tensor
    dof_pos: Tensor
    dof_vel: Tensor
    last_action: Tensor
    present: Tensor
    following: Tensor
    ahead: Tensor


def _approach(command: Tensor, wanted: Tensor, step: Tensor) -> Tensor:
    """The command in force one control step later, all (n, command_dim); what is all but reached is reached exactly."""
    way = wanted - command
    return torch.where(way.abs() <= 1.0001 * step, wanted, command + torch.sign(way) * step)


def _acceleration(commands: dict[str, Any]) -> tuple[float, ...] | None:
    """What vx, vy and yaw rate may change by in a second, None for the usual; raises PolicyError if that is bad."""
    given = commands.get("acceleration")
    try:
        check_acceleration(given, "commands.acceleration")
    except (TypeError, ValueError) as error:
        raise PolicyError(f"the policy's configuration cannot be used: {error}") from error
    return None if given is None else tuple(given)


def _command_range(commands: dict[str, dict[str, Any]], checkpoint: Checkpoint) -> tuple[Tensor, Tensor]:
    """Range that both policy and generator were trained in, (command_dim,) each."""
    given = commands.get("ranges", {})
    ranges = {**given.get("further", {}), **{name: given[name] for name in CommandLayout().names if name in given}}
    num = NUM_VELOCITIES + len(given.get("further", {}))
    low, high = checkpoint.command_min[:num].clone(), checkpoint.command_max[:num].clone()
    for name, (lowest, highest) in ranges.items():
        column = checkpoint.command_layout.column(name)
        low[column] = max(float(low[column]), lowest)
        high[column] = min(float(high[column]), highest)
    return low, high
