"""Import a study that was run elsewhere into the store: one CSV file, with a row per trial and unit.

It becomes a finished study in the layout of every other study, written by the tracker itself, so whatever reads studies
reads it too. Tags mark it: `hpo.source` is "import" (with the file's name and checksum beside it) and
`hpo.ledger` is "total", since of such a study only the device time of each row is known, which is booked as training.

It does not guess. A metric that the file lacks is missing from the store, and a file that contradicts itself,
the benchmark or its search space is refused before anything is written. docs/import.md describes the columns.

    import_csv(Path("results.csv"), spec.load("nano"), method="vizier", seed=0, accelerator="Tesla V100")
"""

from __future__ import annotations

import math
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.hyperparameters import require_same_model
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import LOSS
from benchmarks.training.deepspeed import PRECISIONS
from hpo.cluster.devices import CPU
from hpo.core.books import Books, entered
from hpo.core.results import counts, why_nothing_found
from hpo.core.study import Study
from hpo.store.queries import stored_runs
from hpo.store.tracker import Tracker
from hpo.workflows.import_events import External, ExternalTrial, told
from hpo.workflows.import_rows import CsvRow, has_diverged, read_rows

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MAX_ACCELERATOR_CHARACTERS = 200
ROUNDING_SHARE = 1e-6
"""Share by which times may contradict each other: files hold rounded ones."""


@dataclass(frozen=True)
class Imported:
    """A study that has been brought in.

    Attributes:
        run_id: its run in MLflow.
        name: of the study, for people.
        num_trials: number of trials.
        outcomes: trials by outcome.
        units: resource units spent.
        device_hours: device-hours reserved.
        best: the content of `best_config.json`; None without a sound trial.
        reason: the reason why the study is FAILED, since every trial failed; else empty.
    """

    run_id: str
    name: str
    num_trials: int
    outcomes: Mapping[str, int]
    units: int
    device_hours: float
    best: dict[str, Any] | None
    reason: str


def import_csv(
    path: Path,
    benchmark: Benchmark,
    method: str,
    seed: int,
    accelerator: str,
    *,
    precision: str = "",
    wall_seconds: float | None = None,
    devices: int | None = None,
    command: str = "",
    force: bool = False,
) -> Imported:
    """Store a file's trials as a finished study, or as a failed one if every trial failed.

    Args:
        path: the CSV file.
        benchmark: the benchmark that was tuned, with the search space that was searched.
        method: the label of the program that proposed the trials; none of the methods that come with the suite.
        seed: the study's; studies with the same seed are a block.
        accelerator: name of the devices; device-hours are GPU hours unless it is "cpu".
        precision: "fp32", "bf16" or "fp16", which its trials computed in. By default the benchmark's own, unless that
            is "auto": then it is not known, and the study is compared with others of which it is not known.
        wall_seconds: wall time of the study; by default as if one trial had followed the other.
        devices: devices that the study reserved all that time; the part that no trial used is then idle. By default
            the trials' own device time is all that was reserved.
        command: the command that imports it, for the record.
        force: also if the same file is there already under this method and seed.

    Raises:
        BenchmarkError: an argument or the file cannot be used and nothing has been stored, or the store cannot be used.
    """
    content = read(path, benchmark)
    _check_label(method)
    _check_accelerator(accelerator)
    wall_seconds, reserved = _account(content, wall_seconds, devices)
    origin = {**_origin(content), **_precision(benchmark, precision)}
    study = _study(content, benchmark, method, seed)
    if not force:
        _require_new(content, study)
    books = Books(benchmark)
    events = list(entered(told(content, study, books, wall_seconds, reserved), books))
    tracker = Tracker(study, accelerator, command, origin)
    tracker.began_at -= wall_seconds  # when it really was is not known
    tracker.tell_whole(events, accelerator.lower() != CPU, "FAILED" if why_nothing_found(books.rows) else "FINISHED")
    return _imported(tracker, study, books)


