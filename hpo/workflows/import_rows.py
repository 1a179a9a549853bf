"""The rows of a CSV file with a study that was run elsewhere, each checked by itself.

`CsvRow` states the rule of each column as a pydantic field. Every error names file, line and column. docs/import.md
describes the columns.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    create_model,
    field_validator,
)
from pydantic_core import ErrorDetails

from benchmarks.files import read_bytes
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.space import Config, Scalar, describe, value_in
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import LOSS, PERPLEXITY, TRAIN_LOSS, Metric, perplexity
from hpo.core.study import is_diverged

HYPERPARAMETERS = tuple(Hyperparameters.model_fields)
REQUIRED = ("trial", "unit", LOSS.name, "seconds", "devices")
RESOURCES = ("samples_per_second", "peak_memory_mb")
TEXTS = ("by_model", "outcome", "reason")
"""Columns about a trial, whose cells may be empty."""
OUTCOMES = ("completed", "stopped", "diverged", "failed")
MAX_REASON_CHARACTERS = 4000
MIN_SECONDS, MAX_SECONDS = 1e-6, 1e10
"""A row takes no less than a microsecond, and no more than three centuries."""
MAX_DEVICES = 2**31


def figures(benchmark: Benchmark) -> tuple[str, ...]:
    """Return the columns of losses, of the task's metrics and of resources, whose cells may be empty."""
    return (LOSS.name, TRAIN_LOSS, *(metric.name for metric in benchmark.task.metrics), *RESOURCES)


def columns(benchmark: Benchmark) -> tuple[str, ...]:
    """Return all columns that a file may have, beside those of hyperparameters."""
    return (*REQUIRED, *(name for name in figures(benchmark) if name not in REQUIRED), *TEXTS)


# ---- the rule of each cell


