"""Searchers of Ray Tune: corrected where trials end at different resources, and given what is known beforehand.

TPE models good and bad configurations by the order of their results. Ray hands it the last loss of every
trial, so a trial stopped at unit 1 is compared with one at unit 9. Here a trial that was stopped early ranks
behind every trial that got further, and among equals by loss: the order that Optuna's TPE defines for pruned
trials (Akiba et al. 2019, https://arxiv.org/abs/1907.10902).

TPE draws at random until `initial_points` trials have ended; until then it has nothing to model. HyperOpt counts
running trials as well, so that with many devices it would model what has no result yet; here both count those
that have ended, trials of earlier studies included.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import optuna
from hyperopt.base import JOB_STATE_DONE, STATUS_OK
from hyperopt.fmin import generate_trial
from optuna.samplers import TPESampler
from pydantic import Field
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from ray.tune.search.hyperopt import HyperOptSearch
from ray.tune.search.optuna import OptunaSearch

from benchmarks.spec import Benchmark, BenchmarkError, Config, describe
from hpo.history import PastTrial, completed_trials, value_in
from hpo.methods import OBJECTIVE, TIME_ATTRIBUTE, MethodArguments, Plan
from hpo.space import to_tune
from hpo.study import Study

TPEName = Literal["hyperopt", "optuna"]
SearcherName = Literal["random", TPEName]
BEHIND = 1e6
"""Added to the loss for every missing unit; above any objective, which `diverged_above` bounds."""


class TPEArguments(MethodArguments):
    """Arguments of the methods that are TPE alone, whosever it is."""

    initial_points: int = Field(
        0, ge=0, description="random trials before the model proposes; 0 is a third of the budget, at least 2"
    )
    start_with_default: bool = Field(False, description="whether the first trial is the benchmark's default")
    warm_start: bool = Field(False, description="whether to begin with what earlier studies of the benchmark found")


def tpe_plan(name: TPEName, study: Study, arguments: TPEArguments) -> Plan:
    """TPE with full trainings, until the budget is spent.

    Raises:
        BenchmarkError: the default lies outside the search space, or earlier studies cannot be read.
    """
    searcher, space = make_searcher(
        name,
        study,
        initial_points=arguments.initial_points or max(2, study.budget // 3),
        first=[default_config(study.benchmark)] if arguments.start_with_default else [],
        past=completed_trials(study.benchmark) if arguments.warm_start else [],
    )
    return Plan(searcher, space, num_samples=study.budget_units)


def default_config(benchmark: Benchmark) -> Config:
    """The benchmark's default for each hyperparameter of its search space, as the space has it.

    Raises:
        BenchmarkError: it lies outside the space.
    """
    default, config = benchmark.default.model_dump(), {}
    for name, domain in benchmark.space.items():
        value = value_in(domain, str(default[name]))
        if value is None:
            raise BenchmarkError(
                f"{name} is {default[name]!r} in the default of benchmark {benchmark.name}, but must lie in the search "
                f"space, {describe(domain)}; widen the space, or leave start_with_default out"
            )
        config[name] = value
    return config


def make_searcher(
    name: SearcherName,
    study: Study,
    *,
    initial_points: int | None = None,
    first: Sequence[Config] = (),
    past: Sequence[PastTrial] = (),
) -> tuple[Searcher | SearchAlgorithm, dict[str, Any]]:
    """A seeded searcher, and the `param_space` to give Tune beside it.

    Args:
        name: which one; the other arguments are for TPE only.
        study: what is searched.
        initial_points: trials, past ones included, that end before the model proposes; None is the library's own
            default, 20 in HyperOpt and 10 in Optuna.
        first: configurations to propose before any other, in this order.
        past: trials that the model knows from the start.
    """
    space = to_tune(study.benchmark.space)
    if name == "random":
        assert initial_points is None
        assert not first
        assert not past
        return BasicVariantGenerator(random_state=study.seed), space
    make = _hyperopt if name == "hyperopt" else _optuna
    searcher = make(study, space, initial_points, list(first) or None)
    for trial in past:
        searcher.add_evaluated_point(trial.config, trial.objective)
    return searcher, {}


class BudgetAwareHyperOpt(HyperOptSearch):
    """HyperOpt's TPE, told of a trial stopped early with a loss behind all that got further.

    Args:
        max_units: the full resource.
        n_initial_points: trials that end before the model proposes.
        settings: further arguments of `HyperOptSearch`.
    """

    algo: Any  # Ray's name for HyperOpt's suggest function

    def __init__(self, max_units: int, n_initial_points: int = 20, **settings: Any) -> None:
        self._max_units, self._n_initial_points = max_units, n_initial_points
        super().__init__(n_initial_points=n_initial_points, **settings)

    def add_evaluated_point(self, parameters: Config, value: float) -> None:
        """Tell the model of a trial of an earlier study, as `OptunaSearch.add_evaluated_point` does."""
        point = dict(parameters)
        self._convert_categories_to_indices(point)
        trials = self._hpopt_trials
        (number,) = trials.new_trial_ids(1)
        result = {"loss": self.metric_op * value, "status": STATUS_OK}
        trials.insert_trial_docs([{**generate_trial(number, point), "state": JOB_STATE_DONE, "result": result}])
        trials.refresh()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """As `Searcher`; running trials do not count as initial points."""
        running = len(self._live_trial_mapping)
        self.algo = partial(self.algo, n_startup_jobs=self._n_initial_points + running)
        config: dict[str, Any] | None = super().suggest(trial_id)
        return config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """As `Searcher`."""
        if result and not error:
            missing = self._max_units - result[TIME_ATTRIBUTE]
            sign = 1.0 if self.mode == "min" else -1.0
            result = {**result, OBJECTIVE: result[OBJECTIVE] + sign * BEHIND * missing}
        super().on_trial_complete(trial_id, result, error)


class BudgetAwareOptuna(OptunaSearch):
    """Optuna's TPE, told of a trial stopped early as pruned, at the unit it reached.

    Args:
        max_units: the full resource.
        settings: arguments of `OptunaSearch`.
    """

    def __init__(self, max_units: int, **settings: Any) -> None:
        self._max_units = max_units
        super().__init__(**settings)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """As `Searcher`; reports the objective at its unit."""
        self._ot_trials[trial_id].report(result[OBJECTIVE], result[TIME_ATTRIBUTE])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """As `Searcher`; a result without the objective is Ray's way of saying pruned."""
        if result and not error and result[TIME_ATTRIBUTE] < self._max_units:
            self.on_trial_result(trial_id, result)  # Tune keeps the result of a STOP decision from searchers
            result = None
        super().on_trial_complete(trial_id, result, error)


def _hyperopt(
    study: Study, space: dict[str, Any], initial_points: int | None, first: list[Config] | None
) -> BudgetAwareHyperOpt:
    counts = {} if initial_points is None else {"n_initial_points": initial_points}
    return BudgetAwareHyperOpt(
        study.max_units,
        space=BudgetAwareHyperOpt.convert_search_space(space),
        metric=OBJECTIVE,
        mode=study.benchmark.mode,
        points_to_evaluate=first,
        random_state_seed=study.seed,
        **counts,
    )


def _optuna(
    study: Study, space: dict[str, Any], initial_points: int | None, first: list[Config] | None
) -> BudgetAwareOptuna:
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would announce its own study on stderr
    counts = {} if initial_points is None else {"n_startup_trials": initial_points}
    return BudgetAwareOptuna(
        study.max_units,
        space=BudgetAwareOptuna.convert_search_space(space),
        metric=OBJECTIVE,
        mode=study.benchmark.mode,
        points_to_evaluate=first,
        sampler=TPESampler(seed=study.seed, **counts),
    )
