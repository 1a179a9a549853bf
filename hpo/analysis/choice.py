"""The choice of the configuration to export: a method, and of its studies one incumbent. Pure.

Confirmed test scores choose the method, among those that were run with the same budget on the same blocks. Validation
alone chooses the study within it, as it chose the configuration within the study: no test score picks hyperparameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import Metric
from benchmarks.training.deepspeed import PRECISIONS, precision_on
from hpo.analysis.compare import of_equal_budget
from hpo.analysis.contestants import Contestant, contestants
from hpo.analysis.records import Records
from hpo.analysis.statistics.selection import Selection, choose_best
from hpo.analysis.studies import StudyRecord
from hpo.cluster.devices import CPU
from hpo.core.study import is_better
from hpo.core.wording import counted

BEST = "best"
"""Stands for the method with the highest confirmed score."""


@dataclass(frozen=True)
class ExportChoice:
    """A configuration to export, with the method and the study that found it.

    Attributes:
        contestant: the method that won, or that was asked for.
        study: the study of it whose incumbent is best on validation.
        beside: all contestants of its budget, itself included, and those that belong beside it.
        selection: its choice among its rivals; None if it was asked for by name.
        notes: contestants that were no rivals, and the reason, a sentence each.
    """

    contestant: Contestant
    study: StudyRecord
    beside: Sequence[Contestant]
    selection: Selection | None = None
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> dict[str, Any]:
        """The content of `best_config.json`."""
        assert self.study.best is not None
        return self.study.best

    def precision(self, benchmark: Benchmark) -> str:
        """Tell the arithmetic of its trials: "fp32", "bf16" or "fp16"; empty if it is not known.

        The ranks report it. Studies that were stored before that have the benchmark's, or, where that is "auto", the
        one that the CPU takes; a GPU's name tells nothing.
        """
        told, wanted = self.study.tags.get("hpo.precision", ""), benchmark.trial.precision
        if told or not wanted:
            return told if told in PRECISIONS else ""
        if wanted != "auto":
            return wanted
        return precision_on(wanted, None) if self.study.accelerator == CPU else ""


def choose(stored: Records, method: str, budget: int | None = None) -> ExportChoice:
    """Choose the method that is asked for, or that won, and its best study.

    Args:
        stored: all that is stored of the benchmark.
        method: `BEST`, or a contestant as `compare` names it, such as "asha searcher=optuna".
        budget: of the studies among which the best method is chosen; by default the one there is.

    Raises:
        BenchmarkError: nothing is confirmed, no such method, none of its trials was sound, studies of different budgets
            to choose from, or files that decide cannot be had.
    """
    stored.require_readable(None if method == BEST else method.partition(" budget=")[0])
    if method == BEST:
        return _choose_best(stored, budget)
    found = [c for c in contestants(stored, stored.studies) if c.studies]
    named = next((c for c in found if c.name == method), None)
    if named is None:
        names = ", ".join(repr(c.name) for c in found)
        raise BenchmarkError(f"method is {method!r}, but must be {BEST!r} or one that has studies: {names}")
    own = [s for s in stored.studies if s.traits.is_single_config or s.budget == named.budget]
    return ExportChoice(named, best_study(named, stored.benchmark), contestants(stored, own))


def _choose_best(stored: Records, budget: int | None) -> ExportChoice:
    """Choose the method with the best confirmed score among those that `compare` would compare."""
    chosen = of_equal_budget(stored.studies, budget)
    found, notes = contestants(stored, chosen.studies), list(chosen.notes)
    metric = stored.benchmark.verdict_metric
    rivals: dict[str, Contestant] = {}
    for one in (one for one in found if one.studies):
        if one.budget != chosen.budget and not one.traits.is_single_config:
            notes.append(f"no rival: {one.name}, which had another budget")
        elif not is_confirmed(one, stored.benchmark):
            notes.append(f"no rival: {one.name}, of which not every study is confirmed")
        elif _sound_studies(one):
            rivals[one.name] = one
        else:
            notes.append(f"no rival: {one.name}, none of whose trials was sound")
    if not rivals:
        raise BenchmarkError(
            f"no method of {stored.benchmark.name} has all its studies confirmed, and confirmed scores tell the "
            f"best one; run first: {stored.confirm_command}"
        )
    selection = _select({name: one.scores(metric) for name, one in rivals.items()}, rivals, metric)
    lacking = [
        f"no rival: {name}, which lacks {counted(number, 'block')} of the others"
        for name, number in selection.left_out.items()
    ]
    winner = rivals[selection.winner]
    notes = [*notes, *lacking, *_of_failed(found, rivals, selection.winner, metric)]
    return ExportChoice(winner, best_study(winner, stored.benchmark), found, selection, tuple(notes))


def _select(scores: Mapping[str, Mapping[int, float]], rivals: Mapping[str, Contestant], metric: Metric) -> Selection:
    costs = {name: one.device_hours for name, one in rivals.items()}
    return choose_best(scores, costs, higher_is_better=metric.higher_is_better, margin=metric.margin)


def _of_failed(found: Sequence[Contestant], rivals: Mapping[str, Contestant], winner: str, metric: Metric) -> list[str]:
    """Count the studies that failed, and name the method that is chosen if they count as the worst there is."""
    lost = [one for one in found if one.failed]
    if not lost:
        return []
    notes = [
        f"without a score: {counted(len(one.failed), 'study', 'studies')} of {one.name} that failed" for one in lost
    ]
    again = _select({name: one.scores_with_failed(metric) for name, one in rivals.items()}, rivals, metric)
    changed = f"{again.winner} is chosen" if again.winner != winner else "the choice is the same"
    return [*notes, f"with failed studies as the worst score there is, {changed}"]


def is_confirmed(contestant: Contestant, benchmark: Benchmark) -> bool:
    """Tell whether every study has a confirmed score; a study without a sound trial has the worst there is."""
    return set(contestant.studies) <= set(contestant.scores(benchmark.verdict_metric))


def confirmed_score(contestant: Contestant, metric: Metric) -> float:
    """Average the means of all blocks, each over the block's confirmations; in the metric's unit."""
    return fmean(contestant.scores(metric).values())


def best_study(contestant: Contestant, benchmark: Benchmark) -> StudyRecord:
    """Find the study whose incumbent is best on validation, among those that got furthest.

    Raises:
        BenchmarkError: no trial of any study was sound.
    """
    sound = _sound_studies(contestant)
    if not sound:
        raise BenchmarkError(
            f"no trial of {contestant.name} on {benchmark.name} was sound, so there is no configuration to export; "
            "look at the reasons in trials.csv, or export another method"
        )
    furthest = max(_units(study) for study in sound)
    chosen: StudyRecord | None = None
    for study in (study for study in sound if _units(study) == furthest):
        if chosen is None or is_better(benchmark, _validation(study, benchmark), _validation(chosen, benchmark)):
            chosen = study
    assert chosen is not None
    return chosen


def _sound_studies(contestant: Contestant) -> list[StudyRecord]:
    return [study for _, study in sorted(contestant.studies.items()) if study.best is not None]


def _units(study: StudyRecord) -> int:
    assert study.best is not None
    return int(study.best["units"])


def _validation(study: StudyRecord, benchmark: Benchmark) -> float:
    assert study.best is not None
    return float(study.best["metrics"][benchmark.metric])