def _number(text: str) -> float:
    """Read a number, also one that is not finite."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _whole(text: str) -> int:
    """Read a whole number from 1 on, also one that is written as 2.0."""
    value = _number(text)
    if not (math.isfinite(value) and value.is_integer() and value >= 1):
        raise ValueError(f"{text!r} is not a whole number >= 1")
    return int(value)


def _devices(value: int) -> int:
    if value > MAX_DEVICES:
        raise ValueError(f"is {value}, but must be <= {MAX_DEVICES}")
    return value


def _seconds(value: float) -> float:
    if not MIN_SECONDS <= value <= MAX_SECONDS:
        bounds = "> 0 and finite" if not 0 < value < math.inf else f"from {MIN_SECONDS:g} to {MAX_SECONDS:g}"
        raise ValueError(f"is {value:g}, but must be {bounds}: methods are held to device time")
    return value


def _loss(value: float) -> float:
    """Let losses that are not finite pass: they diverged."""
    return _amount(value) if math.isfinite(value) else value


def _amount(value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"is {value:g}, but must be >= 0 and finite")
    return value


def _within(metric: Metric) -> Callable[[float], float]:
    """Return a check that a value is one that the metric can have."""
    low, high = metric.bounds
    advice = "; divide percentages by 100" if (low, high) == (0, 1) else ""

    def check(value: float) -> float:
        if not low <= value <= high:
            raise ValueError(f"is {value:g}, but must be from {low:g} to {high:g}{advice}")
        return value

    return check


def _outcome(text: str) -> str:
    if text not in OUTCOMES:
        raise ValueError(f"is {text!r}, but must be one of {', '.join(OUTCOMES)}, or empty")
    return text


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"is {text!r}, but must be true or false, or empty")
    return text.lower() == "true"


def _reason(text: str) -> str:
    if len(text) > MAX_REASON_CHARACTERS:
        raise ValueError(f"has {len(text)} characters, but must have <= {MAX_REASON_CHARACTERS}: a sentence")
    return text


Number = Annotated[float, Field(allow_inf_nan=True), BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Loss = Annotated[Number, AfterValidator(_loss)]
Amount = Annotated[Number, AfterValidator(_amount)]


def _benchmark(where: ValidationInfo) -> Benchmark:
    assert isinstance(where.context, Benchmark)
    return where.context


Outcome = Literal["", "completed", "stopped", "diverged", "failed"]


class CsvRow(Hyperparameters):
    """One row of a file: the work of a trial since its previous row, and its hyperparameters meanwhile.

    It is validated with the benchmark as context. `row_type` adds the columns of a task's metrics.

    Attributes:
        number: line of the file that the row ends in; the heading is line 1.
        trial: the trial's name.
        unit: resource units that the trial had reached.
        eval_loss: mean cross entropy on validation; None where there was no evaluation. All metrics may be None.
        seconds: wall seconds.
        devices: devices that the trial occupied.
        by_model: whether a model of earlier results proposed the trial; None if the file does not say.
        outcome: how the trial ended; empty if the file does not say.
        reason: why it ended, in a sentence; empty if the file does not say.
    """

    number: int
    trial: str
    unit: Whole
    seconds: Annotated[Number, AfterValidator(_seconds)]
    devices: Annotated[Whole, AfterValidator(_devices)]
    by_model: Annotated[bool | None, BeforeValidator(_truth)] = None
    outcome: Annotated[Outcome, BeforeValidator(_outcome)] = ""
    reason: Annotated[str, AfterValidator(_reason)] = ""
    eval_loss: Loss | None = None
    train_loss: Loss | None = None
    samples_per_second: Amount | None = None
    peak_memory_mb: Amount | None = None
    scores: ClassVar[tuple[str, ...]] = ()

    @property
    def config(self) -> Config:
        """The hyperparameters that the file has, as the search space has them."""
        return {name: getattr(self, name) for name in HYPERPARAMETERS if name in self.model_fields_set}

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics that the file has, and the perplexity, which follows from the loss."""
        names = (LOSS.name, TRAIN_LOSS, *self.scores, *RESOURCES)
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.eval_loss is not None:
            found[PERPLEXITY] = perplexity(self.eval_loss)
        return found

    @property
    def device_seconds(self) -> float:
        """Seconds of all its devices."""
        return self.seconds * self.devices

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, text: Any, where: ValidationInfo) -> Any:
        """Refuse control characters, and a cell that is empty and must not be."""
        if isinstance(text, str):
            if any(unicodedata.category(character) == "Cc" for character in text):
                raise ValueError(f"{text!r} has a control character; remove it")
            if not text:
                raise ValueError("is empty")
        return text

    @field_validator("unit")
    @classmethod
    def _check_resource(cls, unit: int, where: ValidationInfo) -> int:
        benchmark = _benchmark(where)
        if unit > benchmark.resource.max_units:
            limit = f"{benchmark.resource.max_units}, the full resource of benchmark {benchmark.name}"
            raise ValueError(f"is {unit}, but must be <= {limit}")
        return unit

    @field_validator(*HYPERPARAMETERS, mode="wrap")
    @classmethod
    def _check_space(cls, text: Any, checked: ValidatorFunctionWrapHandler, where: ValidationInfo) -> Scalar:
        """Return the value as the search space has it: methods that searched other spaces are not comparable."""
        benchmark = _benchmark(where)
        name, value, advice = str(where.field_name), checked(text), "give the space that was searched"
        if name in benchmark.space:
            found, domain = value_in(benchmark.space[name], str(value)), describe(benchmark.space[name])
            if found is None:
                raise ValueError(f"{text} lies outside the search space, {domain}; {advice}")
            return found
        default: Scalar = getattr(benchmark.default, name)
        if value != default:
            raise ValueError(
                f"is {text}, but the search space leaves it out and the benchmark's default is {default}; {advice}"
            )
        return default


@cache
def row_type(metrics: tuple[Metric, ...]) -> type[CsvRow]:
    """Return the rows of a task with these metrics."""
    names = tuple(metric.name for metric in metrics)
    cells: dict[str, Any] = {
        metric.name: (
            Annotated[Number, AfterValidator(_within(metric))] | None,
            Field(default=None, validate_default=True),
        )
        for metric in metrics
    }
    checks: dict[str, Any] = {"check_ranking": field_validator(*names)(_check_ranking)} if names else {}
    made: type[CsvRow] = create_model("CsvRow", __base__=CsvRow, __validators__=checks, **cells)
    made.scores = names
    return made


