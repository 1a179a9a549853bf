"""The cost of checkpoints: what a trial waits for is booked, and what is in memory alone is not relied upon."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.clock import Clock
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training.checkpoint.files import missing, write_list
from benchmarks.trials.synthetic import Synthetic, SyntheticTrial
from hpo.core.study import Study
from hpo.engine import events
from hpo.engine.checkpoints import Pace, folder_of
from hpo.engine.in_process import InProcess
from hpo.engine.snapshot import State
from hpo.engine.study_folder import Unfinished
from hpo.search import registry
from tests.hpo.engine.in_process import run, synthetic

SECONDS_TO_SAVE, SECONDS_TO_LOAD = 0.01, 0.005


def study(method: str, **arguments: int) -> Study:
    return Study(method, synthetic(seconds_per_unit=0.001), seed=1, budget=4, arguments=arguments)


@dataclass
class Cost:
    """Time that trials have waited for checkpoints, and that the driver was told."""

    waited: float = 0.0
    seen: list[float] = field(default_factory=list)


class SlowDisk(SyntheticTrial):
    """A trial whose checkpoints take their time."""

    def __init__(self, benchmark: Benchmark, clock: Clock, cost: Cost) -> None:
        super().__init__(benchmark, clock)
        self._waits, self._cost = clock, cost

    def _wait(self, seconds: float) -> None:
        self._waits.sleep(seconds)
        self._cost.waited += seconds

    def save(self, folder: Path, to_disk: bool = True) -> None:
        self._wait(SECONDS_TO_SAVE)
        super().save(folder, to_disk)

    def load(self, folder: Path) -> None:
        self._wait(SECONDS_TO_LOAD)
        super().load(folder)


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> Cost:
    """Make checkpoints slow, and note their time."""
    cost, see = Cost(), Pace.see

    def noting(pace: Pace, checkpoint_seconds: float) -> None:
        cost.seen.append(checkpoint_seconds)
        see(pace, checkpoint_seconds)

    def process(settings: Synthetic, benchmark: Benchmark, open_ranks: Any, clock: Clock) -> SyntheticTrial:
        return SlowDisk(benchmark, clock, cost)

    monkeypatch.setattr(Synthetic, "process", process)
    monkeypatch.setattr(Pace, "see", noting)
    return cost


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pbt", "hyperband"])
def test_the_pace_sees_all_time_that_trials_wait_for_checkpoints(method: str, cost: Cost, tmp_path: Path) -> None:
    """And the ledger books it as such, also where an actor ends right after a checkpoint."""
    finished = run(study(method), InProcess(2), tmp_path)
    booked = finished.shares.seconds["checkpoint"]
    assert cost.waited > 10 * SECONDS_TO_SAVE
    lost = 0.2 * cost.waited  # of trials that are stopped while they save, which report it no more
    assert cost.waited - lost <= booked <= cost.waited * 1.000001
    assert sum(cost.seen) == pytest.approx(booked)
    assert sum(row.device_seconds for row in finished.books.rows) <= finished.shares.reserved_seconds


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("pbt", {}), ("pb2", {}), ("hyperband", {}), ("bohb", {}), ("asha", {"promotion": True})],
)
def test_a_study_whose_checkpoints_the_disk_does_not_hold_is_refused_before_it_starts(
    method: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    study = registry.get(method).study(spec.load("nano"), 1, 4, None, arguments)
    with pytest.raises(BenchmarkError, match=rf"its disk has 0\.0 GB free, but {method} may keep \d+ checkpoints of"):
        run(study, InProcess(2), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["random", "default", "asha", "median", "hyperopt", "optuna", "manual"])
def test_a_method_that_pauses_no_trial_needs_no_room(method: str) -> None:
    study = registry.get(method).study(spec.load("nano"), 1, 4, None, {})
    assert registry.get(method).make_plan(study).paused == 0


@dataclass
class Late:
    """Checkpoints whose file reaches the disk late, as from the memory of a node.

    Attributes:
        states: of the study, as they were kept.
        lacking: checkpoints that a state relied upon and the disk did not have.
        unwritten: events at which some checkpoint was not on the disk.
    """

    states: int = 0
    lacking: list[Path] = field(default_factory=list)
    unwritten: int = 0


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Late]:
    late, threads = Late(), list[Thread]()
    save, load, write = SyntheticTrial.save, SyntheticTrial.load, Unfinished.write
    memory = tmp_path / "memory"

    def save_late(trial: SyntheticTrial, folder: Path) -> None:
        kept = memory / folder.name
        kept.mkdir(parents=True)
        save(trial, kept)
        write_list(folder, {"synthetic.json": 1})
        threads.append(Thread(target=arrive, args=(kept, folder)))
        threads[-1].start()

    def arrive(kept: Path, folder: Path) -> None:
        time.sleep(0.02)
        if folder.is_dir():
            shutil.copy(kept / "synthetic.json", folder / ".part")
            (folder / ".part").rename(folder / "synthetic.json")

    def write_checked(unfinished: Unfinished, state: State) -> None:
        late.states += 1
        for trial in state.trials:
            if trial.checkpoint:
                folder = folder_of(Path(trial.checkpoint.path), unfinished.folder)
                late.lacking += [folder] if missing(folder) or not folder.is_dir() else []
        write(unfinished, state)

    monkeypatch.setattr(SyntheticTrial, "save", save_late)
    monkeypatch.setattr(SyntheticTrial, "load", lambda trial, folder: load(trial, memory / folder.name))
    monkeypatch.setattr(Unfinished, "write", write_checked)
    yield late
    for thread in threads:
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pbt", "hyperband"])
def test_no_state_relies_on_a_checkpoint_that_is_in_memory_alone(method: str, late: Late, tmp_path: Path) -> None:
    """Resume reads the disk."""
    finished = run(study(method), InProcess(2), tmp_path)
    assert finished.reached_end, finished.reason
    assert late.states > 1
    assert late.lacking == []


@pytest.mark.slow
def test_a_study_waits_for_a_disk_that_is_slower_than_its_trials(
    late: Late, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its state would become ever older. Where the disk takes nothing at all, the study goes on and says so."""
    monkeypatch.setattr(events, "MAX_SECONDS_UNWRITTEN", 0.0001)
    monkeypatch.setattr(events, "SECONDS_PER_LOOK", 0.00001)
    finished = run(study("pbt", interval_units=1), InProcess(2), tmp_path)
    assert finished.reached_end, finished.reason
    assert late.lacking == []
