"""The checks of a certificate: figures of real studies against those of their replays. Pure.

A method holds if none of its checks finds a difference:

* each decision of its real studies is the same in a replay on their own curves, see `decisions`;
* the real studies and the replays with other seeds may be drawn from one distribution: the energy distance of the two
  samples (Szekely and Rizzo 2013, https://doi.org/10.1016/j.jspi.2013.03.018) by permutations, Holm over all methods
  and figures;
* the interval of the mean of real minus replayed, by seed, holds zero: Student's t, Bonferroni over the same family;
* device-seconds of the replays are within `MAX_SECONDS_ERROR` of the real ones;
* no pair of methods is in one order by real studies and in the other by replays, where both resolve it.

Few seeds find large differences alone, so the intervals are shown: they say which differences may be there unseen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from benchmarks.banks.certificate import FigureCheck, MethodCertificate
from hpo.analysis.statistics.estimates import MIN_BLOCKS, student_interval
from hpo.analysis.statistics.paired_tests import holm
from hpo.core.wording import counted
from hpo.recording.certificate.decisions import DecisionsCompared

Floats = NDArray[np.float64]
ALPHA = 0.05
"""Chance of finding any difference in all methods and figures where there is none."""
MAX_SECONDS_ERROR = 0.05
"""Share by which device-seconds may differ."""
PERMUTATIONS = 9999
FIGURES = ("incumbent", "units", "trials")


@dataclass(frozen=True)
class StudyFigures:
    """Figures of a study.

    Attributes:
        incumbent: the tuned metric of its best trial.
        units: resource units trained.
        trials: trials.
        device_seconds: that it reserved.
    """

    incumbent: float
    units: float
    trials: float
    device_seconds: float


@dataclass
class MethodEvidence:
    """All that is known of a method.

    Attributes:
        label: the method, see `MethodCertificate`.
        real: its real studies by seed.
        replayed: its replays by seed, those of the real seeds among them.
        decisions: of each real study that could be replayed on its own curves.
        notes: a sentence for each that could not, such as one that was interrupted and resumed.
        faults: reasons found before any check, such as a study that failed.
    """

    label: str
    real: dict[int, StudyFigures] = field(default_factory=dict)
    replayed: dict[int, StudyFigures] = field(default_factory=dict)
    decisions: list[DecisionsCompared] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def shared(self) -> list[int]:
        """Seeds that have both."""
        return sorted(self.real.keys() & self.replayed.keys())


@dataclass(frozen=True)
class PairsCompared:
    """Order of all pairs of methods.

    Attributes:
        pairs: pairs with real and replayed studies.
        resolved: those that both resolve.
        contradicted: those that they resolve in opposite order.
    """

    pairs: int
    resolved: int
    contradicted: tuple[tuple[str, str], ...]


def confidence(evidence: Sequence[MethodEvidence]) -> float:
    """Return the coverage of each interval, so that all of them hold their differences with 1 - `ALPHA`."""
    return 1.0 - ALPHA / max(1, len(FIGURES) * len(_comparable(evidence)))


def check(evidence: Sequence[MethodEvidence]) -> tuple[list[MethodCertificate], PairsCompared]:
    """Check all methods.

    Args:
        evidence: one entry per method.

    Returns:
        The certificate of each method in the same order, and the order of pairs.
    """
    coverage, p_values, pairs = confidence(evidence), _p_values(evidence), order(evidence)
    found = []
    for one in evidence:
        figures = tuple(_figure(one, name, coverage, p_values[one.label, name]) for name in FIGURES if one.shared)
        ratio = seconds_ratio(one)
        faults = [
            *one.faults,
            *_few_seeds(one),
            *_decision_faults(one),
            *(fault for figure in figures for fault in _figure_faults(figure)),
            *_seconds_faults(ratio),
            *_order_faults(one.label, pairs),
        ]
        found.append(
            MethodCertificate(
                label=one.label,
                seeds=tuple(sorted(one.real)),
                decisions=sum(compared.total for compared in one.decisions),
                equal_decisions=sum(compared.equal for compared in one.decisions),
                figures=figures,
                seconds_ratio=ratio,
                faults=tuple(faults),
                notes=tuple(one.notes),
            )
        )
    return found, pairs


def _comparable(evidence: Sequence[MethodEvidence]) -> list[MethodEvidence]:
    return [one for one in evidence if one.shared]


# ---- distributions and means


def _p_values(evidence: Sequence[MethodEvidence]) -> dict[tuple[str, str], float]:
    """Return the corrected p of each method and figure."""
    keys = [(one.label, name) for one in _comparable(evidence) for name in FIGURES]
    found = [same_distribution(*_samples(one, name)) for one in _comparable(evidence) for name in FIGURES]
    return dict(zip(keys, holm(found), strict=True)) if found else {}


def _samples(one: MethodEvidence, name: str) -> tuple[list[float], list[float]]:
    """Return a figure of the real studies, and of the replays with other seeds, or of all if there are no others."""
    others = {seed: figures for seed, figures in one.replayed.items() if seed not in one.real} or one.replayed
    return [getattr(of, name) for of in one.real.values()], [getattr(of, name) for of in others.values()]


def same_distribution(real: Sequence[float], replayed: Sequence[float], seed: int = 0) -> float:
    """Return the p of the energy distance between two samples, by random permutations of all values.

    Args:
        real: a sample.
        replayed: another.
        seed: of the permutations.
    """
    values = np.concatenate([real, replayed])
    distances = np.abs(values[:, None] - values[None, :])
    first = np.zeros((PERMUTATIONS + 1, len(values)))  # membership of the first sample; the given one leads
    first[:, : len(real)] = 1.0
    first[1:] = np.random.default_rng(seed).permuted(first[1:], axis=1)
    energies = _energies(distances, first)
    tolerance = 1e-12 * float(distances.sum())
    return float(np.mean(energies >= energies[0] - tolerance))


def _energies(distances: Floats, first: Floats) -> Floats:
    """Return the energy distance for each row of memberships, `(rows, values)`."""
    second = 1.0 - first
    a, b = first.sum(axis=1), second.sum(axis=1)
    to_first, to_second = first @ distances, second @ distances
    between = (to_first * second).sum(axis=1) / (a * b)
    within = (to_first * first).sum(axis=1) / a**2 + (to_second * second).sum(axis=1) / b**2
    found: Floats = 2.0 * between - within
    return found


def difference_interval(differences: Sequence[float], coverage: float) -> tuple[float, float] | None:
    """Return Student's interval of a mean; None with fewer than `MIN_BLOCKS` values."""
    if len(differences) < MIN_BLOCKS:
        return None
    found = student_interval(np.asarray(differences, dtype=np.float64), coverage)
    return found.low, found.high


