"""Free proposers on recorded configurations alone: the four ways of answering them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.trials.recorded import configurations_of
from hpo.replays import nearest
from tests.hpo.replays import recorded

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded.write(tmp_path_factory.mktemp("bank"), configs=40)


@pytest.fixture(scope="module")
def benchmark(file: Path) -> Benchmark:
    return spec.load(str(file))


def test_each_way_is_measured_with_the_same_seeds(benchmark: Benchmark) -> None:
    found = {one.way: one for one in nearest.rates(benchmark, seeds=3, budgets=[6])}
    assert list(found) == ["model", "proposed", "replaced", "repeated"]
    assert found["proposed"].random == found["replaced"].random  # its draws do not depend on what it is told
    assert found["model"].distance is None
    assert found["repeated"].distance is not None
    assert all(one.difference == pytest.approx(one.tpe - one.random) for one in found.values())
    assert found == {one.way: one for one in nearest.rates(benchmark, seeds=3, budgets=[6])}


def test_without_repeats_a_budget_of_the_whole_table_finds_its_best(benchmark: Benchmark) -> None:
    sound = len(configurations_of(benchmark))
    found = {one.way: one for one in nearest.rates(benchmark, seeds=2, budgets=[sound])}
    for way in ("proposed", "replaced"):
        assert found[way].difference == 0.0, way


def test_the_command_prints_a_line_for_each_budget_and_way(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nearest.rates, "__defaults__", ([4],))
    nearest.main([str(file), "2"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["budget"], line["way"]) for line in lines] == [
        (4, way) for way in ("model", "proposed", "replaced", "repeated")
    ]


@pytest.mark.parametrize("words", [["nano"], ["nano_recorded", "1"], ["nano_recorded", "many"]])
def test_a_benchmark_without_a_bank_and_a_single_seed_are_refused(words: list[str]) -> None:
    with pytest.raises(BenchmarkError, match="give a benchmark with a `recorded` block, and 2 seeds or more"):
        nearest.main(words)
