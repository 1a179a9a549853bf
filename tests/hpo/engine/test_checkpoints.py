"""Checkpoints on disk: the latest of each live trial and no others, while a study runs."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from ray import tune
from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint
from ray.tune.experiment import Experiment, Trial
from ray.tune.search import BasicVariantGenerator
from rich.console import Console

from benchmarks import spec
from benchmarks.spec import Benchmark
from hpo.core.results import TrialRow
from hpo.core.study import Study
from hpo.engine.checkpoints import Checkpoints
from hpo.engine.in_process import InProcess
from hpo.engine.runner import run
from tests.stores import working_in

DEVICES = 2


@pytest.fixture
def trials(tmp_path: Path) -> list[Trial]:
    """Two trials of Tune's that nobody trains."""
    search = BasicVariantGenerator()
    search.add_configurations([Experiment("study", tune.Trainable, num_samples=2, storage_path=str(tmp_path))])
    return [search.next_trial() for _ in range(2)]


@dataclass(frozen=True)
class Folder:
    """Writes checkpoints as Tune does."""

    path: Path
    checkpoints: Checkpoints = field(default_factory=Checkpoints)

    def save(self, trial: Trial, name: str) -> Any:
        """Give a trial a checkpoint, its latest."""
        (self.path / name).mkdir()
        (self.path / name / "weights").write_text(name)
        result = _TrainingResult(Checkpoint(str(self.path / name)), {"training_iteration": 1})
        self.checkpoints.add(result.checkpoint)
        trial.on_checkpoint(result)
        return result

    @property
    def names(self) -> set[str]:
        return {path.name for path in self.path.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    path = tmp_path / "checkpoints"
    path.mkdir()
    return Folder(path)


class TestPrune:
    def test_keeps_the_latest_of_each_trial(self, folder: Folder, trials: list[Trial]) -> None:
        for name in ("1", "2"):
            folder.save(trials[0], f"a{name}")
            folder.save(trials[1], f"b{name}")
        folder.checkpoints.prune(trials)
        assert folder.names == {"a2", "b2"}

    def test_deletes_those_of_trials_that_have_ended(self, folder: Folder, trials: list[Trial]) -> None:
        folder.save(trials[0], "a1")
        folder.save(trials[1], "b1")
        trials[0].set_status(Trial.TERMINATED)
        folder.checkpoints.prune(trials)
        assert folder.names == {"b1"}

    def test_deletes_those_of_trials_that_failed(self, folder: Folder, trials: list[Trial]) -> None:
        folder.save(trials[0], "a1")
        trials[0].set_status(Trial.ERROR)
        folder.checkpoints.prune(trials)
        assert folder.names == set()

    def test_keeps_what_another_trial_has_taken_over(self, folder: Folder, trials: list[Trial]) -> None:
        """However far its donor has got since, and if it has ended."""
        donated = folder.save(trials[0], "a1")
        folder.save(trials[1], "b1")
        trials[1].on_checkpoint(donated)
        folder.save(trials[0], "a2")
        folder.checkpoints.prune(trials)
        assert folder.names == {"a1", "a2"}
        trials[0].set_status(Trial.TERMINATED)
        folder.checkpoints.prune(trials)
        assert folder.names == {"a1"}

    def test_keeps_what_is_being_read(self, folder: Folder, trials: list[Trial]) -> None:
        trials[0].temporary_state.restoring_from = folder.save(trials[0], "a1")
        folder.save(trials[0], "a2")
        folder.checkpoints.prune(trials)
        assert folder.names == {"a1", "a2"}
        trials[0].temporary_state.restoring_from = None
        folder.checkpoints.prune(trials)
        assert folder.names == {"a2"}

    def test_touches_nothing_that_no_trial_wrote(self, folder: Folder, trials: list[Trial]) -> None:
        (folder.path / "foreign").mkdir()
        folder.checkpoints.prune(trials)
        assert folder.names == {"foreign"}

    def test_one_that_is_gone_already_is_no_error(self, folder: Folder, trials: list[Trial]) -> None:
        folder.save(trials[0], "a1")
        (folder.path / "a1" / "weights").unlink()
        (folder.path / "a1").rmdir()
        trials[0].set_status(Trial.TERMINATED)
        folder.checkpoints.prune(trials)
        assert folder.names == set()


# ---- real studies


@dataclass
class Watch:
    """Counts of the checkpoints on disk during a study.

    Attributes:
        written: checkpoints in all.
        most: at once.
        excess: after each deletion, by how many there were more than live trials had and were writing.
        left: after the last deletion.
        rows: the study's trials.
    """

    folder: Path
    written: int = 0
    most: int = 0
    excess: list[int] = field(default_factory=list)
    left: int = -1
    rows: list[TrialRow] = field(default_factory=list)

    def on_disk(self) -> int:
        return len(glob(f"{self.folder}/unfinished/*/tune/study/*/checkpoint_*"))  # Path.glob trips over deletions

    def note(self, trials: list[Trial]) -> None:
        """Count after a deletion."""
        live = [trial for trial in trials if not trial.is_finished()]
        needed = {trial.checkpoint.path for trial in live if trial.checkpoint}
        self.left = self.on_disk()
        self.excess.append(self.left - len(needed) - sum(trial.is_saving for trial in live))

    def keep_looking(self, ended: Event) -> None:
        while not ended.wait(timeout=0.002):
            self.most = max(self.most, self.on_disk())


@pytest.fixture(scope="module", params=["hyperband", "pbt"])
def watch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """Run a study, and watch its folder from beside and after each deletion."""
    folder = tmp_path_factory.mktemp("checkpoints")
    watch, ended = Watch(folder), Event()
    add, prune = Checkpoints.add, Checkpoints.prune

    def counted_add(checkpoints: Checkpoints, checkpoint: Any) -> None:
        watch.written += 1
        add(checkpoints, checkpoint)

    def watched_prune(checkpoints: Checkpoints, trials: Iterable[Trial]) -> None:
        trials = list(trials)
        prune(checkpoints, trials)
        watch.note(trials)

    with working_in(folder), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Checkpoints, "add", counted_add)
        monkeypatch.setattr(Checkpoints, "prune", watched_prune)
        watcher = Thread(target=watch.keep_looking, args=(ended,))
        watcher.start()
        try:
            watch.rows = run_study(request.param)
        finally:
            ended.set()
            watcher.join()
    return watch


