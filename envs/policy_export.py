"""A policy as one ONNX file that says what it is, checked against the policy it was made from."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import warnings
from pathlib import Path

import torch

from cmg_ref.atomic_file import write_file
from envs.policy import Policy, PolicyError

INPUT, OUTPUT = "observations", "actions"
METADATA_KEY = "cmg_ref_policy"
TOLERANCE = 1e-5
OPSET = 18


def export_policy(policy: Policy, path: str | Path) -> float:
    """Write a policy as ONNX and run the file on random observations.

    The file has one input "observations" (n, num_observations), not normalised, and one output "actions"
    (n, num_actions). Its metadata hold the description, as JSON under "cmg_ref_policy", and its most important parts
    as plain entries: joint names, gains, default pose, scales, observation layout.

    Args:
        policy: The policy.
        path: The file.

    Returns:
        Largest difference between the actions of file and policy.

    Raises:
        PolicyError: A package is missing, or the actions differ by more than `TOLERANCE`.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 (its absence is told before any work)
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise PolicyError(f"exporting needs the package {error.name}: pip install 'cmg_ref[export]'") from error
    policy = policy.cpu().eval()
    example = torch.zeros(2, policy.description.num_observations)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            policy,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            opset_version=OPSET,
            dynamo=True,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, _metadata(policy))
    content = model.SerializeToString()
    difference = _difference(policy, content)
    if not difference <= TOLERANCE:
        raise PolicyError(f"{path}: the exported policy differs by {difference:.1e}, allowed is {TOLERANCE:g}")
    write_file(path, content)
    return difference


def _metadata(policy: Policy) -> dict[str, str]:
    """Entries of the file."""
    description = dataclasses.asdict(policy.description)
    plain = {name: json.dumps(value) for name, value in description.items() if name not in ("config", "notes")}
    return {METADATA_KEY: json.dumps(description), **plain}


def _difference(policy: Policy, content: bytes) -> float:
    """Largest difference between the actions of a file's content and the policy's, for one robot and for many."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for count in (1, 256):
        unit = torch.randn(count, policy.description.num_observations, generator=generator)
        observations = policy.mean + policy.scale * unit
        with torch.no_grad():
            expected = policy(observations)
        actions = torch.from_numpy(session.run([OUTPUT], {INPUT: observations.numpy()})[0])
        largest = max(largest, float((actions - expected).abs().max()))
    return largest
