"""Tables as text, numbers with their nouns, and the contestants beside every budget."""

from __future__ import annotations

import csv
import io

import pytest

from hpo.core.text_tables import csv_of, csv_text, markdown_cell, markdown_table
from hpo.core.traits import large_reference_budget
from hpo.core.wording import counted
from hpo.search import registry

HOSTILE = ["plain", 'a "quoted" one', "a, comma", "two\nlines", "=cmd|' /C calc'!A0", "", "|pipe|"]


def test_any_cell_survives_csv() -> None:
    text = csv_text([["name"] * len(HOSTILE), HOSTILE])
    assert list(csv.reader(io.StringIO(text)))[1] == HOSTILE


def test_rows_share_the_columns_of_the_first_and_none_is_empty() -> None:
    assert csv_of([{"a": 1, "b": None}, {"b": 0.1, "a": "x"}]) == "a,b\n1,\nx,0.1\n"
    assert csv_of([]) == ""


def test_a_row_that_lacks_a_column_is_a_bug() -> None:
    with pytest.raises(KeyError):
        csv_of([{"a": 1}, {"b": 1}])


def test_a_pipe_table_has_one_line_per_row_whatever_its_cells_hold() -> None:
    rows = [[markdown_cell(value)] for value in (*HOSTILE, None, 0.123456)]
    table = markdown_table(["cell"], rows)
    assert len(table.splitlines()) == 2 + len(rows)
    assert table.splitlines()[-2:] == ["|  |", "| 0.1235 |"]
    assert "\\|pipe\\|" in table


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (1, ("block",), "1 block"),
        (0, ("block",), "0 blocks"),
        (2, ("block",), "2 blocks"),
        (1, ("study", "studies"), "1 study"),
        (3, ("study", "studies"), "3 studies"),
    ],
)
def test_a_noun_follows_its_number(number: int, words: tuple[str, ...], expected: str) -> None:
    assert counted(number, *words) == expected


@pytest.mark.parametrize(
    ("method", "own_budget", "expected"),
    [("default", 1, True), ("random", 24, True), ("random", 12, False), ("random", 25, False), ("asha", 24, False)],
)
def test_the_default_and_the_larger_random_search_belong_beside_a_budget(
    method: str, own_budget: int, expected: bool
) -> None:
    assert large_reference_budget(12) == 24
    assert registry.traits_of(method).belongs_beside(own_budget, 12) is expected
