"""Nodes that were joined to a Ray cluster by hand: unlike GPUs, drivers and builds of torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.air.execution import ResourceRequest
from ray.cluster_utils import Cluster

from benchmarks.spec import BenchmarkError
from hpo.cluster import nodes
from hpo.cluster.devices import Devices
from hpo.cluster.nodes import Newcomers, fault_of_newcomer, look_from_ray
from hpo.cluster.ray import cluster_devices
from hpo.cluster.reservations import FitReservations, on_fit_nodes
from tests.benchmarks.devices.machines import FAKE, R535, gpu, machine, put_in, sliced
from tests.studies import REPOSITORY

H100 = machine(gpu(0))
T400 = machine(gpu(0, "NVIDIA T400", (7, 5)))
SECONDS = 240
Join = Callable[..., str]


@pytest.fixture
def join() -> Iterator[Join]:
    """Join nodes to a Ray that begins with a head without GPUs, which has the display's; returns the id of each."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKE), str(REPOSITORY)]))
        monkeypatch.setenv("FAKE_NVML", T400)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)

        def joined(described: str, gpus: int = 1, cpus: int = 1) -> str:
            node = cluster.add_node(num_cpus=cpus, num_gpus=gpus, env_vars={"FAKE_NVML": described})
            return str(node.node_id)

        try:
            yield joined
        finally:
            ray.shutdown()
            cluster.shutdown()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cluster_is_asked_on_every_node_that_trials_land_on(join: Join, capsys: pytest.CaptureFixture[str]) -> None:
    """Its head has another GPU, for the display, and offers none."""
    join(H100)
    assert cluster_devices().accelerator == "NVIDIA H100"
    join(machine(gpu(0), driver=R535))
    assert "torch" in cluster_devices().fault
    assert "different GPU drivers, so that times may differ: 535.183.01 (" in capsys.readouterr().err
    join(machine(gpu(0, capability=(9, 2))))
    with pytest.raises(
        BenchmarkError,
        match=r"2 kinds, whose hours cannot be added up: NVIDIA H100, compute capability 9\.0 \(\S+, \S+\); "
        r"NVIDIA H100, compute capability 9\.2 \(\S+\); end Ray on all nodes but those of one kind \(`ray stop`\)",
    ):
        cluster_devices()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_trial_begins_on_a_node_that_joins_late_with_another_kind(join: Join) -> None:
    first = join(H100)
    devices = cluster_devices()
    newcomers = Newcomers(devices)
    request = ResourceRequest([{"CPU": 1.0, "GPU": 1.0}])
    reservations = FitReservations(newcomers)
    reservations.request_resources(request)
    wait_until(lambda: reservations.has_resources_ready(request))
    taken = reservations.acquire_resources(request)
    reservations.request_resources(request)
    unlike = join(T400, gpus=2, cpus=2)
    wait_until(lambda: reservations.has_resources_ready(request) or newcomers.faults)
    assert not reservations.has_resources_ready(request)
    [said] = newcomers.faults
    assert "has joined with NVIDIA T400, compute capability 7.5, but the study counts hours of NVIDIA H100" in said
    wait_until(lambda: sorted(newcomers.present(nodes.living()).by_node) == [0, 1])
    like = join(H100)
    wait_until(lambda: reservations.has_resources_ready(request))
    second = reservations.acquire_resources(request)
    used = [nodes_of(acquired) for acquired in (taken, second)]
    assert used == [[first], [like]]
    assert newcomers.unfit([first, like, unlike]) == [unlike]
    blind = Newcomers(devices, Path("/the/driver/alone/has/it"))
    blind.wait_for(nodes.living())
    assert "cannot see /the/driver/alone/has/it, where the ranks of a trial keep its checkpoints" in blind.faults[0]
    reservations.clear()
    require_one_at_a_time(FitReservations(newcomers, most=1), request)
    free = ray.util.placement_group([{"GPU": 2.0}])
    assert free.wait(SECONDS)  # nothing is held any more


