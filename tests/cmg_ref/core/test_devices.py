from __future__ import annotations

import pytest
import torch

from cmg_ref.core import devices
from cmg_ref.core.devices import checked_device


def test_a_device_that_is_there_is_taken() -> None:
    assert checked_device("cpu", "--device") == torch.device("cpu")
    assert checked_device(torch.device("cpu"), "device") == torch.device("cpu")
    if torch.cuda.is_available():
        assert checked_device("cuda", "--device") == torch.device("cuda")
        assert checked_device(0, "device") == torch.device("cuda", 0)


@pytest.mark.parametrize(
    "device", ["cuda:99", "gpu", "", "cuda:-1", "cuda:x", "meta", "privateuseone", 99, None, 2.5, "cpu:" + 9999 * "9"]
)
def test_what_is_not_there_is_refused_in_one_line(device: object) -> None:
    with pytest.raises(ValueError, match=r"^--rl_device ") as caught:
        checked_device(device, "--rl_device")  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)
    assert "'cpu'" in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda")])
def test_cuda_without_a_gpu_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match=r"^device 'cuda.*: torch finds no CUDA GPU here; use 'cpu'$"):
        checked_device(device, "device")


@pytest.mark.parametrize(
    ("machine", "avx512", "onednn", "pays"),
    [
        ("x86_64", True, True, True),
        ("AMD64", False, True, False),  # emulated
        ("x86_64", None, True, True),  # an early torch
        ("x86_64", None, False, False),
        ("aarch64", False, True, True),
        ("aarch64", False, False, False),
    ],
)
def test_bfloat16_pays_where_the_processor_has_it(
    machine: str, avx512: bool | None, onednn: bool, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "_is_avx512_bf16_supported"
    monkeypatch.setattr(devices.platform, "machine", lambda: machine)
    if avx512 is None:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    else:
        monkeypatch.setattr(torch.cpu, name, lambda: avx512, raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn, raising=False)
    assert devices.bfloat16_pays(torch.device("cpu")) is pays
    assert devices.bfloat16_pays(torch.device("cuda"))