def _check_ranking(value: float | None, where: ValidationInfo) -> float | None:
    """Refuse a trial with a sound loss that lacks the metric by which the benchmark ranks trials."""
    benchmark = _benchmark(where)
    losses = {name: loss for name in (LOSS.name, TRAIN_LOSS) if (loss := where.data.get(name)) is not None}
    is_ranked = where.field_name == benchmark.metric and LOSS.name in losses
    if value is None and is_ranked and not has_diverged(benchmark, losses):
        raise ValueError(f"is empty, but benchmark {benchmark.name} ranks trials by it")
    return value


def read_rows(path: Path, benchmark: Benchmark) -> tuple[str, tuple[CsvRow, ...]]:
    """Read the rows of a file, each checked by itself.

    Args:
        path: the CSV file, in UTF-8, with commas and a heading.
        benchmark: the benchmark that was tuned.

    Returns:
        The file's SHA-256, and its rows in order.

    Raises:
        BenchmarkError: the file cannot be used; the message names file, line and column.
    """
    try:
        raw = read_bytes(path)
        cells = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        table = [(cells.line_num, row) for row in cells if any(cell.strip() for cell in row)]
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{path}: not UTF-8 (byte {error.start + 1}); save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise BenchmarkError(f"{path}, line {cells.line_num}: not valid CSV ({error})") from None
    if len(table) < 2:
        found = "only a heading" if table else "nothing"
        raise BenchmarkError(f"{path}: {found} in it, but an import needs a heading and a line per trial and unit")
    heading = _heading(path, [cell.strip() for cell in table[0][1]], benchmark)
    rows = tuple(_row(path, number, heading, row, benchmark) for number, row in table[1:])
    return hashlib.sha256(raw).hexdigest(), rows


def has_diverged(benchmark: Benchmark, metrics: Mapping[str, float]) -> bool:
    """Tell whether metrics with an eval loss are those of a diverged trial."""
    return is_diverged(benchmark, with_train_loss(metrics))


def with_train_loss(metrics: Mapping[str, float]) -> dict[str, float]:
    """Fill in a train loss that is not known with the eval loss, so that it tells of no divergence of its own."""
    return {TRAIN_LOSS: metrics[LOSS.name], **metrics}


# ---- heading and rows


def _heading(path: Path, names: list[str], benchmark: Benchmark) -> list[str]:
    """Check the heading: all of its names known, none twice and none missing."""
    known = (*columns(benchmark), *HYPERPARAMETERS)
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
    if not set(names) & set(HYPERPARAMETERS):
        raise BenchmarkError(f"{path}, line 1: there is no hyperparameter; known are {', '.join(HYPERPARAMETERS)}")
    return names


def _row(path: Path, number: int, heading: Sequence[str], row: Sequence[str], benchmark: Benchmark) -> CsvRow:
    """Read a row; of several faults, the leftmost is reported."""
    may_be_empty = (*figures(benchmark), *TEXTS)
    if len(row) != len(heading):
        raise BenchmarkError(f"{path}, line {number}: has {len(row)} cells, but the heading has {len(heading)}")
    texts = {name: " ".join(cell.split()) for name, cell in zip(heading, row, strict=True)}
    given = {name: text for name, text in texts.items() if text or name not in may_be_empty}
    try:
        return row_type(benchmark.task.metrics).model_validate({"number": number, **given}, context=benchmark)
    except ValidationError as error:
        fault = min(error.errors(), key=lambda fault: heading.index(str(fault["loc"][0])))
        raise BenchmarkError(f"{path}, line {number}, column {fault['loc'][0]}: {_message(fault)}") from None


def _message(fault: ErrorDetails) -> str:
    """State the rule that a cell breaks: ours, or that of the hyperparameter's type."""
    ours = fault.get("ctx", {}).get("error")
    return str(ours) if ours else f"{fault['input']!r} cannot be used: {fault['msg']}"
