"""Reads safetensors files and their notes in JSON, whatever is wrong with them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from cmg_ref.core.shorten import reason
from cmg_ref.files.input_file import check_input_file

MAX_TENSORS = 10_000


def read_tensor_file(path: Path, error: type[Exception], kind: str) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Notes and tensors of a safetensors file; the format holds no code, and its sizes are those of the file.

    Args:
        path: The file.
        error: The kind of error to raise for whatever is wrong with it.
        kind: What the file should be, for messages.

    Raises:
        error: The file cannot be read, is damaged, or is of another kind.
    """
    check_input_file(path, error)
    try:
        with safe_open(str(path), framework="pt") as file:
            names = file.keys()
            if len(names) > MAX_TENSORS:
                raise error(f"{path}: holds {len(names)} tensors, not {kind}")
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, RuntimeError, AttributeError) as problem:
        # The last two: a type of numbers that this torch does not have.
        raise error(f"{path}: truncated, damaged or not {kind} ({reason(problem)})") from problem
