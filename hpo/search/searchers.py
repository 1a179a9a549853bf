"""Searchers of Ray Tune by name, seeded, with the first points and earlier trials that are known beforehand."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.experiment import Experiment
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher

from benchmarks.space import Config
from benchmarks.spec import BenchmarkError
from hpo.core.study import Study
from hpo.search import registry
from hpo.search.plan import Plan, SearcherName, TPEArguments, TPEName
from hpo.search.randomness import Draws, opening, random_searcher
from hpo.search.space import to_tune

if TYPE_CHECKING:
    from hpo.store.stored_trials import PastTrial


def tpe_plan(name: TPEName, study: Study, arguments: TPEArguments) -> Plan:
    """Plan TPE with full trainings, until the budget is spent.

    Raises:
        BenchmarkError: earlier studies cannot be read.
    """
    searcher, space = make_searcher(
        name,
        study,
        initial_points=initial_points(study, arguments),
        first=opening(study, arguments),
        past=_stored(study) if arguments.warm_start else [],
    )
    return Plan(searcher, space, num_samples=study.budget_units)


def _stored(study: Study) -> list[PastTrial]:
    """List the trials of earlier studies; without them a plan needs no MLflow, and Ray can start before its import."""
    from hpo.store.stored_trials import past_trials

    return past_trials(study.benchmark)


def initial_points(study: Study, arguments: TPEArguments) -> int:
    """Return the number of trials before TPE's model proposes."""
    return arguments.initial_points or max(2, study.budget // 3)


def proposals(study: Study) -> list[Config]:
    """List the proposals of a method that does not learn from results, without running any of them.

    Raises:
        BenchmarkError: the method cannot run this study, or its proposals depend on results.
    """
    plan = registry.get(study.method).make_plan(study)
    if not isinstance(plan.searcher, BasicVariantGenerator) or plan.scheduler is not None:
        raise BenchmarkError(f"{study.method} learns from results while trials run, so it needs Ray")
    with tempfile.TemporaryDirectory() as unused:
        experiment = Experiment(
            "draw", tune.Trainable, config=plan.space, num_samples=plan.num_samples, storage_path=unused
        )
        plan.searcher.add_configurations([experiment])
        trials = iter(plan.searcher.next_trial, None)
        return [dict(trial.config) for trial in itertools.islice(trials, study.budget)]


def make_searcher(
    name: SearcherName,
    study: Study,
    *,
    initial_points: int | None = None,
    first: Sequence[Config] = (),
    past: Sequence[PastTrial] = (),
) -> tuple[Searcher | SearchAlgorithm, dict[str, Any]]:
    """Make a seeded searcher, and the `param_space` to give Tune beside it.

    Args:
        name: which one; initial points and past trials are for TPE only.
        study: the study that searches.
        initial_points: trials, past ones included, that end before the model proposes; None is the library's own
            default, 20 in HyperOpt and 10 in Optuna.
        first: configurations to propose before any other, in this order.
        past: trials that the model knows from the start.
    """
    if name == "random":
        assert initial_points is None
        assert not past
        return random_searcher(study, first), to_tune(study.benchmark.space)
    from hpo.search import tpe  # imports HyperOpt and Optuna, which takes seconds

    make = tpe.hyperopt if name == "hyperopt" else tpe.optuna
    searcher = make(study, initial_points, Draws(study, first))
    for trial in past:
        searcher.add_evaluated_point(trial.config, trial.objective)
    return searcher, {}