def require_one_at_a_time(reservations: FitReservations, request: ResourceRequest) -> None:
    """Make sure that a study of one trial at a time begins no second one, though there are two fit nodes."""
    for _ in range(2):
        reservations.request_resources(request)
    wait_until(lambda: reservations.has_resources_ready(request))
    first = reservations.acquire_resources(request)
    assert first is not None
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        assert not reservations.has_resources_ready(request)
        assert reservations.acquire_resources(request) is None
        time.sleep(0.1)
    reservations.free_resources(first)
    wait_until(lambda: reservations.has_resources_ready(request))
    assert reservations.acquire_resources(request) is not None
    reservations.clear()


def nodes_of(acquired: Any) -> list[str]:
    table = ray.util.placement_group_table(acquired.placement_group)
    return list(table["bundles_to_node_id"].values())


def test_tune_reserves_devices_so() -> None:
    from ray.tune.execution import tune_controller

    newcomers = Newcomers(Devices(1, "NVIDIA H100", 1))
    with on_fit_nodes(newcomers, most_trials=2):
        assert isinstance(tune_controller.PlacementGroupResourceManager(), FitReservations)
    assert tune_controller.PlacementGroupResourceManager is not FitReservations


def node(gpus: int = 1) -> dict[str, Any]:
    return {"NodeID": "1", "NodeManagerHostname": "n1", "Alive": True, "Resources": {"CPU": 8.0, "GPU": float(gpus)}}


H100S = Devices(2, "NVIDIA H100", 8, 4.0, (9, 0), (2,))


@pytest.mark.parametrize(
    ("devices", "described", "gpus", "expected"),
    [
        pytest.param(H100S, H100, 1, "", id="like"),
        pytest.param(H100S, machine(), 0, "", id="no GPU"),
        pytest.param(H100S, T400, 0, "", id="a GPU for the display, not offered"),
        pytest.param(H100S, T400, 1, "node n1 has joined with NVIDIA T400, compute capability 7.5", id="another kind"),
        pytest.param(H100S, machine(sliced(0, "1g.10gb")), 1, "joined with NVIDIA A100 MIG 1g.10gb", id="a slice"),
        pytest.param(H100S, machine(gpu(0), gpu(1, "NVIDIA T400")), 2, "n1: this machine has GPUs of 2", id="both"),
        pytest.param(H100S, machine(gpu(0), driver=R535), 1, "CUDA 13 takes a driver of R580 or newer", id="driver"),
        pytest.param(H100S, H100, 2, "offers 2 to Ray, but its driver has 1 visible GPU", id="more than there are"),
        pytest.param(Devices(1, "GPU", 8, 8.0, None, (1,), fault="no driver"), machine(), 1, "", id="computed curves"),
    ],
)
def test_a_node_that_joins_late_is_judged_by_what_the_study_began_on(
    monkeypatch: pytest.MonkeyPatch, devices: Devices, described: str, gpus: int, expected: str
) -> None:
    put_in(monkeypatch, described, visible="MIG-00" if "MIG" in described else None)
    fault = fault_of_newcomer(devices, node(gpus), look_from_ray())
    assert expected in fault
    assert bool(fault) == bool(expected)


@pytest.mark.parametrize(
    ("visible", "is_refused"),
    [(None, True), ("0", True), ("MIG-00e-9,0", True), ("MIG-00e-9,MIG-01e-9", False), ("MIG-00, MIG-01", False)],
)
def test_slices_must_be_named_to_ray_which_numbers_them_otherwise(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, is_refused: bool
) -> None:
    """The number of a GPU in MIG mode means its first slice to CUDA, for each trial that gets it."""
    put_in(monkeypatch, machine(sliced(0, "1g.10gb", "1g.10gb")), visible)
    fault = look_from_ray().fault
    if not is_refused:
        assert fault == ""
    elif visible == "MIG-00e-9,0":
        assert "names NVIDIA A100 MIG 1g.10gb MIG-00e-9 twice" in fault
    else:
        assert fault.endswith("start Ray with CUDA_VISIBLE_DEVICES=MIG-00e-9,MIG-01e-9")
    put_in(monkeypatch, machine(gpu(0), gpu(1)), "GPU-1,0")
    assert look_from_ray().fault == ""
