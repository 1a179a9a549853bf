"""Comparisons of a task whose verdicts go by a metric of which less is better, with a margin of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.spec import Benchmark
from hpo.analysis import choice, compare
from hpo.analysis.compare import Result
from hpo.analysis.records import Records
from hpo.analysis.studies import Confirmation, StudyRecord
from hpo.core.study import diverged_objective, fresh_seeds, objective, schedule_digest
from hpo.report import sentences
from tests.benchmarks.tasks import own_task

BLOCKS = 6


@pytest.fixture
def benchmark(tmp_path: Path) -> Iterator[Benchmark]:
    with own_task.added(tmp_path):
        yield own_task.benchmark(tmp_path).model_copy(update={"metric": "ece", "mode": "min"})


def records(benchmark: Benchmark, **errors: float | None) -> Records:
    """Store a study of each method on each block, with one fresh training: its calibration error, None if it diverged.

    The error of a block is a little larger than that of the one before.
    """
    studies, trainings = [], []
    for place, (method, error) in enumerate(errors.items()):
        for block in range(BLOCKS):
            config = {"learning_rate": 1e-3 * (1 + place)}
            best = {"config": config, "metrics": {"eval_loss": 0.5, "accuracy": 0.8, "ece": 0.01}, "units": 2}
            files = {"best_config.json": json.dumps(best), "trials.csv": "trial,outcome\n0,completed\n"}
            tags = {"hpo.accelerator": "cpu"}
            costs = {"device_hours": 1.0, "wall_seconds": 60.0, "best_ece": 0.01}
            studies.append(StudyRecord(f"{method}{block}", method, "", block, 4, tags, costs, block, files))
            digest, [seed] = schedule_digest(benchmark, [(0, config)]), fresh_seeds(block, 1)
            shifted = 0.0 if error is None else error + 0.0001 * block
            scores = {"ece": shifted, "test_ece": shifted, "test_accuracy": 0.7, "test_eval_loss": 0.6}
            trainings.append(Confirmation(digest, seed, error is None, scores if error is not None else {}, 1.0))
    return Records(benchmark, "digest", studies, trainings, 0.0, [])


def compared(benchmark: Benchmark, **errors: float | None) -> Result:
    return compare.compare(records(benchmark, **errors))


def test_the_smaller_error_is_better_and_comes_first(benchmark: Benchmark) -> None:
    result = compared(benchmark, asha=0.3, random=0.1)
    assert [standing.name for standing in result.standings] == ["random", "asha"]
    [pair] = result.pairs
    assert (pair.a, pair.verdict) == ("asha", "worse")
    assert sentences.sentence(pair) == "asha is worse than random"


def test_the_margin_of_equivalence_is_the_metric_s(benchmark: Benchmark) -> None:
    margin = benchmark.verdict_metric.margin
    assert margin == 0.02
    [near] = compared(benchmark, asha=0.1, random=0.1 + margin / 2).pairs
    [far] = compared(benchmark, asha=0.1, random=0.1 + 2 * margin).pairs
    assert (near.verdict, far.verdict) == ("equivalent", "better")
    assert "below 0.02" in near.reason


def test_random_search_is_beaten_by_smaller_errors(benchmark: Benchmark) -> None:
    [best, _] = compared(benchmark, asha=0.1, random=0.3).standings
    assert best.over_random is not None
    assert (best.name, best.over_random.value) == ("asha", 1.0)


def test_a_training_that_diverged_has_the_largest_error(benchmark: Benchmark) -> None:
    result = compared(benchmark, asha=None, random=0.4)
    assert [standing.name for standing in result.standings] == ["random", "asha"]
    [lost] = [contestant for contestant in result.contestants if contestant.name == "asha"]
    assert set(lost.scores(benchmark.verdict_metric).values()) == {1.0}


def test_shrinkage_is_the_rise_of_an_error(benchmark: Benchmark) -> None:
    result = compared(benchmark, asha=0.3, random=0.1)
    first = result.shrinkage[0]
    assert benchmark.verdict_metric.gain(first.selected, first.test) == pytest.approx(first.test - 0.01)


def test_the_method_of_the_smallest_error_is_exported(benchmark: Benchmark) -> None:
    assert choice.choose(records(benchmark, asha=0.3, random=0.1), choice.BEST).contestant.name == "random"


@pytest.mark.parametrize(
    ("metric", "mode", "expected"), [("eval_loss", "min", 25.0), ("accuracy", "max", -1.0), ("ece", "min", 2.0)]
)
def test_a_diverged_trial_is_worse_than_any_sound_one(
    benchmark: Benchmark, metric: str, mode: str, expected: float
) -> None:
    ranked = benchmark.model_copy(update={"metric": metric, "mode": mode})
    lost = {"train_loss": float("nan"), "eval_loss": float("nan"), "accuracy": 0.0, "ece": 1.0}
    assert objective(ranked, lost) == diverged_objective(ranked) == expected
    assert ranked.ranking_metric.beats(objective(ranked, {**lost, "train_loss": 1.0, "eval_loss": 2.0}), expected)
