"""A comparison of replayed studies: read like real ones, and marked as replayed wherever it is shown."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import spec
from benchmarks.spec import BenchmarkError
from hpo.analysis.compare import compare
from hpo.analysis.records import Records
from hpo.analysis.replayed.records import records_of
from hpo.analysis.replayed.table import Replay
from hpo.replays.one_study import replay
from hpo.report import page, tables
from tests.hpo.replays import recorded

pytestmark = pytest.mark.slow
MARK = "replayed, not run: studies on a virtual clock, with curves of the bank synthetic"


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    benchmark = spec.load(str(recorded.write(tmp_path_factory.mktemp("bank"))))
    asked = recorded.asked(benchmark, methods="random,asha,manual", seeds="0..5", budgets="3")
    return Replay(asked.header, tuple(replay(study, 2, asked.header.repeats) for study in asked.studies))


@pytest.fixture(scope="module")
def records(replayed: Replay) -> Records:
    return records_of(replayed, "run")


def test_every_study_and_fresh_training_counts(records: Records, replayed: Replay) -> None:
    result = compare(records)
    found = {one.name: one for one in result.standings}
    for one in (found["random"], found["asha"], found["manual"]):
        assert (len(one.seeds), one.confirmed.blocks, one.confirmed.trainings) == (6, 6, 12)
    assert len(result.pairs) == 2
    of_asha = [study for study in replayed.studies if study.method == "asha"]
    standing = found["asha"]
    assert standing.validation is not None
    assert standing.validation.value == pytest.approx(sum(one.best["eval_loss"] for one in of_asha) / 6)
    assert standing.outcomes["stopped"] == sum(one.outcomes["stopped"] for one in of_asha) > 0
    assert standing.grid.entered == 6


def test_it_is_marked_wherever_it_is_shown(records: Records) -> None:
    result = compare(records)
    console = Console(file=io.StringIO(), width=200)
    tables.print_all(console, result)
    assert isinstance(console.file, io.StringIO)
    written = tables.files(result)
    shown = {
        "terminal": console.file.getvalue(),
        "markdown": written["comparison.md"],
        "page": page.files(result)[page.REPORT],
        **dict(zip(("page without plots", "page without data"), page.smaller(result), strict=True)),
    }
    for where, text in shown.items():
        assert MARK.capitalize() in text.replace("\n", " "), where
        assert "no certificate" in text, where
    assert json.loads(written["comparison.json"])["replayed"].startswith(MARK)
    assert "REPLAYED" in shown["terminal"]


def test_no_page_of_it_names_a_command_for_stored_studies(records: Records) -> None:
    assert records.confirm_command.startswith("python -m hpo replay --benchmark ")
    assert "hpo confirm" not in page.files(compare(records))[page.REPORT]


def test_a_study_that_ended_early_counts_as_failed(replayed: Replay) -> None:
    first, *others = replayed.studies
    lost = first.model_copy(update={"reason": "random raised ValueError"})
    result = compare(records_of(Replay(replayed.header, (lost, *others)), "run"))
    standing = next(one for one in result.standings if one.name == first.method)
    assert standing.failed_studies == (first.seed,)


def test_no_verdict_rests_on_a_method_that_fails_its_certificate(replayed: Replay) -> None:
    header = replayed.header.model_copy(update={"uncertified": {"asha": "units are off", "bohb": "not replayable"}})
    found = records_of(Replay(header, replayed.studies), "run")
    assert {study.method for study in found.studies} == {"random", "manual"}
    assert found.left_out == ["replays of asha, for which the certificate does not hold: units are off"]
    assert "asha" not in {one.name for one in compare(found).standings}
    nothing = header.model_copy(update={"uncertified": dict.fromkeys(("asha", "random", "manual"), "off")})
    with pytest.raises(BenchmarkError, match=r"holds for none of the replayed methods .*; compare real studies"):
        records_of(Replay(nothing, replayed.studies), "run")


def test_a_replay_without_a_finished_study_is_refused(replayed: Replay) -> None:
    with pytest.raises(BenchmarkError, match="has no study that reached its end"):
        records_of(Replay(replayed.header, ()), "run")


def test_improvements_stand_for_units_in_curves_over_cost(records: Records, tmp_path: Path) -> None:
    drawn = page.files(compare(records))
    assert "figure_anytime.csv" in drawn
    assert len(drawn["figure_anytime.csv"].splitlines()) > 100
