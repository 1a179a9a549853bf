"""Studies from CSV files, as they become studies of a real store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks import identity, spec
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.analysis import records
from hpo.analysis.importance import Importances, importances
from hpo.analysis.studies import StudyRecord
from hpo.app import cli
from hpo.core.study import PROTOCOL, Study
from hpo.store.queries import stored_runs
from hpo.store.stored_trials import past_trials
from hpo.workflows import importing
from hpo.workflows.importing import Imported, import_csv
from tests.grids import points_of
from tests.hpo.workflows.importing.csv_files import GOOD, HEADING, write

REPOSITORY = Path(__file__).parents[4]
PUBLISHED = REPOSITORY / "benchmarks/assets/published_grid.csv"


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One store for all tests, since making its tables takes seconds; each test has an experiment of its own."""
    folder = tmp_path_factory.mktemp("external")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)  # MLflow puts artifacts into mlruns/ of the working directory
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
        yield


@pytest.fixture
def benchmark(request: pytest.FixtureRequest) -> Benchmark:
    """The synthetic benchmark, 9 units, under the name of the test."""
    return spec.load("synthetic").model_copy(update={"name": request.node.name.partition("[")[0]})


@pytest.fixture(scope="module")
def bloom() -> Benchmark:
    return spec.load("bloom_560m_squad_two_gpus").model_copy(update={"name": "published"})


@pytest.fixture(scope="module")
def published(bloom: Benchmark) -> Imported:
    """The published grid, stored."""
    return import_csv(PUBLISHED, bloom, "published-grid", 0, "Tesla V100")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def store(file: Path, benchmark: Benchmark, *lines: str, heading: str = HEADING, **options: float) -> Imported:
    write(file, *lines, heading=heading)
    return import_csv(file, benchmark, "vizier", 3, "Tesla V100", **options)  # type: ignore[arg-type]


def only_study(benchmark: Benchmark) -> StudyRecord:
    return only_study_of(benchmark.name)


def only_study_of(name: str) -> StudyRecord:
    (study,) = records.read(name).studies
    return study


def trials_of(benchmark: Benchmark) -> list[Run]:
    runs = stored_runs(benchmark.name, "tags.hpo.kind = 'trial'")
    return sorted(runs, key=lambda run: int(run.data.tags["hpo.trial"]))


def ledger_of(run_id: str) -> dict[str, float]:
    text = (Path(MlflowClient().get_run(run_id).info.artifact_uri.removeprefix("file://")) / "ledger.csv").read_text()
    return {line.split(",")[0]: float(line.split(",")[1]) for line in text.splitlines()[1:]}


@pytest.mark.slow
class TestThePublishedGrid:
    """The originals' twelve runs, with the figures that were printed about them."""

    def test_it_is_the_grid_of_the_benchmark(self, bloom: Benchmark) -> None:
        content = importing.read(PUBLISHED, bloom)
        assert [trial.rows[0].config for trial in content.trials.values()] == list(points_of(bloom))

    def test_its_device_time_is_the_published_one(self, published: Imported) -> None:
        """347 GPU-minutes was the sum over trials; the whole job held two GPUs for 2 h 57 min, 354 GPU-minutes."""
        study = only_study_of("published")
        assert published.device_hours * 60 == pytest.approx(347.2)
        assert study.metrics["gpu_hours"] == study.metrics["device_hours"] == pytest.approx(published.device_hours)
        assert study.metrics["wall_seconds"] == 5208 * 2
        assert (published.num_trials, published.units, study.budget) == (12, 108, 12)

    def test_so_is_that_of_the_whole_job(self, bloom: Benchmark) -> None:
        job = bloom.model_copy(update={"name": "published-job"})
        done = import_csv(PUBLISHED, job, "published-grid", 0, "Tesla V100", wall_seconds=177 * 60, devices=2)
        assert done.device_hours * 60 == pytest.approx(354)
        assert ledger_of(done.run_id)["idle"] / 60 == pytest.approx(354 - 347.2)

    def test_its_best_is_the_published_one(self, published: Imported) -> None:
        assert published.best is not None
        assert published.best["metrics"]["eval_loss"] == 9.3347
        assert published.best["config"]["learning_rate"] == 5e-6

    def test_a_loss_beyond_all_reason_counts_as_diverged_here_too(self, published: Imported) -> None:
        assert dict(published.outcomes) == {"completed": 10, "diverged": 2}


