"""Brings a study that was run elsewhere into the store: one CSV file, one line a trial and unit.

It becomes a finished study in the layout of `tracking`, written by the tracker itself, so whatever reads studies
reads it too. Tags say what it is: `hpo.source` is "import" (with the file's name and checksum beside it) and
`hpo.ledger` is "total", since of such a study only the device time of each line is known, which is booked as training.

What it does not: guess. A metric that the file lacks is lacking in the store, and a file that contradicts itself, the
benchmark or its search space is refused before anything is written. docs/import.md describes the columns.

    import_csv(Path("results.csv"), spec.load("nano"), method="vizier", seed=0, accelerator="Tesla V100")
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import pkgutil
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from benchmarks.files import read_bytes
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.space import Config, Scalar, describe, value_in
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.cluster.devices import CPU
from hpo.core.ledger import PARTS, Shares
from hpo.core.results import Results, TrialRow, counts
from hpo.core.study import SCHEDULE, Study, is_diverged, objective
from hpo.store.queries import stored_runs
from hpo.store.tracker import Tracker

REQUIRED = ("trial", "unit", "eval_loss", "seconds", "devices")
LOSSES = ("eval_loss", "train_loss")
METRICS = {
    "eval_loss": math.inf,
    "train_loss": math.inf,
    "exact_match": 1.0,
    "f1": 1.0,
    "samples_per_second": math.inf,
    "peak_memory_mb": math.inf,
}
"""Columns with metrics, each with the largest value it may have; the smallest is 0."""
OUTCOMES = ("completed", "stopped", "diverged", "failed")
COLUMNS = (*REQUIRED, *(name for name in METRICS if name not in REQUIRED), "outcome", "reason")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
LONGEST_ACCELERATOR, LONGEST_REASON = 200, 4000
"""In characters; what is longer is no name, and no sentence."""
SECONDS = (1e-6, 1e10)
"""A line takes no less than a microsecond, and no more than three centuries."""
MOST_DEVICES = 2**31
LONGEST_PERPLEXITY = 700.0
"""The exponential of a larger loss is no float; the same bound as in trials that run here."""
ROUNDING = 1e-6
"""Share by which times may contradict each other: files hold rounded ones."""


@dataclass(frozen=True)
class Line:
    """One line of a file: what a trial did since its last one.

    Attributes:
        number: its place in the file, the heading being 1.
        trial: the trial's name.
        unit: resource units that the trial had reached.
        config: the hyperparameters of these units, those that the file has.
        metrics: validation metrics and the like; `eval_loss` is lacking where there was no evaluation.
        seconds: wall seconds.
        devices: devices that the trial occupied.
        outcome: how the trial ended; empty if not said.
        reason: why, in a sentence; empty if not said.
    """

    number: int
    trial: str
    unit: int
    config: Config
    metrics: Mapping[str, float]
    seconds: float
    devices: int
    outcome: str
    reason: str

    @property
    def device_seconds(self) -> float:
        """Seconds of all its devices."""
        return self.seconds * self.devices


@dataclass(frozen=True)
class ExternalTrial:
    """A trial as a file tells it.

    Attributes:
        lines: its lines in order of units, at least one.
        outcome: one of `OUTCOMES`.
        reason: as given; empty if not said.
    """

    lines: tuple[Line, ...]
    outcome: str
    reason: str

    @property
    def schedule(self) -> list[tuple[int, Config]]:
        """Its configurations, each with the units trained before it took effect; several where they change."""
        steps = [(0, self.lines[0].config)]
        for before, line in pairwise(self.lines):
            if line.config != steps[-1][1]:
                steps.append((before.unit, line.config))
        return steps

    @property
    def units(self) -> int:
        """Resource units that it came to the end of."""
        return max((line.unit for line in self.lines if self.reports(line)), default=0)

    def reports(self, line: Line) -> bool:
        """Whether one of its lines is the result of a unit: it is not where the trial failed before it had one."""
        return "eval_loss" in line.metrics or self.outcome == "diverged"

    @property
    def seconds(self) -> float:
        """Wall seconds of all its lines."""
        return sum(line.seconds for line in self.lines)


@dataclass(frozen=True)
class External:
    """The content of a file, checked.

    Attributes:
        name: of the file, without its folder.
        checksum: SHA-256 of the file.
        lines: all lines, in the file's order.
        trials: by name, in order of appearance.
    """

    name: str
    checksum: str
    lines: tuple[Line, ...]
    trials: Mapping[str, ExternalTrial]

    @property
    def device_seconds(self) -> float:
        """Device time of all trials."""
        return sum(line.device_seconds for line in self.lines)

    @property
    def units(self) -> int:
        """Resource units of all trials."""
        return sum(trial.units for trial in self.trials.values())


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
    """

    run_id: str
    name: str
    num_trials: int
    outcomes: Mapping[str, int]
    units: int
    device_hours: float
    best: dict[str, Any] | None


