"""The generated pages of docs/ are those of the code, and name everything that files and the store have."""

from __future__ import annotations

import csv
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from pyarrow import parquet

from benchmarks import spec
from benchmarks.spec import Benchmark
from hpo.analysis.across.comparison import compare_tasks
from hpo.analysis.standings import Shrinkage
from hpo.app.cli import main
from hpo.app.reference import keys, stored, tables_across
from hpo.app.reference.pages import PAGES
from hpo.core.study import Study
from hpo.report.across import tables
from hpo.store.tracker import Tracker
from tests.hpo.analysis.across.made_tasks import drawn
from tests.hpo.told import Told
from tests.stores import working_in

REPOSITORY = Path(__file__).parents[3]
DOCS = REPOSITORY / "docs"


@pytest.mark.parametrize("path", PAGES)
def test_a_committed_page_is_the_generated_one(path: str) -> None:
    assert (DOCS / path).read_text() == PAGES[path](), "run: python -m hpo reference --output docs"


def test_the_command_writes_every_page(tmp_path: Path) -> None:
    assert main(["reference", "--output", str(tmp_path)]) == 0
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")) == sorted(PAGES)
    assert (tmp_path / "reference/stored.md").read_text() == stored.text()


def test_without_a_folder_the_options_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference"]) == 0
    assert capsys.readouterr().out == (DOCS / "options.md").read_text()


def rows(page: str, title: str) -> dict[str, list[str]]:
    """Return the rows of a section's table by their first cell."""
    section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row for row in cells}


def test_a_key_has_its_bounds_its_default_and_its_meaning() -> None:
    found = rows(keys.benchmark_page(), "`default`")
    assert found["warmup_ratio"] == [
        "`warmup_ratio`",
        "number, >= 0, < 1",
        "`0.0`",
        "share of the full training over which the rate rises from 0",
    ]
    assert rows(keys.benchmark_page(), "The file")["resource"][2] == "required"
    assert rows(keys.cluster_page(), "The file")["gpu_request"][1] == "`gres`, `gpus-per-node`"


def keys_of(content: object) -> set[str]:
    if not isinstance(content, dict):
        return set()
    return set(content) | {key for value in content.values() for key in keys_of(value)}


@pytest.mark.parametrize("name", spec.names())
def test_every_key_of_a_shipped_benchmark_is_on_its_page(name: str) -> None:
    content = yaml.safe_load((REPOSITORY / f"benchmarks/{name}.yaml").read_text())
    free = {
        *content.get("space", {}),
        *content.get("grid", {}),
        *keys_of(content.get("finetune", {}).pop("deepspeed", {})),
    }
    named = set(re.findall(r"^\| `(\w+)`", keys.benchmark_page(), re.MULTILINE))
    assert keys_of(content) - free <= named


@pytest.mark.parametrize("profile", ["a100_node", "testbed", "v100_node"])
def test_every_key_of_an_example_profile_is_on_its_page(profile: str) -> None:
    content = yaml.safe_load((REPOSITORY / f"slurm/profiles/{profile}.yaml").read_text())
    assert keys_of(content) <= set(re.findall(r"^\| `(\w+)`", keys.cluster_page(), re.MULTILINE))


@pytest.fixture
def runs(tmp_path: Path) -> tuple[object, object]:
    """The run of a finished study in MLflow, and that of its trial."""
    benchmark: Benchmark = spec.load("synthetic")
    with working_in(tmp_path):
        study = Study("pbt", benchmark, budget=1)
        told = Told(study, Tracker(study, "cpu", "python -m hpo run"))
        told.begin("0", {"learning_rate": 1e-3, "batch_size_per_device": 8, "weight_decay": 0.0})
        scores = {"eval_loss": 0.5, "train_loss": 0.4, "exact_match": 0.5, "f1": 0.6}
        told.report("0", {"units": 9, "objective": 0.5, "diverged": False, **scores}, device_seconds=1.0)
        told.end("0")
        told.finish(at=2.0)
        client = MlflowClient()
        experiment = client.get_experiment_by_name("synthetic")
        assert experiment is not None
        trial, run = sorted(
            client.search_runs([experiment.experiment_id]), key=lambda run: run.data.tags["hpo.kind"], reverse=True
        )
        return run, trial


def patterns(names: dict[str, str]) -> re.Pattern[str]:
    """Match the names of a table, with anything in place of a word in angle brackets."""
    return re.compile("|".join(re.sub(r"<\w+>", ".+", name) for name in names))


def test_every_tag_and_metric_of_a_stored_study_has_a_row(runs: tuple[object, object]) -> None:
    study, trial = (run.data for run in runs)  # type: ignore[attr-defined]
    known = {**stored.TRIAL_METRICS, **stored.UNIT_METRICS, **dict.fromkeys(["eval_loss", "exact_match", "f1"], "")}
    assert study.tags["hpo.kind"] == "study"
    assert trial.tags["hpo.kind"] == "trial"
    study_s = {"hpo.variant", "hpo.benchmark", "hpo.budget"}
    for names, table in (
        ([tag for tag in study.tags if tag.startswith("hpo.")], stored.STUDY_TAGS),
        ([tag for tag in trial.tags if tag.startswith("hpo.") and tag not in study_s], stored.TRIAL_TAGS),
        (study.metrics, stored.STUDY_METRICS),
        (trial.metrics, known),
    ):
        assert len(list(names)) >= 5
        assert [name for name in names if not patterns(table).fullmatch(name)] == []


def test_the_files_of_a_comparison_and_a_bank_have_each_of_their_columns_described() -> None:
    page = stored.text()
    named = {title: set(rows(page, title)) for title in ("comparison.csv", "pairs.csv", "shrinkage.csv")}
    assert {"method", "validation_<metric>_low", "test_<metric>_high", "over_random_low"} <= named["comparison.csv"]
    assert {"a", "b", "a_over_b_low", "verdict", "reason"} <= named["pairs.csv"]
    assert named["shrinkage.csv"] == {field.name for field in fields(Shrinkage)}
    bank = rows(page, "A bank's Parquet file")
    [path] = REPOSITORY.glob("benchmarks/banks/nano.parquet")
    nano = spec.load("nano")
    for column in parquet.read_schema(path).names:
        name = re.sub(r"^(test_|)(eval_loss|perplexity|exact_match|f1)$", r"\1<metric>", column)
        name = "each_<figure>" if column.startswith("each_") else name
        assert name in bank or column in nano.space or column in nano.default.model_dump(), column


def test_the_files_of_a_comparison_over_tasks_have_each_of_their_columns_described() -> None:
    """No other column either, in a comparison with statements."""
    written = tables.files(compare_tasks(drawn(3)))
    page = stored.text()
    for file, (title, known, _) in tables_across.FILES.items():
        [header, *_] = csv.reader(written[file].splitlines())
        columns = {re.sub(r"^regret_task\d$", "regret_<task>", column) for column in header}
        assert set(rows(page, title)) == columns, file
        assert known.keys() <= columns, file


def test_a_column_without_a_meaning_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _, known, _ = tables_across.FILES["regrets.csv"]
    monkeypatch.delitem(known, "score")
    with pytest.raises(KeyError, match="score"):
        stored.text()
