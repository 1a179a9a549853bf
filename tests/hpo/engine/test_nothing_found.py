"""Studies in which no trial gets anywhere: they end early, with the reason, and never count as finished."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from benchmarks import spec
from benchmarks.clock import VirtualClock
from benchmarks.spec import BenchmarkError
from hpo.app import cli
from hpo.core.books import Books
from hpo.core.results import why_nothing_found
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.actors import Call, Death
from hpo.search import registry
from hpo.store.tracker import Tracker
from hpo.workflows import suite
from tests.hpo.engine.in_process import run, synthetic, units_of
from tests.hpo.told import Told
from tests.stores import fresh_store


def raises_in_training(call: Call) -> bool:
    return call.method == "train"


def raises_in_its_second_unit(call: Call) -> bool:
    return units_of(call) == 1


def study(method: str = "random", **given: object) -> Study:
    return registry.get(method).study(synthetic(), 0, 12, None, given)


class Ticking(VirtualClock):
    """The clock of a slow driver."""

    def now(self) -> float:
        self.sleep(0.001)
        return super().now()


class TestHowManyAreTried:
    @pytest.mark.parametrize(("devices", "trials"), [(1, 3), (2, 3), (8, 8)])
    @pytest.mark.parametrize(
        ("method", "dies"),
        [
            ("random", raises_in_training),
            ("random", raises_in_its_second_unit),
            ("asha", raises_in_training),
            ("hyperband", raises_in_training),
            ("pbt", raises_in_training),
        ],
    )
    def test_three_or_the_first_round_of_devices(self, devices: int, trials: int, method: str, dies: Death) -> None:
        finished = run(study(method), InProcess(devices, dies=dies))
        failed = [row for row in finished.books.rows if row.outcome == "failed"]
        assert trials <= len(failed) <= trials + devices
        assert (finished.reached_end, finished.best, finished.is_kept) == (False, None, False)
        assert finished.reason.startswith("every trial fails: RayActorError")

    def test_all_of_a_budget_of_one(self) -> None:
        one = registry.get("random").study(synthetic(), 0, 1, None, {})
        finished = run(one, InProcess(1, dies=raises_in_training))
        assert [row.outcome for row in finished.books.rows] == ["failed"] * len(finished.books.rows)
        assert finished.reason.startswith("every trial fails: ")

    @pytest.mark.slow
    def test_a_study_with_one_sound_trial_goes_on(self) -> None:
        finished = run(study(), InProcess(2, dies=lambda call: units_of(call) == 1 and call.trial > 0))
        assert finished.reached_end
        assert finished.best is not None


class TestReasons:
    def results(self, *reasons: str, units: int = 0, running: int | None = None) -> Books:
        told = Told(study())
        for number, reason in enumerate(reasons):
            told.begin(f"failed {number}", {})
            if units:
                told.report(f"failed {number}", {"units": units})
            told.fail(f"failed {number}", reason)
        if running is not None:
            told.begin("running", {})
            if running:
                told.report("running", {"units": running})
        return told.books

    def test_numbers_do_not_make_reasons_differ(self) -> None:
        reasons = [f"OutOfMemoryError: tried to allocate {n}.50 GiB at 0x{n}f" for n in range(3)]
        assert self.results(*reasons).common_failure(3) == reasons[0]

    def test_other_reasons_do(self) -> None:
        assert self.results("ValueError: a", "ValueError: b", "ValueError: a").common_failure(3) == ""

    def test_fewer_say_nothing(self) -> None:
        assert self.results("a", "a").common_failure(3) == ""

    @pytest.mark.parametrize(("running", "says"), [(0, True), (2, True), (3, False)])
    def test_a_trial_that_got_further_is_a_sign_of_life(self, running: int, says: bool) -> None:
        assert bool(self.results("a", "a", "a", units=2, running=running).common_failure(3)) == says

    def test_a_study_of_which_every_trial_failed_has_the_last_reason(self) -> None:
        assert why_nothing_found(self.results("a", "b").rows) == "every trial fails: b"
        assert why_nothing_found(self.results("a", running=1).rows) == ""
        assert why_nothing_found([]) == ""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Make a store, for studies of which every trial fails, or none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    return MlflowClient()


def statuses(client: MlflowClient, experiment: str = "synthetic") -> list[str]:
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id], "tags.hpo.kind = 'study'")
    return sorted(run.info.status for run in runs)


WORDS = ["run", "random", "--benchmark", "synthetic", "--budget", "12"]


@pytest.mark.slow
def test_the_command_ends_with_status_1_and_the_reason(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hpo.engine.runner.OnRay", lambda: InProcess(1, dies=raises_in_training))
    assert cli.main(WORDS) == 1
    out, err = capsys.readouterr()
    assert "confirm" not in out
    assert err.strip().splitlines()[-1].startswith("error: the study found nothing (every trial fails: RayActorError")
    assert statuses(store) == ["FAILED"]


@pytest.mark.slow
def test_a_suite_runs_it_again_once_the_cause_is_mended(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["suite", "--benchmark", "synthetic", "--methods", "random,asha", "--seeds", "0", "--budget", "3"]
    monkeypatch.setattr(suite, "OnRay", lambda: InProcess(1, dies=raises_in_training))
    assert cli.main(words) == 1
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert err.count("every trial fails: RayActorError") == 2
    monkeypatch.setattr(suite, "OnRay", lambda: InProcess(1))
    assert cli.main(words) == 0
    assert "finished already" not in capsys.readouterr().out
    assert statuses(store) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]


def test_a_cap_that_is_too_small_for_a_unit_is_named(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    executor = InProcess(1)
    executor.clock = Ticking()
    monkeypatch.setattr("hpo.engine.runner.OnRay", lambda: executor)
    assert cli.main([*WORDS, "--gpu-hours", "1e-9"]) == 1
    assert "gpu_hours is 1e-09, but no trial finished a unit" in capsys.readouterr().err
    assert statuses(store) == ["FAILED"]


@pytest.mark.slow
def test_one_whose_store_was_away_at_its_end_is_delivered_as_failed(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wait_in_vain(self: Tracker, *_: object) -> None:
        raise BenchmarkError("tracking store: away")

    content = spec.load("synthetic").model_dump(mode="json", exclude_none=True)
    content |= {"name": "full", "rescue": False, "synthetic": {"seconds_per_unit": 0.0, "memory_limit": 1}}
    Path("full.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr("hpo.engine.runner.OnRay", lambda: InProcess(1))
    with monkeypatch.context() as away:
        away.setattr(Tracker, "finish", wait_in_vain)
        assert cli.main(["run", "random", "--benchmark", "full.yaml", "--budget", "2"]) == 1
    assert "tracking store: away" in capsys.readouterr().err
    assert statuses(store, "full") == ["RUNNING"]
    assert cli.main(["sync"]) == 0
    assert "delivered" in capsys.readouterr().out
    assert statuses(store, "full") == ["FAILED"]
