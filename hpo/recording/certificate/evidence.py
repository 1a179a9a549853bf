"""Evidence of a certificate: figures and decisions of real studies, and of their replays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.banks.certificate import BUDGET, RealSession
from benchmarks.banks.curves import first_known
from benchmarks.clock import REAL, utc
from benchmarks.identity import digest
from benchmarks.spec import Benchmark
from benchmarks.trials.recorded import curves
from hpo.analysis.replayed.study import ReplayedStudy
from hpo.core import event_log
from hpo.core.books import Books
from hpo.core.events import Event
from hpo.core.study import Study
from hpo.planning.contest import GivenBenchmark, SuiteMethod
from hpo.recording.certificate import kept
from hpo.recording.certificate.checks import MethodEvidence, StudyFigures
from hpo.recording.certificate.decisions import unrepeatable
from hpo.recording.certificate.kept import KeptStudy
from hpo.recording.certificate.replays import recorded_by, same_decisions
from hpo.recording.collecting import trainings_of
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
        return study.label + own


def is_replayable(method: SuiteMethod) -> bool:
    """Tell whether a bank can answer a method: curves are recorded of hyperparameters that stay."""
    return not registry.traits_of(method.method).varies_within_trials


class Gathering:
    """Evidence that is gathered: real studies, kept beside the bank or in the store, and replays over processes.

    Args:
        asked: the certificate.
        at_once: trials at once, in real studies and replays.
        accelerator: of the real studies.
        console: gets the progress.

    Raises:
        BenchmarkError: the bank cannot be modelled, or the file of kept studies cannot be read.
    """

    def __init__(self, asked: CertificateRequest, at_once: int, accelerator: str, console: Console) -> None:
        self._asked, self._at_once, self._console = asked, at_once, console
        self._benchmark, self._digest = asked.benchmark.content, digest(asked.benchmark.content)
        self._model = recorded_by(self._benchmark, asked.bank, "surrogate")
        self._model.trial.require_ready(self._model)
        self._accelerator = accelerator
        self._real = {
            fingerprint: study
            for fingerprint, study in kept.read(asked.bank).items()
            if (study.digest, study.accelerator) == (self._digest, accelerator)
        }

    @property
    def kept(self) -> Set[str]:
        """Fingerprints of the real studies that need not run."""
        return self._real.keys()

    def keep(self) -> None:
        """Add the finished studies of the store to those beside the bank.

        Raises:
            BenchmarkError: the store cannot be used, or the bank's folder cannot be written.
        """
        able = [method for method in self._asked.methods if is_replayable(method)]
        studies = [one for method in able for one in self._asked.studies(method, self._asked.seeds)]
        lacking = [one for one in studies if one.fingerprint(self._digest) not in self._real]
        if not lacking:
            return
        runs = {run.info.run_id: run for run in stored_runs(self._benchmark.name, "tags.hpo.kind = 'study'")}
        session, before = f"{utc():%Y-%m-%d %H:%M}", len(self._real)
        for study, record in zip(lacking, stored(lacking), strict=True):
            text = read_files(runs[record.run_id], [event_log.FILE]).texts.get(event_log.FILE) if record else None
            if text is not None:
                events = tuple(event_log.event_of(line) for line in text.splitlines())
                own = study.fingerprint(self._digest)
                self._real[own] = KeptStudy(own, self._digest, study.name, self._accelerator, session, events)
        if len(self._real) > before:
            kept.write(self._real.values(), self._asked.bank)

    def gather(self) -> tuple[list[MethodEvidence], list[RealSession]]:
        """Return the evidence of each method, and the sessions of the real studies.

        Raises:
            BenchmarkError: a process of the replays died.
        """
        replays, sessions = self._replays(), self._sessions()
        slower = {session.session: session.slower for session in sessions}
        return [self._of(method, replays, slower) for method in self._asked.methods], sessions

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

    def _sessions(self) -> list[RealSession]:
        """Compare the seconds of units in each session with the bank's, whose machine may have been another."""
        studies: dict[str, list[KeptStudy]] = {}
        for method in self._asked.methods:
            for study in self._asked.studies(method, self._asked.seeds):
                if one := self._real.get(study.fingerprint(self._digest)):
                    studies.setdefault(one.session, []).append(one)
        return [
            RealSession(session=session, studies=len(own), slower=slower_than(self._model, self._benchmark, own))
            for session, own in sorted(studies.items())
        ]

    def _of(
        self, method: SuiteMethod, replays: Mapping[str, Sequence[ReplayedStudy]], slower: Mapping[str, float]
    ) -> MethodEvidence:
        """Set the real studies of a method beside its replays."""
        evidence = MethodEvidence(self._asked.label(method))
        if not is_replayable(method):
            evidence.faults.append(NOT_REPLAYABLE)
            return evidence
        studies, factors = self._asked.studies(method, self._asked.seeds), dict[int, float]()
        for study in studies:
            if real := self._real.get(study.fingerprint(self._digest)):
                factors[study.seed] = slower[real.session]
                self._add_real(evidence, study, real.events)
            else:
                evidence.faults.append(f"seed {study.seed} has no finished study with its log in the store")
        for one in sorted(replays.get(_key(studies[0]), ()), key=lambda one: one.seed):
            if one.reason or self._benchmark.metric not in one.best:
                evidence.faults.append(f"seed {one.seed} cannot be replayed: {one.reason or 'no sound trial'}")
                break
            evidence.replayed[one.seed] = self._figures_of(one, factors.get(one.seed, 1.0))
        return evidence

    def _add_real(self, evidence: MethodEvidence, study: Study, events: Sequence[Event]) -> None:
        books = Books(self._benchmark)
        for event in events:
            books.apply(event)
        figures, devices = figures_of(books), self._at_once * self._benchmark.devices_per_trial
        if books.reservations[0][1] != devices:
            why = f"it ran on {books.reservations[0][1]:g} devices, not {devices:g}"
            evidence.faults.append(f"seed {study.seed}: {why}")
        elif figures is None:
            evidence.faults.append(f"seed {study.seed}: it found no sound trial")
        else:
            evidence.real[study.seed] = figures
            if why := unrepeatable(events):
                evidence.notes.append(f"seed {study.seed} is not replayed unit by unit: {why}")
            else:
                evidence.decisions.append(same_decisions(study, events, self._at_once))

    def _figures_of(self, one: ReplayedStudy, slower: float) -> StudyFigures:
        """Return the figures of a replay, with the device-seconds of trials on as many devices as real ones."""
        return StudyFigures(
            incumbent=one.best[self._benchmark.metric],
            units=one.units,
            trials=sum(one.outcomes.values()),
            device_seconds=slower * self._benchmark.devices_per_trial * one.device_seconds,
        )


