"""The configurations of a bank and the order of its trainings: deterministic, so that a recording can resume.

The list begins with the benchmark's default and its grid as written. A scrambled Sobol sequence follows (Owen 1998,
https://doi.org/10.1006/jcom.1998.0487), mapped through the prior of each hyperparameter: more configurations extend the
list and change none of it.

The order serves a bank that is half recorded. A surrogate needs many configurations, and an estimate of the seeds'
noise needs repeats at configurations all over the space. So the first wave trains every configuration once, and the
default and every fifth one of the sample with all seeds. Further waves add one seed each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

from benchmarks.banks.training import Identity, Source
from benchmarks.space import Choice, Config, Domain, Integer, LogUniform, Scalar
from benchmarks.spec import Benchmark, BenchmarkError

DIGITS = 6
"""Significant digits of a sampled number."""
REPEATED = 5
"""Every such configuration of the sample gets all its seeds in the first wave."""


@dataclass(frozen=True)
class ListedConfiguration:
    """A configuration to record.

    Attributes:
        source: its origin.
        config: all hyperparameters.
    """

    source: Source
    config: Config


@dataclass(frozen=True)
class DueTraining:
    """A training to record.

    Attributes:
        configuration: what to train.
        seed: with which seed.
    """

    configuration: ListedConfiguration
    seed: int

    @property
    def identity(self) -> Identity:
        """Identity of the training within its bank."""
        return tuple(sorted(self.configuration.config.items())), self.seed


def configurations(benchmark: Benchmark, number: int, seed: int) -> list[ListedConfiguration]:
    """List configurations: the default, the grid, then random ones; none twice.

    Args:
        benchmark: the benchmark.
        number: length of the list, at least 1.
        seed: scrambles the random sequence.

    Raises:
        BenchmarkError: the number is below 1, the space has fewer configurations, or the benchmark selects best units.
    """
    if benchmark.selects_best:
        raise BenchmarkError(
            f"select is best_unit in benchmark {benchmark.name}, but a bank keeps test scores of the last unit alone; "
            "record one with select: last_unit"
        )
    if number < 1:
        raise BenchmarkError(f"configs is {number}, but must be >= 1; 400 are usual")
    found: dict[tuple[tuple[str, Scalar], ...], ListedConfiguration] = {}
    misses = 0
    for source, config in _candidates(benchmark, seed):
        whole: Config = benchmark.hyperparameters(config).model_dump()
        identity = tuple(sorted(whole.items()))
        misses = misses + 1 if identity in found else 0
        found.setdefault(identity, ListedConfiguration(source, whole))
        if len(found) == number:
            return list(found.values())
        if misses > 100 * (1 + len(found)):
            break
    raise BenchmarkError(
        f"configs is {number}, but the search space of {benchmark.name} has {len(found)} configurations; lower it"
    )


def _candidates(benchmark: Benchmark, seed: int) -> Iterator[tuple[Source, Config]]:
    yield "default", {}
    if benchmark.grid:
        for values in product(*benchmark.grid.values()):
            yield "grid", dict(zip(benchmark.grid, values, strict=True))
    for point in _sobol(len(benchmark.space), seed):
        shares = zip(benchmark.space.items(), point, strict=True)
        yield "random", {name: value_at(domain, share) for (name, domain), share in shares}


def _sobol(dimensions: int, seed: int) -> Iterator[Sequence[float]]:
    """Yield the points of a scrambled Sobol sequence in [0, 1)."""
    from scipy.stats import qmc

    drawn, size = 0, 1024
    while True:
        sampler = qmc.Sobol(dimensions, scramble=True, rng=seed)  # anew: it warns of numbers that are no power of 2
        yield from (point.tolist() for point in islice(sampler.random(size), drawn, None))
        drawn, size = size, 2 * size


def value_at(domain: Domain, share: float) -> Scalar:
    """Return the value of a domain below which a share of its prior lies."""
    if isinstance(domain, Choice):
        return domain.values[int(share * len(domain.values))]
    if isinstance(domain, Integer):
        return domain.low + int(share * (domain.high - domain.low + 1))
    if isinstance(domain, LogUniform):
        value = domain.low * (domain.high / domain.low) ** share
    else:
        value = domain.low + share * (domain.high - domain.low)
    return min(domain.high, max(domain.low, float(f"{value:.{DIGITS}g}")))


def orders(listed: Sequence[ListedConfiguration], seeds: int) -> list[DueTraining]:
    """List the trainings of all configurations with seeds 0, 1, ..., in the order of recording.

    Raises:
        BenchmarkError: the number of seeds is below 1.
    """
    if seeds < 1:
        raise BenchmarkError(f"seeds is {seeds}, but must be >= 1; 3 are usual")
    of_sample = iter(range(len(listed)))
    is_repeated = [
        one.source == "default" or (one.source == "random" and next(of_sample) % REPEATED == 0) for one in listed
    ]
    waves: list[list[DueTraining]] = [[] for _ in range(seeds)]
    for configuration, repeated in zip(listed, is_repeated, strict=True):
        for seed in range(seeds):
            waves[0 if repeated else seed].append(DueTraining(configuration, seed))
    return [order for wave in waves for order in wave]
