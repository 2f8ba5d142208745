"""Networks of a training that begin with the weights and statistics of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from rsl_rl.modules import EmpiricalNormalization

from envs.learning.policy import Policy, PolicyDescription, PolicyError, critic_state, shapes_of
from envs.learning.symmetric_network import load_dense_state, load_layers

OBSERVATIONS_OF_A_POLICY = 10**8  # that the statistics of a policy count as, so that they hardly move


def check_fit(
    state: Mapping[str, Any], description: PolicyDescription, activation: str, networks: Mapping[str, torch.nn.Module]
) -> None:
    """Say in what a checkpoint is of another robot, layout or network.

    Args:
        state: What a checkpoint holds.
        description: What the numbers of the policy mean here.
        activation: That of the networks here.
        networks: Actor and critic by name.

    Raises:
        PolicyError: It does not fit.
        LookupError: It lacks a part.
    """
    reason = PolicyDescription.from_json(state["description"]).mismatch(description)
    if reason:
        raise PolicyError(reason)
    check_activation(state["activation"], activation)
    for name, network in networks.items():
        saved = state[f"{name}_state_dict"]
        for field, value in network.state_dict().items():
            if field not in saved:
                raise PolicyError(f"the networks are others: its {name} lacks {field}")
            if saved[field].shape != value.shape:
                sizes = f"{tuple(saved[field].shape)}, here {tuple(value.shape)}"
                raise PolicyError(f"the networks are others: {field} of its {name} is {sizes}")


def check_activation(its: str, ours: str) -> None:
    """Raise a PolicyError if two networks have different activations."""
    if its != ours:
        raise PolicyError(f"its activation is {its}, here it is {ours}")


@torch.no_grad()
def take_actor(actor: Any, policy: Policy) -> None:
    """Give an actor the weights and statistics of a policy.

    Args:
        actor: rsl_rl's model, as wide as the policy's or wider.
        policy: Of the same layout.

    Raises:
        LookupError, ValueError: The networks are of different sizes.
    """
    load_dense_state(actor, policy.mlp.state_dict())
    normalizer = actor.obs_normalizer
    if isinstance(normalizer, EmpiricalNormalization):
        normalizer._mean.copy_(policy.mean)
        normalizer._std.copy_(policy.scale - normalizer.eps)
        normalizer._var.copy_(normalizer._std.square())


def take_critic(critic: Any, policy: Policy, description: PolicyDescription) -> bool:
    """Take over the critic that comes with a policy, if it sees the same, or the first of it, and is not wider.

    What it has not seen yet counts for nothing at first.

    Args:
        critic: rsl_rl's model.
        policy: The policy.
        description: What the numbers mean here.

    Returns:
        Whether it was taken over.
    """
    saw, sees = (
        list(one.config.get("observations", {}).get("privileged", ())) for one in (policy.description, description)
    )
    ours, its = critic_state(critic.state_dict()), policy.critic
    if saw != sees[: len(saw)]:
        return False
    if len(saw) < len(sees):
        its = {name: _with_more_columns(name, value, ours.get(name, value)) for name, value in its.items()}
    layers = {name[len("mlp.") :]: value for name, value in its.items() if name.startswith("mlp.")}
    others = {name: value for name, value in its.items() if not name.startswith("mlp.")}
    if shapes_of(others) != shapes_of({name: value for name, value in ours.items() if not name.startswith("mlp.")}):
        return False
    try:
        load_layers(critic, layers)
    except (LookupError, ValueError):
        return False
    critic.load_state_dict({**critic.state_dict(), **others})
    settle_statistics(critic)
    return True


def _with_more_columns(name: str, value: torch.Tensor, wider: torch.Tensor) -> torch.Tensor:
    """A tensor of a critic with further columns at its end: weights of 0, statistics that are those of `wider`."""
    if value.dim() != 2 or value.shape[0] != wider.shape[0] or value.shape[1] >= wider.shape[1]:
        return value
    further = wider[:, value.shape[1] :]
    return torch.cat((value, torch.zeros_like(further) if name.endswith(".weight") else further), dim=1)


def settle_statistics(model: Any) -> None:
    """Let the statistics of a model's observations count as those of so many that they hardly move."""
    if isinstance(model.obs_normalizer, EmpiricalNormalization):
        model.obs_normalizer.count.fill_(OBSERVATIONS_OF_A_POLICY)


@torch.no_grad()
def widen_scales(
    model: Any,
    layout: Iterable[tuple[str, int, float]],
    joint_names: Sequence[str],
    least_scales: Mapping[str, Mapping[str, float]],
) -> None:
    """Let no scale of a model's normaliser be less than configured.

    Args:
        model: rsl_rl's model.
        layout: Name, size and factor of each term that it sees, in order.
        joint_names: Joints in the order of terms that have one number for each.
        least_scales: Least scale by term and part of a joint's name, in units of the term before its factor.
    """
    normalizer = model.obs_normalizer
    if not isinstance(normalizer, EmpiricalNormalization):
        return
    least, start = torch.zeros_like(normalizer._std), 0
    for name, size, factor in layout:
        for joint, joint_name in enumerate(joint_names):
            for part, value in least_scales.get(name, {}).items():
                if part in joint_name and joint < size:
                    least[0, start + joint] = value * factor
        start += size
    least.sub_(normalizer.eps)
    narrow = normalizer._std < least
    normalizer._std[narrow] = least[narrow]
    normalizer._var[narrow] = least[narrow].square()