def import_csv(
    path: Path,
    benchmark: Benchmark,
    method: str,
    seed: int,
    accelerator: str,
    *,
    budget: int | None = None,
    wall_seconds: float | None = None,
    devices: int | None = None,
    command: str = "",
    force: bool = False,
) -> Imported:
    """Store a file's trials as a finished study.

    Args:
        path: the CSV file.
        benchmark: what was tuned, with the search space that was searched.
        method: the label of whatever proposed the trials; none of the methods that come with the suite.
        seed: the study's; studies with the same seed are a block.
        accelerator: name of the devices; device-hours are GPU hours unless it is "cpu".
        budget: full trainings that it might spend; by default what it did spend, rounded up.
        wall_seconds: how long the study took; by default as if one trial had followed the other.
        devices: devices that the study reserved all that time: what trials did not use of it is then idle. By default
            the trials' own device time is all that was reserved.
        command: the command that imports it, for the record.
        force: also if the same file is there already under this method and seed.

    Raises:
        BenchmarkError: something that was given cannot be used, and nothing has been stored; or the store cannot.
    """
    content = read(path, benchmark)
    _check_label(method)
    _check_accelerator(accelerator)
    wall_seconds, shares = _account(content, wall_seconds, devices)
    study = _study(content, benchmark, method, seed, budget)
    if not force:
        _require_new(content, study)
    tracker = Tracker(study, accelerator, command, _origin(content))
    tracker.began_at -= wall_seconds  # when it really was is not known
    try:
        results = _replay(content, study, tracker, wall_seconds)
        tracker.finish(results, shares, content.units, wall_seconds, accelerator.lower() != CPU, "FINISHED")
    except BaseException:
        tracker.abandon()
        raise
    incumbent = results.incumbent()
    return Imported(
        tracker.run_id,
        study.name,
        len(results.rows),
        counts(results.rows),
        content.units,
        shares.device_hours,
        tracker.best_config(incumbent) if incumbent else None,
    )


