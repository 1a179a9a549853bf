"""The lines and the live view that a study prints."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks import spec
from benchmarks.tasks.task import TokenStatistics
from hpo.core.books import Books
from hpo.core.budget import Budget
from hpo.core.study import Study
from hpo.engine import progress
from hpo.engine.progress import Progress
from hpo.terminal import tables
from tests.hpo.told import Told

STUDY = Study("asha", spec.load("synthetic"), seed=1, budget=2)
METRICS = {"eval_loss": 0.5, "exact_match": 0.6, "f1": 0.7, "train_loss": 0.4}


def books_of(units: int) -> Books:
    """Make the books of one trial that has reached `units`, and has trained in half of its time."""
    told = Told(STUDY)
    told.begin("a", {"learning_rate": 1e-3})
    told.report("a", {**METRICS, "units": units, "objective": 0.5}, device_seconds=1.0, at=2.0)
    return told.books


def shown(
    books: Books,
    terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    place: progress.SuitePosition | None = None,
    paused: int = 0,
) -> str:
    """Print once with `show`, at two seconds and with nothing held back; returns the text."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.0)
    budget = Budget(STUDY.budget_units)
    budget.spend("a")
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    with Progress(STUDY, books, budget, console, place) as view:
        view.show(2.0, paused)
        return out.getvalue()


def test_a_log_file_gets_one_whole_line_without_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(books_of(3), terminal=False, monkeypatch=monkeypatch) == (
        "[0:02] asha seed 1: 1/18 units | left about 0:34 | best eval_loss 0.5000 EM 0.600 (trial 0, unit 3 of 9) | "
        "trials: 1 running | useful 50% of device time\n"
    )


@pytest.mark.parametrize(
    ("metric", "mode", "scores"),
    [
        ("eval_loss", "min", "eval_loss 0.5000 EM 0.600"),
        ("exact_match", "max", "eval_loss 0.5000 EM 0.600"),
        ("f1", "max", "eval_loss 0.5000 F1 0.700"),
    ],
)
def test_the_best_trial_is_shown_with_the_metric_that_is_tuned(metric: str, mode: str, scores: str) -> None:
    benchmark = STUDY.benchmark.model_copy(update={"metric": metric, "mode": mode})
    assert tables.describe_incumbent(replace(STUDY, benchmark=benchmark), books_of(9)) == f"{scores} (trial 0)"


def test_in_a_suite_the_line_has_the_study_s_place_and_the_time_left_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(books_of(3), False, monkeypatch, progress.SuitePosition(2, studies=3, units_after=18))
    assert text.startswith("study 2 of 3 | [0:02] asha seed 1: 1/18 units | left about 0:34, 1:10 for all studies | ")


TOKENS = [
    TokenStatistics("train", 2112, 62.14, 62.0, 75, 86, 160, 0.0, 0.0),
    TokenStatistics("test", 8, 301.5, 288.5, 512, 512, 160, 0.125, 0.25),
]


def test_what_the_data_are_like_stands_before_the_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    books = books_of(3)
    books.tokens = TOKENS
    title, *rows, line = filter(None, map(str.strip, shown(books, False, monkeypatch).splitlines()))
    assert title == "tokens of prompt and answer, at most 160"
    assert [row.split() for row in rows[:2]] == [
        ["contexts", "answers"],
        "split questions mean median 95 % longest cut cut".split(),
    ]
    assert [row.split() for row in rows[3:]] == [
        "train 2112 62.1 62 75 86 0.0% 0.0%".split(),
        "test 8 301.5 288.5 512 512 12.5% 25.0%".split(),
    ]
    assert line.startswith("[0:02] asha seed 1")


def test_in_a_suite_it_was_shown_before_the_first_study(monkeypatch: pytest.MonkeyPatch) -> None:
    books = books_of(3)
    books.tokens = TOKENS
    assert "tokens" not in shown(books, False, monkeypatch, progress.SuitePosition(2, studies=3, units_after=18))


def test_trials_that_wait_with_a_checkpoint_are_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "trials: 1 paused |" in shown(books_of(3), False, monkeypatch, paused=1)


def test_a_terminal_is_redrawn_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(books_of(9), terminal=True, monkeypatch=monkeypatch)
    assert "\x1b[" in text
    assert "best eval_loss 0.5000 EM 0.600 (trial 0)" in text


def test_before_the_first_result_there_is_no_best(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(Books(STUDY.benchmark), terminal=False, monkeypatch=monkeypatch)
    assert "best none yet | trials: starting" in text


def test_the_table_puts_the_best_at_the_full_resource_first() -> None:
    told = Told(STUDY)
    for trial, units, loss in (("early", 1, 0.1), ("worse", 9, 0.9), ("best", 9, 0.5)):
        told.begin(trial, {"learning_rate": 1e-3})
        told.report(trial, {**METRICS, "eval_loss": loss, "units": units, "objective": loss})
        told.end(trial)
    console = Console(file=io.StringIO(), width=140, record=True)
    console.print(tables.results_table(STUDY, told.books.rows))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert [words[0] for words in lines if words and words[0].isdigit()] == ["2", "1", "0"]
