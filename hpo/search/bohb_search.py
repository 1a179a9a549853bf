"""BOHB's scheduler and its searcher: Ray's, with brackets and the way of results corrected."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers.hb_bohb import HyperBandForBOHB
from ray.tune.search.bohb import TuneBOHB
from ray.tune.search.bohb.bohb_search import _BOHBJobWrapper

from benchmarks.space import Choice, Config, Domain, Integer, LogUniform, Scalar, Space
from hpo.core.study import Study
from hpo.search.plan import OBJECTIVE
from hpo.search.randomness import Draws, OwnRandomness
from hpo.search.schedulers.brackets import BracketScheduler


class BohbScheduler(BracketScheduler, HyperBandForBOHB):
    """HyperBandForBOHB on corrected brackets; it hands every result of a rung to the searcher itself.

    Tune keeps the results of trials that it stops from searchers: at rungs 1, 3 and 9 of 9, with eta = 3, BOHB
    would learn of 9, 7 and 3 results instead of 9, 8 and 6.
    """

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """See `HyperBandForBOHB`."""
        rung = self._trial_info[trial][0].current_rung
        action = str(super().on_trial_result(tune_controller, trial, result))
        if result["diverged"]:
            result["hyperband_info"]["budget"] = rung
        tune_controller.search_alg.searcher.on_trial_result(trial.trial_id, result)
        return action


class BohbSearch(TuneBOHB):
    """TuneBOHB with random state of its own, configurations in plain types, and each result counted once.

    Args:
        study: whose space is searched.
        settings: arguments of HpBandSter's density model.
        first_rung: units of the first rung of all.
        draws: proposals in place of those that no model has made.

    Attributes:
        by_model: Tune's ids of the trials that a model has proposed.
    """

    def __init__(self, study: Study, settings: dict[str, Any], first_rung: int, draws: Draws) -> None:
        self._domains = study.benchmark.space
        self._randomness = OwnRandomness(study.seed)
        self._counted: set[tuple[str, int]] = set()
        self._untold: list[Config] = []
        self._first_rung, self._draws = first_rung, draws
        self.by_model: set[str] = set()
        logging.getLogger("hpbandster").setLevel(logging.ERROR)
        space = to_configspace(study.benchmark.space)
        with _quiet():
            super().__init__(space, settings, metric=OBJECTIVE, mode=study.benchmark.mode, seed=study.seed)

    def suggest(self, trial_id: str) -> Config | None:
        """See `Searcher`."""
        with self._randomness.borrowed(), _quiet():
            self._points_to_evaluate = [self._next_point(trial_id)]
            proposal = super().suggest(trial_id)
        return None if proposal is None else {name: _plain(d, proposal[name]) for name, d in self._domains.items()}

    def _next_point(self, trial_id: str) -> dict[str, Any]:
        """Return the model's proposal if it makes one, else the next draw, in ConfigSpace's terms."""
        if self.bohber.kde_models and not self._draws.has_opening:
            proposal, about = self.bohber.get_config(None)
            if about["model_based_pick"]:
                self.by_model.add(trial_id)
                return dict(proposal)
        return {name: _index(self._domains[name], value) for name, value in self._draws.next().items()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Take in a result if it is one of a rung; see `Searcher`."""
        rung = result["hyperband_info"].get("budget")
        if rung is None or (trial_id, rung) in self._counted:
            return
        self._counted.add((trial_id, rung))
        with self._randomness.borrowed(), _quiet():
            super().on_trial_result(trial_id, result)
            self._tell_more()

    def tell_infeasible(self, trial_id: str, was_trained: bool) -> None:
        """Tell that a proposal does not fit into memory, as HpBandSter tells of a crash: by an infinite loss.

        Args:
            trial_id: Tune's id of it.
            was_trained: whether it was found out by training it.
        """
        if was_trained or not self._untold:
            self._untold.append(self.trial_to_params[trial_id])
        super().on_trial_complete(trial_id, error=True)
        with self._randomness.borrowed(), _quiet():
            self._tell_more()

    def _tell_more(self) -> None:
        """Tell of infeasible proposals, as many as there are results: the good ones must be results.

        They count for the rung whose model proposes, since HpBandSter takes no more results of rungs below.
        """
        rung = max(self.bohber.kde_models, default=self._first_rung)
        losses = self.bohber.losses.get(rung, [])
        results = sum(map(math.isfinite, losses))
        for config in self._untold[: max(0, 2 * results - len(losses))]:
            self.bohber.new_result(_BOHBJobWrapper(math.inf, rung, config))
            self._untold.remove(config)


def to_configspace(space: Space) -> Any:
    """Return the search space in ConfigSpace's terms; a choice of any type becomes the index of its value."""
    import ConfigSpace

    def convert(name: str, domain: Domain) -> Any:
        if isinstance(domain, Choice):
            return ConfigSpace.CategoricalHyperparameter(name, list(range(len(domain.values))))
        if isinstance(domain, Integer):
            return ConfigSpace.UniformIntegerHyperparameter(name, domain.low, domain.high)
        log = isinstance(domain, LogUniform)
        return ConfigSpace.UniformFloatHyperparameter(name, domain.low, domain.high, log=log)

    converted = ConfigSpace.ConfigurationSpace()
    converted.add([convert(name, domain) for name, domain in space.items()])
    return converted


def _plain(domain: Domain, value: Any) -> Scalar:
    """Turn a value of ConfigSpace, which may be one of numpy's, into Python's types, which JSON can hold."""
    if isinstance(domain, Choice):
        return domain.values[int(value)]
    return int(value) if isinstance(domain, Integer) else min(max(float(value), domain.low), domain.high)


def _index(domain: Domain, value: Scalar) -> Scalar:
    """Turn a choice into the index by which ConfigSpace has it; see `to_configspace`."""
    return domain.values.index(value) if isinstance(domain, Choice) else value


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence statsmodels, which warns where all good results share one category, and HpBandSter's old calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
