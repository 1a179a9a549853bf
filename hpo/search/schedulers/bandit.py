"""PB2's scheduler: Ray's, synchronous, corrected, and on the unit cube."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd
from ray.tune.experiment import Trial
from ray.tune.schedulers.pb2 import PB2

from benchmarks.space import Config, Integer, LogUniform, Uniform
from hpo.core.study import Study
from hpo.search.plan import TIME_ATTRIBUTE
from hpo.search.schedulers.population import PopulationScheduler, clip, within_memory
from hpo.search.space import to_tune

DIGITS = 6
"""Digits to which unit coordinates are rounded: the model's table finds a member's rows by equal values."""
Range = Uniform | LogUniform | Integer


class Pb2Scheduler(PopulationScheduler, PB2):
    """PB2 whose model sees unit coordinates: on the raw scale three decades of learning rates are one corner.

    Args:
        study: the study that runs.
        ranges: the part of the search space that is modelled.
        settings: arguments of Ray's scheduler.
    """

    data: pd.DataFrame

    def __init__(self, study: Study, ranges: Mapping[str, Range], **settings: Any) -> None:
        self._ranges = ranges
        self._takeovers: Counter[str] = Counter()
        super().__init__(study, hyperparam_bounds={name: [0.0, 1.0] for name in ranges}, **settings)

    def _save_trial_state(self, state: Any, time: int, result: dict[str, Any], trial: Trial) -> None:
        super()._save_trial_state(state, time, {**result, TIME_ATTRIBUTE: time}, self._seen(trial))

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[Config, dict[str, Any]]:
        # Members arrive in any order, and Ray's sort is not stable: one seed would give several models.
        self.data = self.data.sort_values(["Time", "Trial"], ignore_index=True)
        known = len(self.data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a kernel's parameter at its bound; options that SciPy renames
            seen, donor = self._seen(trial), self._seen(trial_to_clone)
            proposed, operations = PB2._get_new_config(self, seen, donor)
        if len(self.data) == known:  # the model has no data yet
            values = {name: sampler.sample() for name, sampler in to_tune(dict(self._ranges)).items()}
        else:
            values = from_unit_cube(self._ranges, proposed)
            self.data = self.data.iloc[:-1]  # Ray's entry has the proposal as it was before rounding
        self._takeovers[trial.trial_id] += 1
        donated: Config = dict(trial_to_clone.config)
        config = within_memory(self.feasibility, donated, {**donated, **values})
        self._note_start(trial, config, self._trial_state[trial_to_clone].last_score)
        return config, operations

    def _note_start(self, trial: Trial, values: Config, score: float) -> None:
        """Note the first value of a replaced member, so that its next result is an improvement over something."""
        entry = {"Trial": str(self._seen(trial)), "Time": self._next_perturbation_sync, "Reward": score}
        row = pd.DataFrame([{**entry, **to_unit_cube(self._ranges, values)}])
        self.data = pd.concat([self.data, row]).reset_index(drop=True)

    def _seen(self, trial: Trial) -> _InUnitCube:
        """Return a member as the model sees it; after an exchange it is a new one, with a curve of its own."""
        return _InUnitCube(f"{trial.trial_id} {self._takeovers[trial.trial_id]}", self._ranges, trial.config)


class _InUnitCube:
    """The model's view of a trial: a name, and a configuration in unit coordinates."""

    def __init__(self, name: str, ranges: Mapping[str, Range], config: Config) -> None:
        self._name = name
        self.config = {**config, **to_unit_cube(ranges, config)}

    def __str__(self) -> str:
        return self._name


def to_unit_cube(ranges: Mapping[str, Range], config: Config) -> dict[str, float]:
    """Return each ranged value as its place between the bounds, in [0, 1], on the scale of its domain."""
    return {name: round(_place(domain, float(config[name])), DIGITS) for name, domain in ranges.items()}


def from_unit_cube(ranges: Mapping[str, Range], places: Mapping[str, Any]) -> Config:
    """Invert `to_unit_cube`."""
    return {name: _value(domain, round(float(places[name]), DIGITS)) for name, domain in ranges.items()}


def _place(domain: Range, value: float) -> float:
    if isinstance(domain, LogUniform):
        return math.log(value / domain.low) / math.log(domain.high / domain.low)
    return (value - domain.low) / (domain.high - domain.low)


def _value(domain: Range, place: float) -> Any:
    if isinstance(domain, LogUniform):
        return clip(domain, domain.low * (domain.high / domain.low) ** place)
    return clip(domain, domain.low + place * (domain.high - domain.low))
