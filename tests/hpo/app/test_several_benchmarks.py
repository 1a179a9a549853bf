"""`compare` over several benchmarks, by the command line and from Python: files, notes, and refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import hpo
from benchmarks.spec import BenchmarkError
from hpo.app import cli
from hpo.app.parser import parse
from hpo.engine.in_process import InProcess
from hpo.store.queries import stored_runs
from tests.stores import working_in
from tests.studies import REPOSITORY


@pytest.mark.parametrize(
    ("words", "benchmarks"),
    [
        ([], ["nano"]),
        (["--benchmark", "nano_short"], ["nano_short"]),
        (["--benchmark", "nano,nano_short"], ["nano", "nano_short"]),
        (["--benchmark", "nano", "--benchmark", "nano_short"], ["nano", "nano_short"]),
        (["--benchmark=nano, nano_short", "--benchmark", "nano_lora"], ["nano", "nano_short", "nano_lora"]),
        (["--benchmark", "all"], ["all"]),
    ],
)
def test_benchmarks_are_a_comma_list_or_given_again(words: list[str], benchmarks: list[str]) -> None:
    assert parse(["compare", *words]).benchmark == benchmarks


def test_a_file_with_a_comma_in_its_name_is_one_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "mine,own.yaml"
    file.write_text("")
    assert parse(["compare", "--benchmark", str(file)]).benchmark == [str(file)]


@pytest.mark.parametrize("option", [["--plan", "plan.json"], ["--max-gpu-hours", "1"], ["--max-memory-mb", "9"]])
def test_options_of_a_single_benchmark_are_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "--benchmark", "nano,nano_short", *option]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"{option[0]} is for one benchmark, but nano, nano_short are several" in error


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three benchmarks with two confirmed methods each, and one that is not confirmed."""
    folder = tmp_path_factory.mktemp("several")
    with pytest.MonkeyPatch.context() as patch, working_in(folder):
        patch.setattr("hpo.engine.runner.OnRay", lambda: InProcess(devices=2))
        for number in range(4):
            content = yaml.safe_load((REPOSITORY / "benchmarks/synthetic.yaml").read_text())
            content |= {"name": f"own{number}", "metric": "f1", "mode": "max"}
            content["default"]["learning_rate"] = 1e-4 * (1 + number)  # another task
            (folder / f"own{number}.yaml").write_text(yaml.safe_dump(content))
            for method, seed in (("asha", 0), ("random", 0), ("random", 1), ("asha", 1)):
                hpo.run(method, f"own{number}.yaml", budget=3, seed=seed)
            if number < 3:
                hpo.confirm(f"own{number}.yaml", repeats=1)
        yield folder


@pytest.mark.slow
def test_all_takes_every_benchmark_and_names_those_it_cannot(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with working_in(store):
        assert cli.main(["compare", "--benchmark", "all", "--output", "several"]) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert "left out: own3: own3 has no confirmed random search" in told
        whole = json.loads((store / "several/comparison.json").read_text())
        assert [task["task"] for task in whole["tasks"]] == ["own0", "own1", "own2"]
        assert [(pair["a"], pair["b"]) for pair in whole["pairs"]] == [("asha", "random")]
        assert {row["method"] for row in whole["methods"]} == {"asha", "random", "default"}
        assert "No interval over seeds below 5 on each task or over tasks below 5 of them." in told
        [run] = stored_runs("several benchmarks")
        assert run.data.tags["hpo.benchmarks"] == "own0,own1,own2"
        assert "report.html" in {path.name for path in (store / "several").iterdir()}


@pytest.mark.slow
def test_from_python_it_is_a_frame(store: Path) -> None:
    with working_in(store):
        found = hpo.compare(["own0.yaml", "own1.yaml"])
        assert {"regret_own0", "regret_own1"} <= set(found)
        assert found.attrs["statement"].startswith("2 tasks: too few for a statement across tasks")
        assert len(hpo.compare("all")) == 3
        with pytest.raises(BenchmarkError, match="own3 has no confirmed random search"):
            hpo.compare(["own0.yaml", "own3.yaml"])
