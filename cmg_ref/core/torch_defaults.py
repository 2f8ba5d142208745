"""Torch's defaults as this package takes them for granted, whatever a caller has changed."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import Any, Callable, TypeVar

import torch

_Method = TypeVar("_Method", bound=Callable[..., Any])


def with_torch_defaults(function: _Method) -> _Method:
    """Lets a function run outside of inference mode, and with float32 and the CPU as defaults of new tensors.

    For what makes or keeps tensors: those made in ``torch.inference_mode()`` could not be changed outside of it, and
    ``torch.set_default_dtype`` and ``torch.set_default_device`` would make others than are meant. Nothing that is
    called keeps a graph of gradients. Where nothing was changed it costs a microsecond.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        probe = torch.empty(0)
        if probe.dtype == torch.float32 and probe.device.type == "cpu" and not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
            if probe.dtype != torch.float32:
                torch.set_default_dtype(torch.float32)
                stack.callback(torch.set_default_dtype, probe.dtype)
            if probe.device.type != "cpu":
                stack.enter_context(torch.device("cpu"))
            return function(*args, **kwargs)

    return run  # type: ignore[return-value]
