"""BOHB: HyperBand whose configurations come from a density model of the good ones.

Paper: Falkner, Klein and Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018,
https://arxiv.org/abs/1807.01774.

What it does: runs HyperBand's brackets (see `hyperband`). A new configuration is drawn at random with probability
`random_fraction`; otherwise from a kernel density estimate of the best results, the one of 64 draws with the
largest ratio of good to bad density. The model is that of the largest budget (rung) with enough results. Every
result at every rung reaches it, those of trials that are stopped there included.
What it does not: build a model early: with d hyperparameters a rung needs 2 (d + 1) results. In a space of 5 and a
budget of 12 full trainings the first round of brackets, two thirds of the budget, is HyperBand with random
draws. A diverged trial counts as the worst result of the rung it would have reached.

Arguments and the paper's symbols: `reduction_factor` is eta, `random_fraction` is rho, `min_points` is N_min (0 for
d + 1, the least that the implementation allows), `top_percent` is 100 q, `num_draws` is N_s, `bandwidth_factor` is
b_w. R is the benchmark's `max_units`.

When to use it: for budgets of several rounds of brackets, where early rankings mean something.

Logged metrics: as for every method; see `hyperband` for units and idling.

Cost: as HyperBand; fitting and sampling the model takes some hundredths of a second a trial.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field
from ray.tune.experiment import Trial
from ray.tune.schedulers.hb_bohb import HyperBandForBOHB
from ray.tune.search.bohb import TuneBOHB

from benchmarks.space import Choice, Config, Domain, Integer, LogUniform, Scalar, Space
from hpo.core.study import Study
from hpo.search.brackets import BracketScheduler, make_brackets
from hpo.search.plan import OBJECTIVE, MethodArguments, Plan
from hpo.search.randomness import OwnRandomness


class Arguments(MethodArguments):
    """Arguments of BOHB; the defaults are the paper's."""

    reduction_factor: int = Field(3, ge=2, description="each rung keeps 1/x of the trials (eta); divides max_units")
    random_fraction: float = Field(1 / 3, ge=0, le=1, description="share of configurations drawn at random (rho)")
    min_points: int = Field(0, ge=0, description="good results a model needs; 0 for hyperparameters + 1 (N_min)")
    top_percent: int = Field(15, ge=1, le=99, description="percentage of results that count as good (100 q)")
    num_draws: int = Field(64, ge=1, description="draws from the model, of which the best is proposed (N_s)")
    bandwidth_factor: float = Field(3, gt=0, description="widens the density drawn from (b_w)")


def plan(study: Study, arguments: Arguments) -> Plan:
    """Ray's HyperBandForBOHB and TuneBOHB, with brackets and the way of results corrected.

    Raises:
        BenchmarkError: the reduction factor does not divide the benchmark's `max_units`.
    """
    scheduler = BohbScheduler(make_brackets(study, arguments.reduction_factor), study.benchmark.mode)
    settings = {
        "random_fraction": arguments.random_fraction,
        "min_points_in_model": arguments.min_points or None,
        "top_n_percent": arguments.top_percent,
        "num_samples": arguments.num_draws,
        "bandwidth_factor": arguments.bandwidth_factor,
    }
    return Plan(
        searcher=BohbSearch(study, settings),
        space={},
        num_samples=study.budget_units,
        scheduler=scheduler,
        admission=scheduler,
    )


class BohbScheduler(BracketScheduler, HyperBandForBOHB):
    """HyperBandForBOHB on corrected brackets; it hands every result of a rung to the searcher itself.

    Tune keeps the results of trials that it stops from searchers: at rungs 1, 3 and 9 of 9, with eta = 3, BOHB
    would learn of 9, 7 and 3 results instead of 9, 8 and 6.
    """

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """As `HyperBandForBOHB`."""
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
    """

    def __init__(self, study: Study, settings: dict[str, Any]) -> None:
        self._domains = study.benchmark.space
        self._randomness = OwnRandomness(study.seed)
        self._counted: set[tuple[str, int]] = set()
        logging.getLogger("hpbandster").setLevel(logging.ERROR)
        space = to_configspace(study.benchmark.space)
        with _quiet():
            super().__init__(space, settings, metric=OBJECTIVE, mode=study.benchmark.mode, seed=study.seed)

    def suggest(self, trial_id: str) -> Config | None:
        """As `Searcher`."""
        with self._randomness.borrowed(), _quiet():
            proposal = super().suggest(trial_id)
        return None if proposal is None else {name: _plain(d, proposal[name]) for name, d in self._domains.items()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """As `Searcher`; a result counts where it is one of a rung."""
        rung = result["hyperband_info"].get("budget")
        if rung is None or (trial_id, rung) in self._counted:
            return
        self._counted.add((trial_id, rung))
        with self._randomness.borrowed(), _quiet():
            super().on_trial_result(trial_id, result)


def to_configspace(space: Space) -> Any:
    """The search space in ConfigSpace's terms; of a choice the index of its value, whatever types the values have."""
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
    """A value of ConfigSpace, which may be one of numpy's, in Python's types, which JSON can hold."""
    if isinstance(domain, Choice):
        return domain.values[int(value)]
    return int(value) if isinstance(domain, Integer) else min(max(float(value), domain.low), domain.high)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence statsmodels, which warns where all good results share one category, and HpBandSter's old calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
