"""A study's folder: what its jobs wrote, whatever cut them off, and what becomes of it in MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from benchmarks import spec
from benchmarks.spec import BenchmarkError
from benchmarks.tasks.task import TokenStatistics
from hpo.analysis import records
from hpo.core import events as core
from hpo.search import registry
from hpo.search.searchers import proposals
from hpo.store.queries import states
from slurm import arrays, gather, study_folder
from slurm.jobs.trial_job import trial_of_task
from slurm.study_folder import SubmittedStudy
from tests.grids import points_of
from tests.slurm.jobs.jobs_of_study import CLUSTER, RATES, Job, make_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of three trials, and a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return make_folder(tmp_path)


def kinds(folder: Path) -> list[tuple[str, str]]:
    """The events' kinds and trials, proposals aside."""
    found = [event for event in study_folder.events(folder) if not isinstance(event, core.Proposed)]
    return [(type(event).__name__.lower(), getattr(event, "trial", "")) for event in found]


class TestRecords:
    def test_jobs_are_one_story_in_order_of_time(self, folder: Path) -> None:
        Job(folder, "7").reserve().begin(1).unit(1).end("failed", "why").release()
        Job(folder, "8", at=0.5).reserve().begin(0).release()
        assert kinds(folder)[:4] == [("reserved", ""), ("reserved", ""), ("began", "1"), ("began", "0")]
        assert study_folder.finished(folder) == {1}

    def test_a_job_that_died_is_ended_for_it(self, folder: Path) -> None:
        """At its last word; what came after it is not known."""
        Job(folder, "7").reserve().begin(2).unit(1)
        *_, ended, released = study_folder.events(folder)
        assert ended == core.Ended(2.0, "2", "interrupted", study_folder.WITHOUT_A_WORD)
        assert released == core.Released(2.0, "7")

    def test_one_that_was_queued_again_does_not_hold_devices_in_between(self, folder: Path) -> None:
        job = Job(folder, "7").reserve().begin(2).unit(1)
        job.at = 100.0
        job.reserve().whole(2, 0.5).release()
        found = [
            (type(event), event.at)
            for event in study_folder.events(folder)
            if isinstance(event, core.Reserved | core.Released)
        ]
        on, off = core.Reserved, core.Released
        assert found == [(on, 0.0), (off, 2.0), (on, 100.0), (off, 112.0)]
        assert study_folder.finished(folder) == {2}

    def test_a_line_that_was_cut_off_costs_no_other(self, folder: Path) -> None:
        """Nor the one that the job, queued again, adds to it."""
        job = Job(folder, "7").reserve().begin(0).unit(1)
        with job.path.open("a") as file:
            file.write('{"event": "ended", "outc')
        told = [("reserved", ""), ("began", "0"), ("unit", "0"), ("ended", "0"), ("released", "")]
        assert kinds(folder) == told
        [lost] = study_folder.told(folder).torn
        assert lost.startswith(f"{job.path}: its last line is torn (24 bytes) and left out")
        job.reserve().release()
        assert kinds(folder) == [*told, ("reserved", ""), ("released", "")]
        assert study_folder.told(folder).torn == ()

    def test_an_attempt_begins_after_the_end_of_the_one_before_whatever_the_clock_of_its_node_says(
        self, folder: Path
    ) -> None:
        Job(folder, "7").reserve().begin(1).unit(1).end("interrupted", "an error").release()
        Job(folder, "8", at=1.25).reserve().whole(0, 0.5).release()
        Job(folder, "9", at=1.5).reserve().begin(1).end("interrupted", "another").release()
        Job(folder, "10", at=1.75).reserve().begin(1).unit(1).end("failed", "the error again").release()
        assert [kind for kind, trial in kinds(folder) if trial == "1"] == [
            *("began", "unit", "ended"),
            *("began", "ended"),
            *("began", "unit", "failed", "ended"),
        ]
        found = [event.at for event in study_folder.events(folder)]
        assert found == sorted(found)
        row = gather.gather(folder, incomplete=True).results["1"]
        assert (row.outcome, row.reason) == ("failed", "the error again")

    def test_a_folder_of_something_else_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BenchmarkError, match=r"study\.json: cannot be read"):
            SubmittedStudy.read(tmp_path)
        for text in ("", "[1]", '{"study": {"benchmark": {}}}', '{"study": 3}'):
            (tmp_path / study_folder.STUDY).write_text(text)
            with pytest.raises(BenchmarkError, match=r"study\.json: is no study of this version"):
                SubmittedStudy.read(tmp_path)

    def test_an_order_is_read_as_it_was_written(self, folder: Path) -> None:
        order = SubmittedStudy.read(folder)
        assert order.study.variant == "evaluation=asynchronous"
        assert order.study.benchmark == spec.load("synthetic")
        assert (order.trials, order.threads, order.at_once, order.command) == (3, 1, 2, "the command")