def run_study(method: str) -> list[TrialRow]:
    study = Study(method, synthetic(), seed=1, budget=4)
    finished = run(study, "python -m hpo", Console(file=io.StringIO(), width=160), InProcess(DEVICES))
    assert finished.reached_end, finished.reason
    return finished.results.rows


def synthetic() -> Benchmark:
    benchmark = spec.load("synthetic")
    assert benchmark.synthetic is not None
    settings = benchmark.synthetic.model_copy(update={"seconds_per_unit": 0.001, "diverge_above": None})
    return benchmark.model_copy(update={"synthetic": settings})


@pytest.mark.slow
class TestStudy:
    def test_more_are_written_than_are_on_disk_at_any_time(self, watch: Watch) -> None:
        assert 0 < watch.most < watch.written

    def test_after_each_deletion_there_is_one_a_live_trial_at_most(self, watch: Watch) -> None:
        """Beyond those that are being written."""
        assert watch.excess
        assert max(watch.excess) <= 0

    def test_at_no_time_are_there_more_than_trials_and_devices(self, watch: Watch) -> None:
        assert watch.most <= len(watch.rows) + DEVICES

    def test_none_is_left_when_the_last_trial_has_ended(self, watch: Watch) -> None:
        assert watch.left == 0

    def test_the_study_s_folder_is_gone_with_it(self, watch: Watch) -> None:
        assert not (watch.folder / "unfinished").exists()

    def test_no_trial_misses_its_checkpoint(self, watch: Watch) -> None:
        """It would begin anew, and units be trained twice."""
        assert [row.trained_units for row in watch.rows] == [row.units for row in watch.rows]
