"""Triton compiles every kernel as it is launched for a GPU of compute capability 9.0, which takes none."""

from __future__ import annotations

from typing import Any, Callable

import pytest

pytest.importorskip("triton", reason="the kernels are Triton's")

# In a process of its own: Triton decides when it is imported whether it compiles or interprets.
CODE = """
import json, os
os.environ["TRITON_INTERPRET"] = "0"
import torch, triton
from types import SimpleNamespace
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import cmg_ref.cuda_graph as package
from cmg_ref.cuda_graph import capture, change_kernels, frame_kernels
from cmg_ref.generator import CMGMotionGenerator

TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.int64: "*i64",
         torch.int16: "*i16", torch.uint8: "*u8", torch.bool: "*i1"}
compiled = {}

def described(value):
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32" if abs(value) < 2**31 else "i64"

class Kernels:
    def __init__(self, module):
        self.module = module
    def __getattr__(self, name):
        kernel = getattr(self.module, name)
        def launch(*arguments, num_warps=4, **sizes):
            signature = {of: described(value) for of, value in zip(kernel.arg_names, arguments)}
            assert {*signature, *sizes} == set(kernel.arg_names), kernel.arg_names
            kind = (name, num_warps, *signature.values(), *sizes.items())
            if kind not in compiled:
                full = {of: signature.get(of, "constexpr") for of in kernel.arg_names}
                target, options = GPUTarget("cuda", 90, 32), {"num_warps": num_warps}
                source = ASTSource(kernel, full, constexprs=sizes)
                compiled[kind] = len(triton.compile(source, target=target, options=options).asm["cubin"])
        return type("Launch", (), {"__getitem__": lambda self, grid: launch})()

package.change_kernels, package.frame_kernels = Kernels(change_kernels), Kernels(frame_kernels)
capture.capture = lambda warm_up, action, device: (warm_up(), SimpleNamespace(replay=action))[1]
os.environ["TRITON_INTERPRET"] = "1"  # The generator may then use the kernels without a GPU.
nobody = torch.zeros(1, 3)
types = {"compute_dtype": torch.{compute}, "storage_dtype": torch.{storage}}
generator = CMGMotionGenerator(None, 6, mode="realtime", buffer_size=16, backend="cuda_graph", **types)
assert generator._shown.changes is not None
generator.reset([1, 2])
generator.reset([1], commands=nobody, root_pose=nobody)
generator.update_commands(nobody, [1])
generator.get_motion()
generator.get_frames()
generator.window([1], [2, 3])
generator.advance()
assert min(compiled.values()) > 1000
print(json.dumps(sorted({kind[0] for kind in compiled})))
"""
KERNELS = ["ask", "blend_first", "blend_next", "change", "put_out", "put_out_motions", "read_frames", "show"]


@pytest.mark.parametrize(("compute", "storage"), [("float32", "float32"), ("bfloat16", "float16")])
def test_every_kernel_is_compiled_as_it_is_launched(compute: str, storage: str, run_code: Callable[..., Any]) -> None:
    code = CODE.replace("{compute}", compute).replace("{storage}", storage)
    assert run_code(code) == [*KERNELS, "take_in_given", "take_in_motions"]
