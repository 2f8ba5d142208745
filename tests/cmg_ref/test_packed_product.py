"""A product with a weight that is laid out beforehand is the product, with or without oneDNN."""

from __future__ import annotations

import pytest
import torch

from cmg_ref import packed_product
from cmg_ref.packed_product import PackedProduct


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
