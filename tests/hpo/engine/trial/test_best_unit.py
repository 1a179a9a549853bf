"""Trials that stand by their best unit: scores, incumbents, confirmations, and what cannot go with it."""

from __future__ import annotations

import io
from itertools import groupby
from typing import Any

import pytest
from ray import tune
from ray.tune.search import BasicVariantGenerator
from rich.console import Console

from benchmarks.identity import digest
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.trials.synthetic import SyntheticTrial
from hpo.analysis.over_cost.curves import anytime
from hpo.analysis.studies import StudyRecord
from hpo.core.study import CONFIRMS, SCHEDULE, TRAINING_SEED, Study
from hpo.engine.in_process import InProcess, Unkept, Unstored
from hpo.engine.in_process.actors import Call, nobody_dies
from hpo.engine.in_process.simulated import simulated
from hpo.engine.runner import execute
from hpo.search import registry
from hpo.search.plan import Plan
from hpo.store import files
from hpo.store.stored_trials import past_trials
from tests.hpo.engine.in_process import every, first, synthetic, units_of

CONFIG = {"learning_rate": 5e-4, "batch_size_per_device": 8, "weight_decay": 0.01}
SEED = 8
"""A seed with which the best unit is not the last."""


def noisy(select: str = "best_unit", **changes: Any) -> Benchmark:
    """Make a benchmark whose last unit is seldom its best."""
    benchmark = synthetic()
    assert benchmark.synthetic is not None
    own = benchmark.synthetic.model_copy(update={"noise": 1.0})
    return benchmark.model_copy(update={"synthetic": own, "select": select, **changes})


@pytest.mark.parametrize("method", ["random", "hyperband", "asha"])
def test_a_trial_stands_by_its_best_unit(method: str) -> None:
    books = simulated(Study(method, noisy(), 1, 4), InProcess(devices=2)).books
    units = sorted(books.units, key=lambda unit: unit.trial)
    for number, of_trial in groupby(units, key=lambda unit: unit.trial):
        row, losses = books.rows[number], [unit.metrics["eval_loss"] for unit in of_trial]
        assert row.outcome == "diverged" or row.metrics["eval_loss"] == min(losses)
        assert row.outcome == "diverged" or losses[row.selected_unit - 1] == min(losses)
    incumbent = books.incumbent()
    assert incumbent is not None
    assert incumbent.units == 9
    completed = [row.metrics["eval_loss"] for row in books.rows if row.outcome == "completed"]
    assert incumbent.objective == min(completed)


def test_searchers_and_schedulers_are_told_the_best_unit_after_a_pause_too() -> None:
    told: dict[str, list[tuple[float, float]]] = {}
    study = Study("hyperband", noisy(), 1, 4)
    plan = registry.get("hyperband").make_plan(study)
    assert plan.scheduler is not None
    ask = plan.scheduler.on_trial_result

    def listen(controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if not result["diverged"]:
            told.setdefault(trial.trial_id, []).append((result["objective"], result["eval_loss"]))
        return str(ask(controller, trial, result))

    plan.scheduler.on_trial_result = listen  # type: ignore[method-assign]
    console = Console(file=io.StringIO())
    execute(study, "", console, InProcess(2), plan=plan, open_tracker=Unstored, open_folder=Unkept)
    assert max(map(len, told.values())) == 9
    for heard in told.values():
        losses = [loss for _, loss in heard]
        assert [objective for objective, _ in heard] == [min(losses[: n + 1]) for n in range(len(losses))]


def confirmed(executor: InProcess, benchmark: Benchmark, seed: int = SEED) -> dict[str, float]:
    """Train again and score on test, as a confirmation does."""
    proposal = {TRAINING_SEED: seed, SCHEDULE: [[0, CONFIG]]}
    plan = Plan(BasicVariantGenerator(), {CONFIRMS: tune.grid_search([proposal])}, num_samples=1, is_list=True)
    study = Study("confirm", benchmark, 0, 3, kind="confirmation")  # failed units count
    console = Console(file=io.StringIO())
    done = execute(study, "", console, executor, plan=plan, open_tracker=Unstored, open_folder=Unkept)
    return done.books.rows[0].metrics


def scores_of_units(benchmark: Benchmark, seed: int = SEED) -> list[tuple[float, float]]:
    """Compute validation loss and test F1 of every unit, without an engine."""
    trial = SyntheticTrial(benchmark)
    trial.start(CONFIG, seed)
    return [(trial.run_unit()["eval_loss"], trial.evaluate("test")["f1"]) for _ in range(9)]


@pytest.mark.parametrize("dies", [nobody_dies, first(lambda call: units_of(call) == 8), first(every(4, "train"))])
def test_a_confirmation_is_scored_with_the_weights_of_its_best_unit(dies: Any) -> None:
    benchmark = noisy()
    units = scores_of_units(benchmark)
    assert min(units) != units[-1]
    metrics = confirmed(InProcess(1, dies=dies), benchmark)
    assert (metrics["eval_loss"], metrics["test_f1"]) == min(units)


def test_by_default_it_is_scored_at_its_end() -> None:
    benchmark = noisy("last_unit")
    metrics = confirmed(InProcess(1), benchmark)
    assert (metrics["eval_loss"], metrics["test_f1"]) == scores_of_units(benchmark)[-1]


def test_a_checkpoint_outlives_a_death_of_the_actor() -> None:
    """Checkpoints are due after each unit, so the trial goes on from one, and the best unit is before it."""
    resource = synthetic().resource.model_copy(update={"checkpoint_seconds": 1e-6})
    benchmark, calls = noisy(resource=resource), list[str]()
    units = scores_of_units(benchmark)

    def dies(call: Call) -> bool:
        calls.append(call.method)
        return units_of(call) == 8 and calls.count("restore") == 0

    metrics = confirmed(InProcess(1, dies=dies), benchmark)
    assert "restore" in calls
    assert (metrics["eval_loss"], metrics["test_f1"]) == min(units)


def test_curves_over_the_cost_show_the_best_unit() -> None:
    benchmark = noisy()
    books = simulated(Study("random", benchmark, 1, 2), InProcess(devices=1)).books
    kept = {"units.csv": files.units_csv(benchmark, books.units), "devices.csv": files.devices_csv(books.reservations)}
    curve = anytime(StudyRecord("random", "random", "", 1, 2, {}, {}, 0, kept), benchmark)
    incumbent = books.incumbent()
    assert incumbent is not None
    assert curve["value"].iloc[-1] == pytest.approx(incumbent.objective)


def test_only_the_benchmark_that_selects_the_best_unit_is_another_one() -> None:
    assert digest(synthetic()) == digest(noisy("last_unit", synthetic=synthetic().synthetic))
    assert digest(noisy()) != digest(noisy("last_unit"))


@pytest.mark.parametrize("method", ["pbt", "pb2"])
def test_populations_copy_members_as_they_are_and_refuse_it(method: str) -> None:
    with pytest.raises(BenchmarkError, match="select is best_unit in benchmark synthetic"):
        registry.get(method).make_plan(Study(method, noisy()))


def test_earlier_trials_are_stored_by_their_last_unit_and_refuse_it() -> None:
    with pytest.raises(BenchmarkError, match="search without it"):
        past_trials(noisy())


def test_a_bank_has_test_scores_of_the_last_unit_and_refuses_it() -> None:
    content = synthetic().model_dump(exclude={"synthetic"}) | {"recorded": {"bank": "x.parquet"}, "select": "best_unit"}
    with pytest.raises(ValueError, match="a bank has test scores of the last unit alone"):
        Benchmark.model_validate(content)
