"""One safetensors file with all a CMG needs to run: weights, statistics, initial states, a JSON description."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Sequence

import torch
from safetensors.torch import save_file

from cmg_ref.core.command_layout import HEIGHT, VELOCITY, CommandLayout
from cmg_ref.core.rotations import projected_gravity, quat_from_gravity_and_yaw
from cmg_ref.core.shorten import reason, shortened
from cmg_ref.core.state_layout import BETWEEN_STEPS, GAIT_PHASE, StateLayout
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.files.atomic_file import atomic_file
from cmg_ref.files.json_text import parse_json
from cmg_ref.files.tensor_file import read_tensor_file
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.robots.g1 import G1_CHECKPOINT
from cmg_ref.robots.inverse_kinematics import LegKinematics
from cmg_ref.robots.kinematics import FootKinematics
from cmg_ref.robots.registry import FIRST_ROBOT, registered_robot
from cmg_ref.robots.robot import Robot, RobotError, read_robot

FORMAT_VERSION = 1
SHIPPED_CHECKPOINT = G1_CHECKPOINT
_METADATA_KEY = "cmg_ref"
_MODEL_PREFIX = "model."
_BETWEEN_STANCES = 0.005  # in the height of the root [m]
_SAME_MOTION = 1e-3  # states that move by no more than that beyond the slowest are at rest [m/s, rad/s]


class CheckpointError(ValueError):
    """A checkpoint file cannot be used; the message says which file and why."""


@dataclass
class Checkpoint:
    """A trained CMG and what is needed to run it.

    Attributes:
        model: The network with its statistics, in evaluation mode.
        joint_names: Names of the columns of ``dof_pos`` and ``dof_vel``.
        initial_states: States that a roll-out may start from, (num_initial_states, state_dim).
        initial_commands: The command that each initial state was doing, (num_initial_states, command_dim).
        metadata: JSON-ready notes: name of the robot (checkpoints that name none are of the G1), training data and
            licence, training settings, metrics.
    """

    model: CMG
    joint_names: tuple[str, ...]
    initial_states: torch.Tensor
    initial_commands: torch.Tensor
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def layout(self) -> StateLayout:
        """Channels of the state."""
        return self.model.layout

    @property
    def command_layout(self) -> CommandLayout:
        """Channels of the command."""
        return self.model.command_layout

    @property
    def fps(self) -> float:
        """Frames a second that the model advances at."""
        return self.model.fps

    @property
    def command_min(self) -> torch.Tensor:
        """Smallest trained value of each channel of the command, (command_dim,)."""
        return self.model.command_min

    @property
    def command_max(self) -> torch.Tensor:
        """Largest trained value of each channel of the command, (command_dim,)."""
        return self.model.command_max

    def robot(self, given: Robot | None = None, dropped: Sequence[str] = ()) -> Robot:
        """The robot that it moves.

        Args:
            given: Another model of that robot; by default the one that goes by the name in the metadata.
            dropped: Joints of the checkpoint that the robot need not have.

        Raises:
            RobotError: There is no robot of that name, or the robot lacks a joint of the checkpoint.
        """
        robot = read_robot(registered_robot(self.metadata.get("robot", FIRST_ROBOT))) if given is None else given
        missing = [name for name in self.joint_names if name not in robot.joint_names and name not in dropped]
        if missing:
            raise RobotError(
                f"the robot {robot.spec.name} has no joint '{missing[0]}' of the checkpoint: give the robot that the "
                "checkpoint was trained for"
            )
        return robot

    @property
    def at_rest(self) -> torch.Tensor:
        """Which initial states stand still at no height of their own, or come nearest, (num_initial_states,) bool."""
        speed = self.initial_states[:, self.layout["dof_vel"]].abs().amax(dim=1)
        motion = self.initial_commands[:, VELOCITY].abs().sum(dim=1) + speed
        alone = self.command_layout.velocity_alone(self.initial_commands)
        return alone & (motion <= motion[alone].min() + _SAME_MOTION)

    def standing_state(self, robot: Robot | None = None) -> torch.Tensor:
        """The neutral stance, (state_dim,): the mean of the initial states at rest and their mirror images.

        So both sides are alike, the feet side by side with the weight between them, and it is as people stand, which
        the network knows to keep. Nothing moves, and the soles are on the floor.

        Args:
            robot: Another model of the robot that it moves; one that lacks joints of the checkpoint is passed over.
        """
        layout, names = self.layout, list(self.joint_names)
        robot = self.robot() if robot is None or not set(names) <= set(robot.joint_names) else robot
        mean = self.initial_states[self.at_rest].mean(dim=0)
        own = robot.joint_index(names).to(mean.device)
        twins = [names.index(robot.spec.mirrored_name(name)) for name in names]
        dof_pos = mean[layout["dof_pos"]]
        dof_pos = 0.5 * (dof_pos + robot.mirror_sign.to(mean)[own] * dof_pos[twins])
        standing = torch.zeros_like(mean)
        standing[layout["dof_pos"]] = dof_pos
        if GAIT_PHASE in layout:
            standing[layout[GAIT_PHASE]] = mean.new_tensor(BETWEEN_STEPS)
        if layout.has_root:
            gravity = mean[layout["projected_gravity"]] * mean.new_tensor([1.0, 0.0, 1.0])
            standing[layout["projected_gravity"]] = gravity / gravity.norm()
            pose = mean.new_zeros(robot.num_joints)
            pose[own] = dof_pos
            turn = quat_from_gravity_and_yaw(standing[layout["projected_gravity"]], mean.new_zeros(()))
            soles = FootKinematics(robot, mean.device)(pose, mean.new_zeros(3), turn)[..., 2]
            standing[layout["root_height"]] = robot.foot_radius - soles.min()
        return standing

    def stances(self, robot: Robot | None = None) -> torch.Tensor:
        """Neutral stances from the lowest that can be asked for to :meth:`standing_state`, (num_stances, state_dim).

        The same stance with the body lowered as that of the data is, see :meth:`LegKinematics.lowered`; the heights of
        their roots are equally far apart. One alone where a command has no height, or the legs do not bend so.

        Args:
            robot: See :meth:`standing_state`.
        """
        highest, layout = self.standing_state(robot), self.layout
        if HEIGHT not in self.command_layout.names or not layout.has_root:
            return highest.unsqueeze(0)
        robot = self.robot() if robot is None or not set(self.joint_names) <= set(robot.joint_names) else robot
        own = robot.joint_index(list(self.joint_names))
        height, gravity = highest[layout["root_height"]].double(), highest[layout["projected_gravity"]].double()
        room = float(height) - float(self.command_min[self.command_layout.names.index(HEIGHT)])
        depth = _BETWEEN_STANCES * torch.arange(max(1, int(room / _BETWEEN_STANCES) + 1), dtype=torch.float64)
        count = len(depth)
        pose = torch.zeros(count, robot.num_joints, dtype=torch.float64)
        pose[:, own] = highest[layout["dof_pos"]].double().cpu()
        quat = quat_from_gravity_and_yaw(gravity.cpu(), torch.zeros((), dtype=torch.float64)).expand(count, 4)
        place = torch.cat((torch.zeros(count, 2, dtype=torch.float64), height.cpu().expand(count, 1)), dim=1)
        dof_pos, root_pos, root_quat, reached = LegKinematics(robot).lowered(pose, place, quat, depth)
        deepest = int(reached.long().cumprod(dim=0).sum())  # Whoever cannot bend so far stays above.
        stances = highest.repeat(max(1, deepest), 1)
        if deepest > 1:
            lowered = slice(0, deepest)
            stances[:, layout["dof_pos"]] = dof_pos[lowered, own].to(stances)
            stances[:, layout["root_height"]] = root_pos[lowered, 2:].to(stances)
            stances[:, layout["projected_gravity"]] = projected_gravity(root_quat[lowered]).to(stances)
        return stances.flip(0)

    def validate(self) -> None:
        """Check that the parts fit each other.

        Raises:
            CheckpointError: Names the part that does not fit.
        """
        num_joints, state_dim = self.layout.num_joints, self.layout.size
        if len(self.joint_names) != num_joints or len(set(self.joint_names)) != num_joints:
            raise CheckpointError(f"{len(set(self.joint_names))} distinct joint names for {num_joints} joints")
        if self.initial_states.ndim != 2 or self.initial_states.shape[1] != state_dim or len(self.initial_states) < 1:
            raise CheckpointError(
                f"initial_states has shape {tuple(self.initial_states.shape)}, expected (>= 1, {state_dim})"
            )
        if self.initial_commands.shape != (len(self.initial_states), self.command_layout.size):
            raise CheckpointError(f"initial_commands has shape {tuple(self.initial_commands.shape)}")
        tensors = {
            **self.model.state_dict(),
            "initial_states": self.initial_states,
            "initial_commands": self.initial_commands,
        }
        for name, tensor in tensors.items():
            unbounded = name in ("state_min", "state_max")  # An imported checkpoint has no guard range.
            if not bool(torch.isfinite(tensor).all()) and not (unbounded and not bool(torch.isnan(tensor).any())):
                raise CheckpointError(f"'{name}' holds NaN or infinite values")
        if not bool((self.model.motion_std > 0).all()):
            raise CheckpointError("'motion_std' must be positive")
        if not bool((self.command_max > self.command_min).all()):
            raise CheckpointError("'command_max' must exceed 'command_min'")
        if not 0.0 < self.fps < math.inf:
            raise CheckpointError(f"fps must be positive and finite, got {self.fps}")


def save_checkpoint(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint; an existing file is replaced in one step, never half-written.

    Raises:
        CheckpointError: The parts do not fit each other.
        OSError: The folder cannot be written.
    """
    checkpoint.validate()
    tensors = {_MODEL_PREFIX + name: value.detach().cpu() for name, value in checkpoint.model.state_dict().items()}
    tensors["initial_states"] = checkpoint.initial_states.detach().cpu()
    tensors["initial_commands"] = checkpoint.initial_commands.detach().cpu()
    description = {
        "format_version": FORMAT_VERSION,
        "architecture": checkpoint.model.config.to_json(),
        "layout": checkpoint.layout.to_json(),
        "command_layout": checkpoint.command_layout.to_json(),
        "joint_names": list(checkpoint.joint_names),
        "fps": checkpoint.fps,
        "metadata": checkpoint.metadata,
    }
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    with atomic_file(path) as temporary:
        save_file(contiguous, str(temporary), {_METADATA_KEY: json.dumps(description)})


