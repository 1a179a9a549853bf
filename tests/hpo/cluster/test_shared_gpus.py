"""Several trials on one GPU: how many fit, where Ray puts them, and what their time costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util import remove_placement_group

from benchmarks import spec
from benchmarks.devices.places import find_places
from benchmarks.spec import Benchmark, BenchmarkError, FineTune
from benchmarks.trials.synthetic import SyntheticTrial
from hpo.cluster.devices import Allotment, Devices, allot, detect_here, place
from hpo.cluster.ray import resources
from hpo.core.books import Books
from hpo.core.events import Began, Proposed, Reserved, Unit
from hpo.core.ledger import PARTS
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from slurm import capacity, profile
from slurm.arrays import require_whole_gpus
from slurm.capacity import Capacity
from tests.benchmarks.devices.machines import gpu, machine, put_in
from tests.hpo.engine.in_process import run, synthetic

H200 = Devices(2, "NVIDIA H200", 16, compute_capability=(9, 0))


def sharing(trials_per_gpu: int) -> Benchmark:
    nano = spec.load("nano")
    assert nano.finetune is not None
    return nano.model_copy(update={"finetune": nano.finetune.model_copy(update={"trials_per_gpu": trials_per_gpu})})


@pytest.mark.parametrize("trials_per_gpu", [1, 2, 3, 7])
def test_as_many_trials_fit_as_share_the_gpus_and_they_reserve_no_more(trials_per_gpu: int) -> None:
    allotment = allot(H200, 1, trials_per_gpu=trials_per_gpu)
    assert allotment.concurrency == 2 * trials_per_gpu
    assert allotment.devices == pytest.approx(2)
    assert 0 < allotment.gpus_per_rank * trials_per_gpu <= 1
    assert allotment.cpus_per_rank * allotment.concurrency <= 16


def test_fewer_trials_reserve_their_shares() -> None:
    assert allot(H200, 1, concurrency=1, trials_per_gpu=2).devices == 0.5


@pytest.mark.parametrize("trials_per_gpu", [2, 3])
@pytest.mark.parametrize("by_node", [(3,), (3, 3), (1, 4)])
def test_capacity_and_placement_agree_on_nodes(by_node: tuple[int, ...], trials_per_gpu: int) -> None:
    cluster = Devices(sum(by_node), "NVIDIA H200", 32, 4.0, (9, 0), by_node)
    placed = allot(cluster, 1, trials_per_gpu=trials_per_gpu)
    assert placed.on_one_node
    counted = [Capacity(0, 64, gpus, 1, 1, 1, 1, trials_per_gpu).trials for gpus in by_node]
    assert placed.concurrency == sum(counted)
    assert placed.trials_on(cluster) == sum(counted)


def test_capacity_says_what_binds_in_shares() -> None:
    fits = Capacity(2, 20, 8, ranks=1, cpus_rank=1, gpus_rank=1, nodes=1, trials_per_gpu=2)
    assert (fits.trials, fits.binding) == (16, "GPUs")
    text = capacity.describe(fits)
    assert "16*1*1/2 = 8 <= 8 GPUs" in text
    assert "one more trial per node takes 8.5 GPUs of 8; raise trials_per_gpu, or add workers" in text


class TestRefusals:
    def test_without_a_gpu(self) -> None:
        with pytest.raises(BenchmarkError, match=r"trials_per_gpu is 2, but there is no GPU here.* set trials_per_gpu"):
            allot(Devices(4, None, 4), 1, trials_per_gpu=2)

    def test_with_several_ranks(self) -> None:
        settings = spec.load("nano").model_dump(mode="json", exclude_none=True)["finetune"]
        with pytest.raises(
            ValueError, match=r"trials_per_gpu is 2, but a trial has 2 ranks .* set one of the two to 1"
        ):
            FineTune.model_validate({**settings, "trials_per_gpu": 2, "ranks_per_trial": 2})

    def test_in_jobs_of_their_own(self) -> None:
        require_whole_gpus(sharing(1))
        with pytest.raises(BenchmarkError, match=r"trials_per_gpu is 2, but each trial without Ray .*`slurm submit`"):
            require_whole_gpus(sharing(2))

    def test_on_nodes_without_gpus(self) -> None:
        cpu_nodes = profile.load(profile.PROFILES / "a100_node.yaml")
        cpu_nodes = cpu_nodes.model_copy(update={"node": cpu_nodes.node.model_copy(update={"gpus": 0})})
        with pytest.raises(
            BenchmarkError, match=r"trials_per_gpu is 2, but the profile's node has no GPUs; set trials"
        ):
            capacity.of(cpu_nodes, 1, 2)

    @pytest.mark.parametrize("number", [0, 17, 1.5, "two"])
    def test_a_number_that_is_none(self, number: Any) -> None:
        settings = spec.load("nano").model_dump(mode="json", exclude_none=True)["finetune"]
        with pytest.raises(ValueError, match="trials_per_gpu"):
            FineTune.model_validate({**settings, "trials_per_gpu": number})


def test_the_smallest_gpu_has_to_hold_the_models_of_its_trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A study is refused before it starts; nano takes megabytes, a CUDA context three quarters of a GiB."""
    put_in(monkeypatch, machine({**gpu(0), "memory": 80 << 30}, {**gpu(1), "memory": 2 << 30}))
    devices = detect_here()
    assert devices.memory_bytes == 2 << 30
    assert place(sharing(2), devices).allotment.concurrency == 4
    executor = InProcess(devices=4)
    monkeypatch.setattr(executor, "detect", lambda: devices)
    with pytest.raises(
        BenchmarkError, match=r"trials_per_gpu is 3, but .* its share of NVIDIA H100 is 0.0 GB of 2.1 GB"
    ):
        run(Study("random", sharing(3), seed=1, budget=2), executor, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_training_alone_has_a_whole_gpu() -> None:
    assert allot(H200, 1, 1, sharing(2).on_whole_gpus().trials_per_gpu).devices == 1


@contextmanager
def reserved(allotment: Allotment, trials: int) -> Iterator[list[Any]]:
    groups = [resources(allotment).to_placement_group() for _ in range(trials)]
    yield groups
    for group in groups:
        remove_placement_group(group)


@pytest.mark.slow
def test_ray_puts_them_on_one_gpu_and_no_further_one() -> None:
    ray.init(
        "local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1"
    )
    try:
        allotment = allot(replace(H200, cpus=4), 1, trials_per_gpu=2)
        with reserved(allotment, 5) as groups:
            ready, _ = ray.wait([group.ready() for group in groups], num_returns=4, timeout=120)
            assert len(ready) == 4
            assert not ray.wait([groups[4].ready()], timeout=0.5)[0]
            places = [find_places(1, allotment.gpus_per_rank, group)[0].devices for group in groups[:4]]
        assert sorted(places) == ["0", "0", "1", "1"]
    finally:
        ray.shutdown()


def test_two_trials_on_a_gpu_for_an_hour_are_one_gpu_hour() -> None:
    allotment = allot(replace(H200, count=1), 1, trials_per_gpu=2)
    books, parts = Books(spec.load("synthetic")), {"train": 3000.0, "evaluate": 500.0, "idle": 100.0}
    books.apply(Reserved(0.0, allotment.devices))
    for number, name in enumerate("ab"):
        books.apply(Proposed(0.0, name, number, 0, ((0, {}),)))
        books.apply(Began(0.0, name, allotment.devices_per_trial))
    for name in "ab":
        books.apply(Unit(3600.0, name, 1, 1.0, False, {}, parts))
    shares = books.shares()
    assert shares.device_hours == pytest.approx(1.0)
    assert sum(shares.seconds.values()) == pytest.approx(shares.reserved_seconds)
    assert shares.seconds["train"] == pytest.approx(3000.0)


class OneGpu(InProcess):
    """An executor that finds one GPU."""

    def detect(self) -> Devices:
        return replace(H200, count=1, cpus=8)


def test_a_study_counts_a_shared_gpu_once(tmp_path: Path) -> None:
    """Its trials are curves, in the place of a training."""
    curves = synthetic(max_units=3, seconds_per_unit=0.002)
    benchmark = sharing(2).model_copy(update={"resource": curves.resource})
    executor = OneGpu(devices=2, open_rank=lambda benchmark: SyntheticTrial(curves))
    finished = run(Study("random", benchmark, seed=1, budget=6), executor, tmp_path)
    assert finished.reached_end, finished.reason
    assert executor.most_in_use == 2
    seconds = finished.shares.seconds
    assert finished.shares.reserved_seconds == pytest.approx(sum(seconds[part] for part in PARTS), rel=0.01)
    last = max(row.ended_seconds or 0.0 for row in finished.books.rows)
    assert last <= finished.shares.reserved_seconds <= last + 0.5  # one GPU, not two
    assert sum(row.device_seconds for row in finished.books.rows) <= finished.shares.reserved_seconds
