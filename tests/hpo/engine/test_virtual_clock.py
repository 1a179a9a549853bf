"""Studies on a clock that jumps: their times are those of so many devices, and they leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.clock import REAL
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.simulated import simulated
from hpo.engine.runner import Finished
from tests.hpo.engine.in_process import run, synthetic

MINUTE = 60.0


def study_of(method: str, **arguments: int) -> Study:
    return Study(method, synthetic(seconds_per_unit=MINUTE), seed=1, budget=4, arguments=arguments)


def train_seconds(finished: Finished) -> float:
    return sum(unit.seconds["train"] for unit in finished.books.units)


def test_hours_of_training_take_seconds() -> None:
    began = REAL.now()
    finished = simulated(study_of("random"), InProcess(2))
    assert finished.reached_end, finished.reason
    assert finished.shares.seconds["train"] > 20 * MINUTE
    assert REAL.now() - began < 10 * MINUTE


def test_on_one_device_a_study_takes_as_long_as_its_trainings() -> None:
    finished = simulated(study_of("asha"), InProcess(1))
    assert finished.books.seconds == pytest.approx(train_seconds(finished))
    assert finished.shares.utilization == pytest.approx(1.0)


@pytest.mark.parametrize("method", ["asha", "pbt"])
def test_on_several_devices_it_takes_less_and_some_are_idle_at_its_end(method: str) -> None:
    finished = simulated(study_of(method), InProcess(4))
    last = max(row.ended_seconds or 0.0 for row in finished.books.rows)
    assert train_seconds(finished) / 4 <= finished.books.seconds < train_seconds(finished) / 2
    assert finished.books.seconds == last
    assert finished.shares.reserved_seconds == pytest.approx(4 * last)
    assert sum(finished.shares.seconds.values()) == pytest.approx(finished.shares.reserved_seconds)


def test_the_training_that_ends_first_is_reported_first() -> None:
    units = simulated(study_of("asha"), InProcess(4)).books.units
    assert [unit.ended_seconds for unit in units] == sorted(unit.ended_seconds for unit in units)
    first = {unit.trial: unit for unit in reversed(units) if unit.trial < 4}  # they begin together
    assert all(unit.ended_seconds == pytest.approx(unit.seconds["train"]) for unit in first.values())


def test_device_hours_end_a_study_as_on_real_devices() -> None:
    study = Study("random", synthetic(seconds_per_unit=MINUTE), seed=1, budget=12, gpu_hours=0.5)
    finished = simulated(study, InProcess(2))
    assert finished.reached_end
    assert 0.5 <= finished.shares.device_hours < 0.6  # no unit is cut off


@pytest.mark.slow
@pytest.mark.parametrize("method", ["asha", "hyperband", "pbt"])
def test_a_study_that_leaves_nothing_behind_decides_as_one_that_does(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = run(study_of(method), InProcess(2))
    monkeypatch.chdir(tmp_path)
    unkept = simulated(study_of(method), InProcess(2))
    assert [(row.config, row.units, row.ended_seconds) for row in unkept.books.rows] == [
        (row.config, row.units, row.ended_seconds) for row in kept.books.rows
    ]
    assert list(tmp_path.iterdir()) == []
