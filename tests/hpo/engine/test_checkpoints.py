"""Checkpoints on disk: the latest of each live trial and no others, while a study runs."""

from __future__ import annotations

import io
import shutil
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
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.results import TrialRow
from hpo.core.study import Study
from hpo.engine.checkpoints import FOLDER, POINTER, Checkpoints, folder_of, new_folder, point_to
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
    """Writes checkpoints as Tune and a trial do.

    Attributes:
        path: Tune's folder, within that of the study.
        checkpoints: the checkpoints so far.
    """

    path: Path
    checkpoints: Checkpoints = field(default_factory=Checkpoints)

    @property
    def home(self) -> Path:
        return self.path.parent

    def save(self, trial: Trial, name: str) -> Any:
        """Give a trial a checkpoint, its latest."""
        (self.path / name).mkdir()
        written = new_folder(self.home, name)
        (written / "weights").write_text(name)
        point_to(written, self.path / name)
        result = _TrainingResult(Checkpoint(str(self.path / name)), {"training_iteration": 1})
        self.checkpoints.add(result.checkpoint)
        trial.on_checkpoint(result)
        return result

    @property
    def names(self) -> set[str]:
        """Tune's checkpoints; each has its weights, and no others are there."""
        names = {path.name for path in self.path.iterdir() if path.name != "foreign"}
        assert {file.read_text() for file in self.home.glob(f"{FOLDER}/*/weights")} == names
        return {path.name for path in self.path.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    path = tmp_path / "tune"
    path.mkdir()
    return Folder(path)


class TestPrune:
    def test_keeps_the_latest_of_each_trial(self, folder: Folder, trials: list[Trial]) -> None:
        for name in ("1", "2"):
            folder.save(trials[0], f"a{name}")
            folder.save(trials[1], f"b{name}")
        folder.checkpoints.prune(trials, folder.home)
        assert folder.names == {"a2", "b2"}

    def test_deletes_those_of_trials_that_have_ended(self, folder: Folder, trials: list[Trial]) -> None:
        folder.save(trials[0], "a1")
        folder.save(trials[1], "b1")
        trials[0].set_status(Trial.TERMINATED)
        folder.checkpoints.prune(trials, folder.home)
        assert folder.names == {"b1"}

    def test_deletes_those_of_trials_that_failed(self, folder: Folder, trials: list[Trial]) -> None:
        folder.save(trials[0], "a1")
        trials[0].set_status(Trial.ERROR)
        folder.checkpoints.prune(trials, folder.home)
        assert folder.names == set()

    def test_keeps_what_another_trial_has_taken_over(self, folder: Folder, trials: list[Trial]) -> None:
        """However far its donor has got since, and if it has ended."""
        donated = folder.save(trials[0], "a1")
        folder.save(trials[1], "b1")
        trials[1].on_checkpoint(donated)
        folder.save(trials[0], "a2")
        folder.checkpoints.prune(trials, folder.home)
        assert folder.names == {"a1", "a2"}
        trials[0].set_status(Trial.TERMINATED)
        folder.checkpoints.prune(trials, folder.home)
        assert folder.names == {"a1"}

    def test_keeps_what_is_being_read(self, folder: Folder, trials: list[Trial]) -> None:
        trials[0].temporary_state.restoring_from = folder.save(trials[0], "a1")
        folder.save(trials[0], "a2")
        folder.checkpoints.prune(trials, folder.home)
        assert folder.names == {"a1", "a2"}
        trials[0].temporary_state.restoring_from = None
        folder.checkpoints.prune(trials, folder.home)
        assert folder.names == {"a2"}

    def test_touches_nothing_that_no_trial_wrote(self, folder: Folder, trials: list[Trial]) -> None:
        (folder.path / "foreign").mkdir()
        folder.checkpoints.prune(trials, folder.home)
        assert folder.names == {"foreign"}

    def test_one_that_is_gone_already_is_no_error(self, folder: Folder, trials: list[Trial]) -> None:
        folder.save(trials[0], "a1")
        shutil.rmtree(folder.path / "a1")
        shutil.rmtree(folder.home / FOLDER)
        trials[0].set_status(Trial.TERMINATED)
        folder.checkpoints.prune(trials, folder.home)
        assert folder.names == set()

    def test_weights_that_an_interruption_left_half_written_are_swept_away(
        self, folder: Folder, trials: list[Trial]
    ) -> None:
        folder.save(trials[0], "a1")
        (new_folder(folder.home, "a2") / "weights").write_text("half")
        folder.checkpoints.sweep(folder.home)
        assert folder.names == {"a1"}


class TestPointer:
    def test_leads_to_the_weights(self, tmp_path: Path) -> None:
        written = new_folder(tmp_path, "a1")
        point_to(written, tmp_path)
        assert folder_of(tmp_path, tmp_path) == written
        assert written.parent == tmp_path / FOLDER

    def test_two_of_one_trial_do_not_meet(self, tmp_path: Path) -> None:
        assert new_folder(tmp_path, "a1") != new_folder(tmp_path, "a1")

    @pytest.mark.parametrize("name", ["", "..", "../elsewhere", "/etc", "a/b", ".", "a\nb"])
    def test_that_leads_elsewhere_is_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / POINTER).write_text(name)
        with pytest.raises(BenchmarkError, match="which is no folder of"):
            folder_of(tmp_path, tmp_path)

    def test_that_is_missing_names_the_cure(self, tmp_path: Path) -> None:
        with pytest.raises(BenchmarkError, match=r"another version wrote it\. Resume the study with that version"):
            folder_of(tmp_path, tmp_path)


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
        return len(glob(f"{self.folder}/unfinished/*/{FOLDER}/*"))  # Path.glob trips over deletions

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

    def watched_prune(checkpoints: Checkpoints, trials: Iterable[Trial], home: Path) -> None:
        trials = list(trials)
        prune(checkpoints, trials, home)
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
    return finished.books.rows


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
