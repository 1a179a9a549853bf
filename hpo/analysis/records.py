"""Stored studies and confirmations of a benchmark, read from MLflow alone: the ground of compare, report and export.

Studies are comparable if they share a version of the benchmark (its digest), the search space, the protocol, the
accelerator and the precision that their ranks reported. Of several such groups that of the newest study is read,
imports aside. Studies of the other groups, and studies whose files cannot be had, are left out with a note. Studies
that were stored before ranks reported a precision are a group of their own. Imports neither Ray nor torch.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial

from pydantic import ValidationError

from benchmarks.faults import explained
from benchmarks.space import Config
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.analysis.checked_runs import Unreadable, checked_confirmations, checked_study, study_of
from hpo.analysis.studies import Confirmation, StudyRecord
from hpo.core.study import PLAN, fresh_seeds, schedule_digest, text_checksum
from hpo.core.wording import counted
from hpo.store import client as store
from hpo.store.files import RECORDS_FILE
from hpo.store.queries import Run, experiments_with, stored_runs
from hpo.store.reading import read_files
from hpo.terminal import next_steps

READERS = 8
"""Artifacts that are fetched at once: a store behind HTTP answers each in some milliseconds."""
FEWEST_FRESH_SEEDS = 1000
"""Fresh seeds of a block among which stored ones are always looked for."""
FILES = ("trials.csv", "units.csv", "devices.csv", "best_config.json")
"""Artifacts that are read of a study."""
COMPARABLE = {
    "hpo.benchmark_digest": "another version of the benchmark",
    "hpo.space_digest": "another search space",
    "hpo.protocol": "another protocol",
    "hpo.accelerator": "another accelerator",
    "hpo.precision": "another precision",
}
"""Tags that studies must share, and the words for a study that does not."""
SHARED_WITH_CONFIRMATIONS = ("hpo.benchmark_digest", "hpo.protocol", "hpo.precision")
"""Tags that confirmations must share with studies: their scores count, and their costs do not."""


@dataclass(frozen=True)
class Records:
    """All that is stored of one benchmark and comparable.

    Attributes:
        benchmark: as the newest study ran it.
        digest: its version, see `benchmarks.identity`.
        studies: the finished ones, by method, variant, budget and seed.
        confirmations: fresh trainings of incumbents and of the default configuration.
        confirmation_hours: device-hours that confirmations took, apart from the studies'.
        left_out: a sentence for each group of studies, and for each run, that is not read.
        unreadable: comparable runs whose files cannot be had; none of them counts.
        given: the benchmark as the user gave it, by name or as a file, for commands to type next.
        failed: comparable studies that ended with an error, by tags and metrics alone.
        plans: texts of the plans under which studies ran, by checksum.
        lost_plans: plans under which studies ran and whose text cannot be had, each with the reason.
        comparisons: tags of earlier comparisons of the benchmark.
        confirmation_runs: tags of the runs that made the confirmations, by run.
        replay: for replayed studies, the sentence that says so, and how far they may be trusted; else empty.
    """

    benchmark: Benchmark
    digest: str
    studies: list[StudyRecord]
    confirmations: list[Confirmation]
    confirmation_hours: float
    left_out: list[str]
    unreadable: list[Unreadable] = field(default_factory=list)
    given: str = ""
    failed: list[StudyRecord] = field(default_factory=list)
    plans: Mapping[str, str] = field(default_factory=dict)
    lost_plans: Mapping[str, str] = field(default_factory=dict)
    comparisons: Sequence[Mapping[str, str]] = ()
    confirmation_runs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    replay: str = ""

    @property
    def confirm_command(self) -> str:
        """The command that confirms its studies; a replay has fresh trainings of its own."""
        return self.command("replay", repeats="3") if self.replay else self.command("confirm")

    def command(self, verb: str, **options: str) -> str:
        """Write a command for this benchmark, see `hpo.terminal.next_steps.command`."""
        return next_steps.command(verb, benchmark=self.given or self.benchmark.name, **options)

    def confirmations_of(self, study: StudyRecord) -> list[Confirmation]:
        """Return all confirmations of a study's incumbent with the seeds of its block."""
        return self.confirmations_with(study.schedule, study.seed) if study.schedule else []

    def confirmations_with(self, schedule: Sequence[tuple[int, Config]], block: int) -> list[Confirmation]:
        """Return all confirmations of a schedule with the seeds of a block, in the order of the seeds."""
        digest, found = schedule_digest(self.benchmark, schedule), self._by_identity
        return [found[digest, seed] for seed in self._seeds_of(block) if (digest, seed) in found]

    def require_readable(self, label: str | None = None) -> None:
        """Make sure that nothing is missing that a choice rests on.

        Args:
            label: of a method, see `StudyRecord.label`; None for all methods.

        Raises:
            BenchmarkError: files of such a study, or of a confirmation, cannot be had.
        """
        missing = [one for one in self.unreadable if label is None or one.label in (label, "")]
        if missing:
            raise BenchmarkError(
                f"{'; '.join(map(str, missing))}; this needs all of them: try again later, restore the "
                f"file, or leave the run out for good: mlflow runs delete --run-id {missing[0].run_id}"
            )

    @cached_property
    def _by_identity(self) -> dict[tuple[str, int], Confirmation]:
        return {(one.schedule, one.seed): one for one in self.confirmations}

    def _seeds_of(self, block: int) -> list[int]:
        if block not in self._seeds_by_block:
            self._seeds_by_block[block] = _fresh_among(block, {one.seed for one in self.confirmations})
        return self._seeds_by_block[block]

    @cached_property
    def _seeds_by_block(self) -> dict[int, list[int]]:
        return {}


