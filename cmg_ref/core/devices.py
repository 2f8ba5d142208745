"""Whether a device that a user names can be computed on, and whether bfloat16 pays there."""

from __future__ import annotations

import platform

import torch

from cmg_ref.core.shorten import shortened


def checked_device(device: str | int | torch.device, argument_name: str) -> torch.device:
    """A device that tensors can be put on here.

    Args:
        device: As torch names it: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        argument_name: What the user knows it by, such as ``--device``; the message begins with it.

    Raises:
        ValueError: torch knows no such device, or it is not there; one line that says so.
    """
    what = f"{argument_name} {shortened(str(device))}"
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"{what}: no such device; use 'cpu', 'cuda' or 'cuda:<number>'") from None
    if chosen.type == "cuda":
        number = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if number == 0:
            raise ValueError(f"{what}: torch finds no CUDA GPU here; use 'cpu'")
        if (chosen.index or 0) >= number:
            raise ValueError(f"{what}: there is no such GPU; use 'cuda:0' to 'cuda:{number - 1}', or 'cpu'")
        return chosen
    try:
        # A number has to come back: tensors on 'meta' hold none.
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError, ImportError):
        raise ValueError(f"{what}: this torch cannot compute there; use 'cpu' or 'cuda'") from None
    return chosen


def bfloat16_pays(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32.

    On a CPU without instructions for them, which most desktop ones are, torch takes tens of times as long.
    """
    if device.type != "cpu":
        return True
    # torch has no public name for either question, and early releases do not know the first; oneDNN's says less.
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if asked is not None and platform.machine().lower() in ("x86_64", "amd64"):
        return bool(asked())
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False
