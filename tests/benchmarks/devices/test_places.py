"""GPUs that Ray gives to ranks, by the names that CUDA and DeepSpeed read; ranks that cannot use theirs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import ray
from ray.util import placement_group, remove_placement_group

from benchmarks.devices.places import find_places
from benchmarks.spec import Benchmark, BenchmarkError, load
from benchmarks.training.process import import_deepspeed
from benchmarks.training.ranks import Ranks
from hpo.cluster.devices import place
from hpo.cluster.ray import cluster_devices
from tests.benchmarks.devices.machines import FAKE, gpu, machine, sliced
from tests.studies import REPOSITORY

pytestmark = pytest.mark.slow
BY_UUID = "GPU-5a7c-5,GPU-3,GPU-0a7c-0,GPU-4,GPU-1a7c-1,GPU-2,MIG-60e-9,MIG-61"
NAMES = {"5", "3", "0", "4", "1", "2", "MIG-60e-9", "MIG-61e-9"}


@pytest.fixture(scope="module")
def ray_of_gpus() -> Iterator[None]:
    """A Ray of eight GPUs that are named by UUID, and shows each process all of them."""
    gpus = [*map(gpu, range(6)), sliced(6, "1g.10gb", "1g.10gb")]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKE), str(REPOSITORY)]))
        monkeypatch.setenv("FAKE_NVML", machine(*gpus))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", BY_UUID)
        monkeypatch.setenv("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "1")
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=8,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100 * 2**20,
            _node_ip_address="127.0.0.1",
        )
        yield
        ray.shutdown()


@pytest.mark.usefixtures("ray_of_gpus")
def test_each_trial_has_gpus_of_its_own_by_number_and_slices_by_uuid() -> None:
    groups = [placement_group([{"GPU": 1}] * 2) for _ in range(4)]
    try:
        ray.get([group.ready() for group in groups])
        places = [place for group in groups for place in find_places(2, 1, group)]
    finally:
        for group in groups:
            remove_placement_group(group)
    assert {place.devices for place in places} == NAMES
    assert len(places) == len(NAMES)


@pytest.mark.usefixtures("ray_of_gpus")
def test_a_rank_that_cannot_use_its_gpu_refuses_to_start(small_nano: Callable[..., Benchmark]) -> None:
    """It would train on the CPU, and its hours would be booked as those of a GPU."""
    group = placement_group([{"GPU": 1}])
    ray.get(group.ready())
    try:
        with pytest.raises(BenchmarkError, match=r"cannot use NVIDIA |finds no GPU that it can use"):
            Ranks(small_nano(), find_places(1, 1, group))
    finally:
        remove_placement_group(group)


@pytest.mark.usefixtures("ray_of_gpus")
def test_a_node_of_a_cluster_is_asked_for_the_gpus_that_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "this Ray")
    [node] = ray.nodes()
    found = cluster_devices()
    assert found.count == 8
    with pytest.raises(BenchmarkError, match=rf"^node {node['NodeManagerHostname']}: this machine has GPUs of 2 kinds"):
        place(load("nano"), found)


@pytest.mark.parametrize("visible", ["MIG-60e-9", "GPU-5a7c-5,GPU-3"])
def test_deepspeed_asks_torch_for_memory_where_devices_have_no_number(
    monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    """Its ZeRO 1 and 2 ask before they lay weights out, and would read the names as numbers."""
    from deepspeed.accelerator import cuda_accelerator

    monkeypatch.setattr(cuda_accelerator, "pynvml", SimpleNamespace())
    accelerator = cuda_accelerator.CUDA_Accelerator()
    monkeypatch.setattr(accelerator, "total_memory", lambda index: 100)
    monkeypatch.setattr(accelerator, "memory_allocated", lambda index: 40)
    monkeypatch.setattr(accelerator, "current_device", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    import_deepspeed()
    assert accelerator.available_memory() == 60
