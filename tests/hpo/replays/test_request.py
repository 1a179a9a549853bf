"""A replay as it is asked for: refused in a sentence before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.planning.replay_request import parse_numbers
from tests.hpo.replays import recorded


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return spec.load(str(recorded.write(tmp_path_factory.mktemp("bank"))))


@pytest.mark.parametrize(
    ("text", "numbers"), [("0..3", [0, 1, 2, 3]), ("4,8", [4, 8]), ("0..1, 5,1", [0, 1, 5]), ("7..7", [7])]
)
def test_numbers_are_a_list_or_a_range(text: str, numbers: list[int]) -> None:
    assert parse_numbers("seeds", text) == numbers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": "0-9"}, r"seeds is '0-9', but must be whole numbers .* or a range such as 0\.\.199"),
        ({"seeds": "9..0"}, r"seeds is '9\.\.0'"),
        ({"seeds": "0..99999999999"}, r"seeds is '0\.\.99999999999'"),
        ({"seeds": ""}, r"seeds is ''"),
        ({"budgets": "4,many"}, r"budgets is '4,many'"),
        ({"budgets": "0"}, r"budget is 0, but must be >= 1"),
        ({"methods": "ashaa"}, r"no method named 'ashaa'; choose one of asha, "),
        ({"methods": "asha:eta=3"}, r"asha: argument 'eta'"),
        ({"methods": "pbt,pb2"}, r"pb2 and pbt cannot be replayed: hyperparameters change within a trial"),
        ({"devices": 0}, r"devices is 0, but must be >= 1"),
        ({"repeats": -1}, r"repeats is -1, but must be >= 0"),
        ({"seeds": "0..999999", "methods": "random,asha"}, r"2000000 studies are asked for, but a replay has at most"),
    ],
)
def test_a_request_that_does_not_hold_is_refused(benchmark: Benchmark, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        recorded.asked(benchmark, **changes)


def test_a_benchmark_that_trains_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"nano has no recorded curves to replay; .* such as nano_recorded"):
        recorded.asked(spec.load("nano"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recorded": {"digest": "0" * 16}}, r"own\.parquet: its benchmark has the digest \w+, but own_recorded names"),
        ({"configs": 4}, r"the bank has \d configurations that completed, but a model of its curves needs 10"),
    ],
)
def test_a_bank_that_cannot_answer_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    benchmark = spec.load(str(recorded.write(tmp_path, **changes)))
    with pytest.raises(BenchmarkError, match=message):
        recorded.asked(benchmark)


def test_a_bank_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    benchmark = spec.load(str(recorded.write(tmp_path)))
    bank = tmp_path / "own.parquet"
    bank.write_bytes(bank.read_bytes()[:-100])
    with pytest.raises(BenchmarkError, match=r"own\.parquet: no Parquet file, or cut off"):
        recorded.asked(benchmark)


@pytest.mark.slow
def test_every_method_but_populations_is_replayed_with_every_seed_and_budget(benchmark: Benchmark) -> None:
    found = recorded.asked(benchmark, methods="all", seeds="0..1", budgets="3,6")
    asked = {(study.method, study.seed, study.budget) for study in found.studies}
    assert len(found.studies) == len(asked)
    assert {method for method, _, _ in asked}.isdisjoint({"pbt", "pb2"})
    assert {("asha", 0, 3), ("asha", 1, 6), ("bohb", 1, 3), ("default", 0, 3), ("random", 0, 12)} <= asked
    assert ("default", 0, 6) not in asked  # it has no budget of its own
    assert "pb2 and pbt cannot be replayed" in found.header.left_out[0]
    assert found.header.source == "the bank synthetic (48 trainings of 24 configurations)"
    assert found.header.certificate.startswith("no certificate of ")
