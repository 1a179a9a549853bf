"""Ranks on several nodes: the interface, the time-out and the device that their process group gets."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.training import process
from benchmarks.training.ranks import bind_interfaces_to

INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Collect the arguments with which a process group is made, in a process that has made none."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend, **more: found.update(more, backend=backend)
    )
    monkeypatch.setattr(process, "import_deepspeed", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: found.update(current=index))
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    return found


def test_a_rank_with_a_gpu_connects_nccl_as_it_joins(joined: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    process.join_process_group(2, 4, 1, torch.distributed.HashStore(), timeout_seconds=90.0)
    assert joined["backend"] == "nccl"
    assert joined["device_id"] == torch.device("cuda", 1)
    assert (joined["timeout"], joined["current"]) == (timedelta(seconds=90), 1)


def test_a_rank_without_a_gpu_waits_as_long_as_the_benchmark_says(joined: dict[str, Any]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    process.join_process_group(0, 2, 0, torch.distributed.HashStore(), timeout_seconds=7.0)
    assert (joined["backend"], joined["device_id"], joined["timeout"]) == ("gloo", None, timedelta(seconds=7))


def test_gloo_and_nccl_take_the_interface_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in INTERFACES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    bind_interfaces_to("127.0.0.1")
    assert [os.environ[name] for name in INTERFACES] == ["lo", "lo"]


def test_an_interface_for_nccl_that_a_site_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    bind_interfaces_to("127.0.0.1")
    assert [os.environ[name] for name in INTERFACES] == ["lo", "ib0"]


@pytest.mark.slow
def test_a_stage_is_saved_alike_by_every_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Python 3.11.2 would write it as a call of `getattr`, which torch refuses to read."""
    process.import_deepspeed()
    from deepspeed.runtime.zero.config import ZeroStageEnum

    monkeypatch.setattr(ZeroStageEnum, "__reduce_ex__", lambda self, _: (getattr, (type(self), self._name_)))
    torch.save({"zero_stage": ZeroStageEnum.weights}, tmp_path / "state")
    assert torch.load(tmp_path / "state", weights_only=True) == {"zero_stage": ZeroStageEnum.weights}
