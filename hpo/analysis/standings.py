"""Standings of contestants: scores, costs and shrinkage. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from benchmarks.spec import Benchmark
from benchmarks.tasks.task import Metric
from hpo.analysis.contestants import Contestant, mean_metric, score
from hpo.analysis.over_cost import curves
from hpo.analysis.statistics.censored import Reaching, Spell
from hpo.analysis.statistics.estimates import Estimate, mean_of, probability_of_improvement
from hpo.analysis.studies import StudyRecord
from hpo.core.ledger import PARTS


@dataclass(frozen=True)
class ConfirmedScores:
    """Scores of a contestant's incumbents, trained again with fresh seeds.

    Attributes:
        verdict: mean over blocks of the metric of verdicts; None without confirmed blocks.
        test: the same of each metric, by its name on test.
        trainings: number of fresh trainings.
        diverged: number of them that diverged.
        blocks: number of blocks with a score.
        failed: number of them whose study found nothing, or in which a fresh training diverged.
    """

    verdict: Estimate | None
    test: Mapping[str, Estimate | None]
    trainings: int
    diverged: int
    blocks: int
    failed: int


@dataclass(frozen=True)
class Costs:
    """Mean cost of a contestant's study; None for a contestant without studies.

    Attributes:
        device_hours: reserved device-hours.
        gpu_hours: reserved hours of GPUs; 0 on CPUs.
        parts: device-hours by part of the ledger.
        knows_parts: whether every study measured the parts; imported studies know their total alone.
        wall_seconds: from the study's first request to its end.
        units: resource units trained, those of failed attempts included.
    """

    device_hours: float | None
    gpu_hours: float | None
    parts: Mapping[str, float]
    knows_parts: bool
    wall_seconds: float | None
    units: float | None

    @property
    def useful_share(self) -> float | None:
        """Share of the device-hours that trained or evaluated; None where the parts are not known."""
        useful = sum(self.parts.get(part, 0.0) for part in ("train", "evaluate"))
        return useful / self.device_hours if self.device_hours and self.knows_parts else None


@dataclass(frozen=True)
class GridRace:
    """A contestant beside the manual grid.

    Attributes:
        cost_ratio: its device-hours divided by the grid's; None without a grid.
        reached: number of studies whose incumbent was as good as the grid's of the same seed.
        entered: number of studies with units and with a grid of the same seed.
        device_hours: device-hours until half of all studies are there, by Kaplan and Meier; None if fewer ever are.
        expected_hours: device-hours of all studies, divided by the number of those that got there; None if none did.
    """

    cost_ratio: float | None
    reached: int
    entered: int
    device_hours: float | None
    expected_hours: float | None = None


@dataclass(frozen=True)
class Standing:
    """A contestant's row in the table.

    Attributes:
        name: the contestant.
        seeds: of its studies.
        budget: full trainings of each study; 0 for a contestant without studies.
        outcomes: number of trials of all studies by outcome.
        validation: the benchmark's metric of the incumbents, which chose them; mean over seeds.
        confirmed: scores on test.
        costs: means of a study.
        grid: the contestant beside the manual grid.
        over_random: probability that one of its studies beats one of random search.
        failed_studies: seeds of the studies that ended with an error, without a score.
        model_share: share of a study's trials that a model proposed, the mean over studies; None without a model.
    """

    name: str
    seeds: tuple[int, ...]
    budget: int
    outcomes: Mapping[str, int]
    validation: Estimate | None
    confirmed: ConfirmedScores
    costs: Costs
    grid: GridRace
    over_random: Estimate | None
    failed_studies: tuple[int, ...] = ()
    model_share: float | None = None

    @property
    def score(self) -> Estimate | None:
        """Confirmed score of the verdicts' metric."""
        return self.confirmed.verdict


@dataclass(frozen=True)
class Shrinkage:
    """A study's incumbent beside its fresh trainings, by the metric of verdicts.

    Attributes:
        name: the contestant.
        seed: the study's.
        selected: its score on validation, which chose it.
        validation: mean score of the fresh trainings on validation.
        test: mean score of the fresh trainings on test.
        trainings: number of fresh trainings.
    """

    name: str
    seed: int
    selected: float
    validation: float
    test: float
    trainings: int


def standings(contestants: Sequence[Contestant], benchmark: Benchmark) -> list[Standing]:
    """Return a standing per contestant: the best confirmed score first, those without one last."""
    found = [_standing(one, contestants, benchmark) for one in contestants]
    return sorted(found, key=partial(_place, metric=benchmark.verdict_metric))


