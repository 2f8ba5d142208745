"""A trained policy as one safetensors file that says what it is: weights, statistics and a JSON description.

Whoever runs it needs to know in which order the joints come, with which gains they are driven, what an action means
and of what the observations are made. The file holds all of that, and the configuration it was trained with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from cmg_ref.commands.calibration import CommandCalibration
from cmg_ref.core.shorten import reason, shortened
from cmg_ref.files.atomic_file import atomic_file
from cmg_ref.files.json_text import parse_json
from cmg_ref.files.plain_arrays import kind_of
from cmg_ref.files.tensor_file import read_tensor_file
from cmg_ref.network.checkpoint import SHIPPED_CHECKPOINT, CheckpointError
from cmg_ref.network.legacy_checkpoint import load_torch_file
from cmg_ref.robots.registry import FIRST_ROBOT
from cmg_ref.robots.robot import Robot, load_robot
from configs.base_config import class_to_dict
from envs.learning.training_run import checkpoints

FORMAT_VERSION = 1
SHIPPED_POLICY = Path(__file__).parents[1] / "assets" / "g1_cmg_policy.safetensors"
ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}
NORMALIZER_EPSILON = 1e-2  # that rsl_rl's EmpiricalNormalization adds to the standard deviation
_METADATA_KEY = "cmg_ref_policy"
_CRITIC = "critic."  # begins the names of the critic's tensors in a file
_CHECKPOINT_KEYS = {"actor_state_dict", "critic_state_dict", "optimizer_state_dict", "iter", "description"}
_CHECKPOINT_KEYS |= {"activation", "environment", "policy", "warm_up_left", "infos", "torch_rng"}
_CHECKPOINT_KEYS |= {"total_steps", "total_time", "best_score", "evaluations"}


class PolicyError(ValueError):
    """A policy that cannot be used; the message says which file and why."""


@dataclass(frozen=True)
class PolicyDescription:
    """All that a policy's numbers mean.

    Attributes:
        task: Name of the task it was trained on.
        joint_names: Order of joints, in observations and actions.
        stiffness, damping: Gains of the joints' PD control, in that order [Nm/rad, Nms/rad].
        default_dof_pos: Default pose [rad].
        action_scale: Radians that an action of 1 adds to the target of each joint.
        action_limit: Actions are held within plus and minus this before they are used.
        control_dt: Time of a control step [s].
        observations: Parts of the observation in their order: name, size, and factor on the quantity in SI units.
        reference: SHA-256 of the checkpoint that makes the reference motion; empty for a task without one.
        action_meaning: One sentence that says how a joint target comes from an action.
        config: The environment's configuration.
        notes: What else is worth knowing: steps of training, results.
        calibration: What it has to be told to obey, as a `CommandCalibration` writes itself; empty: just the command.
    """

    task: str
    joint_names: tuple[str, ...]
    stiffness: tuple[float, ...]
    damping: tuple[float, ...]
    default_dof_pos: tuple[float, ...]
    action_scale: tuple[float, ...]
    action_limit: float
    control_dt: float
    observations: tuple[tuple[str, int, float], ...]
    reference: str
    action_meaning: str
    config: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)

    def robot(self) -> Robot:
        """The robot it was trained on; raises RobotError if there is none of that name."""
        return load_robot(self.config.get("asset", {}).get("robot") or FIRST_ROBOT)

    def command_calibration(self) -> nn.Module:
        """From a command that a robot shall obey to what its environment is told; raises PolicyError if it is bad."""
        try:
            return CommandCalibration.from_json(self.calibration) if self.calibration else nn.Identity()
        except ValueError as error:
            raise PolicyError(f"its calibration cannot be used: {error}") from error

    @property
    def num_observations(self) -> int:
        """Size of an observation."""
        return sum(size for _, size, _ in self.observations)

    @property
    def history_length(self) -> int:
        """How many observations one after the other the policy sees, the newest last."""
        return max(1, sum(part[0] == self.observations[0][0] for part in self.observations))

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> PolicyDescription:
        """The description that :func:`dataclasses.asdict` gave; raises PolicyError if its fields are others."""
        known = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for name, value in fields.items():
            check = _FIELD_CHECKS.get(known.get(name, ""))
            if check is None or not check(value):
                raise PolicyError(f"the policy's description is of another release ('{name}' is {shortened(value)})")
            values[name] = tuple(value) if isinstance(value, (list, tuple)) else value
        try:
            description = cls(**values)
        except TypeError as error:
            raise PolicyError(f"the policy's description is of another release ({reason(error)})") from error
        observations = tuple((name, size, scale) for name, size, scale in description.observations)
        return dataclasses.replace(description, observations=observations)

    def mismatch(self, other: PolicyDescription) -> str:
        """Why a policy described by `self` cannot run where `other` is needed, empty if it can."""
        if self.joint_names != other.joint_names:
            missing = [name for name in other.joint_names if name not in self.joint_names]
            unknown = [name for name in self.joint_names if name not in other.joint_names]
            what = [f"it {kind} {', '.join(names)}" for kind, names in (("lacks", missing), ("has", unknown)) if names]
            return f"it is for another robot: {'; '.join(what) or 'its joints come in another order'}"
        if self.observations != other.observations:
            for own, wanted in zip(self.observations, other.observations):
                if own != wanted:
                    return f"its observations are others: {_part(own)} where the task has {_part(wanted)}"
            return f"it takes {len(self.observations)} observations, the task has {len(other.observations)}"
        if abs(self.control_dt - other.control_dt) > 1e-6:
            return f"it acts every {self.control_dt:g} s, the task every {other.control_dt:g} s"
        if self.action_meaning != other.action_meaning:
            return f"its actions mean something else: '{self.action_meaning}', the task's '{other.action_meaning}'"
        for name, unit in (("action_scale", "rad"), ("default_dof_pos", "rad")):
            for joint, own, wanted in zip(self.joint_names, getattr(self, name), getattr(other, name)):
                if abs(own - wanted) > 1e-5:
                    return f"{name} of {joint} is {own:g} {unit}, the task's {wanted:g}"
        return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _is_list(value: Any, is_kind: Callable[[Any], bool]) -> bool:
    return isinstance(value, (list, tuple)) and all(map(is_kind, value))


def _is_part(value: Any) -> bool:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        return False
    name, size, scale = value
    return isinstance(name, str) and type(size) is int and 0 < size < 1_000_000 and _is_number(scale)


# By the type that a field of PolicyDescription is declared with: whether a value from JSON is of it.
_FIELD_CHECKS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "float": _is_number,
    "dict[str, Any]": lambda value: isinstance(value, dict),
    "tuple[str, ...]": lambda value: _is_list(value, lambda name: isinstance(name, str)),
    "tuple[float, ...]": lambda value: _is_list(value, _is_number),
    "tuple[tuple[str, int, float], ...]": lambda value: _is_list(value, _is_part),
}


def _part(part: tuple[str, int, float]) -> str:
    """A part of an observation for a message."""
    name, size, scale = part
    return f"{name} ({size} times {scale:g})"


def describe_policy(env: Any, task: str) -> PolicyDescription:
    """What the numbers of a policy of an environment mean.

    Args:
        env: The environment, a `LeggedRobot`.
        task: Name of its task.
    """
    reference = ""
    if env.reference is not None:
        reference = file_hash(env.cfg.reference.checkpoint or SHIPPED_CHECKPOINT)
    layout = [(term.name, term.size, term.scale) for term in env.observation_layout["policy"]]
    return PolicyDescription(
        task=task,
        joint_names=tuple(env.dof_names),
        stiffness=tuple(env.nominal_p_gains.tolist()),
        damping=tuple(env.nominal_d_gains.tolist()),
        default_dof_pos=tuple(env.default_dof_pos[0].tolist()),
        action_scale=tuple(env.action_scale.tolist()),
        action_limit=float(env.cfg.normalization.clip_actions),
        control_dt=float(env.dt),
        observations=tuple(layout * env.cfg.env.history_length),
        reference=reference,
        action_meaning=env.action_meaning,
        config=class_to_dict(env.cfg),
    )


class Policy(nn.Module):
    """Observations to mean actions, without the libraries of training.

    Args:
        description: What its numbers mean.
        hidden_dims: Sizes of the hidden layers.
        activation: Name of the function between layers, one of `ACTIVATIONS`.

    Attributes:
        mean, scale: what observations are normalised with, (num_observations,).
        critic: State of the critic of its training, which another one can go on with; empty if it is not known. It is
            no part of the network.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, description: PolicyDescription, hidden_dims: tuple[int, ...], activation: str = "elu") -> None:
        super().__init__()
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise PolicyError(f"activation {shortened(activation)} is unknown, there are {', '.join(ACTIVATIONS)}")
        self.description = description
        self.hidden_dims = hidden_dims
        self.activation = activation
        self.critic: dict[str, torch.Tensor] = {}
        sizes = [description.num_observations, *hidden_dims, len(description.joint_names)]
        layers: list[nn.Module] = []
        for before, after in zip(sizes[:-1], sizes[1:]):
            layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", torch.zeros(sizes[0]))
        self.register_buffer("scale", torch.ones(sizes[0]))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Mean actions (n, num_actions) for observations (n, num_observations)."""
        return self.mlp((observations - self.mean) / self.scale)

    @classmethod
    def from_actor_state(
        cls, state: dict[str, torch.Tensor], description: PolicyDescription, activation: str = "elu"
    ) -> Policy:
        """The policy that an actor of rsl_rl is.

        Args:
            state: Its state: "mlp.0.weight" and so on, and "obs_normalizer._mean" and "._std" where it has them.
            description: What its numbers mean.
            activation: Of the hidden layers.

        Raises:
            PolicyError: The sizes are not those of the description.
        """
        weights = {name[len("mlp.") :]: value for name, value in state.items() if name.startswith("mlp.")}
        sizes = [tuple(value.shape) for name, value in weights.items() if name.endswith(".weight")]
        if not sizes or any(len(shape) != 2 for shape in sizes):
            raise PolicyError("the state holds no network ('mlp.0.weight', ...)")
        wanted = (description.num_observations, len(description.joint_names))
        if (sizes[0][1], sizes[-1][0]) != wanted:
            raise PolicyError(
                f"the network takes {sizes[0][1]} observations and returns {sizes[-1][0]} actions, "
                f"the task has {wanted[0]} and {wanted[1]}"
            )
        policy = cls(description, tuple(int(shape[0]) for shape in sizes[:-1]), activation)
        policy.mlp.load_state_dict(weights)
        if "obs_normalizer._mean" in state:
            policy.mean.copy_(state["obs_normalizer._mean"].squeeze(0))
            policy.scale.copy_(state["obs_normalizer._std"].squeeze(0) + NORMALIZER_EPSILON)
        return policy.eval().requires_grad_(False)

    def widened(self, observations: tuple[tuple[str, int, float], ...]) -> Policy:
        """The same policy where commands have further channels, or more of the past is seen: it does not listen yet.

        Its critic, which sees no past, does not come along to commands with further channels.

        Args:
            observations: Parts of the observation it is to take. Where these are not its own parts with more columns at
                their ends, after earlier ones of the same, it is returned as it is.
        """
        own = self.description.observations
        earlier, newest = observations[: -len(own)], observations[-len(own) :]
        parts = list(zip(own, newest))
        fits = len(own) == len(newest) and all(a[0] == b[0] and a[1] <= b[1] and a[2] == b[2] for a, b in parts)
        fits = fits and earlier == newest * (len(earlier) // len(newest))
        if not fits or own == observations:
            return self
        policy = Policy(
            dataclasses.replace(self.description, observations=observations), self.hidden_dims, self.activation
        )
        known: list[int] = []
        start = 0
        for (_, size, _), (_, wider, _) in parts:
            known += range(start, start + size)
            start += wider
        state = dict(self.mlp.state_dict())
        first = torch.zeros(len(state["0.weight"]), policy.description.num_observations)
        for before in range(0, len(policy.mean), start):
            columns = [before + column for column in known]
            policy.mean[columns], policy.scale[columns] = self.mean, self.scale
        first[:, columns] = state["0.weight"]
        policy.mlp.load_state_dict({**state, "0.weight": first})
        if newest == own:
            policy.critic = self.critic
        return policy.eval().requires_grad_(False)

    def actor_state(self) -> dict[str, torch.Tensor]:
        """What `from_actor_state` takes: entries for the state of an actor of rsl_rl that normalises observations."""
        deviation = (self.scale - NORMALIZER_EPSILON).unsqueeze(0)
        normaliser = {"_mean": self.mean.unsqueeze(0), "_std": deviation, "_var": deviation.square()}
        weights = {f"mlp.{name}": value for name, value in self.mlp.state_dict().items()}
        return {**weights, **{f"obs_normalizer.{name}": value for name, value in normaliser.items()}}


def save_policy(policy: Policy, path: str | Path) -> None:
    """Write a policy; an existing file is replaced in one step."""
    description = {
        "format_version": FORMAT_VERSION,
        "hidden_dims": list(policy.hidden_dims),
        "activation": policy.activation,
        **dataclasses.asdict(policy.description),
    }
    state = {**policy.state_dict(), **{_CRITIC + name: value for name, value in policy.critic.items()}}
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_file(path) as temporary:
        save_file(tensors, str(temporary), {_METADATA_KEY: json.dumps(description)})


def load_policy(path: str | Path | None = None) -> Policy:
    """Read a policy; no code in the file is ever executed.

    Args:
        path: A ``.safetensors`` file; the policy of the package by default.

    Raises:
        PolicyError: The file is missing, damaged, of another kind or version.
    """
    path = SHIPPED_POLICY if path is None else Path(path)
    if not path.is_file():
        raise PolicyError(f"{path}: no such policy file")
    notes, tensors = read_tensor_file(path, PolicyError, "a policy")
    try:
        description = parse_json(notes.get(_METADATA_KEY, "null"))
    except ValueError as error:
        raise PolicyError(f"{path}: its description is no JSON ({reason(error)})") from error
    if not isinstance(description, dict):
        raise PolicyError(f"{path}: holds no policy (it has no '{_METADATA_KEY}' description)")
    try:
        version = description.pop("format_version")
        if version != FORMAT_VERSION:
            raise PolicyError(f"format version {shortened(version)}, this release reads version {FORMAT_VERSION}")
        hidden_dims, activation = description.pop("hidden_dims"), description.pop("activation")
        what = PolicyDescription.from_json(description)
        what.command_calibration()
        critic = {name[len(_CRITIC) :]: tensors.pop(name) for name in list(tensors) if name.startswith(_CRITIC)}
        _check_sizes(what, hidden_dims, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
        policy = Policy(what, tuple(hidden_dims), activation)
        policy.load_state_dict(tensors)
        policy.critic = critic
    except KeyError as error:
        raise PolicyError(f"{path}: has no {reason(error)}") from error
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise PolicyError(f"{path}: {reason(error)}") from error
    return policy.eval().requires_grad_(False)


def _check_sizes(description: PolicyDescription, hidden_dims: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse a description that the weights do not bear out, before a network is made of any size it may name."""
    num_layers = sum(name.endswith(".weight") for name in shapes)
    if not isinstance(hidden_dims, list) or len(hidden_dims) != num_layers - 1:
        raise PolicyError(f"hidden_dims is {shortened(hidden_dims)}, there are {num_layers} layers")
    sizes = [description.num_observations, *hidden_dims, len(description.joint_names)]
    for number, (before, after) in enumerate(zip(sizes[:-1], sizes[1:])):
        name = f"mlp.{2 * number}.weight"  # An activation lies between two layers.
        if shapes.get(name) != (after, before):
            raise PolicyError(
                f"weight '{name}' is {shapes.get(name)}, its description has {shortened((after, before))}"
            )


