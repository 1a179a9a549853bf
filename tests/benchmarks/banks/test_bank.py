"""The file of a bank: it reads back as it was, by one line of pandas too, and a file that is none is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from benchmarks.banks import bank as banks
from benchmarks.banks.bank import KEY, Bank, Header
from benchmarks.banks.training import BankTraining
from benchmarks.files import BenchmarkError
from tests.benchmarks.banks import made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    banks.write(made.bank(), tmp_path / "made.parquet")
    return tmp_path / "made.parquet"


def comparable(training: BankTraining) -> str:
    return training.model_dump_json()  # NaN equals itself as text


def test_a_bank_reads_back_as_it_was_written(path: Path) -> None:
    before, after = made.bank(), banks.read(path)
    assert after.header == before.header
    assert list(map(comparable, after.trainings)) == list(map(comparable, before.trainings))


def test_one_line_of_pandas_reads_it(path: Path) -> None:
    table = pd.read_parquet(path)
    assert len(table) == 6 * 3 + 2 + 1
    first = table[(table.configuration == 0) & (table.seed == 0)]
    assert first.unit.tolist() == [1, 2, 3]
    assert first.learning_rate.unique().tolist() == [0.125]
    assert first.eval_loss.tolist() == [4.125, 2.125, 4.0 / 3 + 0.125]
    assert first.test_f1.tolist()[-1] == 0.75
    assert first.each_f1.tolist()[-1].tolist() == [1.0, 0.5]
    assert table.groupby("configuration").outcome.first().tolist() == ["completed"] * 3 + ["diverged", "out_of_memory"]
    assert math.isnan(table[table.outcome == "diverged"].eval_loss.tolist()[-1])
    assert table[table.outcome == "out_of_memory"].unit.tolist() == [0]


def test_configurations_keep_their_order_and_their_seeds_follow_each_other() -> None:
    late = made.training(0.125, 2)
    whole = Bank(made.HEADER, (*made.bank().trainings, late))
    assert [len(of_one) for of_one in whole.configurations()] == [3, 2, 2, 1, 1]
    assert banks.to_table(whole).column("configuration").to_pylist()[:9] == [0] * 9


def test_a_name_that_stands_for_two_columns_is_refused(tmp_path: Path) -> None:
    header = made.HEADER.model_copy(update={"hyperparameters": ("seed",)})
    with pytest.raises(BenchmarkError, match="'seed' is a column of every bank"):
        banks.write(Bank(header, ()), tmp_path / "made.parquet")
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="cannot be read"):
        banks.read(tmp_path / "none.parquet")


@pytest.mark.parametrize("length", [0, 3, 100, -1])
def test_a_file_that_is_cut_off_is_refused(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BenchmarkError, match="no Parquet file, or cut off"):
        banks.read(path)


def test_a_damaged_byte_never_ends_in_a_traceback(path: Path) -> None:
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            banks.read(path)
        except BenchmarkError:
            continue


def rewritten(path: Path, header: str | None = None, **columns: list[object]) -> None:
    table = parquet.read_table(path)
    for name, values in columns.items():
        table = table.append_column(name, pyarrow.array(values))
    kept = table.schema.metadata if header is None else {KEY: header}
    parquet.write_table(table.replace_schema_metadata(kept), path)


def test_a_table_of_another_program_is_no_bank(path: Path) -> None:
    parquet.write_table(parquet.read_table(path).replace_schema_metadata({}), path)
    with pytest.raises(BenchmarkError, match="a Parquet file, but no bank"):
        banks.read(path)


def test_another_schema_is_refused_with_both_versions(path: Path) -> None:
    rewritten(path, made.HEADER.model_copy(update={"schema_version": 7}).model_dump_json())
    with pytest.raises(BenchmarkError, match="its schema has version 7, but this suite reads 1"):
        banks.read(path)


def test_an_unknown_key_of_the_description_is_named(path: Path) -> None:
    rewritten(path, '{"colour": "red", ' + made.HEADER.model_dump_json()[1:])
    with pytest.raises(BenchmarkError, match="its description cannot be used: colour: unknown key"):
        banks.read(path)


def test_an_unknown_column_is_named(path: Path) -> None:
    rewritten(path, None, colour=["red"] * 21)
    with pytest.raises(BenchmarkError, match=r"its columns are not those of a bank \(colour\)"):
        banks.read(path)


def test_a_value_out_of_range_is_named(tmp_path: Path) -> None:
    odd = made.training(0.125, 0).model_copy(update={"outcome": "perhaps"})
    banks.write(Bank(made.HEADER, (odd,)), tmp_path / "made.parquet")
    with pytest.raises(BenchmarkError, match="a training cannot be used: outcome"):
        banks.read(tmp_path / "made.parquet")


@pytest.mark.slow  # banks grow
@pytest.mark.parametrize("name", banks.names())
def test_a_shipped_bank_can_be_read_and_has_a_card(name: str) -> None:
    path = banks.HERE / f"{name}.parquet"
    assert isinstance(banks.read(path).header, Header)
    assert path.stat().st_size <= 3 * 2**20
    assert path.with_suffix(".md").is_file()


def test_the_page_of_stored_names_describes_every_column() -> None:
    page = (banks.HERE.parents[1] / "docs/reference/stored.md").read_text()
    names = banks.column_names(made.HEADER.model_copy(update={"hyperparameters": (), "metrics": ()}), ())
    assert [name for name in names if f"`{name}`" not in page] == []
