"""A study's share of the devices of a machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
import ray
from ray.cluster_utils import Cluster

from benchmarks.devices.nvml import Gpu
from benchmarks.spec import BenchmarkError, load
from hpo.cluster.devices import Allotment, Devices, NodeGpus, allot, detect_here, fault_of_node, place
from hpo.cluster.ray import resources
from slurm.capacity import Capacity
from tests.benchmarks.check.models import nano_with
from tests.benchmarks.devices.machines import CPU_BUILD, gpu, machine, put_in, sliced

ONE_CORE = Devices(count=1, gpu_name=None, cpus=1)
EIGHT_CORES = Devices(count=8, gpu_name=None, cpus=8)
FOUR_GPUS = Devices(count=4, gpu_name="NVIDIA H200", cpus=32)
MORE_GPUS_THAN_CORES = Devices(count=8, gpu_name="NVIDIA H200", cpus=4)


@pytest.mark.parametrize(
    ("devices", "ranks", "concurrency", "expected"),
    [
        pytest.param(ONE_CORE, 1, None, Allotment(1, 1, 1, 0), id="one core"),
        pytest.param(EIGHT_CORES, 1, None, Allotment(8, 1, 1, 0), id="a trial a core"),
        pytest.param(EIGHT_CORES, 1, 2, Allotment(2, 1, 4, 0), id="fewer trials get more cores"),
        pytest.param(EIGHT_CORES, 1, 1, Allotment(1, 1, 8, 0), id="serial takes the whole machine"),
        pytest.param(EIGHT_CORES, 1, 100, Allotment(8, 1, 1, 0), id="a limit beyond the devices is none"),
        pytest.param(EIGHT_CORES, 2, None, Allotment(4, 2, 1, 0), id="two ranks a trial"),
        pytest.param(EIGHT_CORES, 3, None, Allotment(2, 3, 1.3333, 0), id="ranks that do not divide the cores"),
        pytest.param(EIGHT_CORES, 2, 1, Allotment(1, 2, 4, 0), id="two ranks, serial"),
        pytest.param(FOUR_GPUS, 1, None, Allotment(4, 1, 8, 1), id="a trial a GPU"),
        pytest.param(FOUR_GPUS, 2, None, Allotment(2, 2, 8, 1), id="two GPUs a trial"),
        pytest.param(FOUR_GPUS, 2, 1, Allotment(1, 2, 16, 1), id="two GPUs, serial"),
        pytest.param(FOUR_GPUS, 4, None, Allotment(1, 4, 8, 1), id="all GPUs in one trial"),
        pytest.param(
            MORE_GPUS_THAN_CORES, 1, None, Allotment(8, 1, 0.5, 1), id="cores are shared where they are fewer"
        ),
    ],
)
def test_as_many_trials_at_once_as_devices_allow(
    devices: Devices, ranks: int, concurrency: int | None, expected: Allotment
) -> None:
    assert allot(devices, ranks, concurrency) == replace(expected, most_trials=concurrency)


def nodes_of(*gpus: int) -> Devices:
    """A cluster's GPUs, node by node."""
    return Devices(sum(gpus), "NVIDIA H200", 8 * len(gpus), 1.0, by_node=gpus)


@pytest.mark.parametrize(
    ("devices", "ranks", "trials", "on_one_node"),
    [
        pytest.param(nodes_of(3, 3), 2, 2, True, id="a GPU of each node stays idle"),
        pytest.param(nodes_of(3, 3), 1, 6, True, id="a trial a GPU"),
        pytest.param(nodes_of(4, 1), 2, 2, True, id="a small node holds none"),
        pytest.param(nodes_of(1, 1), 2, 1, False, id="a trial across both nodes"),
        pytest.param(nodes_of(2, 2, 2), 4, 1, False, id="across nodes, with devices left"),
    ],
)
def test_a_trial_keeps_to_one_node_wherever_one_holds_it(
    devices: Devices, ranks: int, trials: int, on_one_node: bool
) -> None:
    allotment = allot(devices, ranks)
    assert (allotment.concurrency, allotment.on_one_node) == (trials, on_one_node)
    assert resources(allotment).strategy == ("STRICT_PACK" if on_one_node else "PACK")


@pytest.mark.parametrize("nodes", [1, 2, 3, 5])
@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
def test_as_many_as_the_capacity_of_a_slurm_cluster_says(nodes: int, gpus: int) -> None:
    """`slurm capacity` counts before submission what a study counts when it starts."""
    for ranks in range(1, nodes * gpus + 1):
        promised = Capacity(0, gpus, gpus, ranks, 1, 1, nodes)
        allotment = allot(nodes_of(*[gpus] * nodes), ranks)
        assert (allotment.concurrency, not allotment.on_one_node) == (promised.trials, promised.spans_nodes)


@pytest.fixture
def two_nodes_of_three() -> Iterator[None]:
    """Two nodes of Ray's on this machine, which are told that they have three GPUs each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "num_gpus": 3})
    try:
        cluster.add_node(num_cpus=3, num_gpus=3)
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setenv("RAY_ADDRESS", cluster.address)
            ray.init(address=cluster.address, log_to_driver=False)
            yield
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("two_nodes_of_three")
def test_ray_places_as_many_trials_as_were_counted_and_no_more() -> None:
    """By Ray's own strategy a third one would be placed, across the nodes."""
    by_node = tuple(int(node["Resources"]["GPU"]) for node in ray.nodes())
    allotment = allot(nodes_of(*by_node), 2)
    groups = [resources(allotment).to_placement_group() for _ in range(3)]
    placed, waiting = ray.wait([group.ready() for group in groups], num_returns=3, timeout=4)
    assert (len(placed), len(waiting)) == (allotment.concurrency, 1) == (2, 1)