def _imported(tracker: Tracker, study: Study, books: Books) -> Imported:
    incumbent = books.incumbent()
    return Imported(
        tracker.run_id,
        study.name,
        len(books.rows),
        counts(books.rows),
        books.trained_units,
        books.shares().device_hours,
        tracker.best_config(incumbent) if incumbent else None,
        why_nothing_found(books.rows),
    )


def read(path: Path, benchmark: Benchmark) -> External:
    """Read the trials of a file.

    Args:
        path: the CSV file, in UTF-8, with commas and a heading.
        benchmark: the benchmark that was tuned.

    Raises:
        BenchmarkError: the file cannot be used; the message names file, line and column.
    """
    checksum, rows = read_rows(path, benchmark)
    return External(path.name, checksum, rows, _trials(path, rows, benchmark))


# ---- trials


def _trials(path: Path, rows: Sequence[CsvRow], benchmark: Benchmark) -> dict[str, ExternalTrial]:
    by_name: dict[str, list[CsvRow]] = {}
    for row in rows:
        by_name.setdefault(row.trial, []).append(row)
    return {name: _trial(path, own, benchmark) for name, own in by_name.items()}


def _trial(path: Path, rows: Sequence[CsvRow], benchmark: Benchmark) -> ExternalTrial:
    _check_order(path, rows)
    _check_one_model(path, rows, benchmark)
    _check_one_proposer(path, rows)
    outcome = _outcome_of(path, rows, benchmark)
    for row in rows:
        if row.eval_loss is None and not (row is rows[-1] and outcome in ("failed", "diverged")):
            raise BenchmarkError(
                f"{path}, line {row.number}, column {LOSS.name}: is empty, which only the last line of a trial may "
                "have whose outcome is failed or diverged"
            )
    return ExternalTrial(tuple(rows), outcome, next((row.reason for row in reversed(rows) if row.reason), ""))


def _check_one_proposer(path: Path, rows: Sequence[CsvRow]) -> None:
    """Refuse a trial of which one row says that a model proposed it, and another that none did."""
    known = [row for row in rows if row.by_model is not None]
    for row in known:
        if row.by_model != known[0].by_model:
            raise BenchmarkError(
                f"{path}, line {row.number}, column by_model: differs from that of line {known[0].number}, but a trial "
                "is proposed once"
            )


def _check_order(path: Path, rows: Sequence[CsvRow]) -> None:
    """Refuse a unit that a trial has twice, and an earlier one in a later row."""
    seen: dict[int, int] = {}
    for row in rows:
        where = f"{path}, line {row.number}, column unit: trial {row.trial} "
        if row.unit in seen:
            raise BenchmarkError(f"{where}has unit {row.unit} already, in line {seen[row.unit]}")
        if seen and row.unit < max(seen):
            raise BenchmarkError(f"{where}was at unit {max(seen)} before; lines go as time does")
        seen[row.unit] = row.number


def _check_one_model(path: Path, rows: Sequence[CsvRow], benchmark: Benchmark) -> None:
    """Refuse a schedule that `confirm` and `train` could not follow."""
    first = benchmark.hyperparameters(rows[0].config)
    for row in rows:
        try:
            require_same_model(first, benchmark.hyperparameters(row.config))
        except BenchmarkError as error:
            raise BenchmarkError(f"{path}, line {row.number}: trial {row.trial}: {error}; split the trial") from None


def _outcome_of(path: Path, rows: Sequence[CsvRow], benchmark: Benchmark) -> str:
    """Take the outcome that the rows state if it can be; without one, derive it from the last result."""
    last, stated = rows[-1], [row for row in rows if row.outcome]
    derived = _outcome_by_result(last, benchmark)
    if not stated:
        return derived
    given, where = stated[-1].outcome, f"{path}, line {stated[-1].number}, column outcome: "
    if any(row.outcome != given for row in stated):
        first = stated[0]
        raise BenchmarkError(f"{where}is {given}, but trial {last.trial} is {first.outcome} in line {first.number}")
    if given in ("completed", "stopped") and given != derived:
        rule = f"unit {last.unit} of {benchmark.resource.max_units}, {LOSS.name} {last.metrics.get(LOSS.name, '')}"
        raise BenchmarkError(f"{where}is {given}, but trial {last.trial} is {derived} by its result: {rule}")
    return given


