"""A store full of markup, compared as a user does it, and looked at in a browser: nothing of it runs, all of it shows.

tests/hpo/report has every figure and table; here what a store lets in comes all the way, by `compare`.
"""

from __future__ import annotations

import csv
import io
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from benchmarks import spec
from hpo.app import cli
from tests.stores import working_in

MARKUP = {
    "script": "<script>window.pwned=1</script>",
    "attribute": '"><img src=x onerror=window.pwned=1>',
    "single": "' onmouseover='window.pwned=1' x='",
    "end of script": "</script><script>window.pwned=1</script>",
    "link": "<a href='javascript:window.pwned=1'>here</a>",
    "address": "javascript:window.pwned=1",
    "comment": "<!--<script>window.pwned=1",
    "vector": "<svg/onload=window.pwned=1>",
    "frame": "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "far": "<link rel=stylesheet href=http://far.invalid/x.css><img src=http://far.invalid/x.png>",
    "template": "{{7*7}} {% raw %} ${7*7} %{x}",
    "style": "</style><style>*{display:none}",
}
ALL = " ".join(MARKUP.values())
SHOWN = (
    "() => [...document.querySelectorAll('body, .facts dd, td, th, text')].map((e) => e.textContent).join('\\n')"
    " + document.title"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With the report of studies that were imported, and then edited in the store by somebody who can write it."""
    folder = tmp_path_factory.mktemp("report")
    with working_in(folder):
        content = spec.load("synthetic").model_dump(mode="json", exclude_none=True)
        content |= {"name": "own", "description": ALL}
        content["space"]["lr_scheduler"] = {"type": "choice", "values": ["linear", "cosine"]}
        (folder / "own.yaml").write_text(yaml.safe_dump(content))
        for seed in (0, 1):
            for method in ("first", "second"):
                write_rows(folder / "rows.csv", seed, method)
                words = ["import", "rows.csv", "--benchmark", "own.yaml", "--method", method, "--seed", str(seed)]
                assert cli.main([*words, "--accelerator", ALL[:200], "--force"]) == 0
        edit(folder)
        assert cli.main(["compare", "--benchmark", "own"]) == 0
        yield folder


def write_rows(path: Path, seed: int, method: str) -> None:
    """Store trials of which some failed for a reason that is markup."""
    out = io.StringIO()
    rows = csv.writer(out)
    names = ["trial", "unit", "learning_rate", "batch_size_per_device", "weight_decay", "lr_scheduler", "eval_loss"]
    rows.writerow([*names, "seconds", "devices", "outcome", "reason"])
    for trial in range(8):
        ended = ["failed", ALL] if trial > 6 else ["completed", ""]
        rate, loss = 10.0 ** -(2 + trial / 4), 1 + trial / 10 + seed / 20 + (method == "first") / 7
        for unit in range(1, 10):
            config = [rate, 4, 0.0, "cosine" if trial % 2 else "linear"]
            rows.writerow([trial, unit, *config, loss + 1 / unit, 1.0, 1, *(ended if unit == 9 else ["", ""])])
    path.write_text(out.getvalue())


def edit(folder: Path) -> None:
    """Write labels that no command would take into the store itself, and names and reasons into the artifacts."""
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    found: Any = client.get_experiment_by_name("own")
    labels = dict(zip(("first", "second"), (MARKUP["script"] + ALL, MARKUP["attribute"]), strict=True))
    for run in client.search_runs([found.experiment_id], "tags.`hpo.kind` = 'study'"):
        client.set_tag(run.info.run_id, "hpo.method", labels[run.data.tags["hpo.method"]])
        client.set_tag(run.info.run_id, "hpo.variant", MARKUP["end of script"])
        client.set_tag(run.info.run_id, "hpo.command", ALL)
        client.set_tag(run.info.run_id, "hpo.source_file", ALL)
        path = Path(client.download_artifacts(run.info.run_id, "trials.csv", str(folder)))
        path.write_text(path.read_text().replace(",failed,", f",{MARKUP['vector']},"))
        client.log_artifact(run.info.run_id, str(path))
    with sqlite3.connect(folder / "mlflow.db") as store:  # what MLflow itself would refuse
        store.execute("UPDATE runs SET name = ?, user_id = ?", (ALL, ALL))


@pytest.fixture(scope="module")
def page(folder: Path, browser: Any) -> Any:
    """Open the report in a browser; returns it with its requests and its console."""
    page = browser.new_page()
    page.said, page.asked = [], []
    page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: page.said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto((folder / "results/report.html").as_uri())
    page.wait_for_function(
        "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('svg.main-svg'))"
    )
    return page


def test_nothing_of_it_runs(page: Any) -> None:
    for box in page.query_selector_all(".plot .main-svg")[:3]:
        box.hover(force=True)
    for link in page.query_selector_all("a"):
        assert not (link.get_attribute("href") or "").startswith("javascript")
    assert page.evaluate("window.pwned") is None
    assert page.said == []


def test_nothing_is_asked_of_any_network(page: Any, folder: Path) -> None:
    assert [url for url in page.asked if not url.startswith(("data:", "blob:"))] == [
        (folder / "results/report.html").as_uri()
    ]


def test_it_made_no_element(page: Any) -> None:
    assert page.evaluate("document.querySelectorAll('img, iframe, link, base, object, embed').length") == 0
    assert page.evaluate("[...document.querySelectorAll('*')].every((e) => !e.onmouseover && !e.onerror && !e.onload)")


@pytest.mark.parametrize("name", MARKUP)
def test_it_is_shown_as_it_is_written(page: Any, name: str) -> None:
    """In the facts, and a method's label in the table."""
    assert MARKUP[name] in page.inner_text(".facts")
    assert MARKUP[name] in page.evaluate(SHOWN)
    assert MARKUP[name] in page.inner_text("#table-methods")


def test_an_outcome_is_shown_as_it_is_written(page: Any) -> None:
    assert f"1 {MARKUP['vector']}" in page.inner_text("#table-methods")


def test_the_figures_are_drawn(page: Any) -> None:
    assert page.evaluate("document.querySelectorAll('.plot svg.main-svg').length") > 3


def test_the_page_forbids_what_is_not_its_own(folder: Path) -> None:
    page = (folder / "results/report.html").read_text()
    [policy] = [line for line in page.splitlines() if 'http-equiv="Content-Security-Policy"' in line]
    assert "default-src &#39;none&#39;; script-src &#39;sha256-" in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
