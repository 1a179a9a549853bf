"""Kinds of trials: the block of a benchmark tells what they need and opens their process."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark
from benchmarks.trials.synthetic import SyntheticTrial
from benchmarks.trials.trial import TrialProcess
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from tests.hpo.engine.in_process import run

BRANCH = re.compile(r"\b(finetune|synthetic) is|if .*\.(finetune|synthetic)\b|= \w+\.(finetune|synthetic)\b")


def no_ranks(benchmark: Benchmark) -> TrialProcess:
    raise AssertionError(f"{benchmark.name} asks for ranks")


def test_a_computed_curve_asks_for_no_ranks() -> None:
    synthetic = spec.load("synthetic")
    assert isinstance(synthetic.trial_process(no_ranks), SyntheticTrial)
    trial = synthetic.trial
    assert (trial.trains_model, trial.model, trial.precision, trial.splits) == (False, "", "", {})


def test_a_training_asks_for_ranks_of_its_benchmark() -> None:
    nano, asked = spec.load("nano"), []
    process = SyntheticTrial(spec.load("synthetic"))

    def open_ranks(benchmark: Benchmark) -> TrialProcess:
        asked.append(benchmark)
        return process

    assert nano.trial_process(open_ranks) is process
    assert asked == [nano]
    assert list(nano.trial.splits) == ["train", "validation", "test"]


def test_keys_of_a_block_are_those_of_its_kind() -> None:
    assert {"task", "ranks_per_trial", "trains_model", "model"}.isdisjoint(spec.Synthetic.model_fields)
    assert set(spec.load("synthetic").model_dump()["synthetic"]) == set(spec.Synthetic.model_fields)
    assert "splits" not in spec.load("nano").model_dump()["finetune"]


def test_no_module_beside_the_benchmark_s_own_asks_for_the_kind() -> None:
    root = spec.HERE.parent
    asking = {
        str(path.relative_to(root))
        for folder in ("benchmarks", "hpo", "slurm")
        for path in (root / folder).rglob("*.py")
        if BRANCH.search(path.read_text())
    }
    assert asking == {"benchmarks/spec.py", "benchmarks/trials/synthetic.py"}


def test_trials_of_several_ranks_are_refused_in_this_process(small_nano: Callable[..., Benchmark]) -> None:
    study = Study("random", small_nano(ranks_per_trial=2), budget=1)
    rows = run(study, InProcess(devices=2)).books.rows
    assert {row.outcome for row in rows} == {"failed"}
    assert (
        "nano has 2 ranks per trial, but a trial in this process has one; run this benchmark on Ray" in rows[0].reason
    )


@pytest.mark.parametrize("name", spec.names())
def test_every_benchmark_has_one_block(name: str) -> None:
    benchmark = spec.load(name)
    assert benchmark.trial is (benchmark.finetune or benchmark.synthetic or benchmark.recorded)
    assert benchmark.ranks_per_trial == benchmark.trial.ranks_per_trial
