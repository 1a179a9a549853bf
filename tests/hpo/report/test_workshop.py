"""Result tables of the workshop, from stored studies."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks import spec
from benchmarks.spec import BenchmarkError
from hpo.app.cli import main
from hpo.core.study import Study
from hpo.report import workshop
from hpo.store.runs import CommandRun
from hpo.store.tracker import Tracker
from tests.hpo.told import Told
from tests.stores import working_in

AS_WRITTEN = "start_with_default=False shift=False"
SERIAL = f"{AS_WRITTEN} concurrency=1"
CONFIG = {"learning_rate": 1e-3, "batch_size_per_device": 8, "weight_decay": 0.0}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with working_in(tmp_path):
        yield tmp_path


def store(
    method: str, *units: int, budget: int = 4, variant: str = "", loss: float = 0.5, by_budget: Sequence[int] = ()
) -> None:
    """Store a study whose trials end at these units, each with a lower loss than the one before.

    The budget ends the trials whose numbers are in `by_budget`, the method the others.
    """
    study = Study(method, spec.load("synthetic"), budget=budget, variant=variant)
    told = Told(study, Tracker(study, "cpu", "python -m hpo run"))
    for number, reached in enumerate(units):
        name, scores = str(number), {"eval_loss": loss - 0.1 * number, "train_loss": 0.4, "exact_match": 0.5, "f1": 0.6}
        told.begin(name, CONFIG)
        told.report(name, {"units": reached, "objective": 0.5, **scores}, device_seconds=10.0)
        told.end(name, budget_spent=number in by_budget)
    told.finish(at=60.0)


def table(number: int, name: str) -> list[dict[str, str]]:
    [rows] = [one.rows for one in workshop.tables(number, "synthetic") if one.name == name]
    return [{key: str(value) for key, value in row.items()} for row in rows]


@pytest.mark.slow
def test_a_chapter_shows_the_newest_study_of_each_method_with_its_arguments(folder: Path) -> None:
    store("asha", 9, loss=0.9)
    store("asha", 9, 1)
    store("asha", 9, variant="reduction_factor=9.0")
    store("random", 9)
    store("pbt", 9)
    rows = table(3, "studies")
    assert [(row["method"], row["trials"]) for row in rows] == [
        ("random", "1.0"),
        ("asha", "2.0"),
        ("asha reduction_factor=9.0", "1.0"),
    ]


@pytest.fixture
def all_chapters(folder: Path) -> None:
    """Store the studies of every chapter, and others of the same methods."""
    store("manual", *[9] * 3, budget=3, variant=AS_WRITTEN)
    store("manual", *[9] * 12, budget=12, variant=SERIAL)
    store("manual", 9, budget=12)
    for variant in ("", "evaluation=asynchronous", "evaluation=batch", "evaluation=sequential"):
        store("random", 9, variant=variant)
    store("asha", 9, 1, variant="reduction_factor=9.0")
    store("asha", 9, 1, 1)
    store("pbt", 9)
    for method in ("hyperopt", "bohb", "hyperband", "random", "asha", "pbt"):
        store(method, 9, budget=9)
    store("optuna", 9, 9, budget=6, variant="evaluation=asynchronous")
    store("optuna", 9, budget=6)
    store("optuna", 9, 9, 9, budget=12)


@pytest.mark.slow
def test_each_table_shows_the_studies_of_its_own_chapter_in_the_page_s_order(all_chapters: None) -> None:
    shown = {
        number: [f"{row['method']} {row['budget']}" for row in table(number, "studies")] for number in (3, 4, 5, 6)
    }
    assert shown == {
        3: ["random 4", "asha 4", "asha reduction_factor=9.0 4"],
        4: ["pbt 4"],
        5: ["hyperband 9", "bohb 9", "hyperopt 9"],
        6: [f"random evaluation={way} 4" for way in ("sequential", "batch", "asynchronous")],
    }
    assert [len(table(number, "trials")) for number in (1, 2, 7)] == [3, 12, 1]
    store("optuna", 9, 9, budget=6, variant="evaluation=asynchronous")
    assert len(table(7, "trials")) == 2  # the newest of the two ways
    of_all = [f"{row['method']} {row['budget']}" for row in table(9, "studies")]
    assert len(of_all) == len(set(of_all)) == 19
    assert {"random 4", "random 9", "optuna 6", "optuna 12"} <= set(of_all)


def test_rungs_count_the_trials_that_reached_them_and_those_that_stopped(folder: Path) -> None:
    store("asha", 1, 1, 3, 9)
    rows = table(3, "rungs")
    assert [(row["rung"], row["reached"], row["stopped_there"]) for row in rows] == [
        ("1", "4", "2"),
        ("3", "2", "1"),
        ("9", "1", "0"),
    ]
    assert rows[0]["best_eval_loss_of_the_stopped"] == "0.4"


def test_the_end_of_the_budget_is_no_rung_and_no_decision_of_the_method(folder: Path) -> None:
    store("asha", 1, 1, 2, 3, 9, 8, by_budget=(1, 2, 5))
    keys = ("rung", "reached", "stopped_there", "ended_by_the_budget")
    assert [tuple(row[key] for key in keys) for row in table(3, "rungs")] == [
        ("1", "6", "1", "2"),
        ("3", "3", "1", "1"),
        ("9", "1", "0", "0"),
    ]


def test_stamps_follow_each_other_and_the_best_so_far_never_rises(folder: Path) -> None:
    store("manual", 9, 9, budget=12, variant=SERIAL)
    store("optuna", 9, 9, 9, budget=6)
    for row in table(2, "trials"):
        assert re.fullmatch(r"\d\d:\d\d:\d\d", row["start"])
        assert row["start"] <= row["finish"] or row["start"] > "23:"
    assert [row["best_so_far"] for row in table(7, "trials")] == ["0.5", "0.4", "0.3"]


def test_a_deepspeed_study_is_one_row_per_configuration(folder: Path) -> None:
    run = CommandRun("synthetic", "deepspeed of synthetic", {}, {"hpo.kind": "deepspeed"})
    for name, loss in (("plain", 1.25), ("zero2", 1.25)):
        params = {"configuration": name, "ranks_per_node": 2, "nodes": 1}
        tags = {"hpo.kind": "configuration", "hpo.outcome": "completed"}
        run.add_child(name, params, tags, [("train_loss", loss, 0), ("host_peak_mb", 602.2, 0)], "FINISHED")
    run.end("FINISHED")
    rows = table(8, "configurations")
    assert [row["host MiB, peak"] for row in rows] == ["602.2", "602.2"]  # the unit of the study's own table
    assert [(row["configuration"], row["ranks"], row["train loss"]) for row in rows] == [
        ("plain", "2", "1.25"),
        ("zero2", "2", "1.25"),
    ]


def test_the_command_writes_markdown_and_csv(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store("random", 9)
    assert main(["workshop", "table", "9", "--benchmark", "synthetic"]) == 0
    page = (folder / "workshop/chapter-9.md").read_text()
    assert page.startswith(
        "# Chapter 9: A choice across methods\n\nYour studies of `synthetic`.\n\n## Studies\n\n| method |"
    )
    [row] = csv.DictReader((folder / "workshop/chapter-9-studies.csv").open())
    assert (row["method"], row["eval_loss"]) == ("random", "0.5")
    assert "| random | 0 | 4 | 1 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (
            3,
            "chapter 3 shows finished studies of random with a budget of 4 or asha with a budget of 4, and there is "
            "none of synthetic; run the",
        ),
        (10, "chapter is 10, but must be one of 1 to 9"),
    ],
)
def test_a_chapter_without_studies_and_one_that_there_is_not_are_refused(
    folder: Path, number: int, message: str
) -> None:
    with pytest.raises(BenchmarkError, match=message):
        workshop.tables(number, "synthetic")
