"""The variables of `sbatch slurm/head_node.slurm`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks import spec
from benchmarks.space import LogUniform
from benchmarks.spec import BenchmarkError
from slurm.jobs import environment

NANO = spec.load("nano")


def test_nothing_given_is_asha_on_nano() -> None:
    words = ["run", "asha", "--benchmark", "nano", "--budget", "12", "--seed", "0"]
    assert environment.command({}) == words
    assert environment.space({}, NANO) == {}
    assert environment.workers({}, otherwise=3) == 3


def test_each_variable_is_used() -> None:
    given = {"METHOD": "bohb", "BENCHMARK": "my.yaml", "BUDGET": "4", "SEED": "7", "NUM_WORKERS": "2"}
    assert environment.command(given, "s.yaml") == [
        *["run", "bohb", "--benchmark", "my.yaml", "--budget", "4", "--seed", "7", "--space", "s.yaml"]
    ]
    assert environment.workers(given, otherwise=1) == 2


@pytest.mark.parametrize("sizes", ["4,8", "4 8", "4, 8"])
def test_the_search_space_is_the_benchmark_s_but_for_what_is_named(sizes: str, tmp_path: Path) -> None:
    given = {"LR_LOWER": "5e-6", "LR_UPPER": "2e-4", "BS_CHOICES": sizes, "WD_CHOICES": "0.0,0.01"}
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(environment.space(given, NANO)))
    made = spec.load("nano", path).space
    assert made["learning_rate"] == LogUniform(type="loguniform", low=5e-6, high=2e-4)
    assert made["batch_size_per_device"].values == (4, 8)  # type: ignore[union-attr]
    assert made["weight_decay"].values == (0.0, 0.01)  # type: ignore[union-attr]
    others = set(NANO.space) - {"learning_rate", "batch_size_per_device", "weight_decay"}
    assert {name: made[name] for name in others} == {name: NANO.space[name] for name in others}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"LR_LOWER": "1e-5"}, "LR_LOWER is given without LR_UPPER"),
        ({"LR_LOWER": "low", "LR_UPPER": "1"}, "LR_LOWER has 'low', but takes numbers"),
        ({"BS_CHOICES": "1,2.5"}, "BS_CHOICES has '2.5', but takes whole numbers"),
    ],
)
def test_what_is_no_number_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        environment.space(given, NANO)


def test_no_workers_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="NUM_WORKERS is '0', but must be a whole number above 0"):
        environment.workers({"NUM_WORKERS": "0"}, otherwise=1)
