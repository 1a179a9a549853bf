"""Incumbents at a quarter and half of the budget: which they are, what is due of them, and the figure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hpo.analysis import compare
from hpo.analysis.over_cost.along import schedule_at
from hpo.analysis.records import Records
from hpo.analysis.studies import Confirmation, StudyRecord
from hpo.core.books import Books
from hpo.core.study import SCHEDULE, TRAINING_SEED, Study, default_schedule, schedule_digest
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.simulated import simulated
from hpo.report.figures import plots
from hpo.report.figures.over_cost.along import confirmed_along
from hpo.report.figures.plots import Figure, LeftOut
from hpo.store import files
from hpo.workflows import confirm
from tests.hpo.engine.in_process import synthetic

BUDGET = 8
Found = tuple[Books, StudyRecord]


def searched(method: str, seed: int = 4) -> Found:
    benchmark = synthetic()
    books = simulated(Study(method, benchmark, seed, BUDGET), InProcess(devices=1)).books
    incumbent = books.incumbent()
    assert incumbent is not None
    best = {"config": incumbent.last_config, "metrics": incumbent.metrics, "units": incumbent.units}
    kept = {
        "units.csv": files.units_csv(benchmark, books.units),
        "trials.csv": files.trials_csv(benchmark, books.rows),
        "best_config.json": json.dumps({**best, **files.beyond_config(incumbent)}),
    }
    return books, StudyRecord(f"{method}-{seed}", method, "", seed, BUDGET, {}, {}, 0, kept)


@pytest.fixture(scope="module")
def random() -> Found:
    return searched("random")


@pytest.mark.parametrize(("share", "trainings"), [(0.25, 2), (0.5, 4), (1.0, 8)])
def test_it_is_the_best_trial_that_had_ended_by_then(random: Found, share: float, trainings: int) -> None:
    books, record = random
    by_then = [(unit.metrics["eval_loss"], unit.trial) for unit in books.units[: trainings * 9] if unit.units == 9]
    steps = schedule_at(record, synthetic(), share)
    assert steps is not None
    _, best = min(by_then)
    assert schedule_digest(synthetic(), steps) == schedule_digest(synthetic(), books.rows[best].schedule)
    assert set(steps[0][1]) == set(books.rows[best].config)


def test_there_is_none_before_a_trial_has_ended_and_none_of_a_schedule(random: Found) -> None:
    _, record = random
    assert schedule_at(record, synthetic(), 0.1) is None
    _, population = searched("pbt")
    assert schedule_at(population, synthetic(), 0.25) is None  # all members end together


def stored(record: StudyRecord, trainings: list[Confirmation] | None = None) -> Records:
    return Records(synthetic(), "digest", [record], trainings or [], 0.0, [])


def due(records: Records, along: bool) -> list[tuple[str, int]]:
    proposals = confirm.due(records, [], 2, along)
    return [(schedule_digest(synthetic(), one[SCHEDULE]), one[TRAINING_SEED]) for one in proposals]


def test_they_are_due_if_asked_for_and_each_once(random: Found) -> None:
    _, record = random
    own = {share: schedule_at(record, synthetic(), share) for share in (0.25, 0.5, 1.0)}
    digests = {schedule_digest(synthetic(), steps) for steps in own.values() if steps}
    default = schedule_digest(synthetic(), default_schedule(synthetic()))
    assert {digest for digest, _ in due(stored(record), along=True)} == {*digests, default}
    assert len(due(stored(record), along=True)) == 2 * len({*digests, default})
    assert set(due(stored(record), along=False)) < set(due(stored(record), along=True))


def confirmed(record: StudyRecord, along: bool) -> Records:
    """Return the records with all that is due confirmed; a score is a number of the configuration's own."""

    def scores(digest: str) -> dict[str, Any]:
        value = int(digest[:6], 16) / 16**6
        return {f"{split}{name}": value for split in ("", "test_") for name in ("eval_loss", "f1", "exact_match")}

    found = [Confirmation(digest, seed, False, scores(digest), 1.0) for digest, seed in due(stored(record), along)]
    return stored(record, found)


def figure(records: Records) -> Figure | LeftOut:
    result = compare.compare(records)
    return confirmed_along(result, plots.styles(result))


def test_the_figure_has_the_score_at_each_share(random: Found) -> None:
    _, record = random
    found = figure(confirmed(record, along=True))
    assert isinstance(found, Figure)
    assert found.data["share"].tolist() == [0.25, 0.5, 1.0]
    steps = [schedule_at(record, synthetic(), share) for share in (0.25, 0.5, 1.0)]
    expected = [int(schedule_digest(synthetic(), one)[:6], 16) / 16**6 for one in steps if one]
    assert found.data["score"].tolist() == pytest.approx(expected)
    assert found.data["blocks"].tolist() == [1, 1, 1]


def test_without_those_confirmations_it_says_how_to_get_them(random: Found) -> None:
    _, record = random
    found = figure(confirmed(record, along=False))
    assert isinstance(found, LeftOut)
    assert found.why.endswith("python -m hpo confirm --benchmark synthetic --along true")
