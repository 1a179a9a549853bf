"""Evidence of a certificate: figures and decisions of real studies in the store, and of their replays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.banks.certificate import BUDGET
from benchmarks.clock import REAL
from hpo.analysis.replayed.study import ReplayedStudy
from hpo.analysis.studies import StudyRecord
from hpo.core import event_log
from hpo.core.books import Books
from hpo.core.events import Event
from hpo.core.study import Study
from hpo.planning.contest import GivenBenchmark, SuiteMethod
from hpo.recording.certificate.checks import MethodEvidence, StudyFigures
from hpo.recording.certificate.decisions import unrepeatable
from hpo.recording.certificate.replays import recorded_by, same_decisions
from hpo.replays.workers import Replaying
from hpo.search import registry
from hpo.store.queries import stored_runs
from hpo.store.reading import read_files
from hpo.terminal.console import print_line
from hpo.terminal.tables import clock
from hpo.workflows.suite import stored

SECONDS_PER_LINE = 20.0
NOT_REPLAYABLE = "not replayable: its trials change their hyperparameters on the way, for which no curve is recorded"


@dataclass(frozen=True)
class CertificateRequest:
    """The certificate that is asked for.

    Attributes:
        benchmark: the one that was recorded.
        bank: the bank's file.
        methods: contestants, as a suite has them.
        seeds: of the real studies.
        replays: seeds that are replayed, 0, 1, ... and those of the real studies.
        budget: full trainings of each study without a budget of its own.
        devices: trials at once; None for those of this machine.
    """

    benchmark: GivenBenchmark
    bank: Path
    methods: Sequence[SuiteMethod]
    seeds: Sequence[int]
    replays: int
    budget: int
    devices: int | None = None

    @property
    def replayed_seeds(self) -> list[int]:
        """All seeds that are replayed."""
        return list(dict.fromkeys([*self.seeds, *range(self.replays)]))

    def studies(self, method: SuiteMethod, seeds: Sequence[int]) -> list[Study]:
        """Describe the studies of a method."""
        return [method.study(self.benchmark.content, seed, None) for seed in seeds]

    def label(self, method: SuiteMethod) -> str:
        """Name a method, with its budget if that is its own."""
        [study] = self.studies(method, [0])
        own = f"{BUDGET}{method.budget}" if method.budget != self.budget else ""
        return " ".join(filter(None, [method.method, study.variant])) + own


@dataclass(frozen=True)
class RealStudy:
    """A real study with its log.

    Attributes:
        events: all of it.
        books: its trials and device time.
    """

    events: tuple[Event, ...]
    books: Books


def is_replayable(method: SuiteMethod) -> bool:
    """Tell whether a bank can answer a method: curves are recorded of hyperparameters that stay."""
    return not registry.traits_of(method.method).varies_within_trials


class Gathering:
    """Evidence that is gathered: first all replays, over processes, then the real studies.

    Args:
        asked: the certificate.
        at_once: trials at once, in real studies and replays.
        console: gets the progress.

    Raises:
        BenchmarkError: the bank cannot be modelled.
    """

    def __init__(self, asked: CertificateRequest, at_once: int, console: Console) -> None:
        self._asked, self._at_once, self._console = asked, at_once, console
        self._benchmark = asked.benchmark.content
        self._model = recorded_by(self._benchmark, asked.bank, "surrogate")
        self._model.trial.require_ready(self._model)

    def gather(self) -> list[MethodEvidence]:
        """Return the evidence of each method.

        Raises:
            BenchmarkError: the store cannot be used, or a process of the replays died.
        """
        replays = self._replays()
        self._runs = {run.info.run_id: run for run in stored_runs(self._benchmark.name, "tags.hpo.kind = 'study'")}
        return [self._of(method, replays) for method in self._asked.methods]

    def _replays(self) -> dict[str, list[ReplayedStudy]]:
        """Replay each method with each seed on the bank's model; the studies by method, see `_key`."""
        asked = self._asked
        able = [method for method in asked.methods if is_replayable(method)]
        studies = [one for method in able for one in asked.studies(method, asked.replayed_seeds)]
        found: dict[str, list[ReplayedStudy]] = {}
        began = shown = REAL.now()
        pool = Replaying(self._model, self._at_once, repeats=0, processes=len(os.sched_getaffinity(0)))
        for done, one in enumerate(pool.run(studies), start=1):
            found.setdefault(_key(one), []).append(one)
            now = REAL.now()
            if now - shown >= SECONDS_PER_LINE or done == len(studies):
                shown, left = now, (now - began) * (len(studies) - done) / done
                line = f"[{clock(now - began)}] replays: {done}/{len(studies)} | left about {clock(left)}"
                print_line(self._console, line)
        return found

    def _of(self, method: SuiteMethod, replays: Mapping[str, Sequence[ReplayedStudy]]) -> MethodEvidence:
        """Read the real studies of a method, and set them beside its replays."""
        evidence = MethodEvidence(self._asked.label(method))
        if not is_replayable(method):
            evidence.faults.append(NOT_REPLAYABLE)
            return evidence
        studies = self._asked.studies(method, self._asked.seeds)
        for study, record in zip(studies, stored(studies), strict=True):
            self._add_real(evidence, study, record)
        own = sorted(replays.get(_key(studies[0]), ()), key=lambda one: one.seed)
        for one in own:
            if one.reason or self._benchmark.metric not in one.best:
                evidence.faults.append(f"seed {one.seed} cannot be replayed: {one.reason or 'no sound trial'}")
                break
            evidence.replayed[one.seed] = self._figures_of(one)
        return evidence

    def _add_real(self, evidence: MethodEvidence, study: Study, record: StudyRecord | None) -> None:
        real = self._read(record) if record else None
        if real is None:
            evidence.faults.append(f"seed {study.seed} has no finished study with its log in the store")
            return
        if why := self._fault(real):
            evidence.faults.append(f"seed {study.seed}: {why}")
            return
        if why := unrepeatable(real.events):
            evidence.notes.append(f"seed {study.seed} is not replayed unit by unit: {why}")
        else:
            evidence.decisions.append(same_decisions(study, real.events, self._at_once))
        figures = figures_of(real.books)
        assert figures is not None
        evidence.real[study.seed] = figures

    def _fault(self, real: RealStudy) -> str:
        """Say why a real study cannot be compared with its replay; empty if it can."""
        devices = self._at_once * self._benchmark.devices_per_trial
        if real.books.reservations[0][1] != devices:
            return f"it ran on {real.books.reservations[0][1]:g} devices, not {devices:g}"
        return "" if figures_of(real.books) else "it found no sound trial"

    def _read(self, record: StudyRecord) -> RealStudy | None:
        """Read the log of a study; None if the store has none."""
        text = read_files(self._runs[record.run_id], [event_log.FILE]).texts.get(event_log.FILE)
        if text is None:
            return None
        events, books = tuple(event_log.event_of(line) for line in text.splitlines()), Books(self._benchmark)
        for event in events:
            books.apply(event)
        return RealStudy(events, books)

    def _figures_of(self, one: ReplayedStudy) -> StudyFigures:
        """Return the figures of a replay, with the device-seconds of trials on as many devices as real ones."""
        return StudyFigures(
            incumbent=one.best[self._benchmark.metric],
            units=one.units,
            trials=sum(one.outcomes.values()),
            device_seconds=self._benchmark.devices_per_trial * one.device_seconds,
        )


def _key(study: Study | ReplayedStudy) -> str:
    """Name a method with its arguments and budget."""
    return f"{study.method} {study.variant} {study.budget}"


def figures_of(books: Books) -> StudyFigures | None:
    """Return the figures of a real study; None if it found no sound trial."""
    incumbent = books.incumbent()
    if incumbent is None or incumbent.objective is None:
        return None
    return StudyFigures(incumbent.objective, books.trained_units, len(books.rows), books.shares().reserved_seconds)
