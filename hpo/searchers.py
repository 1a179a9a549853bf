"""Searchers of Ray Tune, corrected where trials end at different resources.

TPE models good and bad configurations by the order of their results. Ray hands it the last loss of every
trial, so a trial stopped at unit 1 is compared with one at unit 9. Here a trial that was stopped early ranks
behind every trial that got further, and among equals by loss: the order that Optuna's TPE defines for pruned
trials (Akiba et al. 2019, https://arxiv.org/abs/1907.10902).
"""

from __future__ import annotations

from typing import Any, Literal

from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from ray.tune.search.hyperopt import HyperOptSearch
from ray.tune.search.optuna import OptunaSearch

from hpo.methods import OBJECTIVE, TIME_ATTRIBUTE
from hpo.space import to_tune
from hpo.study import Study

SearcherName = Literal["random", "hyperopt", "optuna"]
BEHIND = 1e6
"""Added to the loss for every missing unit; above any objective, which `diverged_above` bounds."""


def make_searcher(name: SearcherName, study: Study) -> tuple[Searcher | SearchAlgorithm, dict[str, Any]]:
    """A seeded searcher, and the `param_space` to give Tune beside it."""
    space = to_tune(study.benchmark.space)
    if name == "random":
        return BasicVariantGenerator(random_state=study.seed), space
    settings: dict[str, Any] = {"metric": OBJECTIVE, "mode": study.benchmark.mode}
    if name == "hyperopt":
        converted = BudgetAwareHyperOpt.convert_search_space(space)
        return BudgetAwareHyperOpt(study.max_units, space=converted, random_state_seed=study.seed, **settings), {}
    converted = BudgetAwareOptuna.convert_search_space(space)
    return BudgetAwareOptuna(study.max_units, space=converted, seed=study.seed, **settings), {}


class BudgetAwareHyperOpt(HyperOptSearch):
    """HyperOpt's TPE, told of a trial stopped early with a loss behind all that got further.

    Args:
        max_units: the full resource.
        settings: arguments of `HyperOptSearch`.
    """

    def __init__(self, max_units: int, **settings: Any) -> None:
        self._max_units = max_units
        super().__init__(**settings)

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
