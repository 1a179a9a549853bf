"""Ranks as Ray actors: one and two of them, gloo between them, kills."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ray

from benchmarks.devices.places import find_places
from benchmarks.out_of_memory import sign_of
from benchmarks.spec import Benchmark
from benchmarks.training import memory
from benchmarks.training.ranks import Ranks, have_grown
from benchmarks.training.session import Session
from tests.studies import processes_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_of_two", "process_group")]
Maker = Callable[..., Benchmark]


@pytest.fixture
def closing() -> Iterator[list[Ranks]]:
    """Ranks put into this list are ended with the test."""
    opened: list[Ranks] = []
    yield opened
    for ranks in opened:
        ranks.close()


@pytest.fixture(scope="module")
def pair(ray_of_two: None, small_nano: Maker) -> Iterator[Ranks]:
    """Two ranks, for one benchmark after the other."""
    ranks = Ranks(small_nano(ranks_per_trial=2), find_places(2))
    yield ranks
    ranks.close()


def rank_processes() -> set[psutil.Process]:
    """Find the processes of all ranks of this test's Ray, by the title that Ray gives an actor's process."""
    return set(processes_of(os.getpid(), "ray::_Rank"))


@pytest.mark.parametrize("stage", [0, *(pytest.param(stage, marks=pytest.mark.thorough) for stage in (2, 3))])
def test_two_ranks_equal_one_at_the_same_global_batch(stage: int, small_nano: Maker, pair: Ranks) -> None:
    pair._all("load_session", small_nano(stage=stage, ranks_per_trial=2))
    pair.start({"learning_rate": 1e-3, "batch_size_per_device": 4}, 3)
    single = Session(small_nano(stage=stage))
    single.start({"learning_rate": 1e-3, "batch_size_per_device": 8}, 3)
    for _ in range(3):
        two, one = pair.run_unit(), single.run_unit()
        assert two["train_loss"] == pytest.approx(one["train_loss"], abs=1e-4)
        assert two["eval_loss"] == pytest.approx(one["eval_loss"], abs=1e-3)
        assert two["f1"] == pytest.approx(one["f1"], abs=0.05)
    single.close()


def test_the_same_ranks_take_the_next_trial(small_nano: Maker, closing: list[Ranks]) -> None:
    before = rank_processes()
    ranks = Ranks(small_nano(), find_places(1))
    closing.append(ranks)
    processes = rank_processes() - before
    assert len(processes) == 1
    for rate in (1e-3, 1e-4):
        ranks.start({"learning_rate": rate}, 0)
        assert ranks.run_unit()["units"] == 1
    assert rank_processes() - before == processes


def test_a_killed_rank_raises_in_its_owner(
    small_nano: Maker, closing: list[Ranks], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rank_processes()
    ranks = Ranks(small_nano(), find_places(1))
    closing.append(ranks)
    ranks.start({"learning_rate": 1e-3}, 0)
    [process] = rank_processes() - before
    process.kill()
    with pytest.raises(ray.exceptions.ActorDiedError):
        ranks.run_unit()
    counts = iter((3, 4))  # of the kernel, which kills for want of memory
    monkeypatch.setattr(memory, "kills", lambda: next(counts))
    with pytest.raises(MemoryError, match="the kernel killed a rank"):
        ranks.run_unit()


def test_a_kernel_s_kills_are_counted_on_the_node_where_they_are() -> None:
    """A node that has died has killed nothing; trials across two nodes are in test_two_nodes."""
    here, now = ray.get_runtime_context().get_node_id(), memory.kills()
    assert have_grown({here: ray.put(now - 1)})
    assert not have_grown({here: ray.put(now), "0" * 56: ray.put(-1)})


def test_a_rank_without_memory_goes_on_with_smaller_micro_batches(small_nano: Maker, closing: list[Ranks]) -> None:
    """The limit is real: the process gets little more than it has when its trial has begun."""
    before = rank_processes()
    ranks = Ranks(small_nano(unit_samples=256, eval_batch_size=2), find_places(1))
    closing.append(ranks)
    config = {"learning_rate": 1e-3, "batch_size_per_device": 256}
    ranks.start(config, 0)
    [process] = rank_processes() - before
    held = process.memory_info().data
    process.rlimit(psutil.RLIMIT_DATA, (held + 80 * memory.MIB, resource.RLIM_INFINITY))
    with pytest.raises(ray.exceptions.RayTaskError) as failure:
        ranks.run_unit()
    assert "DefaultCPUAllocator" in sign_of(failure.value)
    ranks.start({**config, "batch_size_per_device": 4, "gradient_accumulation_steps": 64}, 0)
    assert ranks.run_unit()["units"] == 1
    assert rank_processes() - before == {process}


def test_two_ranks_that_pause_equal_two_that_do_not(small_nano: Maker, pair: Ranks, tmp_path: Path) -> None:
    """Each rank draws its own dropout, so each has random states of its own in a checkpoint."""
    pair._all("load_session", small_nano(unit_samples=16, ranks_per_trial=2))
    config = {"learning_rate": 3e-3, "batch_size_per_device": 4, "lora_rank": 4, "lora_dropout": 0.3}
    pair.start(config, 3)
    pair.run_unit()
    pair.save(tmp_path)
    expected = pair.run_unit()
    pair.start(config, 5)
    pair.load(tmp_path)
    found = pair.run_unit()
    assert (found["train_loss"], found["eval_loss"]) == (expected["train_loss"], expected["eval_loss"])
    assert len(list(tmp_path.glob("random-states-*"))) == 2
    assert pair.precision() == "fp32"
