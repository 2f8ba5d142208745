"""A network as an ONNX graph for any number of rows."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from typing import Any, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

OPSET, OPSET_OF_OLD_TORCH = 18, 13


def onnx_model(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> Any:
    """The ``onnx.ModelProto`` of a module, made by the exporter that watches it run.

    Torch has a newer one, which does not watch but analyses. For a step of a controller, with six frames of a CMG in
    it, that takes a minute, this two seconds. The newer one steps in where torch no longer has the other.

    Args:
        module: In evaluation mode, on the CPU. Which operations it calls must not depend on its inputs' values.
        inputs: Names of its arguments in their order, with an example (n, ...) of each; n is free in the graph.
        outputs: Names of its results in their order.
    """
    with _silence():
        try:
            return _watched(module, inputs, outputs)
        except (AttributeError, ImportError, TypeError):  # what calling an exporter that is gone raises
            if "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters:
                raise
            return _analysed(module, inputs, outputs)


def _watched(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> Any:
    import onnx

    knows_both = "dynamo" in inspect.signature(torch.onnx.export).parameters
    choice: dict[str, Any] = {"dynamo": False} if knows_both else {}
    buffer = io.BytesIO()
    export: Any = torch.onnx.export
    export(
        module,
        tuple(inputs.values()),
        buffer,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes={name: {0: "n"} for name in (*inputs, *outputs)},
        opset_version=OPSET if knows_both else OPSET_OF_OLD_TORCH,
        **choice,
    )
    return onnx.load_from_string(buffer.getvalue())


def _analysed(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> Any:
    rows = torch.export.Dim("n")
    program = torch.onnx.export(
        module,
        tuple(inputs.values()),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes=tuple({0: rows} for _ in inputs),
        opset_version=OPSET,
        dynamo=True,
    )
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep torch from telling users of this package how its exporters get on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
