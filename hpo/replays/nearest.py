"""Tell whether a free proposer can be replayed on recorded configurations alone: `python -m hpo.replays.nearest`.

Each proposal of Optuna's TPE, and of random search with the same first draws, is answered in one of four ways:

- `model`: by the model between recorded curves, as replays do;
- `proposed`: by the nearest recorded configuration that the study has not trained, and TPE is told the result under its
  own proposal;
- `replaced`: the same, and TPE is told it under the configuration that was trained;
- `repeated`: by the nearest one, trained before or not, as Syne Tune's surrogate of one neighbour does by default
  (https://github.com/syne-tune/syne-tune, `blackbox_repository/blackbox_surrogate.py`).

Near is told in the coordinates of `benchmarks.banks.encoding`, ties by number. A study trains one proposal at a time,
in full. Its result is the mean over seeds of the configuration that it found, as recorded or as modelled.

It prints one JSON object per budget and way. The same number of seeds gives the same figures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from benchmarks import spec
from benchmarks.banks.curves import Curve, recorded_curve
from benchmarks.banks.encoding import encode
from benchmarks.banks.surrogate import Surrogate
from benchmarks.banks.training import BankTraining
from benchmarks.files import whole_number
from benchmarks.space import Config
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.trials.recorded import configurations_of
from hpo.core.study import diverged_objective, objective

if TYPE_CHECKING:  # they take seconds to import
    from optuna import Study as Optimisation

Way = Literal["model", "proposed", "replaced", "repeated"]
BUDGETS, SEEDS = (12, 24, 48), 200


@dataclass(frozen=True)
class NearestRates:
    """TPE beside random search in one way of answering, over seeds.

    Attributes:
        way: of the module's.
        budget: full trainings of each study.
        random: mean result of random search, in the benchmark's metric.
        tpe: that of TPE.
        difference: mean of `tpe` - `random` by seed.
        error: its standard error.
        random_median: mean over seeds of the median result of random search's trials after the first draws.
        tpe_median: the same of the trials that TPE's model proposed.
        distance: mean distance of a proposal of the model from the configuration that was trained; None by the model.
    """

    way: Way
    budget: int
    random: float
    tpe: float
    difference: float
    error: float
    random_median: float
    tpe_median: float
    distance: float | None


@dataclass(frozen=True)
class _Study:
    result: float
    median: float
    distance: float


class _Answers:
    """Results of a proposal in each way, from the trainings of a benchmark's bank."""

    def __init__(self, benchmark: Benchmark) -> None:
        from hpo.search.journal import distributions

        self.benchmark, self.space = benchmark, distributions(benchmark)
        sound = ("completed", "diverged")
        of_bank = configurations_of(benchmark)
        self._table = [of_one for of_one in of_bank if all(one.outcome in sound for one in of_one)]
        self._points = np.array([encode(of_one[0].config, benchmark.space) for of_one in self._table])
        self._scores = [[self._score(one) for one in of_one] for of_one in self._table]
        self._model = Surrogate(of_bank, benchmark.space, benchmark.metrics, benchmark.resource.max_units)

    def study(self, seed: int, budget: int, way: Way, is_tpe: bool) -> _Study:
        """Run a study; a third of the budget are draws, as in `hpo.methods.optuna`."""
        from optuna import create_study
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState, create_trial

        rng, first, draws = np.random.default_rng(seed), max(2, budget // 3), self._draws(seed, budget)
        scores = [own[rng.integers(len(own))] for own in self._scores]
        optimisation = create_study(sampler=TPESampler(seed=seed, n_startup_trials=0), direction=self._direction)
        used, results, configs, distances = list[int](), list[float](), list[Config](), list[float]()
        for number in range(budget):
            if number < first or not is_tpe:
                optimisation.enqueue_trial(draws[number])
            asked = optimisation.ask(self.space)
            config = self.benchmark.complete(asked.params)
            if way == "model":
                result = self._modelled(config, seed * 1000 + number)
            else:
                place, distance = self._nearest(config, [] if way == "repeated" else used)
                config, result = self._table[place][0].config, scores[place]
                used.append(place)
                distances.append(distance)
            if way == "replaced":
                optimisation.tell(asked.number, state=TrialState.FAIL)  # TPE passes over it
                trained = {name: config[name] for name in self.space}
                optimisation.add_trial(create_trial(params=trained, distributions=self.space, value=result))
            else:
                optimisation.tell(asked.number, result)
            results.append(result)
            configs.append(config)
        best = (min if self.benchmark.mode == "min" else max)(range(budget), key=results.__getitem__)
        found = self._modelled(configs[best]) if way == "model" else fmean(self._scores[used[best]])
        return _Study(found, median(results[first:]), fmean(distances[first:] or [0.0]))

    @property
    def _direction(self) -> str:
        return "minimize" if self.benchmark.mode == "min" else "maximize"

    def _draws(self, seed: int, budget: int) -> list[Config]:
        from optuna import create_study
        from optuna.samplers import RandomSampler

        optimisation: Optimisation = create_study(sampler=RandomSampler(seed=seed))
        return [dict(optimisation.ask(self.space).params) for _ in range(budget)]

    def _nearest(self, config: Config, used: Sequence[int]) -> tuple[int, float]:
        squares = ((self._points - encode(config, self.benchmark.space)) ** 2).sum(axis=1)
        squares[list(used)] = np.inf
        place = int(squares.argmin())
        return place, float(squares[place]) ** 0.5

    def _score(self, training: BankTraining) -> float:
        return self._end(recorded_curve(training))

    def _modelled(self, config: Config, seed: int | None = None) -> float:
        """Return the result of a configuration by the model, with a seed's noise if one is given."""
        return self._end(self._model.mean_curve(config) if seed is None else self._model.curve(config, seed))

    def _end(self, curve: Curve) -> float:
        """Return the objective at the end of a curve."""
        if curve.outcome != "completed":
            return diverged_objective(self.benchmark)
        return objective(self.benchmark, curve.units[-1].metrics)


def rates(benchmark: Benchmark, seeds: int, budgets: Sequence[int] = BUDGETS) -> Iterator[NearestRates]:
    """Yield the rates of each budget and way.

    Args:
        benchmark: with a `recorded` block and a model between curves.
        seeds: studies of each method.
        budgets: full trainings of a study.

    Raises:
        BenchmarkError: the bank cannot be read, or is too small for a model.
    """
    answers = _Answers(benchmark)
    for budget in budgets:
        for way in get_args(Way):
            random = [answers.study(seed, budget, way, is_tpe=False) for seed in range(seeds)]
            tpe = [answers.study(seed, budget, way, is_tpe=True) for seed in range(seeds)]
            differences = [own.result - other.result for own, other in zip(tpe, random, strict=True)]
            yield NearestRates(
                way,
                budget,
                fmean(one.result for one in random),
                fmean(one.result for one in tpe),
                fmean(differences),
                float(np.std(differences, ddof=1)) / seeds**0.5,
                fmean(one.median for one in random),
                fmean(one.median for one in tpe),
                None if way == "model" else fmean(one.distance for one in tpe),
            )


def main(arguments: Sequence[str]) -> None:
    """Print the rates of a benchmark: `[BENCHMARK [SEEDS]]`.

    Raises:
        BenchmarkError: see `rates`; or the benchmark has no `recorded` block, or fewer than two seeds are asked for.
    """
    from optuna.logging import WARNING, set_verbosity

    set_verbosity(WARNING)
    name = arguments[0] if arguments else "nano_recorded"
    seeds = (whole_number(arguments[1]) or 0) if len(arguments) > 1 else SEEDS
    benchmark = spec.load(name)
    if benchmark.recorded is None or seeds < 2:
        raise BenchmarkError(
            f"{name} with {seeds} seeds: give a benchmark with a `recorded` block, and 2 seeds or more"
        )
    for found in rates(benchmark, seeds):
        print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