def read(path: Path, benchmark: Benchmark) -> External:
    """The trials of a file.

    Args:
        path: the CSV file, in UTF-8, with commas and a heading.
        benchmark: what was tuned.

    Raises:
        BenchmarkError: the file cannot be used; the message names file, line and column.
    """
    try:
        raw = read_bytes(path)
        rows = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        table = [(rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{path}: not UTF-8 (byte {error.start + 1}); save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise BenchmarkError(f"{path}, line {rows.line_num}: not valid CSV ({error})") from None
    if len(table) < 2:
        found = "only a heading" if table else "nothing"
        raise BenchmarkError(f"{path}: {found} in it, but an import needs a heading and a line a trial and unit")
    names = _columns(path, [cell.strip() for cell in table[0][1]], benchmark)
    lines = tuple(_line(_Cells.of(path, number, names, row), benchmark) for number, row in table[1:])
    return External(path.name, hashlib.sha256(raw).hexdigest(), lines, _trials(path, lines, benchmark))


# ---- lines


def _columns(path: Path, names: list[str], benchmark: Benchmark) -> list[str]:
    """The heading, all of its names known, none twice and none lacking."""
    known = (*COLUMNS, *Hyperparameters.model_fields)
    for name in names:
        where = f"{path}, line 1, column {name or '(no name)'}"
        if name not in known:
            raise BenchmarkError(f"{where}: unknown; known are {', '.join(known)}")
        if names.count(name) > 1:
            raise BenchmarkError(f"{where}: is there twice")
    for name in dict.fromkeys((*REQUIRED, benchmark.metric)):
        if name not in names:
            why = f", by which benchmark {benchmark.name} ranks trials" if name == benchmark.metric else ""
            raise BenchmarkError(f"{path}, line 1: there is no column {name}{why}; it has {', '.join(names)}")
    hyperparameters = list(Hyperparameters.model_fields)
    if not set(names) & set(hyperparameters):
        raise BenchmarkError(f"{path}, line 1: there is no hyperparameter; known are {', '.join(hyperparameters)}")
    return names


@dataclass(frozen=True)
class _Cells:
    """A line's cells by column, read with errors that say where."""

    path: Path
    number: int
    texts: Mapping[str, str]

    @classmethod
    def of(cls, path: Path, number: int, names: Sequence[str], row: Sequence[str]) -> _Cells:
        if len(row) != len(names):
            raise BenchmarkError(f"{path}, line {number}: has {len(row)} cells, but the heading has {len(names)}")
        cells = cls(path, number, {name: " ".join(cell.split()) for name, cell in zip(names, row, strict=True)})
        for name, text in cells.texts.items():
            if any(unicodedata.category(character) == "Cc" for character in text):
                cells.refuse(name, f"{text!r} has a control character; remove it")
        return cells

    def refuse(self, column: str, message: str) -> NoReturn:
        raise BenchmarkError(f"{self.path}, line {self.number}, column {column}: {message}")

    def text(self, column: str) -> str:
        return self.texts[column] or self.refuse(column, "is empty")

    def number_of(self, column: str) -> float:
        """A number, also one that is not finite."""
        text = self.text(column)
        try:
            return float(text)
        except ValueError:
            self.refuse(column, f"{text!r} is not a number")

    def whole(self, column: str) -> int:
        """A whole number from 1 on; 2.0 is one."""
        value = self.number_of(column)
        if not (math.isfinite(value) and value.is_integer() and value >= 1):
            self.refuse(column, f"{self.texts[column]!r} is not a whole number >= 1")
        return int(value)


def _line(cells: _Cells, benchmark: Benchmark) -> Line:
    unit, seconds, max_units = cells.whole("unit"), cells.number_of("seconds"), benchmark.resource.max_units
    if unit > max_units:
        message = f"is {unit}, but must be <= {max_units}, the full resource of benchmark {benchmark.name}"
        cells.refuse("unit", message)
    if not SECONDS[0] <= seconds <= SECONDS[1]:
        bounds = "> 0 and finite" if not 0 < seconds < math.inf else f"from {SECONDS[0]:g} to {SECONDS[1]:g}"
        cells.refuse("seconds", f"is {seconds:g}, but must be {bounds}: device time is what methods are held to")
    devices = cells.whole("devices")
    if devices > MOST_DEVICES:
        cells.refuse("devices", f"is {devices}, but must be <= {MOST_DEVICES}")
    reason = cells.texts.get("reason", "")
    if len(reason) > LONGEST_REASON:
        cells.refuse("reason", f"has {len(reason)} characters, but must have <= {LONGEST_REASON}: a sentence")
    outcome = cells.texts.get("outcome", "")
    if outcome and outcome not in OUTCOMES:
        cells.refuse("outcome", f"is {outcome!r}, but must be one of {', '.join(OUTCOMES)}, or empty")
    return Line(
        cells.number,
        cells.text("trial"),
        unit,
        _config(cells, benchmark),
        _metrics(cells, benchmark),
        seconds,
        devices,
        outcome,
        reason,
    )


def _config(cells: _Cells, benchmark: Benchmark) -> Config:
    """The line's hyperparameters, as the search space has them."""
    return {name: _value(cells, benchmark, name) for name in Hyperparameters.model_fields if name in cells.texts}


def _value(cells: _Cells, benchmark: Benchmark, name: str) -> Scalar:
    """A hyperparameter. It must lie in the search space: methods that searched different ones are not comparable."""
    text = cells.text(name)
    try:
        checked: Scalar = getattr(Hyperparameters(**{name: text}), name)
    except ValidationError as error:
        cells.refuse(name, f"{text!r} cannot be used: {error.errors()[0]['msg']}")
    if name in benchmark.space:
        value = value_in(benchmark.space[name], str(checked))
        if value is None:
            domain = describe(benchmark.space[name])
            cells.refuse(name, f"{text} lies outside the search space, {domain}; give the space that was searched")
        return value
    default: Scalar = getattr(benchmark.default, name)
    if checked != default:
        cells.refuse(
            name,
            f"is {text}, but the search space leaves it out and the benchmark's default is {default}; "
            "give the space that was searched",
        )
    return default


def _metrics(cells: _Cells, benchmark: Benchmark) -> dict[str, float]:
    """What the line has of metrics, and the perplexity, which follows from the loss."""
    metrics = {name: _metric(cells, name) for name in METRICS if cells.texts.get(name)}
    loss = metrics.get("eval_loss")
    if loss is None:
        return metrics
    metrics["perplexity"] = math.exp(min(loss, LONGEST_PERPLEXITY))  # of NaN it is NaN
    if benchmark.metric not in metrics and not _is_diverged(benchmark, metrics):
        cells.refuse(benchmark.metric, f"is empty, but benchmark {benchmark.name} ranks trials by it")
    return metrics


def _metric(cells: _Cells, name: str) -> float:
    value, highest = cells.number_of(name), METRICS[name]
    if name in LOSSES and not math.isfinite(value):  # diverged
        return value
    if not (math.isfinite(value) and 0 <= value <= highest):
        bounds = f"from 0 to {highest:g}; divide percentages by 100" if highest < math.inf else ">= 0 and finite"
        cells.refuse(name, f"is {value:g}, but must be {bounds}")
    return value


def _is_diverged(benchmark: Benchmark, metrics: Mapping[str, float]) -> bool:
    return is_diverged(benchmark, _with_train_loss(metrics))


def _with_train_loss(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics with something for a train loss that is not known, which then tells of no divergence."""
    return {"train_loss": metrics["eval_loss"], **metrics}


# ---- trials


def _trials(path: Path, lines: Sequence[Line], benchmark: Benchmark) -> dict[str, ExternalTrial]:
    by_name: dict[str, list[Line]] = {}
    for line in lines:
        by_name.setdefault(line.trial, []).append(line)
    return {name: _trial(path, own, benchmark) for name, own in by_name.items()}


def _trial(path: Path, lines: Sequence[Line], benchmark: Benchmark) -> ExternalTrial:
    _check_order(path, lines)
    outcome = _outcome(path, lines, benchmark)
    for line in lines:
        if "eval_loss" not in line.metrics and not (line is lines[-1] and outcome in ("failed", "diverged")):
            raise BenchmarkError(
                f"{path}, line {line.number}, column eval_loss: is empty, which only the last line of a trial may have "
                "whose outcome is failed or diverged"
            )
    return ExternalTrial(tuple(lines), outcome, next((line.reason for line in reversed(lines) if line.reason), ""))


def _check_order(path: Path, lines: Sequence[Line]) -> None:
    """Every unit of a trial once, and later ones in later lines."""
    seen: dict[int, int] = {}
    for line in lines:
        where = f"{path}, line {line.number}, column unit: trial {line.trial} "
        if line.unit in seen:
            raise BenchmarkError(f"{where}has unit {line.unit} already, in line {seen[line.unit]}")
        if seen and line.unit < max(seen):
            raise BenchmarkError(f"{where}was at unit {max(seen)} before; lines go as time does")
        seen[line.unit] = line.number


def _outcome(path: Path, lines: Sequence[Line], benchmark: Benchmark) -> str:
    """How a trial ended: as its lines say, if that may be; else by how far it got."""
    last, said = lines[-1], [line for line in lines if line.outcome]
    seen = _outcome_by_result(last, benchmark)
    if not said:
        return seen
    given, where = said[-1].outcome, f"{path}, line {said[-1].number}, column outcome: "
    if any(line.outcome != given for line in said):
        raise BenchmarkError(f"{where}is {given}, but trial {last.trial} is {said[0].outcome} in line {said[0].number}")
    if given in ("completed", "stopped") and given != seen:
        rule = f"unit {last.unit} of {benchmark.resource.max_units}, eval_loss {last.metrics.get('eval_loss', '')}"
        raise BenchmarkError(f"{where}is {given}, but trial {last.trial} is {seen} by its result: {rule}")
    return given


def _outcome_by_result(last: Line, benchmark: Benchmark) -> str:
    if "eval_loss" in last.metrics and _is_diverged(benchmark, last.metrics):
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
    if not (0 < len(accelerator.strip()) <= len(accelerator) <= LONGEST_ACCELERATOR and accelerator.isprintable()):
        raise BenchmarkError(
            f"accelerator is {accelerator!r}, but must be a name of <= {LONGEST_ACCELERATOR} characters, such as cpu"
        )


def _account(content: External, wall_seconds: float | None, devices: int | None) -> tuple[float, Shares]:
    """How long the study took, and its ledger: all that is known is how much time each trial took."""
    used, longest = content.device_seconds, max(trial.seconds for trial in content.trials.values())
    if devices is not None and (wall_seconds is None or devices < 1):
        raise BenchmarkError(f"devices is {devices}, but must be >= 1, and needs wall_seconds: how long they were held")
    wall = sum(line.seconds for line in content.lines) if wall_seconds is None else wall_seconds
    if not longest * (1 - ROUNDING) <= wall < math.inf:
        raise BenchmarkError(f"wall_seconds is {wall:g}, but must be >= {longest:g}, which one trial took, and finite")
    reserved = used if devices is None else devices * wall
    if not used * (1 - ROUNDING) <= reserved < math.inf:
        raise BenchmarkError(
            f"devices is {devices} for {wall:g} seconds, but {content.name} has {used:g} device-seconds, "
            f"which is more than {devices} devices give"
        )
    failed = [trial for trial in content.trials.values() if trial.outcome == "failed"]
    lost = sum(line.device_seconds for trial in failed for line in trial.lines)
    seconds = {**dict.fromkeys(PARTS, 0.0), "train": used - lost, "failed": lost, "idle": max(0.0, reserved - used)}
    return wall, Shares(seconds, reserved, used)


def _study(content: External, benchmark: Benchmark, method: str, seed: int, budget: int | None) -> Study:
    spent = max(1, math.ceil(content.units / benchmark.resource.max_units))
    if budget is not None and budget < spent:
        raise BenchmarkError(f"budget is {budget}, but {content.name} has {spent} full trainings")
    arguments = {"source": content.name, "sha256": content.checksum}
    return Study(method, benchmark, seed, spent if budget is None else budget, arguments=arguments)


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
    """Where the study comes from; the packages of this machine did not run it."""
    tags = {"source": "import", "source_file": content.name, "source_sha256": content.checksum, "ledger": "total"}
    return {f"hpo.{name}": value for name, value in tags.items()}


def _replay(content: External, study: Study, tracker: Tracker, wall_seconds: float) -> Results:
    """Let every trial begin, report and end as if it ran here, in the order of the lines.

    When a line happened is not known: the time of the study is shared out by device time, line after line, so that
    device-hours grow evenly.
    """
    results, spent = Results(study), 0.0
    seconds_per_device_second = wall_seconds / content.device_seconds
    for line in content.lines:
        trial = content.trials[line.trial]
        if line is trial.lines[0]:
            tracker.start_trial(_begin(results, line, trial, spent * seconds_per_device_second))
        spent += line.device_seconds
        now = spent * seconds_per_device_second
        if trial.reports(line):
            tracker.report_trial(_report(results, line, study.benchmark, now))
        else:
            results[line.trial].device_seconds += line.device_seconds
        if line is trial.lines[-1]:
            tracker.end_trial(_end(results, line, trial, now))
    return results


def _begin(results: Results, line: Line, trial: ExternalTrial, now: float) -> TrialRow:
    row = results.add(line.trial, {SCHEDULE: trial.schedule}, now)  # type: ignore[dict-item]  # as confirmations do
    row.exploits = len(trial.schedule) - 1  # its weights saw several configurations, wherever they came from
    return row


def _report(results: Results, line: Line, benchmark: Benchmark, now: float) -> TrialRow:
    metrics = {"eval_loss": math.nan, **line.metrics}
    result = {"units": line.unit, "objective": objective(benchmark, _with_train_loss(metrics)), "diverged": False}
    row = results.report(line.trial, {**metrics, **result, "train_seconds": line.seconds}, line.device_seconds, now)
    row.trained_units = line.unit
    return row


def _end(results: Results, line: Line, trial: ExternalTrial, now: float) -> TrialRow:
    if trial.outcome == "failed":
        return results.fail(line.trial, now, trial.reason or f"failed at unit {line.unit}")
    row = results[line.trial]
    if trial.outcome == "diverged":
        row.outcome, row.reason = "diverged", f"diverged at unit {line.unit}: eval loss {row.metrics['eval_loss']:g}"
    results.end(line.trial, now, budget_spent=False)
    row.reason = trial.reason or row.reason
    return row
