"""Files that a server, or a proxy before it, does not take: they are named, and nothing else is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from benchmarks import spec
from hpo.app import cli
from hpo.core.study import Study
from hpo.store import runs
from hpo.store.tracker import Tracker
from tests.hpo.store.refusing_proxy import refusing
from tests.hpo.told import Told
from tests.servers import serve
from tests.stores import fresh_store, working_in

MEGABYTE = 2**20
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with serve(fresh_store(folder), folder) as running:
        yield running.uri


@pytest.fixture
def limited(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """Put the server behind a body limit of 1 MB."""
    with working_in(tmp_path), refusing(server, max_body_bytes=MEGABYTE) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield MlflowClient(uri)


def names(client: MlflowClient, run_id: str) -> list[str]:
    return sorted(file.path for file in client.list_artifacts(run_id))


def test_files_beside_a_refused_one_are_stored_and_the_run_ends(limited: MlflowClient) -> None:
    files = {"first.csv": "a\n1\n", "report.html": "x" * 2 * MEGABYTE, "last.csv": "b\n2\n"}
    lacking = runs.store_files("refused", "comparison", files, {"hpo.benchmark_digest": "0"})
    assert "report.html (413" in lacking
    experiment = limited.get_experiment_by_name("refused")
    assert experiment is not None
    (run,) = limited.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.tags["hpo.kind"]) == ("FINISHED", "comparison")
    assert run.data.tags["hpo.refused_files"].startswith("report.html (413")
    assert names(limited, run.info.run_id) == ["first.csv", "last.csv"]


def test_compare_writes_its_folder_names_what_is_refused_and_ends_well(
    limited: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = spec.load("synthetic")
    for method, loss in (("asha", 0.5), ("random", 0.6)):
        study = Study(method, benchmark, budget=3)
        finish(study, Tracker(study, "cpu", f"python -m hpo run {method}"), loss)
    assert cli.main(["compare", "--benchmark", "synthetic", "--output", "compared"]) == 0
    printed = "".join(capsys.readouterr().out.split())
    assert "note:MLflowlacksapartofit,thefolderhasall:" in printed
    assert "report.html(413" in printed
    assert (tmp_path / "compared" / "report.html").stat().st_size > MEGABYTE
    experiment = limited.get_experiment_by_name("synthetic")
    assert experiment is not None
    (run,) = limited.search_runs([experiment.experiment_id], "tags.hpo.kind = 'comparison'")
    assert run.info.status == "FINISHED"
    assert names(limited, run.info.run_id) == sorted(file.name for file in (tmp_path / "compared").iterdir())
    assert "asmallerone" in printed
    report = Path(limited.download_artifacts(run.info.run_id, "report.html", str(tmp_path))).read_text()
    whole = (tmp_path / "compared" / "report.html").read_text()
    assert "plots are left out here, with their data kept" in report
    assert "left out here" not in whole
    for page, has_plots in ((report, False), (whole, True)):
        assert ("plotly.js v" in page, 'id="plot-anytime"' in page) == (has_plots, has_plots)
        assert 'id="table-methods"' in page
        assert page.count("Data as CSV") == whole.count("Data as CSV") > 1


def test_the_smallest_report_that_is_taken_is_stored(limited: MlflowClient) -> None:
    asked = []

    def smaller() -> Iterator[str]:
        for text in ("y" * (MEGABYTE + 1), "small", "smallest"):
            asked.append(len(text))
            yield text

    files = {"report.html": "x" * 2 * MEGABYTE, "a.csv": "1"}
    lacking = runs.store_files("smaller", "comparison", files, {}, {"report.html": smaller(), "a.csv": smaller()})
    assert re.search(r"report\.html \(413.*; a smaller one is stored in its place\)$", lacking)
    assert asked == [MEGABYTE + 1, len("small")]
    experiment = limited.get_experiment_by_name("smaller")
    assert experiment is not None
    (run,) = limited.search_runs([experiment.experiment_id])
    assert names(limited, run.info.run_id) == ["a.csv", "report.html"]


def finish(study: Study, tracker: Tracker, loss: float = 0.5) -> None:
    """Let one trial go all the way, and end the study."""
    told = Told(study, tracker)
    told.begin("0", {"learning_rate": 1e-3})
    metrics = {"eval_loss": loss, "train_loss": loss, "exact_match": 0.4, "f1": 0.5}
    told.report("0", {"units": study.max_units, "objective": loss, **metrics}, at=1.0)
    told.end("0")
    told.finish()


def test_a_study_keeps_the_rest_and_ends(limited: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study("random", spec.load("synthetic").model_copy(update={"name": "study"}))
    tracker = Tracker(study, "cpu", "python -m hpo run random")
    monkeypatch.setattr("hpo.store.files.units_csv", lambda benchmark, units: "x" * 2 * MEGABYTE)
    finish(study, tracker)
    run = limited.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["hpo.refused_files"].startswith("units.csv (413")
    assert names(limited, tracker.run_id) == [
        *("benchmark.json", "best_config.json", "devices.csv", "events.jsonl"),
        *("ledger.csv", "trials.csv"),
    ]


def test_a_failure_that_is_no_refusal_is_raised_to_be_tried_again(
    limited: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.CommandRun("raised", "a run", {}, {})

    def fail(run_id: str, path: str) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(limited, "log_artifact", fail)
    with pytest.raises(OSError, match="No space"):
        runs.log_files(limited, run.run_id, {"a.csv": "1"})
    monkeypatch.setattr(runs, "PAUSE_SECONDS", 0.0)
    assert runs.log_files(limited, run.run_id, {"a.csv": "1"}, attempts=2) == {"a.csv": "No space left on device"}


def test_a_store_that_goes_away_costs_no_result(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with working_in(tmp_path):
        with refusing(server) as uri:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            run = runs.CommandRun("away", "a run", {"seed": 0}, {"hpo.kind": "training"})
            run.log({"eval_loss": 0.5}, 1)
            assert run.fault == ""
        monkeypatch.setattr(runs, "PAUSE_SECONDS", 0.0)
        run.log({"eval_loss": 0.4}, 2)
        run.log_files({"a.csv": "1"})
        run.end("FINISHED")
        assert "cannot be used" in run.fault
    with pytest.raises(MlflowException):
        MlflowClient(uri).get_run(run.run_id)
    assert MlflowClient(server).get_run(run.run_id).data.metrics == {"eval_loss": 0.5}
