"""Configurations where searchers go: proposals of their models, in studies that are replayed on the bank itself.

A random sample is thin near the optimum, where model-based searchers spend their units. So a model is fitted to the
sample, and HyperOpt, Optuna and BOHB search on it in this process, which costs seconds. Proposals that were trained in
full are taken, a few of each study, so that they are not those of one optimum alone. Their seeds are far from those of
any comparison: a certificate must not be made of the very configurations that it asks for.

The model changes as the bank grows, so the proposals are kept in the recording's log, and extended only at their end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from benchmarks.banks.bank import Bank
from benchmarks.files import BenchmarkError
from benchmarks.space import Choice, Config, Domain, Integer, Scalar
from benchmarks.spec import Benchmark
from hpo.engine.in_process import InProcess
from hpo.recording.certificate.replays import recorded_by, replayed
from hpo.recording.configurations import DIGITS, ListedConfiguration
from hpo.search import registry

SEARCHERS = ("hyperopt", "optuna", "bohb")
"""Methods whose models propose."""
FIRST_SEED = 1_000_000
"""Seed of the first study of each method."""
BUDGET, AT_ONCE = 12, 2
"""Full trainings of each study, and trials at once."""
MAX_OF_STUDY = 4
"""Proposals that are taken of a study at most, the last ones."""
FUTILE_STUDIES = 30
"""Studies in a row without a new configuration, after which there are no more."""


def dense(
    benchmark: Benchmark, bank: Path, known: Sequence[ListedConfiguration], kept: Sequence[Config], number: int
) -> list[ListedConfiguration]:
    """List dense configurations: those that were chosen before, then new ones.

    Args:
        benchmark: the benchmark that is recorded.
        bank: file of its bank, which the model is fitted to.
        known: the other configurations of the recording.
        kept: those that were chosen before, in order.
        number: length of the list, at least 1.

    Raises:
        BenchmarkError: the bank is too small for a model, or searchers propose fewer configurations.
    """
    found = {_identity(config): config for config in kept}
    others = {_identity(one.config) for one in known}
    futile = 0
    if len(found) < number:
        model = recorded_by(benchmark, bank, "surrogate")
        model.trial.require_ready(model)
        for proposals in _studies(model):
            new = [one for config in proposals if (one := _whole(benchmark, config)) and _identity(one) not in others]
            before = len(found)
            for config in new[: number - len(found)]:
                found.setdefault(_identity(config), config)
            futile = futile + 1 if len(found) == before else 0
            if len(found) >= number:
                break
            if futile == FUTILE_STUDIES:
                raise BenchmarkError(
                    f"dense is {number}, but searchers propose {len(found)} configurations that are not in the sample; "
                    "lower it"
                )
    return [ListedConfiguration("dense", config) for config in list(found.values())[:number]]


def chosen_before(logged: Sequence[Config], bank: Bank) -> list[Config]:
    """Return the dense configurations of a log, and those of a bank whose log is gone, each once."""
    recorded = [of_one[0].config for of_one in bank.configurations() if of_one[0].source == "dense"]
    return list({_identity(config): config for config in chain(logged, recorded)}.values())


def _identity(config: Config) -> tuple[tuple[str, Scalar], ...]:
    return tuple(sorted(config.items()))


def _studies(model: Benchmark) -> Iterator[list[Config]]:
    """Yield the proposals of one replayed study after the other, endlessly."""
    for seed in count(FIRST_SEED):
        for name in SEARCHERS:
            yield _proposals(model, name, seed)


def _proposals(model: Benchmark, name: str, seed: int) -> list[Config]:
    """Replay a study; return the last of its model's proposals that were trained in full."""
    method = registry.get(name)
    study = method.study(model, seed, BUDGET, None, {})
    plan: Any = method.make_plan(study)
    books = replayed(study, InProcess(AT_ONCE), plan).books
    by_model = [books[trial] for trial in plan.searcher.by_model if trial in books]
    full = sorted((row for row in by_model if row.outcome == "completed"), key=lambda row: row.number)
    return [dict(row.config) for row in full[-MAX_OF_STUDY:]]


def _whole(benchmark: Benchmark, config: Config) -> Config:
    """Return all hyperparameters of a proposal, with as many digits as the sample has."""
    rounded = {
        name: _rounded(benchmark.space[name], value) if name in benchmark.space else value
        for name, value in config.items()
    }
    whole: Config = benchmark.hyperparameters(rounded).model_dump()
    return whole


def _rounded(domain: Domain, value: Scalar) -> Scalar:
    if isinstance(domain, Choice | Integer) or not isinstance(value, float):
        return value
    return min(domain.high, max(domain.low, float(f"{value:.{DIGITS}g}")))
