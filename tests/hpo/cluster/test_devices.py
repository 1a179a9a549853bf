"""A study's share of the devices of a machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import ray
from ray.cluster_utils import Cluster

from benchmarks.spec import BenchmarkError
from hpo.cluster.devices import Allotment, Devices, Gpu, allot, detect_here, visible_gpus
from hpo.cluster.ray import resources
from slurm.capacity import Capacity

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
    assert allot(devices, ranks, concurrency) == expected


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


GPUS = [Gpu(name, f"GPU-{name}1", (7 + number, 0)) for number, name in enumerate("ABC")]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, "ABC"),
        ("", ""),
        ("-1", ""),
        ("1", "B"),
        ("2,0", "CA"),
        ("0,-1,1", "A"),
        ("7", ""),
        ("NoDevFiles", ""),
        ("GPU-C1,GPU-B", "CB"),
        ("GPU-elsewhere", "A"),
        ("MIG-1,MIG-2", "AA"),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(visible: str | None, expected: str) -> None:
    assert "".join(gpu.name for gpu in visible_gpus(GPUS, visible)) == expected


@pytest.mark.parametrize(("visible", "capability"), [("0,1", (7, 0)), ("2,1", (8, 0)), ("2", (9, 0))])
def test_the_least_of_the_visible_gpus_decides_what_trials_can_compute(
    monkeypatch: pytest.MonkeyPatch, visible: str, capability: tuple[int, int]
) -> None:
    monkeypatch.setattr("hpo.cluster.devices.gpus", lambda: GPUS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert detect_here().compute_capability == capability
