"""A bank and its file: one Parquet table with a row per unit, and metadata that names benchmark and origin.

`pandas.read_parquet("benchmarks/banks/nano.parquet")` reads it; docs/reference/stored.md describes each column. Columns
of a training (hyperparameters, seed, outcome) repeat in each of its rows; its test scores stand in its last row. A
training without a unit has one row, with unit 0.

Reading takes numbers and texts from the file and runs no code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, model_validator

from benchmarks.banks.described import DescribedTable
from benchmarks.banks.training import BankSession, BankTraining, BankUnit, Identity
from benchmarks.faults import explained
from benchmarks.files import BenchmarkError, first_line, replacing_or_refusing
from benchmarks.space import Strict
from benchmarks.tasks.record_scores import pack, unpack
from benchmarks.tasks.task import Mode

if TYPE_CHECKING:  # its import takes a while, and the command line reads names of banks alone
    import pyarrow

HERE = Path(__file__).parent
SCHEMA_VERSION = 1
KEY = b"hpo_bank"
"""Key of the table's metadata that holds `Header` as JSON."""
EACH = "each_"
"""Prefix of a column with the scores of each record of the test split."""
TEST = "test_"
TRAINING_COLUMNS = ("configuration", "source", "seed", "session", "outcome", "reason", "micro_batch")
UNIT_COLUMNS = (
    "train_loss",
    "skipped_steps",
    "peak_memory_mb",
    "train_seconds",
    "evaluate_seconds",
    "train_cpu_seconds",
    "evaluate_cpu_seconds",
)
FIRST_ROW_COLUMNS = ("startup_seconds", "failed_seconds")
RESERVED = frozenset((*TRAINING_COLUMNS, *UNIT_COLUMNS, *FIRST_ROW_COLUMNS, "unit", "test_seconds"))
"""Names that no hyperparameter and no metric of a bank has."""