def average_policies(policies: Sequence[Policy]) -> Policy:
    """The policy whose weights are the means of those of several, of one training and not long after one another.

    Late in a training weights wander about what they converge to; their mean is nearer to it than any of them.

    Raises:
        PolicyError: There is none, or they are policies of different robots, layouts or sizes.
    """
    if not policies:
        raise PolicyError("there is no policy to average")
    first = policies[0]
    for other in policies[1:]:
        reason = first.description.mismatch(other.description)
        if reason or (other.hidden_dims, other.activation) != (first.hidden_dims, first.activation):
            raise PolicyError(f"these policies cannot be averaged: {reason or 'their networks are of different sizes'}")
    averaged = Policy(first.description, first.hidden_dims, first.activation)
    states = [policy.state_dict() for policy in policies]
    averaged.load_state_dict(_mean(states))
    critics = [policy.critic for policy in policies]
    if all(shapes_of(critic) == shapes_of(critics[0]) for critic in critics):
        averaged.critic = _mean(critics)
    return averaged.eval().requires_grad_(False)


def _mean(states: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}


def shapes_of(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    """Shape of each tensor of a state."""
    return {name: value.shape for name, value in state.items()}


def critic_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a policy keeps of the state of a critic of rsl_rl: all but what it has counted, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in state.items() if value.is_floating_point()}


