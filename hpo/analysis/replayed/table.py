"""The file of a replay: one Parquet table with a row per study, and metadata that name benchmark and bank.

`pandas.read_parquet("replays/nano_recorded.parquet")` reads it; docs/replay.md describes each column. Reading takes
numbers and texts from the file and runs no code.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from benchmarks.banks.described import DescribedTable
from benchmarks.faults import explained
from benchmarks.files import BenchmarkError, first_line, read_bytes, replacing_or_refusing
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from hpo.analysis.replayed.study import (
    OUTCOMES,
    SCHEMA_VERSION,
    FreshTraining,
    Improvement,
    ReplayedStudy,
    ReplayHeader,
)
from hpo.core.ledger import PARTS

if TYPE_CHECKING:  # its import takes a while
    import pyarrow

KEY = b"hpo_replay"
"""Key of the table's metadata that holds `ReplayHeader` as JSON."""
TABLE = DescribedTable(KEY, SCHEMA_VERSION, ReplayHeader, "replay", "replay of studies", "replay it again")
SUFFIX = ".parquet"
REQUEST = ("method", "variant", "seed", "budget")
FIGURES = ("reason", "units", "wall_seconds", "device_seconds", "model_share", "incumbent_units", "cpu_seconds")
IMPROVEMENT_COLUMNS = {name: f"incumbent_at_{name}" for name in Improvement.model_fields}
"""Column of each part of an improvement of the incumbent, a list per study."""


@dataclass(frozen=True)
class Replay:
    """Replayed studies.

    Attributes:
        header: their description.
        studies: no two of the same method, arguments, seed and budget.
    """

    header: ReplayHeader
    studies: tuple[ReplayedStudy, ...]


# ---- writing


def write(replay: Replay, path: Path) -> None:
    """Write a replay, whole or not at all.

    Raises:
        BenchmarkError: the folder cannot be written.
    """
    content = to_bytes(replay)
    with replacing_or_refusing(path, "give another folder with --output") as file:
        file.write(content)


def to_bytes(replay: Replay) -> bytes:
    """Return the content of a replay's file."""
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(to_table(replay), buffer, compression="zstd", compression_level=9, write_page_checksum=True)
    return buffer.getvalue()


def to_table(replay: Replay) -> pyarrow.Table:
    """Return a replay as a table of Arrow, with its header as metadata."""
    import pyarrow

    schema = _schema(replay.header.content, [study.config for study in replay.studies])
    rows = [_row(study, replay.header.content) for study in replay.studies]
    columns = {field.name: pyarrow.array([row.get(field.name) for row in rows], field.type) for field in schema}
    return pyarrow.table(columns, schema).replace_schema_metadata({KEY: replay.header.model_dump_json()})


def column_names(benchmark: Benchmark) -> list[str]:
    """List the columns of a replay of a benchmark, in order."""
    return [
        *REQUEST,
        *FIGURES,
        *OUTCOMES,
        *(f"{part}_seconds" for part in PARTS),
        *(f"config_{name}" for name in hyperparameters(benchmark)),
        *(f"{kind}_{metric.name}" for kind in ("best", "test") for metric in benchmark.metrics),
        *("fresh_seed", "fresh_device_seconds"),
        *(f"fresh_{prefix}{metric.name}" for prefix in ("", "test_") for metric in benchmark.metrics),
        *IMPROVEMENT_COLUMNS.values(),
    ]


def hyperparameters(benchmark: Benchmark) -> list[str]:
    """List the hyperparameters of a trial that are stored, in order."""
    return list({**benchmark.default.model_dump(exclude_unset=True), **benchmark.space})


def _schema(benchmark: Benchmark, configs: Sequence[Config]) -> pyarrow.Schema:
    import pyarrow

    whole, real, text = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
    kinds: dict[str, pyarrow.DataType] = dict.fromkeys(column_names(benchmark), real)
    kinds |= dict.fromkeys(("method", "variant", "reason"), text)
    kinds |= dict.fromkeys(("seed", "budget", "units", "incumbent_units", *OUTCOMES), whole)
    for name in kinds:
        if name.startswith(("fresh_", "incumbent_at_")):
            kinds[name] = pyarrow.list_(whole if name in ("fresh_seed", "incumbent_at_units") else real)
    for name in hyperparameters(benchmark):
        values = [config[name] for config in configs if name in config]
        kinds[f"config_{name}"] = _type_of(values)
    return pyarrow.schema(list(kinds.items()))