class Header(Strict):
    """Description of a bank.

    Attributes:
        schema_version: of the columns.
        name: of the bank, and of its benchmark.
        digest: of the benchmark; empty for trainings of another program, which have no benchmark here.
        description: one sentence on the trainings.
        licence: of the recorded figures.
        max_units: units of a training in full.
        metric: the validation metric that ranks trainings.
        hyperparameters: names of the columns that configure a training.
        metrics: names of the metrics of an evaluation, in the order of tables.
        modes: better direction of each of them.
        space: the search space that `random` configurations were drawn from, as in a benchmark's file.
        sessions: of the recording.
        planned: configurations and seeds that the recording aims at; 0 where nothing was planned.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    digest: str = ""
    description: str = ""
    licence: str = "Apache-2.0"
    max_units: int
    metric: str
    hyperparameters: tuple[str, ...]
    metrics: tuple[str, ...]
    modes: tuple[Mode, ...]
    space: dict[str, Any] = Field(default_factory=dict)
    sessions: tuple[BankSession, ...] = ()
    planned: tuple[int, int] = (0, 0)

    @model_validator(mode="after")
    def _check(self) -> Header:
        if len(self.modes) != len(self.metrics) or self.metric not in self.metrics:
            raise ValueError("metrics lacks the metric that ranks, or modes has another length")
        return self

    @property
    def mode(self) -> Mode:
        """Better direction of the ranking metric."""
        return self.modes[self.metrics.index(self.metric)]


TABLE = DescribedTable(KEY, SCHEMA_VERSION, Header, "bank", "bank of recorded trainings", "record it again")


@dataclass(frozen=True)
class Bank:
    """Recorded trainings.

    Attributes:
        header: their description.
        trainings: no two with the same hyperparameters and seed; those of one configuration follow each other.
    """

    header: Header
    trainings: tuple[BankTraining, ...]

    def by_identity(self) -> dict[Identity, BankTraining]:
        """Return the trainings by hyperparameters and seed."""
        return {training.identity: training for training in self.trainings}

    def configurations(self) -> list[list[BankTraining]]:
        """Return the trainings of each configuration, in order of seed; configurations in the order of the bank."""
        found: dict[Any, list[BankTraining]] = {}
        for training in self.trainings:
            found.setdefault(training.identity[0], []).append(training)
        return [sorted(of_one, key=lambda training: training.seed) for of_one in found.values()]

    def accelerators(self) -> list[str]:
        """Return the names of the accelerators that trainings were recorded on."""
        names = {session.key: session.accelerator for session in self.header.sessions}
        return sorted({names[training.session] for training in self.trainings} - {""})

    def on(self, accelerator: str) -> Bank:
        """Return the trainings that were recorded on an accelerator."""
        keys = {session.key for session in self.header.sessions if session.accelerator == accelerator}
        return Bank(self.header, tuple(training for training in self.trainings if training.session in keys))


def names() -> list[str]:
    """Return the names of the banks that come with the suite."""
    return sorted(path.stem for path in HERE.glob("*.parquet"))


def find(name_or_path: str) -> Path:
    """Return the file of a bank.

    Args:
        name_or_path: one of `names()`, or the path of a Parquet file.

    Raises:
        BenchmarkError: there is no such bank.
    """
    if name_or_path in names():
        return HERE / f"{name_or_path}.parquet"
    path = Path(name_or_path)
    if path.suffix != ".parquet":
        there = ", ".join(names()) or "none"
        raise BenchmarkError(f"no bank named {name_or_path!r}; there are {there}; or give the path of a Parquet file")
    return path


def require_names(hyperparameters: Iterable[str], metrics: Iterable[str]) -> None:
    """Refuse names that would stand for two columns.

    Raises:
        BenchmarkError: a name of a column of every bank.
    """
    for name in (*hyperparameters, *metrics):
        if name in RESERVED or name.startswith((TEST, EACH)):
            raise BenchmarkError(f"{name!r} is a column of every bank; rename the hyperparameter or metric")


# ---- writing


def write(bank: Bank, path: Path) -> None:
    """Write a bank, whole or not at all.

    Raises:
        BenchmarkError: the folder cannot be written.
    """
    from pyarrow import parquet

    require_names(bank.header.hyperparameters, bank.header.metrics)
    table = to_table(bank)
    with replacing_or_refusing(path, "give another folder with --output") as file:
        parquet.write_table(table, file, compression="zstd", compression_level=19, write_page_checksum=True)


def write_beside(path: Path, content: bytes) -> None:
    """Write a file that stands beside a bank (its card, its certificate), whole or not at all.

    Raises:
        BenchmarkError: the folder cannot be written.
    """
    with replacing_or_refusing(path, "copy the bank to a folder of yours") as file:
        file.write(content)


def to_table(bank: Bank) -> pyarrow.Table:
    """Return a bank as a table of Arrow, with its header as metadata."""
    import pyarrow

    header = bank.header
    columns: dict[str, list[Any]] = {}
    rows = [row for number, of_one in enumerate(bank.configurations()) for row in _rows_of(header, number, of_one)]
    for name in column_names(header, {figure for training in bank.trainings for figure in training.each}):
        columns[name] = [row.get(name) for row in rows]
    arrays = {name: _array(name, values, header) for name, values in columns.items()}
    return pyarrow.table(arrays).replace_schema_metadata({KEY: header.model_dump_json()})


def column_names(header: Header, figures: Iterable[str]) -> list[str]:
    """List the columns of a bank in order.

    Args:
        header: of the bank.
        figures: names of the figures of each record of the test split.
    """
    test = [f"{TEST}{name}" for name in header.metrics]
    before = [*TRAINING_COLUMNS[:4], *header.hyperparameters, *TRAINING_COLUMNS[4:], *FIRST_ROW_COLUMNS]
    each = [f"{EACH}{name}" for name in sorted(figures)]
    return [*before, "unit", *header.metrics, *UNIT_COLUMNS, *test, "test_seconds", *each]


def _rows_of(header: Header, number: int, trainings: Sequence[BankTraining]) -> Iterable[dict[str, Any]]:
    for training in trainings:
        every: dict[str, Any] = {
            **training.config,
            **{name: getattr(training, name) for name in TRAINING_COLUMNS[1:]},
            "configuration": number,
        }
        rows: list[dict[str, Any]] = [{**every, **_unit_row(unit)} for unit in training.units] or [{**every, "unit": 0}]
        rows[0] |= {name: getattr(training, name) for name in FIRST_ROW_COLUMNS}
        rows[-1] |= {f"{TEST}{name}": value for name, value in training.test.items()}
        rows[-1] |= {f"{EACH}{name}": unpack(text) for name, text in training.each.items()}
        rows[-1]["test_seconds"] = training.test_seconds
        yield from rows


def _unit_row(unit: BankUnit) -> dict[str, Any]:
    return {"unit": unit.unit, **unit.metrics, **{name: getattr(unit, name) for name in UNIT_COLUMNS}}


def _array(name: str, values: list[Any], header: Header) -> Any:
    """Make a column: metrics in 64 bits, seconds and memory in 32, scores of records in 16."""
    import numpy
    import pyarrow

    if name.startswith(EACH):
        halves = [None if value is None else numpy.array(value, dtype=numpy.float16) for value in values]
        return pyarrow.array(halves, pyarrow.list_(pyarrow.float16()))
    if name in header.hyperparameters:
        is_real = any(isinstance(value, float) for value in values)
        return pyarrow.array([float(value) if is_real and value is not None else value for value in values])
    if name in ("configuration", "unit", "micro_batch"):
        return pyarrow.array(values, pyarrow.int32())
    if name == "seed":
        return pyarrow.array(values, pyarrow.int64())
    if name in TRAINING_COLUMNS:
        return pyarrow.array(values, pyarrow.string())
    is_score = name in header.metrics or name == "train_loss" or (name.startswith(TEST) and name != "test_seconds")
    return pyarrow.array(values, pyarrow.float64() if is_score else pyarrow.float32())


# ---- reading


def read(path: Path) -> Bank:
    """Read a bank.

    Raises:
        BenchmarkError: the file is missing, cut off, no bank, of another schema, or its rows are no trainings.
    """
    from pyarrow import ArrowException, parquet

    try:
        with path.open("rb") as file:
            table = parquet.read_table(file, page_checksum_verification=True, use_threads=False)
        table.validate(full=True)
        return from_table(table, path)
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from None
    except (ArrowException, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{path}: no Parquet file, or cut off ({first_line(error)}); copy it again") from None


def from_table(table: pyarrow.Table, path: Path) -> Bank:
    """Return the bank of a table.

    Args:
        table: as `to_table` makes it.
        path: its file, for errors.

    Raises:
        BenchmarkError: see `read`.
    """
    header = TABLE.header_in(table.schema.metadata or {}, str(path))
    figures = [name.removeprefix(EACH) for name in table.column_names if name.startswith(EACH)]
    TABLE.require_columns(table.column_names, column_names(header, figures), str(path))
    try:
        return Bank(header, tuple(_trainings(header, figures, table.to_pylist())))
    except ValidationError as error:
        raise BenchmarkError(f"{path}: a training cannot be used: {explained(error, BankTraining)}") from None


def _trainings(header: Header, figures: Sequence[str], rows: Sequence[dict[str, Any]]) -> Iterable[BankTraining]:
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["configuration"], row["seed"]), []).append(row)
    for of_one in groups.values():
        first, last = of_one[0], of_one[-1]
        test = {name: last[f"{TEST}{name}"] for name in header.metrics if last[f"{TEST}{name}"] is not None}
        config = {name: first[name] for name in header.hyperparameters if first[name] is not None}
        yield BankTraining.model_validate(
            {
                **{name: first[name] for name in (*TRAINING_COLUMNS[1:], *FIRST_ROW_COLUMNS)},
                "config": config,
                "units": [_unit_of(header, row) for row in of_one if row["unit"]],
                "test": test,
                "test_seconds": last["test_seconds"],
                "each": {name: pack(last[f"{EACH}{name}"]) for name in figures if last[f"{EACH}{name}"] is not None},
            }
        )


def _unit_of(header: Header, row: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {name: row[name] for name in header.metrics if row[name] is not None}
    return {"unit": row["unit"], "metrics": metrics, **{name: row[name] for name in UNIT_COLUMNS}}
