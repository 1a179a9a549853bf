"""Searchers of small studies, and the results that they are fed."""

from __future__ import annotations

import random
from typing import Any

from ray.tune.search import Searcher

from benchmarks import spec
from benchmarks.space import Choice, Config, Domain, Integer, LogUniform, Uniform
from benchmarks.spec import Benchmark
from hpo.core.study import Study
from hpo.search.plan import OBJECTIVE, TPEName
from hpo.search.searchers import make_searcher
from hpo.store.stored_trials import PastTrial

MAX_UNITS = 9
MODEL_BASED: list[TPEName] = ["hyperopt", "optuna"]
Outcome = tuple[int, float]
"""Units reached and the objective there."""


def make_study(seed: int = 0, **changes: Any) -> Study:
    """Make a study of the synthetic benchmark; `changes` replace fields of it."""
    return Study("hyperopt", spec.load("synthetic").model_copy(update=changes), seed=seed)


def make_tpe(name: TPEName, study: Study, **settings: Any) -> Searcher:
    searcher, _ = make_searcher(name, study, **settings)
    assert isinstance(searcher, Searcher)
    return searcher


def result_at(units: int, objective: float) -> dict[str, Any]:
    """Make a result with the keys that this suite and Ray look at."""
    return {"units": units, "training_iteration": units, OBJECTIVE: objective}


def feed(searcher: Searcher, outcomes: list[Outcome]) -> None:
    """Suggest, report at every unit and end one trial per outcome; their names are "0", "1", ..."""
    for number in range(len(outcomes)):
        assert isinstance(searcher.suggest(str(number)), dict)
    for number, (units, objective) in enumerate(outcomes):
        for unit in range(1, units):
            searcher.on_trial_result(str(number), result_at(unit, objective + 1.0))
        searcher.on_trial_complete(str(number), result_at(units, objective))


EVERY_DOMAIN: dict[str, Domain] = {
    "learning_rate": LogUniform(type="loguniform", low=1e-6, high=1e-1),
    "warmup_ratio": Uniform(type="uniform", low=0.0, high=0.5),
    "batch_size_per_device": Integer(type="int", low=3, high=6),
    "lr_scheduler": Choice(type="choice", values=("linear", "cosine")),
    "weight_decay": Choice(type="choice", values=(0, 0.01)),
    "gradient_accumulation_steps": Choice(type="choice", values=(2,)),
}


def past_around(benchmark: Benchmark, best_log_rate: float) -> list[PastTrial]:
    """Twenty past trials over the search space, the better the nearer their learning rate is to the best."""
    draw = random.Random(0)
    sign = 1.0 if benchmark.mode == "min" else -1.0
    trials = []
    for _ in range(20):
        rate = draw.uniform(-6, -1)
        config: Config = {"learning_rate": 10**rate, "batch_size_per_device": draw.choice([4, 8, 16])}
        trials.append(PastTrial({**config, "weight_decay": 0.01}, sign * abs(rate - best_log_rate)))
    return trials