def _fresh_among(block: int, stored: Set[int]) -> list[int]:
    """Return a block's fresh seeds that are stored, however many there are and whichever of them are missing.

    Fresh seeds are an endless sequence. The search goes on as long as its last half finds any.
    """
    number = max(FEWEST_FRESH_SEEDS, len(stored))
    while not stored.isdisjoint(fresh_seeds(block, 2 * number)[number:]):
        number *= 2
    return [seed for seed in fresh_seeds(block, number) if seed in stored]


def read(benchmark: str, given: str = "") -> Records:
    """Read all comparable studies and confirmations of a benchmark.

    Args:
        benchmark: its name, which is the experiment's.
        given: the benchmark as the user gave it; by default its name.

    Raises:
        BenchmarkError: no finished study, none whose files can be had, or the store cannot be used.
    """
    runs = stored_runs(benchmark, "tags.hpo.kind != 'trial'")
    studies = [run for run in runs if _is_finished_study(run)]
    if not studies:
        raise BenchmarkError(
            f"no finished study of {benchmark} in {store.shown_uri()}; {_elsewhere(benchmark)}run one first: "
            f"{next_steps.command('run', 'random', benchmark=given or benchmark)}"
        )
    newest = max(studies, key=_age)
    comparable, left_out = _comparable_with(newest, studies)
    confirmations = [run for run in runs if run.data.tags.get("hpo.kind") == "confirmation"]
    confirmations, lost = _comparable_with(newest, confirmations, SHARED_WITH_CONFIRMATIONS, "confirmation")
    left_out += [reason for reason in lost if reason.endswith(COMPARABLE["hpo.precision"])]
    with store.readable_errors(), ThreadPoolExecutor(READERS) as readers:
        content, (plans, lost_plans) = _benchmark(sorted(comparable, key=_age, reverse=True)), _plans(comparable)
        files = list(readers.map(partial(read_files, names=FILES), comparable))
        trials = list(readers.map(partial(read_files, names=(FILES[0], RECORDS_FILE)), confirmations))
    found = [checked_study(run, stored, content) for run, stored in zip(comparable, files, strict=True)]
    trained = [checked_confirmations(run, stored, content) for run, stored in zip(confirmations, trials, strict=True)]
    unreadable = [one for one in (*found, *trained) if isinstance(one, Unreadable)]
    kept = [study for study in found if isinstance(study, StudyRecord)]
    if not kept:
        raise BenchmarkError(f"no study of {benchmark} can be read: {'; '.join(map(str, unreadable))}")
    return Records(
        benchmark=content,
        digest=newest.data.tags.get("hpo.benchmark_digest", ""),
        studies=sorted(kept, key=lambda s: (s.method, s.variant, s.budget, s.seed, s.started)),
        confirmations=[one for several in trained if not isinstance(several, Unreadable) for one in several],
        confirmation_hours=sum(run.data.metrics.get("device_hours", 0.0) for run in confirmations),
        given=given or benchmark,
        left_out=[*left_out, *map(str, unreadable), *_without_tables(kept)],
        unreadable=unreadable,
        failed=_failed(newest, runs),
        plans=plans,
        lost_plans=lost_plans,
        comparisons=[run.data.tags for run in runs if run.data.tags.get("hpo.kind") == "comparison"],
        confirmation_runs={run.info.run_id: run.data.tags for run in confirmations},
    )


