"""A study that was killed goes on where it stood, whatever its method and whenever it was killed."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hpo.core.study import Study
from hpo.engine.in_process import InProcess, Unstored
from hpo.engine.in_process.actors import Call
from hpo.engine.runner import Finished
from hpo.search import registry
from tests.hpo.engine.in_process import run, synthetic

BUDGET, SEED = 4, 1
MOMENTS = 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


class KilledError(BaseException):
    """Nothing in the driver handles it, as nothing handles SIGKILL."""


def study_of(method: str, checkpoint_seconds: float = 60.0) -> Study:
    benchmark = synthetic(diverge_above=1e-3, checkpoint_seconds=checkpoint_seconds)
    name, _, variant = method.partition(" ")
    given = dict([variant.split("=")]) if variant else {}
    return registry.get(name).study(benchmark, SEED, BUDGET, None, given)


def killed_at(moments: list[int], seen: list[str]) -> Callable[[Call], bool]:
    """Kill the driver before these calls of its actors, counted over all its lives; note the methods of all calls."""

    def dies(call: Call) -> bool:
        seen.append(call.method)
        if len(seen) in moments:
            raise KilledError
        return False

    return dies


def run_with_kills(
    study: Study, devices: int, moments: list[int], folder: Path, seen: list[str] | None = None
) -> tuple[Finished, int]:
    """Run a study that is killed and resumed until its end; also returns the number of kills."""
    dies, killed = killed_at(moments, [] if seen is None else seen), 0
    while True:
        is_there = (folder / "unfinished" / Unstored.RUN_ID).exists()
        executor = InProcess(devices, order=killed, dies=dies)
        try:
            return run(study, executor, folder, Unstored.RUN_ID if is_there else None), killed
        except KilledError:
            killed += 1


@pytest.fixture(scope="module")
def uninterrupted() -> Callable[[str], tuple[Finished, int]]:
    """Run a study without kills; returns it with the number of calls of its actors."""

    @cache
    def run_once(method: str) -> tuple[Finished, int]:
        calls = 0

        def count(call: Call) -> bool:
            nonlocal calls
            calls += 1
            return False

        return run(study_of(method), InProcess(1, dies=count)), calls

    return run_once


def decisions(finished: Finished) -> list[dict[str, Any]]:
    """Collect from the trials all that does not measure time."""
    timed = ("device_seconds", "began_seconds", "reported_seconds", "ended_seconds", "metrics")
    rows = [{key: value for key, value in vars(row).items() if key not in timed} for row in finished.books.rows]
    scores = [{key: row.metrics[key] for key in ("eval_loss", "train_loss")} for row in finished.books.rows]
    return [row | score for row, score in zip(rows, scores, strict=True)]


def assert_same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    for a, b in zip(one, other, strict=False):
        assert repr(a) == repr(b)  # as text, NaN equals NaN
    assert len(one) == len(other)


def incumbent(finished: Finished) -> int | None:
    row = finished.books.incumbent()
    return row.number if row else None


@pytest.mark.parametrize("method", [*registry.names(), "asha promotion=true"])
class TestResume:
    @pytest.mark.parametrize("moment", range(MOMENTS))
    def test_it_ends_as_if_nothing_had_happened(
        self, uninterrupted: Callable[[str], tuple[Finished, int]], method: str, moment: int, tmp_path: Path
    ) -> None:
        whole, calls = uninterrupted(method)
        kill = random.Random(f"{method} {moment}").randint(1, calls)
        resumed, killed = run_with_kills(study_of(method), 1, [kill], tmp_path)
        assert killed == 1
        assert_same(decisions(resumed), decisions(whole))
        assert incumbent(resumed) == incumbent(whole)
        assert resumed.reached_end

    def test_it_ends_as_if_nothing_had_happened_when_killed_again_and_again(
        self, uninterrupted: Callable[[str], tuple[Finished, int]], method: str, tmp_path: Path
    ) -> None:
        whole, calls = uninterrupted(method)
        resumed, killed = run_with_kills(study_of(method), 1, list(range(5, calls, 9)), tmp_path)
        assert killed >= 2
        assert_same(decisions(resumed), decisions(whole))

    def test_trainings_that_were_running_go_on_from_their_last_checkpoint(
        self, uninterrupted: Callable[[str], tuple[Finished, int]], method: str, tmp_path: Path
    ) -> None:
        """Checkpoints are due after each unit, since they take no time here."""
        whole, calls = uninterrupted(method)
        seen: list[str] = []
        resumed, killed = run_with_kills(study_of(method, 1e-6), 1, list(range(5, calls, 9)), tmp_path, seen)
        assert killed >= 2
        assert seen.count("save") > killed
        assert "restore" in seen
        assert_same(decisions(resumed), decisions(whole))

    @pytest.mark.parametrize("devices", [2, 8])
    def test_on_several_devices_no_unit_is_missing_and_none_counts_twice(
        self, method: str, devices: int, tmp_path: Path
    ) -> None:
        resumed, killed = run_with_kills(study_of(method), devices, [11, 29, 47], tmp_path)
        assert killed >= 1
        assert resumed.reached_end
        rows = resumed.books.rows
        assert {row.outcome for row in rows} <= {"completed", "stopped", "diverged"}
        assert all(row.trained_units <= row.units for row in rows)  # a member that diverged takes over a further one
        assert sum(row.trained_units for row in rows) <= study_of(method).budget_units
        units = [(unit.trial, unit.units) for unit in resumed.books.units]
        assert len(set(units)) == len(units)
        assert not (tmp_path / "unfinished").exists()
