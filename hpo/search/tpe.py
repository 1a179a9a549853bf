"""TPE of HyperOpt and of Optuna, corrected where trials end at different resources.

TPE models good and bad configurations by the order of their results. Ray hands it the last loss of every
trial, so a trial stopped at unit 1 is compared with one at unit 9. Here a trial that was stopped early ranks
behind every trial that got further, and among equals by loss: the order that Optuna's TPE defines for pruned
trials (Akiba et al. 2019, https://arxiv.org/abs/1907.10902).

TPE has nothing to model until `initial_points` trials have ended; until then it proposes the draws that all methods of
a block share. HyperOpt counts running trials as well, so that with many devices it would model trials without a result.
Here both count the trials that have ended, those of earlier studies included.

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
from hpo.search.randomness import Draws
from hpo.search.space import to_tune

BEHIND = 1e6
"""Penalty added to the loss for every missing unit; above any objective, which `diverged_above` bounds."""


class BudgetAwareHyperOpt(HyperOptSearch):
    """HyperOpt's TPE; an early-stopped trial gets a loss behind all trials that got further.

    Args:
        max_units: the full resource.
        draws: proposals until then.
        n_initial_points: trials that end before the model proposes.
        settings: further arguments of `HyperOptSearch`.

    Attributes:
        by_model: Tune's ids of the trials that the model has proposed.
    """

    algo: Any  # Ray's name for HyperOpt's suggest function

    def __init__(self, max_units: int, draws: Draws, n_initial_points: int = 20, **settings: Any) -> None:
        self._max_units, self._draws, self._n_initial_points = max_units, draws, n_initial_points
        self._results, self._infeasible = 0, 0
        self.by_model: set[str] = set()
        super().__init__(n_initial_points=n_initial_points, **settings)
        self._model = self.algo

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
        if self._draws.has_opening or self._results < self._n_initial_points:
            self.algo = self._drawn
        else:
            uncounted = len(self._live_trial_mapping) + self._infeasible
            self.algo = partial(self._model, n_startup_jobs=self._n_initial_points + uncounted)
            self.by_model.add(trial_id)
        config: dict[str, Any] | None = super().suggest(trial_id)
        return config

    def _drawn(self, new_ids: list[int], domain: Any, trials: Any, seed: int) -> list[dict[str, Any]]:
        """Propose the next draw, in the place of HyperOpt's suggest function."""
        point = self._draws.next()
        self._convert_categories_to_indices(point)
        return [generate_trial(new_ids[0], point)]

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
        draws: proposals until then.
        n_initial_points: trials that end before the model proposes.
        seed: of Optuna's TPE.
        settings: further arguments of `OptunaSearch`.

    Attributes:
        by_model: Tune's ids of the trials that the model has proposed.
    """

    def __init__(
        self, max_units: int, draws: Draws, n_initial_points: int = 10, seed: int | None = None, **settings: Any
    ) -> None:
        self._max_units, self._draws, self._n_initial_points = max_units, draws, n_initial_points
        self._tpe = TPESampler(seed=seed, n_startup_trials=n_initial_points)
        self._results, self._infeasible = 0, 0
        self.by_model: set[str] = set()
        super().__init__(sampler=self._tpe, **settings)
        self._ot_study: Any

    def add_evaluated_point(self, parameters: Config, value: float, **settings: Any) -> None:
        """See `OptunaSearch`."""
        self._results += 1
        super().add_evaluated_point(parameters, value, **settings)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Propose the next draw, or by the model; see `Searcher`."""
        if self._draws.has_opening or self._results < self._n_initial_points:
            self._ot_study.enqueue_trial(self._draws.next())
        else:
            self.by_model.add(trial_id)
        config: dict[str, Any] | None = super().suggest(trial_id)
        return config

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
        is_told = _is_told(was_trained, self._results, self._infeasible, self._n_initial_points)
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


def hyperopt(study: Study, initial_points: int | None, draws: Draws) -> BudgetAwareHyperOpt:
    """Make HyperOpt's TPE for a study; see `searchers.make_searcher`."""
    space = BudgetAwareHyperOpt.convert_search_space(to_tune(study.benchmark.space))
    settings = _shared(study, initial_points)
    return BudgetAwareHyperOpt(study.max_units, draws, space=space, random_state_seed=study.seed, **settings)


def optuna(study: Study, initial_points: int | None, draws: Draws) -> BudgetAwareOptuna:
    """Make Optuna's TPE for a study; see `searchers.make_searcher`."""
    set_verbosity(WARNING)  # it would announce its own study on stderr
    space = BudgetAwareOptuna.convert_search_space(to_tune(study.benchmark.space))
    settings = _shared(study, initial_points)
    return BudgetAwareOptuna(study.max_units, draws, space=space, seed=study.seed, **settings)


def _shared(study: Study, initial_points: int | None) -> dict[str, Any]:
    """Return the arguments that both share."""
    counts = {} if initial_points is None else {"n_initial_points": initial_points}
    return {"metric": OBJECTIVE, "mode": study.benchmark.mode, **counts}