@pytest.mark.slow
def test_its_trials_tell_which_hyperparameters_matter(benchmark: Benchmark, file: Path) -> None:
    rates = [10 ** (-5.9 + 0.2 * number) for number in range(20)]
    store(file, benchmark, *(f"{rate},9,{rate!r},{abs(math.log10(rate) + 3)},,10,1,," for rate in rates))
    stored = records.read(benchmark.name)
    found = importances(stored.studies, stored.benchmark, resamples=2)
    assert isinstance(found, Importances)
    assert [each.name for each in found.hyperparameters] == ["learning_rate"]


class TestTheStoredStudy:
    def test_it_reads_as_a_finished_study(self, benchmark: Benchmark, file: Path) -> None:
        done = store(file, benchmark, GOOD, "b,3,2e-3,0.9,0.5,4,1,,")
        study = only_study(benchmark)
        assert (study.run_id, study.method, study.seed, study.budget) == (done.run_id, "vizier", 3, 2)
        assert dict(study.trials["outcome"]) == {0: "completed", 1: "stopped"}
        assert study.trials["reason"][1] == "vizier stopped it at unit 3"
        assert list(study.units["units"]) == [9, 3]

    def test_it_has_the_share_of_proposals_that_a_model_made(self, benchmark: Benchmark, file: Path) -> None:
        lines = ("a,3,1e-3,0.7,5,1,", "a,9,1e-3,0.5,5,1,True", "b,9,2e-3,0.6,5,1,false", "c,9,3e-3,0.8,5,1,")
        store(file, benchmark, *lines, heading="trial,unit,learning_rate,eval_loss,seconds,devices,by_model")
        study = only_study(benchmark)
        assert [by_model for by_model in study.trials["by_model"] if by_model in (True, False)] == [True, False]
        assert study.model_share == 1 / 2

    def test_its_tags_are_those_of_a_study_that_ran_here(self, benchmark: Benchmark, file: Path) -> None:
        store(file, benchmark, GOOD)
        tags = only_study(benchmark).tags
        study = Study("vizier", benchmark, 3)
        expected = {
            "hpo.kind": "study",
            "hpo.benchmark": benchmark.name,
            "hpo.seed": "3",
            "hpo.accelerator": "Tesla V100",
            "hpo.protocol": PROTOCOL,
            "hpo.benchmark_digest": identity.digest(benchmark),
            "hpo.space_digest": study.space_digest,
        }
        assert {name: tags[name] for name in expected} == expected
        assert tags["hpo.fingerprint"]

    def test_and_say_where_it_comes_from(self, benchmark: Benchmark, file: Path) -> None:
        store(file, benchmark, GOOD)
        tags = only_study(benchmark).tags
        assert (tags["hpo.source"], tags["hpo.source_file"], tags["hpo.ledger"]) == ("import", "results.csv", "total")
        assert len(tags["hpo.source_sha256"]) == 64
        assert not [name for name in tags if name.startswith("hpo.version.")]  # of packages that did not run it

    def test_a_trial_is_a_run_with_parameters_and_a_metric_a_unit(self, benchmark: Benchmark, file: Path) -> None:
        done = store(file, benchmark, "a,4,1e-3,0.7,0.6,10,2,,", "a,9,1e-3,0.5,0.8,12,2,,")
        (trial,) = trials_of(benchmark)
        assert trial.data.params == {"learning_rate": "0.001", "batch_size_per_device": "8", "weight_decay": "0.0"}
        assert (trial.data.tags["mlflow.parentRunId"], trial.data.tags["hpo.outcome"]) == (done.run_id, "completed")
        history = MlflowClient().get_metric_history(trial.info.run_id, "eval_loss")
        assert [(metric.step, metric.value) for metric in history] == [(4, 0.7), (9, 0.5)]
        assert trial.data.metrics["device_seconds"] == 44
        assert trial.data.metrics["perplexity"] == pytest.approx(math.exp(0.5))

    def test_what_is_not_known_is_not_stored(self, benchmark: Benchmark, file: Path) -> None:
        heading = "trial,unit,learning_rate,eval_loss,seconds,devices"
        done = store(file, benchmark, "a,9,1e-3,0.5,10,1", heading=heading)
        study = only_study(benchmark)
        assert {"best_exact_match", "best_f1"}.isdisjoint(study.metrics)
        assert study.metrics["best_eval_loss"] == 0.5
        assert study.trials["f1"].isna().all()
        assert done.best is not None
        assert done.best["metrics"] == {"eval_loss": 0.5, "perplexity": pytest.approx(math.exp(0.5))}
        assert study.best == done.best
        assert "f1" not in trials_of(benchmark)[0].data.metrics

    def test_the_best_is_of_those_at_the_full_resource(self, benchmark: Benchmark, file: Path) -> None:
        done = store(file, benchmark, "early,3,2e-3,0.1,0.9,4,1,,", GOOD)
        assert done.best is not None
        assert (done.best["units"], done.best["metrics"]["eval_loss"]) == (9, 0.5)

    def test_time_goes_on_evenly_with_device_time(self, benchmark: Benchmark, file: Path) -> None:
        """Two trials at once on two devices each: when a line happened is not known."""
        store(file, benchmark, "a,4,1e-3,0.7,,10,2,,", "b,4,2e-3,0.7,,10,2,,", GOOD, wall_seconds=25)
        study = only_study(benchmark)
        assert list(study.units["ended_seconds"]) == [10, 20, 25]
        assert study.metrics["device_hours"] == pytest.approx(50 / 3600)

    def test_on_a_cpu_device_hours_are_no_gpu_hours(self, benchmark: Benchmark, file: Path) -> None:
        import_csv(write(file, GOOD), benchmark, "vizier", 0, "cpu")
        assert only_study(benchmark).metrics["gpu_hours"] == 0

    def test_a_failed_trial_s_time_is_lost_and_its_reason_kept(self, benchmark: Benchmark, file: Path) -> None:
        done = store(file, benchmark, "x,3,1e-3,0.7,,5,1,failed,", "x,9,1e-3,,,2,1,failed,out of memory", GOOD)
        failed = only_study(benchmark).trials.iloc[0]
        assert (failed["outcome"], failed["reason"]) == ("failed", "out of memory")
        assert (failed["units"], failed["device_seconds"]) == (3, 7)
        assert (ledger_of(done.run_id)["failed"], ledger_of(done.run_id)["train"]) == (7, 10)
        assert done.units == 3 + 9
        assert trials_of(benchmark)[0].info.status == "FAILED"

    def test_a_trial_may_fail_before_its_first_result(self, benchmark: Benchmark, file: Path) -> None:
        done = store(file, benchmark, "x,1,1e-3,,,5,1,failed,", GOOD)
        assert only_study(benchmark).trials["units"].tolist() == [0, 9]
        assert done.units == 9

    @pytest.mark.parametrize("loss", ["nan", "inf", ""])
    def test_a_diverged_trial_has_no_loss(self, benchmark: Benchmark, file: Path, loss: str) -> None:
        benchmark = benchmark.model_copy(update={"name": f"diverged_{loss}"})
        done = store(file, benchmark, f"x,2,1e-3,{loss},,5,1,diverged,", GOOD)
        assert dict(done.outcomes) == {"completed": 1, "diverged": 1}
        assert "eval_loss" not in trials_of(benchmark)[0].data.metrics

    def test_a_study_without_a_sound_trial_has_no_best(self, benchmark: Benchmark, file: Path) -> None:
        assert store(file, benchmark, "x,2,1e-3,nan,,5,1,,").best is None
        assert only_study(benchmark).best is None

    def test_hyperparameters_that_change_within_a_trial_are_a_schedule(self, benchmark: Benchmark, file: Path) -> None:
        lines = ("m,3,1e-3,0.7,,5,1,,", "m,6,5e-4,0.6,,5,1,,", "m,9,5e-4,0.5,,5,1,,")
        done = store(file, benchmark, *lines)
        fixed = {"batch_size_per_device": 8, "weight_decay": 0.0}
        expected = [(0, {"learning_rate": 1e-3, **fixed}), (3, {"learning_rate": 5e-4, **fixed})]
        assert only_study(benchmark).schedule == expected
        assert done.best is not None
        assert done.best["config"]["learning_rate"] == 5e-4
        (trial,) = trials_of(benchmark)
        values = MlflowClient().get_metric_history(trial.info.run_id, "hp.learning_rate")
        assert [(metric.step, metric.value) for metric in values] == [(3, 1e-3), (6, 5e-4), (9, 5e-4)]

    def test_searchers_learn_from_trials_with_one_configuration(self, benchmark: Benchmark, file: Path) -> None:
        store(file, benchmark, "m,3,1e-3,0.7,,5,1,,", "m,9,5e-4,0.4,,5,1,,", GOOD)
        assert [(past.config["learning_rate"], past.objective) for past in past_trials(benchmark)] == [(1e-3, 0.5)]

    def test_the_command_is_kept(self, benchmark: Benchmark, file: Path) -> None:
        import_csv(write(file, GOOD), benchmark, "vizier", 0, "cpu", command="python -m hpo import results.csv")
        assert only_study(benchmark).tags["hpo.command"] == "python -m hpo import results.csv"

    def test_one_of_which_every_trial_failed_is_never_finished(
        self, benchmark: Benchmark, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write(file, "a,9,1e-3,,,10,1,failed,no space", "b,3,1e-3,,,10,1,failed,no memory")
        done = import_csv(file, benchmark, "vizier", 3, "Tesla V100")
        assert (done.best, done.reason) == (None, "every trial fails: no memory")
        assert MlflowClient().get_run(done.run_id).info.status == "FAILED"
        assert records.finished(benchmark.name) == []
        words = ["import", str(file), "--benchmark", "synthetic", "--method", "vizier", "--seed", "3"]
        assert cli.main([*words, "--accelerator", "cpu"]) == 1
        printed = capsys.readouterr()
        assert "compare" not in printed.out
        assert printed.err == "error: the study found nothing (every trial fails: no memory)\n"


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("method", "options", "message"),
        [
            ("asha", {}, "method is 'asha', which is a method of the suite"),
            ("my method", {}, "method is 'my method', but must be a label"),
            ("vizier", {"wall_seconds": 9}, "wall_seconds is 9, but must be >= 10"),
            ("vizier", {"wall_seconds": math.nan}, "wall_seconds is nan"),
            ("vizier", {"devices": 2}, "devices is 2, but must be >= 1, and needs wall_seconds"),
            ("vizier", {"devices": 1, "wall_seconds": 12}, "devices is 1 for 12 seconds, but results.csv has 30"),
        ],
    )
    def test_an_argument(
        self, benchmark: Benchmark, file: Path, method: str, options: dict[str, float], message: str
    ) -> None:
        write(file, GOOD, "b,9,1e-3,0.5,,10,2,,")
        with pytest.raises(BenchmarkError) as raised:
            import_csv(file, benchmark, method, 0, "cpu", **options)  # type: ignore[arg-type]
        assert str(raised.value).startswith(message)
        assert stored_runs(benchmark.name) == []  # nothing was begun

    def test_a_faulty_line_after_good_ones_leaves_nothing_behind(self, benchmark: Benchmark, file: Path) -> None:
        with pytest.raises(BenchmarkError, match="line 3"):
            store(file, benchmark, GOOD, "b,9,1e-3,0.5,,10,none,,")
        assert MlflowClient().get_experiment_by_name(benchmark.name) is None


