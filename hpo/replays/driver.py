"""Replay studies over processes, keep each as it ends, and store them as one run.

The folder gets, by the benchmark's name::

    NAME.jsonl     the log; a driver that is killed loses the studies that were under way, and no other
    NAME.parquet   all studies of the log, written at the end, after an interruption too

The same command resumes; more methods, seeds or budgets extend the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.clock import REAL
from benchmarks.spec import Benchmark
from hpo.analysis.replayed import records, table
from hpo.analysis.replayed.study import ReplayedStudy, ReplayHeader
from hpo.analysis.replayed.table import Replay
from hpo.core.study import Study
from hpo.engine.signals import GracefulSignals
from hpo.replays import log
from hpo.replays.workers import Replaying
from hpo.store.runs import CommandRun
from hpo.terminal.console import print_line
from hpo.terminal.tables import clock

SECONDS_PER_LINE = 30.0
"""Time between two lines of progress where the output is no terminal."""


@dataclass(frozen=True)
class ReplayOutcome:
    """A replay that has ended.

    Attributes:
        replay: the studies that were asked for and have ended.
        path: the file, with those of earlier replays too.
        missing: studies that were asked for and have not ended.
        fault: the reason why the store lacks a part of it; empty if it has all.
    """

    replay: Replay
    path: Path
    missing: int
    fault: str


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def run(
    studies: Sequence[Study],
    header: ReplayHeader,
    folder: Path,
    processes: int,
    console: Console,
    params: Mapping[str, object],
    command: str,
) -> ReplayOutcome:
    """Replay the studies that the folder lacks.

    Args:
        studies: all that are asked for.
        header: description of the replay.
        folder: of the files.
        processes: studies at once.
        console: gets the progress.
        params: parameters of the run in MLflow.
        command: the command that reproduces it, for the record.

    Raises:
        BenchmarkError: the folder holds another replay or cannot be written, the store cannot be used, or a process
            died; studies that have ended are kept.
    """
    path = folder / f"{header.content.name}{table.SUFFIX}"
    logged = path.with_suffix(".jsonl")
    with log.only_replay(logged):
        there = {study.identity: study for study in _before(logged, path, header)}
        stored = CommandRun(header.content.name, _name(studies, header), params, _tags(header, command))
        with stored.ending():
            _replay_due(studies, there, header, path, processes, console)
            asked = tuple(there[one] for study in studies if (one := _identity(study)) in there)
            replay = Replay(header, asked)
            stored.log_content({records.FILE: table.to_bytes(replay)})
            for budget, metrics in totals(asked, header.content).items():
                stored.log(metrics, budget)
        stored.end("KILLED" if len(asked) < len(studies) else "FINISHED")
    return ReplayOutcome(replay, path, len(studies) - len(asked), stored.fault)


Identity = tuple[str, str, int, int]


def _before(logged: Path, path: Path, header: ReplayHeader) -> Sequence[ReplayedStudy]:
    """Return the studies of the log, or of the table where the log is lost."""
    if logged.exists() or not path.exists():
        return log.read(logged, header)
    before = table.read(path)
    log.require_same(path, before.header, header)
    return before.studies


def _replay_due(
    studies: Sequence[Study],
    there: dict[Identity, ReplayedStudy],
    header: ReplayHeader,
    path: Path,
    processes: int,
    console: Console,
) -> None:
    """Replay the studies that are not there, add each to log and dictionary, and write the table in any case."""
    due = [study for study in studies if _identity(study) not in there]
    if len(due) < len(studies):
        print_line(console, f"{len(studies) - len(due)} of {len(studies)} studies are replayed already")
    writing = log.ReplayLog(path.with_suffix(".jsonl"), Replay(header, tuple(there.values())))
    work = Replaying(header.content, header.devices, header.repeats, min(processes, max(1, len(due))))
    try:
        with GracefulSignals(work), _progress(console, len(due)) as show:
            for study in work.run(due) if due else ():
                writing.add(study)
                there[study.identity] = study
                show()
    finally:
        table.write(Replay(header, tuple(there.values())), path)


def _identity(study: Study) -> Identity:
    return study.method, study.variant, study.seed, study.budget


def _name(studies: Sequence[Study], header: ReplayHeader) -> str:
    return f"replay of {len(studies)} studies on {header.content.name}"


def _tags(header: ReplayHeader, command: str) -> dict[str, str]:
    return {
        "hpo.kind": "replay",
        "hpo.benchmark": header.content.name,
        "hpo.benchmark_digest": header.digest,
        "hpo.protocol": header.protocol,
        "hpo.accelerator": records.ACCELERATOR,
        "hpo.devices": str(header.devices),
        "hpo.source": header.source,
        "hpo.certificate": header.certificate,
        "hpo.command": command,
        **header.versions,
    }


def totals(studies: Sequence[ReplayedStudy], benchmark: Benchmark) -> dict[int, dict[str, float]]:
    """Return means by budget: of each method's incumbents on validation and, trained again, on test; of its cost."""
    found: dict[int, dict[str, float]] = {}
    metric = benchmark.verdict_metric
    for label, budget in dict.fromkeys((study.label, study.budget) for study in studies):
        own = [study for study in studies if (study.label, study.budget) == (label, budget)]
        means = found.setdefault(budget, {})
        name = label.replace("=", "-").replace(" ", "_")
        best = [study.best[benchmark.metric] for study in own if benchmark.metric in study.best]
        fresh = [one.metrics.get(metric.on_test, metric.worst) for study in own for one in study.fresh]
        means |= {f"{name}/best_{benchmark.metric}": fmean(best)} if best else {}
        means |= {f"{name}/{metric.on_test}": fmean(fresh)} if fresh else {}
        means |= {
            f"{name}/device_hours": fmean(study.device_seconds for study in own) / 3600,
            f"{name}/cpu_seconds": fmean(study.cpu_seconds for study in own),
        }
    return found


@contextmanager
def _progress(console: Console, due: int) -> Iterator[Callable[[], None]]:
    """Show a bar with the time left on a terminal, and a line now and then elsewhere."""
    columns = (TextColumn("replayed"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    if not console.is_terminal:
        yield ProgressLines(console, due).advance
        return
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("replayed", total=due)
        yield lambda: bar.advance(task)


class ProgressLines:
    """Progress as lines, for a file.

    Args:
        console: where they go.
        due: studies to come.
    """

    def __init__(self, console: Console, due: int) -> None:
        self._console, self._due, self._done = console, due, 0
        self._began = self._shown = REAL.now()

    def advance(self) -> None:
        """Count a study; print a line if the last one is long ago."""
        self._done, now = self._done + 1, REAL.now()
        if now - self._shown < SECONDS_PER_LINE:
            return
        self._shown, passed = now, now - self._began
        left = clock((self._due - self._done) * passed / self._done)
        print_line(self._console, f"[{clock(passed)}] {self._done}/{self._due} studies replayed | left about {left}")
