"""Networks as ONNX files that say what they are and were seen to do what the network does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cmg_ref.files.atomic_file import write_file
from cmg_ref.files.onnx_model import onnx_model
from envs.learning.policy import PolicyError


def write_onnx(
    module: nn.Module,
    path: str | Path,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    metadata: Mapping[str, str],
    trials: Sequence[Mapping[str, Tensor]],
    tolerance: float,
) -> float:
    """Write a module as ONNX, for any number of rows, and run the file on trials.

    Args:
        module: In evaluation mode, on the CPU.
        path: The file; an existing one is replaced at the end, in one step.
        inputs: Names of the module's arguments in their order, with an example (n, ...) of each.
        outputs: Names of its results in their order.
        metadata: Entries of the file.
        trials: Inputs to compare file and module on.
        tolerance: Largest difference that is allowed.

    Returns:
        Largest difference between file and module.

    Raises:
        PolicyError: A package is missing, or the results differ by more than `tolerance`; no file is left then.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 (its absence is told before any work)
    except ImportError as error:
        raise PolicyError(f"exporting needs the package {error.name}: pip install 'cmg_ref[export]'") from error
    model = onnx_model(module, inputs, outputs)
    onnx.helper.set_model_props(model, dict(metadata))
    content = model.SerializeToString()
    difference = _difference(module, content, outputs, trials)
    if not difference <= tolerance:
        raise PolicyError(f"{path}: the exported file differs by {difference:.1e}, allowed is {tolerance:g}")
    write_file(path, content)
    return difference


@torch.no_grad()
def _difference(
    module: nn.Module, content: bytes, outputs: Sequence[str], trials: Sequence[Mapping[str, Tensor]]
) -> float:
    """Largest difference between the results of a file's content and those of the module."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = 0.0
    for inputs in trials:
        expected = module(*inputs.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        results = session.run(list(outputs), {name: value.numpy() for name, value in inputs.items()})
        for result, wanted in zip(results, expected):
            largest = max(largest, float((torch.from_numpy(result) - wanted).abs().max()))
    return largest