def policy_of_checkpoint(path: str | Path) -> Policy:
    """The policy that a training checkpoint of this release holds.

    Raises:
        PolicyError: The file is missing or damaged, or made by something else.
    """
    state = read_checkpoint(Path(path))
    try:
        description = PolicyDescription.from_json(state["description"])
        policy = Policy.from_actor_state(state["policy"], description, state["activation"])
        policy.critic = critic_state(state["critic_state_dict"])
        return policy
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise PolicyError(f"{path}: holds no usable policy ({reason(error)})") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A training checkpoint, on the CPU; raises PolicyError if it is missing, damaged or of another kind."""
    if not path.is_file():
        raise PolicyError(f"{path}: no such checkpoint")
    try:
        state = load_torch_file(path)
    except CheckpointError as error:
        raise PolicyError(f"{error}{_others(path)}") from error
    lacking = sorted(_CHECKPOINT_KEYS - set(state))
    if lacking:
        raise PolicyError(
            f"{path}: not a training checkpoint of this release: lacks {', '.join(lacking)}{_others(path)}"
        )
    for name in ("description", "policy"):
        if not isinstance(state[name], dict):
            raise PolicyError(f"{path}: '{name}' is {kind_of(state[name])}, needs a dictionary{_others(path)}")
    if not isinstance(state["iter"], int):
        raise PolicyError(f"{path}: its iteration is no number but {shortened(state['iter'])}{_others(path)}")
    return state


def _others(path: Path) -> str:
    """What could be taken in place of a checkpoint that cannot be used, for a message."""
    names = [other.name for other in checkpoints(path.parent).values() if other != path]
    return f"; choose another: {', '.join(names[-5:])}" if names else ""


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
