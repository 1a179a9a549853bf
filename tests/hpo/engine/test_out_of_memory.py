"""Studies whose trials run out of memory: booked once, told to the searcher, avoided, and rescued where possible."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.space import Choice
from benchmarks.spec import Benchmark
from hpo.core.results import TrialRow
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.engine.runner import Finished, report
from hpo.engine.study_folder import Unfinished
from hpo.search import registry
from tests.hpo.engine.in_process import run, synthetic

pytestmark = pytest.mark.slow
SIZES, LIMIT = (4, 8, 16, 32), 8
"""Batch sizes of which half take more than the memory there is."""


def tight(rescue: bool, limit: float | None = LIMIT, max_units: int = 3, **space: Any) -> Benchmark:
    """Make a benchmark whose memory holds a forward pass of `limit` samples."""
    benchmark = synthetic(max_units)
    assert benchmark.synthetic is not None
    domains = {**benchmark.space, "batch_size_per_device": Choice(type="choice", values=SIZES), **space}
    grid = {"batch_size_per_device": SIZES, "learning_rate": (1e-4, 1e-3, 1e-2)}
    settings = benchmark.synthetic.model_copy(update={"memory_limit": limit})
    return benchmark.model_copy(update={"space": domains, "grid": grid, "rescue": rescue, "synthetic": settings})


def study_of(method: str, benchmark: Benchmark, devices: int = 1, seed: int = 0, budget: int = 12) -> Finished:
    return run(make(method, benchmark, seed, budget), InProcess(devices))


def make(method: str, benchmark: Benchmark, seed: int = 0, budget: int = 12) -> Study:
    """Make a study; a grid is trained as it is written."""
    as_written = {"shift": False} if method == "manual" else {}
    return registry.get(method).study(benchmark, seed, budget, None, as_written)


def lost(finished: Finished) -> list[TrialRow]:
    return [row for row in finished.books.rows if row.reason.startswith("out of memory")]


def test_a_trial_that_runs_out_is_not_tried_again_and_says_what_it_asked_for() -> None:
    finished = study_of("manual", tight(rescue=False))
    first, *_ = lost(finished)
    assert (first.outcome, first.units, first.failures, len(first.raised)) == ("failed", 0, (), 1)
    assert first.reason == (
        "out of memory: MemoryError: tried to allocate 16 of 8 (simulated); asked for by batch_size_per_device 16, "
        "lora_rank 0, gradient_checkpointing False"
    )
    assert first.device_seconds > 0
    assert finished.shares.seconds["failed"] > 0


def test_the_rest_of_a_grid_that_fits_is_trained() -> None:
    finished = study_of("manual", tight(rescue=False))
    completed = [row for row in finished.books.rows if row.outcome == "completed"]
    assert {row.config["batch_size_per_device"] for row in completed} == {4, 8}
    assert len(completed) == 1 + 6  # the default first
    assert (len(lost(finished)), finished.books.skipped) == (1, 5)
    assert finished.reached_end


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_skipped_costs_nothing(devices: int, seed: int) -> None:
    finished = study_of("random", tight(rescue=False), devices, seed)
    sound = [row for row in finished.books.rows if row.outcome in ("completed", "diverged")]
    assert sum(row.trained_units for row in finished.books.rows) == 36  # the whole budget
    assert {row.config["batch_size_per_device"] for row in sound} == {4, 8}
    assert finished.books.skipped > 0


def test_one_seed_gives_one_study() -> None:
    first, second = (study_of("asha", tight(rescue=False), seed=3) for _ in range(2))
    assert [row.config for row in first.books.rows] == [row.config for row in second.books.rows]
    assert first.books.skipped == second.books.skipped


def test_a_population_is_whole_although_members_are_lost() -> None:
    finished = study_of("pbt", tight(rescue=False), seed=1)
    assert lost(finished)
    assert sum(row.outcome == "completed" for row in finished.books.rows) == 12
    assert all(config["batch_size_per_device"] <= LIMIT for row in whole(finished) for _, config in row.schedule)


def whole(finished: Finished) -> list[TrialRow]:
    return [row for row in finished.books.rows if row.outcome == "completed"]


@pytest.mark.parametrize("method", ["random", "pbt", "hyperband"])
def test_a_rescued_study_equals_one_with_enough_memory(method: str) -> None:
    short, ample = (study_of(method, tight(rescue=True, limit=limit), seed=1) for limit in (LIMIT, None))
    assert [row.schedule for row in short.books.rows] == [row.schedule for row in ample.books.rows]
    assert [row.objective for row in short.books.rows] == [row.objective for row in ample.books.rows]
    assert (lost(short), short.books.skipped) == ([], 0)
    for row in short.books.rows:
        size = int(row.last_config["batch_size_per_device"])
        assert row.micro_batch == (None if size <= LIMIT else LIMIT)
    assert all(row.micro_batch is None for row in ample.books.rows)


def test_what_a_rescue_costs_is_booked_as_failed() -> None:
    finished = study_of("random", tight(rescue=True), seed=1, budget=2)
    assert any(row.micro_batch for row in finished.books.rows)
    assert finished.shares.seconds["failed"] > 0
    assert sum(finished.shares.seconds.values()) == pytest.approx(finished.shares.reserved_seconds, rel=0.01)


def test_what_no_rescue_helps_is_lost_for_all_batch_sizes() -> None:
    """Without checkpointing LoRA's rank alone takes more than there is."""
    ranks = Choice(type="choice", values=(2, 4, 16, 32))
    finished = study_of("random", tight(rescue=True, lora_rank=ranks))
    assert 1 <= len(lost(finished)) <= 2
    assert "batch_size_per_device" in lost(finished)[0].reason
    assert {row.config["lora_rank"] for row in whole(finished)} <= {2, 4}
    assert finished.books.skipped > 0