@pytest.mark.parametrize(("concurrency", "reserved"), [(None, 4), (1, 2), (2, 4)])
def test_reserved_devices_are_those_that_trials_occupy(concurrency: int | None, reserved: int) -> None:
    assert allot(FOUR_GPUS, 2, concurrency).devices == reserved


@pytest.mark.parametrize("devices", [EIGHT_CORES, FOUR_GPUS])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("concurrency", [None, 1, 2])
def test_no_study_takes_more_cores_than_there_are(devices: Devices, ranks: int, concurrency: int | None) -> None:
    allotment = allot(devices, ranks, concurrency)
    assert allotment.devices * allotment.cpus_per_rank <= devices.cpus


@pytest.mark.parametrize("devices", [Devices(3, None, 3), Devices(5, None, 5), EIGHT_CORES])
@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_a_limit_leaves_no_room_for_one_trial_more(devices: Devices, concurrency: int) -> None:
    """Ray starts trials while cores are left, so what is left must not suffice for another."""
    allotment = allot(devices, 1, concurrency)
    left = devices.cpus - allotment.devices * allotment.cpus_per_rank
    assert left < allotment.cpus_per_rank


@pytest.mark.parametrize(
    ("devices", "kind"), [(EIGHT_CORES, "8 CPU cores"), (ONE_CORE, "1 CPU core;"), (FOUR_GPUS, "4 GPUs")]
)
def test_more_ranks_than_devices_are_refused_with_both_numbers(devices: Devices, kind: str) -> None:
    with pytest.raises(BenchmarkError, match=f"needs 9 devices .* has {kind}"):
        allot(devices, ranks_per_trial=9)


def test_costs_on_gpus_are_tagged_by_their_name() -> None:
    assert FOUR_GPUS.accelerator == "NVIDIA H200"


def test_costs_without_gpus_are_tagged_cpu() -> None:
    assert EIGHT_CORES.accelerator == "cpu"


def test_hidden_gpus_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    devices = detect_here()
    assert devices.gpu_name is None
    assert devices.count == devices.cpus


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux's CPU affinity")
def test_only_the_cores_of_this_process_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert detect_here().cpus == 1
    finally:
        os.sched_setaffinity(0, before)


def test_gpus_are_described_with_the_fault_that_keeps_torch_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    v100s = machine(*(gpu(number, "Tesla V100", (7, 0)) for number in range(4)))
    put_in(monkeypatch, v100s, "GPU-2,3")
    found = detect_here()
    assert (found.count, found.gpu_name, found.compute_capability) == (2, "Tesla V100", (7, 0))
    assert found.variables == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "2,3"}
    assert "it has no kernels for this card; install a build that can: pip " in found.fault


def test_devices_that_torch_cannot_use_are_refused_to_trainings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, machine(gpu(0)), build=CPU_BUILD)
    with pytest.raises(
        BenchmarkError, match=r"torch 2\.13\.0\+cpu, which is built without CUDA, cannot use NVIDIA H100"
    ):
        place(load("nano"), detect_here())
    assert place(load("synthetic"), detect_here()).allotment.gpus_per_rank == 1
    put_in(monkeypatch, machine(gpu(0)))
    assert place(load("nano"), detect_here()).allotment.gpus_per_rank == 1


def test_slices_take_trials_of_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, machine(sliced(0, "1g.10gb", "1g.10gb", "1g.10gb")))
    devices = detect_here()
    assert (devices.count, devices.accelerator) == (3, "NVIDIA A100 MIG 1g.10gb")
    assert devices.visible == "MIG-00e-9,MIG-01e-9,MIG-02e-9"
    assert place(nano_with(), devices).allotment.concurrency == 3
    with pytest.raises(BenchmarkError, match=r"2 ranks .* slices of GPUs \(MIG\).* NCCL .* set ranks_per_trial to 1"):
        place(nano_with(ranks_per_trial=2), devices)


@pytest.mark.parametrize(
    ("offered", "gpus", "fault", "expected"),
    [
        (0, 0, "no driver", ""),
        (2, 2, "", ""),
        (2, 3, "", ""),
        (2, 2, "too old", "node n1: too old"),
        (3, 0, "", "node n1 offers 3 to Ray, but its driver has 0 visible GPUs; start Ray there with as many"),
        (3, 1, "", "node n1 offers 3 to Ray, but its driver has 1 visible GPU; start Ray there with as many"),
    ],
)
def test_a_node_that_offers_gpus_must_have_them(offered: int, gpus: int, fault: str, expected: str) -> None:
    seen = NodeGpus((Gpu("NVIDIA H100", "GPU-1", (9, 0)),) * gpus, fault)
    assert fault_of_node("n1", offered, seen) == expected


@pytest.mark.parametrize(("asked", "counts"), [(None, [2, 1, 4]), (2, [2, 1, 2]), (3, [2, 1, 3])])
def test_a_study_takes_devices_that_join_up_to_the_trials_that_were_asked_for(
    asked: int | None, counts: list[int]
) -> None:
    """And books no more of them: as it begins, with a node lost, and with two that have joined."""
    nodes = [Devices(number, "NVIDIA H100", 16, 4.0, (9, 0), (1,) * number) for number in (2, 1, 4)]
    allotment = allot(nodes[0], 1, asked)
    assert [allotment.trials_on(devices) for devices in nodes] == counts
