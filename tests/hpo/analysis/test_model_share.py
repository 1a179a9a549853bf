"""The share of proposals that come from a model: from the searcher through log and table to the comparison."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpo.analysis.studies import StudyRecord
from hpo.core.books import Books
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.simulated import simulated
from hpo.report.columns import columns
from hpo.store import files
from tests.hpo.engine.in_process import synthetic


def proposed_by_model(method: str, budget: int) -> tuple[list[bool | None], Books]:
    books = simulated(Study(method, synthetic(), 1, budget), InProcess(devices=1)).books
    return [row.by_model for row in books.rows], books


def record(books: Books) -> StudyRecord:
    return StudyRecord("a", "hyperopt", "", 1, 6, {}, {}, 0, {"trials.csv": files.trials_csv(synthetic(), books.rows)})


def test_tpe_s_model_proposes_after_its_first_points() -> None:
    """Two trials end before the model proposes; the third is drawn while the second trains."""
    told, books = proposed_by_model("hyperopt", 6)
    assert told == [False, False, False, True, True, True]
    assert record(books).model_share == pytest.approx(1 / 2)


def test_the_share_leaves_out_trials_of_which_it_is_not_known() -> None:
    """An array that was submitted by an older version, and resumed by this one."""
    _, books = proposed_by_model("hyperopt", 4)
    table = files.trials_csv(synthetic(), [replace(books.rows[0], by_model=None), *books.rows[1:]])
    assert [row.by_model for row in books.rows[1:]] == [False, False, True]
    assert StudyRecord("a", "hyperopt", "", 1, 4, {}, {}, 0, {"trials.csv": table}).model_share == pytest.approx(1 / 3)


def test_a_method_without_a_model_has_no_share() -> None:
    told, books = proposed_by_model("random", 2)
    assert told == [None, None]
    assert record(books).model_share is None
    assert "by_model" not in files.trials_csv(synthetic(), books.rows)


@pytest.mark.slow
def test_bohb_s_model_proposes_once_the_first_rung_has_results() -> None:
    told, books = proposed_by_model("bohb", 12)
    assert not any(told[:9])  # the first bracket at its first rung
    assert 0 < sum(map(bool, told[9:])) < len(told) - 9  # a share of draws stays random
    assert record(books).model_share == pytest.approx(sum(map(bool, told)) / len(told))


def test_the_report_has_a_column_of_it() -> None:
    assert "by model" in [column.heading for column in columns(synthetic())]