def shrinkage(contestant: Contestant, benchmark: Benchmark) -> list[Shrinkage]:
    """Set each confirmed incumbent of a contestant beside its fresh trainings."""
    metric = benchmark.verdict_metric
    return [
        Shrinkage(
            contestant.name,
            seed,
            study.best["metrics"][metric.name],
            fmean(score(confirmation, metric, metric.name) for confirmation in confirmations),
            fmean(score(confirmation, metric, metric.on_test) for confirmation in confirmations),
            len(confirmations),
        )
        for seed, study in contestant.studies.items()
        if study.best and metric.name in study.best["metrics"] and (confirmations := contestant.confirmations[seed])
    ]


def _standing(contestant: Contestant, everyone: Sequence[Contestant], benchmark: Benchmark) -> Standing:
    studies, best = list(contestant.studies.values()), f"best_{benchmark.metric}"
    return Standing(
        name=contestant.name,
        seeds=tuple(sorted(contestant.studies)),
        budget=contestant.budget,
        outcomes=sum((Counter(study.outcomes) for study in studies), Counter[str]()),
        validation=_estimate([study.metrics[best] for study in studies if best in study.metrics]),
        confirmed=_confirmed(contestant, benchmark),
        costs=_costs(studies),
        grid=_grid_race(contestant, everyone, benchmark),
        over_random=_over_random(contestant, everyone, benchmark),
        failed_studies=tuple(sorted(contestant.failed)),
        model_share=_model_share(studies),
    )


def _model_share(studies: Sequence[StudyRecord]) -> float | None:
    shares = [share for study in studies if (share := study.model_share) is not None]
    return fmean(shares) if shares else None


def _confirmed(contestant: Contestant, benchmark: Benchmark) -> ConfirmedScores:
    confirmations = [confirmation for block in contestant.confirmations.values() for confirmation in block]
    verdict, *others = (_estimate(list(contestant.scores(one).values())) for one in benchmark.test_metrics)
    return ConfirmedScores(
        verdict,
        {one.on_test: found for one, found in zip(benchmark.test_metrics, (verdict, *others), strict=True)},
        trainings=len(confirmations),
        diverged=sum(confirmation.diverged for confirmation in confirmations),
        blocks=len(contestant.scores(benchmark.verdict_metric)),
        failed=len(contestant.failed_blocks),
    )


def _costs(studies: Sequence[StudyRecord]) -> Costs:
    return Costs(
        device_hours=mean_metric(studies, "device_hours"),
        gpu_hours=mean_metric(studies, "gpu_hours"),
        parts={part: mean_metric(studies, f"device_hours_{part}") or 0.0 for part in PARTS if studies},
        knows_parts=all(study.tags.get("hpo.ledger") != "total" for study in studies),
        wall_seconds=mean_metric(studies, "wall_seconds"),
        units=mean_metric(studies, "units"),
    )


def _grid_race(contestant: Contestant, everyone: Sequence[Contestant], benchmark: Benchmark) -> GridRace:
    grid = next((one for one in everyone if one.traits.is_grid), None)
    if grid is None:
        return GridRace(None, 0, 0, None)
    own = mean_metric(list(contestant.studies.values()), "device_hours")
    cost = mean_metric(list(grid.studies.values()), "device_hours")
    ratio = own / cost if own is not None and cost else None
    found = Reaching.of(_on_the_way_to_grid(contestant, grid, benchmark))
    if found is None:
        return GridRace(ratio, 0, 0, None)
    return GridRace(ratio, found.reached, len(found.spells), found.median, found.expected_running_time)


def _on_the_way_to_grid(contestant: Contestant, grid: Contestant, benchmark: Benchmark) -> list[Spell]:
    """Return the device-hours of each study until it was as good as the grid of its seed, if it ever was."""
    key = f"best_{benchmark.metric}"
    targets = {seed: study.metrics[key] for seed, study in grid.studies.items() if key in study.metrics}
    return [
        curves.spell_in_hours(study, benchmark, targets[seed])
        for seed, study in contestant.studies.items()
        if seed in targets and curves.is_known(study)
    ]


def _over_random(contestant: Contestant, everyone: Sequence[Contestant], benchmark: Benchmark) -> Estimate | None:
    baseline = next((one for one in everyone if one.traits.is_reference and one.name == one.method), None)
    if baseline is None or baseline is contestant:
        return None
    metric = benchmark.verdict_metric
    own, others = (list(one.scores(metric).values()) for one in (contestant, baseline))
    if not own or not others:
        return None
    return probability_of_improvement(own, others, higher_is_better=metric.higher_is_better)


def _estimate(values: Sequence[float]) -> Estimate | None:
    """Return the mean with its interval."""
    return mean_of(values) if values else None


def _place(standing: Standing, metric: Metric) -> tuple[bool, float, str]:
    """Order standings: a better score first, those without one last."""
    gain = metric.gain(standing.score.value, metric.worst) if standing.score else 0.0
    return standing.score is None, -gain, standing.name