@pytest.mark.slow
class TestGathering:
    def test_what_the_data_are_like_is_taken_from_the_first_unit_that_says_it(self, folder: Path) -> None:
        told = [TokenStatistics("train", 8, 60.0, 60.0, 70, 80, 160, 0.25, 0.0)]
        job = Job(folder, "7").reserve().begin(0).unit(1, tokens=told)
        job.unit(2).end("diverged").whole(1, 0.5).whole(2, 0.7).release()
        found = gather.gather(folder)
        assert list(found.results.tokens) == told
        assert MlflowClient().get_run(found.run_id).data.metrics["train_truncated_share"] == 0.25

    def test_a_study_is_stored_as_one_that_ray_ran(self, folder: Path) -> None:
        Job(folder, "7").reserve().whole(0, 0.5).whole(1, 0.7).release()
        Job(folder, "8").reserve().whole(2, 0.9).release()
        found = gather.gather(folder)
        [study] = records.finished("synthetic")
        assert (study.method, study.variant, study.run_id) == ("random", "evaluation=asynchronous", found.run_id)
        assert study.metrics["units"] == 27
        assert study.metrics["best_eval_loss"] == pytest.approx(0.5 + 1 / 9)
        assert study.metrics["device_hours"] * 3600 == pytest.approx(23 + 12)
        assert study.metrics["wall_seconds"] == 23
        assert found.shares.seconds["train"] == pytest.approx(27 * 0.5)
        assert sum(found.shares.seconds.values()) == pytest.approx(found.shares.reserved_seconds)
        assert [(row.outcome, row.units) for row in found.results.rows] == [("completed", 9)] * 3
        run = MlflowClient().get_run(found.run_id)
        assert (run.info.status, run.data.tags["hpo.command"]) == ("FINISHED", "the command")

    def test_once(self, folder: Path) -> None:
        Job(folder, "7").reserve().whole(0, 0.5).whole(1, 0.7).whole(2, 0.9).release()
        gather.gather(folder)
        for _ in range(2):
            with pytest.raises(BenchmarkError, match="is in the store already"):
                gather.gather(folder)
            (folder / study_folder.GATHERED).unlink(missing_ok=True)  # the store knows too
        assert len(records.finished("synthetic")) == 1

    def test_one_of_which_every_trial_failed_is_never_finished(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job = Job(folder, "7").reserve()
        for trial in range(3):
            job.begin(trial).unit(1).end("failed", f"RuntimeError: {trial}")
        job.release()
        assert gather.gather_into_store(folder, CLUSTER, Path("cluster.yaml")) == 1
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last == "error: the study found nothing (every trial fails: RuntimeError: 2)"
        assert records.finished("synthetic") == []
        assert list(states("synthetic", "tags.hpo.kind = 'study'").values()) == ["FAILED"]
        with pytest.raises(BenchmarkError, match="is in the store already"):
            gather.gather(folder)
        (folder / study_folder.GATHERED).unlink()  # the job died before it wrote it
        assert gather.gather(folder).best is None
        assert list(states("synthetic", "tags.hpo.kind = 'study'").values()) == ["FAILED"]

    def test_one_sound_trial_makes_it_finished(self, folder: Path) -> None:
        job = Job(folder, "7").reserve().begin(0).end("failed", "x").begin(1).end("failed", "x")
        job.whole(2, 0.9).release()
        found = gather.gather(folder)
        assert (found.reason, [study.run_id for study in records.finished("synthetic")]) == ("", [found.run_id])

    def test_an_attempt_that_was_trained_again_counts_as_failed(self, folder: Path) -> None:
        job = Job(folder, "7").reserve().begin(0).unit(1).unit(2).end("interrupted", "its process was ended by SIGKILL")
        job.whole(0, 0.5).whole(1, 0.7).whole(2, 0.9).release()
        found = gather.gather(folder)
        assert found.shares.seconds["failed"] == pytest.approx(3.0)  # two units of a second, and one until its end
        assert found.results.rows[0].trained_units == 11
        assert found.results.rows[0].outcome == "completed"
        assert records.finished("synthetic")[0].metrics["units"] == 29

    def test_one_that_its_job_tried_again_says_why(self, folder: Path) -> None:
        job = Job(folder, "7").reserve().begin(0).unit(1).try_again("RuntimeError: no")
        for unit in range(1, 10):
            job.unit(unit)
        job.end().whole(1, 0.7).whole(2, 0.9).release()
        [first, *_] = gather.gather(folder).results.rows
        assert (first.outcome, first.failures, first.trained_units) == ("completed", ("RuntimeError: no",), 10)

    def test_proposals_that_were_skipped_in_several_jobs_add_up(self, folder: Path) -> None:
        Job(folder, "7").reserve().whole(0, 0.5).skip(2).release()
        Job(folder, "8").reserve().skip(1).release()
        found = gather.gather(folder)
        assert (found.results.skipped, found.missing, len(found.results.rows)) == (2, 0, 1)

    def test_what_began_first_does_not_change_a_trial_s_number(self, folder: Path) -> None:
        """The log of trial 2 is trial-2.log, and its task has the number 2."""
        Job(folder, "7").reserve().whole(2, 0.9).whole(0, 0.5).whole(1, 0.7).release()
        found = gather.gather(folder)
        assert [(row.number, row.config["learning_rate"]) for row in found.results.rows] == [
            (2, RATES[2]),
            (0, RATES[0]),
            (1, RATES[1]),
        ]
        assert {unit.trial for unit in found.results.units[:9]} == {2}

    def test_hours_on_different_devices_are_not_booked_as_those_of_one(self, folder: Path) -> None:
        Job(folder, "7").reserve("V100").whole(0, 0.5).whole(1, 0.7)
        Job(folder, "8").reserve("A100").whole(2, 0.9)
        assert gather.gather(folder).accelerator == "A100 + V100"

    def test_a_study_that_lacks_results_is_stored_only_if_told_so(self, folder: Path) -> None:
        """Then every trial is a row, whatever became of it; and it is stored once all the same."""
        job = Job(folder, "7").reserve().whole(0, 0.5)
        job.begin(1).unit(1).end("failed", "RuntimeError: no").begin(2).unit(1)
        with pytest.raises(BenchmarkError, match="1 of 3 trials have no result"):
            gather.gather(folder)
        assert records.finished("synthetic") == []
        found = gather.gather(folder, incomplete=True)
        assert [(row.outcome, row.reason) for row in found.results.rows] == [
            ("completed", "reached the full resource of 9 units"),
            ("failed", "RuntimeError: no"),
            ("interrupted", study_folder.WITHOUT_A_WORD),
        ]
        assert found.missing == 1
        assert MlflowClient().get_run(found.run_id).info.status == "KILLED"
        with pytest.raises(BenchmarkError, match="is in the store already"):
            gather.gather(folder, incomplete=True)

    def test_a_loss_that_is_lost_is_diverged(self, folder: Path) -> None:
        Job(folder, "7").reserve().begin(0).unit(1, float("nan")).end("diverged").whole(1, 0.7).whole(2, 0.9)
        rows = gather.gather(folder).results.rows
        assert [row.outcome for row in rows] == ["diverged", "completed", "completed"]
        assert "train loss nan" in rows[0].reason

    def test_before_any_job_has_begun_there_is_nothing(self, folder: Path) -> None:
        for incomplete in (False, True):
            with pytest.raises(BenchmarkError, match="3 of 3 trials have no result"):
                gather.gather(folder, incomplete)


class TestProposals:
    """tests/hpo/methods/test_methods_contract.py compares them with what trains under Ray."""

    def test_are_a_function_of_seed_and_number(self) -> None:
        study = registry.get("random").study(spec.load("synthetic"), 3, 4, None, {})
        first = proposals(study)
        assert len(first) == 4
        assert first == proposals(study)
        assert first[:2] == proposals(registry.get("random").study(spec.load("synthetic"), 3, 2, None, {}))
        assert first != proposals(registry.get("random").study(spec.load("synthetic"), 4, 4, None, {}))

    def test_of_a_grid_are_the_default_and_its_points(self) -> None:
        benchmark = spec.load("synthetic")
        found = proposals(registry.get("manual").study(benchmark, 0, 13, None, {"shift": "false"}))
        assert found[0] == benchmark.default_in_space()
        assert sorted(map(str, found[1:])) == sorted(map(str, points_of(benchmark)))
        assert proposals(registry.get("manual").study(benchmark, 0, 5, None, {"shift": "false"})) == found[:5]

    def test_of_a_moved_grid_are_those_of_its_seed(self) -> None:
        first, again, other = (proposals(registry.get("manual").study(spec.load("synthetic"), seed, 12, None, {}))
                               for seed in (0, 0, 1))  # fmt: skip
        assert first == again != other

    @pytest.mark.parametrize("method", ["asha", "pbt", "hyperopt", "bohb"])
    def test_methods_that_learn_from_results_need_ray(self, method: str) -> None:
        study = registry.get(method).study(spec.load("synthetic"), 0, 12, None, {})
        with pytest.raises(BenchmarkError, match=f"{method} learns from results while trials run, so it needs Ray"):
            arrays.prepare(study, "asynchronous", CLUSTER, 0, "")

    @pytest.mark.parametrize(("given", "gpu_hours"), [({"concurrency": "1"}, None), ({}, 0.5)])
    def test_what_jobs_cannot_keep_is_refused(self, given: dict[str, str], gpu_hours: float | None) -> None:
        study = registry.get("manual").study(spec.load("synthetic"), 0, 3, gpu_hours, given)
        with pytest.raises(BenchmarkError, match="gpu-hours and concurrency take Ray"):
            arrays.prepare(study, "asynchronous", CLUSTER, 0, "")


class TestSubmissions:
    def submitted(self, trials: int, evaluation: str, at_once: int) -> SubmittedStudy:
        study = registry.get("random").study(spec.load("synthetic"), 0, trials, None, {})
        order = arrays.prepare(replace(study, budget=1), evaluation, CLUSTER, at_once, "")  # type: ignore[arg-type]
        return replace(order, proposals=({"learning_rate": 1e-3},) * trials)

    def options(self, trials: int, evaluation: str = "asynchronous", at_once: int = 0, size: int = 1001) -> list[str]:
        order = self.submitted(trials, evaluation, at_once)
        place = Path("/logs/study")
        found = arrays.submissions(CLUSTER, Path("c.yaml"), "hpo-random", place, order, range(trials), size)
        return [" ".join(submission.options) for submission in found]

    def test_an_array_is_a_range(self) -> None:
        assert self.options(12) == ["--array=0-11", "--dependency=afterany:{previous}"]
        assert self.options(1, at_once=4) == ["--array=0%4", "--dependency=afterany:{previous}"]
        assert self.options(1200, size=4000)[0] == "--array=0-1199"

    def test_more_trials_than_an_array_may_have_are_several_arrays(self) -> None:
        """Numbers in an array are below MaxArraySize; the second array begins at trial 1001, and says so."""
        assert self.options(1200) == ["--array=0-1000", "--array=0-198", "--dependency=afterany:{all}"]
        order = self.submitted(1200, "asynchronous", 0)
        first, second, _ = arrays.submissions(CLUSTER, Path("c"), "n", Path("/s"), order, range(1200), 1001)
        assert "HPO_FIRST_TRIAL" not in first.script
        assert "\nexport HPO_FIRST_TRIAL=1001\n" in second.script

    def test_a_limit_of_tasks_at_once_holds_over_several_arrays(self) -> None:
        first, second, gathering = self.options(1200, at_once=8)
        assert (first, second) == ("--array=0-1000%8", "--array=0-198%8 --dependency=afterany:{previous}")
        assert gathering == "--dependency=afterany:{previous}"

    def test_batches_are_split_where_the_array_ends(self) -> None:
        found = self.options(12, "batch", 5, size=7)
        after = "--dependency=afterany:{previous}"
        assert found == [
            *("--array=0-4", f"--array=5-6 {after}", f"--array=0-2 {after}", f"--array=3-4 {after}"),
            after,
        ]

    def test_what_is_missing_is_submitted_alone(self) -> None:
        order = self.submitted(2000, "asynchronous", 0)
        found = arrays.submissions(CLUSTER, Path("c"), "n", Path("/s"), order, [0, 3, 4, 5, 9, 1500], 1001)
        assert [one.options[0] for one in found[:2]] == ["--array=0,3-5,9", "--array=499"]

    def test_a_cluster_without_arrays_is_named_with_the_way_round(self) -> None:
        with pytest.raises(BenchmarkError, match=r"takes no arrays: its MaxArraySize is 0 .*`slurm serial`"):
            self.options(2, size=0)


@pytest.mark.parametrize(("given", "trial"), [({}, 4), ({"HPO_FIRST_TRIAL": "1001"}, 1005)])
def test_a_task_of_a_later_array_trains_the_trial_that_it_stands_for(given: dict[str, str], trial: int) -> None:
    assert trial_of_task({"SLURM_ARRAY_TASK_ID": "4", **given}) == trial
