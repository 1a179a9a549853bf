"""The choice of the configuration to export: a method, and of its studies one incumbent. Pure.

Confirmed test scores choose the method. Validation alone chooses the study within it, as it chose the configuration
within the study: a test score picks no hyperparameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import Metric
from benchmarks.training.deepspeed import PRECISIONS, precision_on
from hpo.analysis.contestants import Contestant, contestants
from hpo.analysis.records import Records
from hpo.analysis.studies import StudyRecord
from hpo.cluster.devices import CPU
from hpo.core.study import is_better

BEST = "best"
"""Stands for the method with the highest confirmed score."""


@dataclass(frozen=True)
class ExportChoice:
    """A configuration to export, with the method and the study that found it.

    Attributes:
        contestant: the method that won, or that was asked for.
        study: the study of it whose incumbent is best on validation.
        rivals: confirmed contestants that it was chosen from, itself included; 0 if it was asked for by name.
    """

    contestant: Contestant
    study: StudyRecord
    rivals: int = 0

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


def choose(stored: Records, method: str) -> ExportChoice:
    """Choose the method that is asked for, or that won, and its best study.

    Args:
        stored: all that is stored of the benchmark.
        method: `BEST`, or a contestant as `compare` names it, such as "asha searcher=optuna".

    Raises:
        BenchmarkError: nothing is confirmed, no such method, none of its trials was sound, or files that decide cannot
            be had.
    """
    stored.require_readable(None if method == BEST else method.partition(" budget=")[0])
    found = [c for c in contestants(stored, stored.studies) if c.studies]
    if method == BEST:
        confirmed = [c for c in found if is_confirmed(c, stored.benchmark) and _sound_studies(c)]
        if not confirmed:
            raise BenchmarkError(
                f"no method of {stored.benchmark.name} has all its studies confirmed, and confirmed scores tell the "
                f"best one; run first: {stored.confirm_command}"
            )
        metric = stored.benchmark.verdict_metric
        winner = max(confirmed, key=lambda c: metric.gain(confirmed_score(c, metric), metric.worst))
        return ExportChoice(winner, best_study(winner, stored.benchmark), len(confirmed))
    named = next((c for c in found if c.name == method), None)
    if named is None:
        names = ", ".join(repr(c.name) for c in found)
        raise BenchmarkError(f"method is {method!r}, but must be {BEST!r} or one that has studies: {names}")
    return ExportChoice(named, best_study(named, stored.benchmark))


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
