"""MLflow's own browser interface on a finished suite: studies group their trials, and runs compare side by side."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from rich.console import Console

from hpo.engine.in_process import InProcess
from hpo.planning import contest
from hpo.store import ui_views as views
from hpo.workflows import suite
from tests.hpo.engine.in_process import synthetic
from tests.servers import serve
from tests.stores import working_in

WAIT = 60_000
"""Milliseconds."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a suite of two methods and two seeds; returns the address of its experiment's runs."""
    folder = tmp_path_factory.mktemp("ui")
    with working_in(folder):
        given = contest.GivenBenchmark(synthetic(), "synthetic")
        contestants = contest.parse_methods("random,asha", 3)
        console = Console(file=io.StringIO())
        outcome = suite.run_suite(contestants, given, [0, 1], None, False, console, InProcess(devices=2))
        assert outcome.failures == []
        experiment = MlflowClient().get_experiment_by_name("synthetic")
        assert experiment is not None
    with serve(f"sqlite:///{folder}/mlflow.db", folder) as server:
        yield f"{server.uri}/#/experiments/{experiment.experiment_id}/runs"


@pytest.fixture(scope="module")
def page(address: str, browser: Any) -> Any:
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    page.set_default_timeout(WAIT)
    return page


def shoot(page: Any, name: str) -> None:
    """Keep a picture for the docs, if asked: SCREENSHOTS=docs/images pytest tests/hpo/store/test_mlflow_ui.py."""
    if folder := os.environ.get("SCREENSHOTS"):
        close = page.get_by_label("Close").first  # an advertisement's, which covers a quarter of the page
        if close.is_visible():
            close.click()
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(folder) / f"{name}.png")


def row(page: Any, name: str) -> Any:
    return page.locator("[role=row]", has=page.get_by_role("link", name=name, exact=True)).first


def headings(page: Any) -> set[str]:
    return {text.strip() for text in page.get_by_role("columnheader").all_inner_texts()}


def test_the_view_of_studies_has_a_line_a_study_with_its_scores_and_cost(page: Any, address: str) -> None:
    page.goto(f"{address}?viewStateShareKey={views.STUDIES}")
    for name in ("asha seed 0", "asha seed 1", "random seed 0", "random seed 1"):
        row(page, name).wait_for()
    page.get_by_role("columnheader", name="method").first.wait_for()
    assert {"hpo.method", "hpo.seed", "best_eval_loss", "best_exact_match", "best_f1"} <= headings(page)
    method, score = (page.get_by_role("columnheader", name=name).first for name in ("hpo.method", "best_eval_loss"))
    assert method.bounding_box()["x"] < score.bounding_box()["x"]
    assert not page.get_by_role("link", name="trial 0 of random seed 1", exact=True).is_visible()
    shoot(page, "mlflow-studies")


def test_a_study_unfolds_to_its_trials(page: Any) -> None:
    row(page, "random seed 1").get_by_role("button").first.click()
    for number in range(3):
        row(page, f"trial {number} of random seed 1").wait_for()


def test_three_trials_compare_with_parallel_coordinates(page: Any) -> None:
    for number in range(3):
        row(page, f"trial {number} of random seed 1").get_by_role("checkbox").click()
    shoot(page, "mlflow-trials")
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Comparing 3 Runs from 1 Experiment").wait_for()
    plot = page.locator(".parcoords").first
    plot.wait_for()
    page.locator(".parcoords .axis-title").nth(2).wait_for(state="attached")
    axes = {str(text).strip() for text in page.locator(".parcoords .axis-title").all_text_contents()}
    assert {"learning_rate", "eval_loss"} <= axes  # it leaves out what is the same in all three
    shoot(page, "mlflow-compare")


def test_the_view_of_trials_is_a_leaderboard_with_hyperparameters(page: Any, address: str) -> None:
    page.goto("about:blank")
    page.set_viewport_size({"width": 2400, "height": 900})  # the table draws columns that are in sight alone
    page.goto(f"{address}?viewStateShareKey={views.TRIALS}")
    row(page, "trial 0 of random seed 1").wait_for()
    page.get_by_role("columnheader", name="hp.learning_rate").first.wait_for()
    assert {"eval_loss", "hp.learning_rate", "hp.batch_size_per_device"} <= headings(page)
    assert not page.get_by_role("link", name="asha seed 0", exact=True).is_visible()
