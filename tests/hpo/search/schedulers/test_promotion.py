"""ASHA's promotion, against the paper's algorithm written down once more, and held to the budget."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any

import pytest
from ray.tune.experiment import Trial
from rich.console import Console

from benchmarks.spec import BenchmarkError
from hpo.core.events import Began, Ended, Event, Unit
from hpo.core.study import Study
from hpo.engine.in_process import InProcess, Unkept, Unstored
from hpo.engine.in_process.actors import Call
from hpo.engine.runner import Finished, execute
from hpo.search import registry
from hpo.search.plan import Plan
from hpo.search.schedulers.promotion import PromotingAsha, rung_units
from tests.hpo.engine.in_process import every, synthetic

ETA, RUNGS = 3, (1, 3)


class Reference:
    """Algorithm 2 of Li et al. 2020 for trials of nine units, with the default let through every rung."""

    def __init__(self) -> None:
        self.reached: dict[int, list[tuple[float, str]]] = defaultdict(list)
        self.promoted: set[tuple[int, str]] = set()
        self.known: list[str] = []
        self.ended: set[str] = set()

    def report(self, trial: str, units: int, loss: float) -> None:
        if units in RUNGS:
            self.reached[units].append((loss, trial))
            if trial == self.known[0]:
                self.promoted.add((units, trial))

    def get_job(self) -> tuple[int, str] | None:
        """Return rung and trial to promote; None for a new trial."""
        for units in reversed(RUNGS):
            top = sorted(self.reached[units])[: len(self.reached[units]) // ETA]
            for _, trial in top:
                if (units, trial) not in self.promoted and trial not in self.ended:
                    return units, trial
        return None


def asha(seed: int, budget: int = 4, **given: Any) -> Study:
    benchmark = synthetic(diverge_above=0.01)
    return registry.get("asha").study(benchmark, seed, budget, None, {"promotion": True, **given})


def run(study: Study, executor: InProcess, plan: Plan | None = None) -> tuple[Finished, list[Event]]:
    """Run a study that leaves nothing behind; also returns its events."""
    kept = Unkept(Unstored.RUN_ID)
    console = Console(file=io.StringIO())
    finished = execute(study, "", console, executor, plan=plan, open_tracker=Unstored, open_folder=lambda run_id: kept)
    return finished, kept.log.events()


@pytest.mark.parametrize("seed", range(4))
def test_every_job_is_the_one_that_the_paper_gives(seed: int) -> None:
    _, events = run(asha(seed, budget=6), InProcess(devices=1))
    paper, promotions = Reference(), 0
    for event in events:
        if isinstance(event, Unit):
            paper.report(event.trial, event.units, event.metrics["eval_loss"])
        elif isinstance(event, Ended):
            paper.ended.add(event.trial)
        elif isinstance(event, Began) and event.trial in paper.known:
            job = paper.get_job()
            assert job is not None
            assert job[1] == event.trial
            paper.promoted.add(job)
            promotions += 1
        elif isinstance(event, Began):
            assert paper.get_job() is None
            paper.known.append(event.trial)
    assert promotions >= 4


class Watched(PromotingAsha):
    """The scheduler with the paper's algorithm beside it."""

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.paper, self.promotions = Reference(), 0

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        self.paper.known.append(trial.trial_id)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        self.paper.report(trial.trial_id, result["units"], result["objective"])
        if result["diverged"]:
            self.paper.ended.add(trial.trial_id)
        return super().on_trial_result(tune_controller, trial, result)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        chosen = super().choose_trial_to_run(tune_controller)
        if chosen is not None and chosen.status == Trial.PAUSED:
            job = self.paper.get_job()
            assert job is not None
            assert job[1] == chosen.trial_id
            self.paper.promoted.add(job)
            self.promotions += 1
        return chosen


@pytest.mark.parametrize("devices", [2, 5])
def test_on_several_devices_the_paper_promotes_the_same_trials(devices: int) -> None:
    study, watched = asha(seed=1, budget=6), Watched("min", 1, ETA, 9, True)
    made = registry.get("asha").make_plan(study)
    plan = Plan(made.searcher, made.space, made.num_samples, watched, made.admission)
    finished, _ = run(study, InProcess(devices), plan)
    assert finished.reached_end
    assert watched.promotions >= 4


@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize("budget", [1, 4])
def test_the_budget_is_spent_to_its_last_unit_and_the_default_trains_in_full(devices: int, budget: int) -> None:
    finished, _ = run(asha(seed=2, budget=budget), InProcess(devices))
    rows = finished.books.rows
    assert finished.reached_end
    assert sum(row.trained_units for row in rows) == budget * 9
    assert rows[0].outcome == "completed"
    assert {row.outcome for row in rows} <= {"completed", "stopped", "diverged"}


def test_no_unit_is_trained_twice_when_a_paused_trial_goes_on() -> None:
    _, events = run(asha(seed=0, budget=6), InProcess(devices=2))
    units = [(event.trial, event.units) for event in events if isinstance(event, Unit)]
    assert len(units) == len(set(units))


def test_trials_whose_actors_die_reach_their_rung_again_and_are_counted_there_once() -> None:
    finished, _ = run(asha(seed=0), InProcess(2, dies=every(7, "train")))
    assert finished.reached_end
    assert {row.outcome for row in finished.books.rows} <= {"completed", "stopped", "diverged", "failed"}


def test_a_study_ends_where_no_checkpoint_can_be_written() -> None:
    def dies(call: Call) -> bool:
        return call.method == "save"

    finished, _ = run(asha(seed=0), InProcess(2, dies=dies))
    assert finished.reason or finished.reached_end


def test_without_the_default_the_first_trial_waits_like_any_other() -> None:
    finished, _ = run(asha(seed=0, start_with_default=False), InProcess(devices=1))
    assert sum(row.trained_units for row in finished.books.rows) == 36


def test_rungs_are_whole_units_below_the_full_resource() -> None:
    assert rung_units(1, 3, 9) == [1, 3]
    assert rung_units(1, 3, 10) == [1, 3, 9]
    assert rung_units(2, 1.5, 9) == [2, 3, 5, 7]


def test_a_model_that_would_learn_of_no_paused_trial_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="searcher is optuna, but must be random with promotion=true"):
        registry.get("asha").make_plan(asha(seed=0, searcher="optuna"))
