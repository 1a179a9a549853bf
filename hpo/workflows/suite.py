"""A suite: several methods with several seeds, one study after the other on one Ray and on warm ranks.

Studies that the store has finished already are kept, so a suite that was interrupted resumes where it stood. A study
that fails is a line with its reason, and the others run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from statistics import fmean

from ray.exceptions import RayError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.check.share import require_share
from benchmarks.check.start import check_start
from benchmarks.clock import REAL
from benchmarks.identity import digest
from benchmarks.spec import Benchmark, BenchmarkError, first_line
from hpo.analysis.records import finished
from hpo.analysis.studies import StudyRecord
from hpo.cluster.devices import Devices, place
from hpo.cluster.ray import Cluster, detect
from hpo.core.budget import is_interruption
from hpo.core.study import Study
from hpo.engine.events import in_a_line
from hpo.engine.progress import SuitePosition
from hpo.engine.runner import Executor, Finished, OnRay, execute
from hpo.engine.study_folder import Unfinished, found, like
from hpo.planning.contest import GivenBenchmark, SuiteMethod
from hpo.terminal import errors
from hpo.terminal.console import print_line
from hpo.terminal.tables import clock, describe_incumbent, tokens_table


@dataclass
class Outcome:
    """The studies of a suite, and those that failed.

    Attributes:
        studies: all that belong to it, in the order in which they run.
        failures: studies that did not reach their end, each with the reason.
    """

    studies: list[Study]
    failures: list[tuple[Study, str]] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Tell whether any study reached its end."""
        return len(self.failures) < len(self.studies)


def run_suite(
    methods: Sequence[SuiteMethod],
    benchmark: GivenBenchmark,
    seeds: Sequence[int],
    gpu_hours: float | None,
    force: bool,
    console: Console,
    executor: Executor | None = None,
    plan: str = "",
    kept: Set[str] = frozenset(),
) -> Outcome:
    """Run the studies that the store has not finished yet, all methods of a seed before the next seed.

    A study that was interrupted resumes where it stood.

    Args:
        methods: methods with their arguments.
        benchmark: the benchmark that is tuned.
        seeds: one study per method for each.
        gpu_hours: cap of each study, in device-hours.
        force: run finished studies again.
        console: gets the progress.
        executor: where trials run; by default on a Ray of their own.
        plan: text of the plan of the comparison, which each study keeps; empty for none.
        kept: fingerprints of studies that need not run, since their results lie elsewhere than in the store.

    Raises:
        BenchmarkError: a study that cannot be asked for, or a store that cannot be used; nothing has been started.
    """
    os.environ.pop("MLFLOW_RUN_ID", None)  # the run that `mlflow run` opened is the suite's, not the first study's
    checksum = digest(benchmark.content)
    wanted = [
        (replace(study, plan=plan), method.command(benchmark, seed, gpu_hours))
        for seed in seeds
        for method in methods
        if (study := method.study(benchmark.content, seed, gpu_hours)).fingerprint(checksum) not in kept
    ]
    outcome = Outcome([study for study, _ in wanted])
    if not wanted:
        return outcome
    there = [None] * len(wanted) if force else stored(outcome.studies)
    due = [entry for entry, study in zip(wanted, there, strict=True) if study is None]
    if len(due) < len(wanted):
        text = f"{len(wanted) - len(due)} of {len(wanted)} studies are finished already (--force runs them again)"
        console.print(text, highlight=False)
    if due:
        _run_due(due, outcome, console, [] if force else found(), executor or OnRay())
    return outcome


