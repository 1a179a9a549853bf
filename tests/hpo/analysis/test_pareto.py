"""The Pareto front, and the best trial within limits."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.space import Config
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.analysis.pareto import Mode, Point, best_within, front
from hpo.analysis.studies import StudyRecord, trials_of
from hpo.core.study import Study
from hpo.store.files import trials_csv
from hpo.store.stored_trials import StoredTrial
from tests.hpo.told import Told

CONFIG: Config = {"learning_rate": 0.0012345678901234567, "batch_size_per_device": 16, "weight_decay": 0.01}


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return spec.load("synthetic")


def names(points: list[Point]) -> list[str]:
    return [point.name for point in points]


class TestFront:
    def test_what_is_beaten_in_both_is_not_on_it(self) -> None:
        points = [Point("a", 0.9, 2.0), Point("b", 0.8, 1.0), Point("c", 0.7, 3.0)]
        assert names(front(points, "max")) == ["b", "a"]

    def test_the_mode_turns_quality_round(self) -> None:
        points = [Point("a", 0.9, 2.0), Point("b", 0.8, 1.0), Point("c", 0.7, 3.0)]
        assert names(front(points, "min")) == ["b", "c"]

    def test_as_good_and_dearer_is_not_on_it(self) -> None:
        assert names(front([Point("dear", 0.9, 2.0), Point("cheap", 0.9, 1.0)], "max")) == ["cheap"]

    def test_as_dear_and_worse_is_not_on_it(self) -> None:
        assert names(front([Point("worse", 0.8, 1.0), Point("better", 0.9, 1.0)], "max")) == ["better"]

    def test_equals_stay_together_in_the_order_given(self) -> None:
        points = [Point("y", 0.9, 1.0), Point("x", 0.9, 1.0), Point("z", 0.5, 0.5)]
        assert names(front(points, "max")) == ["z", "y", "x"]

    def test_nothing_has_no_front(self) -> None:
        assert front([], "min") == []

    @pytest.mark.parametrize("point", [Point("p", math.nan, 1.0), Point("p", 1.0, math.inf)])
    def test_a_point_without_a_quality_or_cost_is_refused(self, point: Point) -> None:
        with pytest.raises(BenchmarkError, match=r"p has quality .* but both must be finite"):
            front([Point("a", 0.9, 2.0), point], "max")

    @pytest.mark.parametrize("mode", ["min", "max"])
    def test_it_is_what_the_definition_says(self, mode: Mode) -> None:
        """Against all pairs of points, on a small grid so that ties are frequent."""
        rng, sign = random.Random(0), 1 if mode == "min" else -1

        def dominates(a: Point, b: Point) -> bool:
            one, other = (sign * a.quality, a.cost), (sign * b.quality, b.cost)
            return one != other and one[0] <= other[0] and one[1] <= other[1]

        for _ in range(200):
            points = [Point(str(n), rng.randint(0, 5), rng.randint(0, 5)) for n in range(rng.randint(1, 12))]
            expected = {b.name for b in points if not any(dominates(a, b) for a in points)}
            found = front(points, mode)
            assert set(names(found)) == expected
            assert all(a.cost <= b.cost for a, b in itertools.pairwise(found))


def record(benchmark: Benchmark, told: Told, method: str = "asha") -> StudyRecord:
    """A study as records have it, from its results."""
    files = {"trials.csv": trials_csv(benchmark, told.books.rows)}
    return StudyRecord("run", method, "", 4, 12, {}, {}, 0, files)


def add(told: Told, benchmark: Benchmark, name: str, loss: float, units: int | None = None, **more: Any) -> None:
    """A trial that went as far as `units`; the full resource by default."""
    units = units or benchmark.resource.max_units
    metrics = {"eval_loss": loss, "train_loss": loss, **more}
    told.begin(name, CONFIG)
    told.report(name, {"units": units, "objective": loss, "diverged": not math.isfinite(loss), **metrics}, 36.0)


class TestStoredTrials:
    def test_a_trial_comes_back_as_it_was(self, benchmark: Benchmark) -> None:
        told = Told(Study("asha", benchmark, 4))
        add(told, benchmark, "a", 0.5, peak_memory_mb=700.0)
        told.end("a")
        (trial,) = trials_of([record(benchmark, told)], benchmark)
        assert trial.config == {**benchmark.default.model_dump(), **CONFIG}
        assert trial.is_single
        assert trial.metrics == {"eval_loss": 0.5, "train_loss": 0.5, "peak_memory_mb": 700.0}  # and no F1 of 0
        assert (trial.name, trial.device_hours, trial.outcome) == ("trial 0 of asha seed 4", 0.01, "completed")

    def test_a_member_that_took_over_another_has_no_single_configuration(self, benchmark: Benchmark) -> None:
        """Both went the same way in units: only the checksum of the schedule tells them apart."""
        told = Told(Study("pbt", benchmark, 4), varies=True)
        for name, rate in (("donor", 1e-3), ("other", 1e-4)):
            told.begin(name, {**CONFIG, "learning_rate": rate})
        told.exploit("other", "donor", 3, {**CONFIG, "learning_rate": 2e-3})
        for name in ("donor", "other"):
            told.report(name, {"units": 9, "eval_loss": 1.0})
            told.end(name)
        trials = trials_of([record(benchmark, told, "pbt")], benchmark)
        assert [trial.is_single for trial in trials] == [True, False]

    def test_a_study_without_trials_has_none(self, benchmark: Benchmark) -> None:
        assert trials_of([StudyRecord("run", "asha", "", 0, 12, {}, {}, 0, {})], benchmark) == []


def trial(number: int, loss: float, hours: float, memory: float | None = None, **more: Any) -> StoredTrial:
    metrics = {"eval_loss": loss} | ({} if memory is None else {"peak_memory_mb": memory})
    settings = {"is_single": True, "outcome": "completed", **more}
    return StoredTrial(
        "asha", 0, "run", number, CONFIG, units=9, metrics=metrics, device_seconds=hours * 3600, **settings
    )


class TestBestWithin:
    TRIALS = (trial(0, 0.5, 2.0, 900), trial(1, 0.7, 1.0, 800), trial(2, 0.9, 0.5, 400))

    @pytest.mark.parametrize(
        ("gpu_hours", "memory_mb", "best"),
        [(None, None, 0), (1.5, None, 1), (None, 500, 2), (1.0, 800, 1), (0.5, 900, 2), (2.0, 900, 0)],
    )
    def test_it_is_the_best_of_those_that_keep_within(
        self, benchmark: Benchmark, gpu_hours: float | None, memory_mb: float | None, best: int
    ) -> None:
        assert best_within(self.TRIALS, benchmark, gpu_hours, memory_mb) is self.TRIALS[best]

    def test_of_equals_the_cheapest(self, benchmark: Benchmark) -> None:
        found = best_within([trial(0, 0.5, 2.0), trial(1, 0.5, 1.0)], benchmark)
        assert isinstance(found, StoredTrial)
        assert found.number == 1

    def test_the_benchmark_s_metric_decides(self, benchmark: Benchmark) -> None:
        by_f1 = benchmark.model_copy(update={"metric": "f1", "mode": "max"})
        low, high = trial(0, 0.5, 1.0), trial(1, 0.9, 1.0)
        trials = [StoredTrial(**{**vars(t), "metrics": {"f1": f1}}) for t, f1 in ((low, 0.3), (high, 0.7))]
        assert best_within(trials, by_f1) is trials[1]

    def test_where_none_fits_the_closest_is_named(self, benchmark: Benchmark) -> None:
        assert best_within(self.TRIALS, benchmark, max_gpu_hours=0.4, max_memory_mb=390) == (
            "none of 3 trials at the full resource keeps within 0.4 device-hours and 390 MiB; the closest is "
            "trial 2 of asha seed 0 with 0.5 device-hours and 400 MiB"
        )

    def test_unknown_memory_keeps_within_no_limit(self, benchmark: Benchmark) -> None:
        unknown = trial(0, 0.1, 1.0)
        assert best_within([unknown, trial(1, 0.9, 1.0, 400)], benchmark, max_memory_mb=500) != unknown
        found = best_within([unknown], benchmark, max_memory_mb=500)
        assert found == "the memory of none of 1 trials at the full resource is known, so none can be held to a limit"
        assert best_within([unknown], benchmark) is unknown

    @pytest.mark.parametrize("more", [{"outcome": "stopped"}, {"outcome": "diverged"}, {"is_single": False}])
    def test_only_full_trainings_of_one_configuration_count(self, benchmark: Benchmark, more: dict[str, Any]) -> None:
        found = best_within([trial(0, 0.1, 1.0, **more)], benchmark)
        assert found == "none of 1 stored trials of synthetic reached the full resource in one configuration"

    @pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
    def test_a_limit_must_be_above_0(self, benchmark: Benchmark, limit: float) -> None:
        with pytest.raises(BenchmarkError, match=r"max_gpu_hours is .* but must be > 0"):
            best_within(self.TRIALS, benchmark, max_gpu_hours=limit)