def _outcome_by_result(last: CsvRow, benchmark: Benchmark) -> str:
    if last.eval_loss is not None and has_diverged(benchmark, last.metrics):
        return "diverged"
    return "completed" if last.unit == benchmark.resource.max_units else "stopped"


# ---- the study


def _check_label(method: str) -> None:
    if not LABEL.fullmatch(method):
        raise BenchmarkError(f"method is {method!r}, but must be a label of letters, digits, '.', '_' and '-'")
    if method in [module.name for module in pkgutil.iter_modules([str(Path(__file__).parents[1] / "methods")])]:
        raise BenchmarkError(
            f"method is {method!r}, which is a method of the suite: results of another program would count as its "
            f"own; choose a label such as external-{method}"
        )


def _check_accelerator(accelerator: str) -> None:
    if not (
        0 < len(accelerator.strip()) <= len(accelerator) <= MAX_ACCELERATOR_CHARACTERS and accelerator.isprintable()
    ):
        raise BenchmarkError(
            f"accelerator is {accelerator!r}, but must be a name of <= {MAX_ACCELERATOR_CHARACTERS} characters, "
            "such as cpu"
        )


def _precision(benchmark: Benchmark, given: str) -> dict[str, str]:
    """Say in a tag which arithmetic the trials computed in, if that is known."""
    if not benchmark.trial.precision:
        if given:
            raise BenchmarkError(f"precision is {given}, but benchmark {benchmark.name} computes curves; leave it out")
        return {}
    if given and given not in PRECISIONS:
        raise BenchmarkError(f"precision is {given!r}, but must be one of {', '.join(PRECISIONS)}")
    known = given or benchmark.trial.precision.replace("auto", "")
    return {"hpo.precision": known} if known else {}


def _account(content: External, wall_seconds: float | None, devices: int | None) -> tuple[float, float]:
    """Return the study's wall seconds, and the devices that it reserved meanwhile, which may be a mean."""
    used, longest = content.device_seconds, max(trial.seconds for trial in content.trials.values())
    if devices is not None and (wall_seconds is None or devices < 1):
        raise BenchmarkError(f"devices is {devices}, but must be >= 1, and needs wall_seconds: how long they were held")
    wall = sum(row.seconds for row in content.rows) if wall_seconds is None else wall_seconds
    if not longest * (1 - ROUNDING_SHARE) <= wall < math.inf:
        raise BenchmarkError(f"wall_seconds is {wall:g}, but must be >= {longest:g}, which one trial took, and finite")
    reserved = used if devices is None else devices * wall
    if not used * (1 - ROUNDING_SHARE) <= reserved < math.inf:
        raise BenchmarkError(
            f"devices is {devices} for {wall:g} seconds, but {content.name} has {used:g} device-seconds, "
            f"which is more than {devices} devices give"
        )
    return wall, reserved / wall


def _study(content: External, benchmark: Benchmark, method: str, seed: int) -> Study:
    """Describe the study; its budget is the full trainings that it spent, rounded up."""
    spent = max(1, math.ceil(content.units / benchmark.resource.max_units))
    arguments = {"source": content.name, "sha256": content.checksum}
    return Study(method, benchmark, seed, spent, arguments=arguments)


def _require_new(content: External, study: Study) -> None:
    same = f"tags.hpo.kind = 'study' and tags.hpo.source_sha256 = '{content.checksum}'"
    for run in stored_runs(study.benchmark.name, same):
        tags = run.data.tags
        is_same = (tags.get("hpo.method"), tags.get("hpo.seed")) == (study.method, str(study.seed))
        if is_same and run.info.status == "FINISHED":
            raise BenchmarkError(
                f"{content.name} is there already as {study.name} (run {run.info.run_id}); "
                "use force to store it once more"
            )


def _origin(content: External) -> dict[str, str]:
    """Say in tags where the study comes from; the packages of this machine did not run it."""
    tags = {"source": "import", "source_file": content.name, "source_sha256": content.checksum, "ledger": "total"}
    return {f"hpo.{name}": value for name, value in tags.items()}
