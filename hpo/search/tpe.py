"""TPE of HyperOpt and of Optuna, corrected where trials end at different resources.

TPE models good and bad configurations by the order of their results. Ray hands it the last loss of every
trial, so a trial stopped at unit 1 is compared with one at unit 9. Here a trial that was stopped early ranks
behind every trial that got further, and among equals by loss: the order that Optuna's TPE defines for pruned
trials (Akiba et al. 2019, https://arxiv.org/abs/1907.10902).

TPE draws at random until `initial_points` trials have ended; until then it has nothing to model. HyperOpt counts
running trials as well, so that with many devices it would model trials without a result. Here both count the trials
that have ended, those of earlier studies included.

A configuration that does not fit into memory is told as worse than every result, so that the model avoids its like.
Proposals that were not trained for it are told as well, once the model proposes, and no more of them than there are
results: the good ones are a share of all, and must be results.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hyperopt.base import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK
from hyperopt.fmin import generate_trial
from optuna.logging import WARNING, set_verbosity
from optuna.samplers import TPESampler
from ray.tune.search.hyperopt import HyperOptSearch
from ray.tune.search.optuna import OptunaSearch

from benchmarks.space import Config
from hpo.core.study import Study
from hpo.search.plan import OBJECTIVE, TIME_ATTRIBUTE

BEHIND = 1e6
"""Penalty added to the loss for every missing unit; above any objective, which `diverged_above` bounds."""


class BudgetAwareHyperOpt(HyperOptSearch):
    """HyperOpt's TPE; an early-stopped trial gets a loss behind all trials that got further.

    Args:
        max_units: the full resource.
        n_initial_points: trials that end before the model proposes.
        settings: further arguments of `HyperOptSearch`.
    """

    algo: Any  # Ray's name for HyperOpt's suggest function

    def __init__(self, max_units: int, n_initial_points: int = 20, **settings: Any) -> None:
        self._max_units, self._n_initial_points = max_units, n_initial_points
        self._results, self._infeasible = 0, 0
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
        self._results += 1

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Propose, without counting running and infeasible trials as initial points; see `Searcher`."""
        uncounted = len(self._live_trial_mapping) + self._infeasible
        self.algo = partial(self.algo, n_startup_jobs=self._n_initial_points + uncounted)
        config: dict[str, Any] | None = super().suggest(trial_id)
        return config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See `Searcher`."""
        if result and not error:
            missing = self._max_units - result[TIME_ATTRIBUTE]
            sign = 1.0 if self.mode == "min" else -1.0
            result = {**result, OBJECTIVE: result[OBJECTIVE] + sign * BEHIND * missing}
            self._results += 1
        super().on_trial_complete(trial_id, result, error)

    def tell_infeasible(self, trial_id: str, was_trained: bool) -> None:
        """Tell that a proposal does not fit into memory; HyperOpt takes a failure's loss as infinite.

        Args:
            trial_id: Tune's id of it.
            was_trained: whether it was found out by training it.
        """
        trial = self._get_hyperopt_trial(trial_id)
        if trial is None or not _is_told(was_trained, self._results, self._infeasible, self._n_initial_points):
            super().on_trial_complete(trial_id, error=True)
            return
        trial |= {"state": JOB_STATE_DONE, "result": {"status": STATUS_FAIL}}
        self._hpopt_trials.refresh()
        self._infeasible += 1
        del self._live_trial_mapping[trial_id]


class BudgetAwareOptuna(OptunaSearch):
    """Optuna's TPE; an early-stopped trial is told as pruned, at the unit it reached.

    Args:
        max_units: the full resource.
        sampler: Optuna's TPE; by default one without a seed.
        settings: further arguments of `OptunaSearch`.
    """

    def __init__(self, max_units: int, sampler: TPESampler | None = None, **settings: Any) -> None:
        self._max_units, self._tpe = max_units, sampler or TPESampler()
        self._results, self._infeasible = 0, 0
        super().__init__(sampler=self._tpe, **settings)

    def add_evaluated_point(self, parameters: Config, value: float, **settings: Any) -> None:
        """See `OptunaSearch`."""
        self._results += 1
        super().add_evaluated_point(parameters, value, **settings)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report the objective at its unit; see `Searcher`."""
        self._ot_trials[trial_id].report(result[OBJECTIVE], result[TIME_ATTRIBUTE])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See `Searcher`; a result without the objective is Ray's way of saying pruned."""
        if result and not error and result[TIME_ATTRIBUTE] < self._max_units:
            self.on_trial_result(trial_id, result)  # Tune keeps the result of a STOP decision from searchers
            result = None
        self._results += not error
        super().on_trial_complete(trial_id, result, error)

    def tell_infeasible(self, trial_id: str, was_trained: bool) -> None:
        """Tell that a proposal does not fit into memory: Optuna ranks a trial that was pruned before any unit last.

        Args:
            trial_id: Tune's id of it.
            was_trained: whether it was found out by training it.
        """
        initial_points = self._tpe._n_startup_trials - self._infeasible
        is_told = _is_told(was_trained, self._results, self._infeasible, initial_points)
        if is_told:
            self._infeasible += 1
            self._tpe._n_startup_trials += 1  # it is no initial point, and Optuna has no other way to say so
        super().on_trial_complete(trial_id, None, error=not is_told)


def _is_told(was_trained: bool, results: int, infeasible: int, initial_points: int) -> bool:
    """Tell whether the model is to learn that a proposal does not fit into memory.

    Args:
        was_trained: whether it was found out by training it.
        results: trials with a result.
        infeasible: proposals of which the model has learnt that already.
        initial_points: results before the model proposes.
    """
    return was_trained or max(initial_points - 1, infeasible) < results


def hyperopt(
    study: Study, space: dict[str, Any], initial_points: int | None, first: list[Config] | None
) -> BudgetAwareHyperOpt:
    """Make HyperOpt's TPE for a study; see `searchers.make_searcher`."""
    counts = {} if initial_points is None else {"n_initial_points": initial_points}
    return BudgetAwareHyperOpt(
        study.max_units,
        space=BudgetAwareHyperOpt.convert_search_space(space),
        **_shared(study, first),
        random_state_seed=study.seed,
        **counts,
    )


def optuna(
    study: Study, space: dict[str, Any], initial_points: int | None, first: list[Config] | None
) -> BudgetAwareOptuna:
    """Make Optuna's TPE for a study; see `searchers.make_searcher`."""
    set_verbosity(WARNING)  # it would announce its own study on stderr
    counts = {} if initial_points is None else {"n_startup_trials": initial_points}
    return BudgetAwareOptuna(
        study.max_units,
        space=BudgetAwareOptuna.convert_search_space(space),
        **_shared(study, first),
        sampler=TPESampler(seed=study.seed, **counts),
    )


def _shared(study: Study, first: list[Config] | None) -> dict[str, Any]:
    """Return the arguments that Ray's wrappers of both libraries share."""
    return {"metric": OBJECTIVE, "mode": study.benchmark.mode, "points_to_evaluate": first}