def test_a_study_of_which_nothing_fits_ends_and_says_so() -> None:
    finished = study_of("random", tight(rescue=True, limit=0.1))
    assert (finished.reached_end, finished.best) == (False, None)
    assert finished.reason.startswith("every trial fails: out of memory: MemoryError: tried to allocate 1 of 0.1")
    assert len(finished.books.rows) == 1


def test_trials_that_run_out_do_not_end_a_study_whose_others_may_fit() -> None:
    finished = study_of("random", tight(rescue=False), devices=8, seed=1)
    assert finished.reached_end
    assert finished.best is not None


def test_what_is_known_survives_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is that of a study which was killed after its first loss."""
    monkeypatch.chdir(tmp_path)
    study = registry.get("random").study(tight(rescue=False), 0, 12, None, {})
    uninterrupted = run(study, InProcess(1))
    kept: list[bytes] = []
    write = Unfinished.write

    def keep(self: Unfinished, state: Any) -> None:
        write(self, state)
        if state.feasibility.lost and len(state.books.rows) > 2 and not kept:
            kept.append((self.folder / "state").read_bytes())
            raise KeyboardInterrupt

    monkeypatch.setattr(Unfinished, "write", keep)
    interrupted = run(study, InProcess(1), folder=tmp_path)
    assert interrupted.is_kept
    monkeypatch.setattr(Unfinished, "write", write)
    (tmp_path / "unfinished" / interrupted.run_id / "state").write_bytes(kept[0])
    resumed = run(study, InProcess(1), folder=tmp_path, run_id=interrupted.run_id)
    assert [row.config for row in resumed.books.rows] == [row.config for row in uninterrupted.books.rows]
    assert resumed.books.skipped == uninterrupted.books.skipped
    assert len(lost(resumed)) == len(lost(uninterrupted))


def printed(study: Study, finished: Finished) -> str:
    out = io.StringIO()
    report(Console(file=out, width=200), study, finished)
    return out.getvalue()


def test_the_end_of_a_study_says_what_was_rescued_and_what_was_not_trained() -> None:
    rescued, skipping = (make("manual", tight(rescue=on)) for on in (True, False))
    told = printed(rescued, run(rescued, InProcess(1)))
    assert "was rescued from running out of memory: micro-batch 8 x 4 accumulation steps in place of 32 x 1" in told
    assert "not trained" not in told
    told = printed(skipping, run(skipping, InProcess(1)))
    assert "5 proposals were not trained: they ask for the memory of one that ran out of it, or may" in told
    assert "failed: out of memory: MemoryError: tried to allocate 16 of 8" in told


class TestOfEveryMethod:
    """Half of all random draws run out of memory, and no method loses more than two trials to that."""

    @pytest.mark.parametrize("devices", [2, 8])
    @pytest.mark.parametrize("method", registry.names())
    def test_loses_two_trials_at_most(self, method: str, devices: int) -> None:
        self.check(study_of(method, tight(rescue=False), devices, budget=8), method)

    @pytest.mark.thorough  # one seed of each method above
    @pytest.mark.parametrize("devices", [1, 2, 8])
    @pytest.mark.parametrize("method", registry.names())
    def test_so_it_is_with_other_seeds(self, method: str, devices: int) -> None:
        for seed in range(1, 6):
            self.check(study_of(method, tight(rescue=False, max_units=9), devices, seed, budget=8), method)

    @pytest.mark.parametrize("seed", [4, 7, 13])
    def test_so_do_eight_devices_that_would_begin_with_several_too_large_ones(self, seed: int) -> None:
        self.check(study_of("optuna", tight(rescue=False, max_units=9), devices=8, seed=seed, budget=8), "optuna")

    def check(self, finished: Finished, method: str) -> None:
        assert not finished.reason
        assert len(lost(finished)) <= 2
        assert (finished.books.skipped > 0) == (method != "default")
        assert finished.best is not None
