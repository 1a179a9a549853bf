"""The card of a bank: how far it is recorded, and what early looks, seeds and seconds are like on its benchmark. Pure.

Diverged trainings count as the worst from their last unit on, as they do to a scheduler; trainings that ran out of
memory have no score and are left out of correlations.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestRegressor

from benchmarks.banks.bank import TEST, Bank, Header
from benchmarks.banks.training import BankTraining
from benchmarks.space import Space, value_in
from benchmarks.spec import Benchmark
from hpo.analysis.forest import TREES, decompose
from hpo.analysis.importance import MIN_TRIALS, position
from hpo.core.text_tables import markdown_table
from hpo.recording.model_check import section

Floats = NDArray[np.float64]
_DOMAINS: TypeAdapter[Space] = TypeAdapter(Space)
MIN_CONFIGURATIONS = 6
"""Configurations below which no correlation is shown."""
RESAMPLES = 1000
SHOWN_UNITS = 12
"""Units in the table of early looks at most; of a longer training, those at equal distances."""


def card(bank: Bank, benchmark: Benchmark | None = None) -> str:
    """Write the card of a bank in Markdown.

    Args:
        bank: at least one training.
        benchmark: the one that was recorded, to check a model of its curves, a minute at 400 configurations; None for
            a card without this check.
    """
    parts = [
        f"# {bank.header.name}: recorded trainings\n\n{bank.header.description}",
        _extent(bank),
        _looks(bank),
        _seeds(bank),
        _importance(bank),
        section(bank, benchmark) if benchmark else "",
        _seconds(bank),
        _origin(bank),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# ---- extent


def _extent(bank: Bank) -> str:
    by_configuration = bank.configurations()
    sources = Counter(of_one[0].source for of_one in by_configuration)
    seeds = Counter(len(of_one) for of_one in by_configuration)
    outcomes = Counter(training.outcome for training in bank.trainings)
    configs, planned_seeds = bank.header.planned
    missing = configs * planned_seeds - len(bank.trainings)
    lines = [
        f"{len(by_configuration)} configurations, {len(bank.trainings)} trainings of {bank.header.max_units} units.",
        f"Configurations by origin: {_listed(sources)}. By number of seeds: {_listed(seeds)}.",
        f"Trainings by outcome: {_listed(outcomes)}; {_share(outcomes['diverged'], bank)} diverged and "
        f"{_share(outcomes['out_of_memory'], bank)} ran out of memory.",
    ]
    if missing > 0:
        lines.insert(0, f"**Incomplete:** {missing} of {configs * planned_seeds} planned trainings are missing.")
    return "\n".join(lines)


def _listed(counter: Mapping[Any, int]) -> str:
    return ", ".join(f"{number} x {name}" for name, number in sorted(counter.items(), key=lambda pair: str(pair[0])))


def _share(number: int, bank: Bank) -> str:
    return f"{number / len(bank.trainings):.1%}"


# ---- early looks


def _looks(bank: Bank) -> str:
    """Tabulate the rank correlation of each unit with the full training, and the recall of the best third."""
    curves = _curves(bank)
    if len(curves) < MIN_CONFIGURATIONS:
        return ""
    sign = 1.0 if bank.header.mode == "min" else -1.0
    scores = sign * np.array(curves)
    late = scores[:, -1]
    looks = [(unit, scores[:, unit - 1]) for unit in _shown_units(bank.header.max_units)]
    rows = [(str(unit), _correlation(early, late), f"{_recall(early, late):.0%}") for unit, early in looks]
    heading = ("unit", "Spearman with the full training [95 %]", "best third kept by a cut to a third")
    return (
        f"## Early looks\n\nBy {bank.header.metric} on validation, {len(curves)} {_sampled(bank)}configurations, one "
        f"seed each.{_ceiling(bank)}\n\n{markdown_table(heading, rows)}"
    )


def _curves(bank: Bank) -> list[list[float]]:
    """Return the curve of each random configuration, by its first seed, that reached its end or diverged.

    A bank without random ones, such as a collected one, shows all of its own.
    """
    firsts = [of_one[0] for of_one in bank.configurations()]
    chosen = [one for one in firsts if one.source == "random"] or firsts
    return [_curve(one, bank.header) for one in chosen if one.outcome in ("completed", "diverged")]


def _sampled(bank: Bank) -> str:
    return "random " if any(training.source == "random" for training in bank.trainings) else ""


def _curve(training: BankTraining, header: Header) -> list[float]:
    lost = math.inf if header.mode == "min" else -math.inf
    sound = training.units if training.outcome == "completed" else training.units[:-1]
    values = [unit.metrics[header.metric] for unit in sound]
    return values + [lost] * (header.max_units - len(values))


def _shown_units(max_units: int) -> list[int]:
    number = min(max_units, SHOWN_UNITS)
    return sorted({round(unit) for unit in np.linspace(1, max_units, number)})


def _correlation(early: Floats, late: Floats) -> str:
    """Write Spearman's correlation with the percentiles of resampled configurations."""
    drawn = np.random.default_rng(0).integers(len(early), size=(RESAMPLES, len(early)))
    [found] = _spearman(early[np.newaxis], late[np.newaxis])
    if math.isnan(found):
        return "-"
    low, high = np.nanpercentile(_spearman(early[drawn], late[drawn]), (2.5, 97.5))
    return f"{found:.2f} [{low:.2f}, {high:.2f}]"


