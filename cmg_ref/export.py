"""A CMG outside Python: its step as one ONNX or TorchScript file that says what it is."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cmg_ref.core.command_layout import VELOCITY
from cmg_ref.core.shorten import reason
from cmg_ref.files.archive import Archive
from cmg_ref.files.atomic_file import buffered_file, write_file
from cmg_ref.files.input_file import check_input_file
from cmg_ref.files.json_text import parse_json
from cmg_ref.files.onnx_model import onnx_model
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.network.standing import Standing

INPUTS, OUTPUT = ("state", "command"), "next_state"
TOLERANCE = 1e-5  # in units of each channel's spread, the roll-out's own accuracy
FORMAT_VERSION = 1
_TORCHSCRIPT_METADATA = "cmg_ref.json"


class ExportError(RuntimeError):
    """A checkpoint cannot be exported, or the file does not do what the checkpoint does."""


class CMGStep(nn.Module):
    """One frame of a roll-out: commands clamped, the state held inside its range, standing as ``Rollout`` has it.

    Args:
        checkpoint: The CMG.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = checkpoint.model
        self.standing = Standing(checkpoint.model, checkpoint.stances())

    def forward(self, state: torch.Tensor, command: torch.Tensor) -> torch.Tensor:
        """The state one frame later, (n, state_dim), from states and commands (n, command_dim)."""
        command = self.model.clamp_command(command)
        held = self.model.guard(self.model(state, command))
        return self.standing(held, state, command)


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a file says of itself: enough to feed it and to understand what comes out."""
    standing = checkpoint.standing_state()
    return {
        "format_version": FORMAT_VERSION,
        "description": "one frame of a Conditional Motion Generator: next_state = step(state, command)",
        "inputs": {
            "state": [-1, checkpoint.layout.size],
            "command": [*(channel.title for channel in checkpoint.command_layout), "heading frame, x forward, y left"],
        },
        "fps": checkpoint.fps,
        "joint_names": list(checkpoint.joint_names),
        "layout": checkpoint.layout.to_json(),
        "command_layout": checkpoint.command_layout.to_json(),
        "command_min": checkpoint.command_min.tolist(),
        "command_max": checkpoint.command_max.tolist(),
        "standing_state": standing.tolist(),
        "training_data": checkpoint.metadata.get("training_data", checkpoint.metadata.get("data")),
    }


def export_onnx(checkpoint: Checkpoint, path: str | Path) -> float:
    """Write the step as ONNX and run the file on initial states under random commands.

    The inputs are "state" (n, state_dim) and "command" (n, command_dim), the output is "next_state" (n, state_dim),
    all in physical units and for any n. The metadata hold the entries of :func:`describe`, each as JSON.

    Args:
        checkpoint: The CMG.
        path: File to write; an existing one is replaced at the end, in one step.

    Returns:
        Largest difference between file and checkpoint, in standard deviations of each channel.

    Raises:
        ExportError: a package is missing, or the file differs by more than ``TOLERANCE``.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 (its absence is told before any work)
    except ImportError as error:
        raise ExportError(f"exporting needs the package {error.name}: pip install 'cmg_ref[export]'") from error
    step = CMGStep(checkpoint).cpu().eval()
    model = onnx_model(step, dict(zip(INPUTS, _example(step))), (OUTPUT,))
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in describe(checkpoint).items()})
    content = model.SerializeToString()
    difference = _checked(step, _onnx_step(content), checkpoint, path)
    write_file(path, content)
    return difference


def export_torchscript(checkpoint: Checkpoint, path: str | Path) -> float:
    """Write the step as TorchScript; inputs, output and check as in :func:`export_onnx`.

    The entries of :func:`describe` lie in the file as JSON, under "cmg_ref.json"; ``torch::jit::load`` and
    :func:`read_description` give them.

    Returns:
        Largest difference between file and checkpoint, in standard deviations of each channel.

    Raises:
        ExportError: The file differs by more than ``TOLERANCE``.
    """
    step = CMGStep(checkpoint).cpu().eval()
    with buffered_file(path) as buffer, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(step, _example(step))
        extra = {_TORCHSCRIPT_METADATA: json.dumps(describe(checkpoint))}
        torch.jit.save(traced, buffer, _extra_files=extra)
        buffer.seek(0)
        return _checked(step, torch.jit.load(buffer, map_location="cpu"), checkpoint, path)


def read_description(path: str | Path) -> dict[str, Any]:
    """What an exported file says of itself.

    Raises:
        ExportError: The file cannot be read, or was not written by this module.
    """
    check_input_file(Path(path), ExportError)
    description: Any = {}
    try:
        if Path(path).suffix == ".onnx":
            description = {entry.key: parse_json(entry.value) for entry in _onnx_properties(path)}
        else:
            description = parse_json(_torchscript_notes(Path(path)))
    except ValueError as error:
        raise ExportError(f"{path}: truncated, damaged or not a step exported by cmg_ref ({reason(error)})") from error
    if not isinstance(description, dict) or "format_version" not in description:
        raise ExportError(f"{path}: not a step exported by cmg_ref")
    return description


def _torchscript_notes(path: Path) -> str:
    """The notes in a TorchScript file, "{}" if it has none; the program in it is not loaded, for it could act then."""
    with Archive(path, ValueError, "TorchScript") as archive:
        names = [name for name in archive.names if name.endswith(f"/extra/{_TORCHSCRIPT_METADATA}")]
        return archive.read(names[0]).decode() if names else "{}"


def _onnx_properties(path: str | Path) -> Any:
    """The notes in an ONNX file; raises a ValueError if it is none."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

    try:
        return onnx.load(str(path), load_external_data=False).metadata_props
    except DecodeError as error:
        raise ValueError(str(error)) from error


def _example(step: CMGStep) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(2, step.model.layout.size), step.model.command_layout.rest(2)


def _onnx_step(content: bytes) -> Any:
    """The content of an ONNX file as a function of tensors."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(state: torch.Tensor, command: torch.Tensor) -> torch.Tensor:
        outputs = session.run([OUTPUT], {INPUTS[0]: state.numpy(), INPUTS[1]: command.numpy()})
        return torch.from_numpy(outputs[0])

    return run


@torch.no_grad()
def _checked(step: CMGStep, exported: Any, checkpoint: Checkpoint, path: str | Path) -> float:
    """Largest difference, for one motion and for many, standing ones and commands beyond the range among them."""
    generator = torch.Generator().manual_seed(0)
    low, high = checkpoint.command_min, checkpoint.command_max
    largest = 0.0
    for count in (1, 256):
        picks = torch.randint(len(checkpoint.initial_states), (count,), generator=generator)
        states = checkpoint.initial_states[picks].cpu()
        states[0] = checkpoint.standing_state()
        commands = low + (high - low) * (1.4 * torch.rand(count, len(low), generator=generator) - 0.2)
        commands[0, VELOCITY] = 0.0
        difference = (exported(states, commands) - step(states, commands)) / checkpoint.model.motion_std
        largest = max(largest, float(difference.abs().max()))
    if not largest <= TOLERANCE:
        raise ExportError(f"{path}: the exported step differs by {largest:.1e} standard deviations")
    return largest
