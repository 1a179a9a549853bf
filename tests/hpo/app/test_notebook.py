"""The Python interface: studies run from Python, and stored ones as frames; `import hpo` itself costs nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest

import hpo
from benchmarks.spec import BenchmarkError
from hpo.engine.in_process import InProcess
from tests.hpo.replays import recorded
from tests.stores import working_in


def test_an_import_of_the_package_imports_none_of_its_parts() -> None:
    code = "import sys, hpo; print([m for m in ('ray', 'pandas', 'mlflow', 'torch', 'hpo.app') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serch'; it has compare, confirm, export, replay, run"):
        _ = hpo.serch
    assert set(hpo.__all__) <= set(dir(hpo))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a store, in which studies run in this process."""
    monkeypatch.setattr("hpo.engine.runner.OnRay", lambda: InProcess(devices=2))
    with working_in(tmp_path):
        yield tmp_path


@pytest.mark.slow
def test_a_study_is_run_and_read_confirmed_compared_and_exported(folder: Path) -> None:
    finished = hpo.run("asha", "synthetic", budget=3, seed=1, reduction_factor=9)
    hpo.run("random", "synthetic", budget=3, seed=1)
    assert finished.reached_end

    studies = hpo.studies("synthetic")
    assert list(studies["method"]) == ["asha", "random"]
    assert list(studies["variant"]) == ["reduction_factor=9.0", ""]
    assert set(studies["status"]) == {"FINISHED"}
    assert list(studies["seed"]) == [1, 1]
    assert finished.best is not None
    assert studies["best_eval_loss"][0] == finished.best["metrics"]["eval_loss"]

    trials = hpo.trials("synthetic")
    assert len(trials) == studies["num_trials"].sum()
    own = hpo.trials("synthetic", run_id=finished.run_id)
    assert set(own["method"]) == {"asha"}
    assert own["trained_units"].sum() == 27
    pd.testing.assert_frame_equal(own, hpo.trials("synthetic", method="asha"))

    assert hpo.confirm("synthetic", repeats=1) == 2  # the incumbent that both found, and the default
    assert hpo.confirm("synthetic", repeats=1) == 0
    compared = hpo.compare("synthetic")
    assert set(compared["method"]) == {"asha reduction_factor=9.0", "default", "random"}
    assert compared["test_f1"].is_monotonic_decreasing
    verdicts = hpo.verdicts("synthetic", reference="random")
    assert set(verdicts["verdict"]) == {"not resolved"}
    again = hpo.verdicts("synthetic", reference="random")
    assert list(again["p_holm"]) == list(verdicts["p_holm"])  # the same scores are the same look
    [look] = mlflow.search_runs(["1"], "tags.`hpo.kind` = 'comparison'", output_format="list")
    assert look.data.tags["hpo.evidence"]
    exported = hpo.export("synthetic", output=folder / "best", budget=3)
    assert exported.is_confirmed
    assert (folder / "best/best_config.json").is_file()


@pytest.mark.slow
def test_a_benchmark_without_studies_has_empty_frames(folder: Path) -> None:
    assert len(hpo.studies("synthetic")) == len(hpo.trials("synthetic")) == 0
    assert {"run_id", "method", "seed"} <= set(hpo.studies("synthetic"))


@pytest.mark.slow
def test_a_study_whose_trials_are_lost_is_named_with_the_next_step(folder: Path) -> None:
    hpo.run("random", "synthetic", budget=1)
    [table] = folder.rglob("trials.csv")
    table.unlink()
    with pytest.raises(BenchmarkError, match=r"trials\.csv of run \w+: it is missing, or lacks trials; restore it"):
        hpo.trials("synthetic")


@pytest.mark.parametrize(
    ("method", "budget", "message"),
    [("asho", 3, "no method named 'asho'"), ("asha", 0, "budget is 0")],
)
def test_a_mistake_is_refused_before_anything_starts(folder: Path, method: str, budget: int, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        hpo.run(method, "synthetic", budget=budget)
    assert len(hpo.studies("synthetic")) == 0


@pytest.mark.slow
def test_studies_are_replayed_and_compared(tmp_path: Path) -> None:
    with working_in(tmp_path):
        file = str(recorded.write(tmp_path))
        found = hpo.replay(file, methods=["random", "asha"], seeds=range(5), budgets=[2], processes=1)
        assert len(found) == 10
        assert set(found["method"]) == {"random", "asha"}
        assert found.attrs["notes"][0] == "the bank synthetic (48 trainings of 24 configurations)"
        compared = hpo.compare(file)
        assert set(compared["method"]) >= {"random", "asha"}
        mean = found[found["method"] == "asha"]["best_eval_loss"].mean()
        assert compared.set_index("method")["validation_eval_loss"]["asha"] == pytest.approx(mean)
