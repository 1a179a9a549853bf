"""The report over tasks: what it says, its files, and that a browser draws all of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hpo.analysis.across.comparison import AcrossTasks, compare_tasks
from hpo.report.across import figures, page, sentences, tables
from hpo.report.figures.plots import Figure
from hpo.terminal.console import open_console
from tests.hpo.analysis.across.made_tasks import drawn
from tests.hpo.report.comparisons import as_plotly_reads, as_written
from tests.hpo.report.test_browser import Reader

REPLAY = "replayed, not run: studies on a virtual clock; no certificate: nothing shows that its verdicts hold"


@pytest.fixture(scope="module")
def found() -> AcrossTasks:
    return compare_tasks(drawn(5))


@pytest.fixture(scope="module")
def files(found: AcrossTasks) -> dict[str, str]:
    return {**tables.files(found), **page.files(found)}


def test_the_statement_is_of_a_further_task(found: AcrossTasks) -> None:
    told = sentences.statement(found)
    assert told.startswith("On a further task like these 5: asha is better than random with a probability of ")
    assert "Not resolved across 5 tasks: bohb against random, hyperopt against random" in told


def test_too_few_tasks_are_said_and_their_regrets_printed(capsys: pytest.CaptureFixture[str]) -> None:
    two = compare_tasks(drawn(2))
    tables.print_tasks(open_console(), two)
    told = " ".join(capsys.readouterr().out.split())
    assert "2 tasks: too few for a statement across tasks, which takes 3. Seeds are not benchmarks" in told
    assert "asha" in told
    assert "mean rank" not in told
    shown = page.files(two)[page.REPORT]
    assert shown.count("Left out: there are too few tasks for a statement across them.") == 4


def test_regrets_in_csv_are_those_of_the_scores(files: dict[str, str], found: AcrossTasks) -> None:
    regrets = pd.read_csv(io.StringIO(files["regrets.csv"]))
    scales = pd.read_csv(io.StringIO(files["tasks.csv"])).set_index("task")
    best, random = scales.loc[regrets["task"], "best_known"], scales.loc[regrets["task"], "random_median"]
    again = (best.to_numpy() - regrets["score"]) / (best - random).to_numpy()
    pd.testing.assert_series_equal(regrets["regret"], again, check_names=False)
    methods = pd.read_csv(io.StringIO(files["comparison.csv"])).set_index("method")
    mean = regrets.groupby(["method", "task"])["regret"].mean().groupby("method").mean()
    assert methods["mean_regret"].to_dict() == pytest.approx(mean.to_dict())
    assert list(methods.index) == list(found.regrets)
    assert methods["mean_regret_over_tasks_low"].notna().all()


def test_json_and_markdown_have_the_same(files: dict[str, str]) -> None:
    whole = json.loads(files["comparison.json"])
    assert [pair["statement"] for pair in whole["pairs"]] == ["better", "not resolved", "not resolved"]
    assert all(pair["p_better"] + pair["p_equal"] + pair["p_worse"] == pytest.approx(1) for pair in whole["pairs"])
    assert whole["statement"] in files["comparison.md"]


def test_a_replayed_task_is_marked_everywhere(found: AcrossTasks) -> None:
    first, *others = found.tasks
    mixed = replace(found, tasks=[replace(first, replay=REPLAY), *others])
    for text in (tables.markdown(mixed), page.files(mixed)[page.REPORT]):
        assert f"task0: {REPLAY}." in text
    assert tables.task_rows(mixed)[0]["replayed"] is True


def test_plotly_knows_every_key_and_value_of_all_plots(found: AcrossTasks) -> None:
    views = [view for one in figures.all_of(found) if isinstance(one, Figure) for view in one.views.values()]
    assert len(views) >= 5
    for view in views:
        assert as_plotly_reads(view) == as_written(view)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_all_figures(browser: Any, files: dict[str, str], tmp_path: Path, scheme: str) -> None:
    (tmp_path / "report.html").write_text(files[page.REPORT])
    with Reader(browser, tmp_path / "report.html", scheme=scheme) as reader:
        assert reader.page.locator(".plot svg.main-svg").count() >= 4
        assert reader.page.locator("#plot-performance_profiles .scatterlayer path.js-line").count() >= 4
        assert reader.complaints == []
        assert [url for url in reader.requests if not url.startswith("file:")] == []