def _type_of(values: Sequence[Any]) -> pyarrow.DataType:
    """Return the type of a hyperparameter's column: whole numbers beside real ones are real."""
    import pyarrow

    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return pyarrow.bool_()
    if kinds == {int}:
        return pyarrow.int64()
    return pyarrow.float64() if kinds <= {int, float} else pyarrow.string()


def _row(study: ReplayedStudy, benchmark: Benchmark) -> dict[str, Any]:
    names = [metric.name for metric in benchmark.metrics]
    fresh, found = study.fresh, study.improvements
    return {
        **{name: getattr(study, name) for name in (*REQUEST, *FIGURES)},
        **{outcome: study.outcomes.get(outcome, 0) for outcome in OUTCOMES},
        **{f"{part}_seconds": study.parts.get(part, 0.0) for part in PARTS},
        **{f"config_{name}": value for name, value in study.config.items()},
        **{f"best_{name}": study.best.get(name) for name in names},
        **{f"test_{name}": study.test.get(name) for name in names},
        "fresh_seed": [one.seed for one in fresh],
        "fresh_device_seconds": [one.device_seconds for one in fresh],
        **{
            f"fresh_{prefix}{name}": [one.metrics.get(f"{prefix}{name}") for one in fresh]
            for prefix in ("", "test_")
            for name in names
        },
        **{column: [getattr(one, name) for one in found] for name, column in IMPROVEMENT_COLUMNS.items()},
    }


# ---- reading


def read(path: Path) -> Replay:
    """Read a replay.

    Raises:
        BenchmarkError: the file is missing, cut off, no replay, of another schema, or its rows are no studies.
    """
    return from_bytes(read_bytes(path), str(path))


def from_bytes(content: bytes, source: str) -> Replay:
    """Return the replay of a file's content.

    Args:
        content: as `to_bytes` makes it.
        source: its name in errors.

    Raises:
        BenchmarkError: see `read`.
    """
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(io.BytesIO(content), page_checksum_verification=True, use_threads=False)
        table.validate(full=True)
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{source}: no Parquet file, or cut off ({first_line(error)}); copy it again") from None
    header = TABLE.header_in(table.schema.metadata or {}, source)
    try:
        benchmark = header.content
        TABLE.require_columns(table.column_names, column_names(benchmark), source)
        return Replay(header, tuple(_study(row, benchmark) for row in table.to_pylist()))
    except ValidationError as error:
        raise BenchmarkError(f"{source}: a study cannot be used: {explained(error, ReplayedStudy)}") from None


def _study(row: Mapping[str, Any], benchmark: Benchmark) -> ReplayedStudy:
    names = [metric.name for metric in benchmark.metrics]
    return ReplayedStudy(
        **{name: row[name] for name in (*REQUEST, *FIGURES)},
        outcomes={outcome: row[outcome] for outcome in OUTCOMES if row[outcome]},
        parts={part: row[f"{part}_seconds"] for part in PARTS},
        config=_known({name: row[f"config_{name}"] for name in hyperparameters(benchmark)}),
        best=_known({name: row[f"best_{name}"] for name in names}),
        test=_known({name: row[f"test_{name}"] for name in names}),
        fresh=tuple(_fresh(row, number, names) for number in range(len(row["fresh_seed"]))),
        improvements=tuple(_improvement(row, number) for number in range(len(row["incumbent_at_units"]))),
    )


def _improvement(row: Mapping[str, Any], number: int) -> Improvement:
    return Improvement(**{name: row[column][number] for name, column in IMPROVEMENT_COLUMNS.items()})


def _fresh(row: Mapping[str, Any], number: int, names: Sequence[str]) -> FreshTraining:
    metrics = {f"{prefix}{name}": row[f"fresh_{prefix}{name}"][number] for prefix in ("", "test_") for name in names}
    return FreshTraining(
        seed=row["fresh_seed"][number], metrics=_known(metrics), device_seconds=row["fresh_device_seconds"][number]
    )


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
