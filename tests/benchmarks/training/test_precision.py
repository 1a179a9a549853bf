"""The arithmetic that "auto" means: one rule, by the compute capability of the device."""

from __future__ import annotations

import pytest

from benchmarks.spec import BenchmarkError
from benchmarks.training.deepspeed import PRECISIONS, precision_on
from hpo.cluster import devices


@pytest.mark.parametrize(
    ("compute_capability", "precision"),
    [(None, "fp32"), ((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16"), ((12, 0), "bf16")],
)
def test_auto_goes_by_the_device(compute_capability: tuple[int, int] | None, precision: str) -> None:
    assert precision_on("auto", compute_capability) == precision


@pytest.mark.parametrize("wanted", PRECISIONS)
def test_any_other_wish_is_granted_from_ampere_on(wanted: str) -> None:
    assert precision_on(wanted, (8, 0)) == wanted


@pytest.mark.parametrize("compute_capability", [(6, 0), (7, 0), (7, 5)])
def test_bf16_takes_a_gpu_that_computes_in_it(compute_capability: tuple[int, int]) -> None:
    found = ".".join(map(str, compute_capability))
    with pytest.raises(BenchmarkError, match=rf"bf16, but the GPU has compute capability {found}, .*use fp16, fp32 or"):
        precision_on("bf16", compute_capability)
    assert precision_on("fp16", compute_capability) == "fp16"


def test_fp16_takes_a_gpu() -> None:
    with pytest.raises(BenchmarkError, match="precision is fp16, but there is no GPU; use fp32, bf16 or auto"):
        precision_on("fp16", None)


def test_a_machine_without_a_gpu_trains_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    here = devices.detect_here()
    assert here.compute_capability is None
    assert precision_on("auto", here.compute_capability) == "fp32"