def _figure(one: MethodEvidence, name: str, coverage: float, p: float) -> FigureCheck:
    real, replayed = ([getattr(of[seed], name) for seed in one.shared] for of in (one.real, one.replayed))
    interval = difference_interval(np.subtract(real, replayed).tolist(), coverage)
    low, high = interval or (None, None)
    return FigureCheck(name=name, real=float(np.mean(real)), replayed=float(np.mean(replayed)), low=low, high=high, p=p)


def _figure_faults(figure: FigureCheck) -> list[str]:
    faults = []
    if figure.low is not None and figure.high is not None and not figure.low <= 0.0 <= figure.high:
        faults.append(
            f"mean {figure.name} {figure.real:.4g}, replayed {figure.replayed:.4g}: the interval of the difference, "
            f"[{figure.low:.3g}, {figure.high:.3g}], does not hold zero"
        )
    if figure.p < ALPHA:
        faults.append(f"{figure.name} is distributed otherwise in replays (p {figure.p:.2g})")
    return faults


# ---- seeds, decisions, seconds


def _few_seeds(one: MethodEvidence) -> list[str]:
    if one.faults or len(one.shared) >= MIN_BLOCKS:
        return []
    return [f"{counted(len(one.shared), 'real study', 'real studies')}, but a certificate takes {MIN_BLOCKS}"]


def _decision_faults(one: MethodEvidence) -> list[str]:
    if one.notes and not one.decisions:
        return ["no real study could be replayed unit by unit"]
    different = [compared for compared in one.decisions if compared.difference]
    if not different:
        return []
    return [f"{counted(len(different), 'study', 'studies')} decided otherwise, first: {different[0].difference}"]


def seconds_ratio(one: MethodEvidence) -> float | None:
    """Return device-seconds of the replays divided by those of the real studies of the same seeds."""
    real = sum(one.real[seed].device_seconds for seed in one.shared)
    return sum(one.replayed[seed].device_seconds for seed in one.shared) / real if real else None


def _seconds_faults(ratio: float | None) -> list[str]:
    if ratio is None or abs(ratio - 1.0) <= MAX_SECONDS_ERROR:
        return []
    return [f"replays take {ratio:.1%} of the real device-seconds, but must be within {MAX_SECONDS_ERROR:.0%}"]


# ---- the order of methods


def order(evidence: Sequence[MethodEvidence]) -> PairsCompared:
    """Compare the order of each pair of methods by incumbents, real and replayed, each at Bonferroni's level."""
    pairs = list(combinations([one for one in evidence if len(one.shared) >= MIN_BLOCKS], 2))
    coverage = 1.0 - ALPHA / max(1, len(pairs))
    resolved, contradicted = 0, []
    for a, b in pairs:
        real, replayed = sign(a.real, b.real, coverage), sign(a.replayed, b.replayed, coverage)
        resolved += bool(real and replayed)
        if real * replayed < 0:
            contradicted.append((a.label, b.label))
    return PairsCompared(len(pairs), resolved, tuple(contradicted))


def sign(a: Mapping[int, StudyFigures], b: Mapping[int, StudyFigures], coverage: float) -> int:
    """Return the sign of the mean difference of incumbents over shared seeds, 0 where it is not resolved."""
    differences = [a[seed].incumbent - b[seed].incumbent for seed in sorted(a.keys() & b.keys())]
    interval = difference_interval(differences, coverage)
    if interval is None or interval[0] <= 0.0 <= interval[1]:
        return 0
    return int(math.copysign(1, interval[0]))


def _order_faults(label: str, pairs: PairsCompared) -> list[str]:
    return [
        f"{label} and {other} are in the other order in replays"
        for pair in pairs.contradicted
        if label in pair
        for other in pair
        if other != label
    ]
