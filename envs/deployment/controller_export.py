"""Generator and policy as one recurrent ONNX file that holds all that a runner has to know."""

from __future__ import annotations

from pathlib import Path

import torch

from cmg_ref.core.command_layout import VELOCITY
from cmg_ref.network.checkpoint import SHIPPED_CHECKPOINT, load_checkpoint
from envs.deployment.controller import COMMAND, Controller
from envs.deployment.description import describe_controller, metadata_entries
from envs.deployment.gaitkeeper_contract import write_contract
from envs.deployment.onnx_file import write_onnx
from envs.learning.policy import Policy, PolicyError, file_hash

INPUTS, OUTPUTS = ("observation", "state"), ("actions", "next_state", "joint_targets")
TOLERANCE = 1e-4  # [rad], and the units of the state
TRIAL_STEPS = 50


def export_controller(
    policy: Policy, path: str | Path, checkpoint_file: str | Path | None = None, policy_file: str | Path | None = None
) -> float:
    """Write policy and generator as one file and run it beside them on a walk.

    The inputs are "observation" and "state", the outputs "actions", "next_state" and "joint_targets", for any number of
    robots; :class:`envs.deployment.controller.Controller` says what they are, and so do the file's metadata. Beside it
    a contract for gaitkeeper is written, named as :func:`envs.deployment.gaitkeeper_contract.contract_path` says.

    Args:
        policy: The policy, of a task with a reference.
        path: The file to write.
        checkpoint_file: The generator; the one of the package by default.
        policy_file: Where the policy comes from, to note its hash.

    Returns:
        Largest difference between file and torch.

    Raises:
        PolicyError: A package is missing, the policy cannot be exported so, or the file differs by more than
            `TOLERANCE`.
        CheckpointError: The generator cannot be used.
    """
    checkpoint_file = Path(checkpoint_file or SHIPPED_CHECKPOINT)
    checkpoint = load_checkpoint(checkpoint_file)
    controller = Controller(policy.cpu().eval(), checkpoint).eval().requires_grad_(False)
    made_from = {checkpoint_file.name: file_hash(checkpoint_file)}
    if policy_file is not None:
        made_from[Path(policy_file).name] = file_hash(policy_file)
    trials = _walk(controller)
    names = dict(zip(INPUTS, (torch.zeros(2, controller.observation_size), torch.zeros(2, controller.state_size))))
    description = describe_controller(controller, checkpoint, made_from)
    difference = write_onnx(controller, path, names, OUTPUTS, metadata_entries(description), trials, TOLERANCE)
    write_contract(description, path)
    return difference


@torch.no_grad()
def _walk(controller: Controller) -> list[dict[str, torch.Tensor]]:
    """Inputs of robots that are told to stand, walk, or something else at every step, measurements at random."""
    generator = torch.Generator().manual_seed(0)
    trials, told = [], slice(COMMAND, COMMAND + controller.command_layout.size)
    for count in (1, 16):
        state = torch.zeros(count, controller.state_size)
        spread = controller.command_max - controller.command_min
        commands = controller.command_min + spread * (1.4 * torch.rand(count, len(spread), generator=generator) - 0.2)
        commands[0, VELOCITY] = 0.0
        for step in range(TRIAL_STEPS):
            observation = 0.1 * torch.randn(count, controller.observation_size, generator=generator)
            observation[:, 3:6] = torch.nn.functional.normalize(
                observation[:, 3:6] + torch.tensor([0.0, 0.0, -1.0]), dim=1
            )
            observation[:, told] = commands
            observation[count // 2, told] += 0.1 * torch.randn(len(spread), generator=generator) * (count > 1)
            trials.append(dict(zip(INPUTS, (observation, state))))
            _, state, _ = controller(observation, state)
            if step == TRIAL_STEPS // 2:
                commands = commands.flip(0)
    if not bool(torch.isfinite(state).all()):
        raise PolicyError("the policy's numbers overflow within a second of walking")
    return trials