def stored(studies: Sequence[Study]) -> list[StudyRecord | None]:
    """Find each of these studies as the store has finished it on devices like these; None if it has not.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    checksum, accelerator = digest(studies[0].benchmark), detect().accelerator
    there = {s.fingerprint: s for s in finished(studies[0].benchmark.name) if s.accelerator == accelerator}
    return [there.get(study.fingerprint(checksum)) for study in studies]


def _run_due(
    due: Sequence[tuple[Study, str]],
    outcome: Outcome,
    console: Console,
    interrupted: Sequence[Unfinished],
    executor: Executor,
) -> None:
    benchmark, devices = due[0][0].benchmark, executor.detect()
    checksum = digest(benchmark) if interrupted else ""
    placement = place(benchmark, devices)
    for warning in check_start(benchmark):  # before ranks are warmed up
        errors.warn(warning)
    require_share(placement.benchmark, devices.accelerator, devices.memory_bytes)
    with executor.open(devices) as cluster:
        _warm_up(cluster, placement.benchmark, devices, console)
        for number, (study, command) in enumerate(due, 1):
            position = SuitePosition(number, len(due), sum(later.budget_units for later, _ in due[number:]))
            run_id = like(study.fingerprint(checksum), interrupted)
            reason = _run_one(study, command, executor.on(cluster), position, console, run_id)
            if reason:
                outcome.failures.append((study, reason))
            if is_interruption(reason):
                return


def _warm_up(cluster: Cluster, benchmark: Benchmark, devices: Devices, console: Console) -> None:
    """Start the ranks, so that no study pays for it, and show their statistics of the data.

    Ranks that cannot start are no reason to end: studies start their own, and fail by their own rules.
    """
    began = REAL.now()
    try:
        tokens = cluster.warm_up(benchmark, devices)
    except (RayError, OSError, MemoryError) as error:
        cluster.reclaim()
        errors.warn(f"ranks could not be warmed up ({in_a_line(error)}); each study starts its own")
        return
    if not tokens:
        return
    seconds = REAL.now() - began
    console.print(f"ranks warm after {seconds:.0f} s, which count to no study", highlight=False)
    console.print(tokens_table(tokens, benchmark.task))


def _run_one(
    study: Study, command: str, executor: Executor, position: SuitePosition, console: Console, run_id: str | None
) -> str:
    """Run or resume a study and print its line; returns the reason if it did not reach its end, else an empty text."""
    try:
        if run_id is not None:
            print_line(console, f"{study.name}: resumes where it was interrupted")
        done = execute(study, command, console, executor, position, run_id=run_id)
        line, reason = _line(study, done), done.reason
    except Exception as error:  # one study's failure does not end the suite
        reason = str(error) if isinstance(error, BenchmarkError) else f"{type(error).__name__}: {first_line(error)}"
        line = "not run"
    print_line(console, f"{study.name}: {line}" + f"; {reason}" * bool(reason))
    return reason


def _line(study: Study, done: Finished) -> str:
    """Summarise a study in a line."""
    trained = sum(row.trained_units for row in done.books.rows)
    return (
        f"best {describe_incumbent(study, done.books)}, {len(done.books.rows)} trials, {trained} units, "
        f"{done.shares.device_hours:.4f} device-hours, {done.shares.utilization:.0%} useful"
    )


def summary(outcome: Outcome) -> Table:
    """Make a table with a line per method: scores and costs, averaged over its finished studies.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    studies = list(zip(outcome.studies, stored(outcome.studies), strict=True))
    table = Table(title=f"suite on {outcome.studies[0].benchmark.name}", caption=CAPTION, box=SIMPLE_HEAD)
    metrics = outcome.studies[0].benchmark.metrics
    for heading in ("method", "studies", *(metric.words for metric in metrics), *COST_COLUMNS):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for identity in dict.fromkeys(_identity(study) for study, _ in studies):
        own = [(study, there) for study, there in studies if _identity(study) == identity]
        table.add_row(*_row([study for study, _ in own], [there for _, there in own if there is not None]))
    return table


def _identity(study: Study) -> tuple[str, str, int]:
    return study.method, study.variant, study.budget


CAPTION = (
    "Means over seeds. Scores are those of each study's best trial on validation, which chose it: they favour methods "
    "that tried more, and name no winner. device-hours are all that was reserved; useful is the share that trained or "
    "evaluated."
)
COST_COLUMNS = ("units", "of", "device-hours", "useful", "wall")


def _row(studies: Sequence[Study], there: Sequence[StudyRecord]) -> Iterator[str]:
    yield studies[0].label
    yield f"{len(there)} of {len(studies)}"
    for metric in studies[0].benchmark.metrics:
        yield _mean(there, f"best_{metric.name}", metric.digits)
    yield _mean(there, "units", 0)
    yield str(studies[0].budget_units)
    yield _mean(there, "device_hours", 4)
    yield f"{100 * fmean(s.metrics.get('utilization', 0.0) for s in there):.0f}%" if there else "-"
    yield clock(fmean(s.metrics.get("wall_seconds", 0.0) for s in there)) if there else "-"


def _mean(studies: Sequence[StudyRecord], key: str, digits: int) -> str:
    values = [study.metrics[key] for study in studies if key in study.metrics]
    return f"{fmean(values):.{digits}f}" if values else "-"
