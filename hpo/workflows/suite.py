"""A suite: several methods with several seeds, one study after the other on one Ray and on warm ranks.

Studies that the store has finished already are kept, so a suite that was interrupted resumes where it stood. A study
that fails is a line with its reason, and the others run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.check.start import check_start
from benchmarks.clock import REAL
from benchmarks.files import whole_number
from benchmarks.identity import digest
from benchmarks.spec import Benchmark, BenchmarkError, first_line
from hpo.analysis.records import finished
from hpo.analysis.studies import StudyRecord
from hpo.cluster.devices import Devices, place
from hpo.cluster.ray import Cluster, detect
from hpo.core.budget import is_interruption
from hpo.core.study import Study
from hpo.core.traits import large_reference_budget
from hpo.engine.progress import SuitePosition
from hpo.engine.runner import Executor, Finished, OnRay, execute
from hpo.engine.study_folder import Unfinished, found, like
from hpo.search import registry
from hpo.terminal import errors
from hpo.terminal.console import print_line
from hpo.terminal.next_steps import spell
from hpo.terminal.tables import clock, describe_incumbent, tokens_table

ALL = "all"
BUDGET = "budget"


@dataclass(frozen=True)
class SuiteMethod:
    """A method with its arguments, as a suite runs it: one study per seed.

    Attributes:
        method: its name.
        given: arguments that are not left at their defaults, as text.
        budget: full trainings of each study.
    """

    method: str
    given: dict[str, str]
    budget: int

    def study(self, benchmark: Benchmark, seed: int, gpu_hours: float | None) -> Study:
        """Describe its study with one seed.

        Raises:
            BenchmarkError: an argument that is unknown or out of range.
        """
        return registry.get(self.method).study(benchmark, seed, self.budget, gpu_hours, self.given)

    def command(self, benchmark: GivenBenchmark, seed: int, gpu_hours: float | None) -> str:
        """Write the command that runs one study of it alone."""
        options = {"benchmark": benchmark.name, "budget": self.budget, "seed": seed, "space": benchmark.space}
        options |= {"gpu_hours": gpu_hours or "", **self.given}
        given = {name: str(value) for name, value in options.items() if value != ""}
        return spell(["python", "-m", "hpo", "run", self.method], given)


@dataclass(frozen=True)
class GivenBenchmark:
    """A benchmark with the words that asked for it, for commands that ask for it again.

    Attributes:
        content: the benchmark.
        name: its name or the path of its YAML file.
        space: the path of a search space that replaces its own; empty for none.
    """

    content: Benchmark
    name: str
    space: str = ""


@dataclass
class Outcome:
    """The studies of a suite, and those that failed.

    Attributes:
        studies: all that belong to it, in the order in which they run.
        failures: studies that did not reach their end, each with the reason.
    """

    studies: list[Study]
    failures: list[tuple[Study, str]] = field(default_factory=list)


def parse_methods(text: str, budget: int) -> list[SuiteMethod]:
    """Read methods from a list such as "random,asha:searcher=optuna,random:budget=24".

    "all" stands for every method, and for the larger random search (`hpo.core.traits`).

    Raises:
        BenchmarkError: no such method, or an argument it does not have.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == [ALL]:
        references = registry.with_trait(lambda traits: traits.is_reference)
        words = [*registry.names(), *(f"{name}:{BUDGET}={large_reference_budget(budget)}" for name in references)]
    if not words:
        raise BenchmarkError(f"methods is {text!r}, but must name at least one; {ALL!r} stands for every method")
    return [_parse_method(word, budget) for word in dict.fromkeys(words)]


def _parse_method(word: str, budget: int) -> SuiteMethod:
    name, *settings = word.split(":")
    given = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise BenchmarkError(f"methods has {word!r}, but arguments are given as METHOD:NAME=VALUE")
        given[key.replace("-", "_")] = value
    own_budget = whole_number(given.pop(BUDGET)) if BUDGET in given else budget
    if own_budget is None:
        raise BenchmarkError(f"methods has {word!r}, but {BUDGET} must be a whole number of full trainings")
    registry.get(name).parse(given)
    return SuiteMethod(name, given, own_budget)


def parse_seeds(text: str) -> list[int]:
    """Read seeds from a list such as "0,1,2".

    Raises:
        BenchmarkError: not whole numbers.
    """
    seeds = [whole_number(word.strip()) for word in text.split(",") if word.strip()]
    if not seeds or None in seeds:
        raise BenchmarkError(f"seeds is {text!r}, but must be whole numbers with commas between them, such as 0,1,2")
    return [seed for seed in dict.fromkeys(seeds) if seed is not None]


def run_suite(
    methods: Sequence[SuiteMethod],
    benchmark: GivenBenchmark,
    seeds: Sequence[int],
    gpu_hours: float | None,
    force: bool,
    console: Console,
    executor: Executor | None = None,
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

    Raises:
        BenchmarkError: a study that cannot be asked for, or a store that cannot be used; nothing has been started.
    """
    os.environ.pop("MLFLOW_RUN_ID", None)  # the run that `mlflow run` opened is the suite's, not the first study's
    wanted = [
        (method.study(benchmark.content, seed, gpu_hours), method.command(benchmark, seed, gpu_hours))
        for seed in seeds
        for method in methods
    ]
    outcome = Outcome([study for study, _ in wanted])
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
    """Start the ranks, so that no study pays for it, and show their statistics of the data."""
    began = REAL.now()
    tokens = cluster.warm_up(benchmark, devices)
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
    trained = sum(row.trained_units for row in done.results.rows)
    return (
        f"best {describe_incumbent(study, done.results)}, {len(done.results.rows)} trials, {trained} units, "
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
    yield " ".join(filter(None, [studies[0].method, studies[0].variant]))
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
