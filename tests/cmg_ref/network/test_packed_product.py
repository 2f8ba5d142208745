"""A product with a weight that is laid out beforehand is the product, with or without oneDNN."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from cmg_ref.network import packed_product
from cmg_ref.network.packed_product import ROUND_NUMBERS, PackedProduct, round_number


@pytest.mark.parametrize("laid_out", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num", [1, 3, 4, 200])
def test_it_is_the_product(num: int, dtype: torch.dtype, laid_out: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not laid_out:
        monkeypatch.setattr(packed_product, "_laid_out", lambda weight: None)
    random = torch.Generator().manual_seed(num)
    weight = torch.randn(260, 64, generator=random).to(dtype)
    x = torch.randn(num, 260, generator=random).to(dtype)
    product, out = PackedProduct(weight), torch.empty(num, 64, dtype=dtype)
    assert laid_out or not product.packed
    assert torch.equal(product.weight, weight)
    assert product(x, out) is out
    exact = x.double() @ weight.double()
    precision = 1e-5 if dtype == torch.float32 else 1e-2
    assert float((out.double() - exact).abs().max()) <= precision * float(exact.abs().max())


def test_an_older_torch_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> object:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")

    monkeypatch.setattr(packed_product, "_product", missing)
    product = PackedProduct(torch.eye(32))
    assert not product.packed
    assert torch.equal(product(torch.ones(5, 32), torch.empty(5, 32)), torch.ones(5, 32))


def test_numbers_of_rows_come_down_to_a_few() -> None:
    rounded = [round_number(num) for num in range(1, 1025)]
    assert all(num <= up < max(2 * num, 5) for num, up in enumerate(rounded, start=1))
    assert len(set(rounded)) == len(ROUND_NUMBERS) + 3


GROWTH = """
import json, torch
from pathlib import Path
from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.network.packed_product import ROUND_NUMBERS
from cmg_ref.rollout.rollout import Rollout
rollout = Rollout(load_checkpoint().model, dtype=torch.{dtype})
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
def run(numbers):
    for num in numbers:
        rollout.advance(torch.zeros(num, rollout.layout.size), torch.zeros(num, 3))
run((1, *ROUND_NUMBERS))
before = resident()
run(range(1, 257))
print(json.dumps(resident() - before))
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batches_of_all_sizes_take_no_more_memory_than_those_of_a_few(dtype: str, run_code: Callable[..., Any]) -> None:
    pytest.importorskip("numba")
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc to read the memory in use")
    # A product compiled for each number of rows would take hundreds of megabytes.
    assert run_code(GROWTH.replace("{dtype}", dtype)) < 5.0
