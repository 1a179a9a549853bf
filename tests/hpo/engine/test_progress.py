"""The lines and the live view that a study prints."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarks import spec
from benchmarks.tasks.task import TokenStatistics
from hpo.core.budget import Budget
from hpo.core.ledger import Ledger
from hpo.core.results import Results
from hpo.core.study import Study
from hpo.engine import progress
from hpo.engine.progress import Progress
from hpo.terminal import tables

STUDY = Study("asha", spec.load("synthetic"), seed=1, budget=2)
METRICS = {"eval_loss": 0.5, "exact_match": 0.6, "f1": 0.7, "train_loss": 0.4}


def results_of(units: int) -> Results:
    """Make the results of one trial that has reached `units`."""
    results = Results(STUDY)
    results.add("a", {"learning_rate": 1e-3}, now=0.0)
    results.report("a", {**METRICS, "units": units, "objective": 0.5, "diverged": False}, device_seconds=2.0, now=1.0)
    return results


def shown(
    results: Results,
    terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    place: progress.SuitePosition | None = None,
    paused: int = 0,
) -> str:
    """Print once with `show`, at two seconds and with nothing held back; returns the text."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.0)
    budget, ledger = Budget(STUDY.budget_units), Ledger(devices=1, devices_per_trial=1)
    budget.spend("a")
    ledger.report("a", {"train": 1.0}, now=2.0)
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    with Progress(STUDY, results, budget, ledger, console, place) as view:
        view.show(2.0, paused)
        return out.getvalue()


def test_a_log_file_gets_one_whole_line_without_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(results_of(3), terminal=False, monkeypatch=monkeypatch) == (
        "[0:02] asha seed 1: 1/18 units | left about 0:34 | best eval_loss 0.5000 EM 0.600 (trial 0, unit 3 of 9) | "
        "trials: 1 running | useful 50% of device time\n"
    )


def test_in_a_suite_the_line_has_the_study_s_place_and_the_time_left_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(results_of(3), False, monkeypatch, progress.SuitePosition(2, studies=3, units_after=18))
    assert text.startswith("study 2 of 3 | [0:02] asha seed 1: 1/18 units | left about 0:34, 1:10 for all studies | ")


TOKENS = [
    TokenStatistics("train", 2112, 62.14, 62.0, 75, 86, 160, 0.0, 0.0),
    TokenStatistics("test", 8, 301.5, 288.5, 512, 512, 160, 0.125, 0.25),
]


def test_what_the_data_are_like_stands_before_the_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    results = results_of(3)
    results.tokens = TOKENS
    title, *rows, line = filter(None, map(str.strip, shown(results, False, monkeypatch).splitlines()))
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
    results = results_of(3)
    results.tokens = TOKENS
    assert "tokens" not in shown(results, False, monkeypatch, progress.SuitePosition(2, studies=3, units_after=18))


def test_trials_that_wait_with_a_checkpoint_are_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "trials: 1 paused |" in shown(results_of(3), False, monkeypatch, paused=1)


def test_a_terminal_is_redrawn_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(results_of(9), terminal=True, monkeypatch=monkeypatch)
    assert "\x1b[" in text
    assert "best eval_loss 0.5000 EM 0.600 (trial 0)" in text


def test_before_the_first_result_there_is_no_best(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(Results(STUDY), terminal=False, monkeypatch=monkeypatch)
    assert "best none yet | trials: starting" in text


def test_the_table_puts_the_best_at_the_full_resource_first() -> None:
    results = Results(STUDY)
    for trial, units, loss in (("early", 1, 0.1), ("worse", 9, 0.9), ("best", 9, 0.5)):
        results.add(trial, {"learning_rate": 1e-3}, now=0.0)
        metrics = {**METRICS, "eval_loss": loss}
        results.report(
            trial, {**metrics, "units": units, "objective": loss, "diverged": False}, device_seconds=1.0, now=1.0
        )
        results.end(trial, now=1.0, budget_spent=False)
    console = Console(file=io.StringIO(), width=140, record=True)
    console.print(tables.results_table(STUDY, results.rows))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert [words[0] for words in lines if words and words[0].isdigit()] == ["2", "1", "0"]
