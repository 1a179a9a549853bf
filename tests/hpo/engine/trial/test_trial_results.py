"""Entries of each of a trial's results beside its metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from benchmarks import spec
from benchmarks.clock import REAL
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training.session import Session
from benchmarks.trials.synthetic import SyntheticTrial
from hpo.core import metrics
from hpo.core.results import PRECISION
from hpo.core.study import Study
from hpo.engine.one_trial import Order, units
from hpo.engine.trial import TrialActor


def test_a_process_of_its_own_tells_the_precision_with_every_unit() -> None:
    order = Order(spec.load("synthetic"), {}, seed=0, threads=1, began=time.time())
    told = list(units(order, SyntheticTrial(order.benchmark)))
    assert len(told) > 1
    assert {result[PRECISION] for result in told} == {""}  # nothing is trained


def test_an_actor_tells_the_precision_with_every_unit(tmp_path: Path) -> None:
    study = Study(method="random", benchmark=spec.load("synthetic"), budget=1, seed=0)
    devices = {"cpus_per_rank": 1, "gpus_per_rank": 0, "pool": None}
    made: Any = tune.with_parameters(TrialActor, study=study, **devices, reported={}, home=tmp_path, clock=REAL)
    actor = made({})
    assert [actor.step()[PRECISION] for _ in range(2)] == ["", ""]
    actor.cleanup()


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_session_tells_the_precision_that_it_was_given(precision: str, small_nano: Callable[..., Benchmark]) -> None:
    assert Session(small_nano(precision=precision)).precision() == precision


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_a_rank_does_not_guess_a_precision(small_nano: Callable[..., Benchmark]) -> None:
    with pytest.raises(BenchmarkError, match="precision is auto, but a rank takes fp32, bf16 or fp16; settle it"):
        Session(small_nano(precision="auto"))


def test_precision_is_no_metric() -> None:
    assert PRECISION not in metrics.of_unit(spec.load("synthetic"))