@with_torch_defaults
def load_checkpoint(path: str | Path | Checkpoint | None = None) -> Checkpoint:
    """Read a checkpoint; no code in the file is ever executed.

    Args:
        path: a ``.safetensors`` file of this project; None takes the one that is shipped with the package. A checkpoint
            that is loaded already is given back.

    Raises:
        CheckpointError: The file is missing, truncated, of another kind or version, or its parts do not fit.
    """
    if isinstance(path, Checkpoint):
        return path
    path = Path(path) if path is not None else SHIPPED_CHECKPOINT
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    notes, tensors = read_tensor_file(path, CheckpointError, "a safetensors checkpoint")
    try:
        description = parse_json(notes.get(_METADATA_KEY, "null"))
    except ValueError as error:
        raise CheckpointError(f"{path}: its description is no JSON ({reason(error)})") from error
    if not isinstance(description, dict):
        raise CheckpointError(
            f"{path}: has no '{_METADATA_KEY}' description; earlier .pt files need scripts/import_checkpoint.py"
        )
    try:
        return _assemble(description, tensors)
    except KeyError as error:
        raise CheckpointError(f"{path}: has no {reason(error)}") from error
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {reason(error)}") from error


def _assemble(description: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Checkpoint:
    """Build a checkpoint from the description and tensors of a file."""
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"format version {shortened(version)}, this release reads version {FORMAT_VERSION}")
    channels: list[dict[str, object]] = description["layout"]
    config, layout = CMGConfig(**description["architecture"]), StateLayout.from_json(channels)
    weights = {
        name[len(_MODEL_PREFIX) :]: value.float() for name, value in tensors.items() if name.startswith(_MODEL_PREFIX)
    }
    command_layout = CommandLayout.from_json(description.get("command_layout"))
    config.check_weights(layout, command_layout, weights)
    joint_names, metadata = description["joint_names"], description.get("metadata", {})
    if not isinstance(joint_names, list) or not all(isinstance(name, str) for name in joint_names):
        raise CheckpointError("'joint_names' is no list of names")
    if not isinstance(metadata, dict):
        raise CheckpointError("'metadata' is no dictionary")
    model = CMG(config, layout, float(description["fps"]), command_layout)
    model.load_state_dict(weights)
    checkpoint = Checkpoint(
        model=model.eval().requires_grad_(False),
        joint_names=tuple(joint_names),
        initial_states=tensors["initial_states"].float(),
        initial_commands=tensors["initial_commands"].float(),
        metadata=metadata,
    )
    checkpoint.validate()
    return checkpoint