def _elsewhere(benchmark: str) -> str:
    """Name an experiment that has studies of a benchmark, which was chosen when they ran, or was renamed since."""
    names = experiments_with(benchmark)
    return f"experiment {names[0]!r} has some: add --experiment {shlex.quote(names[0])}; or " if names else ""


def _failed(newest: Run, runs: Iterable[Run]) -> list[StudyRecord]:
    """List the studies like the newest one that ended with an error; a study without results tells no precision."""
    lost = [run for run in runs if run.data.tags.get("hpo.kind") == "study" and run.info.status == "FAILED"]
    kept, _ = _comparable_with(newest, lost, [tag for tag in COMPARABLE if tag != "hpo.precision"])
    return [study_of(run, {}) for run in kept]


def _plans(runs: Iterable[Run]) -> tuple[dict[str, str], dict[str, str]]:
    """Read each plan under which studies ran from the first of them that gives it whole.

    Returns:
        Texts by checksum, and for each plan that none of its studies gives, the reason of the last one.
    """
    texts, reasons = dict[str, str](), dict[str, str]()
    for run in runs:
        plan = run.data.tags.get("hpo.plan", "")
        if not plan or plan in texts:
            continue
        stored = read_files(run, [PLAN])
        if text_checksum(stored.texts.get(PLAN, "")) == plan:
            texts[plan] = stored.texts[PLAN]
        else:
            damage = "it is not as it was stored" if stored.texts else "it is missing"
            reasons[plan] = stored.faults.get(PLAN, damage)
    return texts, {plan: reason for plan, reason in reasons.items() if plan not in texts}


def _without_tables(studies: Sequence[StudyRecord]) -> list[str]:
    """Name the studies that count without a table, since the store refused it, or has lost their devices."""
    return [
        f"{table} of {study.label} seed {study.seed} (run {study.run_id}): the store has no {table}.csv"
        for study in studies
        for table, number in {"trials": "num_trials", "units": "units", "devices": "units"}.items()
        if study.metrics.get(number) and not study.files.get(f"{table}.csv")
    ]


def _age(run: Run) -> tuple[bool, int]:
    """Order runs by time, imported ones before all others."""
    return run.data.tags.get("hpo.source") != "import", run.info.start_time


def _benchmark(newest_first: Sequence[Run]) -> Benchmark:
    """Read the benchmark from the newest run that has it; all of them ran the same."""
    for run in newest_first:
        stored = read_files(run, ["benchmark.json"])
        for reason in stored.faults.values():  # a store that is out of order, so the other runs need not be asked
            raise BenchmarkError(f"run {run.info.run_id}: benchmark.json cannot be read ({reason}); try again later")
        if stored.texts:
            return _parsed(run, stored.texts["benchmark.json"])
    newest = newest_first[0]
    raise BenchmarkError(
        f"run {newest.info.run_id} has no benchmark.json, nor has any study like it; restore the artifacts in "
        f"{store.shown(newest.info.artifact_uri)}, or run the study again"
    )


def _parsed(run: Run, text: str) -> Benchmark:
    try:
        return Benchmark.model_validate_json(text)
    except ValidationError as error:
        raise BenchmarkError(
            f"run {run.info.run_id}: benchmark.json cannot be used ({explained(error, Benchmark)}); restore what it "
            "names, such as its task in benchmarks/tasks, or run the study again"
        ) from None


def finished(benchmark: str) -> list[StudyRecord]:
    """List all finished studies of a benchmark, comparable or not, without their files; none if nothing is stored.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    runs = stored_runs(benchmark, "tags.hpo.kind = 'study'")
    return [study_of(run, {}) for run in runs if _is_finished_study(run)]


def _is_finished_study(run: Run) -> bool:
    return run.data.tags.get("hpo.kind") == "study" and run.info.status == "FINISHED"


def _comparable_with(
    newest: Run, runs: Iterable[Run], shared: Iterable[str] = tuple(COMPARABLE), noun: str = "study"
) -> tuple[list[Run], list[str]]:
    """Divide runs into those that share the tags, and a sentence for each group of the others."""
    kept, reasons = [], Counter[str]()
    for run in runs:
        differs = next((tag for tag in shared if run.data.tags.get(tag) != newest.data.tags.get(tag)), None)
        if differs is None:
            kept.append(run)
        else:
            reasons[COMPARABLE[differs]] += 1
    plural = "studies" if noun == "study" else ""
    return kept, [f"{counted(number, noun, plural)} of {why}" for why, number in reasons.items()]
