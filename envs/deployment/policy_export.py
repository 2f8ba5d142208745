"""A policy as one ONNX file that says what it is, checked against the policy it was made from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from envs.deployment.description import LICENCE, describe_drive, describe_policy_observations
from envs.deployment.onnx_file import write_onnx
from envs.learning.policy import Policy

INPUT, OUTPUT = "observations", "actions"
METADATA_KEY = "cmg_ref_policy"
DEPLOYMENT_KEY = "cmg_ref_deployment"
TOLERANCE = 1e-5


def export_policy(policy: Policy, path: str | Path) -> float:
    """Write a policy as ONNX and run the file on random observations.

    The file has one input "observations" (n, num_observations), not normalised, and one output "actions"
    (n, num_actions). Its metadata hold the description, as JSON under "cmg_ref_policy"; what a runner has to know of
    observations, joints and drives, as JSON under "cmg_ref_deployment"; and the most important parts as plain entries.

    Args:
        policy: The policy.
        path: The file.

    Returns:
        Largest difference between the actions of file and policy.

    Raises:
        PolicyError: A package is missing, or the actions differ by more than `TOLERANCE`.
    """
    policy = policy.cpu().eval()
    generator = torch.Generator().manual_seed(0)
    trials = []
    for count in (1, 256):
        unit = torch.randn(count, policy.description.num_observations, generator=generator)
        trials.append({INPUT: policy.mean + policy.scale * unit})
    example = {INPUT: torch.zeros(2, policy.description.num_observations)}
    return write_onnx(policy, path, example, [OUTPUT], _metadata(policy), trials, TOLERANCE)


def _metadata(policy: Policy) -> dict[str, str]:
    """Entries of the file."""
    description = dataclasses.asdict(policy.description)
    plain = {name: json.dumps(value) for name, value in description.items() if name not in ("config", "notes")}
    deployment = {
        **describe_drive(policy.description),
        "observations": describe_policy_observations(policy.description),
        "reference_of_training": policy.description.reference,
        "licence": LICENCE,
    }
    return {METADATA_KEY: json.dumps(description), DEPLOYMENT_KEY: json.dumps(deployment), **plain}