def _spearman(a: Floats, b: Floats) -> Floats:
    """Correlate the ranks of each row of `a` and `b`, `(samples, values)`; NaN where all values are equal."""
    ranks = [rankdata(values, axis=1) for values in (a, b)]
    x, y = (of_one - of_one.mean(axis=1, keepdims=True) for of_one in ranks)
    with np.errstate(invalid="ignore"):
        found: Floats = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return found


def _recall(early: Floats, late: Floats) -> float:
    """Return the share of the best third at the end that is in the best third now."""
    third = max(1, len(early) // 3)
    best = [set(np.argsort(values, kind="stable")[:third].tolist()) for values in (early, late)]
    return len(best[0] & best[1]) / third


def _ceiling(bank: Bank) -> str:
    """Say how well one seed ranks configurations as another seed does: no prediction of a seed can do better."""
    pairs = [
        [_curve(training, bank.header)[-1] for training in of_one[:2]]
        for of_one in bank.configurations()
        if len(of_one) > 1 and all(training.outcome in ("completed", "diverged") for training in of_one[:2])
    ]
    if len(pairs) < MIN_CONFIGURATIONS:
        return ""
    first, second = np.array(pairs).T
    return f" Two seeds of {len(pairs)} configurations agree with {_correlation(first, second)} at the full resource."


# ---- seeds


def _seeds(bank: Bank) -> str:
    """Tabulate the spread over seeds at the best configuration and at the default."""
    repeated = [of_one for of_one in bank.configurations() if len(_full(of_one)) > 1]
    if not repeated:
        return ""
    ranking = bank.header.metric
    other = next((name for name in reversed(bank.header.metrics) if name != ranking), ranking)
    sign = 1.0 if bank.header.mode == "min" else -1.0
    best = min(repeated, key=lambda of_one: sign * fmean(_last(one, ranking) for one in _full(of_one)))
    default = [of_one for of_one in repeated if of_one[0].source == "default"]
    shown = [("best", best), *(("default", one) for one in default)]
    rows = [(title, str(len(_full(one))), *_spreads(one, ranking, other)) for title, one in shown]
    heading = (
        "configuration",
        "seeds",
        f"{ranking}: mean, standard deviation",
        f"{other}: mean, standard deviation",
        f"{TEST}{other}: mean, standard deviation",
    )
    varied = ", ".join(f"{name} {best[0].config[name]}" for name in bank.header.space or bank.header.hyperparameters)
    pooled = _pooled(repeated, ranking)
    return (
        f"## Seeds\n\nBest by {ranking} among the {len(repeated)} configurations of several seeds: {varied}. "
        f"Median standard deviation over these configurations: {pooled:.4g}.\n\n{markdown_table(heading, rows)}"
    )


def _full(trainings: Iterable[BankTraining]) -> list[BankTraining]:
    return [training for training in trainings if training.outcome == "completed"]


def _last(training: BankTraining, metric: str) -> float:
    return training.units[-1].metrics[metric]


def _spreads(trainings: Sequence[BankTraining], ranking: str, other: str) -> tuple[str, str, str]:
    return _spread(trainings, ranking), _spread(trainings, other), _test_spread(trainings, other)


def _spread(trainings: Sequence[BankTraining], metric: str) -> str:
    return _mean_and_deviation([_last(training, metric) for training in _full(trainings)])


def _test_spread(trainings: Sequence[BankTraining], metric: str) -> str:
    tested = [training.test[metric] for training in _full(trainings) if metric in training.test]
    return _mean_and_deviation(tested) if len(tested) > 1 else "-"


def _mean_and_deviation(values: Sequence[float]) -> str:
    return f"{fmean(values):.4f}, {stdev(values):.4f}"


def _pooled(repeated: Sequence[Sequence[BankTraining]], metric: str) -> float:
    return median(stdev(_last(training, metric) for training in _full(of_one)) for of_one in repeated)


# ---- importance


def _importance(bank: Bank) -> str:
    """Tabulate the share of each hyperparameter in the ranking metric's variance over the search space."""
    domains = _DOMAINS.validate_python(bank.header.space)
    places, scores = [], []
    for full in map(_full, bank.configurations()):
        values = {name: value_in(domain, str(full[0].config[name])) for name, domain in domains.items()} if full else {}
        found = [position(domains[name], value) for name, value in values.items() if value is not None]
        if full and len(found) == len(domains):
            places.append(found)
            scores.append(fmean(_last(training, bank.header.metric) for training in full))
    if not domains or len(scores) < MIN_TRIALS or np.ptp(scores) == 0:
        return ""
    forest = RandomForestRegressor(TREES, oob_score=True, random_state=0).fit(np.array(places), np.array(scores))
    shares = sorted(zip(domains, decompose(forest), strict=False), key=lambda pair: -pair[1])
    rows = [(name, f"{share:.0%}") for name, share in shares]
    return (
        f"## Importance\n\nFunctional ANOVA of {bank.header.metric} over {len(scores)} configurations in the search "
        f"space, means over seeds; diverged ones have no score. The forest predicts {forest.oob_score_:.0%} of the "
        f"variance of configurations that it has not seen.\n\n"
        f"{markdown_table(('hyperparameter', 'share of it alone'), rows)}"
    )


# ---- seconds


def _seconds(bank: Bank) -> str:
    """Tabulate the seconds of a unit by batch size."""
    by_size: dict[object, list[BankTraining]] = {}
    for training in (one for one in _full(bank.trainings) if _wall_seconds(one)):
        by_size.setdefault(training.config.get("batch_size_per_device", "-"), []).append(training)
    if not by_size:
        return ""
    rows = [
        (str(size), str(len(trainings)), *_costs(trainings))
        for size, trainings in sorted(by_size.items(), key=lambda pair: str(pair[0]).rjust(9))
    ]
    heading = ("batch size", "trainings", "wall seconds of a unit", "computing seconds of a unit", "peak memory, MiB")
    return (
        "## Seconds\n\nTraining and evaluation of a unit: median, least and greatest mean of a training. Other "
        f"processes on the machine prolong wall seconds.\n\n{markdown_table(heading, rows)}"
    )


def _costs(trainings: Sequence[BankTraining]) -> tuple[str, str, str]:
    """Write wall seconds, computing seconds and peak memory of trainings."""
    walls = [fmean(found) for one in trainings if (found := _wall_seconds(one))]
    cpus = [fmean(found) for one in trainings if (found := _cpu_seconds(one))]
    peaks = [peak for one in trainings if (peak := one.units[-1].peak_memory_mb) is not None]
    return _range(walls), _range(cpus), f"{max(peaks):.0f}" if peaks else "-"


def _range(values: Sequence[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else "-"


def _wall_seconds(training: BankTraining) -> list[float]:
    found = [(unit.train_seconds, unit.evaluate_seconds) for unit in training.units]
    return [train + (evaluate or 0.0) for train, evaluate in found if train is not None]


def _cpu_seconds(training: BankTraining) -> list[float]:
    found = [(unit.train_cpu_seconds, unit.evaluate_cpu_seconds) for unit in training.units]
    return [train + (evaluate or 0.0) for train, evaluate in found if train is not None]


# ---- origin


def _origin(bank: Bank) -> str:
    header = bank.header
    lines = [f"## Origin\n\nLicence of the figures: {header.licence}. Benchmark digest: {header.digest or 'none'}."]
    for session in header.sessions:
        packages = ", ".join(f"{name} {version}" for name, version in session.packages.items())
        facts = [
            session.origin,
            f"accelerator {session.accelerator or 'unknown'}",
            session.processor,
            session.precision and f"precision {session.precision}",
            f"{session.devices} at once" if session.devices > 1 else "",
            session.commit and f"commit {session.commit[:12]}",
            packages,
        ]
        lines.append(f"- {session.key}: {'; '.join(fact for fact in facts if fact)}")
    return lines[0] + "\n\n" + "\n".join(lines[1:])