def slower_than(model: Benchmark, benchmark: Benchmark, studies: Sequence[KeptStudy]) -> float:
    """Return the seconds of all units of some real studies, divided by those that a bank has for the same trainings.

    All durations of a replay are seconds of the bank. So the decisions of a replay are the same on a machine that takes
    longer for everything, and its device-seconds are so many times as long.

    Args:
        model: the benchmark that reads the bank.
        benchmark: the one that was recorded.
        studies: that ran on one machine.
    """
    real = recorded = 0.0
    for study in studies:
        for training in trainings_of(study.events, benchmark, study.session)[0]:
            curve = curves(model).curve(training.config, training.seed)
            for unit, there in zip(training.units, curve.units, strict=False):
                real += first_known(unit.train_seconds) + first_known(unit.evaluate_seconds)
                recorded += there.train_seconds + there.evaluate_seconds
    return real / recorded if recorded else 1.0


def _key(study: Study | ReplayedStudy) -> str:
    """Name a method with its arguments and budget."""
    return f"{study.method} {study.variant} {study.budget}"


def figures_of(books: Books) -> StudyFigures | None:
    """Return the figures of a real study; None if it found no sound trial."""
    incumbent = books.incumbent()
    if incumbent is None or incumbent.objective is None:
        return None
    return StudyFigures(incumbent.objective, books.trained_units, len(books.rows), books.shares().reserved_seconds)