class TestTwice:
    def test_the_same_file_is_refused(self, benchmark: Benchmark, file: Path) -> None:
        done = store(file, benchmark, GOOD)
        with pytest.raises(BenchmarkError, match=f"is there already as vizier seed 3 .run {done.run_id}.; use force"):
            store(file, benchmark, GOOD)
        assert only_study(benchmark).run_id == done.run_id

    def test_unless_it_is_forced(self, benchmark: Benchmark, file: Path) -> None:
        store(file, benchmark, GOOD)
        store(file, benchmark, GOOD, force=True)
        assert len(records.read(benchmark.name).studies) == 2

    def test_another_seed_is_another_study(self, benchmark: Benchmark, file: Path) -> None:
        store(file, benchmark, GOOD)
        import_csv(file, benchmark, "vizier", 4, "Tesla V100")
        assert [study.seed for study in records.read(benchmark.name).studies] == [3, 4]

    def test_so_is_another_file(self, benchmark: Benchmark, file: Path) -> None:
        store(file, benchmark, GOOD)
        store(file, benchmark, GOOD.replace("0.5", "0.4"))
        assert len({study.fingerprint for study in records.read(benchmark.name).studies}) == 2


def test_a_store_that_cannot_be_used_is_an_error(
    benchmark: Benchmark, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, whatever its name says")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(BenchmarkError, match="cannot be used"):
        store(file, benchmark, GOOD)
